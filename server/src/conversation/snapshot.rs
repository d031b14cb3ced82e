//! The first screen, and a room opened.
//!
//! Owns: reading rooms, conversations, marks and people for one person, in a few queries a room.
//! Refuses to know: routes. What it reads passes the person's `View`.
//!
//! The position is read first: what happened while the rest was read is then told twice, never missed. Clients merge by
//! conversation and `n`.

use crate::db::Db;
use crate::fetch_all;
use crate::identity::full_name;
use crate::log::row::MessageRow;
use crate::log::{Place, Sight, Subject, Thread, View, places, read};
use crate::message_select;
use chrono::Utc;
use homeroom_protocol::{
    About, Address, ConversationId, ConversationSummary, Family, Guardian, Language, Mark, Message, Person, PersonId,
    Role, RoomDetail, RoomId, RoomSummary,
};
use std::collections::HashMap;
use uuid::Uuid;

/// The rooms of a person, by title.
///
/// # Errors
/// When the database does not answer.
pub async fn rooms(db: &Db, person: PersonId) -> Result<Vec<RoomSummary>, sqlx::Error> {
    let mut rooms = Vec::new();
    for place in places::of_person(db, person).await? {
        rooms.push(summary(db, person, &place).await?);
    }
    Ok(rooms)
}

/// A person's place in a room; `None` when they have none.
///
/// # Errors
/// When the database does not answer.
pub async fn place(db: &Db, person: PersonId, room: RoomId) -> Result<Option<Place>, sqlx::Error> {
    Ok(places::of_person(db, person).await?.into_iter().find(|place| place.room == room))
}

/// A room, opened.
///
/// # Errors
/// When the database does not answer.
pub async fn room(db: &Db, person: PersonId, place: &Place) -> Result<RoomDetail, sqlx::Error> {
    let summary = summary(db, person, place).await?;
    let staff = fetch_all!(
        db.reads(),
        (Uuid, String, String),
        "SELECT DISTINCT p.id, p.given_name, p.family_name FROM membership m JOIN person p ON p.id = m.person_id
         WHERE m.room_id = $1 AND m.role = 'staff' ORDER BY p.family_name, p.given_name, p.id",
        place.room.0
    )?;
    let staff = staff.into_iter().map(|(id, given, family)| person_of(id, &given, &family)).collect();
    let families = if place.view.is_staff() { families(db, place.room).await? } else { Vec::new() };
    Ok(RoomDetail { summary, staff, families })
}

async fn summary(db: &Db, person: PersonId, place: &Place) -> Result<RoomSummary, sqlx::Error> {
    let position = read::last_visible(db, place.room, &place.view, place.last_seq).await?;
    let students = students(db, person, place).await?;
    let conversations = conversations(db, person, place).await?;
    Ok(RoomSummary {
        room: place.room,
        kind: place.kind,
        title: place.title.clone(),
        school: place.school.clone(),
        role: if place.view.is_staff() { Role::Staff } else { Role::Guardian },
        students,
        conversations,
        position,
    })
}

/// A guardian's students in the room, by name.
async fn students(db: &Db, person: PersonId, place: &Place) -> Result<Vec<Person>, sqlx::Error> {
    if place.view.is_staff() {
        return Ok(Vec::new());
    }
    let rows = fetch_all!(
        db.reads(),
        (Uuid, String, String),
        "SELECT p.id, p.given_name, p.family_name FROM membership m JOIN person p ON p.id = m.student_id
         WHERE m.room_id = $1 AND m.person_id = $2 AND m.role = 'guardian' AND m.left_seq IS NULL
         ORDER BY p.given_name, p.id",
        place.room.0,
        person.0
    )?;
    Ok(rows.into_iter().map(|(id, given, family)| person_of(id, &given, &family)).collect())
}

#[derive(sqlx::FromRow)]
struct ConversationRow {
    id: Uuid,
    guardian_id: Option<Uuid>,
    student_id: Option<Uuid>,
    last_n: i64,
    unread: i64,
}

#[derive(sqlx::FromRow)]
struct MarkRow {
    conversation_id: Uuid,
    person_id: Uuid,
    delivered_n: i64,
    read_n: i64,
    guardian_id: Option<Uuid>,
}

async fn conversations(db: &Db, person: PersonId, place: &Place) -> Result<Vec<ConversationSummary>, sqlx::Error> {
    let room = place.room;
    let staff = place.view.is_staff();
    let began = place.view.present_after().unwrap_or(i64::MAX);
    // Only for narrowing down by index; the view decides below.
    let rows = fetch_all!(
        db.reads(),
        ConversationRow,
        "SELECT c.id, c.guardian_id, c.student_id, c.last_n,
                (SELECT COUNT(*) FROM event e
                 WHERE e.room_id = c.room_id AND e.conversation_id = c.id AND e.n > COALESCE(m.read_n, 0)
                   AND e.kind = 'posted' AND e.author_id <> $2 AND e.retracted_at IS NULL AND e.seq > $4) AS unread
         FROM conversation c LEFT JOIN mark m ON m.conversation_id = c.id AND m.person_id = $2
         WHERE c.room_id = $1 AND ($3 OR c.guardian_id IS NULL OR c.guardian_id = $2)
         ORDER BY c.last_seq DESC",
        room.0,
        person.0,
        staff,
        began
    )?;
    let mut last = last_messages(db, person, place).await?;
    let marks = marks(db, person, place).await?;
    let mut conversations: Vec<ConversationSummary> = Vec::with_capacity(rows.len() + 1);
    for row in rows {
        let address = address(row.guardian_id, row.student_id);
        if !may_see(&place.view, address) {
            continue;
        }
        let id = ConversationId(row.id);
        let (mine, others) = sort_marks(marks.get(&row.id), person, address);
        conversations.push(ConversationSummary {
            conversation: id,
            address,
            n: row.last_n.unsigned_abs(),
            unread: row.unread.unsigned_abs(),
            mine,
            others,
            last: last.remove(&row.id),
        });
    }
    if !conversations.iter().any(|conversation| conversation.address == Address::Announcements) {
        conversations.push(ConversationSummary {
            conversation: Address::Announcements.conversation(room),
            address: Address::Announcements,
            n: 0,
            unread: 0,
            mine: Mark { person, delivered: 0, read: 0 },
            others: Vec::new(),
            last: None,
        });
    }
    Ok(conversations)
}

/// The newest message of each conversation that the person may see, as it stands now.
async fn last_messages(db: &Db, person: PersonId, place: &Place) -> Result<HashMap<Uuid, Message>, sqlx::Error> {
    let rows = fetch_all!(
        db.reads(),
        MessageRow,
        message_select!(
            "WHERE c.room_id = $1 AND ($3 OR c.guardian_id IS NULL OR c.guardian_id = $2)
               AND e.room_id = c.room_id
               AND e.seq = (SELECT x.seq FROM event x
                            WHERE x.room_id = c.room_id AND x.conversation_id = c.id AND x.kind = 'posted'
                            ORDER BY x.n DESC LIMIT 1)"
        ),
        place.room.0,
        person.0,
        place.view.is_staff()
    )?;
    let mut last = HashMap::new();
    for row in rows {
        let subject = Subject { root_seq: row.seq, thread: row.address().into() };
        if place.view.sight(subject) == Sight::Full {
            last.insert(row.conversation_id, row.into_message()?);
        }
    }
    Ok(last)
}

/// The person's own marks, and those of others in private conversations.
async fn marks(db: &Db, person: PersonId, place: &Place) -> Result<HashMap<Uuid, Vec<MarkRow>>, sqlx::Error> {
    let rows = fetch_all!(
        db.reads(),
        MarkRow,
        "SELECT m.conversation_id, m.person_id, m.delivered_n, m.read_n, c.guardian_id
         FROM mark m JOIN conversation c ON c.id = m.conversation_id
         WHERE m.room_id = $1 AND (m.person_id = $2 OR (c.guardian_id IS NOT NULL AND ($3 OR c.guardian_id = $2)))",
        place.room.0,
        person.0,
        place.view.is_staff()
    )?;
    let mut marks: HashMap<Uuid, Vec<MarkRow>> = HashMap::new();
    for row in rows {
        marks.entry(row.conversation_id).or_default().push(row);
    }
    Ok(marks)
}

/// Own marks, and those of the other side: for staff the guardian's, for a guardian the staff's.
fn sort_marks(rows: Option<&Vec<MarkRow>>, person: PersonId, address: Address) -> (Mark, Vec<Mark>) {
    let mut mine = Mark { person, delivered: 0, read: 0 };
    let mut others = Vec::new();
    for row in rows.into_iter().flatten() {
        let mark = Mark {
            person: PersonId(row.person_id),
            delivered: row.delivered_n.unsigned_abs(),
            read: row.read_n.unsigned_abs(),
        };
        let by_guardian = row.guardian_id == Some(row.person_id);
        let i_am_guardian = matches!(address, Address::Private(about) if about.guardian == person);
        if mark.person == person {
            mine = mark;
        } else if address != Address::Announcements && by_guardian != i_am_guardian {
            others.push(mark);
        }
    }
    (mine, others)
}

#[derive(sqlx::FromRow)]
struct FamilyRow {
    student_id: Uuid,
    student_given: String,
    student_family: String,
    guardian_id: Option<Uuid>,
    guardian_given: Option<String>,
    guardian_family: Option<String>,
    language: Option<String>,
    reached: Option<bool>,
}

/// The students who are enrolled in the room's class today, with their guardians in the room, by name; without those who are staff in it,
/// and so to be written to as such.
async fn families(db: &Db, room: RoomId) -> Result<Vec<Family>, sqlx::Error> {
    let today = Utc::now().date_naive().format("%Y-%m-%d").to_string();
    let rows = fetch_all!(
        db.reads(),
        FamilyRow,
        "SELECT s.id AS student_id, s.given_name AS student_given, s.family_name AS student_family,
                g.id AS guardian_id, g.given_name AS guardian_given, g.family_name AS guardian_family, g.language,
                (g.reached_at IS NOT NULL) AS reached
         FROM room r JOIN enrollment e ON e.class_id = r.class_id AND e.role = 'student'
         JOIN person s ON s.id = e.person_id
         LEFT JOIN membership m ON m.room_id = r.id AND m.student_id = s.id AND m.role = 'guardian' AND m.left_seq IS NULL
              AND NOT EXISTS (SELECT 1 FROM membership c WHERE c.room_id = r.id AND c.person_id = m.person_id
                              AND c.role = 'staff' AND c.left_seq IS NULL)
         LEFT JOIN person g ON g.id = m.person_id
         WHERE r.id = $1 AND COALESCE(e.begins_on, $2) <= $2 AND COALESCE(e.ends_on, $2) >= $2
         ORDER BY s.family_name, s.given_name, s.id, g.family_name, g.given_name, g.id",
        room.0,
        &today
    )?;
    let mut families: Vec<Family> = Vec::new();
    for row in rows {
        if families.last().is_none_or(|family| family.student.person.0 != row.student_id) {
            let student = person_of(row.student_id, &row.student_given, &row.student_family);
            families.push(Family { student, guardians: Vec::new() });
        }
        let (Some(family), Some(guardian)) = (families.last_mut(), row.guardian_id) else { continue };
        let about = About { guardian: PersonId(guardian), student: PersonId(row.student_id) };
        let guardian = Guardian {
            person: person_of(
                guardian,
                &row.guardian_given.unwrap_or_default(),
                &row.guardian_family.unwrap_or_default(),
            ),
            language: row.language.and_then(|tag| Language::parse(&tag).ok()).unwrap_or_else(Language::english),
            reachable: row.reached.unwrap_or(false),
            conversation: Address::Private(about).conversation(room),
        };
        if !family.guardians.contains(&guardian) {
            family.guardians.push(guardian);
        }
    }
    Ok(families)
}

fn person_of(id: Uuid, given: &str, family: &str) -> Person {
    Person { person: PersonId(id), name: full_name(given, family) }
}

fn address(guardian: Option<Uuid>, student: Option<Uuid>) -> Address {
    match (guardian, student) {
        (Some(guardian), Some(student)) => {
            Address::Private(About { guardian: PersonId(guardian), student: PersonId(student) })
        }
        _ => Address::Announcements,
    }
}

/// Whether the conversation is one that the member is in now.
fn may_see(view: &View, address: Address) -> bool {
    view.sight(Subject { root_seq: i64::MAX, thread: Thread::from(address) }) == Sight::Full
}
