//! The SQLite database in the data folder.
//!
//! Owns: opening it for reading only, beside whoever writes. Refuses to know: PostgreSQL.

use super::{Finding, commit, median, schema};
use crate::db::Engine;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// A file that was written later than now by so much: the clock has gone back.
const AHEAD: Duration = Duration::from_secs(60);

pub(super) async fn examine(file: &Path, folder: &Path) -> Vec<Finding> {
    let check = "database";
    let mut findings = Vec::new();
    if folder.is_dir() {
        findings.push(match time_commits(folder).await {
            Ok(took) => commit(took),
            Err(error) => Finding::broken(
                "database.commit",
                format!("nothing can be committed beside it: {error}"),
                "make the data folder writable, and make room on its disk",
            ),
        });
    }
    if !file.exists() {
        let found = format!("{} is not there yet", file.display());
        findings.push(Finding::attention(check, found, "nothing, if this is new: `homeroom serve` makes it"));
        return findings;
    }
    let options = SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(Duration::from_secs(5));
    let opened = async {
        let mut on = options.connect().await?;
        let (version, journal): (String, String) =
            sqlx::query_as("SELECT sqlite_version(), journal_mode FROM pragma_journal_mode").fetch_one(&mut on).await?;
        Ok::<_, sqlx::Error>((on, version, journal))
    };
    match opened.await {
        Ok((mut on, version, journal)) => {
            findings.push(Finding::ok(check, format!("{} can be read, by SQLite {version}", file.display())));
            findings.push(keeping(&journal));
            findings.push(schema::examine(Engine::Sqlite(&mut on)).await);
            // Only read from: there is nothing to lose.
            let _closed = on.close().await;
        }
        Err(error) => findings.push(Finding::broken(
            check,
            format!("{} can't be read: {error}", file.display()),
            "look at its owner and rights; if it is no database any more, restore the last backup",
        )),
    }
    findings.push(clock(file));
    findings
}

fn keeping(journal: &str) -> Finding {
    let check = "database.keeping";
    match journal {
        "wal" => Finding::ok(check, "its journal is a WAL, and homeroom writes each commit through to the disk"),
        // A copy that was put in its place is none until it is opened for writing.
        other => {
            Finding::attention(check, format!("its journal is {other}"), "nothing: `homeroom serve` changes it to WAL")
        }
    }
}

/// How long this disk takes to keep something, measured on a database of our own, set up like the real one.
async fn time_commits(folder: &Path) -> Result<Duration, Box<dyn std::error::Error + Send + Sync>> {
    let scratch = tempfile::Builder::new().prefix("doctor-").tempdir_in(folder)?;
    let options = SqliteConnectOptions::new()
        .filename(scratch.path().join("scratch.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut on: SqliteConnection = options.connect().await?;
    sqlx::query("CREATE TABLE scratch (at TEXT)").execute(&mut on).await?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        sqlx::query("INSERT INTO scratch VALUES ('now')").execute(&mut on).await?;
        times.push(began.elapsed());
    }
    on.close().await?;
    Ok(median(times))
}

/// The only other clock is that of the file.
fn clock(file: &Path) -> Finding {
    let wal = file.with_extension("db-wal");
    let written = [file, &wal].iter().filter_map(|file| file.metadata().ok()?.modified().ok()).max();
    let ahead = written.and_then(|written| written.duration_since(SystemTime::now()).ok()).unwrap_or_default();
    if ahead < AHEAD {
        return Finding::ok("clock", "it has not gone back since the database was last written");
    }
    let found = format!("the database was written {} s from now: the clock has gone back", ahead.as_secs());
    Finding::broken("clock", found, "set the clock, and have it kept (systemd-timesyncd, chrony)")
}
