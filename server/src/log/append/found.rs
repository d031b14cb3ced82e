//! What a batch has to know, as one statement finds it.
//!
//! Owns: the rows of that statement, which are of several kinds, and whom a batch asks for. A round trip for each kind would cost more
//! than what is found. Refuses to know: SQL, and the rules (see `plan`).

use super::plan::{Head, Known, Loaded};
use super::{Append, Appended, Pending, What};
use crate::log::members::{self, MemberRow};
use homeroom_protocol::{Address, ClientId, ConversationId, EventId, PersonId, RoomId, RoomKind};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The kinds of rows.
pub(super) mod what {
    /// `a` is a room; `text` its kind, `number` its last seq, `b` its last event.
    pub const ROOM: i64 = 0;
    /// `a` is an author, `b` a client id; `bytes` the digest, `c` and `number` what was answered.
    pub const KNOWN: i64 = 1;
    /// `a` is a room, `b` a person, `c` a student; `text` the role, `number` what it sees after, `until` when it ended.
    pub const MEMBER: i64 = 2;
    /// `a` is a conversation; `number` its last n.
    pub const CONVERSATION: i64 = 3;
}

/// A row of any kind.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Found {
    what: i64,
    a: Uuid,
    b: Option<Uuid>,
    c: Option<Uuid>,
    bytes: Option<Vec<u8>>,
    text: Option<String>,
    number: i64,
    until: Option<i64>,
}

impl Found {
    /// Whether it says what a client id was answered.
    pub(super) fn is_known(&self) -> bool {
        self.what == what::KNOWN
    }
}

/// Whom and what a batch asks for, each once.
pub(super) struct Asked {
    pub rooms: BTreeSet<Uuid>,
    pub commands: BTreeSet<(Uuid, Uuid)>,
    /// By room.
    pub people: BTreeSet<(Uuid, Uuid)>,
    /// By room: to be edited or retracted.
    pub messages: BTreeSet<(Uuid, Uuid)>,
    /// Those of posts. Where a message is, is known only when it is found.
    pub conversations: BTreeSet<Uuid>,
}

impl Asked {
    pub(super) fn by(batch: &[Pending]) -> Self {
        let appends = || batch.iter().map(|pending| &pending.append);
        let author = |append: &Append| (append.room.0, append.author.0);
        let guardian = |append: &Append| match &append.what {
            What::Post { to: Address::Private(about), .. } => Some((append.room.0, about.guardian.0)),
            _ => None,
        };
        let conversation = |append: &Append| match &append.what {
            What::Post { to, .. } => Some(to.conversation(append.room).0),
            _ => None,
        };
        Self {
            rooms: appends().map(|append| append.room.0).collect(),
            commands: appends().map(|append| (append.author.0, append.client_id.0)).collect(),
            people: appends().map(author).chain(appends().filter_map(guardian)).collect(),
            messages: appends()
                .filter_map(|append| append.what.target().map(|message| (append.room.0, message.0)))
                .collect(),
            conversations: appends().filter_map(conversation).collect(),
        }
    }
}

impl Loaded {
    /// Takes in what was found.
    pub(super) fn take(&mut self, rows: Vec<Found>) {
        let mut members = Vec::new();
        for Found { what, a, b, c, bytes, text, number, until } in rows {
            match (what, b, c) {
                (what::ROOM, last_event, _) => {
                    let kind = if text.as_deref() == Some("school") { RoomKind::School } else { RoomKind::Class };
                    let head = Head { kind, last_seq: number, last_event: last_event.map(EventId) };
                    self.heads.insert(RoomId(a), head);
                }
                (what::KNOWN, Some(client_id), Some(event)) => {
                    // A digest of another length was written by nobody; it equals no command's.
                    let digest = bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 32]);
                    let known = Known { digest, appended: Appended { id: EventId(event), n: number } };
                    self.known.insert((PersonId(a), ClientId(client_id)), known);
                }
                (what::MEMBER, Some(person_id), Some(student_id)) => members.push(MemberRow {
                    room_id: a,
                    person_id,
                    student_id,
                    role: text.unwrap_or_default(),
                    left_seq: until,
                    sees_after_seq: number,
                }),
                (what::CONVERSATION, ..) => {
                    self.numbers.insert(ConversationId(a), number);
                }
                // The statements make no others.
                _ => {}
            }
        }
        self.views = members::views(members);
    }
}
