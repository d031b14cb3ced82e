//! Redis.
//!
//! Owns: its command line, and when it is ready. Refuses to know: what is said over it.

use super::part::{PartError, free_port, run, until, with_us};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// A Redis without files.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Redis {
    /// Starts one in a folder of this name.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(folder: &Path, name: &str) -> Result<Self, PartError> {
        let port = free_port().map_err(run("Redis"))?;
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).map_err(run("Redis"))?;
        let mut redis = Self { folder, port, server: None };
        redis.run().await?;
        Ok(redis)
    }

    /// Starts it again on its port, knowing nothing.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn run(&mut self) -> Result<(), PartError> {
        let mut command = with_us("redis-server", "KILL", false);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &self.port.to_string()]);
        // A replica follows at once, and keeps nothing.
        command.args(["--repl-diskless-sync-delay", "0", "--repl-diskless-load", "swapdb", "--dir"]);
        let log = self.folder.join("log");
        let to = std::fs::File::options().create(true).append(true).open(&log).map_err(run("Redis"))?;
        self.server = Some(command.arg(&self.folder).stdout(to).stderr(Stdio::null()).spawn().map_err(run("Redis"))?);
        until("Redis", &log, || async { self.tell(&["PING"]).await }).await
    }

    /// Says something to it; whether it answered.
    pub async fn tell(&self, words: &[&str]) -> bool {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(words).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        tokio::time::timeout(Duration::from_secs(2), command.status())
            .await
            .is_ok_and(|done| done.is_ok_and(|status| status.success()))
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may have ended by itself.
            let _gone = server.kill().await;
        }
    }

    /// The process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.server.as_ref().and_then(Child::id)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        Self::url_by(self.port)
    }

    /// Its URL, by a port that leads to it.
    #[must_use]
    pub fn url_by(port: u16) -> String {
        format!("redis://127.0.0.1:{port}")
    }
}
