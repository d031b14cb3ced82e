//! What the checker compares: the database, and what each client said and heard.
//!
//! Owns: the records. Refuses to know: how they were gathered, and what makes them right.

use super::Invariant;
use super::deed::Deed;
use homeroom_protocol::{ClientId, ConversationId, EventId, Mark, PersonId, ResetReason, RoomId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// What the database holds, by room and seq.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// All events.
    pub events: Vec<Stored>,
    /// All marks.
    pub marks: Vec<StoredMark>,
    /// Who should be in which room by the school's own files; nothing where nobody knows.
    pub planned: Option<BTreeSet<Place>>,
    /// Who joined or left which room during the run in a log that is gone: they may have been refused for what this one does not show.
    pub moved: BTreeSet<(RoomId, PersonId)>,
}

/// Somebody's place in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The room.
    pub room: RoomId,
    /// Who.
    pub person: PersonId,
    /// For a guardian: through whom. Staff have none.
    pub student: Option<PersonId>,
}

/// A mark of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredMark {
    /// In which conversation.
    pub conversation: ConversationId,
    /// Whose, and how far.
    pub mark: Mark,
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
    /// The change of membership that it is.
    pub member: Option<Member>,
    /// For a change of membership during the run: when it was known to be committed, on the run's clock. It may have been
    /// committed a little earlier.
    pub known_by: Option<Duration>,
}

/// A change of membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Whose.
    pub place: Place,
    /// Joined, or left.
    pub joins: bool,
    /// What they may see begins after this seq.
    pub sees_after: i64,
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
    /// Somebody joined or left.
    Member,
    /// Anything else: what a newer version knows.
    Other,
}

/// One client's run.
#[derive(Debug, Clone)]
pub struct History {
    /// Who was signed in.
    pub person: PersonId,
    /// For stories.
    pub name: String,
    /// How it listens.
    pub listening: Listening,
    /// In the order in which the client did and heard it.
    pub records: Vec<Noted>,
}

/// How a client listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Takes in everything at once: the moment of its hearing says when it was handed over.
    AtOnce,
    /// Takes in everything, some of it long after it was handed over.
    Late,
    /// Only sends.
    NotAtAll,
}

/// A record with its moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// On the run's clock, the same for all clients.
    pub at: Duration,
    /// What was done or heard.
    pub record: Record,
}

/// Something that a client did or heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// It put something in its outbox.
    Said {
        /// With this client id.
        client_id: ClientId,
        /// In this room.
        room: RoomId,
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
    /// It starts in a room: all after this event comes, or all since its membership began.
    Began {
        /// Which.
        room: RoomId,
        /// After which event.
        position: Option<EventId>,
    },
    /// It was told to start a room anew.
    Reset {
        /// Which.
        room: RoomId,
        /// After which event.
        position: Option<EventId>,
        /// Why.
        reason: ResetReason,
    },
    /// The server refused something that was not said in a conversation: a mark, mostly.
    Complaint(String),
    /// It was told that it is in a room no more.
    Left {
        /// Which.
        room: RoomId,
    },
    /// It said that a conversation is delivered, and read, so far.
    Marked {
        /// Which.
        conversation: ConversationId,
        /// Delivered up to here.
        delivered: u64,
        /// Read up to here; 0 when that was not said.
        read: u64,
    },
    /// It said so of a log that is gone. What was on its way then may be stored in this one, and need not be.
    MarkedInGone {
        /// Which.
        conversation: ConversationId,
        /// Delivered up to here.
        delivered: u64,
        /// Read up to here; 0 when that was not said.
        read: u64,
    },
    /// It was told how far somebody's marks are.
    Told {
        /// In which conversation.
        conversation: ConversationId,
        /// Whose, and how far.
        mark: Mark,
    },
    /// It was given a fresh snapshot of its conversations after all had come to rest.
    Snapshot {
        /// The marks in it: its own, and those that it may know of.
        marks: Vec<(ConversationId, Mark)>,
    },
    /// It took a fresh snapshot of a room that it was told to start anew.
    Anew(Anew),
    /// It sent another content under a client id that it had used.
    Reused {
        /// Which.
        client_id: ClientId,
        /// The other content.
        text: String,
        /// What it was answered, in so many words, unless that it is a conflict.
        wrong: Option<String>,
    },
    /// It did something that only a hostile client does.
    Did(Deed),
    /// It noticed a breach itself.
    Anomaly(Invariant, String),
}

/// A room as a snapshot shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anew {
    /// Which.
    pub room: RoomId,
    /// It was taken after the client was told to go on after this event.
    pub position: Option<EventId>,
    /// The last number of each conversation in its list, and the newest message, as shown.
    pub conversations: BTreeMap<ConversationId, (u64, Option<Shown>)>,
    /// The newest messages of one of them.
    pub page: Option<Page>,
}

/// A page of a conversation's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Of which.
    pub conversation: ConversationId,
    /// Newest first, each with its number.
    pub messages: Vec<(u64, Shown)>,
    /// Whether there are older ones.
    pub more: bool,
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
