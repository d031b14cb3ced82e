//! One worker's share of the live world: its rooms, its sessions, its clock.
//!
//! Owns: taking what the tails hand over, gathering what is pending for a room before its members are walked, who is connected (and
//! where they sit: `seats`), and the one timer wheel of the worker (`clock`).
//! Refuses to know: frames, SQL, and other workers. Everything here runs on one thread and needs no lock.

mod clock;
mod seats;

use super::arrivals::Arrivals;
use super::room::Room;
use super::session::Session;
use super::{Ending, Node};
use crate::bus::Typing;
use crate::log::pages::Holding;
use crate::log::{Entry, Moved};
use clock::{LOGINS, SLOTS};
use homeroom_protocol::{CloseCode, PersonId, RoomId, SessionId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

/// Entries, marks and typing that wait for one worker. Full: all its rooms fall behind and read on from the log.
const INBOX: usize = 4_096;
/// Changes of membership, sign-outs, drains. Full: the worker sends its sessions away, to come back and be asked anew.
const CONTROL: usize = 1_024;
/// Messages of the inbox gathered before members are walked. Bounds how long the first of them waits.
const GATHER: usize = 256;
/// Commands that are batch enough: a lane is rung however many sockets are ready.
const RING: usize = 32;
/// Seats that are walked within half a millisecond: an answer waits so long for the event that leaves with it, and not for more.
const SOON: usize = 64;

/// Which room, in which holding of it, entries are handed over of.
type Handed = (RoomId, Holding);

/// What the rest of the node tells a worker.
#[derive(Debug, Clone)]
pub(super) enum ToWorker {
    /// The next entries of a room, in this holding of it.
    Entries(RoomId, Holding, Arc<[Arc<Entry>]>),
    /// Marks moved.
    Moved(Arc<[Moved]>),
    /// Somebody writes.
    Typing(Typing),
    /// These people joined these rooms.
    Joined(Arc<[(RoomId, PersonId)]>),
    /// What was handed over before this is all that can have been revoked until then.
    Covered(Instant),
    /// The room's log is not the one that this holding of it knew.
    Rewritten(RoomId, Holding),
    /// This sign-in ended.
    SignedOut(Uuid),
    /// Say good-bye, spread over so long.
    Drain(Duration),
}

/// The way to a worker, from any thread. Never waits.
#[derive(Debug, Clone)]
pub(super) struct WorkerHandle {
    inbox: mpsc::Sender<ToWorker>,
    control: mpsc::Sender<ToWorker>,
    /// Something did not fit in the inbox.
    behind: Arc<AtomicBool>,
    /// Something did not fit among the controls.
    lost: Arc<AtomicBool>,
}

impl WorkerHandle {
    /// How many news wait.
    pub(super) fn waiting(&self) -> usize {
        self.inbox.max_capacity() - self.inbox.capacity()
    }

    pub(super) fn tell(&self, what: ToWorker) {
        match what {
            // Presence is the first to be dropped.
            ToWorker::Typing(_) if self.inbox.capacity() < INBOX / 2 => {}
            ToWorker::Entries(..) | ToWorker::Moved(_) | ToWorker::Typing(_) => {
                if self.inbox.try_send(what).is_err() {
                    self.behind.store(true, Ordering::Release);
                }
            }
            // In its turn behind the entries; told four times a second, so one that does not fit is not missed.
            ToWorker::Covered(_) => drop(self.inbox.try_send(what)),
            ToWorker::Joined(_) | ToWorker::Rewritten(..) | ToWorker::SignedOut(_) | ToWorker::Drain(_) => {
                if self.control.try_send(what).is_err() {
                    self.lost.store(true, Ordering::Release);
                }
            }
        }
    }
}

/// One worker.
pub(super) struct Worker {
    pub(super) node: Arc<Node>,
    /// What its sessions ask when they begin.
    pub(super) arrivals: Arrivals,
    number: usize,
    rooms: RefCell<HashMap<RoomId, Rc<Room>>>,
    sessions: RefCell<HashMap<SessionId, Rc<Session>>>,
    people: RefCell<HashMap<PersonId, Vec<Rc<Session>>>>,
    /// Until when delivery is covered by what the bell told; `None`: no bell is needed.
    covered_until: Cell<Option<Instant>>,
    covered: Notify,
    wheel: RefCell<Vec<Vec<SessionId>>>,
    hand: Cell<usize>,
    /// Seconds until sign-ins are looked at.
    logins_in: Cell<usize>,
    /// How often it was told of something that concerns people rather than rooms; see [`Worker::told_of_people`].
    told_of_people: Cell<u64>,
    /// Commands placed in lanes that were not rung since.
    placed: Cell<usize>,
    /// Who has an answer that leaves with what comes next.
    held_back: RefCell<Vec<Rc<Session>>>,
    /// What a socket is read into; shared, since only one session reads at a time.
    pub(super) read_buffer: RefCell<Box<[u8]>>,
}

/// Bytes read from a socket at once.
const READ_BUFFER: usize = 64 * 1024;

impl Worker {
    /// Starts a worker on the current thread.
    pub(super) fn start(node: Arc<Node>) -> Rc<Self> {
        let (inbox, from_inbox) = mpsc::channel(INBOX);
        let (control, from_control) = mpsc::channel(CONTROL);
        let handle = WorkerHandle { inbox, control, behind: Arc::default(), lost: Arc::default() };
        let number = node.tails.add_worker(handle.clone());
        // Nothing was heard yet: with a bell, nothing is covered.
        let covered_until = node.tails.needs_bell().then(Instant::now);
        let worker = Rc::new(Self {
            arrivals: Arrivals::new(node.log.db(), &node.tails),
            node,
            number,
            rooms: RefCell::default(),
            sessions: RefCell::default(),
            people: RefCell::default(),
            covered_until: Cell::new(covered_until),
            covered: Notify::new(),
            wheel: RefCell::new(vec![Vec::new(); SLOTS]),
            hand: Cell::new(0),
            logins_in: Cell::new(LOGINS),
            told_of_people: Cell::new(0),
            placed: Cell::new(0),
            held_back: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER].into()),
        });
        actix_rt::spawn(worker.clone().run(from_inbox, from_control, handle));
        worker
    }

    async fn run(
        self: Rc<Self>,
        mut inbox: mpsc::Receiver<ToWorker>,
        mut control: mpsc::Receiver<ToWorker>,
        handle: WorkerHandle,
    ) {
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            // Dropping any of these futures loses nothing: a message stays in its channel, a tick comes again.
            tokio::select! {
                biased;
                told = control.recv() => match told {
                    Some(told) => self.control(told),
                    None => return,
                },
                told = inbox.recv() => match told {
                    Some(first) => self.gather(first, &mut inbox),
                    None => return,
                },
                _ = clock.tick() => self.tick(),
            }
            if handle.behind.swap(false, Ordering::AcqRel) {
                self.fall_behind();
            }
            if handle.lost.swap(false, Ordering::AcqRel) {
                tracing::warn!(worker = self.number, "too many changes at once: all sessions are asked to come back");
                // Also of rooms: that one of them was rewritten may be among what was lost.
                let rooms: Vec<Rc<Room>> = self.rooms.borrow().values().cloned().collect();
                rooms.iter().for_each(|room| self.give_up(room));
                for session in self.all_sessions() {
                    session.end(Ending::Close(CloseCode::Unavailable));
                }
            }
        }
    }

    /// Takes all that waits, then walks each room's members once.
    fn gather(self: &Rc<Self>, first: ToWorker, inbox: &mut mpsc::Receiver<ToWorker>) {
        let mut pending: Vec<(Handed, Vec<Arc<Entry>>)> = Vec::new();
        let mut aside: Vec<ToWorker> = Vec::new();
        let mut next = Some(first);
        for _ in 0..GATHER {
            match next.take().or_else(|| inbox.try_recv().ok()) {
                Some(ToWorker::Entries(room, holding, entries)) => {
                    match pending.iter_mut().find(|(of, _)| *of == (room, holding)) {
                        Some((_, gathered)) => gathered.extend(entries.iter().cloned()),
                        None => pending.push(((room, holding), entries.to_vec())),
                    }
                }
                Some(other) => aside.push(other),
                None => break,
            }
        }
        // What is left of an earlier holding is of a log that is not this one.
        let room = |(room, holding): Handed| self.room(room).filter(|room| room.holding == holding);
        let pending: Vec<(Rc<Room>, Vec<Arc<Entry>>)> =
            pending.into_iter().filter_map(|(of, entries)| Some((room(of)?, entries))).collect();
        if pending.iter().map(|(room, _)| room.seats.borrow().len()).sum::<usize>() > SOON {
            self.write_what_was_held_back();
        }
        for (room, entries) in pending {
            room.deliver(self, &entries);
        }
        for told in aside {
            let may_deliver = self.may_deliver();
            match told {
                ToWorker::Covered(until) => {
                    self.covered_until.set(Some(until));
                    self.covered.notify_waiters();
                }
                ToWorker::Moved(moved) if may_deliver => {
                    for moved in moved.iter() {
                        if let Some(room) = self.room(moved.room) {
                            room.tell_moved(moved);
                        }
                    }
                }
                ToWorker::Typing(typing) if may_deliver => {
                    if let Some(room) = self.room(typing.room) {
                        room.tell_typing(&typing);
                    }
                }
                // What can't be delivered now is in the next snapshot.
                _ => {}
            }
        }
    }

    fn control(self: &Rc<Self>, told: ToWorker) {
        if matches!(told, ToWorker::Joined(_) | ToWorker::SignedOut(_)) {
            self.told_of_people.set(self.told_of_people.get().wrapping_add(1));
        }
        match told {
            ToWorker::Joined(joined) => {
                for (room, person) in joined.iter() {
                    for session in self.sessions_of(*person) {
                        if session.seat(*room).is_none() {
                            self.seat_newcomer(session, *person);
                        }
                    }
                }
            }
            ToWorker::SignedOut(login) => self.signed_out(login),
            ToWorker::Drain(window) => {
                for session in self.all_sessions() {
                    session.drain(window);
                }
            }
            ToWorker::Rewritten(room, holding) => {
                if let Some(room) = self.room(room).filter(|room| room.holding == holding) {
                    self.give_up(&room);
                }
            }
            ToWorker::Entries(..) | ToWorker::Moved(_) | ToWorker::Typing(_) | ToWorker::Covered(_) => {}
        }
    }

    /// Whether anything may be delivered: the bell was heard within the last 2 s, and all that was handed over before that is
    /// taken in (invariant 9).
    pub(super) fn may_deliver(&self) -> bool {
        self.covered_until.get().is_none_or(|until| Instant::now() < until)
    }

    /// Waits until something may be delivered.
    pub(super) async fn until_deliverable(&self) {
        while !self.may_deliver() {
            self.covered.notified().await;
        }
    }

    /// Rises whenever people joined rooms or a sign-in ended. A session that does not know yet whose it is can't be told of that; what it
    /// read of them before may not be so any more.
    pub(super) fn told_of_people(&self) -> u64 {
        self.told_of_people.get()
    }

    pub(super) fn add_session(&self, session: &Rc<Session>) {
        self.sessions.borrow_mut().insert(session.id, session.clone());
        self.node.counts.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_person(&self, person: PersonId, session: &Rc<Session>) {
        self.people.borrow_mut().entry(person).or_default().push(session.clone());
    }

    pub(super) fn remove_session(&self, session: &Rc<Session>) {
        if self.sessions.borrow_mut().remove(&session.id).is_some() {
            self.node.counts.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(person) = session.person() {
            let mut people = self.people.borrow_mut();
            if let Some(sessions) = people.get_mut(&person) {
                sessions.retain(|other| !Rc::ptr_eq(other, session));
                if sessions.is_empty() {
                    people.remove(&person);
                }
            }
        }
    }

    /// A command was placed in a lane. Others of sockets that were ready in the same moment go into the same batch: a commit each would
    /// cost as much, and each would be a walk through the room.
    pub(super) fn ring_soon(self: &Rc<Self>) {
        let placed = self.placed.get() + 1;
        self.placed.set(placed % RING);
        if placed == RING {
            self.node.log.ring();
        } else if placed == 1 {
            let worker = self.clone();
            actix_rt::spawn(async move {
                worker.placed.set(0);
                worker.node.log.ring();
            });
        }
    }

    /// The session has an answer that leaves with what comes next. What was committed together was handed over together, so that comes
    /// before the sockets are looked at again, or not soon.
    pub(super) fn hold_back(self: &Rc<Self>, session: Rc<Session>) {
        let mut held_back = self.held_back.borrow_mut();
        held_back.push(session);
        if held_back.len() == 1 {
            let worker = self.clone();
            actix_rt::spawn(async move {
                tokio::task::yield_now().await;
                worker.write_what_was_held_back();
            });
        }
    }

    fn write_what_was_held_back(&self) {
        let held_back = std::mem::take(&mut *self.held_back.borrow_mut());
        held_back.iter().for_each(Session::write_what_was_held_back);
    }

    fn signed_out(&self, login: Uuid) {
        for session in self.all_sessions() {
            if session.login() == Some(login) {
                session.say_bye(homeroom_protocol::ByeReason::SignedOut, 0);
                session.end(Ending::Close(CloseCode::Unauthenticated));
            }
        }
    }

    /// The inbox overflowed: every room goes on from what the tails know, and every member reads what it missed.
    fn fall_behind(self: &Rc<Self>) {
        let rooms: Vec<Rc<Room>> = self.rooms.borrow().values().cloned().collect();
        for room in rooms {
            if !room.fall_behind(self) {
                self.give_up(&room);
            }
        }
    }

    /// What this worker knows of a room is not to be built on: its sessions come back, and who takes a seat from now on finds a room of a
    /// later making. While the last of them leave, nobody joins them.
    fn give_up(&self, room: &Rc<Room>) {
        let mut rooms = self.rooms.borrow_mut();
        if rooms.get(&room.id).is_some_and(|held| Rc::ptr_eq(held, room)) {
            rooms.remove(&room.id);
            self.node.tails.release(room.id, self.number);
        }
        drop(rooms);
        room.end_sessions();
    }

    fn room(&self, room: RoomId) -> Option<Rc<Room>> {
        self.rooms.borrow().get(&room).cloned()
    }

    /// A session of this worker, unless it has ended.
    pub(super) fn session(&self, id: SessionId) -> Option<Rc<Session>> {
        self.sessions.borrow().get(&id).cloned()
    }

    fn sessions_of(&self, person: PersonId) -> Vec<Rc<Session>> {
        self.people.borrow().get(&person).cloned().unwrap_or_default()
    }

    fn all_sessions(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().values().cloned().collect()
    }
}
