//! Who somebody is: invitations, signing in, and staying signed in.
//!
//! Owns: one-time links and codes, the tokens that follow them, and looking a token up. Secrets are stored as SHA-256.
//! Refuses to know: rooms, and how a cookie travels (see `cookie` and `routes`).
//!
//! A link holds 256 bits. A code has eight letters of 20, about 35 bits: enough only because it is tried against one
//! person's invitations, five times. So signing in by code takes the person's sign-in name too.

pub mod arriving;
pub mod cookie;
pub mod limits;
pub mod routes;
pub mod secret;

#[cfg(test)]
mod tests;

use crate::db::{Db, Engine, Tx};
use crate::{execute, fetch_all, fetch_optional};
use chrono::{DateTime, Duration, Utc};
use homeroom_protocol::{Language, PersonId, Timestamp};
use secret::Secret;
use serde_json::Value;
use std::collections::HashSet;
use uuid::Uuid;

/// How long an invitation may be used.
const INVITATION: Duration = Duration::days(14);
/// Wrong codes before an invitation's code is worth nothing. Its link still works.
const TRIES: i64 = 5;
/// How long a sign-in lasts without being used.
const LOGIN: Duration = Duration::days(30);
/// A sign-in's use is noted at most so often.
const NOTED: Duration = Duration::hours(1);

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The sign-in: one device.
    pub login: Uuid,
    /// Who.
    pub person: PersonId,
    /// Given and family name.
    pub name: String,
    /// The language they read.
    pub language: Language,
}

/// A one-time link and code, shown once.
#[derive(Debug)]
pub struct Invitation {
    /// Whose.
    pub person: PersonId,
    /// Given and family name.
    pub name: String,
    /// The sign-in name that goes with the code.
    pub username: String,
    /// What the link ends with.
    pub secret: Secret,
    /// Eight letters.
    pub code: Secret,
    /// When both run out.
    pub expires_at: Timestamp,
}

/// A fresh sign-in.
#[derive(Debug)]
pub struct Login {
    /// Who.
    pub who: LoggedIn,
    /// The cookie's value or bearer token, shown once.
    pub token: Secret,
    /// When it runs out unless it is used.
    pub expires_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct LoginRow {
    id: Uuid,
    token_hash: Vec<u8>,
    used_at: DateTime<Utc>,
    person_id: Uuid,
    given_name: String,
    family_name: String,
    language: String,
}

impl LoginRow {
    /// Whether its use was not noted for a while.
    fn is_unnoted(&self, now: DateTime<Utc>) -> bool {
        now - self.used_at > NOTED
    }

    /// Who it is, behind the hash of their token.
    fn into_logged_in(self) -> (Vec<u8>, LoggedIn) {
        let who = LoggedIn {
            login: self.id,
            person: PersonId(self.person_id),
            name: full_name(&self.given_name, &self.family_name),
            language: Language::parse(&self.language).unwrap_or_else(|_| Language::english()),
        };
        (self.token_hash, who)
    }
}

/// Who a token belongs to; `None` when it is unknown, has run out, or its person is no longer at the school.
///
/// # Errors
/// When the database does not answer.
pub async fn who(db: &Db, token: &str) -> Result<Option<LoggedIn>, sqlx::Error> {
    let now = Utc::now();
    let row = fetch_optional!(
        db.reads(),
        LoginRow,
        "SELECT l.id, l.token_hash, l.used_at, p.id AS person_id, p.given_name, p.family_name, p.language
         FROM login l JOIN person p ON p.id = l.person_id
         WHERE l.token_hash = $1 AND l.expires_at > $2 AND p.enabled",
        secret::hash(token),
        now
    )?;
    let Some(row) = row else { return Ok(None) };
    if row.is_unnoted(now) {
        note(db, &[row.id]).await;
    }
    Ok(Some(row.into_logged_in().1))
}

/// Notes that these sign-ins are used. Somebody may read although nothing can be written, on a full disk for instance: the next use
/// notes it.
async fn note(db: &Db, logins: &[Uuid]) {
    if !logins.is_empty()
        && let Err(error) = note_use(db, logins, Utc::now()).await
    {
        tracing::warn!(%error, "the use of a sign-in was not noted");
    }
}

/// Several requests of one page may come at once: the first one writes.
async fn note_use(db: &Db, logins: &[Uuid], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let (until, before) = (now + LOGIN, now - NOTED);
    match db.writes() {
        Engine::Postgres(pool) => {
            sqlx::query("UPDATE login SET used_at = $2, expires_at = $3 WHERE id = ANY($1) AND used_at < $4")
                .bind(logins)
                .bind(now)
                .bind(until)
                .bind(before)
                .execute(pool)
                .await?;
        }
        Engine::Sqlite(pool) => {
            let logins = logins.iter().map(|login| Value::String(login.simple().to_string())).collect();
            sqlx::query(
                "UPDATE login SET used_at = $2, expires_at = $3
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND used_at < $4",
            )
            .bind(Value::Array(logins))
            .bind(now)
            .bind(until)
            .bind(before)
            .execute(pool)
            .await?;
        }
    }
    Ok(())
}

/// Given and family name as one.
#[must_use]
pub fn full_name(given: &str, family: &str) -> String {
    format!("{given} {family}").trim().to_owned()
}

/// The people whom somebody means by a `sourcedId` or sign-in name of the roster.
///
/// # Errors
/// When the database does not answer.
pub async fn find(db: &Db, words: &str) -> Result<Vec<PersonId>, sqlx::Error> {
    let rows = fetch_all!(
        db.reads(),
        (Uuid,),
        "SELECT id FROM person WHERE (source_id = $1 OR username = $1) AND enabled ORDER BY id",
        words
    )?;
    Ok(rows.into_iter().map(|(id,)| PersonId(id)).collect())
}

/// Everybody who is staff, or a guardian, in some room now.
///
/// # Errors
/// When the database does not answer.
pub async fn of_role(db: &Db, role: homeroom_protocol::Role) -> Result<Vec<PersonId>, sqlx::Error> {
    let role = match role {
        homeroom_protocol::Role::Staff => "staff",
        homeroom_protocol::Role::Guardian => "guardian",
        // Nobody is that.
        homeroom_protocol::Role::Unknown => "unknown",
    };
    let rows = fetch_all!(
        db.reads(),
        (Uuid,),
        "SELECT DISTINCT m.person_id FROM membership m JOIN person p ON p.id = m.person_id
         WHERE m.role = $1 AND m.left_seq IS NULL AND p.enabled ORDER BY m.person_id",
        role
    )?;
    Ok(rows.into_iter().map(|(id,)| PersonId(id)).collect())
}

/// Makes a one-time link and code for somebody; `None` when there is no such person.
///
/// # Errors
/// When the database does not answer.
pub async fn invite(db: &Db, person: PersonId) -> Result<Option<Invitation>, sqlx::Error> {
    let row = fetch_optional!(
        db.reads(),
        (String, String, String),
        "SELECT given_name, family_name, username FROM person WHERE id = $1 AND enabled",
        person.0
    )?;
    let Some((given, family, username)) = row else { return Ok(None) };
    let (link, code) = (Secret::link(), Secret::code());
    let now = Utc::now();
    let expires_at = now + INVITATION;
    execute!(
        db.writes(),
        "INSERT INTO invitation (id, person_id, secret_hash, code_hash, tries_left, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        Uuid::now_v7(),
        person.0,
        link.hash(),
        code.hash(),
        TRIES,
        now,
        expires_at
    )?;
    Ok(Some(Invitation {
        person,
        name: full_name(&given, &family),
        username,
        secret: link,
        code,
        expires_at: expires_at.into(),
    }))
}

/// Uses up a link; `None` when it is unknown, used, or has run out.
///
/// # Errors
/// When the database does not answer.
pub async fn sign_in_with_link(db: &Db, link: &str) -> Result<Option<Login>, sqlx::Error> {
    let now = Utc::now();
    let mut tx = db.begin().await?;
    let used = fetch_optional!(
        tx.on(),
        (Uuid,),
        "UPDATE invitation SET used_at = $2
         WHERE secret_hash = $1 AND used_at IS NULL AND expires_at > $2
           AND EXISTS (SELECT 1 FROM person p WHERE p.id = invitation.person_id AND p.enabled)
         RETURNING person_id",
        secret::hash(link),
        now
    )?;
    match used {
        Some((person,)) => log_in(db, tx, PersonId(person)).await,
        None => Ok(None),
    }
}

/// Uses up a code of one of the person's invitations; `None` when it is wrong, used, has run out, or has no try left. A wrong
/// code costs each of their open invitations a try. The name is taken as it is or in small letters: telephones begin with a
/// capital.
///
/// # Errors
/// When the database does not answer.
pub async fn sign_in_with_code(db: &Db, name: &str, code: &str) -> Result<Option<Login>, sqlx::Error> {
    let now = Utc::now();
    let name = name.trim();
    // PostgreSQL refuses this character, and nobody's name has it.
    if name.contains('\0') {
        return Ok(None);
    }
    // One statement takes the try and compares, so that six guesses at once are not six tries.
    let tried = fetch_all!(
        db.writes(),
        (Uuid, Uuid, Vec<u8>),
        "UPDATE invitation SET tries_left = tries_left - 1
         WHERE used_at IS NULL AND expires_at > $2 AND tries_left > 0
           AND person_id IN (SELECT id FROM person WHERE username IN ($1, $3) AND enabled)
         RETURNING id, person_id, code_hash",
        name,
        now,
        name.to_lowercase()
    )?;
    let given = secret::hash(&secret::normalised_code(code));
    let Some((invitation, person, _)) = tried.into_iter().find(|(_, _, code)| *code == given) else { return Ok(None) };
    let mut tx = db.begin().await?;
    let used =
        execute!(tx.on(), "UPDATE invitation SET used_at = $2 WHERE id = $1 AND used_at IS NULL", invitation, now)?;
    if used == 0 { Ok(None) } else { log_in(db, tx, PersonId(person)).await }
}

/// In the transaction that used the invitation up: neither is lost without the other.
async fn log_in(db: &Db, mut tx: Tx, person: PersonId) -> Result<Option<Login>, sqlx::Error> {
    let token = Secret::link();
    let now = Utc::now();
    let expires_at = now + LOGIN;
    execute!(
        tx.on(),
        "INSERT INTO login (id, token_hash, person_id, created_at, used_at, expires_at) VALUES ($1, $2, $3, $4, $4, $5)",
        Uuid::now_v7(),
        token.hash(),
        person.0,
        now,
        expires_at
    )?;
    execute!(tx.on(), "UPDATE person SET reached_at = $2 WHERE id = $1 AND reached_at IS NULL", person.0, now)?;
    tx.commit().await?;
    Ok(who(db, token.reveal()).await?.map(|who| Login { who, token, expires_at: expires_at.into() }))
}

/// Ends one sign-in. Its live sessions are the caller's to end.
///
/// # Errors
/// When the database does not answer.
pub async fn sign_out(db: &Db, login: Uuid) -> Result<(), sqlx::Error> {
    execute!(db.writes(), "DELETE FROM login WHERE id = $1", login).map(|_| ())
}

/// Which of these sign-ins still stand; those that do are in use, and noted as such. Live sessions are looked at so: one whose
/// end this node was not told of must not go on.
///
/// # Errors
/// When the database does not answer.
pub async fn still_signed_in(db: &Db, logins: &[Uuid]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let now = Utc::now();
    let rows: Vec<(Uuid, DateTime<Utc>)> = match db.reads() {
        Engine::Postgres(pool) => {
            sqlx::query_as(
                "SELECT l.id, l.used_at FROM login l JOIN person p ON p.id = l.person_id
                 WHERE l.id = ANY($1) AND l.expires_at > $2 AND p.enabled",
            )
            .bind(logins)
            .bind(now)
            .fetch_all(pool)
            .await?
        }
        Engine::Sqlite(pool) => {
            let ids = logins.iter().map(|login| Value::String(login.simple().to_string())).collect();
            sqlx::query_as(
                "SELECT l.id, l.used_at FROM login l JOIN person p ON p.id = l.person_id
                 WHERE l.id IN (SELECT unhex(value) FROM json_each($1)) AND l.expires_at > $2 AND p.enabled",
            )
            .bind(Value::Array(ids))
            .bind(now)
            .fetch_all(pool)
            .await?
        }
    };
    let unnoted: Vec<Uuid> =
        rows.iter().filter(|(_, used_at)| now - *used_at > NOTED).map(|(login, _)| *login).collect();
    if !unnoted.is_empty() {
        note_use(db, &unnoted, now).await?;
    }
    Ok(rows.into_iter().map(|(login, _)| login).collect())
}

/// Ends all sign-ins of somebody and makes their open invitations worthless. Gives the ids of the sign-ins.
///
/// # Errors
/// When the database does not answer.
pub async fn sign_out_everywhere(db: &Db, person: PersonId) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut tx = db.begin().await?;
    let logins = sign_out_within(&mut tx, person).await?;
    tx.commit().await?;
    Ok(logins)
}

/// The same within a transaction: whoever leaves the school is signed out in the same step.
///
/// # Errors
/// When the database does not answer.
pub async fn sign_out_within(tx: &mut Tx, person: PersonId) -> Result<Vec<Uuid>, sqlx::Error> {
    execute!(
        tx.on(),
        "UPDATE invitation SET used_at = $2 WHERE person_id = $1 AND used_at IS NULL",
        person.0,
        Utc::now()
    )?;
    let rows = fetch_all!(tx.on(), (Uuid,), "DELETE FROM login WHERE person_id = $1 RETURNING id", person.0)?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// Changes the language that somebody reads. From then on it is theirs: the roster does not change it back.
///
/// # Errors
/// When the database does not answer.
pub async fn choose_language(db: &Db, person: PersonId, language: &Language) -> Result<(), sqlx::Error> {
    execute!(
        db.writes(),
        "UPDATE person SET language = $2, language_chosen = TRUE WHERE id = $1",
        person.0,
        language.as_str()
    )
    .map(|_| ())
}

/// Deletes sign-ins that have run out, and invitations that were used or ran out a month ago.
///
/// # Errors
/// When the database does not answer.
pub async fn sweep(db: &Db) -> Result<(), sqlx::Error> {
    let now = Utc::now();
    execute!(db.writes(), "DELETE FROM login WHERE expires_at < $1", now)?;
    execute!(db.writes(), "DELETE FROM invitation WHERE expires_at < $1", now - LOGIN)?;
    Ok(())
}
