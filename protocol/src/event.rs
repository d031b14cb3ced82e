//! Events of a room's log as readers see them, and what they speak of: messages, addresses, marks.
//!
//! Owns: the shape of an event on the wire. Refuses to know: `seq`, who may see an event, and how it was stored.
//!
//! An event that was edited or retracted since is shown *as it stands now*: the message inside is the current one.

use crate::envelope::Envelope;
use crate::ids::{ClientId, ConversationId, EventId, PersonId, RoomId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A member's part in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Teaches or runs the class: sees all of the room.
    Staff,
    /// Speaks for a student of the class: sees announcements and their own conversations.
    Guardian,
    /// A part that this version does not know. Who may do what is the server's to say.
    #[serde(other)]
    Unknown,
}

/// To whom in a room a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Address {
    /// All of the room. Staff only may write there.
    Announcements,
    /// One guardian, about one student, and the staff.
    Private(About),
}

/// Whom a private conversation is with, and about whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct About {
    /// The guardian.
    pub guardian: PersonId,
    /// Their student in this class.
    pub student: PersonId,
}

impl Address {
    /// The conversation's id in `room`: a UUID version 5 in the room's namespace over `announcements`, or over the 32
    /// bytes of guardian and student.
    #[must_use]
    pub fn conversation(&self, room: RoomId) -> ConversationId {
        let id = match self {
            Self::Announcements => Uuid::new_v5(&room.0, b"announcements"),
            Self::Private(about) => {
                let mut name = [0_u8; 32];
                name[..16].copy_from_slice(about.guardian.0.as_bytes());
                name[16..].copy_from_slice(about.student.0.as_bytes());
                Uuid::new_v5(&room.0, &name)
            }
        };
        ConversationId(id)
    }

    /// Whom a private conversation is about; nothing for announcements.
    #[must_use]
    pub fn about(&self) -> Option<About> {
        match self {
            Self::Announcements => None,
            Self::Private(about) => Some(*about),
        }
    }
}

/// A message as it stands now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Message {
    /// The id of the event that posted it.
    pub id: EventId,
    /// The number of the post in its conversation.
    pub n: u64,
    /// Who wrote it.
    pub author: PersonId,
    /// The client id that it was posted with, so that its author's devices know it for their own.
    pub client_id: ClientId,
    /// When it was posted.
    pub at: Timestamp,
    /// Whether its author called it urgent.
    #[serde(default)]
    pub urgent: bool,
    /// The text; absent when the message was retracted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub envelope: Option<Envelope>,
    /// When it was last edited, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub edited_at: Option<Timestamp>,
    /// When it was retracted, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub retracted_at: Option<Timestamp>,
}

/// One entry of a room's log, as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// The room.
    pub room: RoomId,
    /// The event's id: the reader's position once it has taken the event in.
    pub id: EventId,
    /// The conversation, where the event belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub conversation: Option<ConversationId>,
    /// Whom the conversation is with, if it is private.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub about: Option<About>,
    /// The number of this post, edit or retraction in its conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ts", ts(optional))]
    pub n: Option<u64>,
    /// When it was appended.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventBody {
    /// A message was posted.
    Posted {
        /// As it stands now.
        message: Message,
    },
    /// A message was edited.
    Edited {
        /// As it stands now.
        message: Message,
    },
    /// A message was retracted.
    Retracted {
        /// The tombstone: no envelope, `retracted_at` set.
        message: Message,
    },
    /// A message is to be kept in sight. (The next version's: see the server's feature `next`.)
    #[cfg(feature = "next")]
    Pinned {
        /// Which.
        message: EventId,
        /// Until when.
        until: Timestamp,
    },
    /// Something about a message from before the reader's time here. Only its `n` is theirs to know, so that their
    /// numbers have no hole.
    Withheld,
    /// Somebody joined the room. Staff only see this.
    MemberJoined {
        /// Who.
        person: PersonId,
        /// As what.
        role: Role,
        /// For a guardian: through which student.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "ts", ts(optional))]
        student: Option<PersonId>,
    },
    /// Somebody left the room. Staff only see this.
    MemberLeft {
        /// Who.
        person: PersonId,
        /// As what.
        role: Role,
        /// For a guardian: through which student.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "ts", ts(optional))]
        student: Option<PersonId>,
    },
    /// A kind that this version does not know. It still moves the position and, where it has one, `n`.
    #[serde(other)]
    Unknown,
}

/// How far a member has had a conversation delivered, and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Mark {
    /// Whose.
    pub person: PersonId,
    /// Stored on one of their devices up to this `n`.
    pub delivered: u64,
    /// Read up to this `n`.
    pub read: u64,
}
