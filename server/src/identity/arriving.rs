//! The question with which each session begins: who is it, and where are they?
//!
//! Owns: asking it of many tokens at once, in one query with a row for each. After a node's death thousands come to another one.
//! Refuses to know: what a place is (see `log::places`), and sessions.

use super::{LoggedIn, LoginRow, note};
use crate::db::{Db, Engine};
use crate::log::{Place, places};
use chrono::Utc;
use data_encoding::HEXLOWER;
use homeroom_protocol::PersonId;
use serde_json::Value;
use std::collections::HashMap;
use uuid::Uuid;

/// Somebody who comes.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Who they are.
    pub who: LoggedIn,
    /// The rooms that they are in, by title.
    pub places: Vec<Place>,
}

/// Those who come.
#[derive(Debug)]
pub struct Arrivals {
    /// Who each token belongs to; `None` for one that is unknown or has run out.
    pub found: Vec<Option<Arrival>>,
    /// The sign-ins whose use was not noted for a while.
    unnoted: Vec<Uuid>,
}

impl Arrivals {
    /// Notes that the sign-ins are used.
    pub async fn note(&self, db: &Db) {
        note(db, &self.unnoted).await;
    }
}

#[derive(sqlx::FromRow)]
struct ArrivalRow {
    #[sqlx(flatten)]
    login: LoginRow,
    places: Option<String>,
}

macro_rules! arrivals {
    ($places:expr, $among:literal) => {
        concat!(
            "SELECT l.id, l.token_hash, l.used_at, p.id AS person_id, p.given_name, p.family_name, p.language, ",
            $places,
            " AS places FROM login l JOIN person p ON p.id = l.person_id WHERE l.token_hash ",
            $among,
            " AND l.expires_at > $2 AND p.enabled"
        )
    };
}

/// The question on each engine, for who asks how they run it: hashes (on SQLite as hexadecimal JSON), now.
pub mod statement {
    /// For PostgreSQL.
    pub const POSTGRES: &str = arrivals!(crate::places_postgres!("p.id"), "= ANY($1)");
    /// For SQLite.
    pub const SQLITE: &str = arrivals!(crate::places_sqlite!("p.id"), "IN (SELECT unhex(value) FROM json_each($1))");
}

/// Who tokens with these hashes belong to, and where they are. One query.
///
/// # Errors
/// When the database does not answer.
pub async fn arrivals(db: &Db, hashes: &[Vec<u8>]) -> Result<Arrivals, sqlx::Error> {
    let now = Utc::now();
    let rows: Vec<ArrivalRow> = match db.reads() {
        Engine::Postgres(pool) => sqlx::query_as(statement::POSTGRES).bind(hashes).bind(now).fetch_all(pool).await?,
        Engine::Sqlite(pool) => {
            let hashes = hashes.iter().map(|hash| Value::String(HEXLOWER.encode(hash))).collect();
            sqlx::query_as(statement::SQLITE).bind(Value::Array(hashes)).bind(now).fetch_all(pool).await?
        }
    };
    let unnoted = rows.iter().map(|row| &row.login).filter(|login| login.is_unnoted(now));
    let unnoted = unnoted.map(|login| login.id).collect();
    let mut known = HashMap::with_capacity(rows.len());
    for ArrivalRow { login, places } in rows {
        let places = places::read(PersonId(login.person_id), places.as_deref())?;
        let (hash, who) = login.into_logged_in();
        known.insert(hash, Arrival { who, places });
    }
    // The same token may be asked for twice.
    Ok(Arrivals { found: hashes.iter().map(|hash| known.get(hash).cloned()).collect(), unnoted })
}
