//! A lane: one batch after the other, each in a transaction.
//!
//! Owns: the batches that form by themselves while a transaction is in flight, what is done about a transaction that failed or
//! whose outcome nobody knows, and the connection that it runs on. Refuses to know: what a batch does (see `plan`).

use super::known::{Elsewhere, Known};
use super::plan::{self, Answer, Plan};
use super::{AppendError, Committed, Job, OnBatch, Pending, postgres, sqlite};
use crate::db::{Db, Engine, is_away};
use crate::log::members::{self, MemberChange};
use crate::sabotage::{self, Sabotage};
use crate::trace::Traces;
use homeroom_protocol::{ErrorCode, Fault, RoomId, Timestamp};
use sqlx::error::DatabaseError;
use sqlx::{Connection, PgConnection};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};

/// How often a batch may find a room locked by another node before it waits for the lock.
const SKIPS: u8 = 3;
/// How long one transaction may take. Longer than a node that stopped inside of its own may hold a lock (2 s).
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a batch with an unknown outcome, or without a connection, is tried again before its authors hear `unavailable`.
const PATIENCE: Duration = Duration::from_secs(4);

/// A lane finds everything by its key. Left to itself PostgreSQL goes by what it last counted, and keeps the plan: a table that was empty
/// then is read from end to end by each batch, 11 ms of it after 70,000 messages.
const BY_KEY: [(&str, &str); 6] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    postgres::KNOWN_PATIENCE,
];

pub(super) struct Lane {
    db: Db,
    /// Commands in one transaction.
    largest: usize,
    /// PostgreSQL: a connection of its own. No waiting for a pool, no round trip to see whether it is alive, and one that hangs
    /// or whose commit is unknown is thrown away.
    connection: Option<PgConnection>,
    known: Known,
    committed: Arc<Committed>,
    on_batch: Arc<OnBatch>,
    traces: Traces,
}

impl Lane {
    pub(super) fn new(
        db: Db,
        largest: usize,
        committed: Arc<Committed>,
        on_batch: Arc<OnBatch>,
        traces: Traces,
    ) -> Self {
        Self { db, largest, connection: None, known: Known::default(), committed, on_batch, traces }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>, ring: Arc<Notify>, elsewhere: Arc<Elsewhere>) {
        // Commands of rooms that another node had locked; they come before anything newer.
        let mut skipped: Vec<Pending> = Vec::new();
        let mut next: Option<Job> = None;
        loop {
            let mut batch = std::mem::take(&mut skipped);
            if batch.is_empty() {
                match next.take() {
                    Some(job) => next = Some(job),
                    None => next = first(&mut queue, &ring).await,
                }
                if next.is_none() {
                    return;
                }
            }
            while batch.len() < self.largest {
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
            elsewhere.take().into_iter().for_each(|room| self.known.forget(room));
            if !batch.is_empty() {
                skipped = self.append(batch).await;
            }
            if skipped.is_empty()
                && let Some(Job::Members { room, changes, reply }) =
                    next.take_if(|job| matches!(job, Job::Members { .. }))
            {
                self.known.forget(room);
                // The author may have gone away; the change stands all the same.
                let _gone = reply.send(self.change_members(room, changes).await);
            }
        }
    }

    /// Appends what can be appended and answers it; returns what has to wait for another node's lock.
    async fn append(&mut self, batch: Vec<Pending>) -> Vec<Pending> {
        let started = std::time::Instant::now();
        let size = batch.len();
        let mut batch = batch;
        batch.iter_mut().for_each(Pending::look_at_turn);
        batch.iter_mut().for_each(|pending| pending.is_batched(&self.traces, size));
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
    async fn append_alone(&mut self, mut pending: Pending) {
        // One that came before it may have failed in its own transaction.
        pending.look_at_turn();
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
    async fn until_known(&mut self, batch: &[Pending], wait_for_locks: bool) -> Result<Plan, sqlx::Error> {
        let mut again = Again::new();
        loop {
            let outcome = self.attempt(batch, wait_for_locks).await;
            match &outcome {
                Err(error) if again.is_worth(error) => again.pause().await,
                _ => return outcome,
            }
        }
    }

    async fn attempt(&mut self, batch: &[Pending], wait_for_locks: bool) -> Result<Plan, sqlx::Error> {
        if let Some(plan) = self.plan_by_what_is_known(batch) {
            let outcome = self.attempt_known(&plan).await;
            if matches!(outcome, Ok(true)) {
                self.known.advance(&plan);
                return Ok(plan);
            }
            // Not so any more, or nobody knows. From here on all is looked up, under the locks.
            plan.heads.keys().for_each(|room| self.known.forget(*room));
            match outcome {
                Err(error) if !is_poison(&error) => return Err(error),
                _ => tracing::debug!(commands = batch.len(), "a batch is looked up"),
            }
        }
        let mut plan = match self.db.writes() {
            Engine::Postgres(_) => {
                let mut known = std::mem::take(&mut self.known);
                let committed = self.committed.clone();
                let attempted = self
                    .on_connection(async |on| {
                        postgres::append(on, batch, wait_for_locks, &mut known, &*committed).await
                    })
                    .await;
                self.known = known;
                attempted?
            }
            Engine::Sqlite(pool) => sqlite::append(pool, batch, &mut self.known).await?,
        };
        self.known.learn(&mut plan);
        Ok(plan)
    }

    /// What the batch does, if that needs no look-up: posts that are all taken. A refusal is looked up, and so is what is out of turn: it
    /// may have been answered before.
    fn plan_by_what_is_known(&self, batch: &[Pending]) -> Option<Plan> {
        if batch.iter().any(|pending| pending.waits || pending.skips > 0) || sabotage::is(Sabotage::PublishBeforeCommit)
        {
            return None;
        }
        Some(plan::plan(batch, self.known.loaded(batch)?, true)).filter(Plan::appends_all)
    }

    /// Whether it was appended.
    async fn attempt_known(&mut self, plan: &Plan) -> Result<bool, sqlx::Error> {
        match self.db.writes() {
            Engine::Postgres(_) => self.on_connection(async |on| postgres::append_known(on, plan).await).await,
            Engine::Sqlite(pool) => sqlite::append_known(pool, plan).await,
        }
    }

    /// Runs a transaction on the lane's connection. Whatever goes wrong, that is closed and not used again.
    async fn on_connection<T>(
        &mut self,
        transaction: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let Engine::Postgres(pool) = self.db.writes() else { return Err(sqlx::Error::PoolClosed) };
        let connection = self.connection.take();
        let transaction = async {
            let mut on = match connection {
                Some(on) => on,
                None => PgConnection::connect_with(&pool.connect_options().clone().options(BY_KEY)).await?,
            };
            let outcome = transaction(&mut on).await?;
            Ok::<_, sqlx::Error>((on, outcome))
        };
        let (on, outcome) =
            tokio::time::timeout(ATTEMPT, transaction).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        self.connection = Some(on);
        Ok(outcome)
    }

    fn answer(&self, batch: Vec<Pending>, mut plan: Plan) -> Vec<Pending> {
        let mut skipped = Vec::new();
        for (mut pending, answer) in batch.into_iter().zip(plan.answers) {
            let answer = match answer {
                Answer::Appended(appended) => {
                    pending.is_answered();
                    pending.hands_on(&mut plan.entries, appended.id);
                    Ok(appended)
                }
                Answer::Refused(fault) => {
                    if fault.retryable {
                        pending.fails_for_now();
                    } else {
                        pending.is_answered();
                    }
                    Err(AppendError::Refused(fault))
                }
                Answer::Skipped => {
                    pending.skips += 1;
                    skipped.push(pending);
                    continue;
                }
            };
            // The step ends before the one that waits for it.
            drop(pending.step.take());
            // The author may have gone away; what was appended stands all the same.
            let _gone = pending.reply.send(answer);
        }
        if !plan.entries.is_empty() {
            (self.committed)(&plan.entries);
        }
        skipped
    }

    /// Who is in the room already, or not in it any more, is passed over: a change whose outcome is not known is made again. What was
    /// committed unknown to this node is told by the bell.
    async fn change_members(&self, room: RoomId, changes: Vec<MemberChange>) -> Result<(), AppendError> {
        let mut again = Again::new();
        let outcome = loop {
            let changing = members::change(&self.db, room, &changes, Timestamp::now());
            let outcome = match self.db.writes() {
                Engine::Postgres(_) => {
                    let late = |_late| Err(sqlx::Error::PoolTimedOut);
                    tokio::time::timeout(ATTEMPT, changing).await.unwrap_or_else(late)
                }
                Engine::Sqlite(_) => changing.await,
            };
            match &outcome {
                Err(error) if again.is_worth(error) => again.pause().await,
                _ => break outcome,
            }
        };
        let entries = outcome.map_err(|error| AppendError::Unavailable(Some(Arc::new(error))))?;
        if !entries.is_empty() {
            (self.committed)(&entries);
        }
        Ok(())
    }
}

/// What waits first, once the lane is rung; nothing when nobody is left who could say anything.
async fn first(queue: &mut mpsc::Receiver<Job>, ring: &Notify) -> Option<Job> {
    loop {
        match queue.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => ring.notified().await,
        }
    }
}

/// How often, and until when, a transaction is tried again.
struct Again {
    until: tokio::time::Instant,
    pause: Duration,
}

impl Again {
    fn new() -> Self {
        Self { until: tokio::time::Instant::now() + PATIENCE, pause: Duration::from_millis(20) }
    }

    fn is_worth(&self, error: &sqlx::Error) -> bool {
        let is_worth = may_pass(error) && tokio::time::Instant::now() + self.pause < self.until;
        if is_worth {
            tracing::warn!(%error, "a transaction is tried again");
        }
        is_worth
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(1));
    }
}

fn refuse(batch: Vec<Pending>, error: sqlx::Error) {
    tracing::error!(%error, commands = batch.len(), "a batch was not stored");
    let poison = is_poison(&error);
    let error = Arc::new(error);
    for pending in batch {
        let answer = if poison {
            pending.is_answered();
            AppendError::Refused(Fault::new(ErrorCode::Invalid, "The database can't store this text."))
        } else {
            pending.fails_for_now();
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
    is_away(error)
        || error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| {
            // Serialization failure, deadlock, lock not available, a transaction that was idle for too long, unique violation (the
            // same client id was just committed elsewhere; the next look-up finds it), SQLITE_BUSY.
            matches!(&*code, "40001" | "40P01" | "55P03" | "25P03" | "23505" | "5")
        })
}
