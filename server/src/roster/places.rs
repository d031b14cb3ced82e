//! Places in rooms follow the roster.
//!
//! Owns: who should be in which room (staff by enrolment or role, guardians through their students), and asking the log for
//! the difference. Refuses to know: how a membership is stored.
//!
//! Run after an import, at the start of a server and every hour: enrolments and terms also begin and end by their dates.

use super::{Changes, ImportError, OnProgress, Progress};
use crate::db::Db;
use crate::fetch_all;
use crate::log::{Log, MemberChange};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use homeroom_protocol::{PersonId, Role, RoomId};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Changes in one transaction of a room's log.
const CHANGES: usize = 200;

#[derive(sqlx::FromRow)]
struct PlaceRow {
    room_id: Uuid,
    person_id: Uuid,
    student_id: Uuid,
}

#[derive(sqlx::FromRow)]
struct StaffRow {
    room_id: Uuid,
    person_id: Uuid,
}

/// Who should be staff of a class: enrolled as anything but a student, now.
macro_rules! staff_of_classes {
    () => {
        "SELECT r.id AS room_id, e.person_id
         FROM enrollment e JOIN room r ON r.class_id = e.class_id JOIN person p ON p.id = e.person_id
         JOIN class c ON c.id = e.class_id
         WHERE r.school_id = $2 AND e.role <> 'student' AND p.enabled AND length(c.source_digest) > 0
           AND COALESCE(e.begins_on, $1) <= $1 AND COALESCE(e.ends_on, $1) >= $1
           AND (NOT EXISTS (SELECT 1 FROM class_term t WHERE t.class_id = c.id)
                OR EXISTS (SELECT 1 FROM class_term t JOIN term m ON m.id = t.term_id
                           WHERE t.class_id = c.id AND m.ends_on >= $1))
         UNION
         SELECT r.id, pr.person_id
         FROM person_role pr JOIN room r ON r.school_id = pr.school_id AND r.kind = 'school'
         JOIN person p ON p.id = pr.person_id
         WHERE r.school_id = $2 AND p.enabled AND pr.role NOT IN ('student', 'guardian', 'parent', 'relative')"
    };
}

/// Which guardians should be in which rooms: through each student who is enrolled now, in the class's room and the school's.
/// Whether the student may sign in says nothing about their guardians: many a school gives small children no account.
macro_rules! guardians {
    () => {
        "SELECT r.id AS room_id, g.guardian_id AS person_id, g.student_id
         FROM enrollment e JOIN class c ON c.id = e.class_id
         JOIN room r ON r.class_id = c.id OR (r.school_id = c.school_id AND r.kind = 'school')
         JOIN guardianship g ON g.student_id = e.person_id
         JOIN person p ON p.id = g.guardian_id JOIN person s ON s.id = g.student_id
         WHERE r.school_id = $2 AND e.role = 'student' AND p.enabled AND length(s.source_digest) > 0 AND length(c.source_digest) > 0
           AND COALESCE(e.begins_on, $1) <= $1 AND COALESCE(e.ends_on, $1) >= $1
           AND (NOT EXISTS (SELECT 1 FROM class_term t WHERE t.class_id = c.id)
                OR EXISTS (SELECT 1 FROM class_term t JOIN term m ON m.id = t.term_id
                           WHERE t.class_id = c.id AND m.ends_on >= $1))"
    };
}

/// Who is in a school's rooms now, as this.
macro_rules! present {
    ($columns:literal, $role:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM membership WHERE left_seq IS NULL AND role = '",
            $role,
            "' AND room_id IN (SELECT id FROM room WHERE school_id = $2)"
        )
    };
}

/// Brings the places in rooms in line with the roster, school by school, so that no more than one school's changes are held.
///
/// # Errors
/// When the database or the log fails; running again goes on from there.
pub async fn follow(db: &Db, log: &Log, progress: &OnProgress<'_>) -> Result<Changes, ImportError> {
    let today = Utc::now().date_naive().format("%Y-%m-%d").to_string();
    let schools = fetch_all!(db.long_reads(), (Uuid,), "SELECT DISTINCT school_id FROM room ORDER BY school_id")?;
    let total = schools.len() as u64;
    let mut changes = Changes::default();
    for (done, (school,)) in schools.into_iter().enumerate() {
        let of_school = follow_school(db, log, &today, school).await?;
        changes.added += of_school.added;
        changes.removed += of_school.removed;
        progress(Progress { stage: "places in rooms, by school".to_owned(), done: done as u64 + 1, total });
    }
    Ok(changes)
}

async fn follow_school(db: &Db, log: &Log, today: &str, school: Uuid) -> Result<Changes, ImportError> {
    let leaving_staff = fetch_all!(
        db.long_reads(),
        StaffRow,
        concat!(
            present!("room_id, person_id", "staff"),
            " EXCEPT ",
            "SELECT room_id, person_id FROM (",
            staff_of_classes!(),
            ") AS wanted"
        ),
        today,
        school
    )?;
    let joining_staff = fetch_all!(
        db.long_reads(),
        StaffRow,
        concat!(
            "SELECT room_id, person_id FROM (",
            staff_of_classes!(),
            ") AS wanted EXCEPT ",
            present!("room_id, person_id", "staff")
        ),
        today,
        school
    )?;
    let leaving_guardians = fetch_all!(
        db.long_reads(),
        PlaceRow,
        concat!(present!("room_id, person_id, student_id", "guardian"), " EXCEPT ", guardians!()),
        today,
        school
    )?;
    let joining_guardians = fetch_all!(
        db.long_reads(),
        PlaceRow,
        concat!(guardians!(), " EXCEPT ", present!("room_id, person_id, student_id", "guardian")),
        today,
        school
    )?;
    let terms = if joining_staff.is_empty() { BTreeMap::new() } else { terms(db, today, school).await? };
    let staff = |rows: Vec<StaffRow>| -> Vec<PlaceRow> {
        let place =
            |row: StaffRow| PlaceRow { room_id: row.room_id, person_id: row.person_id, student_id: Uuid::nil() };
        rows.into_iter().map(place).collect()
    };
    let (leaving_staff, joining_staff) = (staff(leaving_staff), staff(joining_staff));
    let mut wanted: BTreeMap<Uuid, Vec<MemberChange>> = BTreeMap::new();
    let mut changes = Changes::default();
    for (rows, role, joins) in [
        (leaving_staff, Role::Staff, false),
        (leaving_guardians, Role::Guardian, false),
        (joining_staff, Role::Staff, true),
        (joining_guardians, Role::Guardian, true),
    ] {
        let count = if joins { &mut changes.added } else { &mut changes.removed };
        *count += rows.len() as u64;
        for row in rows {
            wanted.entry(row.room_id).or_default().push(MemberChange {
                person: PersonId(row.person_id),
                student: (!row.student_id.is_nil()).then_some(PersonId(row.student_id)),
                role,
                joins,
                sees_from: (role == Role::Staff)
                    .then(|| terms.get(&row.room_id).copied().unwrap_or(DateTime::UNIX_EPOCH)),
            });
        }
    }
    for (room, of_room) in wanted {
        for chunk in of_room.chunks(CHANGES) {
            log.change_members(RoomId(room), chunk.to_vec()).await?;
        }
    }
    Ok(changes)
}

/// When the present term of each class's room began: staff who join see what was said since then.
async fn terms(db: &Db, today: &str, school: Uuid) -> Result<BTreeMap<Uuid, DateTime<Utc>>, sqlx::Error> {
    let rows = fetch_all!(
        db.long_reads(),
        (Uuid, String),
        "SELECT r.id, MIN(m.begins_on) FROM room r JOIN class_term t ON t.class_id = r.class_id JOIN term m ON m.id = t.term_id
         WHERE m.ends_on >= $1 AND r.school_id = $2 GROUP BY r.id",
        today,
        school
    )?;
    Ok(rows
        .into_iter()
        .filter_map(|(room, day)| {
            let day = NaiveDate::parse_from_str(&day, "%Y-%m-%d").ok()?;
            Some((room, day.and_time(NaiveTime::MIN).and_utc()))
        })
        .collect())
}
