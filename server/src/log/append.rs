//! Appending: commands become entries of a room's log, in batches, exactly once.
//!
//! Owns: the lanes (a room always uses the same one), the batches that form by themselves while a transaction is in
//! flight, the order of one session's posts, and what is answered when the database says no.
//! Refuses to know: sockets, and how entries reach readers: it calls one function with what was committed.
//!
//! `plan` decides, without a database; `postgres` and `sqlite` load what it needs and store what it decided.

mod plan;
mod postgres;
mod sqlite;
mod turns;

use super::entry::Entry;
use super::members::{self, MemberChange};
use crate::db::{Db, Engine};
use homeroom_protocol::{Address, ClientId, Envelope, ErrorCode, EventId, Fault, PersonId, RoomId, Timestamp};
use plan::{Answer, Plan};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
pub use turns::{Turn, Turns};

/// Commands that wait in one lane. Full, the lane answers `unavailable`: at 10,000 a second this is a tenth of a second.
const LANE_QUEUE: usize = 1_024;
/// Commands in one transaction. Measured by others: beyond 100 rows p99 jumps tenfold.
const BATCH: usize = 100;
/// PostgreSQL transactions in flight at once. Two with batches of 100 beat 32 single writers fivefold.
const POSTGRES_LANES: usize = 2;
/// How often a batch may find a room locked by another node before it waits for the lock.
const SKIPS: u8 = 3;
/// How long a batch with an unknown outcome, or without a connection, is tried again before its authors hear `unavailable`.
const PATIENCE: Duration = Duration::from_secs(4);

/// A command that appends to a conversation.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where.
    pub room: RoomId,
    /// Who.
    pub author: PersonId,
    /// The author's own name for this command.
    pub client_id: ClientId,
    /// What.
    pub what: What,
    /// The order that the author's session has to keep, if it comes from one.
    pub turn: Option<Turn>,
}

/// What a command does.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Posts a message.
    Post {
        /// To whom.
        to: Address,
        /// What is said.
        envelope: Box<Envelope>,
        /// Whether it can't wait.
        urgent: bool,
    },
    /// Puts another text in the place of a message's.
    Edit {
        /// Which message.
        message: EventId,
        /// The new text.
        envelope: Box<Envelope>,
    },
    /// Takes a message back.
    Retract {
        /// Which message.
        message: EventId,
    },
}

/// Where a command ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The event's id.
    pub id: EventId,
    /// Its number in its conversation.
    pub n: i64,
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The command may not be done; the author reads why.
    #[error("refused: {0}")]
    Refused(Fault),
    /// The database did not take it, or nobody knows whether it did. Sending the same client id again is safe.
    #[error("the database is not available")]
    Unavailable(#[source] Option<Arc<sqlx::Error>>),
    /// More commands wait than the lane holds.
    #[error("too many commands are waiting")]
    Busy,
}

impl From<AppendError> for Fault {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Refused(fault) => fault,
            AppendError::Unavailable(_) => {
                Self::new(ErrorCode::Unavailable, "This can't be stored at the moment. It will be tried again.")
                    .after(1_000)
            }
            AppendError::Busy => {
                Self::new(ErrorCode::Unavailable, "Too much is going on at the moment. It will be tried again.")
                    .after(500)
            }
        }
    }
}

/// Called with what was committed, per room in the order of the log, once the authors have their answers.
pub type Committed = dyn Fn(&[Arc<Entry>]) + Send + Sync;

/// The lanes.
#[derive(Debug, Clone)]
pub struct Appender {
    lanes: Arc<[mpsc::Sender<Job>]>,
}

/// What counts, for `/metrics`.
pub type OnBatch = dyn Fn(usize, Duration) + Send + Sync;

struct Pending {
    append: Append,
    digest: [u8; 32],
    skips: u8,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

enum Job {
    Append(Pending),
    Members { room: RoomId, changes: Vec<MemberChange>, reply: oneshot::Sender<Result<(), AppendError>> },
}

/// A command that has its place in a lane.
#[derive(Debug)]
pub struct Submitted(oneshot::Receiver<Result<Appended, AppendError>>);

impl Submitted {
    /// Waits for the commit.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn done(self) -> Result<Appended, AppendError> {
        self.0.await.unwrap_or(Err(AppendError::Unavailable(None)))
    }
}

impl Appender {
    /// Starts the lanes on the current runtime. They end when the last `Appender` is dropped and all is answered.
    #[must_use]
    pub fn start(db: &Db, committed: Arc<Committed>, on_batch: Arc<OnBatch>) -> Self {
        let lanes = match db.writes() {
            Engine::Postgres(_) => POSTGRES_LANES,
            Engine::Sqlite(_) => 1,
        };
        let lanes = (0..lanes)
            .map(|_| {
                let (jobs, queue) = mpsc::channel(LANE_QUEUE);
                let lane = Lane { db: db.clone(), committed: committed.clone(), on_batch: on_batch.clone() };
                tokio::spawn(lane.run(queue));
                jobs
            })
            .collect();
        Self { lanes }
    }

    /// Takes a place in the room's lane, now: two calls in a row are appended in that order.
    ///
    /// # Errors
    /// [`AppendError::Busy`] when the lane is full.
    pub fn submit(&self, append: Append) -> Result<Submitted, AppendError> {
        let (reply, answer) = oneshot::channel();
        let digest = digest(&append);
        let room = append.room;
        let pending = Pending { append, digest, skips: 0, reply };
        match self.lane(room).try_send(Job::Append(pending)) {
            Ok(()) => Ok(Submitted(answer)),
            Err(mpsc::error::TrySendError::Full(Job::Append(pending))) => {
                pending.append.fails_for_now();
                Err(AppendError::Busy)
            }
            Err(_) => Err(AppendError::Unavailable(None)),
        }
    }

    /// Changes who is in a room. What is already so is passed over.
    ///
    /// # Errors
    /// [`AppendError`]; then none of the changes happened.
    pub async fn change_members(&self, room: RoomId, changes: Vec<MemberChange>) -> Result<(), AppendError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Members { room, changes, reply };
        self.lane(room).send(job).await.map_err(|_| AppendError::Unavailable(None))?;
        answer.await.unwrap_or(Err(AppendError::Unavailable(None)))
    }

    /// How many commands wait, over all lanes.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.max_capacity() - lane.capacity()).sum()
    }

    fn lane(&self, room: RoomId) -> &mpsc::Sender<Job> {
        // The last bytes of a version 7 UUID are random.
        &self.lanes[usize::from(room.0.as_bytes()[15]) % self.lanes.len()]
    }
}

impl Append {
    /// The conversation, for commands that have a place in its order.
    fn turn(&self) -> Option<(&Turn, homeroom_protocol::ConversationId)> {
        match (&self.turn, &self.what) {
            (Some(turn), What::Post { to, .. }) => Some((turn, to.conversation(self.room))),
            _ => None,
        }
    }

    /// The author is told to try again: what the same session sends after it has to wait for it.
    pub fn fails_for_now(&self) {
        if let Some((turn, conversation)) = self.turn() {
            turn.failed(conversation, self.client_id);
        }
    }
}

fn digest(append: &Append) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(append.room.0.as_bytes());
    // Writing these types to memory can't fail; were it to, equal commands would still have equal digests.
    hash.update(serde_json::to_vec(&append.what).unwrap_or_default());
    hash.finalize().into()
}

struct Lane {
    db: Db,
    committed: Arc<Committed>,
    on_batch: Arc<OnBatch>,
}

impl Lane {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        // Commands of rooms that another node had locked; they come before anything newer.
        let mut skipped: Vec<Pending> = Vec::new();
        let mut next: Option<Job> = None;
        loop {
            let mut batch = std::mem::take(&mut skipped);
            if batch.is_empty() {
                match next.take() {
                    Some(job) => next = Some(job),
                    None => next = queue.recv().await,
                }
                if next.is_none() {
                    return;
                }
            }
            while batch.len() < BATCH {
                match next.take().or_else(|| queue.try_recv().ok()) {
                    Some(Job::Append(pending)) => batch.push(pending),
                    // A change of membership ends the batch: what came before it is judged by the old one.
                    Some(members) => {
                        next = Some(members);
                        break;
                    }
                    None => break,
                }
            }
            if !batch.is_empty() {
                skipped = self.append(batch).await;
            }
            if skipped.is_empty()
                && let Some(Job::Members { room, changes, reply }) =
                    next.take_if(|job| matches!(job, Job::Members { .. }))
            {
                // The author may have gone away; the change stands all the same.
                let _gone = reply.send(self.change_members(room, changes).await);
            }
        }
    }

    /// Appends what can be appended and answers it; returns what has to wait for another node's lock.
    async fn append(&self, batch: Vec<Pending>) -> Vec<Pending> {
        let started = std::time::Instant::now();
        let size = batch.len();
        let mut batch = in_turn(batch);
        let wait_for_locks = batch.iter().any(|pending| pending.skips >= SKIPS);
        let outcome = self.until_known(&batch, wait_for_locks).await;
        let skipped = match outcome {
            Ok(plan) => self.answer(batch, plan),
            Err(error) if is_poison(&error) && batch.len() > 1 => {
                for pending in batch.drain(..) {
                    self.append_alone(pending).await;
                }
                Vec::new()
            }
            Err(error) => {
                refuse(batch, error);
                Vec::new()
            }
        };
        (self.on_batch)(size, started.elapsed());
        skipped
    }

    /// One command in a transaction of its own, so that a poisoned one fails alone.
    async fn append_alone(&self, pending: Pending) {
        let batch = vec![pending];
        match self.until_known(&batch, true).await {
            Ok(plan) => {
                self.answer(batch, plan);
            }
            Err(error) => refuse(batch, error),
        }
    }

    /// Runs the transaction until its outcome is known. After a lost connection the same batch is run again: the client
    /// ids that were committed are found under the lock and answered as they were, the others are appended.
    async fn until_known(&self, batch: &[Pending], wait_for_locks: bool) -> Result<Plan, sqlx::Error> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(20);
        loop {
            let attempt = match self.db.writes() {
                Engine::Postgres(pool) => postgres::append(pool, batch, wait_for_locks).await,
                Engine::Sqlite(pool) => sqlite::append(pool, batch).await,
            };
            match attempt {
                Err(error) if may_pass(&error) && tokio::time::Instant::now() + pause < deadline => {
                    tracing::warn!(%error, "a batch is tried again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                outcome => return outcome,
            }
        }
    }

    fn answer(&self, batch: Vec<Pending>, plan: Plan) -> Vec<Pending> {
        let mut skipped = Vec::new();
        for (mut pending, answer) in batch.into_iter().zip(plan.answers) {
            let answer = match answer {
                Answer::Appended(appended) => Ok(appended),
                Answer::Refused(fault) => {
                    if fault.retryable {
                        pending.append.fails_for_now();
                    }
                    Err(AppendError::Refused(fault))
                }
                Answer::Skipped => {
                    pending.skips += 1;
                    skipped.push(pending);
                    continue;
                }
            };
            // The author may have gone away; what was appended stands all the same.
            let _gone = pending.reply.send(answer);
        }
        if !plan.entries.is_empty() {
            (self.committed)(&plan.entries);
        }
        skipped
    }

    async fn change_members(&self, room: RoomId, changes: Vec<MemberChange>) -> Result<(), AppendError> {
        let entries = members::change(&self.db, room, &changes, Timestamp::now())
            .await
            .map_err(|error| AppendError::Unavailable(Some(Arc::new(error))))?;
        if !entries.is_empty() {
            (self.committed)(&entries);
        }
        Ok(())
    }
}

/// Answers at once what is out of turn, and what repeats a command of the same batch; keeps the rest, in order.
fn in_turn(batch: Vec<Pending>) -> Vec<Pending> {
    batch
        .into_iter()
        .filter_map(|pending| {
            let waits = pending
                .append
                .turn()
                .is_some_and(|(turn, conversation)| !turn.may_go(conversation, pending.append.client_id));
            if !waits {
                return Some(pending);
            }
            let fault = Fault::new(ErrorCode::OutOfTurn, "An earlier message has to be sent again first.");
            let _gone = pending.reply.send(Err(AppendError::Refused(fault)));
            None
        })
        .collect()
}

fn refuse(batch: Vec<Pending>, error: sqlx::Error) {
    tracing::error!(%error, commands = batch.len(), "a batch was not stored");
    let poison = is_poison(&error);
    let error = Arc::new(error);
    for pending in batch {
        let answer = if poison {
            AppendError::Refused(Fault::new(ErrorCode::Invalid, "The database can't store this text."))
        } else {
            pending.append.fails_for_now();
            AppendError::Unavailable(Some(error.clone()))
        };
        let _gone = pending.reply.send(Err(answer));
    }
}

/// The data itself is at fault (SQLSTATE 22, 23; SQLite's constraint and mismatch): its neighbours must not suffer.
fn is_poison(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    database.code().is_some_and(|code| match code.len() {
        5 => code.starts_with("22") || code.starts_with("23"),
        _ => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20 | 25)),
    })
}

/// The same batch may succeed in a moment: the connection was lost, the pool was empty, a lock was held, a server restarts.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // Connection exceptions, operator intervention, serialization failure, deadlock, lock not available, unique
            // violation (the same client id was just committed elsewhere; the next look-up finds it), SQLITE_BUSY.
            code.starts_with("08")
                || code.starts_with("57P")
                || matches!(&*code, "40001" | "40P01" | "55P03" | "25P03" | "23505" | "5")
        }),
        _ => false,
    }
}

/// The rooms of a batch, as they stand under the lock.
type Heads = HashMap<RoomId, plan::Head>;
