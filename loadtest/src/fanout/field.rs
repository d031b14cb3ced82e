//! A server and its crowd.
//!
//! Owns: what the crowd counts, and when it may speak. Refuses to know: what its people do (`voices`), and what the figures mean.
//!
//! Latency is counted from the moment at which a message *should* have been sent, not from when it was: a server that
//! stalls is charged for everything that had to wait (no coordinated omission).

use super::figures::Reading;
use crate::Failure;
use crate::process::Cpu;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};

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
    pub(super) origin: Instant,
    pub(super) active: Cell<bool>,
    wake: Notify,
    deliveries: Cell<u64>,
    pub(super) acks: Cell<u64>,
    /// In microseconds; only while measuring.
    latency: RefCell<Option<Histogram<u64>>>,
    /// What became of each announcement, by the moment at which it was due and its teacher; only while that is asked for.
    followed: RefCell<Option<HashMap<(u64, usize), Followed>>>,
    /// How many announcements may be under way at any moment. Those that follow a rate mostly come one by one.
    pub most_under_way: usize,
    /// Places for announcements under way; none when they follow a rate.
    pub(super) under_way: Option<Semaphore>,
}

/// What became of an announcement, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub sent: u64,
    pub acknowledged: Option<u64>,
    /// When the first of all heard it.
    first: Option<u64>,
    /// From the moment due to each one's hearing it.
    heard: Vec<u64>,
}

impl Followed {
    /// How long storing took, as far as a client can see that.
    fn storing(&self, trip: Duration) -> u64 {
        let stored = [self.acknowledged, self.first].into_iter().flatten().min();
        let waited = stored.map_or(0, |stored| stored.saturating_sub(self.sent));
        waited.saturating_sub(u64::try_from(trip.as_micros()).unwrap_or(u64::MAX))
    }
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
            most_under_way: in_flight.unwrap_or(1),
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
        for announcement in self.followed.take().unwrap_or_default().into_values() {
            let storing = announcement.storing(trip);
            announcement.heard.iter().for_each(|heard| latencies.saturating_record(heard.saturating_sub(storing)));
        }
        Ok(latencies)
    }

    /// The same of who hears it in another server's part of the crowd, and from sending on instead of the moment due: a timer comes half a
    /// millisecond late, and this may be less.
    pub fn since_the_commit_at(&self, other: &Self, trip: Duration) -> Result<Histogram<u64>, Failure> {
        let mut latencies = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let elsewhere = other.followed.take().unwrap_or_default();
        for (key, announcement) in self.followed.take().unwrap_or_default() {
            let left_out = announcement.sent.saturating_sub(key.0) + announcement.storing(trip);
            let heard = elsewhere.get(&key).into_iter().flat_map(|followed| &followed.heard);
            heard.for_each(|heard| latencies.saturating_record(heard.saturating_sub(left_out)));
        }
        Ok(latencies)
    }

    pub(super) fn followed(&self, moment: u64, teacher: usize, note: impl FnOnce(&mut Followed, u64)) {
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

    pub(super) fn answered(&self, waiting: &mut bool) {
        if std::mem::take(waiting)
            && let Some(under_way) = &self.under_way
        {
            under_way.add_permits(1);
        }
    }

    /// When it is time, and (with a number under way) when there is a place. Says whether a place was taken.
    pub(super) async fn turn(&self, due: Instant) -> bool {
        sleep_until(due).await;
        match &self.under_way {
            Some(places) => places.acquire().await.map(tokio::sync::SemaphorePermit::forget).is_ok(),
            None => false,
        }
    }

    pub(super) async fn active(&self) {
        while !self.active.get() {
            self.wake.notified().await;
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
