//! Whom an announcement has reached, by name.
//!
//! Owns: the report. Its denominator is who was a guardian of the class when the announcement was posted.
//! Refuses to know: how marks are collected, and whoever is not staff.

use crate::db::Db;
use crate::fetch_all;
use crate::identity::full_name;
use crate::log::{Place, read};
use homeroom_protocol::{About, Address, EventId, PersonId, Reach, ReachedGuardian};
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct ReachRow {
    guardian_id: Uuid,
    student_id: Uuid,
    guardian_given: String,
    guardian_family: String,
    student_given: String,
    student_family: String,
    delivered_n: Option<i64>,
    read_n: Option<i64>,
}

/// The report on an announcement; `None` when there is no such announcement, or the asker is not staff.
///
/// # Errors
/// When the database does not answer.
pub async fn reach(db: &Db, place: &Place, message: EventId) -> Result<Option<Reach>, sqlx::Error> {
    if !place.view.is_staff() {
        return Ok(None);
    }
    let Some((announcement, Address::Announcements, seq)) = read::message(db, place.room, &place.view, message).await?
    else {
        return Ok(None);
    };
    let n = i64::try_from(announcement.n).unwrap_or(i64::MAX);
    let rows = fetch_all!(
        db.reads(),
        ReachRow,
        "SELECT g.id AS guardian_id, s.id AS student_id, g.given_name AS guardian_given, g.family_name AS guardian_family,
                s.given_name AS student_given, s.family_name AS student_family, k.delivered_n, k.read_n
         FROM membership m
         JOIN person g ON g.id = m.person_id
         JOIN person s ON s.id = m.student_id
         LEFT JOIN mark k ON k.conversation_id = $3 AND k.person_id = m.person_id
         WHERE m.room_id = $1 AND m.role = 'guardian' AND m.joined_seq < $2 AND (m.left_seq IS NULL OR m.left_seq > $2)
         ORDER BY s.family_name, s.given_name, s.id, g.family_name, g.given_name, g.id",
        place.room.0,
        seq,
        Address::Announcements.conversation(place.room).0
    )?;
    let guardians = rows
        .into_iter()
        .map(|row| ReachedGuardian {
            about: About { guardian: PersonId(row.guardian_id), student: PersonId(row.student_id) },
            guardian_name: full_name(&row.guardian_given, &row.guardian_family),
            student_name: full_name(&row.student_given, &row.student_family),
            delivered: row.delivered_n.is_some_and(|delivered| delivered >= n),
            read: row.read_n.is_some_and(|read| read >= n),
        })
        .collect();
    Ok(Some(Reach { message, guardians }))
}
