//! Bad rows: the first of them to be shown, all of them to be written to a file that an office can mend.
//!
//! Owns: keeping them, and finding each one's raw record again. Refuses to know: why a row is bad.

use super::{SHOWN, Staged};
use crate::roster::ImportError;
use crate::roster::files::File;
use crate::roster::rows::{BadRow, Rows};
use crate::roster::source::Source;
use std::fmt;
use std::path::Path;

/// Bad rows read at once.
const STRETCH: i64 = 1_000;

#[derive(Debug, sqlx::FromRow)]
struct Kept {
    file: String,
    line: i64,
    col: String,
    value: String,
    reason: String,
}

impl Kept {
    fn into_bad_row(self) -> BadRow {
        let Self { file, line, col, value, reason } = self;
        BadRow { file: format!("{file}.csv"), line: line.unsigned_abs(), column: col, value, reason }
    }
}

impl Staged {
    /// Takes a staged row out. Whom it is about is remembered: left out is not the same as gone.
    pub(super) async fn refuse(
        &self,
        file: &str,
        line: i64,
        column: &str,
        value: &str,
        reason: &str,
    ) -> Result<(), sqlx::Error> {
        for text in [
            "INSERT OR IGNORE INTO skipped (file, source_id) SELECT file, source_id FROM staged WHERE file = $1 AND line = $2",
            "DELETE FROM staged WHERE file = $1 AND line = $2",
            "DELETE FROM reference WHERE file = $1 AND line = $2",
        ] {
            sqlx::query(text).bind(file).bind(line).execute(&self.scratch).await?;
        }
        let shown: String = value.chars().take(80).collect();
        sqlx::query("INSERT INTO bad (file, line, col, value, reason) VALUES ($1, $2, $3, $4, $5)")
            .bind(file)
            .bind(line)
            .bind(column)
            .bind(shown)
            .bind(reason)
            .execute(&self.scratch)
            .await?;
        Ok(())
    }

    /// How many there are, and the first of them.
    ///
    /// # Errors
    /// When the scratch database fails.
    pub async fn bad_rows(&self) -> Result<(u64, Vec<BadRow>), sqlx::Error> {
        let (total,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM bad").fetch_one(&self.scratch).await?;
        let rows: Vec<Kept> = sqlx::query_as("SELECT file, line, col, value, reason FROM bad ORDER BY rowid LIMIT $1")
            .bind(SHOWN)
            .fetch_all(&self.scratch)
            .await?;
        Ok((total.unsigned_abs(), rows.into_iter().map(Kept::into_bad_row).collect()))
    }

    /// Writes all of them as CSV: file, line, column, value, reason, and the row itself as it stands in its file. The files are read
    /// once more for that, so nothing of a bad row has to be kept in memory.
    ///
    /// # Errors
    /// When it can't be written, or the roster can't be read again.
    pub async fn write_bad_rows(&self, source: &Source, to: &Path) -> Result<(), ImportError> {
        let unwritable = |error: &dyn fmt::Display| ImportError::Unreadable(format!("{}: {error}", to.display()));
        let mut writer = csv::Writer::from_path(to).map_err(|error| unwritable(&error))?;
        writer
            .write_record(["file", "line", "column", "value", "reason", "row"])
            .map_err(|error| unwritable(&error))?;
        for file in File::ALL {
            let mut after = (0, 0);
            let mut reader = None;
            loop {
                let rows = self.bad_rows_of(file, after).await?;
                let Some((last, kept)) = rows.last() else { break };
                after = (kept.line, *last);
                for (_, kept) in rows {
                    let raw = raw(&mut reader, source, file, kept.line.unsigned_abs())?;
                    let bad = kept.into_bad_row();
                    let line = bad.line.to_string();
                    writer
                        .write_record([&bad.file, &line, &bad.column, &bad.value, &bad.reason, &raw])
                        .map_err(|error| unwritable(&error))?;
                }
            }
        }
        writer.flush().map_err(|error| unwritable(&error))
    }

    async fn bad_rows_of(&self, file: File, after: (i64, i64)) -> Result<Vec<(i64, Kept)>, sqlx::Error> {
        #[derive(sqlx::FromRow)]
        struct Placed {
            place: i64,
            #[sqlx(flatten)]
            kept: Kept,
        }
        let rows: Vec<Placed> = sqlx::query_as(
            "SELECT rowid AS place, file, line, col, value, reason FROM bad
             WHERE file = $1 AND (line, rowid) > ($2, $3) ORDER BY line, rowid LIMIT $4",
        )
        .bind(file.name())
        .bind(after.0)
        .bind(after.1)
        .bind(STRETCH)
        .fetch_all(&self.scratch)
        .await?;
        Ok(rows.into_iter().map(|placed| (placed.place, placed.kept)).collect())
    }
}

/// The record at a line; lines are asked for in rising order. Empty when it can't be found again.
fn raw(
    reader: &mut Option<(Rows<std::fs::File>, u64)>,
    source: &Source,
    file: File,
    line: u64,
) -> Result<String, ImportError> {
    let (rows, at) = match reader {
        Some(reader) => reader,
        None => {
            let opened =
                source.file(file).map_err(|error| ImportError::Unreadable(format!("{}.csv: {error}", file.name())))?;
            reader.insert((Rows::of(file, source.version, source.mode(file), opened)?, 0))
        }
    };
    while *at < line {
        if rows.read()?.is_none() {
            return Ok(String::new());
        }
        *at = rows.line();
    }
    Ok(if *at == line { rows.raw() } else { String::new() })
}
