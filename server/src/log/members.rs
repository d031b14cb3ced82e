//! Who is in a room, from when to when.
//!
//! Owns: memberships as [`View`]s, and changing them as entries of the room's log.
//! Refuses to know: why somebody joins or leaves (see `roster`), and who is connected.

use super::entry::{Entry, MemberEntry, kind};
use super::sight::{Interval, View};
use crate::db::{Db, Engine};
use crate::{execute, fetch_optional};
use chrono::{DateTime, Utc};
use homeroom_protocol::{EventId, PersonId, Role, RoomId, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// A membership as stored.
#[derive(Debug, Clone)]
pub struct MemberRow {
    /// The room.
    pub room_id: Uuid,
    /// Who.
    pub person_id: Uuid,
    /// Through whom; the nil UUID for staff.
    pub student_id: Uuid,
    /// `staff` or `guardian`.
    pub role: String,
    /// The entry that closed it.
    pub left_seq: Option<i64>,
    /// What they may see begins after this entry.
    pub sees_after_seq: i64,
}

/// A wish to change who is in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChange {
    /// Who.
    pub person: PersonId,
    /// For a guardian: through which student.
    pub student: Option<PersonId>,
    /// As what.
    pub role: Role,
    /// Joins, or leaves.
    pub joins: bool,
    /// For staff who join: they see what was said since then (the start of the term). Others see what is said from now on.
    pub sees_from: Option<DateTime<Utc>>,
}

/// A membership, as far as it decides what is seen.
pub(super) struct Stay {
    /// Through whom; the nil UUID for staff.
    pub(super) student: Uuid,
    pub(super) is_staff: bool,
    /// What they may see begins after this seq,
    pub(super) after: i64,
    /// and ends with this one.
    pub(super) until: Option<i64>,
}

/// What a person may see of a room by all their stays in it. Whoever is both staff and guardian sees as staff while they are.
pub(super) fn view(person: PersonId, stays: impl IntoIterator<Item = Stay>) -> View {
    let (mut as_staff, mut as_guardian) = (Vec::new(), Vec::new());
    for Stay { student, is_staff, after, until } in stays {
        let student = (!is_staff).then_some(PersonId(student));
        if is_staff { &mut as_staff } else { &mut as_guardian }.push(Interval { student, after, until });
    }
    if as_staff.iter().any(|interval| interval.until.is_none()) {
        View::Staff { intervals: as_staff.into() }
    } else {
        View::Guardian { person, intervals: as_guardian.into() }
    }
}

/// Makes one view per room and person.
#[must_use]
pub fn views(rows: impl IntoIterator<Item = MemberRow>) -> HashMap<(RoomId, PersonId), View> {
    let mut stays: HashMap<(RoomId, PersonId), Vec<Stay>> = HashMap::new();
    for row in rows {
        stays.entry((RoomId(row.room_id), PersonId(row.person_id))).or_default().push(Stay {
            student: row.student_id,
            is_staff: row.role == "staff",
            after: row.sees_after_seq,
            until: row.left_seq,
        });
    }
    stays.into_iter().map(|((room, person), stays)| ((room, person), view(person, stays))).collect()
}

/// Who is in these rooms now.
///
/// # Errors
/// When the database does not answer.
pub async fn of_rooms(db: &Db, rooms: &[RoomId]) -> Result<Vec<(RoomId, PersonId)>, sqlx::Error> {
    let rows: Vec<(Uuid, Uuid)> = match db.reads() {
        Engine::Postgres(pool) => {
            let rooms: Vec<Uuid> = rooms.iter().map(|room| room.0).collect();
            sqlx::query_as(
                "SELECT DISTINCT room_id, person_id FROM membership WHERE room_id = ANY($1) AND left_seq IS NULL",
            )
            .bind(rooms)
            .fetch_all(pool)
            .await?
        }
        Engine::Sqlite(pool) => {
            let rooms = rooms.iter().map(|room| serde_json::Value::String(room.0.simple().to_string())).collect();
            sqlx::query_as(
                "SELECT DISTINCT room_id, person_id FROM membership
                 WHERE room_id IN (SELECT unhex(value) FROM json_each($1)) AND left_seq IS NULL",
            )
            .bind(serde_json::Value::Array(rooms))
            .fetch_all(pool)
            .await?
        }
    };
    Ok(rows.into_iter().map(|(room, person)| (RoomId(room), PersonId(person))).collect())
}

/// Changes who is in a room, in one transaction, each change an entry of its log. What is already so is passed over.
/// Called by the room's lane only.
pub(super) async fn change(
    db: &Db,
    room: RoomId,
    changes: &[MemberChange],
    at: Timestamp,
) -> Result<Vec<Arc<Entry>>, sqlx::Error> {
    let mut tx = db.begin().await?;
    // Locks the row on both engines, so that the log can't grow meanwhile.
    execute!(tx.on(), "UPDATE room SET last_seq = last_seq WHERE id = $1", room.0)?;
    let head = fetch_optional!(
        tx.on(),
        (i64, Option<Uuid>),
        "SELECT last_seq, last_event_id FROM room WHERE id = $1",
        room.0
    )?;
    let Some((first_seq, last_event)) = head else { return Err(sqlx::Error::RowNotFound) };
    let (mut seq, mut previous) = (first_seq, last_event.map(EventId));
    let mut entries = Vec::new();
    for change in changes {
        if let Some(member) = change_one(&mut tx, room, change, seq + 1, at).await? {
            seq += 1;
            let id = EventId::new();
            let entry = Entry::of_member(room, seq, id, at, member).following(previous.replace(id));
            execute!(
                tx.on(),
                "INSERT INTO event (room_id, seq, id, kind, at, body) VALUES ($1, $2, $3, $4, $5, $6)",
                room.0,
                seq,
                entry.event.id.0,
                if member.joins { kind::MEMBER_JOINED } else { kind::MEMBER_LEFT },
                at.as_datetime(),
                serde_json::to_string(&member).map_err(|error| sqlx::Error::Encode(Box::new(error)))?
            )?;
            entries.push(Arc::new(entry));
        }
    }
    if let Some(last) = entries.last() {
        execute!(
            tx.on(),
            "UPDATE room SET last_seq = $2, last_event_id = $3 WHERE id = $1",
            room.0,
            seq,
            last.event.id.0
        )?;
        if let crate::db::Engine::Postgres(connection) = tx.on() {
            sqlx::query("INSERT INTO bell (room_id, head_seq, members) VALUES ($1, $2, TRUE)")
                .bind(room.0)
                .bind(seq)
                .execute(connection)
                .await?;
        }
    }
    tx.commit().await?;
    Ok(entries)
}

async fn change_one(
    tx: &mut crate::db::Tx,
    room: RoomId,
    change: &MemberChange,
    seq: i64,
    at: Timestamp,
) -> Result<Option<MemberEntry>, sqlx::Error> {
    let student = change.student.map_or(Uuid::nil(), |student| student.0);
    let role = match change.role {
        Role::Staff => "staff",
        Role::Guardian => "guardian",
        // The schema refuses it: nobody becomes what this version does not know.
        Role::Unknown => "unknown",
    };
    let open = fetch_optional!(
        tx.on(),
        (i64,),
        "SELECT sees_after_seq FROM membership
         WHERE room_id = $1 AND person_id = $2 AND student_id = $3 AND role = $4 AND left_seq IS NULL",
        room.0,
        change.person.0,
        student,
        role
    )?;
    let sees_after = match (open, change.joins) {
        (Some(_), true) | (None, false) => return Ok(None),
        (Some((sees_after,)), false) => {
            execute!(
                tx.on(),
                "UPDATE membership SET left_seq = $5, left_at = $6
                 WHERE room_id = $1 AND person_id = $2 AND student_id = $3 AND role = $4 AND left_seq IS NULL",
                room.0,
                change.person.0,
                student,
                role,
                seq,
                at.as_datetime()
            )?;
            sees_after
        }
        (None, true) => {
            let sees_after = match change.sees_from {
                None => seq,
                // The last entry before that moment. Moments only choose where a stay begins, never an order.
                Some(moment) => fetch_optional!(
                    tx.on(),
                    (i64,),
                    "SELECT seq FROM event WHERE room_id = $1 AND at < $2 ORDER BY seq DESC LIMIT 1",
                    room.0,
                    moment
                )?
                .map_or(0, |(seq,)| seq),
            };
            execute!(
                tx.on(),
                "INSERT INTO membership (room_id, person_id, student_id, role, joined_seq, sees_after_seq, joined_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                room.0,
                change.person.0,
                student,
                role,
                seq,
                sees_after,
                at.as_datetime()
            )?;
            sees_after
        }
    };
    Ok(Some(MemberEntry {
        person: change.person,
        student: change.student,
        role: change.role,
        joins: change.joins,
        sees_after,
    }))
}
