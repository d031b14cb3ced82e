//! HAProxy.
//!
//! Owns: its configuration, made of the one that is deployed. Refuses to know: whether it leads to nodes or to ways to them.

use super::part::{PartError, run, until, with_us};
use std::path::Path;
use tokio::process::Child;

/// HAProxy before the nodes.
#[derive(Debug)]
pub struct Haproxy {
    port: u16,
    server: Option<Child>,
}

impl Haproxy {
    /// Starts one that asks each node four times a second whether it is ready.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(folder: &Path, port: u16, nodes: &[u16]) -> Result<Self, PartError> {
        let failed = run("HAProxy");
        let mut config = include_str!("../../../deploy/haproxy.cfg")
            .replace("bind :80", &format!("bind 127.0.0.1:{port}"))
            .lines()
            .filter(|line| !line.trim_start().starts_with("server "))
            .collect::<Vec<_>>()
            .join("\n");
        for (number, node) in nodes.iter().enumerate() {
            config += &format!("\n    server node{} 127.0.0.1:{node}", number + 1);
        }
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config + "\n").map_err(&failed)?;
        let log = folder.join("haproxy.log");
        let to = || std::fs::File::options().create(true).append(true).open(&log).map_err(run("HAProxy"));
        let mut command = with_us("/usr/sbin/haproxy", "TERM", false);
        let server = command.arg("-db").arg("-f").arg(&file).stdout(to()?).stderr(to()?).spawn().map_err(&failed)?;
        let haproxy = Self { port, server: Some(server) };
        until("HAProxy", &log, || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await?;
        Ok(haproxy)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it.
    pub async fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may have ended by itself.
            let _gone = server.kill().await;
        }
    }
}
