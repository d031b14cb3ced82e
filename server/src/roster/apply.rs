//! Applying what differs, file by file, in short transactions, so that posting goes on meanwhile.
//!
//! Owns: comparing staged rows with the database by digest, and writing what differs. Refuses to know: CSV, and rooms but for
//! making and naming them.

use super::files::{self, File, Mode, Version};
use super::source::Source;
use super::stage::{Row, Staged, Values};
use super::{Changes, ImportError, ImportOptions, OnProgress, Progress, Report};
use crate::db::{Db, Tx};
use crate::identity;
use crate::{execute, fetch_all, fetch_optional};
use chrono::Utc;
use homeroom_protocol::{Language, PersonId};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// Rows compared, and at most written, in one transaction.
const ROWS: i64 = 500;
/// The roles that speak for a student.
const SPEAKERS: [&str; 3] = ["guardian", "parent", "relative"];

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
    let mut applying =
        Applying { db, staged, source, district, dry_run: options.dry_run, progress, kept: HashSet::new() };
    applying.refuse_mass_removal(options).await?;
    report.orgs = applying.rows(File::Orgs).await?;
    report.sessions = applying.rows(File::AcademicSessions).await?;
    report.courses = applying.rows(File::Courses).await?;
    report.classes = applying.rows(File::Classes).await?;
    report.people = applying.rows(File::Users).await?;
    report.people.changed += applying.people_of_other_files().await?;
    report.guardianships = applying.guardianships().await?;
    report.enrollments = applying.rows(File::Enrollments).await?;
    // What others referred to goes last.
    for (file, changes) in [
        (File::Enrollments, &mut report.enrollments),
        (File::Users, &mut report.people),
        (File::Classes, &mut report.classes),
    ] {
        changes.removed += applying.removals(file).await?;
    }
    Ok(())
}

struct Applying<'a> {
    db: &'a Db,
    staged: &'a Staged,
    source: &'a Source,
    district: Uuid,
    dry_run: bool,
    progress: &'a OnProgress<'a>,
    /// Schools that this roster covers; filled while orgs are applied.
    kept: HashSet<Uuid>,
}

/// The one district of this database.
async fn district(db: &Db, dry_run: bool) -> Result<Uuid, ImportError> {
    if let Some((id,)) = fetch_optional!(db.reads(), (Uuid,), "SELECT id FROM district ORDER BY created_at LIMIT 1")? {
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

/// What somebody is at a school.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RoleAt {
    role: String,
    /// The school's `sourcedId`.
    org: String,
    /// The row of `roles` that says so; empty when `users` does.
    said_by: String,
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
    language: Option<String>,
}

impl Applying<'_> {
    fn id(&self, file: File, source_id: &str) -> Uuid {
        Uuid::new_v5(&self.district, format!("{}:{source_id}", file.name()).as_bytes())
    }

    /// The digests of the rows that the database has between two ids.
    async fn digests(&self, file: File, ids: &[&str]) -> Result<HashMap<String, Vec<u8>>, sqlx::Error> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(HashMap::new()) };
        let text = match file {
            File::Orgs => {
                "SELECT source_id, source_digest FROM school WHERE district_id = $1 AND source_id >= $2 AND source_id <= $3"
            }
            File::AcademicSessions => {
                "SELECT source_id, source_digest FROM term WHERE district_id = $1 AND source_id >= $2 AND source_id <= $3"
            }
            File::Courses => {
                "SELECT source_id, source_digest FROM course WHERE district_id = $1 AND source_id >= $2 AND source_id <= $3"
            }
            File::Classes => {
                "SELECT source_id, source_digest FROM class WHERE district_id = $1 AND source_id >= $2 AND source_id <= $3"
            }
            File::Enrollments => {
                "SELECT source_id, source_digest FROM enrollment WHERE district_id = $1 AND source_id >= $2 AND source_id <= $3"
            }
            _ => {
                "SELECT source_id, source_digest FROM person WHERE district_id = $1 AND source_id >= $2 AND source_id <= $3"
            }
        };
        let rows = fetch_all!(self.db.reads(), (String, Vec<u8>), text, self.district, *first, *last)?;
        Ok(rows.into_iter().collect())
    }

    /// Applies the rows of one file: adds, changes and, where they say so, removes.
    async fn rows(&mut self, file: File) -> Result<Changes, ImportError> {
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
            let known = self.digests_of(file, &ids).await?;
            let mut differing = Vec::new();
            for row in &page {
                let wanted = self.wanted(file, row).await?;
                if file == File::Orgs && !wanted.deleted {
                    self.kept.insert(wanted.id);
                }
                let known = known.get(&row.source_id).filter(|digest| !digest.is_empty());
                match (known, wanted.deleted) {
                    (None, true) => {}
                    (None, false) => changes.added += 1,
                    (Some(digest), false) if *digest == wanted.digest => continue,
                    (Some(_), false) => changes.changed += 1,
                    (Some(_), true) => changes.removed += 1,
                }
                if known.is_some() || !wanted.deleted {
                    differing.push(wanted);
                }
            }
            if !differing.is_empty() && !self.dry_run {
                let mut tx = self.db.begin().await?;
                for wanted in &differing {
                    self.store(&mut tx, file, wanted).await?;
                }
                tx.commit().await?;
            }
            if file == File::Users && !self.dry_run {
                for gone in differing.iter().filter(|wanted| wanted.deleted) {
                    identity::sign_out_everywhere(self.db, PersonId(gone.id)).await?;
                }
            }
            (self.progress)(Progress { stage: format!("applying {}", file.name()), done, total });
        }
    }

    /// The order of ids is the scratch database's, which may not be the database's own collation: a page is looked up by its
    /// extremes as the database sees them only where both agree, else one by one.
    async fn digests_of(&self, file: File, ids: &[&str]) -> Result<HashMap<String, Vec<u8>>, sqlx::Error> {
        let found = self.digests(file, ids).await?;
        if ids.iter().all(|id| found.contains_key(*id)) {
            return Ok(found);
        }
        let mut all = found;
        for id in ids {
            if !all.contains_key(*id) {
                all.extend(self.digests(file, &[id]).await?);
            }
        }
        Ok(all)
    }

    async fn wanted(&self, file: File, row: &Row) -> Result<Wanted, ImportError> {
        let values = row.values();
        let mut wanted = Wanted {
            id: self.id(file, &row.source_id),
            source_id: row.source_id.clone(),
            digest: Vec::new(),
            deleted: row.deleted,
            values,
            roles: BTreeSet::new(),
            birth_date: None,
            language: None,
        };
        let mut hash = Sha256::new();
        hash.update(row.vals.as_bytes());
        if file == File::Users && !row.deleted {
            self.complete_person(&mut wanted, &mut hash).await?;
        }
        if !row.deleted {
            wanted.digest = hash.finalize().to_vec();
        }
        Ok(wanted)
    }

    /// What other files say of a person: roles (1.2), birth date; and the language of their school where they name none.
    async fn complete_person(&self, wanted: &mut Wanted, hash: &mut Sha256) -> Result<(), ImportError> {
        let role = wanted.values.get("role").to_owned();
        for org in wanted.values.list("orgSourcedIds").filter(|_| !role.is_empty()) {
            let said_by = String::new();
            wanted.roles.insert(RoleAt { role: role.to_ascii_lowercase(), org: org.to_owned(), said_by });
        }
        wanted.roles.extend(self.roles_by_row(&wanted.source_id).await?);
        wanted.birth_date = self.birth_date(&wanted.source_id).await?;
        let own = wanted.values.get("metadata.homeLanguage");
        wanted.language = Language::parse(own).ok().map(|language| language.to_string());
        for RoleAt { role, org, said_by } in &wanted.roles {
            hash.update(format!("\n{role}@{org}#{said_by}"));
        }
        hash.update(format!("\n{:?}", wanted.birth_date));
        Ok(())
    }

    async fn store(&self, tx: &mut Tx, file: File, wanted: &Wanted) -> Result<(), ImportError> {
        if wanted.deleted {
            return self.remove(tx, file, wanted.id).await;
        }
        let get = |column: &str| wanted.values.get(column);
        let optional = |column: &str| Some(get(column)).filter(|value| !value.is_empty());
        let (district, id, source_id, digest) = (self.district, wanted.id, &wanted.source_id, &wanted.digest);
        match file {
            File::Orgs => {
                execute!(
                    tx.on(),
                    "INSERT INTO school (id, district_id, source_id, source_digest, name, kind, parent_source_id, language)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                     ON CONFLICT (id) DO UPDATE SET source_digest = excluded.source_digest, name = excluded.name,
                        kind = excluded.kind, parent_source_id = excluded.parent_source_id, language = excluded.language",
                    id,
                    district,
                    source_id,
                    digest,
                    get("name"),
                    get("type").to_ascii_lowercase(),
                    optional("parentSourcedId"),
                    optional("metadata.language").unwrap_or("en")
                )?;
                if get("type").eq_ignore_ascii_case("school") {
                    self.room(tx, id, id, None, get("name")).await?;
                }
            }
            File::AcademicSessions => {
                execute!(
                    tx.on(),
                    "INSERT INTO term (id, district_id, source_id, source_digest, title, kind, begins_on, ends_on, school_year,
                                       parent_source_id)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                     ON CONFLICT (id) DO UPDATE SET source_digest = excluded.source_digest, title = excluded.title,
                        kind = excluded.kind, begins_on = excluded.begins_on, ends_on = excluded.ends_on,
                        school_year = excluded.school_year, parent_source_id = excluded.parent_source_id",
                    id,
                    district,
                    source_id,
                    digest,
                    get("title"),
                    get("type"),
                    files::date(get("startDate")),
                    files::date(get("endDate")),
                    get("schoolYear"),
                    optional("parentSourcedId")
                )?;
            }
            File::Courses => {
                execute!(
                    tx.on(),
                    "INSERT INTO course (id, district_id, source_id, source_digest, title, school_id)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (id) DO UPDATE SET source_digest = excluded.source_digest, title = excluded.title,
                        school_id = excluded.school_id",
                    id,
                    district,
                    source_id,
                    digest,
                    get("title"),
                    self.id(File::Orgs, get("orgSourcedId"))
                )?;
            }
            File::Classes => self.store_class(tx, wanted).await?,
            File::Users => self.store_person(tx, wanted).await?,
            File::Enrollments => {
                execute!(
                    tx.on(),
                    "INSERT INTO enrollment (id, district_id, source_id, source_digest, class_id, person_id, role, begins_on,
                                             ends_on)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                     ON CONFLICT (id) DO UPDATE SET source_digest = excluded.source_digest, class_id = excluded.class_id,
                        person_id = excluded.person_id, role = excluded.role, begins_on = excluded.begins_on,
                        ends_on = excluded.ends_on",
                    id,
                    district,
                    source_id,
                    digest,
                    self.id(File::Classes, get("classSourcedId")),
                    self.id(File::Users, get("userSourcedId")),
                    get("role").to_ascii_lowercase(),
                    optional("beginDate").map(files::date),
                    optional("endDate").map(files::date)
                )?;
            }
            File::Roles | File::Demographics => {}
        }
        Ok(())
    }

    async fn store_class(&self, tx: &mut Tx, wanted: &Wanted) -> Result<(), ImportError> {
        let get = |column: &str| wanted.values.get(column);
        let school = self.id(File::Orgs, get("schoolSourcedId"));
        execute!(
            tx.on(),
            "INSERT INTO class (id, district_id, source_id, source_digest, title, kind, course_id, school_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (id) DO UPDATE SET source_digest = excluded.source_digest, title = excluded.title,
                kind = excluded.kind, course_id = excluded.course_id, school_id = excluded.school_id",
            wanted.id,
            self.district,
            &wanted.source_id,
            &wanted.digest,
            get("title"),
            get("classType").to_ascii_lowercase(),
            self.id(File::Courses, get("courseSourcedId")),
            school
        )?;
        execute!(tx.on(), "DELETE FROM class_term WHERE class_id = $1", wanted.id)?;
        let terms: BTreeSet<Uuid> =
            wanted.values.list("termSourcedIds").map(|term| self.id(File::AcademicSessions, term)).collect();
        for term in terms {
            execute!(tx.on(), "INSERT INTO class_term (class_id, term_id) VALUES ($1, $2)", wanted.id, term)?;
        }
        self.room(tx, wanted.id, school, Some(wanted.id), get("title")).await
    }

    async fn store_person(&self, tx: &mut Tx, wanted: &Wanted) -> Result<(), ImportError> {
        let get = |column: &str| wanted.values.get(column);
        let optional = |column: &str| Some(get(column)).filter(|value| !value.is_empty());
        let schools: Vec<Uuid> = wanted.roles.iter().map(|at| self.id(File::Orgs, &at.org)).collect();
        let language = match (&wanted.language, schools.first()) {
            (Some(language), _) => language.clone(),
            (None, Some(school)) => {
                let row = fetch_optional!(tx.on(), (String,), "SELECT language FROM school WHERE id = $1", *school)?;
                row.map_or_else(|| "en".to_owned(), |(language,)| language)
            }
            (None, None) => "en".to_owned(),
        };
        let enabled = matches!(get("enabledUser").to_ascii_lowercase().as_str(), "true" | "1");
        execute!(
            tx.on(),
            "INSERT INTO person (id, district_id, source_id, source_digest, username, given_name, family_name, language, email,
                                 phone, birth_date, enabled)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (id) DO UPDATE SET source_digest = excluded.source_digest, username = excluded.username,
                given_name = excluded.given_name, family_name = excluded.family_name,
                language = CASE WHEN person.language_chosen THEN person.language ELSE excluded.language END,
                email = excluded.email, phone = excluded.phone, birth_date = excluded.birth_date, enabled = excluded.enabled",
            wanted.id,
            self.district,
            &wanted.source_id,
            &wanted.digest,
            get("username"),
            get("givenName"),
            get("familyName"),
            language,
            optional("email"),
            optional("sms").or(optional("phone")),
            wanted.birth_date.as_deref(),
            enabled
        )?;
        self.store_roles(tx, wanted.id, &wanted.roles).await
    }

    async fn store_roles(&self, tx: &mut Tx, person: Uuid, roles: &BTreeSet<RoleAt>) -> Result<(), ImportError> {
        execute!(tx.on(), "DELETE FROM person_role WHERE person_id = $1", person)?;
        for RoleAt { role, org, said_by } in roles {
            execute!(
                tx.on(),
                "INSERT INTO person_role (person_id, school_id, role, source_id) VALUES ($1, $2, $3, $4)",
                person,
                self.id(File::Orgs, org),
                role,
                said_by
            )?;
        }
        Ok(())
    }

    /// The room of a class or school, made or renamed.
    async fn room(
        &self,
        tx: &mut Tx,
        of: Uuid,
        school: Uuid,
        class: Option<Uuid>,
        title: &str,
    ) -> Result<(), ImportError> {
        execute!(
            tx.on(),
            "INSERT INTO room (id, district_id, kind, school_id, class_id, title) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO UPDATE SET title = excluded.title",
            Uuid::new_v5(&of, b"room"),
            self.district,
            if class.is_some() { "class" } else { "school" },
            school,
            class,
            title
        )?;
        Ok(())
    }

    async fn remove(&self, tx: &mut Tx, file: File, id: Uuid) -> Result<(), ImportError> {
        let texts: &[&'static str] = match file {
            File::Enrollments => &["DELETE FROM enrollment WHERE id = $1"],
            File::Users => &[
                "UPDATE person SET enabled = FALSE, source_digest = $2 WHERE id = $1",
                "DELETE FROM guardianship WHERE guardian_id = $1 OR student_id = $1",
                "DELETE FROM person_role WHERE person_id = $1",
                "DELETE FROM enrollment WHERE person_id = $1",
            ],
            File::Classes => {
                &["UPDATE class SET source_digest = $2 WHERE id = $1", "DELETE FROM enrollment WHERE class_id = $1"]
            }
            File::Orgs => &["UPDATE school SET source_digest = $2 WHERE id = $1"],
            File::AcademicSessions => &["UPDATE term SET source_digest = $2 WHERE id = $1"],
            File::Courses => &["UPDATE course SET source_digest = $2 WHERE id = $1"],
            File::Roles | File::Demographics => &[],
        };
        for text in texts {
            if text.contains("$2") {
                execute!(tx.on(), *text, id, Vec::<u8>::new())?;
            } else {
                execute!(tx.on(), *text, id)?;
            }
        }
        Ok(())
    }

    /// Who speaks for whom, as each person's own row lists it. One side is a student, the other speaks for them.
    async fn guardianships(&self) -> Result<Changes, ImportError> {
        let mut changes = Changes::default();
        if self.source.mode(File::Users) == Mode::Absent {
            return Ok(changes);
        }
        let mut after = String::new();
        loop {
            let page = self.staged.rows(File::Users, &after, ROWS).await?;
            let Some(last) = page.last() else { return Ok(changes) };
            after.clone_from(&last.source_id);
            let mut differing = Vec::new();
            for row in page.iter().filter(|row| !row.deleted) {
                let lister = self.id(File::Users, &row.source_id);
                let values = row.values();
                let listed: BTreeSet<&str> = values.list("agentSourcedIds").collect();
                let had = fetch_all!(
                    self.db.reads(),
                    (Uuid, Uuid),
                    "SELECT guardian_id, student_id FROM guardianship WHERE listed_by = $1",
                    lister
                )?;
                let had: BTreeSet<(Uuid, Uuid)> = had.into_iter().collect();
                if listed.is_empty() && had.is_empty() {
                    continue;
                }
                let wants = self.edges(lister, &row.source_id, &listed).await?;
                if wants != had {
                    changes.added += wants.difference(&had).count() as u64;
                    changes.removed += had.difference(&wants).count() as u64;
                    differing.push((lister, wants));
                }
            }
            if !differing.is_empty() && !self.dry_run {
                let mut tx = self.db.begin().await?;
                for (lister, wants) in differing {
                    execute!(tx.on(), "DELETE FROM guardianship WHERE listed_by = $1", lister)?;
                    for (guardian, student) in wants {
                        execute!(
                            tx.on(),
                            "INSERT INTO guardianship (guardian_id, student_id, listed_by) VALUES ($1, $2, $3)",
                            guardian,
                            student,
                            lister
                        )?;
                    }
                }
                tx.commit().await?;
            }
        }
    }

    async fn edges(
        &self,
        lister: Uuid,
        source_id: &str,
        listed: &BTreeSet<&str>,
    ) -> Result<BTreeSet<(Uuid, Uuid)>, ImportError> {
        let mut edges = BTreeSet::new();
        if listed.is_empty() {
            return Ok(edges);
        }
        let own = self.roles_of(source_id).await?;
        let is_student = |roles: &[String]| roles.iter().any(|role| role == "student");
        let speaks = |roles: &[String]| roles.iter().any(|role| SPEAKERS.contains(&role.as_str()));
        for other in listed {
            let others = self.roles_of(other).await?;
            let other = self.id(File::Users, other);
            if speaks(&own) && is_student(&others) {
                edges.insert((lister, other));
            } else if is_student(&own) && speaks(&others) {
                edges.insert((other, lister));
            }
        }
        Ok(edges)
    }

    /// What somebody is: as the roster says, else as is known.
    async fn roles_of(&self, source_id: &str) -> Result<Vec<String>, ImportError> {
        if let Some(row) = self.staged.row(File::Users, source_id).await? {
            let mut roles = self.roles_by_row(source_id).await?.into_iter().map(|at| at.role).collect::<Vec<_>>();
            roles.extend(Some(row.values().get("role").to_ascii_lowercase()).filter(|role| !role.is_empty()));
            if !roles.is_empty() {
                return Ok(roles);
            }
        }
        let stored = fetch_all!(
            self.db.reads(),
            (String,),
            "SELECT DISTINCT role FROM person_role WHERE person_id = $1",
            self.id(File::Users, source_id)
        )?;
        Ok(stored.into_iter().map(|(role,)| role).collect())
    }

    /// The roles that rows of `roles` (1.2) give somebody. Those that are known go on where that file
    /// neither says everything nor touches them.
    async fn roles_by_row(&self, source_id: &str) -> Result<BTreeSet<RoleAt>, ImportError> {
        let mut roles = BTreeSet::new();
        if self.source.version == Version::V1_2 {
            let known = fetch_all!(
                self.db.reads(),
                (String, String, String),
                "SELECT r.role, s.source_id, r.source_id FROM person_role r JOIN school s ON s.id = r.school_id
                 WHERE r.person_id = $1 AND r.source_id <> ''",
                self.id(File::Users, source_id)
            )?;
            for (role, org, said_by) in known {
                if self.goes_on(File::Roles, &said_by).await? {
                    roles.insert(RoleAt { role, org, said_by });
                }
            }
        }
        if self.source.mode(File::Roles) != Mode::Absent {
            for row in self.staged.roles_of(source_id).await? {
                let values = row.values();
                let (role, org) = (values.get("role").to_ascii_lowercase(), values.get("orgSourcedId").to_owned());
                roles.insert(RoleAt { role, org, said_by: row.source_id });
            }
        }
        Ok(roles)
    }

    /// Whether what is known of a row stays as it is: no good row says otherwise, and the file does not say everything, or has a bad row.
    async fn goes_on(&self, file: File, source_id: &str) -> Result<bool, ImportError> {
        if self.staged.row_or_deleted(file, source_id).await?.is_some() {
            return Ok(false);
        }
        Ok(self.source.mode(file) != Mode::Bulk || self.staged.mentions(file, source_id).await?)
    }

    /// As `demographics` says; where it does not say everything, as is known.
    async fn birth_date(&self, source_id: &str) -> Result<Option<String>, ImportError> {
        if let Some(row) = self.staged.row_or_deleted(File::Demographics, source_id).await? {
            let values = row.values();
            let day = Some(files::date(values.get("birthDate"))).filter(|day| !day.is_empty() && !row.deleted);
            return Ok(day.map(str::to_owned));
        }
        if !self.goes_on(File::Demographics, source_id).await? {
            return Ok(None);
        }
        let known = fetch_optional!(
            self.db.reads(),
            (Option<String>,),
            "SELECT birth_date FROM person WHERE id = $1",
            self.id(File::Users, source_id)
        )?;
        Ok(known.and_then(|(day,)| day))
    }

    /// People whom only a delta of `roles` or `demographics` changes.
    async fn people_of_other_files(&self) -> Result<u64, ImportError> {
        let mut touched: BTreeSet<Uuid> = BTreeSet::new();
        for file in [File::Roles, File::Demographics] {
            if self.source.mode(file) != Mode::Delta {
                continue;
            }
            let mut after = String::new();
            loop {
                let page = self.staged.rows(file, &after, ROWS).await?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.source_id);
                for row in &page {
                    let values = row.values();
                    let named = if file == File::Roles { values.get("userSourcedId") } else { row.source_id.as_str() };
                    touched.insert(self.id(File::Users, named));
                    if file == File::Roles {
                        // Who had this role until now: the row may name somebody else, or, where it is deleted, nobody.
                        let had = fetch_all!(
                            self.db.reads(),
                            (Uuid,),
                            "SELECT person_id FROM person_role WHERE source_id = $1 AND source_id <> ''",
                            &row.source_id
                        )?;
                        touched.extend(had.into_iter().map(|(person,)| person));
                    }
                }
            }
        }
        let mut changed = 0;
        for person in touched {
            type Known = (String, Vec<u8>, Option<String>);
            let text =
                "SELECT source_id, source_digest, birth_date FROM person WHERE id = $1 AND length(source_digest) > 0";
            let Some((source_id, digest, birth_date)) = fetch_optional!(self.db.reads(), Known, text, person)? else {
                continue;
            };
            if self.staged.row_or_deleted(File::Users, &source_id).await?.is_some() {
                continue;
            }
            changed += u64::from(self.complete_known(person, &source_id, &digest, birth_date).await?);
        }
        Ok(changed)
    }

    /// Writes what other files now say of somebody whom `users` does not name, if it differs.
    async fn complete_known(
        &self,
        person: Uuid,
        source_id: &str,
        digest: &[u8],
        known_birth_date: Option<String>,
    ) -> Result<bool, ImportError> {
        let known = fetch_all!(
            self.db.reads(),
            (String, String, String),
            "SELECT r.role, s.source_id, r.source_id FROM person_role r JOIN school s ON s.id = r.school_id WHERE r.person_id = $1",
            person
        )?;
        let known: BTreeSet<RoleAt> =
            known.into_iter().map(|(role, org, said_by)| RoleAt { role, org, said_by }).collect();
        let mut roles = self.roles_by_row(source_id).await?;
        roles.extend(known.iter().filter(|at| at.said_by.is_empty()).cloned());
        let birth_date = self.birth_date(source_id).await?;
        if roles == known && birth_date == known_birth_date {
            return Ok(false);
        }
        if !self.dry_run {
            // The digest no longer tells what is stored: a later file that says everything has to look again.
            let digest = Sha256::digest(digest).to_vec();
            let mut tx = self.db.begin().await?;
            execute!(
                tx.on(),
                "UPDATE person SET birth_date = $2, source_digest = $3 WHERE id = $1",
                person,
                birth_date.as_deref(),
                digest
            )?;
            self.store_roles(&mut tx, person, &roles).await?;
            tx.commit().await?;
        }
        Ok(true)
    }

    /// What a file that says everything no longer has, within the schools that the roster covers.
    async fn removals(&self, file: File) -> Result<u64, ImportError> {
        if self.source.mode(file) != Mode::Bulk {
            return Ok(0);
        }
        let mut removed = 0;
        let mut after = Uuid::nil();
        loop {
            let page = self.present(file, after).await?;
            let Some((last, ..)) = page.last() else { return Ok(removed) };
            after = *last;
            let mut gone = Vec::new();
            for (id, source_id, school) in page {
                if school.is_none_or(|school| self.kept.contains(&school))
                    && !self.staged.mentions(file, &source_id).await?
                {
                    gone.push(id);
                }
            }
            removed += gone.len() as u64;
            if gone.is_empty() || self.dry_run {
                continue;
            }
            let mut tx = self.db.begin().await?;
            for id in &gone {
                self.remove(&mut tx, file, *id).await?;
            }
            tx.commit().await?;
            if file == File::Users {
                for id in gone {
                    identity::sign_out_everywhere(self.db, PersonId(id)).await?;
                }
            }
        }
    }

    /// A stretch of what the database has, with the school that it belongs to.
    async fn present(&self, file: File, after: Uuid) -> Result<Vec<(Uuid, String, Option<Uuid>)>, sqlx::Error> {
        type Present = (Uuid, String, Option<Uuid>);
        let text = match file {
            File::Enrollments => {
                "SELECT e.id, e.source_id, c.school_id FROM enrollment e JOIN class c ON c.id = e.class_id
                 WHERE e.district_id = $1 AND e.id > $2 ORDER BY e.id LIMIT $3"
            }
            File::Classes => {
                "SELECT id, source_id, school_id FROM class
                 WHERE district_id = $1 AND id > $2 AND length(source_digest) > 0 ORDER BY id LIMIT $3"
            }
            // Somebody of several schools stays while one of them is not covered: the greatest id stands for the others.
            _ => {
                "SELECT p.id, p.source_id, (SELECT r.school_id FROM person_role r WHERE r.person_id = p.id ORDER BY r.school_id LIMIT 1)
                 FROM person p WHERE p.district_id = $1 AND p.id > $2 AND length(p.source_digest) > 0 ORDER BY p.id LIMIT $3"
            }
        };
        Ok(fetch_all!(self.db.reads(), Present, text, self.district, after, ROWS)?)
    }

    async fn refuse_mass_removal(&self, options: &ImportOptions) -> Result<(), ImportError> {
        if options.allow_mass_removal || self.source.mode(File::Users) != Mode::Bulk {
            return Ok(());
        }
        let (mut present, mut removed) = (0_u64, 0_u64);
        let mut after = Uuid::nil();
        loop {
            let page = self.present(File::Users, after).await?;
            let Some((last, ..)) = page.last() else { break };
            after = *last;
            for (_, source_id, school) in &page {
                // Orgs are not applied yet: whether a school is covered is asked of the staged rows.
                let covered = match school {
                    Some(school) => self.covers(*school).await?,
                    None => true,
                };
                if covered {
                    present += 1;
                    removed += u64::from(!self.staged.mentions(File::Users, source_id).await?);
                }
            }
        }
        if present >= 10 && removed * 2 > present {
            return Err(ImportError::MassRemoval { removed, present });
        }
        Ok(())
    }

    async fn covers(&self, school: Uuid) -> Result<bool, sqlx::Error> {
        let row = fetch_optional!(self.db.reads(), (String,), "SELECT source_id FROM school WHERE id = $1", school)?;
        match row {
            Some((source_id,)) => Ok(self.staged.row(File::Orgs, &source_id).await?.is_some()),
            None => Ok(false),
        }
    }
}
