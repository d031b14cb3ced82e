//! The tails of the rooms that this node holds: one per room, shared by all workers.
//!
//! Owns: the head of each held room, its ring of newest entries as they stand now, putting entries in order, filling holes
//! from the log, and handing each entry once to every worker with members of the room.
//! Refuses to know: sockets, sessions, and who may see what.
//!
//! Entries come from this node's lanes, from the bus (unordered, doubled, or not at all), and from the log when the bell or
//! a hole says so. Whatever the way, a tail takes the entry after its head and nothing else, so the workers see every
//! entry once and in order.

mod ends;
mod one;
mod repair;

use super::worker::{ToWorker, WorkerHandle};
use crate::bus::{Bus, News, Typing};
use crate::db::Db;
use crate::log::pages::{self, Holding, Missed, Pages};
use crate::log::{Entry, Moved, View, read};
use crate::trace::Traces;
use homeroom_protocol::{EventBody, EventId, PersonId, RoomId};
pub use one::Head;
use one::Tail;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a straggler is waited for before the log is read.
const STRAGGLER: Duration = Duration::from_millis(20);
/// How often a head is read that the bell makes too old.
const LOADS: usize = 10;
/// How long a room is held after its last member left: most come back.
const LINGER: Duration = Duration::from_secs(60);

/// The rooms that this node holds. Cheap to clone.
#[derive(Clone)]
pub struct Tails {
    shared: Arc<Shared>,
}

struct Shared {
    pages: Pages,
    db: Db,
    bus: Arc<dyn Bus>,
    rooms: Mutex<HashMap<RoomId, Tail>>,
    workers: Mutex<Vec<WorkerHandle>>,
    /// Until when delivery is covered by what the bell told; milliseconds since `begun`. `u64::MAX`: no bell is needed.
    covered_until: AtomicU64,
    /// When the bell was asked last that answered; milliseconds since `begun`.
    asked: AtomicU64,
    begun: Instant,
    traces: Traces,
    /// How often a room was begun to be held.
    holdings: AtomicU64,
    counts: Counts,
}

/// A room that is held.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// What comes after it is handed over.
    pub head: Head,
    /// Which holding of the room it is.
    pub holding: Holding,
}

/// What is counted, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// Holes that were found.
    pub holes: AtomicU64,
    /// Holes that were filled from the log.
    pub filled: AtomicU64,
    /// Rooms whose log was not the one that this node knew.
    pub rewritten: AtomicU64,
}

impl Tails {
    /// Holds nothing yet. `needs_bell`: another process may write to the same database.
    #[must_use]
    pub fn new(db: Db, bus: Arc<dyn Bus>, needs_bell: bool, traces: Traces) -> Self {
        let shared = Shared {
            pages: Pages::new(db.clone(), pages::BYTES),
            db,
            bus,
            rooms: Mutex::default(),
            workers: Mutex::default(),
            covered_until: AtomicU64::new(if needs_bell { 0 } else { u64::MAX }),
            asked: AtomicU64::new(0),
            begun: Instant::now(),
            traces,
            holdings: AtomicU64::new(1),
            counts: Counts::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Adds a worker; gives its number.
    pub(super) fn add_worker(&self, worker: WorkerHandle) -> usize {
        let mut workers = self.workers();
        workers.push(worker);
        workers.len() - 1
    }

    /// Gives the worker every entry of the room after the head that is returned.
    ///
    /// # Errors
    /// When the room is not held yet and the database does not answer.
    pub async fn hold(&self, room: RoomId, worker: usize) -> Result<Held, sqlx::Error> {
        loop {
            let (holding, loading) = {
                let mut rooms = self.rooms();
                let tail = rooms.entry(room).or_insert_with(|| {
                    self.shared.bus.hold(room);
                    let holding = Holding(self.shared.holdings.fetch_add(1, Ordering::Relaxed));
                    // Nobody has it before its head is known; where that can't be read, it is let go of with others.
                    Tail { holding, left_at: Some(Instant::now()), ..Tail::default() }
                });
                if let Some(head) = tail.head {
                    if !tail.holders.contains(&worker) {
                        tail.holders.push(worker);
                    }
                    tail.left_at = None;
                    return Ok(Held { head, holding: tail.holding });
                }
                (tail.holding, tail.loading.clone())
            };
            // The tail is in the table before the log is read: what is committed between the two is told by the bus or by the bell, and
            // noted. However many ask for the room at once, it is read once.
            loading.get_or_try_init(|| self.load(room, holding)).await?;
        }
    }

    /// Reads a room's head, as it is at least since the bell told of it last.
    async fn load(&self, room: RoomId, holding: Holding) -> Result<(), sqlx::Error> {
        let is_it = |tail: &&mut Tail| tail.holding == holding;
        for _ in 0..LOADS {
            if let Some(tail) = self.rooms().get_mut(&room).filter(is_it) {
                // What was told before the log is read is in what is read.
                tail.told = 0;
            }
            let (seq, event) = read::head(&self.shared.db, room).await?.unwrap_or((0, None));
            let hole = match self.rooms().get_mut(&room).filter(is_it) {
                Some(tail) if tail.told > seq => continue,
                Some(tail) => {
                    tail.settle(Head { seq, event });
                    tail.has_hole()
                }
                // It was let go of meanwhile.
                None => false,
            };
            if hole {
                self.ring(room, i64::MAX);
            }
            return Ok(());
        }
        // Its members change faster than the database answers.
        Err(sqlx::Error::PoolTimedOut)
    }

    /// The worker has no member of the room any more.
    pub(super) fn release(&self, room: RoomId, worker: usize) {
        if let Some(tail) = self.rooms().get_mut(&room) {
            tail.holders.retain(|holder| *holder != worker);
            if tail.holders.is_empty() && tail.left_at.is_none() {
                tail.left_at = Some(Instant::now());
            }
        }
    }

    /// The room's head, as far as this node knows it.
    #[must_use]
    pub fn head(&self, room: RoomId) -> Option<Head> {
        self.rooms().get(&room).and_then(|tail| tail.head)
    }

    /// Where an event stands in its room's log, if that is still in memory.
    #[must_use]
    pub fn seq_of(&self, room: RoomId, event: EventId) -> Option<i64> {
        let rooms = self.rooms();
        let tail = rooms.get(&room)?;
        match tail.head {
            Some(head) if head.event == Some(event) => Some(head.seq),
            _ => tail.ring.iter().rev().find(|entry| entry.event.id == event).map(|entry| entry.seq),
        }
    }

    /// The entries after `seq` in this holding of the room, if all of them are still in memory; as they stand now.
    #[must_use]
    pub fn after(&self, (room, holding): (RoomId, Holding), seq: i64) -> Option<Vec<Arc<Entry>>> {
        let rooms = self.rooms();
        let tail = rooms.get(&room).filter(|tail| tail.holding == holding)?;
        let head = tail.head?;
        if seq >= head.seq {
            return Some(Vec::new());
        }
        if tail.ring.front().is_none_or(|oldest| oldest.seq > seq + 1) {
            return None;
        }
        let first = tail.ring.partition_point(|entry| entry.seq <= seq);
        Some(tail.ring.range(first..).cloned().collect())
    }

    /// Takes entries in, from wherever they come. Those of rooms that are not held are passed over.
    pub fn accept(&self, entries: &[Arc<Entry>]) {
        let mut holes = Vec::new();
        {
            let mut rooms = self.rooms();
            for of_room in entries.chunk_by(|a, b| a.event.room == b.event.room) {
                let Some(room) = of_room.first().map(|entry| entry.event.room) else { continue };
                let Some(tail) = rooms.get_mut(&room) else { continue };
                let fresh = tail.accept(of_room);
                self.forget_changed(&fresh);
                // Handed over under the lock, so that two callers can't swap what they found.
                self.hand_over(room, tail, fresh);
                if tail.has_hole() && !tail.filling {
                    tail.filling = true;
                    holes.push(room);
                }
            }
        }
        for room in holes {
            self.shared.counts.holes.fetch_add(1, Ordering::Relaxed);
            let tails = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(STRAGGLER).await;
                tails.fill_patiently(room).await;
            });
        }
        self.tell_of_members(entries);
    }

    /// Pages that show an edited or retracted message as it was are not served again.
    fn forget_changed(&self, fresh: &[Arc<Entry>]) {
        for entry in fresh {
            if let EventBody::Edited { .. } | EventBody::Retracted { .. } = &entry.event.body {
                self.shared.pages.forget_message(entry.event.room, entry.event.conversation, entry.root_seq);
            }
        }
    }

    fn hand_over(&self, room: RoomId, tail: &Tail, fresh: Vec<Arc<Entry>>) {
        if fresh.is_empty() {
            return;
        }
        let _steps = self.shared.traces.follow_each("hand over", &fresh);
        let fresh: Arc<[Arc<Entry>]> = fresh.into();
        let workers = self.workers();
        for worker in tail.holders.iter().filter_map(|holder| workers.get(*holder)) {
            worker.tell(ToWorker::Entries(room, tail.holding, fresh.clone()));
        }
    }

    /// Who joined a room may be connected to any worker, one that does not hold the room among them.
    fn tell_of_members(&self, entries: &[Arc<Entry>]) {
        let joined: Vec<(RoomId, PersonId)> = entries
            .iter()
            .filter_map(|entry| {
                entry.member.filter(|member| member.joins).map(|member| (entry.event.room, member.person))
            })
            .collect();
        if !joined.is_empty() {
            self.tell_all(&ToWorker::Joined(joined.into()));
        }
    }

    /// Takes in what other nodes told.
    pub fn hear(&self, news: News) {
        match news {
            News::Entries(_, entries) => self.accept(&entries),
            News::Moved(moved) => self.moved(&moved),
            News::Typing(typing) => self.typing(typing),
            News::SignedOut(login) => self.tell_all(&ToWorker::SignedOut(login)),
        }
    }

    /// Tells the workers that hold the rooms which marks moved.
    pub fn moved(&self, moved: &Arc<[Moved]>) {
        self.tell_all(&ToWorker::Moved(moved.clone()));
    }

    /// Tells the workers that somebody writes.
    pub fn typing(&self, typing: Typing) {
        self.tell_all(&ToWorker::Typing(typing));
    }

    /// Tells every worker.
    pub(super) fn tell_all(&self, what: &ToWorker) {
        for worker in self.workers().iter() {
            worker.tell(what.clone());
        }
    }

    /// The bell was heard, and what it told of members was taken in: for `how_long` from the moment `asked` nothing can have
    /// been revoked unnoticed. Workers learn it behind what was handed over to them before.
    pub fn cover(&self, asked: Instant, how_long: Duration) {
        let asked_at = asked.duration_since(self.shared.begun);
        let milliseconds = |at: Duration| u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.shared.asked.store(milliseconds(asked_at), Ordering::Release);
        self.shared.covered_until.store(milliseconds(asked_at + how_long), Ordering::Release);
        self.tell_all(&ToWorker::Covered(asked + how_long));
    }

    /// Whether another process may write to the same database, so that delivery depends on the bell.
    pub(super) fn needs_bell(&self) -> bool {
        self.shared.covered_until.load(Ordering::Acquire) != u64::MAX
    }

    /// Whether the bell was heard within the last 2 s: without it nothing is delivered (invariant 9).
    #[must_use]
    pub fn may_deliver(&self) -> bool {
        let until = self.shared.covered_until.load(Ordering::Acquire);
        until == u64::MAX || self.shared.begun.elapsed().as_millis() < u128::from(until)
    }

    /// How long ago the bell was asked last that answered; nothing where none is needed.
    #[must_use]
    pub fn bell_lag(&self) -> Duration {
        if !self.needs_bell() {
            return Duration::ZERO;
        }
        let asked = Duration::from_millis(self.shared.asked.load(Ordering::Acquire));
        self.shared.begun.elapsed().saturating_sub(asked)
    }

    /// How many news wait, for each worker.
    #[must_use]
    pub fn waiting(&self) -> Vec<usize> {
        self.workers().iter().map(WorkerHandle::waiting).collect()
    }

    /// A stretch of what a member missed after `cursor`, not beyond `head`, which this node has taken in.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn missed(
        &self,
        (room, holding): (RoomId, Holding),
        view: &View,
        cursor: i64,
        head: i64,
    ) -> Result<Missed, sqlx::Error> {
        match self.after((room, holding), cursor) {
            Some(entries) => Ok(Missed { entries, until: head }),
            None => self.shared.pages.missed((room, holding), view, cursor, head).await,
        }
    }

    /// The pages that this node keeps.
    #[must_use]
    pub fn pages(&self) -> &Pages {
        &self.shared.pages
    }

    /// Lets go of the rooms whose last member left a while ago.
    pub fn sweep(&self) {
        self.rooms().retain(|room, tail| {
            let stays = tail.left_at.is_none_or(|left_at| left_at.elapsed() < LINGER);
            if !stays {
                // Under the lock: nobody can hold the room again and read a page in between.
                self.shared.pages.forget_room(*room);
                self.shared.bus.release(*room);
            }
            stays
        });
    }

    /// How many rooms are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.rooms().len()
    }

    /// What is counted.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, Tail>> {
        // No code under this lock panics half-way through a change.
        self.shared.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> MutexGuard<'_, Vec<WorkerHandle>> {
        self.shared.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
