//! A copy of the SQLite database, while it is used.
//!
//! Owns: writing it whole or not at all, and checking it. Refuses to know: PostgreSQL, which has its own tools.

use crate::db::{Db, Engine};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Not SQLite.
    #[error("this database is PostgreSQL; copy it with `pg_dump --format=custom --file=FILE` and the same connection")]
    Postgres,
    /// The file is there already.
    #[error("{0} is there already; choose another name, or move it away")]
    Exists(PathBuf),
    /// The disk.
    #[error("the copy can't be written")]
    Write(#[from] io::Error),
    /// The database.
    #[error("the database can't be copied")]
    Database(#[from] sqlx::Error),
    /// The copy is not sound.
    #[error("the copy is not sound ({0}); it was thrown away")]
    Unsound(String),
}

/// Writes a copy to `file`; gives its size. It holds every room's log up to some point, without a hole.
///
/// # Errors
/// [`BackupError`]; then there is no `file`.
pub async fn backup(db: &Db, file: &Path) -> Result<u64, BackupError> {
    let Engine::Sqlite(pool) = db.reads() else { return Err(BackupError::Postgres) };
    if file.exists() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let outcome = copy(pool, &part).await;
    if outcome.is_err() {
        // It is of no use to anybody; that it could not be removed would hide why.
        let _still_there = std::fs::remove_file(&part);
    }
    let bytes = outcome?;
    std::fs::rename(&part, file)?;
    Ok(bytes)
}

async fn copy(pool: &crate::db::Readers, part: &Path) -> Result<u64, BackupError> {
    // For its owner alone, as the database is; SQLite takes an empty file for a new one.
    std::fs::File::options().write(true).create_new(true).mode(0o600).open(part)?;
    // One statement, one snapshot; writers go on meanwhile.
    sqlx::query("VACUUM INTO $1").bind(part.to_string_lossy().into_owned()).execute(pool).await?;
    let mut connection = SqliteConnectOptions::new().filename(part).read_only(true).connect().await?;
    let (verdict,): (String,) = sqlx::query_as("PRAGMA quick_check").fetch_one(&mut connection).await?;
    if verdict != "ok" {
        return Err(BackupError::Unsound(verdict));
    }
    let written = std::fs::File::open(part)?;
    written.sync_all()?;
    Ok(written.metadata()?.len())
}
