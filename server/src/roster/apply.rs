//! Applying what differs, file by file, in short transactions, so that posting goes on meanwhile.
//!
//! Owns: comparing staged rows with the database by digest, a page at a time, and the order of it all. Refuses to know: CSV, and
//! how rows are written.
//!
//! What a page needs of the scratch database and of the school's is asked for in one query each, so that importing again costs
//! reading and comparing, and nothing for each row.

mod guardianships;
mod many;
mod people;
mod removals;
mod store;

use super::files::{File, Mode};
use super::source::Source;
use super::stage::{Row, Staged, Values};
use super::{Changes, ImportError, ImportOptions, OnProgress, Progress, Report};
use crate::db::Db;
use crate::{execute, fetch_among, fetch_optional};
use chrono::Utc;
use people::{Place, RoleAt};
use removals::Lost;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// Rows compared, and at most written, in one transaction.
const ROWS: i64 = 500;

/// Compares and writes everything.
pub async fn apply(
    db: &Db,
    staged: &Staged,
    source: &Source,
    options: &ImportOptions,
    report: &mut Report,
    progress: &OnProgress<'_>,
) -> Result<(), ImportError> {
    let district = district(db, options.dry_run).await?;
    let dry_run = options.dry_run;
    let (covered, languages) = (HashSet::new(), HashMap::new());
    let mut applying = Applying { db, staged, source, district, dry_run, progress, covered, languages };
    applying.covered = applying.covered_schools().await?;
    applying.languages = applying.languages().await?;
    applying.refuse_mass_removal(options).await?;
    // What goes with something else.
    let mut lost = Lost::default();
    report.orgs = applying.rows(File::Orgs, &mut lost).await?;
    report.sessions = applying.rows(File::AcademicSessions, &mut lost).await?;
    report.courses = applying.rows(File::Courses, &mut lost).await?;
    report.classes = applying.rows(File::Classes, &mut lost).await?;
    report.people = applying.rows(File::Users, &mut lost).await?;
    report.people.changed += applying.people_of_other_files().await?;
    report.guardianships = applying.guardianships().await?;
    report.enrollments = applying.rows(File::Enrollments, &mut lost).await?;
    // What others referred to goes last.
    for (file, changes) in [
        (File::Enrollments, &mut report.enrollments),
        (File::Users, &mut report.people),
        (File::Classes, &mut report.classes),
    ] {
        changes.removed += applying.removals(file, &mut lost).await?;
    }
    report.enrollments.removed += lost.enrollments;
    report.guardianships.removed += lost.guardianships;
    Ok(())
}

struct Applying<'a> {
    db: &'a Db,
    staged: &'a Staged,
    source: &'a Source,
    district: Uuid,
    dry_run: bool,
    progress: &'a OnProgress<'a>,
    /// Schools that this roster covers: what it does not name of them is gone.
    covered: HashSet<Uuid>,
    /// What is read at each school, by its `sourcedId`.
    languages: HashMap<String, Place>,
}

/// The one district of this database.
async fn district(db: &Db, dry_run: bool) -> Result<Uuid, ImportError> {
    if let Some((id,)) =
        fetch_optional!(db.long_reads(), (Uuid,), "SELECT id FROM district ORDER BY created_at LIMIT 1")?
    {
        return Ok(id);
    }
    let id = Uuid::now_v7();
    if !dry_run {
        execute!(
            db.writes(),
            "INSERT INTO district (id, name, created_at) VALUES ($1, $2, $3)",
            id,
            "District",
            Utc::now()
        )?;
    }
    Ok(id)
}

/// A row as it is to be stored.
struct Wanted {
    id: Uuid,
    source_id: String,
    digest: Vec<u8>,
    deleted: bool,
    values: Values,
    /// For people: what they are, at which school.
    roles: BTreeSet<RoleAt>,
    birth_date: Option<String>,
    language: String,
}

impl Wanted {
    fn of(id: Uuid, row: &Row) -> Self {
        let digest = if row.deleted { Vec::new() } else { Sha256::digest(row.vals.as_bytes()).to_vec() };
        Self {
            id,
            source_id: row.source_id.clone(),
            digest,
            deleted: row.deleted,
            values: row.values(),
            roles: BTreeSet::new(),
            birth_date: None,
            language: String::new(),
        }
    }
}

impl Applying<'_> {
    fn id(&self, file: File, source_id: &str) -> Uuid {
        Uuid::new_v5(&self.district, format!("{}:{source_id}", file.name()).as_bytes())
    }

    /// The digests of the rows that the database has.
    async fn digests(&self, file: File, ids: &[&str]) -> Result<HashMap<String, Vec<u8>>, sqlx::Error> {
        type Known = (String, Vec<u8>);
        macro_rules! of {
            ($table:literal) => {
                fetch_among!(self.db.long_reads(), Known, text: ids,
                    concat!("SELECT source_id, source_digest FROM ", $table, " WHERE source_id"),
                    "AND district_id = $2", self.district)?
            };
        }
        let rows = match file {
            File::Orgs => of!("school"),
            File::AcademicSessions => of!("term"),
            File::Courses => of!("course"),
            File::Classes => of!("class"),
            File::Enrollments => of!("enrollment"),
            File::Users | File::Roles | File::Demographics => of!("person"),
        };
        Ok(rows.into_iter().collect())
    }

    /// Applies the rows of one file: adds, changes and, where they say so, removes.
    async fn rows(&self, file: File, lost: &mut Lost) -> Result<Changes, ImportError> {
        let mut changes = Changes::default();
        if self.source.mode(file) == Mode::Absent {
            return Ok(changes);
        }
        let total = self.staged.count(file).await?;
        let mut done = 0;
        let mut after = String::new();
        loop {
            let page = self.staged.rows(file, &after, ROWS).await?;
            let Some(last) = page.last() else { return Ok(changes) };
            after.clone_from(&last.source_id);
            done += page.len() as u64;
            let ids: Vec<&str> = page.iter().map(|row| row.source_id.as_str()).collect();
            let known = self.digests(file, &ids).await?;
            let mut wanted: Vec<Wanted> =
                page.iter().map(|row| Wanted::of(self.id(file, &row.source_id), row)).collect();
            if file == File::Users {
                self.complete_people(&mut wanted).await?;
            }
            let mut differing = Vec::new();
            let mut gone = Vec::new();
            for wanted in wanted {
                let known = known.get(&wanted.source_id).filter(|digest| !digest.is_empty());
                match (known, wanted.deleted) {
                    (None, true) => continue,
                    (None, false) => changes.added += 1,
                    (Some(digest), false) if *digest == wanted.digest => continue,
                    (Some(_), false) => changes.changed += 1,
                    (Some(_), true) => gone.push(wanted.id),
                }
                differing.push(wanted);
            }
            changes.removed += gone.len() as u64;
            self.count_lost(file, &gone, lost).await?;
            if !differing.is_empty() && !self.dry_run {
                self.write(file, differing).await?;
            }
            (self.progress)(Progress { stage: format!("applying {}", file.name()), done, total });
        }
    }

    /// Writes a page of what differs, in one transaction.
    async fn write(&self, file: File, differing: Vec<Wanted>) -> Result<(), ImportError> {
        let (gone, stays): (Vec<Wanted>, Vec<Wanted>) = differing.into_iter().partition(|wanted| wanted.deleted);
        let mut tx = self.db.begin().await?;
        match file {
            File::Users => self.store_people(&mut tx, &stays).await?,
            File::Enrollments => self.store_enrollments(&mut tx, &stays).await?,
            _ => {
                for wanted in &stays {
                    self.store(&mut tx, file, wanted).await?;
                }
            }
        }
        for wanted in &gone {
            self.remove(&mut tx, file, wanted.id).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
