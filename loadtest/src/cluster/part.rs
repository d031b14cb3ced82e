//! What the parts that are not Homeroom have in common.
//!
//! Owns: running a program that ends with this process, signals, free ports, and waiting until something is ready. Refuses to know:
//! which parts there are.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// How long a part may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Why a part did not come up.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// It could not be run.
    #[error("{what} could not be run; scripts/setup.sh test installs it")]
    Run {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not answer.
    #[error("{what} did not come up; it says:\n{log}")]
    NotReady {
        /// Which.
        what: &'static str,
        /// The end of what it said.
        log: String,
    },
}

pub(super) fn run(what: &'static str) -> impl Fn(io::Error) -> PartError {
    move |source| PartError::Run { what, source }
}

/// A port that nobody listens on.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether this process is root, whom PostgreSQL refuses.
pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A program that ends with this process: a signal of the terminal reaches this one only.
pub(super) fn with_us(program: &str, signal: &str, unprivileged: bool) -> Command {
    let mut command = Command::new("setpriv");
    if unprivileged {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    }
    command.args(["--pdeathsig", signal, program]).process_group(0).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Sends a signal to a process; whether it was there.
pub async fn signal(process: u32, name: &str) -> bool {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().await;
    sent.is_ok_and(|status| status.success())
}

pub(super) fn not_ready(what: &'static str, log: &Path) -> PartError {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    PartError::NotReady { what, log: lines[lines.len().saturating_sub(12)..].join("\n") }
}

pub(super) async fn until<F: Future<Output = bool>>(
    what: &'static str,
    log: &Path,
    mut is_ready: impl FnMut() -> F,
) -> Result<(), PartError> {
    let deadline = Instant::now() + READY_WITHIN;
    while !is_ready().await {
        if Instant::now() > deadline {
            return Err(not_ready(what, log));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
