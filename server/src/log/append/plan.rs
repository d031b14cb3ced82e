//! What a batch does, decided without a database.
//!
//! Owns: the rules of appending: duplicates, conflicts, rights, numbers. Refuses to know: SQL, transactions, time-outs.

#[cfg(feature = "next")]
pub(in crate::log) mod next;

use super::{Append, Appended, Heads, Pending, What};
use crate::log::entry::{About, Entry, kind};
use crate::log::rights;
use crate::log::row::MessageRow;
use crate::log::sight::{Sight, Subject, View};
use homeroom_protocol::{
    Address, ClientId, ConversationId, Envelope, ErrorCode, EventBody, EventId, Fault, Message, PersonId, RoomId,
    RoomKind, Timestamp,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A room as it stands under the lock.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// A school's room takes announcements only.
    pub kind: RoomKind,
    /// The last seq given.
    pub last_seq: i64,
    /// The last event.
    pub last_event: Option<EventId>,
}

/// What a client id was answered before.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Of what was asked.
    pub digest: [u8; 32],
    /// What was answered.
    pub appended: Appended,
}

/// A message that a command is about.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its seq.
    pub seq: i64,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Who is in it.
    pub address: Address,
    /// As it stands now.
    pub message: Message,
}

/// What the database knew, read under the lock of the rooms.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The rooms that could be locked.
    pub heads: Heads,
    /// Client ids that were answered before.
    pub known: HashMap<(PersonId, ClientId), Known>,
    /// Who may see, and so do, what.
    pub views: HashMap<(RoomId, PersonId), View>,
    /// The last `n` of each conversation.
    pub numbers: HashMap<ConversationId, i64>,
    /// The messages to be edited or retracted.
    pub targets: HashMap<(RoomId, EventId), Target>,
}

/// The messages to be edited or retracted, by room and id.
///
/// # Errors
/// When a stored envelope can't be read.
pub fn targets(rows: Vec<MessageRow>) -> Result<HashMap<(RoomId, EventId), Target>, sqlx::Error> {
    rows.into_iter()
        .map(|row| {
            let key = (RoomId(row.room_id), EventId(row.id));
            let (seq, conversation, address) = (row.seq, ConversationId(row.conversation_id), row.address());
            Ok((key, Target { seq, conversation, address, message: row.into_message()? }))
        })
        .collect()
}

/// What is to be answered.
#[derive(Debug)]
pub enum Answer {
    /// It is, or was already, appended.
    Appended(Appended),
    /// It may not be done.
    Refused(Fault),
    /// Another node holds the room; it has to wait.
    Skipped,
}

/// A row of `event` and, but for its room's own affairs, of `client_command`.
#[derive(Debug)]
pub struct Row {
    pub room: RoomId,
    pub seq: i64,
    pub id: EventId,
    pub kind: &'static str,
    pub conversation: ConversationId,
    pub n: i64,
    pub root: EventId,
    pub root_seq: i64,
    pub author: PersonId,
    pub client_id: ClientId,
    pub digest: [u8; 32],
    pub urgent: bool,
    /// The envelope as JSON; a retraction has none.
    pub body: Option<String>,
}

/// How a message stands after the batch.
#[derive(Debug)]
pub struct Changed {
    pub room: RoomId,
    pub seq: i64,
    pub edited: bool,
    pub retracted: bool,
    pub body: Option<String>,
}

/// How a room moves on.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    /// Its last event before the batch.
    pub was: Option<EventId>,
    /// Its last seq after it.
    pub seq: i64,
    /// Its last event after it.
    pub id: EventId,
}

/// What is to be stored, answered and told.
#[derive(Debug)]
pub struct Plan {
    /// One for each command, in order.
    pub answers: Vec<Answer>,
    /// New entries.
    pub rows: Vec<Row>,
    /// Messages that stand differently now, the last state of each.
    pub changed: BTreeMap<(RoomId, i64), Changed>,
    /// Conversations with their address, last n and last seq.
    pub conversations: HashMap<ConversationId, (RoomId, Address, i64, i64)>,
    /// Rooms with their new heads.
    pub heads: BTreeMap<RoomId, Moved>,
    /// The entries, for those who read live.
    pub entries: Vec<Arc<Entry>>,
    /// When.
    pub at: Timestamp,
    /// What was loaded, as it stands after the batch.
    pub after: Loaded,
    /// Messages that are pinned by it.
    #[cfg(feature = "next")]
    pub pins: Vec<next::Pin>,
}

/// Decides what the batch does. `all_locked`: no room was skipped, so one that is missing does not exist.
pub fn plan(batch: &[Pending], loaded: Loaded, all_locked: bool) -> Plan {
    let mut planning = Planning {
        loaded,
        all_locked,
        plan: Plan {
            answers: Vec::with_capacity(batch.len()),
            rows: Vec::with_capacity(batch.len()),
            changed: BTreeMap::new(),
            conversations: HashMap::new(),
            heads: BTreeMap::new(),
            entries: Vec::with_capacity(batch.len()),
            at: Timestamp::now(),
            after: Loaded::default(),
            #[cfg(feature = "next")]
            pins: Vec::new(),
        },
    };
    for pending in batch {
        let answer = planning.decide(pending);
        planning.plan.answers.push(answer);
    }
    Plan { after: planning.loaded, ..planning.plan }
}

impl Plan {
    /// Whether every command of the batch is appended.
    pub fn appends_all(&self) -> bool {
        self.rows.len() == self.answers.len()
    }
}

struct Planning {
    loaded: Loaded,
    all_locked: bool,
    plan: Plan,
}

/// Where an entry stands.
struct Place {
    id: EventId,
    previous: Option<EventId>,
    seq: i64,
    n: i64,
}

/// What is appended: where it goes and what it says.
struct New {
    kind: &'static str,
    conversation: ConversationId,
    address: Address,
    /// The message that it is about, unless it is a new one.
    target: Option<Target>,
    envelope: Option<Envelope>,
    urgent: bool,
}

impl Planning {
    fn decide(&mut self, pending: &Pending) -> Answer {
        let Pending { append, digest, .. } = pending;
        // What was answered once is answered the same for ever, also to an author who has lost the right meanwhile.
        if let Some(known) = self.loaded.known.get(&(append.author, append.client_id)) {
            return if known.digest == *digest {
                Answer::Appended(known.appended)
            } else {
                Answer::Refused(Fault::new(
                    ErrorCode::Conflict,
                    "This client id was used for another command. Give each command an id of its own.",
                ))
            };
        }
        if pending.waits {
            return Answer::Refused(Fault::new(ErrorCode::OutOfTurn, "An earlier message has to be sent again first."));
        }
        if !self.loaded.heads.contains_key(&append.room) {
            return if self.all_locked {
                Answer::Refused(Fault::new(ErrorCode::Forbidden, "You are not in this room."))
            } else {
                Answer::Skipped
            };
        }
        match self.permitted(append) {
            Ok(new) => Answer::Appended(self.append(append, *digest, new)),
            Err(fault) => Answer::Refused(fault),
        }
    }

    fn permitted(&self, append: &Append) -> Result<New, Fault> {
        let view = self
            .loaded
            .views
            .get(&(append.room, append.author))
            .filter(|view| view.present_after().is_some())
            .ok_or_else(|| Fault::new(ErrorCode::Forbidden, "You are not in this room."))?;
        match &append.what {
            What::Post { to, envelope, urgent } => {
                self.may_post(append, view, *to, *urgent)?;
                Ok(New {
                    kind: kind::POSTED,
                    conversation: to.conversation(append.room),
                    address: *to,
                    target: None,
                    envelope: Some((**envelope).clone()),
                    urgent: *urgent,
                })
            }
            What::Edit { message, envelope } => {
                let target = self.own_message(append, view, *message)?;
                Ok(New::change(kind::EDITED, target, Some((**envelope).clone())))
            }
            What::Retract { message } => {
                Ok(New::change(kind::RETRACTED, self.own_message(append, view, *message)?, None))
            }
            #[cfg(feature = "next")]
            What::Pin { message, .. } => self.may_pin(append, view, *message),
        }
    }

    fn may_post(&self, append: &Append, view: &View, to: Address, urgent: bool) -> Result<(), Fault> {
        let forbidden = |words: &str| Err(Fault::new(ErrorCode::Forbidden, words));
        if urgent && !view.is_staff() {
            return forbidden("Only staff can mark a message urgent.");
        }
        let kind = self.loaded.heads.get(&append.room).map_or(RoomKind::Unknown, |head| head.kind);
        rights::may_write(view, kind, to)?;
        match (to, view) {
            (Address::Private(about), View::Staff { .. }) => {
                let guardian = self.loaded.views.get(&(append.room, about.guardian));
                if guardian.is_some_and(|guardian| guardian.students().any(|student| student == about.student)) {
                    Ok(())
                } else {
                    forbidden(rights::NO_SUCH_GUARDIAN)
                }
            }
            _ => Ok(()),
        }
    }

    fn own_message(&self, append: &Append, view: &View, message: EventId) -> Result<Target, Fault> {
        let missing = || Fault::new(ErrorCode::NotFound, "There is no such message.");
        let target = self.loaded.targets.get(&(append.room, message)).ok_or_else(missing)?;
        let subject = Subject { root_seq: target.seq, thread: target.address.into() };
        if view.sight(subject) != Sight::Full {
            return Err(missing());
        }
        if target.message.author != append.author {
            return Err(Fault::new(ErrorCode::Forbidden, "Only its author can change a message."));
        }
        if target.message.retracted_at.is_some() {
            return Err(Fault::new(ErrorCode::Invalid, "This message was taken back. It can't be changed any more."));
        }
        Ok(target.clone())
    }

    /// The next place in the room and in the conversation.
    fn place(&mut self, room: RoomId, conversation: ConversationId) -> Place {
        let id = EventId::new();
        let head =
            self.loaded.heads.entry(room).or_insert(Head { kind: RoomKind::Class, last_seq: 0, last_event: None });
        head.last_seq += 1;
        let previous = head.last_event.replace(id);
        let number = self.loaded.numbers.entry(conversation).or_insert(0);
        *number += 1;
        let (was, seq) = (previous, head.last_seq);
        let moved = Moved { was, seq, id };
        self.plan.heads.entry(room).and_modify(|room| *room = Moved { was: room.was, ..moved }).or_insert(moved);
        Place { id, previous, seq, n: *number }
    }

    fn append(&mut self, append: &Append, digest: [u8; 32], new: New) -> Appended {
        #[cfg(feature = "next")]
        if let (What::Pin { until, .. }, Some(target)) = (&append.what, &new.target) {
            return self.pin(append, digest, target.clone(), *until);
        }
        let at = self.plan.at;
        let Place { id, previous, seq, n } = self.place(append.room, new.conversation);
        let body = new.envelope.as_ref().and_then(|envelope| serde_json::to_string(envelope).ok());
        let (root, root_seq, message) = match new.target {
            None => {
                let message = Message {
                    id,
                    n: n.unsigned_abs(),
                    author: append.author,
                    client_id: append.client_id,
                    at,
                    urgent: new.urgent,
                    envelope: new.envelope,
                    edited_at: None,
                    retracted_at: None,
                };
                (id, seq, message)
            }
            Some(target) => {
                let retracted = new.envelope.is_none();
                let message = Message {
                    envelope: new.envelope,
                    edited_at: if retracted { target.message.edited_at } else { Some(at) },
                    retracted_at: retracted.then_some(at),
                    ..target.message
                };
                let edited = message.edited_at.is_some();
                self.plan.changed.insert(
                    (append.room, target.seq),
                    Changed {
                        room: append.room,
                        seq: target.seq,
                        edited: edited && !retracted,
                        retracted,
                        body: body.clone(),
                    },
                );
                // The next change of it in this batch is one of what this one made of it. Of a new message nobody knows the id yet.
                self.loaded.targets.insert(
                    (append.room, message.id),
                    Target {
                        seq: target.seq,
                        conversation: new.conversation,
                        address: new.address,
                        message: message.clone(),
                    },
                );
                (message.id, target.seq, message)
            }
        };
        self.plan.rows.push(Row {
            room: append.room,
            seq,
            id,
            kind: new.kind,
            conversation: new.conversation,
            n,
            root,
            root_seq,
            author: append.author,
            client_id: append.client_id,
            digest,
            urgent: new.urgent,
            body,
        });
        self.plan.conversations.insert(new.conversation, (append.room, new.address, n, seq));
        let body = match new.kind {
            kind::POSTED => EventBody::Posted { message },
            kind::EDITED => EventBody::Edited { message },
            _ => EventBody::Retracted { message },
        };
        let about = About { conversation: new.conversation, address: new.address, n, root_seq };
        let entry = Entry::of_message(append.room, seq, id, at, about, body).following(previous);
        self.plan.entries.push(Arc::new(entry));
        let appended = Appended { id, n };
        self.loaded.known.insert((append.author, append.client_id), Known { digest, appended });
        appended
    }
}

impl New {
    fn change(kind: &'static str, target: Target, envelope: Option<Envelope>) -> Self {
        Self {
            kind,
            conversation: target.conversation,
            address: target.address,
            target: Some(target),
            envelope,
            urgent: false,
        }
    }
}
