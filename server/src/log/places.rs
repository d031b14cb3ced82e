//! Where people are: the rooms that each of them is in, and what they may see of each.
//!
//! Owns: reading all places of a person as one column of one row, so that a database that hands rows over one by one does so once a person.
//! Refuses to know: how a person's places come about (see `members`), and who asks for them.

use super::members::{Stay, view};
use super::sight::View;
use crate::db::{Db, Engine};
use homeroom_protocol::{PersonId, Role, RoomId, RoomKind};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;
use uuid::Uuid;

/// A person's place in a room, now.
#[derive(Debug, Clone)]
pub struct Place {
    /// The room.
    pub room: RoomId,
    /// What it belongs to.
    pub kind: RoomKind,
    /// Its title.
    pub title: String,
    /// The school's name.
    pub school: String,
    /// As what. Whoever is both is staff.
    pub role: Role,
    /// What they may see.
    pub view: View,
    /// The last seq of the room's log.
    pub last_seq: i64,
}

/// An expression: all memberships, past ones too, of the person whose id stands in the column that is given, as JSON for [`read`]; NULL or
/// an empty array where there are none. For PostgreSQL.
#[macro_export]
macro_rules! places_postgres {
    ($person:literal) => {
        concat!(
            "(SELECT json_agg(json_build_array(m.room_id, m.student_id, m.role, m.left_seq, m.sees_after_seq,
                                               r.kind, r.title, s.name, r.last_seq))::text
              FROM membership m JOIN room r ON r.id = m.room_id JOIN school s ON s.id = r.school_id
              WHERE m.person_id = ",
            $person,
            ")"
        )
    };
}

/// The same for SQLite.
#[macro_export]
macro_rules! places_sqlite {
    ($person:literal) => {
        concat!(
            "(SELECT json_group_array(json_array(hex(m.room_id), hex(m.student_id), m.role, m.left_seq, m.sees_after_seq,
                                                 r.kind, r.title, s.name, r.last_seq))
              FROM membership m JOIN room r ON r.id = m.room_id JOIN school s ON s.id = r.school_id
              WHERE m.person_id = ",
            $person,
            ")"
        )
    };
}

/// A membership and its room, as the expressions above write them.
#[derive(Deserialize)]
struct Stored<'a>(
    Uuid,
    Uuid,
    #[serde(borrow)] Cow<'a, str>,
    Option<i64>,
    i64,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    i64,
);

/// The rooms that a person is in now, by title, from what [`places_postgres`](crate::places_postgres) and
/// [`places_sqlite`](crate::places_sqlite) give.
///
/// # Errors
/// When it is something else.
pub fn read(person: PersonId, column: Option<&str>) -> Result<Vec<Place>, sqlx::Error> {
    let stored = column.map(serde_json::from_str::<Vec<Stored<'_>>>).transpose();
    let mut stored = stored.map_err(|error| sqlx::Error::Decode(Box::new(error)))?.unwrap_or_default();
    stored.sort_by(|one, other| (&one.6, one.0).cmp(&(&other.6, other.0)));
    let places = stored.chunk_by(|one, other| one.0 == other.0).filter_map(|of_room| {
        let Stored(room, .., kind, title, school, last_seq) = of_room.first()?;
        let view = view(
            person,
            of_room.iter().map(|Stored(_, student, role, left_seq, sees_after_seq, ..)| Stay {
                student: *student,
                is_staff: role == "staff",
                after: *sees_after_seq,
                until: *left_seq,
            }),
        );
        view.present_after()?;
        Some(Place {
            room: RoomId(*room),
            kind: if kind == "school" { RoomKind::School } else { RoomKind::Class },
            title: title.clone().into_owned(),
            school: school.clone().into_owned(),
            role: if view.is_staff() { Role::Staff } else { Role::Guardian },
            view,
            last_seq: *last_seq,
        })
    });
    Ok(places.collect())
}

/// The rooms that a person is in now, by title, with what they may see of each. One query.
///
/// # Errors
/// When the database does not answer.
pub async fn of_person(db: &Db, person: PersonId) -> Result<Vec<Place>, sqlx::Error> {
    Ok(of_people(db, &[person]).await?.pop().unwrap_or_default())
}

/// The rooms that these people are in now, each one's in their place. One query.
///
/// # Errors
/// When the database does not answer.
pub async fn of_people(db: &Db, people: &[PersonId]) -> Result<Vec<Vec<Place>>, sqlx::Error> {
    let rows: Vec<(Uuid, Option<String>)> = match db.reads() {
        Engine::Postgres(pool) => {
            let people: Vec<Uuid> = people.iter().map(|person| person.0).collect();
            sqlx::query_as(concat!(
                "SELECT asked.person_id, ",
                crate::places_postgres!("asked.person_id"),
                " FROM (SELECT DISTINCT unnest($1::uuid[]) AS person_id) AS asked"
            ))
            .bind(people)
            .fetch_all(pool)
            .await?
        }
        Engine::Sqlite(pool) => {
            let people = people.iter().map(|person| serde_json::Value::String(person.0.simple().to_string())).collect();
            sqlx::query_as(concat!(
                "SELECT asked.person_id, ",
                crate::places_sqlite!("asked.person_id"),
                " FROM (SELECT DISTINCT unhex(value) AS person_id FROM json_each($1)) AS asked"
            ))
            .bind(serde_json::Value::Array(people))
            .fetch_all(pool)
            .await?
        }
    };
    let places = rows
        .into_iter()
        .map(|(person, column)| Ok((person, read(PersonId(person), column.as_deref())?)))
        .collect::<Result<HashMap<Uuid, Vec<Place>>, sqlx::Error>>()?;
    // The same person may be asked for twice.
    Ok(people.iter().map(|person| places.get(&person.0).cloned().unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_write_ids_each_in_their_way() {
        let (room, nil) = (Uuid::now_v7(), Uuid::nil());
        for (room_text, nil_text) in [
            (room.hyphenated().to_string(), nil.hyphenated().to_string()),
            (format!("{:X}", room.simple()), format!("{:X}", nil.simple())),
        ] {
            let column = serde_json::json!([[room_text, nil_text, "staff", null, 4, "class", "Bio \"1\" ä", "Süd", 9]]);
            let places = read(PersonId::new(), Some(&column.to_string())).unwrap();
            let [place] = places.as_slice() else { panic!("{places:?}") };
            assert_eq!((place.room, place.title.as_str(), place.last_seq), (RoomId(room), "Bio \"1\" ä", 9));
            assert_eq!((place.role, place.view.present_after()), (Role::Staff, Some(4)));
        }
    }

    #[test]
    fn who_left_has_no_place_and_a_column_of_something_else_is_an_error() {
        let id = || Uuid::now_v7().to_string();
        let column = serde_json::json!([[id(), id(), "guardian", 7, 4, "class", "Bio", "Süd", 9]]).to_string();
        assert!(read(PersonId::new(), Some(&column)).unwrap().is_empty());
        assert!(read(PersonId::new(), None).unwrap().is_empty());
        assert!(read(PersonId::new(), Some("[[1]]")).is_err());
    }
}
