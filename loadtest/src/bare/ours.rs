//! The least that PostgreSQL must do to keep messages as Homeroom keeps them: all columns, all indexes, the answers to client ids, the heads
//! of rooms and conversations and the bell, in one prepared statement that is a transaction by itself. Between it and the bare writer lies
//! what the layout costs, between it and Homeroom everything else.
//!
//! Owns: rooms of its own in Homeroom's tables. Refuses to know: who may write, what was sent twice, who is told.

use super::messages::{Said, Stored};
use futures_util::future::try_join_all;
use sqlx::{Connection, PgConnection};
use std::time::{Duration, Instant};
use uuid::Uuid;

const STORE: &str = "
    WITH said AS (
        INSERT INTO event (room_id, seq, id, kind, conversation_id, n, root_id, root_seq, author_id, client_id, urgent, body, at)
        SELECT room_id, seq, id, 'posted', room_id, seq, id, seq, author_id, client_id, FALSE, body, now()
        FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[]) AS said (room_id, seq, id, author_id, client_id, body)),
    answered AS (
        INSERT INTO client_command (author_id, client_id, digest, event_id, n)
        SELECT * FROM unnest($4::uuid[], $5::uuid[], $7::bytea[], $3::uuid[], $2::bigint[])),
    rung AS (INSERT INTO bell (room_id, head_seq) SELECT * FROM unnest($1::uuid[], $2::bigint[])),
    numbered AS (UPDATE conversation SET last_n = now.n, last_seq = now.n FROM unnest($1::uuid[], $2::bigint[]) AS now (id, n)
                 WHERE conversation.id = now.id)
    UPDATE room SET last_seq = head.seq, last_event_id = head.id
    FROM unnest($1::uuid[], $2::bigint[], $3::uuid[]) AS head (room_id, seq, id) WHERE room.id = head.room_id";

/// As a lane's connection is set: planned once, each row looked up by its key.
const BY_KEY: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
];

/// A connection with rooms of its own.
struct Writer {
    on: PgConnection,
    rooms: Vec<Uuid>,
    /// How many batches it has stored.
    batches: usize,
}

/// Connections to Homeroom's database.
pub struct Ours {
    writers: Vec<Writer>,
}

impl Ours {
    /// Makes as many rooms as there are, and connections that share them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(url: &str, connections: usize) -> Result<Self, sqlx::Error> {
        let mut on = PgConnection::connect(url).await?;
        let rooms: Vec<Uuid> = sqlx::query_scalar(
            "INSERT INTO room (id, district_id, kind, school_id, title)
             SELECT gen_random_uuid(), district_id, 'class', school_id, title FROM room RETURNING id",
        )
        .fetch_all(&mut on)
        .await?;
        sqlx::query("INSERT INTO conversation (id, room_id, last_n, last_seq) SELECT id, id, 0, 0 FROM unnest($1::uuid[]) AS id")
            .bind(&rooms)
            .execute(&mut on)
            .await?;
        on.close().await?;
        let options: sqlx::postgres::PgConnectOptions = url.parse()?;
        let options = options.options(BY_KEY);
        let writers = rooms.chunks_exact(rooms.len() / connections).take(connections).map(|rooms| async {
            let on = PgConnection::connect_with(&options).await?;
            Ok::<_, sqlx::Error>(Writer { on, rooms: rooms.to_vec(), batches: 0 })
        });
        Ok(Self { writers: try_join_all(writers).await? })
    }

    /// Stores as fast as it goes, in batches of `size`, each message into another room.
    ///
    /// # Errors
    /// When the database does not take them.
    pub async fn store(&mut self, size: usize, length: Duration) -> Result<Stored, sqlx::Error> {
        let began = Instant::now();
        let stored = try_join_all(self.writers.iter_mut().map(|writer| async move {
            let mut stored = 0;
            while began.elapsed() < length {
                stored += writer.batch(size).await?;
            }
            Ok::<_, sqlx::Error>(stored)
        }))
        .await?;
        Ok(Stored { messages: stored.iter().sum(), took: began.elapsed() })
    }
}

impl Writer {
    async fn batch(&mut self, size: usize) -> Result<u64, sqlx::Error> {
        // Round by round through its rooms: all of one round have the same seq.
        let rounds = self.rooms.len() / size;
        let (round, part) = (self.batches / rounds, self.batches % rounds);
        self.batches += 1;
        let rooms = &self.rooms[part * size..(part + 1) * size];
        let Said { ids, authors, bodies } = Said::new(size);
        let client_ids: Vec<Uuid> = (0..size).map(|_| Uuid::now_v7()).collect();
        let done = sqlx::query(STORE)
            .bind(rooms)
            .bind(vec![round as i64 + 1; size])
            .bind(ids)
            .bind(authors)
            .bind(client_ids)
            .bind(bodies)
            .bind(vec![vec![7_u8; 32]; size])
            .execute(&mut self.on)
            .await?;
        // A yardstick that stores less than it says would flatter nobody.
        if done.rows_affected() == size as u64 { Ok(size as u64) } else { Err(sqlx::Error::RowNotFound) }
    }
}
