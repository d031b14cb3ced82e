//! The bell: which rooms changed lately, whoever changed them.
//!
//! Owns: asking PostgreSQL what was rung since the last time, without missing what committed out of order, at a cost that
//! grows with the rooms that changed and not with the rooms held; and sweeping old rows away.
//! Refuses to know: which rooms this node holds. On SQLite the appender's own call is the bell, and nothing is polled.

use crate::db::{Db, Engine};
use homeroom_protocol::RoomId;
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use uuid::Uuid;

/// Longer than this, and a look has failed.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// What was heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// The rooms that changed.
    pub rung: Vec<Rung>,
    /// The database was away, or is not where it was: it may have been put back to an earlier state, and what it told before
    /// may not be so any more. Every room that is held has to be looked at.
    pub in_doubt: bool,
}

/// Where a node has come in listening.
#[derive(Debug)]
pub struct Bell {
    db: Db,
    /// A connection of its own: readers must not keep it waiting, and one that hangs is thrown away.
    connection: Option<PgConnection>,
    /// A look has failed since the last one that did not.
    failed: bool,
    /// The oldest transaction that was still running at the last look, as text: `xid8` has no type of its own in sqlx.
    oldest_running: String,
}

#[derive(sqlx::FromRow)]
struct RungRow {
    oldest_running: String,
    room_id: Option<Uuid>,
    head_seq: Option<i64>,
    members: Option<bool>,
}

impl Bell {
    /// Listens from this call on: whatever commits after it is told.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin(db: Db) -> Result<Self, sqlx::Error> {
        let oldest_running = match db.reads() {
            Engine::Postgres(pool) => {
                sqlx::query_scalar("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetch_one(pool).await?
            }
            Engine::Sqlite(_) => String::new(),
        };
        Ok(Self { db, connection: None, failed: false, oldest_running })
    }

    /// What was rung since the last call. What was still running then is told again, or for the first time: the overlap
    /// is harmless, since a head that is already known changes nothing.
    ///
    /// # Errors
    /// When the database does not answer; the next call then covers the time in between.
    pub async fn listen(&mut self) -> Result<Heard, sqlx::Error> {
        let Engine::Postgres(pool) = self.db.reads() else { return Ok(Heard::default()) };
        let options = pool.connect_options().clone();
        // Taken out while it is used: whatever goes wrong, it is not used again.
        let mut connection = self.connection.take();
        let look = async {
            let mut on = match connection.take() {
                Some(on) => on,
                None => PgConnection::connect_with(&options).await?,
            };
            let heard = self.look(&mut on).await?;
            Ok::<_, sqlx::Error>((on, heard))
        };
        let Ok(outcome) = tokio::time::timeout(PATIENCE, look).await else {
            // What is read next is to be read over other connections.
            self.db.distrust_connections();
            self.failed = true;
            return Err(sqlx::Error::PoolTimedOut);
        };
        let in_doubt = std::mem::replace(&mut self.failed, outcome.is_err());
        let (on, heard) = outcome?;
        self.connection = Some(on);
        Ok(Heard { in_doubt: heard.in_doubt || in_doubt, ..heard })
    }

    async fn look(&mut self, on: &mut PgConnection) -> Result<Heard, sqlx::Error> {
        let rows: Vec<RungRow> = sqlx::query_as(
            "SELECT look.oldest_running, rung.room_id, rung.head_seq, rung.members
             FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS oldest_running) look
             LEFT JOIN (SELECT room_id, MAX(head_seq) AS head_seq, BOOL_OR(members) AS members
                        FROM bell WHERE xid >= $1::xid8 GROUP BY room_id) rung ON TRUE",
        )
        .bind(&self.oldest_running)
        .fetch_all(on)
        .await?;
        let mut in_doubt = false;
        if let Some(row) = rows.first() {
            // Transaction numbers only rise. Where they fell, the database is another one, or an older one.
            let number = |text: &str| text.parse::<u64>().unwrap_or(0);
            in_doubt = number(&row.oldest_running) < number(&self.oldest_running);
            self.oldest_running.clone_from(&row.oldest_running);
        }
        let rung = rows
            .into_iter()
            .filter_map(|row| {
                Some(Rung { room: RoomId(row.room_id?), head: row.head_seq?, members: row.members.unwrap_or(false) })
            })
            .collect();
        Ok(Heard { rung, in_doubt })
    }
}

/// Deletes what was rung more than ten minutes ago. A node that slept longer than that looks at every room it holds.
///
/// # Errors
/// When the database does not answer.
pub async fn sweep(db: &Db) -> Result<(), sqlx::Error> {
    if let Engine::Postgres(pool) = db.writes() {
        sqlx::query("DELETE FROM bell WHERE rung_at < now() - interval '10 minutes'").execute(pool).await?;
    }
    Ok(())
}
