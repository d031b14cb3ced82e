//! The frames of `homeroom.v1`.
//!
//! Owns: what a client may say and what a server answers, as closed enums. Refuses to know: bytes (see
//! [`codec`](crate::codec)) and the order in which frames may come (see `docs/protocol.md`).

use crate::envelope::Draft;
use crate::error::Fault;
use crate::event::{Address, Event, Mark, Message, Role};
use crate::ids::{ClientId, ConversationId, EventId, PersonId, Ref, RoomId, SessionId};
use crate::language::Language;
use crate::limits::Limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a client may say. Fields that a newer client adds are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// The first frame of a session: who it is, and how far it has come in each room.
    Hello {
        /// The bearer token; browsers leave it out and are known by their cookie.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "ts", ts(optional))]
        token: Option<String>,
        /// For each room that the client holds: the id of the last event that it took in, or `null` for a room in which
        /// it has seen none yet. A room left out starts at its end (`welcome` says where that is).
        #[serde(default)]
        positions: BTreeMap<RoomId, Option<EventId>>,
    },
    /// Says something.
    Post {
        /// Repeated by the answer.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Where.
        room: RoomId,
        /// Makes trying again safe.
        client_id: ClientId,
        /// To whom.
        to: Address,
        /// What.
        draft: Draft,
        /// Whether it can't wait. Staff only.
        #[serde(default)]
        urgent: bool,
    },
    /// Puts another text in the place of one's own message.
    Edit {
        /// Repeated by the answer.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Where.
        room: RoomId,
        /// Makes trying again safe.
        client_id: ClientId,
        /// Which message.
        message: EventId,
        /// The new text.
        draft: Draft,
    },
    /// Takes back one's own message; a tombstone stays.
    Retract {
        /// Repeated by the answer.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Where.
        room: RoomId,
        /// Makes trying again safe.
        client_id: ClientId,
        /// Which message.
        message: EventId,
    },
    /// Keeps a message in sight until a moment. Staff only. (The next version's: see the server's feature `next`.)
    #[cfg(feature = "next")]
    Pin {
        /// Repeated by the answer.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Where.
        room: RoomId,
        /// Makes trying again safe.
        client_id: ClientId,
        /// Which message.
        message: EventId,
        /// Until when.
        until: crate::time::Timestamp,
    },
    /// This device has stored everything of the conversation up to `n`.
    Delivered {
        /// Repeated by the answer.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Where.
        room: RoomId,
        /// Which conversation.
        conversation: ConversationId,
        /// Up to here.
        n: u64,
    },
    /// Its person has read everything of the conversation up to `n`. Acknowledged once stored.
    Read {
        /// Repeated by the answer.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Where.
        room: RoomId,
        /// Which conversation.
        conversation: ConversationId,
        /// Up to here.
        n: u64,
    },
    /// Its person is writing. Nothing is kept; may be dropped.
    Typing {
        /// Repeated by the answer.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Where.
        room: RoomId,
        /// To whom.
        to: Address,
    },
    /// Asks for a page of messages as they stand now, newest first.
    History {
        /// Repeated by the page.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Where.
        room: RoomId,
        /// Which conversation.
        conversation: ConversationId,
        /// Only messages whose `n` is smaller; the newest when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "ts", ts(optional))]
        before: Option<u64>,
        /// How many at most; `limits.history_page` when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "ts", ts(optional))]
        limit: Option<u32>,
    },
    /// A new token for a session that goes on.
    Refresh {
        /// Repeated by the answer.
        #[serde(rename = "ref")]
        reference: Ref,
        /// The new token, of the same person.
        token: String,
    },
}

impl ClientFrame {
    /// The command's ref; `hello` has none.
    #[must_use]
    pub fn reference(&self) -> Option<Ref> {
        match self {
            Self::Hello { .. } => None,
            Self::Post { reference, .. }
            | Self::Edit { reference, .. }
            | Self::Retract { reference, .. }
            | Self::Delivered { reference, .. }
            | Self::Read { reference, .. }
            | Self::Typing { reference, .. }
            | Self::History { reference, .. }
            | Self::Refresh { reference, .. } => Some(*reference),
            #[cfg(feature = "next")]
            Self::Pin { reference, .. } => Some(*reference),
        }
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The answer to `hello`. What was missed since the given positions follows.
    Welcome {
        /// This session.
        session: SessionId,
        /// Who it speaks for.
        you: You,
        /// Their rooms, and where the session starts in each.
        rooms: Vec<RoomPosition>,
        /// What it may do.
        limits: Limits,
    },
    /// An entry of a room's log.
    Event(Event),
    /// What follows in this room is live.
    CaughtUp {
        /// Which room.
        room: RoomId,
    },
    /// The position can't be gone on from. Forget what is held of the room, take a fresh snapshot of it over HTTP, and
    /// go on from `position`.
    Reset {
        /// Which room.
        room: RoomId,
        /// Where the session stands now; `null` when there is nothing yet.
        position: Option<EventId>,
        /// Why.
        reason: ResetReason,
    },
    /// Its person is in another room from now on.
    Joined {
        /// Where the session starts in it.
        room: RoomPosition,
    },
    /// Its person is no longer in this room. Forget what is held of it.
    Left {
        /// Which room.
        room: RoomId,
    },
    /// The command is done; what it appended is durable.
    Ack {
        /// Of the command.
        #[serde(rename = "ref")]
        reference: Ref,
        /// The event appended, for commands that append.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "ts", ts(optional))]
        id: Option<EventId>,
        /// Its number in its conversation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "ts", ts(optional))]
        n: Option<u64>,
    },
    /// The answer to `history`.
    Page {
        /// Of the command.
        #[serde(rename = "ref")]
        reference: Ref,
        /// Where.
        room: RoomId,
        /// Which conversation.
        conversation: ConversationId,
        /// Newest first.
        messages: Vec<Message>,
        /// Whether there are older ones.
        more: bool,
    },
    /// A member's marks moved.
    Mark {
        /// Where.
        room: RoomId,
        /// Which conversation.
        conversation: ConversationId,
        /// Whose, and how far.
        #[serde(flatten)]
        mark: Mark,
    },
    /// Somebody is writing.
    Typing {
        /// Where.
        room: RoomId,
        /// In which conversation.
        conversation: ConversationId,
        /// Who.
        person: PersonId,
    },
    /// A command was refused; the session goes on.
    Error {
        /// Of the command; absent when the frame had none that could be read.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "ts", ts(optional))]
        reference: Option<Ref>,
        /// What and why.
        #[serde(flatten)]
        fault: Fault,
    },
    /// The server is about to close the session.
    Bye {
        /// Why.
        reason: ByeReason,
        /// When to come back, in milliseconds; spread by the server so that not all come at once.
        reconnect_after_ms: u32,
    },
    /// A type that this version does not know. Ignore it.
    #[serde(other)]
    Unknown,
}

/// Who a session speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct You {
    /// Their id.
    pub person: PersonId,
    /// As the school writes it.
    pub name: String,
    /// The language they read.
    pub language: Language,
}

/// A room, and where the session starts in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RoomPosition {
    /// The room.
    pub room: RoomId,
    /// Its title.
    pub title: String,
    /// The person's part in it.
    pub role: Role,
    /// The last event before what this session will be sent; `null` when there is none.
    pub position: Option<EventId>,
}

/// Why a position can't be gone on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// The log does not hold it: a backup was restored, or it was too old to be kept.
    UnknownPosition,
    /// It lies too far back to be gone through event by event.
    TooFarBehind,
    /// What the person may see has changed since.
    RightsChanged,
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why the server closes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ByeReason {
    /// The node is drained; another one, or its successor, takes over.
    Draining,
    /// The person signed out, or was signed out.
    SignedOut,
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}
