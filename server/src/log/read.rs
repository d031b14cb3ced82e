//! Reading the log back, as things stand now.
//!
//! Owns: stretches of a room or a conversation by their indexes (never by scanning the room and filtering), history, and
//! where an event id stands. Refuses to know: who is connected, and what is kept in memory (see `pages`).

use super::entry::Entry;
use super::row::{EntryRow, MessageRow};
use super::sight::View;
use crate::db::{Db, Engine};
use crate::{fetch_all, fetch_among, fetch_optional};
use homeroom_protocol::{About, Address, ConversationId, EventId, HistoryPage, Limits, Message, PersonId, RoomId};
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

/// Entries read at once. A page of 128 short messages is about 64 KB as frames.
pub const PAGE: i64 = 128;
/// Whoever missed more than this takes a fresh snapshot instead: it is shorter than what they missed.
pub const TOO_FAR: i64 = 2_000;
/// Text in one page of history, so that an answer stays bounded when every message is as long as may be.
const HISTORY_BYTES: usize = 256 * 1024;

/// The statements by which the log is read: pages, history, positions. Tests ask both engines how they run them.
pub mod statement {
    use crate::{entry_select, message_select};

    /// A room's entries after a seq.
    pub const OF_ROOM: &str = entry_select!("WHERE e.room_id = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3");
    /// A conversation's entries after an `n`.
    pub const OF_CONVERSATION: &str =
        entry_select!("WHERE e.room_id = $1 AND e.conversation_id = $2 AND e.n > $3 ORDER BY e.n LIMIT $4");
    /// A conversation's messages before an `n`, newest first.
    pub const HISTORY: &str = message_select!(
        "WHERE e.room_id = $1 AND e.conversation_id = $2 AND e.n < $3 AND e.kind = 'posted' ORDER BY e.n DESC LIMIT $4"
    );
    /// The first `n` of a conversation, up to a given one, that stands after a seq. Numbers and seqs rise together, so it is looked for in
    /// steps that halve from a power of two: 13 look-ups for 5,000 entries. Each is a query of its own, since as a join they may be planned as
    /// one walk over the conversation, repeated. Were the log to miss an entry, this gives a later `n`.
    pub const FIRST_AFTER: &str = "WITH RECURSIVE place (low, step) AS (
            SELECT CAST(0 AS BIGINT), CAST($5 AS BIGINT)
            UNION ALL
            SELECT CASE WHEN place.low + place.step >= $3 OR (SELECT e.seq FROM event e
                       WHERE e.room_id = $1 AND e.conversation_id = $2 AND e.n = place.low + place.step) > $4
                   THEN place.low ELSE place.low + place.step END, place.step / 2
            FROM place WHERE place.step > 0)
        SELECT low + 1 FROM place WHERE step = 0";
    /// One message.
    pub const MESSAGE: &str = message_select!("WHERE e.room_id = $1 AND e.id = $2 AND e.kind = 'posted'");
    /// The last event of a room up to a seq.
    pub const LAST_OF_ROOM: &str = "SELECT id FROM event WHERE room_id = $1 AND seq <= $2 ORDER BY seq DESC LIMIT 1";
    /// The last event of a conversation up to a seq, and its `n`. The plus keeps SQLite from walking the room by its key (room_id, seq)
    /// and sorting what it finds.
    pub const LAST_OF_CONVERSATION: &str = "SELECT seq, id, n FROM event
        WHERE room_id = $1 AND conversation_id = $2 AND +seq <= $3 ORDER BY n DESC LIMIT 1";
    /// Where events stand, on PostgreSQL.
    pub const SEQS_POSTGRES: &str =
        "SELECT room_id, id, seq FROM event WHERE (room_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))";
    /// Where events stand, on SQLite.
    pub const SEQS_SQLITE: &str = "SELECT room_id, id, seq FROM event
        WHERE (room_id, id) IN (SELECT unhex(value ->> 0), unhex(value ->> 1) FROM json_each($1))";
    /// What stands at a place of each room, on PostgreSQL.
    pub const AT_POSTGRES: &str =
        "SELECT r.id, e.id, r.last_seq FROM unnest($1::uuid[], $2::bigint[]) AS place (room_id, seq)
         JOIN room r ON r.id = place.room_id LEFT JOIN event e ON e.room_id = r.id AND e.seq = place.seq";
    /// What stands at a place of each room, on SQLite.
    pub const AT_SQLITE: &str =
        "SELECT r.id, e.id, r.last_seq FROM json_each($1) AS place JOIN room r ON r.id = unhex(place.value ->> 0)
         LEFT JOIN event e ON e.room_id = r.id AND e.seq = place.value ->> 1";
}

/// The head of a room's log: its last seq and event.
///
/// # Errors
/// When the database does not answer.
pub async fn head(db: &Db, room: RoomId) -> Result<Option<(i64, Option<EventId>)>, sqlx::Error> {
    let row = fetch_optional!(
        db.reads(),
        (i64, Option<Uuid>),
        "SELECT last_seq, last_event_id FROM room WHERE id = $1",
        room.0
    )?;
    Ok(row.map(|(seq, id)| (seq, id.map(EventId))))
}

/// Where events stand in their rooms' logs; those that the logs do not hold are missing from the answer.
///
/// # Errors
/// When the database does not answer.
pub async fn seqs(db: &Db, events: &[(RoomId, EventId)]) -> Result<HashMap<(RoomId, EventId), i64>, sqlx::Error> {
    if events.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(Uuid, Uuid, i64)> = match db.reads() {
        Engine::Postgres(pool) => {
            let (rooms, ids): (Vec<Uuid>, Vec<Uuid>) = events.iter().map(|(room, id)| (room.0, id.0)).unzip();
            sqlx::query_as(statement::SEQS_POSTGRES).bind(rooms).bind(ids).fetch_all(pool).await?
        }
        Engine::Sqlite(pool) => {
            let ids: Vec<Value> = events
                .iter()
                .map(|(room, id)| json!([room.0.simple().to_string(), id.0.simple().to_string()]))
                .collect();
            sqlx::query_as(statement::SEQS_SQLITE).bind(Value::Array(ids)).fetch_all(pool).await?
        }
    };
    Ok(rows.into_iter().map(|(room, id, seq)| ((RoomId(room), EventId(id)), seq)).collect())
}

/// What the log holds at a place in each of these rooms: the event there, and the room's last seq. Rooms that do not exist are
/// missing from the answer.
///
/// # Errors
/// When the database does not answer.
pub async fn at(db: &Db, places: &[(RoomId, i64)]) -> Result<HashMap<RoomId, (Option<EventId>, i64)>, sqlx::Error> {
    let rows: Vec<(Uuid, Option<Uuid>, i64)> = match db.reads() {
        Engine::Postgres(pool) => {
            let (rooms, seqs): (Vec<Uuid>, Vec<i64>) = places.iter().map(|(room, seq)| (room.0, *seq)).unzip();
            sqlx::query_as(statement::AT_POSTGRES).bind(rooms).bind(seqs).fetch_all(pool).await?
        }
        Engine::Sqlite(pool) => {
            let places: Vec<Value> =
                places.iter().map(|(room, seq)| json!([room.0.simple().to_string(), seq])).collect();
            sqlx::query_as(statement::AT_SQLITE).bind(Value::Array(places)).fetch_all(pool).await?
        }
    };
    Ok(rows.into_iter().map(|(room, event, last_seq)| (RoomId(room), (event.map(EventId), last_seq))).collect())
}

/// The room's entries after a seq, whoever may see them: for staff, and to fill a hole.
///
/// # Errors
/// When the database does not answer.
pub async fn after(db: &Db, room: RoomId, seq: i64, limit: i64) -> Result<Vec<Entry>, sqlx::Error> {
    let rows = fetch_all!(db.reads(), EntryRow, statement::OF_ROOM, room.0, seq, limit)?;
    rows.into_iter().map(EntryRow::into_entry).collect()
}

/// Whether more lies between `seq` and the end than is worth going through.
///
/// # Errors
/// When the database does not answer.
pub async fn is_too_far(db: &Db, room: RoomId, view: &View, seq: i64, head: i64) -> Result<bool, sqlx::Error> {
    // Nobody missed more events than the room had.
    if head - seq <= TOO_FAR {
        return Ok(false);
    }
    let View::Guardian { person, .. } = view else { return Ok(true) };
    let mut missed = 0;
    for conversation in conversations_of(room, *person, view) {
        let last = fetch_optional!(
            db.reads(),
            (i64,),
            "SELECT last_n FROM conversation WHERE id = $1 AND room_id = $2",
            conversation.0,
            room.0
        )?;
        if let Some((last_n,)) = last {
            missed += last_n - number_at(db, room, conversation, seq).await?;
        }
    }
    Ok(missed > TOO_FAR)
}

/// Where a conversation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The seq of its last event.
    pub seq: i64,
    /// Its last event, as long as the log holds it.
    pub event: Option<EventId>,
}

/// Where these conversations end. Those in which nothing was ever said are missing from the answer.
///
/// # Errors
/// When the database does not answer.
pub async fn ends(db: &Db, conversations: &[ConversationId]) -> Result<HashMap<ConversationId, End>, sqlx::Error> {
    let ids: Vec<Uuid> = conversations.iter().map(|id| id.0).collect();
    let rows = fetch_among!(
        db.reads(),
        (Uuid, i64, Option<Uuid>),
        uuid: ids,
        "SELECT c.id, c.last_seq, e.id FROM conversation c LEFT JOIN event e ON e.room_id = c.room_id AND e.seq = c.last_seq
         WHERE c.id",
        ""
    )?;
    Ok(rows.into_iter().map(|(id, seq, event)| (ConversationId(id), End { seq, event: event.map(EventId) })).collect())
}

/// Where all conversations of these rooms end.
///
/// # Errors
/// When the database does not answer.
pub async fn ends_in(db: &Db, rooms: &[RoomId]) -> Result<Vec<(RoomId, ConversationId, End)>, sqlx::Error> {
    let ids: Vec<Uuid> = rooms.iter().map(|id| id.0).collect();
    let rows = fetch_among!(
        db.reads(),
        (Uuid, Uuid, i64, Option<Uuid>),
        uuid: ids,
        "SELECT c.room_id, c.id, c.last_seq, e.id
         FROM conversation c LEFT JOIN event e ON e.room_id = c.room_id AND e.seq = c.last_seq WHERE c.room_id",
        ""
    )?;
    let end = |(room, id, seq, event): (_, _, _, Option<Uuid>)| {
        (RoomId(room), ConversationId(id), End { seq, event: event.map(EventId) })
    };
    Ok(rows.into_iter().map(end).collect())
}

/// The conversations of a room that a guardian is in now.
pub(crate) fn conversations_of(room: RoomId, guardian: PersonId, view: &View) -> Vec<ConversationId> {
    std::iter::once(Address::Announcements)
        .chain(view.students().map(|student| Address::Private(About { guardian, student })))
        .map(|address| address.conversation(room))
        .collect()
}

/// The conversation's `n` at a seq. Walks back from the end, by the conversation's index, over what was missed only.
pub(super) async fn number_at(
    db: &Db,
    room: RoomId,
    conversation: ConversationId,
    seq: i64,
) -> Result<i64, sqlx::Error> {
    Ok(last_of_conversation(db, room, conversation, seq).await?.map_or(0, |(_, _, n)| n))
}

/// The conversation's last event up to a seq: its seq, its id, its `n`.
async fn last_of_conversation(
    db: &Db,
    room: RoomId,
    conversation: ConversationId,
    seq: i64,
) -> Result<Option<(i64, Uuid, i64)>, sqlx::Error> {
    fetch_optional!(db.reads(), (i64, Uuid, i64), statement::LAST_OF_CONVERSATION, room.0, conversation.0, seq)
}

/// A conversation's entries after an `n`.
pub(super) async fn conversation_after(
    db: &Db,
    room: RoomId,
    conversation: ConversationId,
    number: i64,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    let rows = fetch_all!(db.reads(), EntryRow, statement::OF_CONVERSATION, room.0, conversation.0, number, limit)?;
    rows.into_iter().map(EntryRow::into_entry).collect()
}

/// A page of a conversation's messages as they stand now, newest first, that the member may see.
///
/// # Errors
/// When the database does not answer.
pub async fn history(
    db: &Db,
    room: RoomId,
    view: &View,
    conversation: ConversationId,
    before: Option<u64>,
    limit: u32,
) -> Result<HistoryPage, sqlx::Error> {
    let mut before = before.and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX);
    let mut page = HistoryPage { messages: Vec::new(), more: false };
    let mut bytes = 0;
    // One more than asked for tells whether there are older ones.
    let mut most = i64::from(limit) + 1;
    // Every turn but the last one meets a gap between two stays of the member, and no turn meets it again.
    loop {
        let rows = fetch_all!(db.reads(), MessageRow, statement::HISTORY, room.0, conversation.0, before, most)?;
        let is_last = (rows.len() as i64) < most;
        let mut gap_begins_after = None;
        for row in rows {
            before = row.n;
            let subject = super::Subject { root_seq: row.seq, thread: row.address().into() };
            if view.sight(subject) != super::Sight::Full {
                // Said between two stays. Before their first one nothing is theirs: a long past is not read in vain.
                gap_begins_after = view.seen_until(subject);
                if gap_begins_after.is_none() {
                    return Ok(page);
                }
                continue;
            }
            gap_begins_after = None;
            bytes += row.body.as_ref().map_or(0, String::len);
            if page.messages.len() == limit as usize || (bytes > HISTORY_BYTES && !page.messages.is_empty()) {
                page.more = true;
                return Ok(page);
            }
            page.messages.push(row.into_message()?);
        }
        if is_last {
            return Ok(page);
        }
        if let Some(seq) = gap_begins_after {
            before = first_after(db, room, conversation, seq, before).await?;
        }
        // Who came and went often has many gaps: the short ones are read over, so that as many rows are read a turn as a whole page has.
        most = most.max(i64::from(Limits::CURRENT.history_page) + 1);
    }
}

/// The first `n` of a conversation, up to `before`, whose entry stands after a seq; the one at `before` does.
async fn first_after(
    db: &Db,
    room: RoomId,
    conversation: ConversationId,
    seq: i64,
    before: i64,
) -> Result<i64, sqlx::Error> {
    let step = 1_i64 << before.max(1).ilog2();
    let row = fetch_optional!(db.reads(), (i64,), statement::FIRST_AFTER, room.0, conversation.0, before, seq, step)?;
    Ok(row.map_or(before, |(n,)| n))
}

/// One message as it stands now, if the member may see it.
///
/// # Errors
/// When the database does not answer.
pub async fn message(
    db: &Db,
    room: RoomId,
    view: &View,
    id: EventId,
) -> Result<Option<(Message, Address, i64)>, sqlx::Error> {
    let row = fetch_optional!(db.reads(), MessageRow, statement::MESSAGE, room.0, id.0)?;
    let Some(row) = row else { return Ok(None) };
    let (seq, address) = (row.seq, row.address());
    let subject = super::Subject { root_seq: seq, thread: address.into() };
    if view.sight(subject) != super::Sight::Full {
        return Ok(None);
    }
    Ok(Some((row.into_message()?, address, seq)))
}

/// The last event up to a seq that the member may know of, for a reader who starts there. Another one's id would tell when
/// somebody else wrote. A guardian's own coming or going is such an event, too: from an earlier one they could not go on.
///
/// # Errors
/// When the database does not answer.
pub async fn last_visible(db: &Db, room: RoomId, view: &View, until: i64) -> Result<Option<EventId>, sqlx::Error> {
    let View::Guardian { person, .. } = view else {
        let row = fetch_optional!(db.reads(), (Uuid,), statement::LAST_OF_ROOM, room.0, until)?;
        return Ok(row.map(|(id,)| EventId(id)));
    };
    // What was said before their time is none of theirs, not even as a position.
    let after = view.present_after().unwrap_or(i64::MAX);
    let mut last: Option<(i64, Uuid)> = None;
    for conversation in conversations_of(room, *person, view) {
        let row = last_of_conversation(db, room, conversation, until).await?;
        last = last.max(row.filter(|(seq, ..)| *seq > after).map(|(seq, id, _)| (seq, id)));
    }
    let came = view.came_or_went_at().filter(|came| *came <= until && last.is_none_or(|(seq, _)| seq < *came));
    if let Some(came) = came {
        return Ok(at(db, &[(room, came)]).await?.remove(&room).and_then(|(event, _)| event));
    }
    Ok(last.map(|(_, id)| EventId(id)))
}
