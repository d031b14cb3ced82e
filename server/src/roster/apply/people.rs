//! What other files say of people: roles (1.2) and birth dates; and the language that a person's own row says.
//!
//! Owns: putting a person together from several files, a page at a time. Refuses to know: how people are written.

use super::{Applying, ROWS, Wanted};
use crate::roster::ImportError;
use crate::roster::files::{self, File, Mode, Version};
use crate::{execute, fetch_all, fetch_among};
use chrono::Utc;
use homeroom_protocol::Language;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// What somebody is at a school.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoleAt {
    pub(super) role: String,
    /// The school's `sourcedId`.
    pub(super) org: String,
    /// The row of `roles` that says so; empty when `users` does.
    pub(super) said_by: String,
}

/// A school, or what stands above schools.
pub(super) struct Place {
    school: bool,
    /// What is read there.
    language: String,
}

/// Of people by their `sourcedId`.
type Of<T> = HashMap<String, T>;

impl Applying<'_> {
    /// What other files say of these people.
    pub(super) async fn complete_people(&self, people: &mut [Wanted]) -> Result<(), ImportError> {
        let ids: Vec<String> =
            people.iter().filter(|wanted| !wanted.deleted).map(|wanted| wanted.source_id.clone()).collect();
        let mut roles = self.roles_by_row(&ids).await?;
        let mut birth_dates = self.birth_dates(&ids).await?;
        for wanted in people.iter_mut().filter(|wanted| !wanted.deleted) {
            let role = wanted.values.get("role").to_ascii_lowercase();
            for org in wanted.values.list("orgSourcedIds").filter(|_| !role.is_empty()) {
                let (role, said_by) = (role.clone(), String::new());
                wanted.roles.insert(RoleAt { role, org: org.to_owned(), said_by });
            }
            wanted.roles.extend(roles.remove(&wanted.source_id).unwrap_or_default());
            wanted.birth_date = birth_dates.remove(&wanted.source_id).flatten();
            let own = wanted.values.get("metadata.homeLanguage");
            let own = Language::parse(own).ok().map(|language| language.to_string());
            wanted.language = own.unwrap_or_else(|| self.language_at(&wanted.roles));
            let mut hash = Sha256::new();
            hash.update(&wanted.digest);
            for RoleAt { role, org, said_by } in &wanted.roles {
                hash.update(format!("\n{role}@{org}#{said_by}"));
            }
            hash.update(format!("\n{:?}\n{}", wanted.birth_date, wanted.language));
            wanted.digest = hash.finalize().to_vec();
        }
        Ok(())
    }

    /// Who names no language reads what their school does; a school goes before what stands above it.
    fn language_at(&self, roles: &BTreeSet<RoleAt>) -> String {
        let places = roles.iter().filter_map(|at| self.languages.get(&at.org));
        places.min_by_key(|place| !place.school).map_or("en", |place| place.language.as_str()).to_owned()
    }

    /// What is read at each school, as the database has it and as this roster says.
    pub(super) async fn languages(&self) -> Result<HashMap<String, Place>, ImportError> {
        let known =
            fetch_all!(self.db.long_reads(), (String, String, String), "SELECT source_id, kind, language FROM school")?;
        let place = |kind: &str, language: &str| Place {
            school: kind.eq_ignore_ascii_case("school"),
            language: Some(language).filter(|language| !language.is_empty()).unwrap_or("en").to_owned(),
        };
        let mut languages: HashMap<String, Place> =
            known.into_iter().map(|(org, kind, language)| (org, place(&kind, &language))).collect();
        let mut after = String::new();
        loop {
            let page = self.staged.rows(File::Orgs, &after, ROWS).await?;
            let Some(last) = page.last() else { return Ok(languages) };
            after.clone_from(&last.source_id);
            for row in page.into_iter().filter(|row| !row.deleted) {
                let values = row.values();
                let said = place(values.get("type"), values.get("metadata.language"));
                languages.insert(row.source_id, said);
            }
        }
    }

    /// The roles that rows of `roles` (1.2) give these people. Those that are known go on where that file neither says
    /// everything nor touches them.
    pub(super) async fn roles_by_row(&self, ids: &[String]) -> Result<Of<BTreeSet<RoleAt>>, ImportError> {
        let mut roles: Of<BTreeSet<RoleAt>> = HashMap::new();
        if self.source.version == Version::V1_2 {
            let known: Vec<(String, RoleAt)> =
                self.known_roles(ids).await?.into_iter().filter(|(_, at)| !at.said_by.is_empty()).collect();
            let said_by: Vec<String> = known.iter().map(|(_, at)| at.said_by.clone()).collect();
            let goes_on = self.goes_on(File::Roles, &said_by).await?;
            for (person, at) in known.into_iter().filter(|(_, at)| goes_on.contains(&at.said_by)) {
                roles.entry(person).or_default().insert(at);
            }
        }
        if self.source.mode(File::Roles) != Mode::Absent {
            let today = Utc::now().date_naive().format("%Y-%m-%d").to_string();
            for row in self.staged.roles_of(ids).await? {
                let values = row.values();
                let (begins, ends) = (files::date(values.get("beginDate")), files::date(values.get("endDate")));
                // Days compare as texts; an empty one is before all others.
                if begins > today.as_str() || (!ends.is_empty() && ends < today.as_str()) {
                    continue;
                }
                let at = RoleAt {
                    role: values.get("role").to_ascii_lowercase(),
                    org: values.get("orgSourcedId").to_owned(),
                    said_by: row.source_id,
                };
                roles.entry(values.get("userSourcedId").to_owned()).or_default().insert(at);
            }
        }
        Ok(roles)
    }

    /// The roles that the database has of these people.
    async fn known_roles(&self, ids: &[String]) -> Result<Vec<(String, RoleAt)>, sqlx::Error> {
        type Known = (String, String, String, String);
        let people: Vec<Uuid> = ids.iter().map(|id| self.id(File::Users, id)).collect();
        let rows = fetch_among!(self.db.long_reads(), Known, uuid: people,
            "SELECT p.source_id, r.role, s.source_id, r.source_id FROM person_role r JOIN school s ON s.id = r.school_id
             JOIN person p ON p.id = r.person_id WHERE r.person_id", "")?;
        Ok(rows.into_iter().map(|(person, role, org, said_by)| (person, RoleAt { role, org, said_by })).collect())
    }

    /// Which of what is known of rows stays as it is: no good row says otherwise, and the file does not say everything, or has
    /// a bad row.
    async fn goes_on(&self, file: File, ids: &[String]) -> Result<HashSet<String>, ImportError> {
        let staged = self.staged.staged(file, ids).await?;
        let mut goes_on: HashSet<String> = ids.iter().filter(|id| !staged.contains(*id)).cloned().collect();
        if self.source.mode(file) == Mode::Bulk {
            let skipped = self.staged.skipped(file, ids).await?;
            goes_on.retain(|id| skipped.contains(id));
        }
        Ok(goes_on)
    }

    /// As `demographics` says; where it does not say everything, as is known.
    async fn birth_dates(&self, ids: &[String]) -> Result<Of<Option<String>>, ImportError> {
        let mut birth_dates: Of<Option<String>> = HashMap::new();
        if self.source.mode(File::Demographics) != Mode::Absent {
            for row in self.staged.rows_of(File::Demographics, ids).await? {
                let values = row.values();
                let day = Some(files::date(values.get("birthDate"))).filter(|day| !day.is_empty() && !row.deleted);
                birth_dates.insert(row.source_id, day.map(str::to_owned));
            }
        }
        let unsaid: Vec<String> = ids.iter().filter(|id| !birth_dates.contains_key(*id)).cloned().collect();
        let goes_on = self.goes_on(File::Demographics, &unsaid).await?;
        if !goes_on.is_empty() {
            let people: Vec<Uuid> = goes_on.iter().map(|id| self.id(File::Users, id)).collect();
            let known = fetch_among!(self.db.long_reads(), (String, Option<String>), uuid: people,
                "SELECT source_id, birth_date FROM person WHERE id", "")?;
            birth_dates.extend(known);
        }
        Ok(birth_dates)
    }

    /// People whom only a delta of `roles` or `demographics` changes; gives how many.
    pub(super) async fn people_of_other_files(&self) -> Result<u64, ImportError> {
        let mut changed = 0;
        for file in [File::Roles, File::Demographics] {
            if self.source.mode(file) != Mode::Delta {
                continue;
            }
            let mut after = String::new();
            loop {
                let page = self.staged.rows(file, &after, ROWS).await?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.source_id);
                let mut touched: BTreeSet<Uuid> = BTreeSet::new();
                for row in &page {
                    let values = row.values();
                    let named = if file == File::Roles { values.get("userSourcedId") } else { row.source_id.as_str() };
                    touched.insert(self.id(File::Users, named));
                }
                if file == File::Roles {
                    // Who had this role until now: the row may name somebody else, or, where it is deleted, nobody.
                    let rows: Vec<&str> = page.iter().map(|row| row.source_id.as_str()).collect();
                    let had = fetch_among!(self.db.long_reads(), (Uuid,), text: rows,
                        "SELECT person_id FROM person_role WHERE source_id", "AND source_id <> ''")?;
                    touched.extend(had.into_iter().map(|(person,)| person));
                }
                changed += self.complete_known(&touched).await?;
            }
        }
        Ok(changed)
    }

    /// Writes what other files now say of people whom `users` does not name, where it differs; gives of how many.
    async fn complete_known(&self, touched: &BTreeSet<Uuid>) -> Result<u64, ImportError> {
        type Known = (Uuid, String, Vec<u8>, Option<String>);
        let known = fetch_among!(self.db.long_reads(), Known, uuid: touched,
            "SELECT id, source_id, source_digest, birth_date FROM person WHERE id", "AND length(source_digest) > 0")?;
        let ids: Vec<String> = known.iter().map(|(_, source_id, ..)| source_id.clone()).collect();
        let named = self.staged.staged(File::Users, &ids).await?;
        let ids: Vec<String> = ids.into_iter().filter(|id| !named.contains(id)).collect();
        let mut had: Of<BTreeSet<RoleAt>> = HashMap::new();
        for (person, at) in self.known_roles(&ids).await? {
            had.entry(person).or_default().insert(at);
        }
        let mut roles = self.roles_by_row(&ids).await?;
        let mut birth_dates = self.birth_dates(&ids).await?;
        let mut changed = 0;
        for (person, source_id, digest, had_birth_date) in known {
            if named.contains(&source_id) {
                continue;
            }
            let had = had.remove(&source_id).unwrap_or_default();
            let mut roles = roles.remove(&source_id).unwrap_or_default();
            roles.extend(had.iter().filter(|at| at.said_by.is_empty()).cloned());
            let birth_date = birth_dates.remove(&source_id).flatten();
            if roles == had && birth_date == had_birth_date {
                continue;
            }
            changed += 1;
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
                self.store_roles(&mut tx, &[(person, &roles)]).await?;
                tx.commit().await?;
            }
        }
        Ok(changed)
    }
}
