//! What a file that says everything no longer has.
//!
//! Owns: which schools a roster covers, what goes with something else, and refusing to remove more than half of their people unasked. Refuses to know: how a row is
//! taken away.

use super::{Applying, ROWS};
use crate::roster::files::{File, Mode};
use crate::roster::{ImportError, ImportOptions};
use crate::{fetch_all, fetch_among};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Fewer people than this are no school to be careful with.
const FEW: u64 = 10;

/// What goes because somebody or something else does.
#[derive(Default)]
pub(super) struct Lost {
    pub(super) enrollments: u64,
    pub(super) guardianships: u64,
}

/// Something that the database has: its id and `sourcedId`.
type Present = (Uuid, String);

impl Applying<'_> {
    /// The schools that this roster covers: those that it has.
    pub(super) async fn covered_schools(&self) -> Result<HashSet<Uuid>, ImportError> {
        let mut covered = HashSet::new();
        let mut after = String::new();
        loop {
            let page = self.staged.rows(File::Orgs, &after, ROWS).await?;
            let Some(last) = page.last() else { return Ok(covered) };
            after.clone_from(&last.source_id);
            covered.extend(page.iter().filter(|row| !row.deleted).map(|row| self.id(File::Orgs, &row.source_id)));
        }
    }

    /// Removes what is gone; gives how much.
    pub(super) async fn removals(&self, file: File, lost: &mut Lost) -> Result<u64, ImportError> {
        if self.source.mode(file) != Mode::Bulk {
            return Ok(0);
        }
        let mut removed = 0;
        let mut after = Uuid::nil();
        loop {
            let page = self.present(file, after).await?;
            let Some((last, _)) = page.last() else { return Ok(removed) };
            after = *last;
            let gone = self.gone(file, &page).await?;
            removed += gone.len() as u64;
            self.count_lost(file, &gone, lost).await?;
            if gone.is_empty() || self.dry_run {
                continue;
            }
            let mut tx = self.db.begin().await?;
            for id in &gone {
                self.remove(&mut tx, file, *id).await?;
            }
            tx.commit().await?;
        }
    }

    /// Counts what goes with these, before it does. In a dry run what other files remove is still there, and is left to them.
    pub(super) async fn count_lost(&self, file: File, gone: &[Uuid], lost: &mut Lost) -> Result<(), ImportError> {
        if gone.is_empty() || !matches!(file, File::Users | File::Classes) {
            return Ok(());
        }
        let enrollments = if file == File::Users {
            fetch_among!(self.db.long_reads(), (String,), uuid: gone, "SELECT source_id FROM enrollment WHERE person_id", "")?
        } else {
            fetch_among!(self.db.long_reads(), (String,), uuid: gone, "SELECT source_id FROM enrollment WHERE class_id", "")?
        };
        let enrollments = enrollments.into_iter().map(|(source_id,)| source_id).collect();
        lost.enrollments += self.unsaid(File::Enrollments, enrollments).await?;
        if file == File::Users {
            // Whoever lists whom, each pair once for each that lists it.
            type Listed = (String, Uuid, Uuid, Uuid);
            let mut pairs: HashSet<Listed> = HashSet::new();
            macro_rules! of {
                ($column:literal) => {
                    fetch_among!(self.db.long_reads(), Listed, uuid: gone,
                        concat!("SELECT p.source_id, g.guardian_id, g.student_id, g.listed_by FROM guardianship g
                                 JOIN person p ON p.id = g.listed_by WHERE g.", $column), "")?
                };
            }
            pairs.extend(of!("guardian_id"));
            pairs.extend(of!("student_id"));
            let (by_gone, by_others): (Vec<Listed>, Vec<Listed>) =
                pairs.into_iter().partition(|(.., listed_by)| gone.contains(listed_by));
            let others = by_others.into_iter().map(|(lister, ..)| lister).collect();
            lost.guardianships += by_gone.len() as u64 + self.unsaid(File::Users, others).await?;
        }
        Ok(())
    }

    /// How many of these rows are not counted as removed where their own file is gone through.
    async fn unsaid(&self, file: File, ids: Vec<String>) -> Result<u64, ImportError> {
        if !self.dry_run {
            return Ok(ids.len() as u64);
        }
        if self.source.mode(file) == Mode::Bulk {
            return Ok(0);
        }
        let said = self.staged.staged(file, &ids).await?;
        Ok(ids.iter().filter(|id| !said.contains(*id)).count() as u64)
    }

    /// More than half of the people gone is mostly a wrong file.
    pub(super) async fn refuse_mass_removal(&self, options: &ImportOptions) -> Result<(), ImportError> {
        if options.allow_mass_removal || self.source.mode(File::Users) != Mode::Bulk {
            return Ok(());
        }
        let (mut present, mut removed) = (0_u64, 0_u64);
        let mut after = Uuid::nil();
        loop {
            let page = self.present(File::Users, after).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            present += self.covered(File::Users, &page).await?.len() as u64;
            removed += self.gone(File::Users, &page).await?.len() as u64;
        }
        if present >= FEW && removed * 2 > present {
            return Err(ImportError::MassRemoval { removed, present });
        }
        Ok(())
    }

    /// A stretch of what the database has, in the order of ids. (The CASE keeps SQLite from reading the whole district by its index
    /// and sorting it for each stretch.)
    async fn present(&self, file: File, after: Uuid) -> Result<Vec<Present>, sqlx::Error> {
        let text = match file {
            File::Enrollments => {
                "SELECT id, source_id FROM enrollment WHERE CASE WHEN district_id = $1 THEN TRUE ELSE FALSE END AND id > $2 ORDER BY id LIMIT $3"
            }
            File::Classes => {
                "SELECT id, source_id FROM class
                 WHERE CASE WHEN district_id = $1 THEN TRUE ELSE FALSE END AND id > $2 AND length(source_digest) > 0 ORDER BY id LIMIT $3"
            }
            _ => {
                "SELECT id, source_id FROM person
                 WHERE CASE WHEN district_id = $1 THEN TRUE ELSE FALSE END AND id > $2 AND length(source_digest) > 0 ORDER BY id LIMIT $3"
            }
        };
        fetch_all!(self.db.long_reads(), Present, text, self.district, after, ROWS)
    }

    /// What of a stretch the roster covers and does not name.
    async fn gone(&self, file: File, page: &[Present]) -> Result<Vec<Uuid>, ImportError> {
        let covered = self.covered(file, page).await?;
        let ids: Vec<String> = covered.iter().map(|(_, source_id)| source_id.clone()).collect();
        let mentioned = self.staged.mentioned(file, &ids).await?;
        Ok(covered.into_iter().filter(|(_, source_id)| !mentioned.contains(source_id)).map(|(id, _)| id).collect())
    }

    /// What of a stretch belongs to schools that the roster covers, and to no others: somebody of two schools stays while one of
    /// them is not covered.
    async fn covered(&self, file: File, page: &[Present]) -> Result<Vec<Present>, sqlx::Error> {
        let ids: Vec<Uuid> = page.iter().map(|(id, _)| *id).collect();
        let schools = match file {
            File::Enrollments => fetch_among!(self.db.long_reads(), (Uuid, Uuid), uuid: ids,
                "SELECT e.id, c.school_id FROM enrollment e JOIN class c ON c.id = e.class_id WHERE e.id", "")?,
            File::Classes => fetch_among!(self.db.long_reads(), (Uuid, Uuid), uuid: ids,
                "SELECT id, school_id FROM class WHERE id", "")?,
            _ => fetch_among!(self.db.long_reads(), (Uuid, Uuid), uuid: ids,
                "SELECT person_id, school_id FROM person_role WHERE person_id", "")?,
        };
        let mut elsewhere: HashMap<Uuid, bool> = HashMap::new();
        for (id, school) in schools {
            *elsewhere.entry(id).or_default() |= !self.covered.contains(&school);
        }
        Ok(page.iter().filter(|(id, _)| !elsewhere.get(id).copied().unwrap_or(false)).cloned().collect())
    }
}
