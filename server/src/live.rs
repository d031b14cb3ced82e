//! The live world: sockets, sessions, rooms and tails.
//!
//! Owns: what one node needs to serve sessions, and how a session ends.
//! Refuses to know: SQL (it asks `log` and `identity`), HTTP beyond the upgrade, and the other nodes (it hears of them).
//!
//! `socket` takes over the upgraded connection and starts a `session`; `worker` is one thread's share of rooms and sessions;
//! `room` walks a room's members; `tail` keeps each held room's head and newest entries for all workers of the node.

pub mod allowance;
mod arrivals;
mod catch_up;
mod command;
pub mod frame;
mod hello;
#[cfg(any(test, feature = "instructions"))]
pub(crate) mod instructions;
pub mod listening;
mod room;
mod session;
pub mod socket;
pub(crate) mod stream;
pub mod tail;
mod worker;

use crate::bus::{Bus, News};
use crate::log::Log;
use crate::trace::Traces;
use allowance::Allowances;
use homeroom_protocol::{CloseCode, ServerFrame, codec};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tail::Tails;
use uuid::Uuid;

/// What the sessions of one node share.
pub struct Node {
    /// Where commands go.
    pub log: Log,
    /// The rooms that this node holds.
    pub tails: Tails,
    /// The way to the other nodes.
    pub bus: Arc<dyn Bus>,
    /// `https://school.example`, where browsers may come from besides the host that they ask.
    pub public_origin: Option<String>,
    /// Which messages are traced.
    pub traces: Traces,
    /// No new sessions, no new commands.
    pub draining: AtomicBool,
    /// How much each person may ask.
    pub allowances: Allowances,
    /// What is counted.
    pub counts: Counts,
}

/// What is counted, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// Open WebSockets.
    pub connections: AtomicI64,
    /// Seats that are offered each entry as it comes.
    pub live: AtomicI64,
    /// Seats that read on from their cursors.
    pub behind: AtomicI64,
    /// Events handed to sockets.
    pub delivered: AtomicU64,
    /// Commands of clients.
    pub commands: AtomicU64,
    /// Times that a session fell behind because its socket took no more.
    pub fell_behind: AtomicU64,
    /// Sessions that broke the protocol.
    pub protocol_errors: AtomicU64,
    /// Sessions that ended, by how.
    pub ended: Ended,
}

/// Sessions that ended, by how.
#[derive(Debug, Default)]
pub struct Ended([AtomicU64; ENDINGS.len()]);

impl Ended {
    fn count(&self, ending: Ending) {
        let same = ENDINGS.iter().position(|(_, of)| *of == ending);
        if let Some(count) = same.and_then(|place| self.0.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each way to end by its name, and how many did.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ENDINGS.iter().zip(&self.0).map(|((name, _), count)| (*name, count.load(Ordering::Relaxed)))
    }
}

impl Node {
    /// Ends the sessions of a sign-in that is no more, on every node.
    pub fn signed_out(&self, login: Uuid) {
        self.tails.tell_all(&worker::ToWorker::SignedOut(login));
        self.bus.publish(News::SignedOut(login));
    }

    /// Says good-bye to all sessions, to come back spread over `window`, and waits until they are gone, for so long at most.
    pub async fn drain(&self, window: Duration, patience: Duration) {
        self.draining.store(true, Ordering::Release);
        self.tails.tell_all(&worker::ToWorker::Drain(window));
        let deadline = tokio::time::Instant::now() + patience;
        while self.counts.connections.load(Ordering::Acquire) > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With a close frame, once what waits was taken.
    Close(CloseCode),
    /// At once: the peer is gone, or what waits must not reach it.
    Drop,
}

/// All of them, by the names that `/metrics` gives them.
const ENDINGS: [(&str, Ending); 12] = [
    ("dropped", Ending::Drop),
    ("normal", Ending::Close(CloseCode::Normal)),
    ("protocol", Ending::Close(CloseCode::Protocol)),
    ("invalid_text", Ending::Close(CloseCode::InvalidText)),
    ("policy", Ending::Close(CloseCode::Policy)),
    ("too_large", Ending::Close(CloseCode::TooLarge)),
    ("restart", Ending::Close(CloseCode::Restart)),
    ("unauthenticated", Ending::Close(CloseCode::Unauthenticated)),
    ("internal", Ending::Close(CloseCode::Internal)),
    ("unavailable", Ending::Close(CloseCode::Unavailable)),
    ("silent", Ending::Close(CloseCode::Silent)),
    ("order_lost", Ending::Close(CloseCode::OrderLost)),
];

/// A server's frame as bytes for the socket.
fn encode(frame: &ServerFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    match codec::encode_server(frame) {
        Ok(text) => frame::append_text(&mut bytes, text.as_bytes()),
        // Frames have string keys and finite numbers only.
        Err(error) => tracing::error!(%error, "a frame could not be encoded"),
    }
    bytes
}
