//! Rows of the log as they are read: messages and entries as they stand now.
//!
//! Owns: the columns, and turning them into what travels. A retracted message's text stops here.
//! Refuses to know: which rows somebody may see.

use super::entry::{self, Entry, MemberEntry, kind};
use chrono::{DateTime, Utc};
use homeroom_protocol::{
    About, Address, ClientId, ConversationId, EventBody, EventId, Message, PersonId, RoomId, Timestamp,
};
use uuid::Uuid;

/// `SELECT` of [`MessageRow`]s; the argument is what follows the joins: `message_select!("WHERE e.room_id = $1")`.
#[macro_export]
macro_rules! message_select {
    ($rest:literal) => {
        concat!(
            "SELECT e.room_id, e.seq, e.id, e.conversation_id, e.n, e.author_id, e.client_id, e.at, e.urgent, ",
            "COALESCE(e.current_body, e.body) AS body, e.edited_at, e.retracted_at, c.guardian_id, c.student_id ",
            "FROM event e JOIN conversation c ON c.id = e.conversation_id ",
            $rest
        )
    };
}

/// `SELECT` of [`EntryRow`]s; the argument is what follows the joins.
#[macro_export]
macro_rules! entry_select {
    ($rest:literal) => {
        concat!(
            "SELECT e.room_id, e.seq, e.id, e.kind, e.conversation_id, e.n, e.root_seq, e.at, e.body, ",
            "r.id AS root_id, r.n AS root_n, r.author_id AS root_author_id, r.client_id AS root_client_id, r.at AS root_at, ",
            "COALESCE(r.urgent, FALSE) AS root_urgent, COALESCE(r.current_body, r.body) AS root_body, ",
            "r.edited_at AS root_edited_at, r.retracted_at AS root_retracted_at, c.guardian_id, c.student_id ",
            "FROM event e LEFT JOIN event r ON r.room_id = e.room_id AND r.seq = e.root_seq ",
            "LEFT JOIN conversation c ON c.id = e.conversation_id ",
            $rest
        )
    };
}

/// A message with its conversation, as it stands now.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct MessageRow {
    /// The room.
    pub room_id: Uuid,
    /// Its seq.
    pub seq: i64,
    /// Its id.
    pub id: Uuid,
    /// Its conversation.
    pub conversation_id: Uuid,
    /// Its number there.
    pub n: i64,
    /// Who wrote it.
    pub author_id: Uuid,
    /// With which client id.
    pub client_id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Whether it can't wait.
    pub urgent: bool,
    /// The envelope as it stands now, as JSON.
    pub body: Option<String>,
    /// When it was last edited.
    pub edited_at: Option<DateTime<Utc>>,
    /// When it was retracted.
    pub retracted_at: Option<DateTime<Utc>>,
    /// Whom the conversation is with, if it is private.
    pub guardian_id: Option<Uuid>,
    /// Whom it is about, if it is private.
    pub student_id: Option<Uuid>,
}

impl MessageRow {
    /// To whom the conversation goes.
    #[must_use]
    pub fn address(&self) -> Address {
        address(self.guardian_id, self.student_id)
    }

    /// The message as it travels.
    ///
    /// # Errors
    /// When the stored envelope can't be read: the database was written by something else.
    pub fn into_message(self) -> Result<Message, sqlx::Error> {
        let envelope = match (self.retracted_at, &self.body) {
            (None, Some(body)) => Some(serde_json::from_str(body).map_err(undecodable)?),
            _ => None,
        };
        Ok(Message {
            id: EventId(self.id),
            n: self.n.unsigned_abs(),
            author: PersonId(self.author_id),
            client_id: ClientId(self.client_id),
            at: self.at.into(),
            urgent: self.urgent,
            envelope,
            edited_at: self.edited_at.map(Timestamp::from),
            retracted_at: self.retracted_at.map(Timestamp::from),
        })
    }
}

/// An entry of the log with the message that it is about, as it stands now.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EntryRow {
    room_id: Uuid,
    seq: i64,
    id: Uuid,
    kind: String,
    conversation_id: Option<Uuid>,
    n: Option<i64>,
    root_seq: Option<i64>,
    at: DateTime<Utc>,
    body: Option<String>,
    root_id: Option<Uuid>,
    root_n: Option<i64>,
    root_author_id: Option<Uuid>,
    root_client_id: Option<Uuid>,
    root_at: Option<DateTime<Utc>>,
    root_urgent: bool,
    root_body: Option<String>,
    root_edited_at: Option<DateTime<Utc>>,
    root_retracted_at: Option<DateTime<Utc>>,
    guardian_id: Option<Uuid>,
    student_id: Option<Uuid>,
}

impl EntryRow {
    /// The entry as it travels inside the servers.
    ///
    /// # Errors
    /// When a stored body can't be read: the database was written by something else.
    pub fn into_entry(self) -> Result<Entry, sqlx::Error> {
        let (room, seq, id, at) = (RoomId(self.room_id), self.seq, EventId(self.id), Timestamp::from(self.at));
        if let (kind::MEMBER_JOINED | kind::MEMBER_LEFT, Some(body)) = (self.kind.as_str(), &self.body) {
            let member: MemberEntry = serde_json::from_str(body).map_err(undecodable)?;
            return Ok(Entry::of_member(room, seq, id, at, member));
        }
        let about = match (self.conversation_id, self.n) {
            (Some(conversation), Some(n)) => Some(entry::About {
                conversation: ConversationId(conversation),
                address: address(self.guardian_id, self.student_id),
                n,
                root_seq: self.root_seq.unwrap_or(seq),
            }),
            _ => None,
        };
        let body = match (self.kind.as_str(), self.message()?) {
            (kind::POSTED, Some(message)) => EventBody::Posted { message },
            (kind::EDITED, Some(message)) => EventBody::Edited { message },
            (kind::RETRACTED, Some(message)) => EventBody::Retracted { message },
            #[cfg(feature = "next")]
            (kind::PINNED, Some(_)) => super::append::next::pinned(self.body.as_deref()).map_err(undecodable)?,
            _ => return Ok(Entry::of_unknown(room, seq, id, at, about, self.shows())),
        };
        Ok(match about {
            Some(about) => Entry::of_message(room, seq, id, at, about, body),
            None => Entry::of_unknown(room, seq, id, at, None, None),
        })
    }

    /// What may be shown of an unknown kind. It was said of the message as it was then: where that stands differently now, its
    /// words might be those that were taken back.
    fn shows(&self) -> Option<entry::Shows<'_>> {
        let changed = self.root_seq != Some(self.seq) && (self.root_edited_at.or(self.root_retracted_at)).is_some();
        (!changed).then_some(entry::Shows { kind: &self.kind, body: self.body.as_deref() })
    }

    fn message(&self) -> Result<Option<Message>, sqlx::Error> {
        let (Some(id), Some(n), Some(author), Some(client_id), Some(at)) =
            (self.root_id, self.root_n, self.root_author_id, self.root_client_id, self.root_at)
        else {
            return Ok(None);
        };
        let envelope = match (self.root_retracted_at, &self.root_body) {
            (None, Some(body)) => Some(serde_json::from_str(body).map_err(undecodable)?),
            _ => None,
        };
        Ok(Some(Message {
            id: EventId(id),
            n: n.unsigned_abs(),
            author: PersonId(author),
            client_id: ClientId(client_id),
            at: at.into(),
            urgent: self.root_urgent,
            envelope,
            edited_at: self.root_edited_at.map(Timestamp::from),
            retracted_at: self.root_retracted_at.map(Timestamp::from),
        }))
    }
}

fn address(guardian: Option<Uuid>, student: Option<Uuid>) -> Address {
    match (guardian, student) {
        (Some(guardian), Some(student)) => {
            Address::Private(About { guardian: PersonId(guardian), student: PersonId(student) })
        }
        _ => Address::Announcements,
    }
}

fn undecodable(error: serde_json::Error) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
