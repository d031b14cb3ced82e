//! Rows that can't be taken for what stands elsewhere: twice in one file, or naming what is nowhere.
//!
//! Owns: finding them, a stretch at a time. Refuses to know: how a row looks; of the school's database it asks only whether it
//! has what a delta names.

use super::Staged;
use crate::db::Db;
use crate::fetch_among;
use crate::roster::ImportError;
use crate::roster::files::{File, Mode};
use crate::roster::source::Source;
use std::collections::{BTreeSet, HashSet};

/// References looked at at once.
const STRETCH: i64 = 2_000;

/// A reference that the roster itself does not answer.
#[derive(Debug, sqlx::FromRow)]
struct Dangling {
    place: i64,
    file: String,
    line: i64,
    col: String,
    target_file: String,
    target: String,
}

impl Staged {
    /// Takes out rows whose id stands in the same file already.
    pub(super) async fn refuse_doubles(&self) -> Result<(), ImportError> {
        loop {
            let doubles: Vec<(String, String, i64)> = sqlx::query_as(
                "SELECT file, source_id, line FROM staged s
                 WHERE EXISTS (SELECT 1 FROM staged o INDEXED BY staged_by_id
                               WHERE o.file = s.file AND o.source_id = s.source_id AND o.line < s.line)
                 LIMIT $1",
            )
            .bind(STRETCH)
            .fetch_all(&self.scratch)
            .await?;
            if doubles.is_empty() {
                return Ok(());
            }
            for (file, source_id, line) in &doubles {
                self.refuse(file, *line, "sourcedId", source_id, "stands twice in this file").await?;
            }
        }
    }

    /// Finds rows that refer to what neither the roster nor, for what the roster does not tell in full, the database has.
    /// Such a row is bad, and so is what refers to it: this is repeated until nothing more is found.
    ///
    /// # Errors
    /// When a database does not answer.
    pub async fn check_references(&self, db: &Db, source: &Source) -> Result<(), ImportError> {
        loop {
            let mut dropped = 0;
            let mut after = 0;
            loop {
                let dangling: Vec<Dangling> = sqlx::query_as(
                    "SELECT r.rowid AS place, r.file, r.line, r.col, r.target_file, r.target FROM reference r
                     WHERE r.rowid > $1 AND NOT EXISTS (SELECT 1 FROM staged s
                                       WHERE s.file = r.target_file AND s.source_id = r.target AND s.deleted = 0)
                     ORDER BY r.rowid LIMIT $2",
                )
                .bind(after)
                .bind(STRETCH)
                .fetch_all(&self.scratch)
                .await?;
                let Some(last) = dangling.last() else { break };
                after = last.place;
                dropped += self.judge(db, source, &dangling).await?;
            }
            if dropped == 0 {
                return Ok(());
            }
        }
    }

    /// Lets stand what the database knows, and takes out the rows of the rest; gives how many.
    async fn judge(&self, db: &Db, source: &Source, dangling: &[Dangling]) -> Result<usize, ImportError> {
        let known = self.known_targets(db, source, dangling).await?;
        let is_known = |row: &Dangling| known.contains(&(row.target_file.clone(), row.target.clone()));
        let answered: Vec<i64> = dangling.iter().filter(|row| is_known(row)).map(|row| row.place).collect();
        sqlx::query("DELETE FROM reference WHERE rowid IN (SELECT value FROM json_each($1))")
            .bind(serde_json::json!(answered))
            .execute(&self.scratch)
            .await?;
        let mut dropped = HashSet::new();
        for row in dangling.iter().filter(|row| !is_known(row)) {
            if dropped.insert((&row.file, row.line)) {
                let reason = format!("is not in {}.csv", row.target_file);
                self.refuse(&row.file, row.line, &row.col, &row.target, &reason).await?;
            }
        }
        Ok(dropped.len())
    }

    /// What the database has of the targets whose files do not say everything.
    async fn known_targets(
        &self,
        db: &Db,
        source: &Source,
        dangling: &[Dangling],
    ) -> Result<HashSet<(String, String)>, ImportError> {
        let mut known = HashSet::new();
        for file in File::ALL.iter().filter(|file| source.mode(**file) != Mode::Bulk) {
            let targets: BTreeSet<&str> =
                dangling.iter().filter(|row| row.target_file == file.name()).map(|row| row.target.as_str()).collect();
            if targets.is_empty() {
                continue;
            }
            let targets: Vec<String> = targets.into_iter().map(str::to_owned).collect();
            // A good row that does not answer says `tobedeleted`.
            let deleted = self.staged(*file, &targets).await?;
            let there = known_ids(db, *file, &targets).await?;
            known.extend(there.into_iter().filter(|id| !deleted.contains(id)).map(|id| (file.name().to_owned(), id)));
        }
        Ok(known)
    }
}

async fn known_ids(db: &Db, file: File, ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    macro_rules! of {
        ($table:literal, $condition:literal) => {
            fetch_among!(db.long_reads(), (String,), text: ids,
                concat!("SELECT source_id FROM ", $table, " WHERE source_id"), $condition)?
        };
    }
    let rows = match file {
        File::Orgs => of!("school", "AND length(source_digest) > 0"),
        File::AcademicSessions => of!("term", "AND length(source_digest) > 0"),
        File::Courses => of!("course", "AND length(source_digest) > 0"),
        File::Classes => of!("class", "AND length(source_digest) > 0"),
        File::Users => of!("person", "AND enabled"),
        File::Roles | File::Demographics | File::Enrollments => Vec::new(),
    };
    Ok(rows.into_iter().map(|(source_id,)| source_id).collect())
}
