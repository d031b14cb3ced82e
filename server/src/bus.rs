//! The bus: what carries news from the node that made it to the others that hold the room.
//!
//! Owns: the contract. Refuses to know: the log, and what the news mean.
//!
//! # The contract
//! - **At most once.** News may vanish: a full queue, a lost connection, a restarted broker.
//! - **Unordered.** News of one room may overtake each other.
//! - **May repeat the past.** A broker that fails over may deliver what was delivered before.
//! - **Never waits.** [`Bus::publish`] returns at once; a stuck broker costs latency on other nodes and nothing here.
//!
//! So nothing depends on it but speed: each entry carries its `seq` and its predecessor, every node knows the head of each room it holds,
//! holes are filled from the log, and the bell tells of what never came. The bell does not ring for marks, for who types, and for who signed
//! out: a mark that was lost is told with the next one of that person and conversation, or by a snapshot.

pub mod local;
pub mod redis;
pub mod wire;

use crate::log::sight::Thread;
use crate::log::{Entry, Moved};
use homeroom_protocol::{ConversationId, PersonId, RoomId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use uuid::Uuid;

/// What nodes tell each other.
#[derive(Debug, Clone)]
pub enum News {
    /// Entries that were committed, of one room, in the order of its log.
    Entries(RoomId, Arc<[Arc<Entry>]>),
    /// Marks that moved.
    Moved(Arc<[Moved]>),
    /// Somebody is writing. The first to be dropped.
    Typing(Typing),
    /// A sign-in ended. Told late or never, its sessions end when their nodes next look at it.
    SignedOut(Uuid),
}

/// Somebody is writing.
#[derive(Debug, Clone, Copy)]
pub struct Typing {
    /// Where.
    pub room: RoomId,
    /// In which conversation.
    pub conversation: ConversationId,
    /// Who is in it.
    pub thread: Thread,
    /// Who writes.
    pub person: PersonId,
}

/// Carries news to the other nodes; see the contract above. None of its calls waits.
pub trait Bus: Send + Sync {
    /// Tells the other nodes. What can't be sent is dropped and counted.
    fn publish(&self, news: News);

    /// This node holds the room from now on: its news are wanted.
    fn hold(&self, room: RoomId);

    /// This node holds the room no more.
    fn release(&self, room: RoomId);

    /// What waits on both ways.
    fn waiting(&self) -> Waiting;
}

/// How many news wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// To be sent to other nodes.
    pub to_send: usize,
    /// Heard of other nodes, to be taken in by this one.
    pub to_hear: usize,
}

/// News that were heard and wait for this node. Full, what comes is dropped: the bell tells of it.
pub const HEARD: usize = 8_192;

/// What is counted, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// News handed to the bus.
    pub published: AtomicU64,
    /// News that the bus did not take or could not send.
    pub publish_dropped: AtomicU64,
    /// News of other nodes that were taken in.
    pub heard: AtomicU64,
    /// News of other nodes that did not fit, or could not be read.
    pub hear_dropped: AtomicU64,
    /// Rooms whose news are confirmed to come.
    pub subscribed: AtomicI64,
    /// Endpoints of the bus that answer.
    pub connected: AtomicI64,
    /// Whether one of them ever did.
    pub reached: AtomicBool,
}
