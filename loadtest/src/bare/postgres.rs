//! The least that PostgreSQL must do to keep messages in order: a counter a room and a row a message, in one transaction. Homeroom's
//! durable writes are told as ratios to it.
//!
//! Owns: two tables of its own in whichever database it is given, and the fewest round trips: a prepared statement that is a
//! transaction by itself. Refuses to know: who may write, what was sent twice, conversations, edits, who is told: all that Homeroom
//! adds.

use super::messages::{Paced, Said, Stored};
use futures_util::future::try_join_all;
use sqlx::{Connection, PgConnection};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A batch of as many rooms as messages: each room's counter rises by one.
const EACH_ITS_ROOM: &str = "
    WITH said AS (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[]) AS said (room_id, id, author_id, body)),
         head AS (UPDATE bare_counter SET last_seq = last_seq + 1 FROM said WHERE bare_counter.room_id = said.room_id
                  RETURNING bare_counter.room_id, last_seq)
    INSERT INTO bare_message (room_id, seq, id, author_id, body)
    SELECT room_id, last_seq, id, author_id, body FROM head JOIN said USING (room_id)";

/// A batch of one room: its counter rises once.
const ALL_ONE_ROOM: &str = "
    WITH head AS (UPDATE bare_counter SET last_seq = last_seq + cardinality($2::uuid[]) WHERE room_id = $1
                  RETURNING last_seq - cardinality($2::uuid[]) AS before)
    INSERT INTO bare_message (room_id, seq, id, author_id, body)
    SELECT $1, before + place, id, author_id, body
    FROM head, unnest($2::uuid[], $3::uuid[], $4::text[]) WITH ORDINALITY AS said (id, author_id, body, place)";

/// A connection with rooms of its own: of those that store at once hardly two meet in one.
struct Writer {
    on: PgConnection,
    rooms: Vec<Uuid>,
    next: usize,
}

/// Connections to a database.
pub struct Bare {
    writers: Vec<Writer>,
}

impl Bare {
    /// Makes the tables anew, and `connections`, of which the first `few` are those that store in batches: they share as many rooms; the others
    /// have theirs of the same.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(url: &str, few: usize, connections: usize, rooms: usize) -> Result<Self, sqlx::Error> {
        let mut on = PgConnection::connect(url).await?;
        sqlx::raw_sql(
            "DROP TABLE IF EXISTS bare_message, bare_counter;
             CREATE TABLE bare_counter (room_id UUID PRIMARY KEY, last_seq BIGINT NOT NULL) WITH (fillfactor = 50);
             CREATE TABLE bare_message (room_id UUID NOT NULL, seq BIGINT NOT NULL, id UUID NOT NULL, author_id UUID NOT NULL,
                                        body TEXT NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT now(), PRIMARY KEY (room_id, seq))",
        )
        .execute(&mut on)
        .await?;
        let rooms: Vec<Uuid> = (0..rooms.max(connections)).map(|_| Uuid::new_v4()).collect();
        sqlx::query("INSERT INTO bare_counter SELECT room_id, 0 FROM unnest($1::uuid[]) AS room_id")
            .bind(&rooms)
            .execute(&mut on)
            .await?;
        // Planned for what is there, not for an empty table.
        sqlx::raw_sql("ANALYZE bare_counter").execute(&mut on).await?;
        on.close().await?;
        let shares = |among: usize| rooms.chunks_exact(rooms.len() / among).take(among);
        // The few store alone, and then have all the rooms among them.
        let shares = shares(few).chain(shares(connections).skip(few));
        let writers = shares.map(|rooms| async move {
            Ok::<_, sqlx::Error>(Writer { on: PgConnection::connect(url).await?, rooms: rooms.to_vec(), next: 0 })
        });
        Ok(Self { writers: try_join_all(writers).await? })
    }

    /// Stores as fast as it goes, on as many connections, in batches of `size`; each message into another room, or each batch into one.
    ///
    /// # Errors
    /// When the database does not take them.
    pub async fn store(
        &mut self,
        connections: usize,
        size: usize,
        spread: bool,
        length: Duration,
    ) -> Result<Stored, sqlx::Error> {
        let began = Instant::now();
        let stored = try_join_all(self.writers.iter_mut().take(connections).map(|writer| async move {
            let mut stored = 0;
            while began.elapsed() < length {
                writer.batch(size, spread).await?;
                stored += size as u64;
            }
            Ok::<_, sqlx::Error>(stored)
        }))
        .await?;
        Ok(Stored { messages: stored.iter().sum(), took: began.elapsed() })
    }

    /// Stores at a rate, in batches of what is due by then, and gives how long the transactions took, each as often as it held messages, in
    /// microseconds. What a message waits for its transaction is not counted: a bare commit is told as short as it can be.
    ///
    /// # Errors
    /// When the database does not take them.
    pub async fn paced(&mut self, connections: usize, pace: Paced, spread: bool) -> Result<Vec<u64>, sqlx::Error> {
        let pace = Paced { rate: pace.rate / connections as f64, ..pace };
        let began = Instant::now();
        let times = try_join_all(self.writers.iter_mut().take(connections).map(|writer| async move {
            let (mut times, mut stored) = (Vec::new(), 0);
            while began.elapsed() < pace.length {
                let size = pace.waiting(began, stored);
                if size == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                let begun = Instant::now();
                writer.batch(size, spread).await?;
                times.extend(std::iter::repeat_n(begun.elapsed().as_micros() as u64, size));
                stored += size as u64;
            }
            Ok::<_, sqlx::Error>(times)
        }))
        .await?;
        Ok(times.concat())
    }
}

impl Writer {
    /// The next rooms, no more than there are.
    fn rooms(&mut self, count: usize) -> Vec<Uuid> {
        let rooms = (0..count.min(self.rooms.len())).map(|index| self.rooms[(self.next + index) % self.rooms.len()]);
        let rooms = rooms.collect();
        self.next = (self.next + count) % self.rooms.len();
        rooms
    }

    async fn batch(&mut self, size: usize, spread: bool) -> Result<(), sqlx::Error> {
        let Said { ids, authors, bodies } = Said::new(size);
        let query = if spread && size > 1 {
            sqlx::query(EACH_ITS_ROOM).bind(self.rooms(size))
        } else {
            sqlx::query(ALL_ONE_ROOM).bind(self.rooms(1)[0])
        };
        let done = query.bind(ids).bind(authors).bind(bodies).execute(&mut self.on).await?;
        // A yardstick that stores less than it says would flatter nobody.
        if done.rows_affected() == size as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
    }
}
