//! The data folder, the server that holds it, and what this machine allows a process.
//!
//! Owns: reading these without disturbing who uses them: the lock is looked up, never taken. Refuses to know: the database.

use super::{Finding, PATIENCE};
use crate::control::{self, Answer, Request};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tokio::net::UnixStream;

/// Less room than this, and a database soon can't write.
const NO_ROOM: u64 = 256 << 20;
/// Less than this, and somebody should know.
const LITTLE_ROOM: u64 = 2 << 30;
/// Open files that are no pages: databases, the bus, listeners, the log.
const OTHER_FILES: u64 = 200;
/// Sessions that a worker takes at once; actix's own number.
const PAGES_OF_WORKER: u64 = 25_600;

/// The folder itself: there, writable, its own, with room.
pub(super) fn examine(folder: &Path) -> Vec<Finding> {
    let check = "data.folder";
    let shown = folder.display();
    let made = match std::fs::metadata(folder) {
        Ok(about) if about.is_dir() => about,
        Ok(_) => {
            let advice = "name a folder with --data-dir, or move the file away";
            return vec![Finding::broken(check, format!("{shown} is no folder"), advice)];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && could_be_made(folder) => {
            let advice = "nothing, if this is new: `homeroom serve` makes it; otherwise look at --data-dir";
            return vec![Finding::attention(check, format!("{shown} is not there"), advice)];
        }
        Err(error) => {
            let advice = "make it, and give it to the user that runs homeroom";
            return vec![Finding::broken(check, format!("{shown}: {error}"), advice)];
        }
    };
    let mut findings = Vec::new();
    findings.push(match tempfile::tempfile_in(folder).and_then(|file| file.sync_all()) {
        Ok(()) => Finding::ok(check, format!("{shown} is there and can be written")),
        Err(error) => Finding::broken(
            check,
            format!("{shown} can't be written: {error}"),
            "give it to the user that runs homeroom, and look whether its disk is mounted for reading only",
        ),
    });
    let mode = made.mode() & 0o777;
    let open = format!("{shown} has the mode {mode:03o}");
    let close = format!("`chmod 700 {shown}`: what families say lies in it, and the control socket");
    findings.push(match mode & 0o077 {
        0 => Finding::ok("data.permissions", open),
        others if others & 0o022 == 0 => Finding::attention("data.permissions", open + ": others may read it", close),
        _ => Finding::broken("data.permissions", open + ": others may write it", close),
    });
    if let Ok(room) = rustix::fs::statvfs(folder) {
        findings.push(judge_room(room.f_bavail.saturating_mul(room.f_frsize)));
    }
    findings
}

/// Whether the nearest folder above takes a new one.
fn could_be_made(folder: &Path) -> bool {
    let folder = std::path::absolute(folder).unwrap_or_default();
    let above = folder.ancestors().find(|above| above.is_dir());
    above.is_some_and(|above| tempfile::tempfile_in(above).is_ok())
}

fn judge_room(free: u64) -> Finding {
    let found = format!("{} MiB are free", free >> 20);
    let advice = "make room; on a full disk nothing can be sent";
    match free {
        0..NO_ROOM => Finding::broken("data.room", found, advice),
        NO_ROOM..LITTLE_ROOM => Finding::attention("data.room", found, advice),
        _ => Finding::ok("data.room", found),
    }
}

/// The server that holds the folder, by its process, and how it and its control socket are.
pub(super) async fn server(folder: &Path) -> (Option<u32>, Vec<Finding>) {
    let check = "server";
    let Some(process) = holder(&folder.join("homeroom.lock")) else {
        return (None, vec![Finding::ok(check, "none runs on this folder")]);
    };
    let mut findings = Vec::new();
    let socket = control::path(folder);
    if let Ok(about) = std::fs::metadata(&socket) {
        let mode = about.permissions().mode() & 0o777;
        let found = format!("the control socket has the mode {mode:03o}");
        findings.push(match mode & 0o077 {
            0 => Finding::ok("server.control", found),
            _ => Finding::broken(
                "server.control",
                found + ": others may invite and import",
                format!("`chmod 600 {}`, and find out who opened it", socket.display()),
            ),
        });
    }
    let refused = UnixStream::connect(&socket).await.err().map(|error| error.kind());
    if refused == Some(io::ErrorKind::PermissionDenied) {
        let found = format!("process {process} is not ours to ask");
        findings.push(Finding::attention(check, found, "run this as the user that runs the server"));
        return (Some(process), findings);
    }
    let asked = tokio::time::timeout(PATIENCE, control::ask(folder, &Request::Status, |_| {})).await;
    findings.push(match asked {
        Ok(Ok(Some(Answer::Status { people }))) => {
            Finding::ok(check, format!("process {process} runs and answers; its roster has {people} people"))
        }
        Ok(Ok(Some(Answer::Failed { message }))) => {
            let found = format!("process {process} can't count its people: {message}");
            Finding::broken(check, found, "mend its database; it needs no restart")
        }
        _ => {
            let found = format!("process {process} holds the folder and does not answer its control socket");
            Finding::broken(check, found, "read its log: it waits for its database, is about to leave, or hangs")
        }
    });
    (Some(process), findings)
}

/// Who holds a lock, as the kernel tells it. Asking for the lock would refuse a server that starts in that moment.
fn holder(lock: &Path) -> Option<u32> {
    let file = std::fs::metadata(lock).ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let [kind, _, _, process, of] = std::array::from_fn(|_| words.next().unwrap_or_default());
        let is_it = kind == "FLOCK" && of.rsplit(':').next() == Some(&file);
        is_it.then(|| process.parse().ok()).flatten()
    })
}

/// How many files the server may open; where none runs, this process: it was most likely started alike.
pub(super) fn open_files(server: Option<u32>, workers: usize) -> Finding {
    let (whose, of) = match server {
        Some(process) => (format!("the server (process {process})"), process.to_string()),
        None => ("a process started here".to_owned(), "self".to_owned()),
    };
    let limits = std::fs::read_to_string(format!("/proc/{of}/limits")).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => judge_files(&whose, u64::MAX, workers),
        Some(number) => judge_files(&whose, number.parse().unwrap_or(0), workers),
        None => Finding::attention(
            "limits.files",
            format!("how many files {whose} may open can't be read"),
            "run this as the user that runs the server",
        ),
    }
}

fn judge_files(whose: &str, files: u64, workers: usize) -> Finding {
    let pages = files.saturating_sub(OTHER_FILES).min(PAGES_OF_WORKER.saturating_mul(workers as u64));
    let found = format!("{whose} may open {files} files: {pages} pages at once");
    let advice = "raise it: LimitNOFILE=262144 in the systemd unit, or `ulimit -n` before the start";
    match pages {
        0..500 => Finding::broken("limits.files", found, advice),
        500..5_000 => Finding::attention("limits.files", found, advice),
        _ => Finding::ok("limits.files", found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_full_disk_is_broken() {
        let states = [10 << 30, 1 << 30, 1 << 20].map(|free| judge_room(free).state);
        assert_eq!(states, [State::Ok, State::Attention, State::Broken]);
    }

    #[test]
    fn the_holder_of_a_lock_is_found_without_touching_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("homeroom.lock");
        assert_eq!(holder(&path), None);
        let file = std::fs::File::create(&path).unwrap();
        assert_eq!(holder(&path), None);
        file.try_lock().unwrap();
        assert_eq!(holder(&path), Some(std::process::id()));
        drop(file);
        assert_eq!(holder(&path), None);
    }
}
