//! What the next version knows besides: a kind of event, `pinned`, and a column, `event.pinned_until`.
//!
//! Owns: all of it but its words on the wire and its migration. Built only with the feature `next`, which no release has; it is there
//! so that a node that knows it and nodes that do not can be run together (`loadtest versions`). A release that adds a kind does it
//! in the same way: the `body` is a JSON object with the further fields of the event's frame, so that older nodes can pass it on, and
//! in a conversation it takes a number like every other.
//! Refuses to know: how batches and rooms are locked.

use super::{About, Append, Appended, Entry, Fault, Known, New, Place, Planning, Row, Sight, Subject, View, kind};
use crate::db::Engine;
use crate::log::append::plan::Target;
use homeroom_protocol::{ErrorCode, EventBody, EventId, RoomId, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, SqliteConnection};
use std::sync::Arc;

/// A message that is pinned.
#[derive(Debug)]
pub struct Pin {
    room: RoomId,
    seq: i64,
    until: Timestamp,
}

/// The further fields of the event's frame.
#[derive(Serialize, Deserialize)]
struct Body {
    message: EventId,
    until: Timestamp,
}

impl Planning {
    /// Staff pin what they see, as long as it stands.
    pub(super) fn may_pin(&self, append: &Append, view: &View, message: EventId) -> Result<New, Fault> {
        let missing = || Fault::new(ErrorCode::NotFound, "There is no such message.");
        let target = self.loaded.targets.get(&(append.room, message)).ok_or_else(missing)?;
        let subject = Subject { root_seq: target.seq, thread: target.address.into() };
        if view.sight(subject) != Sight::Full || target.message.retracted_at.is_some() {
            return Err(missing());
        }
        if !view.is_staff() {
            return Err(Fault::new(ErrorCode::Forbidden, "Only staff can pin a message."));
        }
        Ok(New::change(kind::PINNED, target.clone(), None))
    }

    pub(super) fn pin(&mut self, append: &Append, digest: [u8; 32], target: Target, until: Timestamp) -> Appended {
        let Place { id, previous, seq, n } = self.place(append.room, target.conversation);
        let message = target.message.id;
        self.plan.rows.push(Row {
            room: append.room,
            seq,
            id,
            kind: kind::PINNED,
            conversation: target.conversation,
            n,
            root: message,
            root_seq: target.seq,
            author: append.author,
            client_id: append.client_id,
            digest,
            urgent: false,
            body: serde_json::to_string(&Body { message, until }).ok(),
        });
        self.plan.pins.push(Pin { room: append.room, seq: target.seq, until });
        self.plan.conversations.insert(target.conversation, (append.room, target.address, n, seq));
        let about = About { conversation: target.conversation, address: target.address, n, root_seq: target.seq };
        let body = EventBody::Pinned { message, until };
        let entry = Entry::of_message(append.room, seq, id, self.plan.at, about, body).following(previous);
        self.plan.entries.push(Arc::new(entry));
        let appended = Appended { id, n };
        self.loaded.known.insert((append.author, append.client_id), Known { digest, appended });
        appended
    }
}

/// What a stored pin shows.
///
/// # Errors
/// When the body can't be read: the database was written by something else.
pub fn pinned(body: Option<&str>) -> Result<EventBody, serde_json::Error> {
    let Body { message, until } = serde_json::from_str(body.unwrap_or_default())?;
    Ok(EventBody::Pinned { message, until })
}

/// Writes the column that only this version has.
///
/// # Errors
/// When the database does not take it.
pub async fn store(mut on: Engine<&mut PgConnection, &mut SqliteConnection>, pins: &[Pin]) -> Result<(), sqlx::Error> {
    for Pin { room, seq, until } in pins {
        let on = match &mut on {
            Engine::Postgres(on) => Engine::Postgres(&mut **on),
            Engine::Sqlite(on) => Engine::Sqlite(&mut **on),
        };
        let text = "UPDATE event SET pinned_until = $3 WHERE room_id = $1 AND seq = $2";
        crate::execute!(on, text, room.0, *seq, until.as_datetime())?;
    }
    Ok(())
}
