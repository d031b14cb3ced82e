//! What figures are compared with, as processes of their own: this very program, under other commands.
//!
//! Owns: starting and ending them. Refuses to know: what they do (`crate::bare`).

use super::NodeError;
use super::program::{bound, until_ready};
use crate::bare;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::process::{Child, Command};

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
        let mut command = this_program(core).map_err(run)?;
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

/// Somebody who hears all channels of a Redis; killed when dropped.
#[derive(Debug)]
pub struct Ear(Child);

impl Ear {
    /// Starts one, on whichever cores this process may use. It has not subscribed yet.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn start(redis: u16) -> Result<Self, NodeError> {
        let run = |source| NodeError::Run { what: "the bare ear", source };
        let mut command = this_program(None).map_err(run)?;
        command.args(["bare-ear", &redis.to_string()]).stdin(Stdio::null()).kill_on_drop(true);
        Ok(Self(command.spawn().map_err(run)?))
    }

    /// The process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.0.id()
    }
}

fn this_program(core: Option<usize>) -> std::io::Result<Command> {
    Ok(bound(&std::env::current_exe()?, core))
}
