//! A server and its crowd: families who listen and teachers who announce.
//!
//! Owns: what the crowd does and counts. Refuses to know: what the figures mean.
//!
//! Latency is counted from the moment at which a message *should* have been sent, not from when it was: a server that
//! stalls is charged for everything that had to wait (no coordinated omission).

use super::figures::Reading;
use crate::Failure;
use crate::process::Cpu;
use crate::wire::Wire;
use hdrhistogram::Histogram;
use homeroom_protocol::{Address, ClientFrame, ClientId, Draft, Language, Ref, RoomId, ServerFrame, codec};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

/// Commands a second that one teacher may send, below the server's limit of 20.
pub const TEACHER_RATE: f64 = 16.0;

/// What kind of server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Homeroom,
    /// The least there is.
    Bare,
}

/// A server and what its crowd has seen. One thread holds all of it.
pub struct Field {
    /// What kind of server it is.
    pub kind: Kind,
    /// Length of the last event's frame, in bytes.
    pub frame_bytes: Cell<usize>,
    /// What went wrong, and how often.
    pub errors: RefCell<BTreeMap<String, u64>>,
    process: u32,
    origin: Instant,
    active: Cell<bool>,
    wake: Notify,
    deliveries: Cell<u64>,
    acks: Cell<u64>,
    /// In microseconds; only while measuring.
    latency: RefCell<Option<Histogram<u64>>>,
    /// What became of each announcement, by the moment at which it was due and its teacher; only while that is asked for.
    followed: RefCell<Option<HashMap<(u64, usize), Followed>>>,
    /// Places for announcements under way; none when they follow a rate.
    under_way: Option<Semaphore>,
}

/// What became of an announcement, in microseconds.
#[derive(Debug, Default)]
struct Followed {
    sent: u64,
    acknowledged: Option<u64>,
    /// When the first of all heard it.
    first: Option<u64>,
    /// From the moment due to each one's hearing it.
    heard: Vec<u64>,
}

/// How teachers announce.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many there are.
    pub teachers: usize,
    /// How often all of them together, a second.
    pub rate: f64,
    /// How long a text is.
    pub text: usize,
}

impl Field {
    /// Nobody announces yet.
    pub fn new(kind: Kind, process: u32, in_flight: Option<usize>) -> Self {
        Self {
            kind,
            frame_bytes: Cell::new(300),
            errors: RefCell::default(),
            process,
            origin: Instant::now(),
            active: Cell::new(false),
            wake: Notify::new(),
            deliveries: Cell::default(),
            acks: Cell::default(),
            latency: RefCell::default(),
            followed: RefCell::default(),
            under_way: in_flight.map(Semaphore::new),
        }
    }

    /// Another server's part of the same crowd: it hears what is announced in this one.
    #[must_use]
    pub fn beside(&self, process: u32) -> Self {
        Self { origin: self.origin, ..Self::new(self.kind, process, None) }
    }

    /// Teachers announce from now on.
    pub fn begin(&self) {
        self.active.set(true);
        self.wake.notify_waiters();
    }

    /// Latency counts from now on.
    pub fn measure_latency(&self) -> Result<(), Failure> {
        self.latency.replace(Some(Histogram::new_with_bounds(1, 60_000_000, 3)?));
        Ok(())
    }

    /// Teachers pause. The latencies since they were last asked for.
    pub fn end(&self) -> Option<Histogram<u64>> {
        self.active.set(false);
        self.latencies()
    }

    /// The latencies measured so far; the next ones count from the next [`Self::measure_latency`] on.
    pub fn latencies(&self) -> Option<Histogram<u64>> {
        self.latency.take()
    }

    /// The counters now.
    pub fn reading(&self) -> Result<Reading, Failure> {
        Ok(Reading {
            at: Instant::now(),
            server: Cpu::of(self.process).ok_or(Failure::Gone)?,
            own: Cpu::of(std::process::id()).ok_or(Failure::Gone)?,
            deliveries: self.deliveries.get(),
            acks: self.acks.get(),
        })
    }

    /// Each announcement is followed from now on.
    pub fn follow(&self) {
        self.followed.replace(Some(HashMap::new()));
    }

    /// Latencies since [`Self::follow`] as if storing had taken no time: of each announcement, the time until its acknowledgement (or
    /// until the first of all heard it) is left out, but for `trip`, which is what a question and its answer take where nothing is
    /// stored.
    pub fn since_the_commit(&self, trip: Duration) -> Result<Histogram<u64>, Failure> {
        let mut latencies = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let trip = u64::try_from(trip.as_micros()).unwrap_or(u64::MAX);
        for announcement in self.followed.take().unwrap_or_default().into_values() {
            let stored = [announcement.acknowledged, announcement.first].into_iter().flatten().min();
            let waited = stored.map_or(0, |stored| stored.saturating_sub(announcement.sent));
            let storing = waited.saturating_sub(trip);
            announcement.heard.iter().for_each(|heard| latencies.saturating_record(heard.saturating_sub(storing)));
        }
        Ok(latencies)
    }

    fn followed(&self, moment: u64, teacher: usize, note: impl FnOnce(&mut Followed, u64)) {
        if let Some(followed) = self.followed.borrow_mut().as_mut() {
            note(followed.entry((moment, teacher)).or_default(), self.origin.elapsed().as_micros() as u64);
        }
    }

    /// Something went wrong.
    pub fn error(&self, what: impl Into<String>) {
        *self.errors.borrow_mut().entry(what.into()).or_default() += 1;
    }

    /// A moment as texts tell it.
    pub fn since_origin(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.origin)
    }

    /// Counts a delivery. The answer is which teacher's it was.
    pub fn hear(&self, frame: &[u8]) -> Option<usize> {
        // The text begins with the moment at which it should have been sent, and whose it is, between tildes.
        let mut parts = frame.split(|byte| *byte == b'~').skip(1);
        let (moment, teacher) = (number(parts.next()?)?, number(parts.next()?)?);
        self.deliveries.set(self.deliveries.get() + 1);
        self.frame_bytes.set(frame.len());
        if let Some(latency) = self.latency.borrow_mut().as_mut() {
            let now = self.origin.elapsed().as_micros() as u64;
            latency.saturating_record(now.saturating_sub(moment));
        }
        let teacher = usize::try_from(teacher).ok()?;
        self.followed(moment, teacher, |followed, now| {
            followed.first.get_or_insert(now);
            followed.heard.push(now.saturating_sub(moment));
        });
        Some(teacher)
    }

    fn answered(&self, waiting: &mut bool) {
        if std::mem::take(waiting)
            && let Some(under_way) = &self.under_way
        {
            under_way.add_permits(1);
        }
    }

    /// When it is time, and (with a number under way) when there is a place. Says whether a place was taken.
    async fn turn(&self, due: Instant) -> bool {
        sleep_until(due).await;
        match &self.under_way {
            Some(places) => places.acquire().await.map(tokio::sync::SemaphorePermit::forget).is_ok(),
            None => false,
        }
    }

    async fn active(&self) {
        while !self.active.get() {
            self.wake.notified().await;
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Connects to Homeroom, says hello, and waits until all rooms are caught up.
pub async fn connect(server: SocketAddr, token: &str) -> io::Result<Wire> {
    let up = async {
        let mut wire = Wire::open(server).await?;
        let hello = ClientFrame::Hello { token: Some(token.to_owned()), positions: BTreeMap::new() };
        wire.send(&codec::encode_client(&hello).map_err(io::Error::other)?).await?;
        let mut rooms = None;
        let mut caught_up = 0;
        while rooms != Some(caught_up) {
            match codec::decode_server(&String::from_utf8_lossy(wire.next().await?)).map_err(io::Error::other)? {
                ServerFrame::Welcome { rooms: theirs, .. } => rooms = Some(theirs.len()),
                ServerFrame::CaughtUp { .. } => caught_up += 1,
                _ => {}
            }
        }
        Ok(wire)
    };
    timeout(Duration::from_secs(30), Box::pin(up)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Connects to the bare server and joins a room.
pub async fn join(server: SocketAddr, room: u32) -> io::Result<Wire> {
    let mut wire = Wire::open(server).await?;
    wire.send(&format!("join {room}")).await?;
    wire.next().await?;
    Ok(wire)
}

/// A family: hears, and counts.
pub async fn listen(mut wire: Wire, field: Rc<Field>) {
    loop {
        match wire.next().await {
            Ok(frame) => drop(field.hear(frame)),
            Err(error) => return field.error(format!("a family's connection: {error}")),
        }
    }
}

/// A teacher: announces at their share of the rate, or as soon as there is a place under way.
pub async fn teach(mut wire: Wire, room: RoomId, place: usize, pace: Pace, field: Rc<Field>) {
    let every = match field.under_way {
        Some(_) => Duration::from_secs_f64(1.0 / TEACHER_RATE),
        None => Duration::from_secs_f64(pace.teachers as f64 / pace.rate),
    };
    // Teachers begin one after the other, so that the messages of all are evenly spaced.
    let first = |now: Instant| now + every.mul_f64(place as f64 / pace.teachers as f64);
    let mut due = first(Instant::now());
    let mut reference = 0;
    // Answers come in the order of the commands.
    let mut unanswered = VecDeque::new();
    let mut waiting = false;
    let mut paused = true;
    loop {
        if !field.active.get() {
            paused = true;
        }
        // Every arm's future loses nothing when it is dropped: `Wire::next` keeps what it has read.
        let took_place = tokio::select! {
            frame = wire.next() => {
                match frame {
                    Ok(frame) if frame.starts_with(br#"{"type":"ack""#) => {
                        field.acks.set(field.acks.get() + 1);
                        field.answered(&mut waiting);
                        if let Some(moment) = unanswered.pop_front() {
                            field.followed(moment, place, |followed, now| followed.acknowledged = Some(now));
                        }
                    }
                    Ok(frame) if frame.starts_with(br#"{"type":"error""#) => {
                        unanswered.pop_front();
                        field.error(String::from_utf8_lossy(frame).chars().take(120).collect::<String>());
                        field.answered(&mut waiting);
                    }
                    Ok(frame) => {
                        if field.hear(frame) == Some(place) && field.kind == Kind::Bare {
                            field.acks.set(field.acks.get() + 1);
                            field.answered(&mut waiting);
                        }
                    }
                    Err(error) => return field.error(format!("a teacher's connection: {error}")),
                }
                continue;
            }
            () = field.active(), if paused => {
                paused = false;
                due = first(Instant::now());
                continue;
            }
            took_place = field.turn(due), if !waiting && !paused => took_place,
        };
        let now = Instant::now();
        let should = if took_place { now } else { due };
        waiting = took_place;
        due = if took_place { now + every } else { due + every };
        if !field.active.get() {
            field.answered(&mut waiting);
            continue;
        }
        reference += 1;
        let text = text(should - field.origin, place, pace.text);
        let moment = (should - field.origin).as_micros() as u64;
        field.followed(moment, place, |followed, now| followed.sent = now);
        if field.kind == Kind::Homeroom {
            unanswered.push_back(moment);
        }
        let frame = match field.kind {
            Kind::Homeroom => post(room, Address::Announcements, reference, text),
            Kind::Bare => format!("{text:.<width$}", width = field.frame_bytes.get()),
        };
        if let Err(error) = wire.send(&frame).await {
            return field.error(format!("a teacher's connection: {error}"));
        }
    }
}

/// A text that says when it should have been sent, and by whom.
pub fn text(should: Duration, teacher: usize, length: usize) -> String {
    let text = format!("~{}~{teacher}~", should.as_micros());
    let text = format!("{text}{}", "The trip to the museum is on Friday. ".repeat(length / 37 + 1));
    text.chars().take(length).collect()
}

/// A post as a frame.
pub fn post(room: RoomId, to: Address, reference: u32, text: String) -> String {
    let draft = Draft { language: Language::english(), text, protected: Vec::new() };
    let frame =
        ClientFrame::Post { reference: Ref(reference), room, client_id: ClientId::new(), to, draft, urgent: false };
    // A frame of plain strings and numbers always encodes.
    codec::encode_client(&frame).unwrap_or_default()
}
