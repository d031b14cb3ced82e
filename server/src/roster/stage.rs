//! Staging: the rows of a roster, checked one by one, in a scratch database that is deleted afterwards.
//!
//! Owns: keeping what `rows` reads, and finding what refers to nothing.
//! Refuses to know: CSV, and the school's database, but for asking whether it has what a delta refers to.

use super::files::{File, Mode};
use super::rows::{BadRow, Judged, Rows};
use super::source::Source;
use super::{ImportError, OnProgress, Progress};
use crate::db::Db;
use crate::fetch_all;
use serde_json::{Map, Value};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use std::collections::HashSet;

/// Rows in one write to the scratch database.
const ROWS: usize = 500;
/// Bad rows that are kept to be shown; the rest is counted.
const SHOWN: usize = 1_000;
/// Bad rows that are kept to be written to a file, about 200 bytes each.
const WRITTEN: usize = 500_000;

/// A roster, staged.
pub struct Staged {
    /// The scratch database.
    pub scratch: SqlitePool,
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
    /// A value; empty when it has none.
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

/// Bad rows: the first to be shown, and how many there are.
#[derive(Debug)]
pub struct BadRows {
    /// The first.
    pub rows: Vec<BadRow>,
    /// All.
    pub total: u64,
    /// How many are kept.
    most: usize,
}

impl BadRows {
    /// Keeps what is shown to people; or, to be written to a file, as many as memory can bear.
    #[must_use]
    pub fn new(to_file: bool) -> Self {
        Self { rows: Vec::new(), total: 0, most: if to_file { WRITTEN } else { SHOWN } }
    }

    fn add(&mut self, row: BadRow) {
        self.total += 1;
        if self.rows.len() < self.most {
            self.rows.push(row);
        }
    }
}

impl Staged {
    /// Reads every file of a roster. Bad rows are not staged.
    ///
    /// # Errors
    /// When a file can't be read at all, or a column is missing.
    pub async fn read(source: &Source, bad: &mut BadRows, progress: &OnProgress<'_>) -> Result<Self, ImportError> {
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
             CREATE TABLE skipped (file TEXT NOT NULL, source_id TEXT NOT NULL, PRIMARY KEY (file, source_id)) WITHOUT ROWID;",
        )
        .execute(&scratch)
        .await?;
        let staged = Self { scratch, _folder: folder };
        for file in File::ALL {
            if source.mode(file) != Mode::Absent {
                staged.read_file(source, file, bad, progress).await?;
            }
        }
        sqlx::raw_sql(
            "CREATE INDEX staged_by_id ON staged (file, source_id);
             CREATE INDEX staged_by_user ON staged (user_id) WHERE user_id IS NOT NULL;
             CREATE INDEX staged_by_line ON staged (file, line);
             CREATE INDEX reference_by_line ON reference (file, line);
             CREATE INDEX reference_by_target ON reference (target_file, target);",
        )
        .execute(&staged.scratch)
        .await?;
        staged.refuse_doubles(bad).await?;
        Ok(staged)
    }

    async fn read_file(
        &self,
        source: &Source,
        file: File,
        bad: &mut BadRows,
        progress: &OnProgress<'_>,
    ) -> Result<(), ImportError> {
        let name = format!("{}.csv", file.name());
        let opened = source.file(file).map_err(|error| ImportError::Unreadable(format!("{name}: {error}")))?;
        let total = opened.metadata().map(|about| about.len()).unwrap_or(0);
        let mut reader = Rows::of(file, source.version, source.mode(file), opened)?;
        let mut rows: Vec<Value> = Vec::with_capacity(ROWS);
        let mut references: Vec<Value> = Vec::new();
        loop {
            let judged = reader.read()?;
            let more = judged.is_some();
            match judged {
                Some(Judged::Good(row)) => {
                    references.extend(row.references);
                    rows.push(row.row);
                }
                Some(Judged::Refused { source_id, row }) => {
                    bad.add(row);
                    self.skip(file, &source_id).await?;
                }
                None => {}
            }
            if rows.len() >= ROWS || !more {
                let mut connection = self.scratch.acquire().await?;
                store(&mut connection, std::mem::take(&mut rows), std::mem::take(&mut references)).await?;
                progress(Progress { stage: format!("reading {name}"), done: reader.bytes_read(), total });
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn refuse_doubles(&self, bad: &mut BadRows) -> Result<(), ImportError> {
        let doubles: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT file, source_id, line FROM staged s
             WHERE EXISTS (SELECT 1 FROM staged o WHERE o.file = s.file AND o.source_id = s.source_id AND o.line < s.line)",
        )
        .fetch_all(&self.scratch)
        .await?;
        for (file, source_id, line) in &doubles {
            bad.add(BadRow {
                file: format!("{file}.csv"),
                line: line.unsigned_abs(),
                column: "sourcedId".to_owned(),
                value: source_id.clone(),
                reason: "stands twice in this file".to_owned(),
            });
            self.drop_row(file, *line).await?;
        }
        Ok(())
    }

    /// Remembers whom a bad row is about: left out is not the same as gone.
    async fn skip(&self, file: File, source_id: &str) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT OR IGNORE INTO skipped (file, source_id) VALUES ($1, $2)")
            .bind(file.name())
            .bind(source_id)
            .execute(&self.scratch)
            .await?;
        Ok(())
    }

    async fn drop_row(&self, file: &str, line: i64) -> Result<(), sqlx::Error> {
        for text in [
            "INSERT OR IGNORE INTO skipped (file, source_id) SELECT file, source_id FROM staged WHERE file = $1 AND line = $2",
            "DELETE FROM staged WHERE file = $1 AND line = $2",
            "DELETE FROM reference WHERE file = $1 AND line = $2",
        ] {
            sqlx::query(text).bind(file).bind(line).execute(&self.scratch).await?;
        }
        Ok(())
    }

    /// Finds rows that refer to what neither the roster nor, for what the roster does not tell in full, the database has.
    /// Such a row is bad, and so is what refers to it: this is repeated until nothing more is found.
    ///
    /// # Errors
    /// When a database does not answer.
    pub async fn check_references(&self, db: &Db, source: &Source, bad: &mut BadRows) -> Result<(), ImportError> {
        loop {
            let dangling: Vec<(String, i64, String, String, String)> = sqlx::query_as(
                "SELECT r.file, r.line, r.col, r.target_file, r.target FROM reference r
                 WHERE NOT EXISTS (SELECT 1 FROM staged s
                                   WHERE s.file = r.target_file AND s.source_id = r.target AND s.deleted = 0)
                 ORDER BY r.file, r.line",
            )
            .fetch_all(&self.scratch)
            .await?;
            let known = self.known_targets(db, source, &dangling).await?;
            let mut dropped = HashSet::new();
            for (file, line, column, target_file, target) in dangling {
                if known.contains(&(target_file.clone(), target.clone())) {
                    sqlx::query("DELETE FROM reference WHERE file = $1 AND line = $2 AND col = $3 AND target = $4")
                        .bind(&file)
                        .bind(line)
                        .bind(&column)
                        .bind(&target)
                        .execute(&self.scratch)
                        .await?;
                } else if dropped.insert((file.clone(), line)) {
                    bad.add(BadRow {
                        file: format!("{file}.csv"),
                        line: line.unsigned_abs(),
                        column,
                        value: target,
                        reason: format!("is not in {target_file}.csv"),
                    });
                    self.drop_row(&file, line).await?;
                }
            }
            if dropped.is_empty() {
                return Ok(());
            }
        }
    }

    /// What the database has of the targets whose files do not say everything.
    async fn known_targets(
        &self,
        db: &Db,
        source: &Source,
        dangling: &[(String, i64, String, String, String)],
    ) -> Result<HashSet<(String, String)>, ImportError> {
        let mut known = HashSet::new();
        for file in File::ALL.iter().filter(|file| source.mode(**file) != Mode::Bulk) {
            let targets: HashSet<&String> =
                dangling.iter().filter(|row| row.3 == file.name()).map(|row| &row.4).collect();
            for target in targets {
                if is_known(db, *file, target).await? && !self.is_deleted(*file, target).await? {
                    known.insert((file.name().to_owned(), target.clone()));
                }
            }
        }
        Ok(known)
    }

    async fn is_deleted(&self, file: File, source_id: &str) -> Result<bool, sqlx::Error> {
        let row: Option<(i64,)> =
            sqlx::query_as("SELECT line FROM staged WHERE file = $1 AND source_id = $2 AND deleted = 1")
                .bind(file.name())
                .bind(source_id)
                .fetch_optional(&self.scratch)
                .await?;
        Ok(row.is_some())
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

    /// One row of a file.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn row(&self, file: File, source_id: &str) -> Result<Option<Row>, sqlx::Error> {
        sqlx::query_as("SELECT source_id, deleted, vals FROM staged WHERE file = $1 AND source_id = $2 AND deleted = 0")
            .bind(file.name())
            .bind(source_id)
            .fetch_optional(&self.scratch)
            .await
    }

    /// One row of a file, also one that says `tobedeleted`.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn row_or_deleted(&self, file: File, source_id: &str) -> Result<Option<Row>, sqlx::Error> {
        sqlx::query_as("SELECT source_id, deleted, vals FROM staged WHERE file = $1 AND source_id = $2")
            .bind(file.name())
            .bind(source_id)
            .fetch_optional(&self.scratch)
            .await
    }

    /// Whether a file has a row for this id, be it good or bad.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn mentions(&self, file: File, source_id: &str) -> Result<bool, sqlx::Error> {
        let (found,): (bool,) = sqlx::query_as(
            "SELECT EXISTS (SELECT 1 FROM staged WHERE file = $1 AND source_id = $2)
                 OR EXISTS (SELECT 1 FROM skipped WHERE file = $1 AND source_id = $2)",
        )
        .bind(file.name())
        .bind(source_id)
        .fetch_one(&self.scratch)
        .await?;
        Ok(found)
    }

    /// The rows of `roles` (1.2) that name a user.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn roles_of(&self, user: &str) -> Result<Vec<Row>, sqlx::Error> {
        sqlx::query_as("SELECT source_id, deleted, vals FROM staged WHERE user_id = $1 AND deleted = 0")
            .bind(user)
            .fetch_all(&self.scratch)
            .await
    }

    /// How many rows a file has that are not deleted.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn count(&self, file: File) -> Result<u64, sqlx::Error> {
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM staged WHERE file = $1 AND deleted = 0")
            .bind(file.name())
            .fetch_one(&self.scratch)
            .await?;
        Ok(count.unsigned_abs())
    }
}

async fn is_known(db: &Db, file: File, source_id: &str) -> Result<bool, sqlx::Error> {
    let text = match file {
        File::Orgs => "SELECT source_id FROM school WHERE source_id = $1 AND length(source_digest) > 0",
        File::AcademicSessions => "SELECT source_id FROM term WHERE source_id = $1 AND length(source_digest) > 0",
        File::Courses => "SELECT source_id FROM course WHERE source_id = $1 AND length(source_digest) > 0",
        File::Classes => "SELECT source_id FROM class WHERE source_id = $1 AND length(source_digest) > 0",
        File::Users => "SELECT source_id FROM person WHERE source_id = $1 AND enabled",
        File::Roles | File::Demographics | File::Enrollments => return Ok(false),
    };
    Ok(!fetch_all!(db.reads(), (String,), text, source_id)?.is_empty())
}

async fn store(on: &mut SqliteConnection, rows: Vec<Value>, references: Vec<Value>) -> Result<(), sqlx::Error> {
    if !rows.is_empty() {
        sqlx::query(
            "INSERT INTO staged (file, source_id, line, deleted, vals)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1)",
        )
        .bind(Value::Array(rows))
        .execute(&mut *on)
        .await?;
    }
    if !references.is_empty() {
        sqlx::query(
            "INSERT INTO reference (file, source_id, line, col, target_file, target)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each($1)",
        )
        .bind(Value::Array(references))
        .execute(&mut *on)
        .await?;
    }
    Ok(())
}
