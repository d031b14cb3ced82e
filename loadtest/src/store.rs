//! Reads what the database holds, for the checker.
//!
//! Owns: the SQL. Refuses to know: the server's code: it reads the tables as `migrations/` describes them.

use crate::checker::history::{Kind, Member, Place, Stored, StoredMark, Truth};
use crate::roll::Roll;
use chrono::{DateTime, Days, Utc};
use homeroom_protocol::{ClientId, ConversationId, EventId, Mark, PersonId, RoomId};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use std::collections::HashMap;
use std::path::Path;
use uuid::Uuid;

/// A database: an SQLite file of a server that does not run, or a PostgreSQL.
#[derive(Debug)]
pub struct Store {
    pool: Pool,
}

#[derive(Debug)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// All rows of a query, on whichever engine it is.
macro_rules! rows {
    ($store:expr, $text:expr) => {
        match &$store.pool {
            Pool::Sqlite(pool) => sqlx::query_as($text).fetch_all(pool).await?,
            Pool::Postgres(pool) => sqlx::query_as($text).fetch_all(pool).await?,
        }
    };
}

/// Runs a statement with values, in a transaction.
macro_rules! write {
    ($transaction:expr, $text:expr, $($value:expr),*) => {
        sqlx::query($text)$(.bind($value))*.execute(&mut *$transaction).await?
    };
}

#[derive(sqlx::FromRow)]
struct EventRow {
    room_id: Uuid,
    seq: i64,
    id: Uuid,
    kind: String,
    conversation_id: Option<Uuid>,
    n: Option<i64>,
    root_id: Option<Uuid>,
    author_id: Option<Uuid>,
    client_id: Option<Uuid>,
    body: Option<String>,
    at: DateTime<Utc>,
}

/// The `body` of a change of membership.
#[derive(Deserialize)]
struct MemberBody {
    person: PersonId,
    student: Option<PersonId>,
    joins: bool,
    sees_after: i64,
}

impl Store {
    /// Opens it. (Not read-only: after a kill -9 the write-ahead log has to be recovered.)
    ///
    /// # Errors
    /// When it can't be opened.
    pub async fn open(file: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(false);
        Ok(Self { pool: Pool::Sqlite(SqlitePoolOptions::new().max_connections(1).connect_with(options).await?) })
    }

    /// Connects to a PostgreSQL.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn postgres(url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self { pool: Pool::Postgres(PgPoolOptions::new().max_connections(2).connect(url).await?) })
    }

    /// Lets go of its connections.
    pub async fn close(self) {
        match self.pool {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }

    /// All events of all rooms, and all marks; who should be where is the roll's to say.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn truth(&self, roll: &Roll) -> Result<Truth, sqlx::Error> {
        // Marks first: none of them is then past the end of what is read after them.
        let marks = self.marks().await?;
        let rows: Vec<EventRow> = rows!(
            self,
            "SELECT room_id, seq, id, kind, conversation_id, n, root_id, author_id, client_id, body, at
             FROM event ORDER BY room_id, seq"
        );
        let events = rows.into_iter().map(|row| row.into_stored(roll)).collect();
        let mut truth = Truth { events, marks, ..Truth::default() };
        roll.complete(&mut truth);
        Ok(truth)
    }

    /// All marks.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn marks(&self) -> Result<Vec<StoredMark>, sqlx::Error> {
        let rows: Vec<(Uuid, Uuid, i64, i64)> =
            rows!(self, "SELECT conversation_id, person_id, delivered_n, read_n FROM mark");
        let mark = |(conversation, person, delivered, read): (Uuid, Uuid, i64, i64)| StoredMark {
            conversation: ConversationId(conversation),
            mark: Mark { person: PersonId(person), delivered: delivered.unsigned_abs(), read: read.unsigned_abs() },
        };
        Ok(rows.into_iter().map(mark).collect())
    }

    /// The rooms of the classes, by the classes' source ids.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn class_rooms(&self) -> Result<HashMap<String, RoomId>, sqlx::Error> {
        let rows: Vec<(String, Uuid)> =
            rows!(self, "SELECT class.source_id, room.id FROM room JOIN class ON class.id = room.class_id");
        Ok(rows.into_iter().map(|(source, room)| (source, RoomId(room))).collect())
    }

    /// The rooms of the schools.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn school_rooms(&self) -> Result<Vec<RoomId>, sqlx::Error> {
        let rows: Vec<(Uuid,)> = rows!(self, "SELECT id FROM room WHERE class_id IS NULL");
        Ok(rows.into_iter().map(|(room,)| RoomId(room)).collect())
    }

    /// Everybody, by source id.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn people(&self) -> Result<HashMap<String, PersonId>, sqlx::Error> {
        let rows: Vec<(String, Uuid)> = rows!(self, "SELECT source_id, id FROM person");
        Ok(rows.into_iter().map(|(source, person)| (source, PersonId(person))).collect())
    }

    /// Signs people in by writing it down: a token each, in the order given. For crowds: over HTTP a server takes thirty
    /// sign-ins a minute from one address.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn sign_in(&self, people: &[PersonId]) -> Result<Vec<String>, sqlx::Error> {
        let now = Utc::now();
        let expires = now.checked_add_days(Days::new(30)).unwrap_or(now);
        let text = "INSERT INTO login (id, token_hash, person_id, created_at, used_at, expires_at)
                    VALUES ($1, $2, $3, $4, $4, $5)";
        let tokens: Vec<String> =
            people.iter().map(|_| format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())).collect();
        let rows = people.iter().zip(&tokens);
        let hash = |token: &str| Sha256::digest(token.as_bytes()).to_vec();
        match &self.pool {
            Pool::Sqlite(pool) => {
                let mut transaction = pool.begin().await?;
                for (person, token) in rows {
                    write!(transaction, text, Uuid::now_v7(), hash(token), person.0, now, expires);
                }
                transaction.commit().await?;
            }
            Pool::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                for (person, token) in rows {
                    write!(transaction, text, Uuid::now_v7(), hash(token), person.0, now, expires);
                }
                transaction.commit().await?;
            }
        }
        Ok(tokens)
    }

    /// Lets people read in these languages, by turns.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn read_in(&self, languages: &[&str]) -> Result<(), sqlx::Error> {
        let people: Vec<(Uuid,)> = rows!(self, "SELECT id FROM person ORDER BY id");
        let text = "UPDATE person SET language = $1 WHERE id = $2";
        let rows = people.iter().zip(languages.iter().cycle());
        match &self.pool {
            Pool::Sqlite(pool) => {
                let mut transaction = pool.begin().await?;
                for ((person,), language) in rows {
                    write!(transaction, text, *language, *person);
                }
                transaction.commit().await
            }
            Pool::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                for ((person,), language) in rows {
                    write!(transaction, text, *language, *person);
                }
                transaction.commit().await
            }
        }
    }

    /// Messages that the next version has pinned, by the column that only it knows.
    ///
    /// # Errors
    /// When there is no such column.
    pub async fn pinned(&self) -> Result<i64, sqlx::Error> {
        let rows: Vec<(i64,)> = rows!(self, "SELECT COUNT(*) FROM event WHERE pinned_until IS NOT NULL");
        Ok(rows.first().map_or(0, |(count,)| *count))
    }

    /// Says that only a binary which knows the newest migration may run on this schema.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn require_newest(&self) -> Result<(), sqlx::Error> {
        let text = "UPDATE compatibility SET min_compatible_version = (SELECT MAX(version) FROM _sqlx_migrations)";
        match &self.pool {
            Pool::Sqlite(pool) => sqlx::query(text).execute(pool).await.map(drop),
            Pool::Postgres(pool) => sqlx::query(text).execute(pool).await.map(drop),
        }
    }

    /// SQLite's own check of its file.
    ///
    /// # Errors
    /// When it can't be run.
    pub async fn integrity(&self) -> Result<String, sqlx::Error> {
        match &self.pool {
            Pool::Sqlite(pool) => {
                let (verdict,): (String,) = sqlx::query_as("PRAGMA integrity_check").fetch_one(pool).await?;
                Ok(verdict)
            }
            // PostgreSQL checks its pages as it reads them.
            Pool::Postgres(_) => Ok("ok".to_owned()),
        }
    }
}

impl EventRow {
    fn into_stored(self, roll: &Roll) -> Stored {
        let kind = match self.kind.as_str() {
            "posted" => Kind::Posted,
            "edited" => Kind::Edited,
            "retracted" => Kind::Retracted,
            "member_joined" | "member_left" => Kind::Member,
            _ => Kind::Other,
        };
        let text = match kind {
            Kind::Posted | Kind::Edited => self.body.as_deref().and_then(text_of),
            Kind::Retracted | Kind::Member | Kind::Other => None,
        };
        let room = RoomId(self.room_id);
        let member = self.body.as_deref().filter(|_| kind == Kind::Member).and_then(|body| member_of(room, body));
        Stored {
            room,
            seq: self.seq,
            id: EventId(self.id),
            kind,
            conversation: self.conversation_id.map(ConversationId),
            // A number below zero can't be one; the checker then finds a number missing.
            n: self.n.and_then(|n| u64::try_from(n).ok()),
            root: self.root_id.map(EventId),
            author: self.author_id.map(PersonId),
            client_id: self.client_id.map(ClientId),
            text,
            member,
            known_by: member.and_then(|_| roll.known_by(self.at)),
        }
    }
}

/// A change of membership.
fn member_of(room: RoomId, body: &str) -> Option<Member> {
    let MemberBody { person, student, joins, sees_after } = serde_json::from_str(body).ok()?;
    Some(Member { place: Place { room, person, student }, joins, sees_after })
}

/// The original text of an envelope.
fn text_of(body: &str) -> Option<String> {
    let envelope: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(envelope.get("text")?.as_str()?.to_owned())
}
