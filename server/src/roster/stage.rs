//! Staging: the rows of a roster, checked one by one, in a scratch database that is deleted afterwards.
//!
//! Owns: keeping what `rows` reads, good and bad, and giving it back a page at a time. Refuses to know: CSV, and the school's
//! database.

mod bad;
mod references;

use super::files::{File, Mode};
use super::rows::{BadRow, Judged, Rows};
use super::source::Source;
use super::{ImportError, OnProgress, Progress};
use serde_json::{Map, Value};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use std::collections::HashSet;

/// Rows in one write to the scratch database.
const ROWS: usize = 500;
/// Bad rows that are shown; the rest is counted, and written where a file is named.
const SHOWN: i64 = 1_000;

/// A roster, staged.
pub struct Staged {
    scratch: SqlitePool,
    _folder: tempfile::TempDir,
}

/// A staged row.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    /// Its `sourcedId`.
    pub source_id: String,
    /// Whether it says `tobedeleted`.
    pub deleted: bool,
    /// What was read of it, as a JSON object; empty values are left out.
    pub vals: String,
}

impl Row {
    /// Its values.
    #[must_use]
    pub fn values(&self) -> Values {
        Values(serde_json::from_str(&self.vals).unwrap_or_default())
    }
}

/// The values of a row.
#[derive(Debug, Clone, Default)]
pub struct Values(Map<String, Value>);

impl Values {
    /// A value; empty when it has none.
    #[must_use]
    pub fn get(&self, column: &str) -> &str {
        self.0.get(column).and_then(Value::as_str).unwrap_or_default()
    }

    /// The parts of a list.
    pub fn list(&self, column: &str) -> impl Iterator<Item = &str> {
        self.get(column).split(',').map(str::trim).filter(|part| !part.is_empty())
    }
}

impl Staged {
    /// Reads every file of a roster. Bad rows are kept apart.
    ///
    /// # Errors
    /// When a file can't be read at all, or a column is missing.
    pub async fn read(source: &Source, progress: &OnProgress<'_>) -> Result<Self, ImportError> {
        let folder = tempfile::tempdir().map_err(|error| ImportError::Unreadable(error.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("scratch.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Off)
            .synchronous(SqliteSynchronous::Off)
            .pragma("cache_size", "-8000");
        let scratch = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        sqlx::raw_sql(
            "CREATE TABLE staged (file TEXT NOT NULL, source_id TEXT NOT NULL, line INTEGER NOT NULL, deleted INTEGER NOT NULL,
                                  vals TEXT NOT NULL,
                                  user_id TEXT GENERATED ALWAYS AS (CASE file WHEN 'roles' THEN vals ->> 'userSourcedId' END));
             CREATE TABLE reference (file TEXT NOT NULL, source_id TEXT NOT NULL, line INTEGER NOT NULL, col TEXT NOT NULL,
                                     target_file TEXT NOT NULL, target TEXT NOT NULL);
             CREATE TABLE skipped (file TEXT NOT NULL, source_id TEXT NOT NULL, PRIMARY KEY (file, source_id)) WITHOUT ROWID;
             CREATE TABLE bad (file TEXT NOT NULL, line INTEGER NOT NULL, col TEXT NOT NULL, value TEXT NOT NULL,
                               reason TEXT NOT NULL);",
        )
        .execute(&scratch)
        .await?;
        let staged = Self { scratch, _folder: folder };
        for file in File::ALL {
            if source.mode(file) != Mode::Absent {
                staged.read_file(source, file, progress).await?;
            }
        }
        sqlx::raw_sql(
            "CREATE INDEX staged_by_id ON staged (file, source_id, line);
             CREATE INDEX staged_by_user ON staged (user_id) WHERE user_id IS NOT NULL;
             CREATE INDEX staged_by_line ON staged (file, line);
             CREATE INDEX reference_by_line ON reference (file, line);",
        )
        .execute(&staged.scratch)
        .await?;
        staged.refuse_doubles().await?;
        Ok(staged)
    }

    async fn read_file(&self, source: &Source, file: File, progress: &OnProgress<'_>) -> Result<(), ImportError> {
        let name = format!("{}.csv", file.name());
        let opened = source.file(file).map_err(|error| ImportError::Unreadable(format!("{name}: {error}")))?;
        let total = opened.metadata().map(|about| about.len()).unwrap_or(0);
        let mut reader = Rows::of(file, source.version, source.mode(file), opened)?;
        let mut page = Page::default();
        loop {
            let judged = reader.read()?;
            let more = judged.is_some();
            match judged {
                Some(Judged::Good(row)) => {
                    page.references.extend(row.references);
                    page.rows.push(row.row);
                }
                Some(Judged::Refused { source_id, row }) => page.bad.push((source_id, row)),
                None => {}
            }
            if page.rows.len() + page.bad.len() >= ROWS || !more {
                let mut connection = self.scratch.acquire().await?;
                std::mem::take(&mut page).store(&mut connection, file).await?;
                progress(Progress { stage: format!("reading {name}"), done: reader.bytes_read(), total });
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// A stretch of a file's rows in the order of their ids, after one of them.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn rows(&self, file: File, after: &str, limit: i64) -> Result<Vec<Row>, sqlx::Error> {
        sqlx::query_as(
            "SELECT source_id, deleted, vals FROM staged WHERE file = $1 AND source_id > $2 ORDER BY source_id LIMIT $3",
        )
        .bind(file.name())
        .bind(after)
        .bind(limit)
        .fetch_all(&self.scratch)
        .await
    }

    /// The rows of a file for these ids, also those that say `tobedeleted`.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn rows_of(&self, file: File, ids: &[String]) -> Result<Vec<Row>, sqlx::Error> {
        sqlx::query_as(
            "SELECT source_id, deleted, vals FROM staged
             WHERE file = $1 AND source_id IN (SELECT value FROM json_each($2))",
        )
        .bind(file.name())
        .bind(keys(ids))
        .fetch_all(&self.scratch)
        .await
    }

    /// The rows of `roles` (1.2) that name these users.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn roles_of(&self, users: &[String]) -> Result<Vec<Row>, sqlx::Error> {
        sqlx::query_as(
            "SELECT source_id, deleted, vals FROM staged
             WHERE user_id IN (SELECT value FROM json_each($1)) AND deleted = 0",
        )
        .bind(keys(users))
        .fetch_all(&self.scratch)
        .await
    }

    /// Which of these ids a file has a good row for, also one that says `tobedeleted`.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn staged(&self, file: File, ids: &[String]) -> Result<HashSet<String>, sqlx::Error> {
        self.among(
            "SELECT source_id FROM staged WHERE file = $1 AND source_id IN (SELECT value FROM json_each($2))",
            file,
            ids,
        )
        .await
    }

    /// Which of these ids a file has a bad row for: left out is not the same as gone.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn skipped(&self, file: File, ids: &[String]) -> Result<HashSet<String>, sqlx::Error> {
        self.among(
            "SELECT source_id FROM skipped WHERE file = $1 AND source_id IN (SELECT value FROM json_each($2))",
            file,
            ids,
        )
        .await
    }

    /// Which of these ids a file has a row for, be it good or bad.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn mentioned(&self, file: File, ids: &[String]) -> Result<HashSet<String>, sqlx::Error> {
        let mut mentioned = self.staged(file, ids).await?;
        mentioned.extend(self.skipped(file, ids).await?);
        Ok(mentioned)
    }

    async fn among(&self, text: &'static str, file: File, ids: &[String]) -> Result<HashSet<String>, sqlx::Error> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let rows: Vec<(String,)> =
            sqlx::query_as(text).bind(file.name()).bind(keys(ids)).fetch_all(&self.scratch).await?;
        Ok(rows.into_iter().map(|(source_id,)| source_id).collect())
    }

    /// How many rows a file has.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn count(&self, file: File) -> Result<u64, sqlx::Error> {
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM staged WHERE file = $1")
            .bind(file.name())
            .fetch_one(&self.scratch)
            .await?;
        Ok(count.unsigned_abs())
    }
}

fn keys(ids: &[String]) -> Value {
    Value::Array(ids.iter().cloned().map(Value::String).collect())
}

/// What is written at once.
#[derive(Default)]
struct Page {
    rows: Vec<Value>,
    references: Vec<Value>,
    bad: Vec<(String, BadRow)>,
}

impl Page {
    async fn store(self, on: &mut SqliteConnection, file: File) -> Result<(), sqlx::Error> {
        let skipped = self.bad.iter().map(|(source_id, _)| serde_json::json!([file.name(), source_id])).collect();
        let bad = self
            .bad
            .iter()
            .map(|(_, row)| serde_json::json!([file.name(), row.line, row.column, row.value, row.reason]));
        for (text, rows) in [
            (
                "INSERT INTO staged (file, source_id, line, deleted, vals)
                 SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1)",
                self.rows,
            ),
            (
                "INSERT INTO reference (file, source_id, line, col, target_file, target)
                 SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each($1)",
                self.references,
            ),
            ("INSERT OR IGNORE INTO skipped (file, source_id) SELECT value ->> 0, value ->> 1 FROM json_each($1)", skipped),
            (
                "INSERT INTO bad (file, line, col, value, reason)
                 SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1)",
                bad.collect(),
            ),
        ] {
            if !rows.is_empty() {
                sqlx::query(text).bind(Value::Array(rows)).execute(&mut *on).await?;
            }
        }
        Ok(())
    }
}
