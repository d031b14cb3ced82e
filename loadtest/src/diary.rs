//! What one client does and hears, written down while it happens.
//!
//! Owns: the run's clock, the history that the checker judges, and how far the client has come, for whoever waits for it. Refuses to
//! know: why the client does what it does.

use crate::checker::Invariant;
use crate::checker::deed::Deed;
use crate::checker::history::{Heard, History, Listening, Noted, Record, Shown};
use homeroom_client::{Anomaly, Event, EventBody, Loss, Message, Stop, Update};
use homeroom_protocol::{CloseCode, ConversationId, EventId, PersonId, RoomId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The run's clock, the same for all.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// It begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since its beginning.
    #[must_use]
    pub fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// How far a client has come.
#[derive(Debug, Default, Clone)]
pub struct Standing {
    /// Has heard that it is time to listen, and says nothing more.
    pub quiet: bool,
    /// Stays away for a while, because it likes to.
    pub away: bool,
    /// Things said and not yet answered.
    pub open: usize,
    /// The last number heard, by conversation.
    pub heard: BTreeMap<ConversationId, u64>,
    /// The highest number acknowledged, by room and conversation.
    pub acked: BTreeMap<(RoomId, ConversationId), End>,
    /// The rooms that it knows itself in, and where it last began there.
    pub rooms: BTreeMap<RoomId, Beginning>,
    /// How often the connection was lost.
    pub lost: u64,
    /// How often it was lost, or could not be made, in another way than by the server's own good-bye.
    pub turned_away: u64,
    /// The longest time without one, until what was missed began to come.
    pub longest_gap: Duration,
    away_since: Option<Duration>,
}

/// How far a conversation goes, as far as somebody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Its highest number.
    pub n: u64,
    /// When its acknowledgement came.
    pub at: Duration,
    /// As which event.
    pub id: EventId,
}

/// Where a client began in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    at: Duration,
    position: Option<EventId>,
}

impl Beginning {
    /// Whether what ends there was in the log already: acknowledged before, or, where the acknowledgement came later, not after the
    /// position: ids of one room rise, as they are given while it is locked and all nodes have one clock.
    #[must_use]
    pub fn is_after(&self, end: &End) -> bool {
        self.at >= end.at || self.position >= Some(end.id)
    }
}

/// The diary of one client. Clones are the same diary.
#[derive(Debug, Clone)]
pub struct Diary {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    person: PersonId,
    listening: Listening,
    clock: Clock,
    standing: Mutex<Standing>,
    history: Mutex<History>,
}

impl Diary {
    /// An empty one.
    #[must_use]
    pub fn new(name: String, person: PersonId, listening: Listening, clock: Clock) -> Self {
        let history = History { person, name, listening, records: Vec::new() };
        let (standing, history) = (Mutex::default(), Mutex::new(history));
        Self { shared: Arc::new(Shared { person, listening, clock, standing, history }) }
    }

    /// Whose.
    #[must_use]
    pub fn person(&self) -> PersonId {
        self.shared.person
    }

    /// How the client listens.
    #[must_use]
    pub fn listening(&self) -> Listening {
        self.shared.listening
    }

    /// What is written so far. Nothing may be awaited while it is held.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the client has come. Nothing may be awaited while it is held.
    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        self.shared.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes something down.
    pub fn note(&self, record: Record) {
        let at = self.shared.clock.now();
        self.history().records.push(Noted { at, record });
    }

    /// Writes down that something was done that is counted.
    pub fn did(&self, deed: Deed) {
        self.note(Record::Did(deed));
    }

    /// It starts in a room where it was not before.
    pub fn begin(&self, room: RoomId, position: Option<EventId>) {
        let at = self.shared.clock.now();
        self.standing().rooms.insert(room, Beginning { at, position });
        self.note(Record::Began { room, position });
    }

    /// It is in a room no more.
    pub fn leave(&self, room: RoomId) {
        self.standing().rooms.remove(&room);
        self.note(Record::Left { room });
    }

    /// Something said is durable.
    pub fn acked(&self, place: (RoomId, ConversationId), id: EventId, n: u64) {
        let end = End { n, at: self.shared.clock.now(), id };
        let mut standing = self.standing();
        let highest = standing.acked.entry(place).or_insert(end);
        if n > highest.n {
            *highest = end;
        }
    }

    /// An event came.
    pub fn event(&self, event: &Event) {
        if let (Some(conversation), Some(n)) = (event.conversation, event.n) {
            self.standing().heard.insert(conversation, n);
        }
        self.note(Record::Heard(heard(event)));
    }

    /// Writes down what a listener does about an update: everything but answers to what was said.
    pub fn hear(&self, update: &Update) {
        match update {
            Update::Welcome(welcome) => {
                for room in &welcome.rooms {
                    if !self.is_in(room.room) {
                        self.begin(room.room, room.position);
                    }
                }
            }
            Update::Joined(room) if !self.is_in(room.room) => self.begin(room.room, room.position),
            Update::Event(event) => self.event(event),
            Update::Reset { room, position, reason } => {
                let at = self.shared.clock.now();
                self.standing().rooms.insert(*room, Beginning { at, position: *position });
                self.note(Record::Reset { room: *room, position: *position, reason: *reason });
            }
            Update::Left(room) => self.leave(*room),
            Update::Mark { conversation, mark, .. } => {
                self.note(Record::Told { conversation: *conversation, mark: *mark });
            }
            Update::Disconnected { loss, .. } => self.disconnected(loss),
            Update::CaughtUp(_) => {
                let (at, mut standing) = (self.shared.clock.now(), self.standing());
                if let Some(since) = standing.away_since.take() {
                    standing.longest_gap = standing.longest_gap.max(at.saturating_sub(since));
                }
            }
            Update::Anomaly(anomaly) => self.note(Record::Anomaly(broken_by(anomaly), anomaly.to_string())),
            Update::Fault(fault) => self.note(Record::Complaint(format!("{:?}: {fault}", fault.code))),
            Update::Stopped(Stop::Closed) => {}
            Update::Stopped(stop) => {
                self.note(Record::Anomaly(Invariant::Complete, format!("was turned away: {stop:?}")));
            }
            Update::Joined(_)
            | Update::Acked(_)
            | Update::Refused { .. }
            | Update::Typing { .. }
            | Update::Bye { .. } => {}
        }
    }

    fn disconnected(&self, loss: &Loss) {
        let good_bye = matches!(loss, Loss::Closed { code, .. } if *code == CloseCode::Restart.number());
        let (at, mut standing) = (self.shared.clock.now(), self.standing());
        standing.away_since.get_or_insert(at);
        standing.lost += 1;
        standing.turned_away += u64::from(!good_bye);
    }

    fn is_in(&self, room: RoomId) -> bool {
        self.standing().rooms.contains_key(&room)
    }
}

fn broken_by(anomaly: &Anomaly) -> Invariant {
    match anomaly {
        Anomaly::Hole { .. } | Anomaly::Doubled { .. } | Anomaly::Unreadable(_) => Invariant::Complete,
        Anomaly::UnknownRoom { .. } => Invariant::Sight,
        Anomaly::AckOutOfOrder { .. } => Invariant::SendingOrder,
        Anomaly::AckWithoutEvent { .. } => Invariant::OneAnswer,
    }
}

/// A message as the checker compares it.
#[must_use]
pub fn shown(message: &Message) -> Shown {
    Shown { id: message.id, text: message.envelope.as_ref().map(|envelope| envelope.text.clone()) }
}

/// An event as the checker compares it.
fn heard(event: &Event) -> Heard {
    let message = match &event.body {
        EventBody::Posted { message } | EventBody::Edited { message } | EventBody::Retracted { message } => {
            Some(shown(message))
        }
        EventBody::Withheld | EventBody::MemberJoined { .. } | EventBody::MemberLeft { .. } | EventBody::Unknown => {
            None
        }
    };
    Heard { room: event.room, id: event.id, conversation: event.conversation, n: event.n, message }
}
