//! Writing rows of which there are few: schools, terms, courses, classes and their rooms; and taking rows away.
//!
//! Owns: these statements. Refuses to know: whether a row differs (see `apply`), and people and enrolments (see `many`).

use super::{Applying, Wanted};
use crate::db::Tx;
use crate::execute;
use crate::identity;
use crate::roster::ImportError;
use crate::roster::files::{self, File};
use homeroom_protocol::PersonId;
use std::collections::BTreeSet;
use uuid::Uuid;

impl Applying<'_> {
    pub(super) async fn store(&self, tx: &mut Tx, file: File, wanted: &Wanted) -> Result<(), ImportError> {
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
            // Of these there are many: see `many`.
            File::Users | File::Enrollments | File::Roles | File::Demographics => {}
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

    pub(super) async fn remove(&self, tx: &mut Tx, file: File, id: Uuid) -> Result<(), ImportError> {
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
        if file == File::Users {
            identity::sign_out_within(tx, PersonId(id)).await?;
        }
        for text in texts {
            if text.contains("$2") {
                execute!(tx.on(), *text, id, Vec::<u8>::new())?;
            } else {
                execute!(tx.on(), *text, id)?;
            }
        }
        Ok(())
    }
}
