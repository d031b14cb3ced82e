//! What an application hears from its client.
//!
//! Owns: the stream of updates and their types. Refuses to know: how they came to be.

use crate::progress::Progress;
use futures_util::Stream;
use homeroom_protocol::{
    ByeReason, ClientId, ConversationId, Event, EventId, Fault, Limits, Mark, PersonId, ResetReason, RoomId,
    RoomPosition, SessionId, You,
};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Something that an application should know, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// The client is connected and signed in. What was missed follows.
    Welcome(Box<Welcome>),
    /// An entry of a room's log.
    Event(Box<Event>),
    /// What follows in this room is live.
    CaughtUp(RoomId),
    /// Forget what is held of the room, take a fresh snapshot of it with [`Http::room`](crate::Http::room).
    Reset {
        /// Which room.
        room: RoomId,
        /// From where events go on.
        position: Option<EventId>,
        /// Why.
        reason: ResetReason,
    },
    /// The person is in another room from now on.
    Joined(RoomPosition),
    /// The person is no longer in this room. Forget what is held of it.
    Left(RoomId),
    /// Somebody's marks moved.
    Mark {
        /// Where.
        room: RoomId,
        /// Which conversation.
        conversation: ConversationId,
        /// Whose, and how far.
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
    /// What was sent is durable.
    Acked(Receipt),
    /// What was sent is refused for good, and no longer in the outbox.
    Refused {
        /// What.
        client_id: ClientId,
        /// Why.
        fault: Fault,
    },
    /// The server complains about something that was neither a post, an edit nor a retraction.
    Fault(Fault),
    /// The server is about to close the connection.
    Bye {
        /// Why.
        reason: ByeReason,
        /// When it wants to see the client again.
        reconnect_after: Duration,
    },
    /// The connection is lost, or could not be made. The client tries again by itself.
    Disconnected {
        /// What happened.
        loss: Loss,
        /// When it tries again.
        will_retry_in: Duration,
    },
    /// The server broke its word. What came is handed over all the same, after this.
    Anomaly(Anomaly),
    /// The last update: the client does not come back.
    Stopped(Stop),
}

/// The answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The server that answered.
    pub server: String,
    /// This session.
    pub session: SessionId,
    /// Who is signed in.
    pub you: You,
    /// Their rooms, and where the session starts in each.
    pub rooms: Vec<RoomPosition>,
    /// What the session may do.
    pub limits: Limits,
}

/// The acknowledgement of a post, an edit or a retraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The client id that it was sent with.
    pub client_id: ClientId,
    /// The event that it became.
    pub id: EventId,
    /// The event's number in its conversation.
    pub n: u64,
}

/// A page of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub messages: Vec<homeroom_protocol::Message>,
    /// Whether there are older ones.
    pub more: bool,
}

/// How a connection was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// It could not be made.
    Unreachable(String),
    /// The server closed it.
    Closed {
        /// The close code; 1005 when there was none.
        code: u16,
        /// In the server's words.
        reason: String,
    },
    /// It broke.
    Broken(String),
    /// Nothing came for so long that the peer counts as gone.
    Silent,
    /// The server left a command without an answer.
    Unanswered,
}

/// Why a client does not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The token is not accepted (any more): sign in again.
    SignedOut,
    /// The server closed with another code of the `44xx` range.
    TurnedAway {
        /// The code.
        code: u16,
        /// In the server's words.
        reason: String,
    },
    /// The application closed it.
    Closed,
}

/// A breach of what the protocol promises. A client never hides one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Anomaly {
    /// A conversation's numbers jumped.
    #[error("conversation {conversation}: expected number {expected}, found {found} ({event})")]
    Hole {
        /// Where.
        room: RoomId,
        /// In which conversation.
        conversation: ConversationId,
        /// The event after the hole.
        event: EventId,
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// An event came twice, or an old number again.
    #[error("room {room}: event {event} came again (number {n:?})")]
    Doubled {
        /// Where.
        room: RoomId,
        /// In which conversation, if in any.
        conversation: Option<ConversationId>,
        /// The event.
        event: EventId,
        /// Its number, if it has one.
        n: Option<u64>,
    },
    /// An event of a room that the session is not in.
    #[error("event {event} is of room {room}, in which this session is not")]
    UnknownRoom {
        /// Which room.
        room: RoomId,
        /// The event.
        event: EventId,
    },
    /// Acknowledged numbers do not rise in the order of sending.
    #[error("what was sent as {client_id} was given number {n} out of the order of sending")]
    AckOutOfOrder {
        /// What was sent.
        client_id: ClientId,
        /// The number that it was given.
        n: u64,
    },
    /// An acknowledgement lacks the event or its number.
    #[error("what was sent as {client_id} was acknowledged without an event or a number")]
    AckWithoutEvent {
        /// What was sent.
        client_id: ClientId,
    },
    /// A frame that could not be read.
    #[error("a frame could not be read: {0}")]
    Unreadable(String),
}

/// The updates of a [`Client`](crate::Client), one after the other.
///
/// An application must keep taking them. While it does not, and the queue is full (*the application is behind*), the
/// client stops reading from the socket, so that the server keeps what follows until there is room: nothing is lost,
/// but acknowledgements wait too. Dropping this ends the client.
#[derive(Debug)]
pub struct Updates {
    receiver: mpsc::Receiver<Update>,
    progress: Progress,
}

impl Updates {
    pub(crate) fn new(receiver: mpsc::Receiver<Update>, progress: Progress) -> Self {
        Self { receiver, progress }
    }

    /// The next update; `None` after [`Update::Stopped`]. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Update> {
        let update = self.receiver.recv().await;
        self.follow(update)
    }

    /// How far the application has come: what it was handed, and nothing that still waits in the queue.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    fn follow(&mut self, update: Option<Update>) -> Option<Update> {
        if let Some(update) = &update {
            self.progress.follow(update);
        }
        update
    }
}

impl Stream for Updates {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update>> {
        self.receiver.poll_recv(context).map(|update| self.follow(update))
    }
}
