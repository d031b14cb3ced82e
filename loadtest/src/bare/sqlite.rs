//! The least that SQLite must do to keep messages in order: a counter a room and a row a message, in one transaction that survives
//! the loss of power (`synchronous=FULL`). Homeroom's durable writes are told as ratios to it.
//!
//! Owns: a file of its own, in the layout that was found to be the fastest: rows in the order of their coming, with an index by room.
//! Refuses to know: all that Homeroom adds.

use super::messages::{Said, Stored};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use std::path::Path;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The one writer of a file.
pub struct Bare {
    on: SqliteConnection,
    rooms: Vec<Uuid>,
    next: usize,
}

impl Bare {
    /// Makes the file, with as many rooms.
    ///
    /// # Errors
    /// When it can't be made.
    pub async fn open(file: &Path, rooms: usize) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", "67108864")
            .pragma("wal_autocheckpoint", "16000");
        let mut on = SqliteConnection::connect_with(&options).await?;
        sqlx::raw_sql(
            "CREATE TABLE counter (room_id BLOB PRIMARY KEY, last_seq INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE message (room_id BLOB NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, author_id BLOB NOT NULL, body TEXT NOT NULL);
             CREATE UNIQUE INDEX message_by_room ON message (room_id, seq)",
        )
        .execute(&mut on)
        .await?;
        let rooms: Vec<Uuid> = (0..rooms.max(1)).map(|_| Uuid::new_v4()).collect();
        let mut tx = on.begin().await?;
        for room in &rooms {
            sqlx::query("INSERT INTO counter VALUES ($1, 0)").bind(room).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(Self { on, rooms, next: 0 })
    }

    /// Stores as fast as it goes, in batches of `size`; each message into another room, or each batch into one.
    ///
    /// # Errors
    /// When the database does not take them.
    pub async fn store(&mut self, size: usize, spread: bool, length: Duration) -> Result<Stored, sqlx::Error> {
        let began = Instant::now();
        let mut messages = 0;
        while began.elapsed() < length {
            self.batch(size, spread).await?;
            messages += size as u64;
        }
        Ok(Stored { messages, took: began.elapsed() })
    }

    async fn batch(&mut self, size: usize, spread: bool) -> Result<(), sqlx::Error> {
        let Said { ids, authors, bodies } = Said::new(size);
        let rooms: Vec<Uuid> = (0..size)
            .map(|index| self.rooms[(self.next + if spread { index } else { 0 }) % self.rooms.len()])
            .collect();
        self.next = (self.next + if spread { size } else { 1 }) % self.rooms.len();
        let said: Vec<_> = (0..size)
            .map(|at| {
                json!([
                    rooms[at].simple().to_string(),
                    ids[at].simple().to_string(),
                    authors[at].simple().to_string(),
                    bodies[at]
                ])
            })
            .collect();
        let said = serde_json::Value::Array(said);
        let mut tx = self.on.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO message (room_id, seq, id, author_id, body)
             SELECT said.room_id, last_seq + ROW_NUMBER() OVER (PARTITION BY said.room_id ORDER BY key), id, author_id, body
             FROM (SELECT key, unhex(value ->> 0) AS room_id, unhex(value ->> 1) AS id, unhex(value ->> 2) AS author_id,
                          value ->> 3 AS body FROM json_each($1)) AS said
             JOIN counter ON counter.room_id = said.room_id",
        )
        .bind(&said)
        .execute(&mut *tx)
        .await?;
        let raised = sqlx::query(
            "UPDATE counter SET last_seq = last_seq + said.messages
             FROM (SELECT unhex(value ->> 0) AS room_id, COUNT(*) AS messages FROM json_each($1) GROUP BY 1) AS said
             WHERE counter.room_id = said.room_id",
        )
        .bind(&said)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        if raised.rows_affected() > 0 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
    }
}
