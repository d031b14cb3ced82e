//! A room on one worker: its live members, and walking them once for all that is pending.
//!
//! Owns: how far this worker has come in the room's log, the seats (a session's place in the room, with its view and
//! cursor), and which bytes each seat is offered.
//! Refuses to know: how bytes reach a socket, and where entries come from.
//!
//! A seat is *behind* or *live*. Live means: its cursor equals the room's head, so the next entry is offered as it comes.
//! A seat whose socket takes no more is behind again, and reads on from its cursor when the socket drains.

use super::frame;
use super::session::Session;
use super::tail::Held;
use super::worker::Worker;
use crate::bus::Typing;
use crate::log::pages::Holding;
use crate::log::{Entry, Interval, MarkUp, MemberEntry, Moved, Sight, Subject, Thread, View};
use crate::sabotage::{self, Sabotage};
use homeroom_protocol::{Role, RoomId, RoomKind, ServerFrame};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries walked at once: one bit each tells who sees which.
const STRETCH: usize = 64;

/// A room on one worker.
pub(super) struct Room {
    pub(super) id: RoomId,
    /// Which holding of the room by this node its entries come from.
    pub(super) holding: Holding,
    /// What it belongs to, and so what may be said in it.
    pub(super) kind: RoomKind,
    /// The last seq that this worker has taken in.
    pub(super) head: Cell<i64>,
    pub(super) seats: RefCell<Vec<Rc<Seat>>>,
}

/// A session's place in a room.
pub(super) struct Seat {
    pub(super) session: Rc<Session>,
    pub(super) room: Rc<Room>,
    pub(super) view: RefCell<Rc<View>>,
    /// All that its member may see up to this seq was offered and taken.
    pub(super) cursor: Cell<i64>,
    state: Cell<SeatState>,
    /// Whether `caught_up` is still owed.
    pub(super) owes_caught_up: Cell<bool>,
    /// Where it stands among the room's seats.
    number: Cell<u32>,
}

/// What a seat is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeatState {
    /// Where it starts is being found out.
    Starting,
    /// Reads on from its cursor.
    Behind,
    /// Is offered each entry as it comes.
    Live,
    /// Its member left.
    Gone,
}

impl Seat {
    pub(super) fn new(session: Rc<Session>, room: Rc<Room>, view: View) -> Self {
        let cursor = room.head.get();
        Self {
            session,
            room,
            view: RefCell::new(Rc::new(view)),
            cursor: Cell::new(cursor),
            state: Cell::new(SeatState::Starting),
            owes_caught_up: Cell::new(true),
            number: Cell::new(u32::MAX),
        }
    }

    pub(super) fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    pub(super) fn role(&self) -> Role {
        if self.view.borrow().is_staff() { Role::Staff } else { Role::Guardian }
    }

    /// What the member sees of an entry.
    pub(super) fn sight(&self, subject: Subject) -> Sight {
        self.view.borrow().sight(subject)
    }

    pub(super) fn state(&self) -> SeatState {
        self.state.get()
    }

    /// Changes what it is doing, and counts it.
    pub(super) fn becomes(&self, state: SeatState) {
        let counts = &self.session.worker.node.counts;
        let gauge = |state| match state {
            SeatState::Live => Some(&counts.live),
            SeatState::Behind => Some(&counts.behind),
            SeatState::Starting | SeatState::Gone => None,
        };
        if let Some(gauge) = gauge(self.state.replace(state)) {
            gauge.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(gauge) = gauge(state) {
            gauge.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn falls_behind(&self) {
        if self.state() == SeatState::Live {
            self.becomes(SeatState::Behind);
            self.session.falls_behind();
        }
    }
}

/// The bytes for one kind of sight over a stretch of entries; most members of a room share one.
struct Shared {
    full: u64,
    withheld: u64,
    bytes: Rc<Vec<u8>>,
    frames: u64,
}

impl Room {
    pub(super) fn new(id: RoomId, kind: RoomKind, held: Held) -> Self {
        Self { id, kind, holding: held.holding, head: Cell::new(held.head.seq), seats: RefCell::default() }
    }

    pub(super) fn add(&self, seat: Rc<Seat>) {
        let mut seats = self.seats.borrow_mut();
        seat.number.set(u32::try_from(seats.len()).unwrap_or(u32::MAX));
        seats.push(seat);
    }

    /// Takes a seat away, if it is there. A school's room has thousands, and all of them may leave at once: nobody is looked for.
    pub(super) fn remove(&self, seat: &Rc<Seat>) {
        let mut seats = self.seats.borrow_mut();
        let number = seat.number.get() as usize;
        if seats.get(number).is_some_and(|there| Rc::ptr_eq(there, seat)) {
            seats.swap_remove(number);
            if let Some(moved) = seats.get(number) {
                moved.number.set(seat.number.get());
            }
        }
    }

    /// Takes in the next entries and offers them to the live members, in one write each. While nothing may be delivered,
    /// members fall behind instead.
    pub(super) fn deliver(&self, worker: &Rc<Worker>, entries: &[Arc<Entry>]) {
        let fresh = entries.partition_point(|entry| entry.seq <= self.head.get());
        let mut rest = entries.get(fresh..).unwrap_or_default();
        while let Some(first) = rest.first() {
            // A change of membership is offered by itself: what comes after it is judged by the new view.
            let length = if first.member.is_some() {
                1
            } else {
                rest.iter().take(STRETCH).take_while(|entry| entry.member.is_none()).count()
            };
            let (stretch, others) = rest.split_at(length);
            self.offer(worker, stretch);
            if let Some(last) = stretch.last() {
                self.head.set(last.seq);
            }
            if let Some(member) = first.member {
                self.change_member(worker, &member, first.seq);
            }
            rest = others;
        }
    }

    fn offer(&self, worker: &Worker, stretch: &[Arc<Entry>]) {
        let Some(last) = stretch.last() else { return };
        let mut steps = worker.node.traces.follow_each("deliver", stretch);
        let mut shared: Vec<Shared> = Vec::new();
        let mut delivered = 0;
        for seat in self.seats.borrow().iter() {
            if seat.state() != SeatState::Live {
                continue;
            }
            // Asked for each: a process that was stopped in the middle must not go on where it was.
            if !worker.may_deliver() {
                seat.falls_behind();
                continue;
            }
            let (mut full, mut withheld) = (0_u64, 0_u64);
            for (place, entry) in stretch.iter().enumerate() {
                if entry.seq <= seat.cursor.get() {
                    continue;
                }
                match seat.sight(entry.subject()) {
                    Sight::Full => full |= 1 << place,
                    Sight::Withheld => withheld |= 1 << place,
                    Sight::Nothing => {}
                }
            }
            if full | withheld != 0 {
                let known = shared.iter().position(|known| known.full == full && known.withheld == withheld);
                let known = known.unwrap_or_else(|| {
                    shared.push(Shared::encode(stretch, full, withheld));
                    shared.len() - 1
                });
                let Some(bytes) = shared.get(known) else { continue };
                if !seat.session.offer(&bytes.bytes) {
                    seat.falls_behind();
                    continue;
                }
                delivered += bytes.frames;
                if sabotage::is(Sabotage::MarksOnWrites) {
                    seat.mark_as_delivered(stretch, full | withheld);
                }
            }
            seat.cursor.set(seat.cursor.get().max(last.seq));
        }
        steps.iter_mut().for_each(|step| step.note("homeroom.delivered", delivered as i64));
        worker.node.counts.delivered.fetch_add(delivered, Ordering::Relaxed);
    }

    /// Members see by their new view from here on.
    fn change_member(&self, worker: &Rc<Worker>, member: &MemberEntry, seq: i64) {
        if sabotage::is(Sabotage::DeliverToRevoked) && !member.joins {
            return;
        }
        let seats: Vec<Rc<Seat>> =
            self.seats.borrow().iter().filter(|seat| seat.session.person() == Some(member.person)).cloned().collect();
        for seat in seats {
            // Somebody who was a guardian here and is staff now, or what only a newer version knows, starts anew with the right view.
            // So does a session that has not been told yet where it starts.
            if !seat.session.welcomed.get() {
                seat.session.end(super::Ending::Drop);
                continue;
            }
            if seat.role() != member.role {
                if member.role != Role::Guardian {
                    seat.session.end(super::Ending::Drop);
                }
                continue;
            }
            let Some(view) = changed(&seat.view(), member, seq) else { continue };
            let stays = view.present_after().is_some();
            *seat.view.borrow_mut() = Rc::new(view);
            // Bytes that wait for a blocked socket were judged by the old view. They must not reach the kernel now.
            if seat.session.is_blocked() {
                seat.session.end(super::Ending::Drop);
            } else if stays {
                // One that is starting already finds the new view where it looks for its place: a second start beside it would put
                // the cursor back behind what the first has let through.
                if seat.state() != SeatState::Starting {
                    seat.becomes(SeatState::Starting);
                    seat.session.restart(&seat);
                }
            } else {
                seat.becomes(SeatState::Gone);
                worker.remove_seat(&seat);
                seat.session.leaves(&seat);
                // They may be back already: the worker was told so while they still had this seat, and could give them no other.
                worker.seat_newcomer(seat.session.clone(), member.person);
            }
        }
    }

    /// Tells those who may know that a mark moved: its owner's devices, staff, and for the staff's marks in a private
    /// conversation its guardian.
    pub(super) fn tell_moved(&self, moved: &Moved) {
        let frame = ServerFrame::Mark { room: moved.room, conversation: moved.conversation, mark: moved.mark };
        let bytes = super::encode(&frame);
        // In a private conversation everybody but its guardian is staff.
        let by_staff = matches!(moved.thread, Thread::Private(about) if about.guardian != moved.mark.person);
        for seat in self.seats.borrow().iter().filter(|seat| seat.state() == SeatState::Live) {
            let may_know = seat.session.person() == Some(moved.mark.person)
                || seat.view.borrow().is_staff()
                || (by_staff && seat.may_see_thread(moved.thread));
            if may_know {
                // Who is blocked reads the marks with the next snapshot.
                let _dropped = seat.session.offer(&bytes);
            }
        }
    }

    /// Tells those who may see the conversation that somebody writes.
    pub(super) fn tell_typing(&self, typing: &Typing) {
        let frame = ServerFrame::Typing { room: typing.room, conversation: typing.conversation, person: typing.person };
        let bytes = super::encode(&frame);
        for seat in self.seats.borrow().iter().filter(|seat| seat.state() == SeatState::Live) {
            if seat.session.person() != Some(typing.person) && seat.may_see_thread(typing.thread) {
                let _dropped = seat.session.offer_if_idle(&bytes);
            }
        }
    }

    /// Entries for this room were lost on the way: go on from what the tail knows. Whether it knows enough.
    #[must_use]
    pub(super) fn fall_behind(&self, worker: &Rc<Worker>) -> bool {
        // Views must not miss a change of membership: it is read with the rest, before anything is delivered again.
        let known = worker.node.tails.after((self.id, self.holding), self.head.get());
        known.map(|entries| self.deliver(worker, &entries)).is_some()
    }

    /// What this worker knows of the room is not to be built on: its sessions come back and begin anew.
    pub(super) fn end_sessions(&self) {
        for seat in self.seats.borrow().iter() {
            seat.session.end(super::Ending::Close(homeroom_protocol::CloseCode::Unavailable));
        }
    }
}

impl Seat {
    /// What a server must never do: it takes its own writing for the client's word.
    fn mark_as_delivered(&self, stretch: &[Arc<Entry>], shown: u64) {
        let Some(person) = self.session.person() else { return };
        for (place, entry) in stretch.iter().enumerate() {
            if let (1, Some(conversation), Some(n)) = (shown >> place & 1, entry.event.conversation, entry.event.n) {
                let delivered = i64::try_from(n).unwrap_or(i64::MAX);
                let mark = MarkUp { room: self.room.id, conversation, person, delivered, read: 0 };
                let log = self.session.worker.node.log.clone();
                actix_rt::spawn(async move { drop(log.mark(mark).await) });
            }
        }
    }

    /// Whether what is said in a conversation from now on is for the member.
    pub(super) fn may_see_thread(&self, thread: Thread) -> bool {
        self.sight(Subject { root_seq: i64::MAX, thread }) == Sight::Full
    }
}

impl Shared {
    fn encode(stretch: &[Arc<Entry>], full: u64, withheld: u64) -> Self {
        let mut bytes = Vec::new();
        for (place, entry) in stretch.iter().enumerate() {
            let sight = match (full >> place & 1, withheld >> place & 1) {
                (1, _) => Sight::Full,
                (_, 1) => Sight::Withheld,
                _ => Sight::Nothing,
            };
            if let Some(payload) = entry.payload(sight) {
                frame::append_text(&mut bytes, payload);
            }
        }
        Self { full, withheld, bytes: Rc::new(bytes), frames: u64::from((full | withheld).count_ones()) }
    }
}

/// A view after a change of membership; `None` when it already is so.
fn changed(view: &View, member: &MemberEntry, seq: i64) -> Option<View> {
    let (View::Staff { intervals } | View::Guardian { intervals, .. }) = view;
    let mut intervals = intervals.to_vec();
    let open = intervals.iter_mut().find(|interval| interval.until.is_none() && interval.student == member.student);
    match (open, member.joins) {
        (Some(_), true) | (None, false) => return None,
        (Some(interval), false) => interval.until = Some(seq),
        (None, true) => {
            intervals.push(Interval { student: member.student, after: member.sees_after, until: None });
        }
    }
    let intervals = intervals.into_boxed_slice();
    Some(match view {
        View::Guardian { person, .. } => View::Guardian { person: *person, intervals },
        View::Staff { .. } => View::Staff { intervals },
    })
}
