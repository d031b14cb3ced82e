//! The bell: which rooms changed lately, whoever changed them.
//!
//! Owns: asking PostgreSQL what was rung since the last time, without missing what committed out of order, at a cost that
//! grows with the rooms that changed and not with the rooms held; and sweeping old rows away.
//! Refuses to know: which rooms this node holds. On SQLite the appender's own call is the bell, and nothing is polled.

use crate::db::{Db, Engine};
use homeroom_protocol::RoomId;
use uuid::Uuid;

/// A room that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Which.
    pub room: RoomId,
    /// The highest seq that a transaction left there.
    pub head: i64,
    /// Whether a membership changed.
    pub members: bool,
}

/// Where a node has come in listening.
#[derive(Debug, Clone)]
pub struct Bell {
    db: Db,
    /// The oldest transaction that was still running at the last look, as text: `xid8` has no type of its own in sqlx.
    oldest_running: Option<String>,
}

#[derive(sqlx::FromRow)]
struct RungRow {
    oldest_running: String,
    room_id: Option<Uuid>,
    head_seq: Option<i64>,
    members: Option<bool>,
}

impl Bell {
    /// Listens from now on.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, oldest_running: None }
    }

    /// What was rung since the last call. What was still running then is told again, or for the first time: the overlap
    /// is harmless, since a head that is already known changes nothing. The first call only finds the place to begin.
    ///
    /// # Errors
    /// When the database does not answer; the next call then covers the time in between.
    pub async fn listen(&mut self) -> Result<Vec<Rung>, sqlx::Error> {
        let Engine::Postgres(pool) = self.db.reads() else { return Ok(Vec::new()) };
        let rows: Vec<RungRow> = match &self.oldest_running {
            None => {
                let (oldest,): (String,) =
                    sqlx::query_as("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetch_one(pool).await?;
                self.oldest_running = Some(oldest);
                return Ok(Vec::new());
            }
            Some(oldest_running) => {
                sqlx::query_as(
                    "SELECT look.oldest_running, rung.room_id, rung.head_seq, rung.members
                     FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS oldest_running) look
                     LEFT JOIN (SELECT room_id, MAX(head_seq) AS head_seq, BOOL_OR(members) AS members
                                FROM bell WHERE xid >= $1::xid8 GROUP BY room_id) rung ON TRUE",
                )
                .bind(oldest_running)
                .fetch_all(pool)
                .await?
            }
        };
        if let Some(row) = rows.first() {
            self.oldest_running = Some(row.oldest_running.clone());
        }
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                Some(Rung { room: RoomId(row.room_id?), head: row.head_seq?, members: row.members.unwrap_or(false) })
            })
            .collect())
    }

    /// Deletes what was rung more than ten minutes ago. A node that slept longer than that looks at every room it holds.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sweep(&self) -> Result<(), sqlx::Error> {
        if let Engine::Postgres(pool) = self.db.writes() {
            sqlx::query("DELETE FROM bell WHERE rung_at < now() - interval '10 minutes'").execute(pool).await?;
        }
        Ok(())
    }
}
