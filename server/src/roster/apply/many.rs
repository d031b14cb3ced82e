//! Writing rows of which there are many: people, their roles, enrolments, and who speaks for whom.
//!
//! Owns: these statements, one for a page of rows, which travel as JSON on both engines. Refuses to know: whether a row differs.

use super::people::RoleAt;
use super::{Applying, Wanted};
use crate::db::{Engine, Tx};
use crate::roster::ImportError;
use crate::roster::files::{self, File};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Runs a statement over rows given as JSON: `rows!(tx, rows, "of PostgreSQL", "of SQLite")`, each with `$1` for the rows.
macro_rules! over {
    ($tx:expr, $rows:expr, $postgres:expr, $sqlite:expr $(, $bind:expr)*) => {
        match $tx.on() {
            Engine::Postgres(on) => sqlx::query($postgres).bind($rows)$(.bind($bind))*.execute(on).await.map(drop),
            Engine::Sqlite(on) => sqlx::query($sqlite).bind($rows)$(.bind($bind))*.execute(on).await.map(drop),
        }
    };
}

fn hex(id: Uuid) -> String {
    id.simple().to_string()
}

impl Applying<'_> {
    pub(super) async fn store_people(&self, tx: &mut Tx, people: &[Wanted]) -> Result<(), ImportError> {
        if people.is_empty() {
            return Ok(());
        }
        let rows: Vec<Value> = people
            .iter()
            .map(|wanted| {
                let get = |column: &str| wanted.values.get(column);
                let optional = |column: &str| Some(get(column)).filter(|value| !value.is_empty());
                json!([
                    hex(wanted.id),
                    wanted.source_id,
                    data_encoding::HEXLOWER.encode(&wanted.digest),
                    get("username"),
                    get("givenName"),
                    get("familyName"),
                    wanted.language,
                    optional("email"),
                    optional("sms").or(optional("phone")),
                    wanted.birth_date,
                    matches!(get("enabledUser").to_ascii_lowercase().as_str(), "true" | "1"),
                ])
            })
            .collect();
        macro_rules! upsert {
            ($values:literal, $from:literal) => {
                concat!(
                    "INSERT INTO person (id, source_id, source_digest, username, given_name, family_name, language, email, phone,
                                         birth_date, enabled, district_id) SELECT ", $values, ", $2 FROM ", $from,
                    " ON CONFLICT (id) DO UPDATE SET source_digest = excluded.source_digest, username = excluded.username,
                        given_name = excluded.given_name, family_name = excluded.family_name,
                        language = CASE WHEN person.language_chosen THEN person.language ELSE excluded.language END,
                        email = excluded.email, phone = excluded.phone, birth_date = excluded.birth_date,
                        enabled = excluded.enabled"
                )
            };
        }
        over!(
            tx,
            Value::Array(rows),
            upsert!(
                "(value ->> 0)::uuid, value ->> 1, decode(value ->> 2, 'hex'), value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                 value ->> 7, value ->> 8, value ->> 9, (value ->> 10)::boolean",
                "jsonb_array_elements($1) AS row (value)"
            ),
            upsert!(
                "unhex(value ->> 0), value ->> 1, unhex(value ->> 2), value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                 value ->> 7, value ->> 8, value ->> 9, value ->> 10",
                "json_each($1) WHERE TRUE"
            ),
            self.district
        )?;
        let roles: Vec<(Uuid, &BTreeSet<RoleAt>)> = people.iter().map(|wanted| (wanted.id, &wanted.roles)).collect();
        self.store_roles(tx, &roles).await
    }

    /// Puts these roles in the place of those that the people had.
    pub(super) async fn store_roles(
        &self,
        tx: &mut Tx,
        people: &[(Uuid, &BTreeSet<RoleAt>)],
    ) -> Result<(), ImportError> {
        let ids = Value::Array(people.iter().map(|(person, _)| Value::String(hex(*person))).collect());
        over!(
            tx,
            ids,
            "DELETE FROM person_role WHERE person_id IN (SELECT value::uuid FROM jsonb_array_elements_text($1) AS row (value))",
            "DELETE FROM person_role WHERE person_id IN (SELECT unhex(value) FROM json_each($1))"
        )?;
        let rows: Vec<Value> = people
            .iter()
            .flat_map(|(person, roles)| {
                roles.iter().map(|at| json!([hex(*person), hex(self.id(File::Orgs, &at.org)), at.role, at.said_by]))
            })
            .collect();
        over!(
            tx,
            Value::Array(rows),
            "INSERT INTO person_role (person_id, school_id, role, source_id)
             SELECT (value ->> 0)::uuid, (value ->> 1)::uuid, value ->> 2, value ->> 3 FROM jsonb_array_elements($1) AS row (value)",
            "INSERT INTO person_role (person_id, school_id, role, source_id)
             SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3 FROM json_each($1)"
        )?;
        Ok(())
    }

    pub(super) async fn store_enrollments(&self, tx: &mut Tx, enrollments: &[Wanted]) -> Result<(), ImportError> {
        let rows: Vec<Value> = enrollments
            .iter()
            .map(|wanted| {
                let get = |column: &str| wanted.values.get(column);
                let day = |column: &str| Some(files::date(get(column))).filter(|day| !day.is_empty());
                json!([
                    hex(wanted.id),
                    wanted.source_id,
                    data_encoding::HEXLOWER.encode(&wanted.digest),
                    hex(self.id(File::Classes, get("classSourcedId"))),
                    hex(self.id(File::Users, get("userSourcedId"))),
                    get("role").to_ascii_lowercase(),
                    day("beginDate"),
                    day("endDate"),
                ])
            })
            .collect();
        macro_rules! upsert {
            ($values:literal, $from:literal) => {
                concat!(
                    "INSERT INTO enrollment (id, source_id, source_digest, class_id, person_id, role, begins_on, ends_on, district_id)
                     SELECT ", $values, ", $2 FROM ", $from,
                    " ON CONFLICT (id) DO UPDATE SET source_digest = excluded.source_digest, class_id = excluded.class_id,
                        person_id = excluded.person_id, role = excluded.role, begins_on = excluded.begins_on,
                        ends_on = excluded.ends_on"
                )
            };
        }
        over!(
            tx,
            Value::Array(rows),
            upsert!(
                "(value ->> 0)::uuid, value ->> 1, decode(value ->> 2, 'hex'), (value ->> 3)::uuid, (value ->> 4)::uuid,
                 value ->> 5, value ->> 6, value ->> 7",
                "jsonb_array_elements($1) AS row (value)"
            ),
            upsert!(
                "unhex(value ->> 0), value ->> 1, unhex(value ->> 2), unhex(value ->> 3), unhex(value ->> 4), value ->> 5,
                 value ->> 6, value ->> 7",
                "json_each($1) WHERE TRUE"
            ),
            self.district
        )?;
        Ok(())
    }

    /// Puts these pairs of guardian and student in the place of those that each lister's row listed until now.
    pub(super) async fn store_guardianships(
        &self,
        tx: &mut Tx,
        by_lister: &[(Uuid, BTreeSet<(Uuid, Uuid)>)],
    ) -> Result<(), ImportError> {
        let listers = Value::Array(by_lister.iter().map(|(lister, _)| Value::String(hex(*lister))).collect());
        over!(
            tx,
            listers,
            "DELETE FROM guardianship WHERE listed_by IN (SELECT value::uuid FROM jsonb_array_elements_text($1) AS row (value))",
            "DELETE FROM guardianship WHERE listed_by IN (SELECT unhex(value) FROM json_each($1))"
        )?;
        let rows: Vec<Value> = by_lister
            .iter()
            .flat_map(|(lister, pairs)| {
                pairs.iter().map(|(guardian, student)| json!([hex(*guardian), hex(*student), hex(*lister)]))
            })
            .collect();
        over!(
            tx,
            Value::Array(rows),
            "INSERT INTO guardianship (guardian_id, student_id, listed_by)
             SELECT (value ->> 0)::uuid, (value ->> 1)::uuid, (value ->> 2)::uuid FROM jsonb_array_elements($1) AS row (value)",
            "INSERT INTO guardianship (guardian_id, student_id, listed_by)
             SELECT unhex(value ->> 0), unhex(value ->> 1), unhex(value ->> 2) FROM json_each($1)"
        )?;
        Ok(())
    }
}
