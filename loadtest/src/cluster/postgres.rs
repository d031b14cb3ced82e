//! PostgreSQL.
//!
//! Owns: its command lines, when it is ready, and what can be done to it. Refuses to know: what is kept in it.

use super::part::{PartError, free_port, is_root, not_ready, run, signal, until, with_us};
use crate::process::Cpu;
use sqlx::Connection;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::process::{Child, Command};

/// Where Debian keeps PostgreSQL's programs.
const POSTGRES_BIN: &str = "/usr/lib/postgresql/15/bin";

/// A PostgreSQL with a folder of its own, reached by a socket there, and by a port of the loopback.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
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
        let mut postgres = Self { folder, port: free_port().map_err(&failed)?, server: None };
        let mut initdb = with_us(&format!("{POSTGRES_BIN}/initdb"), "KILL", is_root());
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
        let made = initdb.arg(postgres.data()).stdout(postgres.log()?).stderr(postgres.log()?).status().await;
        if !made.map_err(&failed)?.success() {
            return Err(not_ready("PostgreSQL", &postgres.log_file()));
        }
        postgres.run().await?;
        let mut create = postgres.ask("createdb", false);
        create.args(["-U", "postgres", "homeroom"]).status().await.map_err(&failed)?;
        Ok(postgres)
    }

    /// Starts it on what it has.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn run(&mut self) -> Result<(), PartError> {
        let mut command = with_us(&format!("{POSTGRES_BIN}/postgres"), "INT", is_root());
        // A commit is as durable here as a killed process needs; nobody pulls this machine's plug.
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200", "-c", "shared_buffers=64MB"]);
        command.args(["-p", &self.port.to_string(), "-k"]).arg(&self.folder).arg("-D").arg(self.data());
        self.server = Some(command.stdout(self.log()?).stderr(self.log()?).spawn().map_err(run("PostgreSQL"))?);
        until("PostgreSQL", &self.log_file(), || async {
            self.ask("pg_isready", false).arg("-q").status().await.is_ok_and(|status| status.success())
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

    /// Takes a copy while it works.
    ///
    /// # Errors
    /// When it can't be taken.
    pub async fn copy(&self) -> Result<(), PartError> {
        let mut command = self.ask("pg_basebackup", is_root());
        command.args(["-U", "postgres", "-X", "stream", "-c", "fast", "--no-sync", "-D"]).arg(self.folder.join("copy"));
        let copied = command.stdout(self.log()?).stderr(self.log()?).status().await.map_err(run("PostgreSQL"))?;
        if copied.success() { Ok(()) } else { Err(not_ready("a copy of PostgreSQL", &self.log_file())) }
    }

    /// Puts the copy back; it does not run meanwhile. What was there is kept beside it.
    ///
    /// # Errors
    /// When there is none.
    pub fn put_back(&self) -> Result<(), PartError> {
        let failed = run("PostgreSQL");
        std::fs::rename(self.data(), self.folder.join("gone")).map_err(&failed)?;
        std::fs::rename(self.folder.join("copy"), self.data()).map_err(&failed)
    }

    /// Ends every connection of a node and waits until there is none: what is not committed then never will be.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn until_alone(&self) -> Result<(), sqlx::Error> {
        let mut on = sqlx::PgConnection::connect(&self.url()).await?;
        loop {
            let (others,): (i64,) = sqlx::query_as(
                "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'homeroom'",
            )
            .fetch_one(&mut on)
            .await?;
            if others == 0 {
                return on.close().await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Whether somebody who reaches it from one of these ports is inside a transaction, idle, and holds locks of rooms.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn holds_locks(&self, on: &mut sqlx::PgConnection, ports: &[u16]) -> Result<bool, sqlx::Error> {
        let ports: Vec<i32> = ports.iter().map(|port| i32::from(*port)).collect();
        let (holding,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM pg_stat_activity JOIN pg_locks USING (pid)
             WHERE client_port = ANY($1) AND state = 'idle in transaction'
               AND relation = 'room'::regclass AND mode = 'RowShareLock' AND granted",
        )
        .bind(ports)
        .fetch_one(on)
        .await?;
        Ok(holding > 0)
    }

    /// What all of its processes that are there have used.
    #[must_use]
    pub fn cpu(&self) -> Option<Cpu> {
        Cpu::of_family(self.server.as_ref()?.id()?)
    }

    /// Its URL, by its socket.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@localhost:{}/homeroom?host={}", self.port, self.folder.display())
    }

    /// Its URL, by a port that leads to it.
    #[must_use]
    pub fn url_by(port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/homeroom?sslmode=disable")
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// One of its programs, which asks the running server. `unprivileged`: it writes files that are the server's.
    fn ask(&self, program: &str, unprivileged: bool) -> Command {
        let mut command = with_us(&format!("{POSTGRES_BIN}/{program}"), "KILL", unprivileged);
        command.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string()]);
        command
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
