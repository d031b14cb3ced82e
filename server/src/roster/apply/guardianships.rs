//! Who speaks for whom, as each person's own row lists it.
//!
//! Owns: which of two people that are listed together is the guardian. Refuses to know: how pairs are written.

use super::{Applying, ROWS};
use crate::fetch_among;
use crate::roster::files::{File, Mode};
use crate::roster::{Changes, ImportError};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// The roles that speak for a student.
const SPEAKERS: [&str; 3] = ["guardian", "parent", "relative"];

/// Guardian and student.
type Pair = (Uuid, Uuid);

impl Applying<'_> {
    /// Compares and writes all of it, a page of people at a time.
    pub(super) async fn guardianships(&self) -> Result<Changes, ImportError> {
        let mut changes = Changes::default();
        if self.source.mode(File::Users) == Mode::Absent {
            return Ok(changes);
        }
        let mut after = String::new();
        loop {
            let page = self.staged.rows(File::Users, &after, ROWS).await?;
            let Some(last) = page.last() else { return Ok(changes) };
            after.clone_from(&last.source_id);
            // Each who lists somebody, or did until now.
            let mut listed: Vec<(String, BTreeSet<String>)> = Vec::new();
            for row in page.iter().filter(|row| !row.deleted) {
                let agents = row.values().list("agentSourcedIds").map(str::to_owned).collect();
                listed.push((row.source_id.clone(), agents));
            }
            let listers: Vec<Uuid> = listed.iter().map(|(lister, _)| self.id(File::Users, lister)).collect();
            let mut had: HashMap<Uuid, BTreeSet<Pair>> = HashMap::new();
            let rows = fetch_among!(self.db.long_reads(), (Uuid, Uuid, Uuid), uuid: listers,
                "SELECT listed_by, guardian_id, student_id FROM guardianship WHERE listed_by", "")?;
            for (lister, guardian, student) in rows {
                had.entry(lister).or_default().insert((guardian, student));
            }
            let about: BTreeSet<String> = listed
                .iter()
                .filter(|(_, agents)| !agents.is_empty())
                .flat_map(|(lister, agents)| agents.iter().chain([lister]))
                .cloned()
                .collect();
            let roles = self.roles_of(&about.into_iter().collect::<Vec<_>>()).await?;
            let mut differing = Vec::new();
            for (lister, agents) in listed {
                let id = self.id(File::Users, &lister);
                let had = had.remove(&id).unwrap_or_default();
                let wants = self.pairs(&lister, &agents, &roles);
                if wants != had {
                    changes.added += wants.difference(&had).count() as u64;
                    changes.removed += had.difference(&wants).count() as u64;
                    differing.push((id, wants));
                }
            }
            if !differing.is_empty() && !self.dry_run {
                let mut tx = self.db.begin().await?;
                self.store_guardianships(&mut tx, &differing).await?;
                tx.commit().await?;
            }
        }
    }

    /// One side is a student, the other speaks for them.
    fn pairs(&self, lister: &str, agents: &BTreeSet<String>, roles: &HashMap<String, Vec<String>>) -> BTreeSet<Pair> {
        let is = |who: &str, of: &dyn Fn(&str) -> bool| {
            roles.get(who).is_some_and(|roles| roles.iter().any(|role| of(role)))
        };
        let is_student = |who: &str| is(who, &|role| role == "student");
        let speaks = |who: &str| is(who, &|role| SPEAKERS.contains(&role));
        let own = self.id(File::Users, lister);
        agents
            .iter()
            .filter_map(|agent| {
                let other = self.id(File::Users, agent);
                if speaks(lister) && is_student(agent) {
                    Some((own, other))
                } else if is_student(lister) && speaks(agent) {
                    Some((other, own))
                } else {
                    None
                }
            })
            .collect()
    }

    /// What people are: as the roster says, else as is known.
    async fn roles_of(&self, ids: &[String]) -> Result<HashMap<String, Vec<String>>, ImportError> {
        let mut roles: HashMap<String, Vec<String>> = HashMap::new();
        let mut unsaid: Vec<&str> = Vec::new();
        for some in ids.chunks(ROWS as usize) {
            let mut by_row = self.roles_by_row(some).await?;
            let rows = self.staged.rows_of(File::Users, some).await?;
            for row in rows.into_iter().filter(|row| !row.deleted) {
                let said = by_row.remove(&row.source_id).unwrap_or_default();
                let mut said: Vec<String> = said.into_iter().map(|at| at.role).collect();
                said.extend(Some(row.values().get("role").to_ascii_lowercase()).filter(|role| !role.is_empty()));
                if !said.is_empty() {
                    roles.insert(row.source_id, said);
                }
            }
            unsaid.extend(some.iter().map(String::as_str).filter(|id| !roles.contains_key(*id)));
        }
        for some in unsaid.chunks(ROWS as usize) {
            let people: Vec<Uuid> = some.iter().map(|id| self.id(File::Users, id)).collect();
            let known = fetch_among!(self.db.long_reads(), (String, String), uuid: people,
                "SELECT DISTINCT p.source_id, r.role FROM person_role r JOIN person p ON p.id = r.person_id WHERE r.person_id", "")?;
            for (person, role) in known {
                roles.entry(person).or_default().push(role);
            }
        }
        Ok(roles)
    }
}
