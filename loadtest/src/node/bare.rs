//! What figures are compared with, as a process of its own: this very program, under another command.
//!
//! Owns: starting and ending it. Refuses to know: what it does (`crate::bare`).

use super::NodeError;
use super::program::{bound, until_ready};
use crate::bare;
use std::net::SocketAddr;
use tokio::process::Child;

/// A bare server; killed when dropped.
#[derive(Debug)]
pub struct Bare {
    child: Child,
    port: u16,
}

impl Bare {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(options: bare::Options, core: Option<usize>) -> Result<Self, NodeError> {
        let run = |source| NodeError::Run { what: "the bare server", source };
        let mut command = bound(&std::env::current_exe().map_err(run)?, core);
        command.arg("bare-server");
        if options.gather {
            command.arg("--gather");
        }
        let not_ready = || NodeError::NotReady { log: String::new() };
        let (child, ports) = until_ready(command).await.map_err(run)?.ok_or_else(not_ready)?;
        Ok(Self { child, port: ports.service })
    }

    /// Where it listens.
    #[must_use]
    pub fn listens_on(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }
}
