//! A server of the test's own.
//!
//! Owns: a `homeroom serve` on a data folder that goes with it: starting, killing, starting again on the same port, and
//! the other commands of the same binary. Refuses to know: what is done to it meanwhile.

mod bare;
mod program;

pub use bare::{Bare, Ear};

use crate::certificate::{self, CertificateError};
use crate::wire::Door;
use homeroom_client::ServerAddress;
use program::{Ports, bound, get, until_ready};
use serde::Deserialize;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long it may take to leave when asked.
const LEAVE_WITHIN: Duration = Duration::from_secs(40);

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no binary.
    #[error("there is no server at {}; build it first: cargo build --release -p homeroom", .0.display())]
    NoBinary(PathBuf),
    /// It could not be run.
    #[error("{what} could not be run")]
    Run {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended, or was silent, before it listened.
    #[error("the server did not come up; its log ends with:\n{log}")]
    NotReady {
        /// The end of its log.
        log: String,
    },
    /// It has no certificate.
    #[error("a certificate for it")]
    Certificate(#[from] CertificateError),
    /// A command of the binary failed.
    #[error("homeroom {command} failed ({status}):\n{output}")]
    Failed {
        /// Which.
        command: String,
        /// How.
        status: ExitStatus,
        /// What it said.
        output: String,
    },
    /// Its answer is not what was expected.
    #[error("homeroom {command} answered something else than expected")]
    Answer {
        /// Which.
        command: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// One line of `homeroom invite --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Invitation {
    /// The sign-in name.
    pub username: String,
    /// The one-time link.
    pub link: String,
}

/// A binary with a data folder, running or not.
#[derive(Debug)]
pub struct Node {
    binary: PathBuf,
    folder: PathBuf,
    core: Option<usize>,
    port: u16,
    metrics_port: u16,
    settings: Vec<(String, String)>,
    /// How clients speak to it where it speaks TLS.
    tls: Option<Arc<rustls::ClientConfig>>,
    child: Option<Child>,
    /// Without a server a command holds the folder's lock for a moment: then no server starts.
    turn: Arc<Mutex<()>>,
}

impl Node {
    /// Nothing runs yet. `folder` outlives the node.
    ///
    /// # Errors
    /// When there is no binary.
    pub fn new(binary: PathBuf, folder: PathBuf, core: Option<usize>) -> Result<Self, NodeError> {
        if !binary.is_file() {
            return Err(NodeError::NoBinary(binary));
        }
        let (settings, turn) = (Vec::new(), Arc::default());
        Ok(Self { binary, folder, core, port: 0, metrics_port: 0, settings, tls: None, child: None, turn })
    }

    /// With a setting, by its environment variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a certificate of its own: it speaks TLS from its next start on.
    ///
    /// # Errors
    /// When the certificate can't be made.
    pub fn in_tls(self) -> Result<Self, NodeError> {
        let made = certificate::make(&self.folder)?;
        let tls = Some(made.trusting);
        let node = self
            .with("HOMEROOM_TLS_CERTIFICATE", &made.certificate.to_string_lossy())
            .with("HOMEROOM_TLS_KEY", &made.key.to_string_lossy());
        Ok(Self { tls, ..node })
    }

    /// Runs another binary from its next start on.
    ///
    /// # Errors
    /// When there is none.
    pub fn becomes(&mut self, binary: &Path) -> Result<(), NodeError> {
        if !binary.is_file() {
            return Err(NodeError::NoBinary(binary.to_owned()));
        }
        self.binary = binary.to_owned();
        Ok(())
    }

    /// For running commands beside it, whatever it does meanwhile.
    #[must_use]
    pub fn office(&self) -> Self {
        Self {
            binary: self.binary.clone(),
            folder: self.folder.clone(),
            core: self.core,
            port: self.port,
            metrics_port: self.metrics_port,
            settings: self.settings.clone(),
            tls: self.tls.clone(),
            child: None,
            turn: self.turn.clone(),
        }
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.data().join("homeroom.db")
    }

    /// Where it listens, once it has been started.
    ///
    /// # Errors
    /// Never: the address is made of a port.
    pub fn address(&self) -> Result<ServerAddress, homeroom_client::NotAnAddress> {
        ServerAddress::parse(&format!("http://127.0.0.1:{}", self.port))
    }

    /// The same as a socket's address.
    #[must_use]
    pub fn listens_on(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The same for a client, which has to know whether it speaks TLS.
    #[must_use]
    pub fn door(&self) -> Door {
        Door { address: self.listens_on(), tls: self.tls.clone() }
    }

    /// The process, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Imports a school.
    ///
    /// # Errors
    /// When the import fails.
    pub async fn import(&self, school: &Path) -> Result<(), NodeError> {
        self.run("import", [OsStr::new("import"), school.as_os_str()]).await.map(drop)
    }

    /// Invites people by their source ids.
    ///
    /// # Errors
    /// When it fails.
    pub async fn invite(&self, people: &[String]) -> Result<Vec<Invitation>, NodeError> {
        let mut invitations = Vec::with_capacity(people.len());
        // An argument list has an end.
        for some in people.chunks(500) {
            let arguments = ["invite", "--json"].into_iter().chain(some.iter().map(String::as_str)).map(OsStr::new);
            let output = self.run("invite", arguments).await?;
            let answer: Vec<Invitation> = serde_json::from_slice(&output)
                .map_err(|source| NodeError::Answer { command: "invite".to_owned(), source })?;
            invitations.extend(answer);
        }
        Ok(invitations)
    }

    /// Starts it, the first time on a free port, then on the same one again; returns when it listens.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(&mut self) -> Result<(), NodeError> {
        let run = |source| NodeError::Run { what: "homeroom serve", source };
        let _turn = self.turn.clone().lock_owned().await;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).map_err(run)?;
        let mut command = self.command();
        command.arg("serve").arg("--listen").arg(format!("127.0.0.1:{}", self.port)).stderr(log);
        let (child, Ports { service, metrics }) =
            until_ready(command).await.map_err(run)?.ok_or_else(|| self.not_ready())?;
        self.port = service;
        self.metrics_port = metrics.unwrap_or(0);
        self.child = Some(child);
        Ok(())
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Errors
    /// When the operating system does not let it be killed.
    pub async fn kill(&mut self) -> Result<(), NodeError> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.map_err(|source| NodeError::Run { what: "kill -9", source })?;
        }
        Ok(())
    }

    /// Asks it to leave (SIGTERM), waits, and says how it went; a server that stays is killed.
    ///
    /// # Errors
    /// When it can't be asked, or had to be killed.
    pub async fn stop(&mut self) -> Result<(), NodeError> {
        let (Some(process), Some(mut child)) = (self.process(), self.child.take()) else { return Ok(()) };
        let failed = |source| NodeError::Run { what: "kill -TERM", source };
        Command::new("kill").arg("-TERM").arg(process.to_string()).status().await.map_err(failed)?;
        if timeout(LEAVE_WITHIN, child.wait()).await.is_err() {
            child.kill().await.map_err(|source| NodeError::Run { what: "kill -9", source })?;
            return Err(failed(std::io::Error::other("the server did not leave in time")));
        }
        Ok(())
    }

    /// One of its counters or gauges, by its name in `/metrics`; nothing while it does not answer.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let page = timeout(Duration::from_secs(5), get(self.metrics_port, "/metrics")).await.ok()?.ok()?;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// The end of its log, for a person.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn not_ready(&self) -> NodeError {
        NodeError::NotReady { log: self.log_end() }
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A command of the binary, with nothing of the surroundings' settings.
    fn command(&self) -> Command {
        let mut command = bound(&self.binary, self.core);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOMEROOM_") {
                command.env_remove(name);
            }
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env("HOMEROOM_DATA_DIR", self.data()).env("HOMEROOM_METRICS_LISTEN", "127.0.0.1:0");
        command
    }

    async fn run<'a>(
        &self,
        name: &'static str,
        arguments: impl IntoIterator<Item = &'a OsStr>,
    ) -> Result<Vec<u8>, NodeError> {
        let _turn = self.turn.lock().await;
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|source| NodeError::Run { what: name, source })?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Err(NodeError::Failed {
                command: name.to_owned(),
                status: output.status,
                output: String::from_utf8_lossy(&said).into_owned(),
            });
        }
        Ok(output.stdout)
    }
}

/// The server binary beside this one: both are built into the same folder.
#[must_use]
pub fn beside_this_one() -> PathBuf {
    let folder = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)).unwrap_or_default();
    // A test's binary lies one folder deeper.
    let folder =
        if folder.ends_with("deps") { folder.parent().map(Path::to_owned).unwrap_or_default() } else { folder };
    folder.join("homeroom")
}
