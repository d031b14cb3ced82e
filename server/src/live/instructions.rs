//! What is counted of delivering: a room of a thousand, from the entries that a worker was handed to the kernel.
//!
//! Owns: the room, its sessions on real sockets, and that everybody was offered what they may see. Nothing of the path is left out or
//! replaced: who sees what, the frames, the sockets' writes. What the kernel does is not counted.
//! Refuses to know: how instructions are counted (`crate::instructions`), and what its sockets say: the other ends are never accepted, and
//! the kernel keeps what is written to them.

use super::allowance::Allowances;
use super::room::{Room, Seat, SeatState};
use super::session::Session;
use super::stream::Stream;
use super::tail::{Head, Held, Tails};
use super::worker::Worker;
use super::{Counts, Node};
use crate::bus::Bus;
use crate::bus::local::Exchange;
use crate::db::Db;
use crate::instructions::{NotCounted, counted, holds, posted, views};
use crate::log::pages::Holding;
use crate::log::{Entry, Listeners, Log, View};
use crate::trace::Traces;
use homeroom_protocol::{About, Address, RoomId, RoomKind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A school's room, or all guardians of a year.
const MEMBERS: usize = 1_000;
/// What one walk gathers when messages queue.
const GATHERED: i64 = 16;

/// Delivers an announcement, a stretch of them, and a private message.
pub(crate) fn run() -> Result<(), NotCounted> {
    actix_rt::System::new().block_on(fan_out())
}

async fn fan_out() -> Result<(), NotCounted> {
    let worker = Worker::start(Arc::new(node()?));
    let held = Held { head: Head { seq: 100, event: None }, holding: Holding::default() };
    let room = Rc::new(Room::new(RoomId::new(), RoomKind::Class, held));
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(MEMBERS as u32)?;
    seat_everybody(&worker, &room, &listener).await?;
    // As with PostgreSQL: nothing is delivered unless the bell was heard.
    worker.node.tails.cover(Instant::now(), Duration::from_secs(3_600));
    while !worker.may_deliver() {
        tokio::task::yield_now().await;
    }

    let one = [entry(&room, 1, Address::Announcements)?];
    counted_fan_out(&room, &worker, &one);
    counted("fan_out", delivered(&worker), MEMBERS)?;

    let gathered: Vec<Arc<Entry>> =
        (1..=GATHERED).map(|place| entry(&room, place, Address::Announcements)).collect::<Result<_, _>>()?;
    counted_fan_out(&room, &worker, &gathered);
    counted("fan_out_of_sixteen", delivered(&worker), MEMBERS * GATHERED as usize)?;

    let private = [entry(&room, 1, somebody(&room)?)?];
    counted_fan_out(&room, &worker, &private);
    counted("fan_out_to_staff_and_one", delivered(&worker), 51)?;
    let bad = |seat: &&Rc<Seat>| seat.session.is_blocked() || seat.session.has_ended();
    holds("sockets that did not take it", room.seats.borrow().iter().filter(bad).count(), 0)
}

#[inline(never)]
fn counted_fan_out(room: &Room, worker: &Rc<Worker>, entries: &[Arc<Entry>]) {
    room.deliver(worker, entries);
}

/// Events handed to sockets since the last time.
fn delivered(worker: &Worker) -> usize {
    worker.node.counts.delivered.swap(0, Ordering::Relaxed) as usize
}

fn entry(room: &Room, place: i64, to: Address) -> Result<Arc<Entry>, NotCounted> {
    posted(room.id, room.head.get() + place, to).map(Arc::new)
}

/// A guardian of the room, with their child.
fn somebody(room: &Room) -> Result<Address, NotCounted> {
    let seats = room.seats.borrow();
    let view = seats.last().map(|seat| seat.view());
    match view.as_deref() {
        Some(View::Guardian { person, intervals }) => {
            let student = intervals.first().and_then(|interval| interval.student).unwrap_or_default();
            Ok(Address::Private(About { guardian: *person, student }))
        }
        _ => Err(NotCounted::Undone { path: "guardians", found: 0, expected: 1 }),
    }
}

/// A node that asks no database and hears no bus.
pub(super) fn node() -> Result<Node, NotCounted> {
    Ok(node_on(Db::nowhere()?))
}

/// A node that hears no bus.
pub(super) fn node_on(db: Db) -> Node {
    // Nobody else is on it.
    let bus: Arc<dyn Bus> = Arc::new(Exchange::default().join(Arc::default()).0);
    Node {
        log: Log::start(&db, Listeners::none()),
        tails: Tails::new(db, bus.clone(), true, Traces::off()),
        bus,
        public_origin: None,
        traces: Traces::off(),
        draining: AtomicBool::new(false),
        allowances: Allowances::default(),
        counts: Counts::default(),
    }
}

async fn seat_everybody(worker: &Rc<Worker>, room: &Rc<Room>, listener: &TcpListener) -> Result<(), NotCounted> {
    for view in views() {
        let stream = TcpStream::connect(listener.local_addr()?).await?;
        stream.set_nodelay(true)?;
        stream.writable().await?;
        let session = Session::new(worker.clone(), Stream::Plain(stream), None);
        let seat = Rc::new(Seat::new(session.clone(), room.clone(), view));
        seat.becomes(SeatState::Live);
        session.seats.borrow_mut().push(seat.clone());
        room.add(seat);
    }
    holds("members", room.seats.borrow().len(), MEMBERS)
}
