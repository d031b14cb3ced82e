//! A session: one WebSocket, from the upgrade to its end.
//!
//! Owns: reading the socket, what one command may cost others, pings, the one exit path.
//! Refuses to know: what commands mean (see `command`), how a session signs in (see `hello`), how it catches up, how it is written to (see
//! `output`).

mod heartbeat;
mod output;

use super::frame::{self, Decoder, Item};
use super::room::{Seat, SeatState};
use super::stream::Stream;
use super::worker::Worker;
use super::{Ending, command, encode, hello};
use crate::identity::LoggedIn;
use crate::log::append::Turns;
use heartbeat::{Beat, Heartbeat, ping_after};
use homeroom_protocol::codec::{self, Undecodable};
use homeroom_protocol::{
    ByeReason, ClientFrame, CloseCode, ErrorCode, EventId, Fault, Limits, PersonId, Ref, RoomId, ServerFrame, SessionId,
};
use output::Output;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use uuid::Uuid;

/// No commands are read while this much output waits.
const PAUSE_READING: usize = 32 * 1024;
/// Messages taken in before others have their turn. What one read holds may be 10,900 of the smallest, each refused with an answer of its
/// own; so many are well under a millisecond, and as many commands as may be under way at once anyway.
const TURN: usize = 64;
/// Commands under way at once.
const IN_FLIGHT: usize = 64;
/// Others are told that somebody types at most this often. Clients say so every 3 s.
const TYPING: Duration = Duration::from_secs(2);
/// Seconds from the upgrade to `hello`.
const HELLO_SECONDS: usize = 10;
/// A peer that takes nothing for so long is gone.
const STUCK: Duration = Duration::from_secs(60);
/// How long a closed connection is kept so that the peer can read why.
const LINGER: Duration = Duration::from_secs(2);

/// One WebSocket.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) worker: Rc<Worker>,
    stream: Stream,
    output: RefCell<Output>,
    pub(super) seats: RefCell<Vec<Rc<Seat>>>,
    pub(super) who: RefCell<Option<LoggedIn>>,
    /// The cookie's token, until `hello`.
    pub(super) cookie: RefCell<Option<String>>,
    turns: OnceCell<Arc<Turns>>,
    in_flight: RefCell<Vec<Ref>>,
    /// When others were last told that it types.
    told_typing: Cell<Option<Instant>>,
    /// Whether the peer is still there.
    heartbeat: Cell<Heartbeat>,
    /// It was told where it starts.
    pub(super) welcomed: Cell<bool>,
    /// Its person was added to a room before that.
    pub(super) looks_again: Cell<bool>,
    ending: Cell<Option<Ending>>,
    draining: Cell<bool>,
    pub(super) catching_up: Cell<bool>,
    /// Something changed that the reading task waits for.
    wake: Notify,
}

/// Who somebody says they are, and how far they have come. The one command that takes its time.
struct Hello {
    token: Option<String>,
    positions: BTreeMap<RoomId, Option<EventId>>,
}

impl Session {
    pub(super) fn new(worker: Rc<Worker>, stream: Stream, cookie: Option<String>) -> Rc<Self> {
        let session = Rc::new(Self {
            id: SessionId::new(),
            worker: worker.clone(),
            stream,
            output: RefCell::default(),
            seats: RefCell::default(),
            who: RefCell::default(),
            cookie: RefCell::new(cookie),
            turns: OnceCell::new(),
            in_flight: RefCell::default(),
            told_typing: Cell::new(None),
            heartbeat: Cell::default(),
            welcomed: Cell::new(false),
            looks_again: Cell::new(false),
            ending: Cell::new(None),
            draining: Cell::new(false),
            catching_up: Cell::new(false),
            wake: Notify::new(),
        });
        worker.add_session(&session);
        worker.look_after(session.id, HELLO_SECONDS);
        session
    }

    /// Serves the socket until it ends. `early`: bytes that came with the upgrade request.
    pub(super) async fn run(self: Rc<Self>, early: Vec<u8>) {
        let mut decoder = Decoder::new(Limits::CURRENT.frame_bytes);
        // What has come and is not looked at yet: at most what was read at once, and mostly nothing.
        let mut held = early;
        while self.ending.get().is_none() {
            if self.is_paused() {
                self.wake.notified().await;
                continue;
            }
            if held.is_empty() {
                // Dropping either future loses nothing: readiness is asked for again, and what woke us is looked at above.
                tokio::select! {
                    ready = self.stream.readable() => if ready.is_err() { self.end(Ending::Drop) },
                    () = self.wake.notified() => continue,
                }
            }
            if let Some(Hello { token, positions }) = self.read(&mut decoder, &mut held) {
                // In a box of its own, which goes when it is done: the task that stays for hours has no room for it.
                Box::pin(hello::hello(&self, token, positions)).await;
            }
            if !held.is_empty() {
                // Whoever sends much at once takes turns with those who share the worker. Sockets are looked at in between.
                tokio::task::yield_now().await;
            }
        }
        drop(held);
        self.leave().await;
    }

    /// Takes in what is held, or what the socket has.
    fn read(self: &Rc<Self>, decoder: &mut Decoder, held: &mut Vec<u8>) -> Option<Hello> {
        if !held.is_empty() {
            let (hello, rest) = self.decode(decoder, held);
            held.drain(..held.len() - rest);
            return hello;
        }
        let mut buffer = self.worker.read_buffer.borrow_mut();
        match self.stream.try_read(&mut buffer) {
            Ok(0) => self.end(Ending::Drop),
            Ok(read) => {
                let chunk = buffer.get_mut(..read).unwrap_or_default();
                let (hello, rest) = self.decode(decoder, chunk);
                *held = chunk.get(read - rest..).unwrap_or_default().to_vec();
                return hello;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.end(Ending::Drop),
        }
        None
    }

    /// Takes in a chunk, message by message, so that nothing is kept of what was answered. It stops where the session is paused, has to
    /// wait for its `hello`, or has had its turn, and then writes what is to be said of it at once; gives how many bytes of the chunk are
    /// left, as they came.
    fn decode(self: &Rc<Self>, decoder: &mut Decoder, chunk: &mut [u8]) -> (Option<Hello>, usize) {
        let mut hello = None;
        let mut left = TURN;
        let mut outcome = Ok(0);
        self.in_one_write(|| {
            outcome = decoder.decode(chunk, |item| {
                self.heartbeat.set(self.heartbeat.get().heard());
                self.take(item, &mut hello);
                left -= 1;
                if left == 0 || hello.is_some() || self.ending.get().is_some() || self.is_paused() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        });
        let rest = outcome.unwrap_or_else(|error| {
            self.worker.node.counts.protocol_errors.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(session = %self.id, %error, "the WebSocket protocol was broken");
            self.end(Ending::Close(error.close_code()));
            0
        });
        (hello, rest)
    }

    fn take(self: &Rc<Self>, item: Item<'_>, hello: &mut Option<Hello>) {
        match item {
            Item::Text(text) => match codec::decode_client(text) {
                Ok(ClientFrame::Hello { token, positions }) => *hello = Some(Hello { token, positions }),
                said if self.who.borrow().is_none() => {
                    // A `hello` that can't be read: its client should learn what is wrong with what it has stored.
                    if let Err(undecodable) = said {
                        self.refuse(None, undecodable.fault);
                    }
                    self.end(Ending::Close(CloseCode::Policy));
                }
                Ok(command) => command::handle(self, command),
                Err(Undecodable { reference, fault }) => {
                    if self.is_allowed(reference) {
                        self.refuse(reference, fault);
                    }
                }
            },
            Item::Binary(_) => {
                if self.is_allowed(None) {
                    self.refuse(None, Fault::new(ErrorCode::Malformed, "Send text frames, not binary ones."));
                }
                if self.who.borrow().is_none() {
                    self.end(Ending::Close(CloseCode::Policy));
                }
            }
            Item::Ping(payload) => self.write(&frame::pong(payload)),
            Item::Pong => {}
            Item::Close(reason) => {
                // The same code back, then the end. Nothing that came after it counts.
                let code = reason.map_or(CloseCode::Normal.number(), |reason| reason.code.into());
                self.write(&frame::close(code, ""));
                self.end(Ending::Drop);
            }
        }
    }

    /// Takes one command from what its person has left, or answers that there is none.
    pub(super) fn is_allowed(&self, reference: Option<Ref>) -> bool {
        let node = &self.worker.node;
        match self.person().map_or(Ok(()), |person| node.allowances.command(person)) {
            Ok(()) => {
                node.counts.commands.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(fault) => {
                self.refuse(reference, fault);
                false
            }
        }
    }

    /// Whether others are told that it types; notes that they are. Somebody types in one place at a time, and each time costs all who may
    /// see the conversation, on every node: so it is counted over all of them, and nobody can go round it by changing places.
    pub(super) fn may_tell_typing(&self) -> bool {
        let may = self.told_typing.get().is_none_or(|told| told.elapsed() >= TYPING);
        if may {
            self.told_typing.set(Some(Instant::now()));
        }
        may
    }

    /// Notes that a command is under way; refuses a second one with the same ref, or too many.
    pub(super) fn begin(&self, reference: Ref) -> Result<(), Fault> {
        let mut in_flight = self.in_flight.borrow_mut();
        if in_flight.contains(&reference) {
            return Err(Fault::new(ErrorCode::RefInUse, "A command with this ref is under way. Use another one."));
        }
        if in_flight.len() >= IN_FLIGHT {
            return Err(
                Fault::new(ErrorCode::RateLimited, "Too many commands under way. Wait for some answers.").after(100)
            );
        }
        in_flight.push(reference);
        Ok(())
    }

    /// The command has its answer.
    pub(super) fn answer(&self, reference: Ref, frame: &ServerFrame) {
        self.in_flight.borrow_mut().retain(|other| *other != reference);
        self.write(&encode(frame));
        self.wake.notify_one();
    }

    /// The command was appended. Its author gets the event as everybody does, mostly in the same moment.
    pub(super) fn acknowledge(&self, reference: Ref, id: EventId, n: u64) {
        self.in_flight.borrow_mut().retain(|other| *other != reference);
        self.write_with_what_comes(&encode(&ServerFrame::Ack { reference, id: Some(id), n: Some(n) }));
        self.wake.notify_one();
    }

    /// Refuses a command. The session goes on.
    pub(super) fn refuse(&self, reference: Option<Ref>, fault: Fault) {
        self.write(&encode(&ServerFrame::Error { reference, fault }));
    }

    /// The order that its posts have to keep.
    pub(super) fn turns(&self) -> &Arc<Turns> {
        self.turns.get_or_init(Arc::default)
    }

    pub(super) fn person(&self) -> Option<PersonId> {
        self.who.borrow().as_ref().map(|who| who.person)
    }

    pub(super) fn login(&self) -> Option<Uuid> {
        self.who.borrow().as_ref().map(|who| who.login)
    }

    pub(super) fn seat(&self, room: RoomId) -> Option<Rc<Seat>> {
        self.seats.borrow().iter().find(|seat| seat.room.id == room).cloned()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ending.get().is_some()
    }

    fn is_paused(&self) -> bool {
        self.draining.get() || self.waiting() > PAUSE_READING || self.in_flight.borrow().len() >= IN_FLIGHT
    }

    /// A seat of it is behind.
    pub(super) fn falls_behind(self: &Rc<Self>) {
        self.worker.node.counts.fell_behind.fetch_add(1, Ordering::Relaxed);
        // A blocked one reads on when its socket drains.
        if !self.is_blocked() {
            self.catch_up();
        }
    }

    /// Its member left the room.
    pub(super) fn leaves(self: &Rc<Self>, seat: &Rc<Seat>) {
        self.seats.borrow_mut().retain(|other| !Rc::ptr_eq(other, seat));
        self.write(&encode(&ServerFrame::Left { room: seat.room.id }));
    }

    /// Says when to come back. Nothing more is read.
    pub(super) fn say_bye(&self, reason: ByeReason, reconnect_after_ms: u32) {
        self.write(&encode(&ServerFrame::Bye { reason, reconnect_after_ms }));
    }

    /// Ends the session once what was accepted has its answer; the client is told to come back within the window.
    pub(super) fn drain(self: &Rc<Self>, window: Duration) {
        if self.draining.replace(true) {
            return;
        }
        let spread = u32::try_from(window.as_millis()).unwrap_or(u32::MAX).max(1);
        // The session's own id is random enough to spread them.
        let [.., a, b, c, d] = *self.id.0.as_bytes();
        let after = u32::from_be_bytes([a, b, c, d]) % spread;
        let session = self.clone();
        actix_rt::spawn(async move {
            let deadline = Instant::now() + window / 2;
            while !session.in_flight.borrow().is_empty() && Instant::now() < deadline && !session.has_ended() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            session.say_bye(ByeReason::Draining, after);
            session.end(Ending::Close(CloseCode::Restart));
        });
    }

    /// The one way out: everything else only says why.
    pub(super) fn end(&self, ending: Ending) {
        match (self.ending.get(), ending) {
            (None, _) | (Some(Ending::Close(_)), Ending::Drop) => self.ending.set(Some(ending)),
            _ => {}
        }
        self.wake.notify_one();
    }

    /// Looks whether the peer is still there; gives the seconds to the next look.
    pub(super) fn look(self: &Rc<Self>) -> Option<usize> {
        if self.has_ended() {
            return None;
        }
        if self.who.borrow().is_none() {
            self.end(Ending::Close(CloseCode::Policy));
            return None;
        }
        if self.output.borrow().stuck().is_some_and(|stuck| stuck > STUCK) {
            self.end(Ending::Drop);
            return None;
        }
        let (heartbeat, beat) = self.heartbeat.get().look();
        self.heartbeat.set(heartbeat);
        match beat {
            Beat::Wait => {}
            Beat::Ping => self.put(&frame::ping(b"")),
            Beat::Silent => {
                self.end(Ending::Close(CloseCode::Silent));
                return None;
            }
        }
        Some(ping_after(self.id))
    }

    async fn leave(self: Rc<Self>) {
        self.worker.node.counts.ended.count(self.ending.get().unwrap_or(Ending::Drop));
        let seats = std::mem::take(&mut *self.seats.borrow_mut());
        for seat in seats {
            seat.becomes(SeatState::Gone);
            self.worker.remove_seat(&seat);
        }
        if let Some(Ending::Close(code)) = self.ending.get() {
            self.put(&frame::close(code.number(), ""));
            let deadline = Instant::now() + LINGER;
            while self.is_blocked() && Instant::now() < deadline && self.ending.get() != Some(Ending::Drop) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.ending.set(Some(Ending::Drop));
        self.worker.remove_session(&self);
        // Closing with unread bytes would reset the connection, and the peer might never read why it was closed.
        if self.stream.finish().is_ok() {
            let _rest = tokio::time::timeout(LINGER, self.read_to_end()).await;
        }
    }

    async fn read_to_end(&self) {
        let mut left = 1024 * 1024_usize;
        while left > 0 && self.stream.readable().await.is_ok() {
            let mut buffer = self.worker.read_buffer.borrow_mut();
            match self.stream.try_discard(&mut buffer) {
                Ok(0) => return,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}
