//! A PostgreSQL of the tests' own.
//!
//! Owns: starting one per test process as an unprivileged user in a temporary folder, a database for each test, and leaving
//! nothing behind: a watching shell stops it as soon as this process is gone, however it went.
//! Refuses to know: what is tested.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The one that most tests share: it keeps nothing that a crash could take.
static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start("-c max_connections=200 -c fsync=off"));

/// A server, with one folder that is all of it.
pub struct Server {
    socket: PathBuf,
    /// It is told to stop and to run the server; closing its standard input stops everything: when this value goes, or the process.
    watcher: Child,
}

/// A fresh, empty database of the shared server; gives its URL.
pub async fn database() -> String {
    SERVER.database().await
}

/// Sends a signal to one of a server's processes; whether it was there.
fn signal(name: &str, process: &str) -> bool {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process).stderr(Stdio::null()).status();
    sent.unwrap().success()
}

/// One of a server's processes, stopped where it is. It goes on when this value goes: a server waits for all of its own.
pub struct Stopped(String);

impl Stopped {
    pub fn new(process: i32) -> Self {
        let process = process.to_string();
        assert!(signal("STOP", &process));
        Self(process)
    }

    /// Ends it where it is.
    pub fn kill(self) {
        assert!(signal("KILL", &self.0));
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may be gone.
        let _gone = signal("CONT", &self.0);
    }
}

impl Server {
    /// A fresh, empty database; gives its URL.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let url = |name: &str| format!("postgres://postgres@localhost/{name}?host={}", self.socket.display());
        let pool = sqlx::PgPool::connect(&url("postgres")).await.expect("the tests' PostgreSQL answers");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
        pool.close().await;
        url(&name)
    }

    /// The same database on another server that has it, too.
    pub fn url_of(&self, url: &str) -> String {
        format!("{}?host={}", url.split('?').next().unwrap(), self.socket.display())
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&self) {
        assert!(signal("KILL", &self.postmaster().unwrap()));
    }

    /// Stops it in order: connections are cut, what was committed is there. [`Self::run`] starts it again.
    pub fn stop(&self) {
        self.tell("stop");
        wait_until("PostgreSQL has stopped", || self.postmaster().is_none());
    }

    /// Starts it on what it has, and waits until it answers.
    pub fn run(&self) {
        self.tell("run");
        wait_until("PostgreSQL answers again", || is_ready(&self.socket));
    }

    /// Stops all of it where it is, as a machine that hangs would, until what this gives goes.
    pub fn pause(&self) -> Vec<Stopped> {
        let postmaster = self.postmaster().unwrap();
        // The one that would start others first.
        let mut stopped = vec![Stopped::new(postmaster.parse().unwrap())];
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &postmaster]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        stopped.extend(children.split_whitespace().map(|process| Stopped::new(process.parse().unwrap())));
        stopped
    }

    /// The URL of the database that every server has.
    pub fn url(&self) -> String {
        self.url_of("postgres://postgres@localhost/postgres")
    }

    /// Its first process; nothing while it is stopped.
    fn postmaster(&self) -> Option<String> {
        let file = std::fs::read_to_string(self.socket.join("data/postmaster.pid")).ok()?;
        file.lines().next().map(str::to_owned)
    }

    fn tell(&self, word: &str) {
        writeln!(self.watcher.stdin.as_ref().unwrap(), "{word}").unwrap();
    }

    /// Starts one as Debian configures it, but for these settings.
    pub fn start(settings: &str) -> Self {
        let initdb = "initdb -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync";
        Self::start_on(initdb, settings)
    }

    /// A copy of this one that follows it, made as docs/operations.md says.
    pub fn standby(&self) -> Self {
        let host = self.socket.display();
        Self::start_on(&format!("pg_basebackup -h {host} -U postgres --write-recovery-conf --checkpoint=fast"), "")
    }

    /// Starts one whose data folder a program of PostgreSQL makes.
    fn start_on(make: &str, settings: &str) -> Self {
        let bin = Path::new("/usr/lib/postgresql/15/bin");
        assert!(bin.join("initdb").exists(), "PostgreSQL 15 is missing: run scripts/setup.sh test");
        let folder = std::env::temp_dir().join(format!("homeroom-postgres-{}", Uuid::now_v7().simple()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        // PostgreSQL refuses to run as root.
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout.starts_with(b"0\n");
        let unprivileged = if is_root { "setpriv --reuid=nobody --regid=nogroup --clear-groups" } else { "" };
        let script = format!(
            r#"
            cd /; umask 077
            {owner}
            {unprivileged} {bin}/{make} -D {folder}/data >{folder}/make.log 2>&1 || exit 1
            run() {{
                {unprivileged} {bin}/postgres -D {folder}/data -k {folder} -c listen_addresses= {settings} \
                    -c shared_buffers=32MB >>{folder}/postgres.log 2>&1 &
                server=$!
            }}
            stop() {{ kill -INT $server 2>/dev/null; wait $server; }}
            run; while read -r word; do $word; done
            stop; rm -rf {folder}
            "#,
            owner = if is_root { format!("chown nobody {}", folder.display()) } else { String::new() },
            bin = bin.display(),
            folder = folder.display(),
        );
        let mut watcher = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        wait_until("PostgreSQL has started", || {
            assert!(watcher.try_wait().unwrap().is_none(), "PostgreSQL did not start; see {}", folder.display());
            is_ready(&folder)
        });
        Self { socket: folder, watcher }
    }
}

fn is_ready(folder: &Path) -> bool {
    let mut asked = Command::new("/usr/lib/postgresql/15/bin/pg_isready");
    asked.args(["-q", "-h"]).arg(folder).status().is_ok_and(|status| status.success())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "not after a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
