//! Appending: commands become entries of a room's log, in batches, exactly once.
//!
//! Owns: the lanes (a room always uses the same one), the batches that form by themselves while a transaction is in
//! flight, the order of what one session says, and what is answered when the database says no.
//! Refuses to know: sockets, and how entries reach readers: it calls one function with what was committed.
//!
//! `plan` decides, without a database; `found` says what it needs, `known` what of it need not be asked for; `postgres` and
//! `sqlite` load that and store what it decided.

mod found;
#[cfg(any(test, feature = "instructions"))]
pub(crate) mod instructions;
mod known;
mod lane;
mod plan;
mod postgres;
mod sqlite;
mod turns;

use super::entry::Entry;
use super::members::MemberChange;
use crate::db::{Db, Engine};
use crate::trace::{Context, Step, Traces};
use homeroom_protocol::{Address, ClientId, Envelope, ErrorCode, EventId, Fault, PersonId, RoomId};
use known::Elsewhere;
use lane::Lane;
#[cfg(feature = "next")]
pub(super) use plan::next;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};
pub use turns::{Line, Turn, Turns};

/// Commands that wait in one lane. Full, the lane answers `unavailable`: at 10,000 a second this is a tenth of a second.
const LANE_QUEUE: usize = 1_024;

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
    /// Its place in its session's order, if it comes from one.
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
    /// Keeps a message in sight.
    #[cfg(feature = "next")]
    Pin {
        /// Which message.
        message: EventId,
        /// Until when.
        until: homeroom_protocol::Timestamp,
    },
}

impl What {
    /// The message that it is about, unless it posts one.
    fn target(&self) -> Option<EventId> {
        match self {
            Self::Post { .. } => None,
            Self::Edit { message, .. } | Self::Retract { message } => Some(*message),
            #[cfg(feature = "next")]
            Self::Pin { message, .. } => Some(*message),
        }
    }
}

impl What {
    /// In a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Post { .. } => "post",
            Self::Edit { .. } => "edit",
            Self::Retract { .. } => "retract",
            #[cfg(feature = "next")]
            Self::Pin { .. } => "pin",
        }
    }
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

/// How commands share transactions; measured in docs/decisions/0021-known-rooms.md.
#[derive(Debug, Clone, Copy)]
pub struct Lanes {
    /// Transactions in flight at once.
    pub number: usize,
    /// Commands in one of them, at most.
    pub batch: usize,
}

impl Lanes {
    /// As they are fastest.
    #[must_use]
    pub fn of(db: &Db) -> Self {
        match db.writes() {
            Engine::Postgres(_) => Self { number: 2, batch: 200 },
            // There is one writer.
            Engine::Sqlite(_) => Self { number: 1, batch: 500 },
        }
    }
}

/// Called with what was committed, per room in the order of the log, once the authors have their answers.
pub type Committed = dyn Fn(&[Arc<Entry>]) + Send + Sync;

/// The lanes.
#[derive(Debug, Clone)]
pub struct Appender {
    lanes: Arc<[Entrance]>,
}

/// Where a lane is reached.
#[derive(Debug)]
struct Entrance {
    jobs: mpsc::Sender<Job>,
    elsewhere: Arc<Elsewhere>,
    /// Behind the jobs: a lane that is rung because nobody is left finds that nobody is.
    ring: Ring,
}

/// Wakes a lane that has nothing to do. Jobs by themselves do not, so that those that come in the same moment are one batch; a lane that
/// has something to do looks for more when it is done.
#[derive(Debug, Default)]
struct Ring(Arc<Notify>);

impl Drop for Ring {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// What counts, for `/metrics`.
pub type OnBatch = dyn Fn(usize, Duration) + Send + Sync;

struct Pending {
    append: Append,
    digest: [u8; 32],
    skips: u8,
    /// Something that its session sent before it has to be sent again first.
    waits: bool,
    /// The step of a trace that it comes from, and the one that it is in.
    trace: Option<Box<Context>>,
    step: Option<Box<Step>>,
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
    pub fn start(db: &Db, lanes: Lanes, committed: &Arc<Committed>, on_batch: &Arc<OnBatch>, traces: &Traces) -> Self {
        let lanes = (0..lanes.number)
            .map(|_| {
                let (jobs, queue) = mpsc::channel(LANE_QUEUE);
                let elsewhere = Arc::<Elsewhere>::default();
                let ring = Ring::default();
                let lane = Lane::new(db.clone(), lanes.batch, committed.clone(), on_batch.clone(), traces.clone());
                tokio::spawn(lane.run(queue, ring.0.clone(), elsewhere.clone()));
                Entrance { jobs, elsewhere, ring }
            })
            .collect();
        Self { lanes }
    }

    /// Takes a place in the room's lane, now: two calls in a row are appended in that order. They are once the lane is rung.
    ///
    /// # Errors
    /// [`AppendError::Busy`] when the lane is full.
    pub fn place(&self, append: Append, trace: Option<Context>) -> Result<Submitted, AppendError> {
        let (reply, answer) = oneshot::channel();
        let digest = digest(&append);
        let room = append.room;
        let trace = trace.map(Box::new);
        let pending = Pending { append, digest, skips: 0, waits: false, trace, step: None, reply };
        match self.lane(room).jobs.try_send(Job::Append(pending)) {
            Ok(()) => Ok(Submitted(answer)),
            Err(refused) => {
                let (error, job) = match refused {
                    TrySendError::Full(job) => (AppendError::Busy, job),
                    TrySendError::Closed(job) => (AppendError::Unavailable(None), job),
                };
                if let Job::Append(pending) = job {
                    pending.fails_for_now();
                }
                Err(error)
            }
        }
    }

    /// Rings the lanes in which something waits.
    pub fn ring(&self) {
        let waits = |lane: &&Entrance| lane.jobs.capacity() < lane.jobs.max_capacity();
        self.lanes.iter().filter(waits).for_each(|lane| lane.ring.0.notify_one());
    }

    /// Changes who is in a room. What is already so is passed over.
    ///
    /// # Errors
    /// [`AppendError`]; then none of the changes happened.
    pub async fn change_members(&self, room: RoomId, changes: Vec<MemberChange>) -> Result<(), AppendError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Members { room, changes, reply };
        let lane = self.lane(room);
        lane.jobs.send(job).await.map_err(|_| AppendError::Unavailable(None))?;
        lane.ring.0.notify_one();
        answer.await.unwrap_or(Err(AppendError::Unavailable(None)))
    }

    /// How many commands wait, in each lane.
    #[must_use]
    pub fn waiting(&self) -> Vec<usize> {
        self.lanes.iter().map(|lane| lane.jobs.max_capacity() - lane.jobs.capacity()).collect()
    }

    /// Another node wrote to a room: what is known of it is not worth a try any more.
    pub fn heard(&self, room: RoomId) {
        self.lane(room).elsewhere.note(room);
    }

    fn lane(&self, room: RoomId) -> &Entrance {
        // The last bytes of a version 7 UUID are random.
        &self.lanes[usize::from(room.0.as_bytes()[15]) % self.lanes.len()]
    }
}

impl Pending {
    /// Notes whether it is out of turn. It is refused by the plan, after the look-up of client ids: what was answered once is
    /// answered the same for ever. What is out of turn has failed for now already here: what comes after it in the same batch may have
    /// to wait for it, and not for what it waits for.
    fn look_at_turn(&mut self) {
        self.waits = self.append.turn.as_ref().is_some_and(|turn| !turn.may_go());
        if self.waits {
            self.fails_for_now();
        }
    }

    /// It is in a batch of so many now.
    fn is_batched(&mut self, traces: &Traces, size: usize) {
        if self.step.is_none() {
            self.step = traces.follow("commit", self.trace.as_deref()).map(Box::new);
            self.step.iter_mut().for_each(|step| step.note("homeroom.batch", size as i64));
        }
    }

    /// Its entry goes on from the commit, if both are traced.
    fn hands_on(&self, entries: &mut [Arc<Entry>], id: EventId) {
        let Some(step) = &self.step else { return };
        let entry = entries.iter_mut().find(|entry| entry.event.id == id);
        if let Some(entry) = entry.and_then(Arc::get_mut) {
            entry.trace = Some(Box::new(step.context()));
        }
    }

    /// Its author is told to try again: what the same session sends after it has to wait for it.
    fn fails_for_now(&self) {
        if let Some(turn) = &self.append.turn {
            turn.failed();
        }
    }

    /// Its author gets an answer that stands.
    fn is_answered(&self) {
        if let Some(turn) = &self.append.turn {
            turn.answered();
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

/// The rooms of a batch, as they stand under the lock.
type Heads = HashMap<RoomId, plan::Head>;

#[cfg(test)]
mod tests {
    use super::*;
    use homeroom_protocol::ConversationId;

    #[test]
    fn what_waits_is_waited_for_in_its_own_batch() {
        let (turns, room) = (Arc::<Turns>::default(), RoomId::new());
        let pending = |line, what| {
            let client_id = ClientId::new();
            let turn = Some(turns.next(line, client_id));
            let append = Append { room, author: PersonId::new(), client_id, what, turn };
            let reply = oneshot::channel().0;
            Pending { append, digest: [0; 32], skips: 0, waits: false, trace: None, step: None, reply }
        };
        // The text does not matter here, so all are retractions; their lines are those of posts and of an edit.
        let what = || What::Retract { message: EventId::new() };
        let conversation = || Line { room, conversation: Some(ConversationId::new()) };
        pending(conversation(), what()).fails_for_now();
        let mut edit = pending(Line { room, conversation: None }, what());
        let mut post = pending(conversation(), what());
        [&mut edit, &mut post].into_iter().for_each(Pending::look_at_turn);
        assert!(edit.waits, "it may be about a message of the conversation in which something failed");
        assert!(post.waits, "and the edit may be about one of this post's conversation");
        edit.is_answered();
        post.look_at_turn();
        assert!(!post.waits);
    }
}
