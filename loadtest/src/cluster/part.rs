//! The parts that are not Homeroom: PostgreSQL, Redis, HAProxy.
//!
//! Owns: their command lines, and when each is ready. Refuses to know: each other.

use sqlx::Connection;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long a part may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Where Debian keeps PostgreSQL's programs.
const POSTGRES_BIN: &str = "/usr/lib/postgresql/15/bin";

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

fn run(what: &'static str) -> impl Fn(io::Error) -> PartError {
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
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A program that ends with this process: a signal of the terminal reaches this one only.
fn with_us(program: &str, signal: &str, unprivileged: bool) -> Command {
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

fn not_ready(what: &'static str, log: &Path) -> PartError {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    PartError::NotReady { what, log: lines[lines.len().saturating_sub(12)..].join("\n") }
}

async fn until<F: Future<Output = bool>>(
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

/// A PostgreSQL with a folder of its own, reached by a socket there.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    server: Option<Child>,
}

impl Postgres {
    /// Makes and starts one, with an empty database called `homeroom`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(folder: &Path) -> Result<Self, PartError> {
        let failed = run("PostgreSQL");
        let folder = folder.join("postgres");
        std::fs::create_dir(&folder).map_err(&failed)?;
        // Its user has to reach it through the folder above.
        let above = folder.parent().unwrap_or(&folder);
        std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755)).map_err(&failed)?;
        if is_root() {
            Command::new("chown").arg("nobody").arg(&folder).status().await.map_err(&failed)?;
        }
        let mut postgres = Self { folder, server: None };
        let mut initdb = with_us(&format!("{POSTGRES_BIN}/initdb"), "KILL", is_root());
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
        let made = initdb.arg(postgres.data()).stdout(postgres.log()?).stderr(postgres.log()?).status().await;
        if !made.map_err(&failed)?.success() {
            return Err(not_ready("PostgreSQL", &postgres.log_file()));
        }
        postgres.run().await?;
        let mut create = Command::new(format!("{POSTGRES_BIN}/createdb"));
        create.args(["-U", "postgres", "-h"]).arg(&postgres.folder).arg("homeroom");
        create.status().await.map_err(&failed)?;
        Ok(postgres)
    }

    /// Starts it on what it has.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn run(&mut self) -> Result<(), PartError> {
        let mut command = with_us(&format!("{POSTGRES_BIN}/postgres"), "INT", is_root());
        // A commit is as durable here as a killed process needs; nobody pulls this machine's plug.
        command.args(["-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=64MB", "-D"]);
        command.arg(self.data()).arg("-k").arg(&self.folder).stdout(self.log()?).stderr(self.log()?);
        self.server = Some(command.spawn().map_err(run("PostgreSQL"))?);
        let folder = self.folder.clone();
        until("PostgreSQL", &self.log_file(), || async {
            let mut asked = Command::new(format!("{POSTGRES_BIN}/pg_isready"));
            asked.arg("-q").arg("-h").arg(&folder).status().await.is_ok_and(|status| status.success())
        })
        .await
    }

    /// Stops it as an administrator does in a hurry: connections are cut, what was committed is there.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub async fn stop(&mut self) -> Result<(), PartError> {
        if let Some(mut server) = self.server.take() {
            if let Some(process) = server.id() {
                signal(process, "INT").await;
            }
            server.wait().await.map_err(run("PostgreSQL"))?;
        }
        Ok(())
    }

    /// Kills all of it at once.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub async fn crash(&mut self) -> Result<(), PartError> {
        if let Some(mut server) = self.server.take() {
            // Immediate shutdown: no checkpoint; the next start recovers from the log.
            if let Some(process) = server.id() {
                signal(process, "QUIT").await;
            }
            server.wait().await.map_err(run("PostgreSQL"))?;
        }
        Ok(())
    }

    /// Cuts all connections of nodes, in the middle of whatever they do.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn cut_connections(&self) -> Result<(), sqlx::Error> {
        let mut on = sqlx::PgConnection::connect(&self.url()).await?;
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'homeroom'")
            .execute(&mut on)
            .await?;
        on.close().await
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@localhost/homeroom?host={}", self.folder.display())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    fn log(&self) -> Result<std::fs::File, PartError> {
        std::fs::File::options().create(true).append(true).open(self.log_file()).map_err(run("PostgreSQL"))
    }
}

/// A Redis without files.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl Redis {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(folder: &Path) -> Result<Self, PartError> {
        let port = free_port().map_err(run("Redis"))?;
        let mut redis = Self { folder: folder.to_owned(), port, server: None };
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
        let log = self.folder.join("redis.log");
        let to = std::fs::File::options().create(true).append(true).open(&log).map_err(run("Redis"))?;
        self.server = Some(command.stdout(to).stderr(Stdio::null()).spawn().map_err(run("Redis"))?);
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

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

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
