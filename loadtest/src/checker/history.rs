//! What the checker compares: the database, and what each client said and heard.
//!
//! Owns: the records. Refuses to know: how they were gathered, and what makes them right.

use homeroom_protocol::{ClientId, ConversationId, EventId, PersonId, RoomId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What the database holds, by room and seq.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// All events.
    pub events: Vec<Stored>,
}

/// An event of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The room.
    pub room: RoomId,
    /// Its number in the room.
    pub seq: i64,
    /// Its id.
    pub id: EventId,
    /// What it is.
    pub kind: Kind,
    /// Its conversation.
    pub conversation: Option<ConversationId>,
    /// Its number in the conversation.
    pub n: Option<u64>,
    /// The message that it is about.
    pub root: Option<EventId>,
    /// Who appended it.
    pub author: Option<PersonId>,
    /// With which client id.
    pub client_id: Option<ClientId>,
    /// What was said then.
    pub text: Option<String>,
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    Posted,
    /// Another text for it.
    Edited,
    /// Taken back.
    Retracted,
    /// Anything else: memberships, and what a newer version knows.
    Other,
}

/// One client's run.
#[derive(Debug, Clone)]
pub struct History {
    /// Who was signed in.
    pub person: PersonId,
    /// For stories.
    pub name: String,
    /// What they may see.
    pub sight: BTreeMap<RoomId, Sight>,
    /// In the order in which the client did and heard it.
    pub records: Vec<Record>,
}

/// What a person may see of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Staff.
    All,
    /// A guardian: announcements and their own conversations.
    Only(BTreeSet<ConversationId>),
}

/// Something that a client did or heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// It put something in its outbox.
    Said {
        /// With this client id.
        client_id: ClientId,
        /// In this conversation.
        conversation: ConversationId,
        /// This.
        saying: Saying,
    },
    /// It was told that it is durable.
    Acked {
        /// What.
        client_id: ClientId,
        /// As which event.
        id: EventId,
        /// With which number.
        n: u64,
    },
    /// It was told that it is refused for good.
    Refused {
        /// What.
        client_id: ClientId,
        /// Why.
        why: String,
    },
    /// It was handed an event.
    Heard(Heard),
    /// It was told to start a room anew.
    Reset {
        /// Which.
        room: RoomId,
    },
    /// It noticed a breach of the protocol itself.
    Anomaly(String),
}

/// Something said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// A message.
    Post {
        /// Its text.
        text: String,
    },
    /// Another text for a message.
    Edit {
        /// Which message.
        message: EventId,
        /// The new text.
        text: String,
    },
    /// A message taken back.
    Retract {
        /// Which message.
        message: EventId,
    },
}

impl Saying {
    /// The kind of event that it becomes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Post { .. } => Kind::Posted,
            Self::Edit { .. } => Kind::Edited,
            Self::Retract { .. } => Kind::Retracted,
        }
    }

    /// The text, if it has one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Post { text } | Self::Edit { text, .. } => Some(text),
            Self::Retract { .. } => None,
        }
    }

    /// The message that it changes, if it changes one.
    #[must_use]
    pub fn message(&self) -> Option<EventId> {
        match self {
            Self::Post { .. } => None,
            Self::Edit { message, .. } | Self::Retract { message } => Some(*message),
        }
    }
}

/// An event as a client was handed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The room.
    pub room: RoomId,
    /// Its id.
    pub id: EventId,
    /// Its conversation.
    pub conversation: Option<ConversationId>,
    /// Its number.
    pub n: Option<u64>,
    /// The message in it, as shown.
    pub message: Option<Shown>,
}

/// A message as it was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub id: EventId,
    /// Its text; nothing when it was shown as taken back.
    pub text: Option<String>,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} in room {}, seq {}", self.kind, self.id, self.room, self.seq)?;
        place(f, self.conversation, self.n)?;
        self.text.as_ref().map_or(Ok(()), |text| write!(f, ", {text:?}"))
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} in room {}", self.id, self.room)?;
        place(f, self.conversation, self.n)?;
        match &self.message {
            Some(Shown { text: Some(text), .. }) => write!(f, ", {text:?}"),
            Some(Shown { text: None, .. }) => write!(f, ", taken back"),
            None => Ok(()),
        }
    }
}

fn place(f: &mut fmt::Formatter<'_>, conversation: Option<ConversationId>, n: Option<u64>) -> fmt::Result {
    if let Some(conversation) = conversation {
        write!(f, ", conversation {conversation}")?;
    }
    n.map_or(Ok(()), |n| write!(f, ", number {n}"))
}
