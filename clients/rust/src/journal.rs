//! The outbox on disk.
//!
//! Owns: a file of JSON lines, one for what was said and one for what was answered, that survives a crash at any byte.
//! Refuses to know: order and retries (see `outbox`).

use crate::outbox::{Command, Unsent};
use homeroom_protocol::ClientId;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::{Path, PathBuf};

/// Why an outbox file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another client holds it: two would send everything twice.
    #[error("the outbox {} is in use by another program", .0.display())]
    InUse(PathBuf),
    /// It can't be read or written.
    #[error("the outbox {} can't be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line in its middle is not what an outbox holds.
    #[error("line {line} of the outbox {} can't be read; move the file away to start with an empty one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Said {
        client_id: ClientId,
        #[serde(flatten)]
        command: Command,
    },
    Answered(ClientId),
}

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// What stands in the file without an answer.
    open: usize,
}

impl Journal {
    /// Opens or makes the file, and gives what was said and not answered, in order.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Unsent>), JournalError> {
        let fail = |source| JournalError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(fail)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::InUse(path.to_owned()),
            TryLockError::Error(source) => fail(source),
        })?;
        let (unsent, good) = read(&file, path)?;
        let mut journal = Self { path: path.to_owned(), file, open: unsent.len() };
        if unsent.is_empty() {
            journal.file.set_len(0).map_err(fail)?;
        } else {
            // A line that was cut off by a crash was never confirmed to anybody.
            journal.file.set_len(good).map_err(fail)?;
        }
        journal.file.seek(io::SeekFrom::End(0)).map_err(fail)?;
        Ok((journal, unsent))
    }

    /// Writes down what is to be sent. When this returns, a crash does not lose it.
    pub(crate) fn said(&mut self, client_id: ClientId, command: &Command) -> Result<(), JournalError> {
        let line = Line::Said { client_id, command: command.clone() };
        self.write(&line).and_then(|()| self.file.sync_data()).map_err(|source| self.io(source))?;
        self.open += 1;
        Ok(())
    }

    /// Writes down that it was answered. Not synced: forgetting it costs one resend, which gets the same answer.
    pub(crate) fn answered(&mut self, client_id: ClientId) -> Result<(), JournalError> {
        self.open = self.open.saturating_sub(1);
        let written = if self.open == 0 {
            self.file.set_len(0).and_then(|()| self.file.seek(io::SeekFrom::Start(0)).map(|_| ()))
        } else {
            self.write(&Line::Answered(client_id))
        };
        written.map_err(|source| self.io(source))
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }

    fn io(&self, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), source }
    }
}

/// Reads all whole lines: what is still without an answer, and where the last whole line ends.
fn read(file: &File, path: &Path) -> Result<(Vec<Unsent>, u64), JournalError> {
    let mut reader = BufReader::new(file);
    let mut unsent: Vec<Unsent> = Vec::new();
    let mut good = 0_u64;
    let mut number = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        let length =
            reader.read_until(b'\n', &mut text).map_err(|source| JournalError::Io { path: path.to_owned(), source })?;
        if text.last() != Some(&b'\n') {
            return Ok((unsent, good));
        }
        number += 1;
        let line = serde_json::from_slice(&text).map_err(|source| JournalError::Damaged {
            path: path.to_owned(),
            line: number,
            source,
        })?;
        match line {
            Line::Said { client_id, command } => unsent.push(Unsent { client_id, command }),
            Line::Answered(client_id) => unsent.retain(|unsent| unsent.client_id != client_id),
        }
        good += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use homeroom_protocol::{EventId, RoomId};

    fn command() -> Command {
        let room = RoomId::new();
        Command::Retract {
            room,
            conversation: homeroom_protocol::Address::Announcements.conversation(room),
            message: EventId::new(),
        }
    }

    #[test]
    fn what_was_said_and_not_answered_comes_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        let ids: Vec<ClientId> = (0..4).map(|_| ClientId::new()).collect();
        let (mut journal, unsent) = Journal::open(&path).unwrap();
        assert!(unsent.is_empty());
        assert!(matches!(Journal::open(&path), Err(JournalError::InUse(_))));
        for id in &ids {
            journal.said(*id, &command()).unwrap();
        }
        journal.answered(ids[1]).unwrap();
        drop(journal);
        // A crash in the middle of a line.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"answered\":\"");
        std::fs::write(&path, bytes).unwrap();

        let (mut journal, unsent) = Journal::open(&path).unwrap();
        let left: Vec<ClientId> = unsent.iter().map(|unsent| unsent.client_id).collect();
        assert_eq!(left, [ids[0], ids[2], ids[3]]);
        for id in left {
            journal.answered(id).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "an empty outbox is an empty file");
    }

    #[test]
    fn a_damaged_file_is_refused_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox");
        std::fs::write(&path, "hello\n").unwrap();
        assert!(matches!(Journal::open(&path), Err(JournalError::Damaged { line: 1, .. })));
    }
}
