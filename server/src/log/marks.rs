//! Marks: how far a person has had a conversation delivered, and read.
//!
//! Owns: collecting marks for a second, storing them together (the maximum wins, never past the end), and saying which moved.
//! Refuses to know: sessions, and who is told.

use super::append::AppendError;
use super::sight::Thread;
use crate::db::{Db, Engine};
use homeroom_protocol::{About, ConversationId, Mark, PersonId, RoomId, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Marks that wait for the collector. Full, a session is told to try again.
const QUEUE: usize = 4_096;
/// How long marks are collected: a class that reads an announcement at once is then one write.
const COLLECT: Duration = Duration::from_secs(1);
/// Conversations and people in one write.
const BATCH: usize = 4_096;
/// How long a write may take. Those who read wait for their answer, and the next second's marks for their turn.
const ATTEMPT: Duration = Duration::from_secs(4);

/// A person's word that a device stored, or they read, a conversation up to an `n`.
#[derive(Debug, Clone, Copy)]
pub struct MarkUp {
    /// The room.
    pub room: RoomId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Who.
    pub person: PersonId,
    /// Stored up to here.
    pub delivered: i64,
    /// Read up to here; 0 for a mark that only says "delivered".
    pub read: i64,
}

/// A mark that moved.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    /// The room.
    pub room: RoomId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Who is in it.
    pub thread: Thread,
    /// As it stands now.
    pub mark: Mark,
}

/// Called with what moved, once it is stored.
pub type OnMoved = dyn Fn(&[Moved]) + Send + Sync;

/// Takes marks.
#[derive(Debug, Clone)]
pub struct Marks {
    queue: mpsc::Sender<(MarkUp, oneshot::Sender<Result<(), AppendError>>)>,
}

#[derive(sqlx::FromRow)]
struct MovedRow {
    room_id: Uuid,
    conversation_id: Uuid,
    person_id: Uuid,
    delivered_n: i64,
    read_n: i64,
}

impl Marks {
    /// Starts the collector on the current runtime. It ends when the last `Marks` is dropped and all is stored.
    #[must_use]
    pub fn start(db: &Db, on_moved: Arc<OnMoved>) -> Self {
        let (queue, marks) = mpsc::channel(QUEUE);
        tokio::spawn(collect(db.clone(), marks, on_moved));
        Self { queue }
    }

    /// Notes a mark; done once it is stored.
    ///
    /// # Errors
    /// [`AppendError::Busy`] when too many wait, [`AppendError::Unavailable`] when it could not be stored.
    pub async fn up(&self, mark: MarkUp) -> Result<(), AppendError> {
        let (reply, stored) = oneshot::channel();
        self.queue.try_send((mark, reply)).map_err(|_| AppendError::Busy)?;
        stored.await.unwrap_or(Err(AppendError::Unavailable(None)))
    }
}

async fn collect(
    db: Db,
    mut queue: mpsc::Receiver<(MarkUp, oneshot::Sender<Result<(), AppendError>>)>,
    on_moved: Arc<OnMoved>,
) {
    while let Some(first) = queue.recv().await {
        // By room, too: staff may name any conversation, and only the database knows whose it is.
        let mut collected: BTreeMap<(RoomId, ConversationId, PersonId), MarkUp> = BTreeMap::new();
        let mut waiting = Vec::new();
        let until = tokio::time::Instant::now() + COLLECT;
        let mut next = Some(first);
        while let Some((mark, reply)) = next.take() {
            waiting.push(reply);
            collected
                .entry((mark.room, mark.conversation, mark.person))
                .and_modify(|kept| {
                    kept.delivered = kept.delivered.max(mark.delivered);
                    kept.read = kept.read.max(mark.read);
                })
                .or_insert(mark);
            if waiting.len() < BATCH {
                // Dropping `recv` at the time-out loses nothing: a mark is taken from the queue or stays there.
                next = tokio::time::timeout_at(until, queue.recv()).await.ok().flatten();
            }
        }
        let storing = tokio::time::timeout(ATTEMPT, store(&db, collected.into_values().collect()));
        let outcome = storing.await.unwrap_or_else(|_late| Err(sqlx::Error::PoolTimedOut)).map_err(Arc::new);
        for reply in waiting {
            let answer = outcome.as_ref().map(|_| ()).map_err(|error| AppendError::Unavailable(Some(error.clone())));
            let _gone = reply.send(answer);
        }
        match outcome {
            Ok(moved) if !moved.is_empty() => on_moved(&moved),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "marks were not stored"),
        }
    }
}

async fn store(db: &Db, marks: Vec<MarkUp>) -> Result<Vec<Moved>, sqlx::Error> {
    let at = Timestamp::now().as_datetime();
    let mut tx = db.begin().await?;
    let moved: Vec<MovedRow> = match tx.on() {
        Engine::Postgres(on) => {
            sqlx::query_as(
                "INSERT INTO mark (conversation_id, person_id, room_id, delivered_n, read_n, delivered_at, read_at)
                 SELECT c.id, up.person_id, c.room_id, LEAST(GREATEST(up.delivered, up.read), c.last_n), LEAST(up.read, c.last_n),
                        $6, CASE WHEN up.read > 0 THEN $6 END
                 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[])
                      AS up (conversation_id, room_id, person_id, delivered, read)
                 JOIN conversation c ON c.id = up.conversation_id AND c.room_id = up.room_id
                 ORDER BY c.id, up.person_id
                 ON CONFLICT (conversation_id, person_id) DO UPDATE SET
                    delivered_n = GREATEST(mark.delivered_n, excluded.delivered_n),
                    delivered_at = CASE WHEN excluded.delivered_n > mark.delivered_n THEN excluded.delivered_at
                                        ELSE mark.delivered_at END,
                    read_n = GREATEST(mark.read_n, excluded.read_n),
                    read_at = CASE WHEN excluded.read_n > mark.read_n THEN excluded.read_at ELSE mark.read_at END
                 WHERE excluded.delivered_n > mark.delivered_n OR excluded.read_n > mark.read_n
                 RETURNING room_id, conversation_id, person_id, delivered_n, read_n",
            )
            .bind(marks.iter().map(|mark| mark.conversation.0).collect::<Vec<_>>())
            .bind(marks.iter().map(|mark| mark.room.0).collect::<Vec<_>>())
            .bind(marks.iter().map(|mark| mark.person.0).collect::<Vec<_>>())
            .bind(marks.iter().map(|mark| mark.delivered).collect::<Vec<_>>())
            .bind(marks.iter().map(|mark| mark.read).collect::<Vec<_>>())
            .bind(at)
            .fetch_all(on)
            .await?
        }
        Engine::Sqlite(on) => {
            let rows: Vec<Value> = marks
                .iter()
                .map(|mark| {
                    let hex = |id: Uuid| id.simple().to_string();
                    json!([hex(mark.conversation.0), hex(mark.room.0), hex(mark.person.0), mark.delivered, mark.read])
                })
                .collect();
            sqlx::query_as(
                "INSERT INTO mark (conversation_id, person_id, room_id, delivered_n, read_n, delivered_at, read_at)
                 SELECT c.id, unhex(up.value ->> 2), c.room_id, MIN(MAX(up.value ->> 3, up.value ->> 4), c.last_n),
                        MIN(up.value ->> 4, c.last_n), $2, CASE WHEN up.value ->> 4 > 0 THEN $2 END
                 FROM json_each($1) AS up
                 JOIN conversation c ON c.id = unhex(up.value ->> 0) AND c.room_id = unhex(up.value ->> 1)
                 WHERE TRUE
                 ON CONFLICT (conversation_id, person_id) DO UPDATE SET
                    delivered_n = MAX(mark.delivered_n, excluded.delivered_n),
                    delivered_at = CASE WHEN excluded.delivered_n > mark.delivered_n THEN excluded.delivered_at
                                        ELSE mark.delivered_at END,
                    read_n = MAX(mark.read_n, excluded.read_n),
                    read_at = CASE WHEN excluded.read_n > mark.read_n THEN excluded.read_at ELSE mark.read_at END
                 WHERE excluded.delivered_n > mark.delivered_n OR excluded.read_n > mark.read_n
                 RETURNING room_id, conversation_id, person_id, delivered_n, read_n",
            )
            .bind(Value::Array(rows))
            .bind(at)
            .fetch_all(on)
            .await?
        }
    };
    tx.commit().await?;
    let threads = threads(db, moved.iter().map(|row| row.conversation_id).collect()).await?;
    Ok(moved
        .into_iter()
        .filter_map(|row| {
            let conversation = ConversationId(row.conversation_id);
            Some(Moved {
                room: RoomId(row.room_id),
                conversation,
                thread: *threads.get(&conversation)?,
                mark: Mark {
                    person: PersonId(row.person_id),
                    delivered: row.delivered_n.unsigned_abs(),
                    read: row.read_n.unsigned_abs(),
                },
            })
        })
        .collect())
}

/// Who is in each of these conversations.
async fn threads(db: &Db, conversations: Vec<Uuid>) -> Result<HashMap<ConversationId, Thread>, sqlx::Error> {
    type ConversationRow = (Uuid, Option<Uuid>, Option<Uuid>);
    let rows: Vec<ConversationRow> = match db.reads() {
        Engine::Postgres(pool) => {
            sqlx::query_as("SELECT id, guardian_id, student_id FROM conversation WHERE id = ANY($1)")
                .bind(conversations)
                .fetch_all(pool)
                .await?
        }
        Engine::Sqlite(pool) => {
            let ids: Vec<Value> = conversations.iter().map(|id| Value::String(id.simple().to_string())).collect();
            sqlx::query_as(
                "SELECT id, guardian_id, student_id FROM conversation WHERE id IN (SELECT unhex(value) FROM json_each($1))",
            )
            .bind(Value::Array(ids))
            .fetch_all(pool)
            .await?
        }
    };
    Ok(rows
        .into_iter()
        .map(|(id, guardian, student)| {
            let thread = match (guardian, student) {
                (Some(guardian), Some(student)) => {
                    Thread::Private(About { guardian: PersonId(guardian), student: PersonId(student) })
                }
                _ => Thread::Announcements,
            };
            (ConversationId(id), thread)
        })
        .collect())
}
