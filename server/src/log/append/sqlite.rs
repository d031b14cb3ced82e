//! A batch on SQLite: one writer, `BEGIN IMMEDIATE`, arrays as JSON so that each kind of row is one statement.
//!
//! Owns: reading what the plan needs and storing what it decided. Refuses to know: the rules (see `plan`).

use super::plan::{self, Changed, Head, Known, Loaded, Plan, Row};
use super::{Appended, Pending, What};
use crate::log::members::{self, MemberRow};
use crate::log::row::MessageRow;
use homeroom_protocol::{Address, ClientId, ConversationId, EventId, PersonId, RoomId, RoomKind};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Appends the batch in one transaction.
pub async fn append(pool: &SqlitePool, batch: &[Pending]) -> Result<Plan, sqlx::Error> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let loaded = load(&mut tx, batch).await?;
    let plan = plan::plan(batch, loaded, true);
    if !plan.rows.is_empty() {
        store(&mut tx, &plan).await?;
        #[cfg(feature = "next")]
        super::next::store(crate::db::Engine::Sqlite(&mut *tx), &plan.pins).await?;
    }
    tx.commit().await?;
    Ok(plan)
}

fn hex(id: Uuid) -> Value {
    Value::String(id.simple().to_string())
}

async fn load(on: &mut SqliteConnection, batch: &[Pending]) -> Result<Loaded, sqlx::Error> {
    let appends = || batch.iter().map(|pending| &pending.append);
    let mut loaded = Loaded::default();

    let rooms: BTreeSet<Uuid> = appends().map(|append| append.room.0).collect();
    let rows: Vec<(Uuid, String, i64, Option<Uuid>)> = sqlx::query_as(
        "SELECT id, kind, last_seq, last_event_id FROM room WHERE id IN (SELECT unhex(value) FROM json_each($1))",
    )
    .bind(Value::Array(rooms.into_iter().map(hex).collect()))
    .fetch_all(&mut *on)
    .await?;
    for (id, kind, last_seq, last_event) in rows {
        let kind = if kind == "school" { RoomKind::School } else { RoomKind::Class };
        loaded.heads.insert(RoomId(id), Head { kind, last_seq, last_event: last_event.map(EventId) });
    }

    let ids: Vec<Value> = appends().map(|append| json!([hex(append.author.0), hex(append.client_id.0)])).collect();
    let rows: Vec<(Uuid, Uuid, Vec<u8>, Uuid, i64)> = sqlx::query_as(
        "SELECT author_id, client_id, digest, event_id, n FROM client_command
         WHERE (author_id, client_id) IN (SELECT unhex(value ->> 0), unhex(value ->> 1) FROM json_each($1))",
    )
    .bind(Value::Array(ids))
    .fetch_all(&mut *on)
    .await?;
    for (author, client_id, digest, id, n) in rows {
        // A digest of another length was written by nobody; it equals no command's.
        let digest = digest.try_into().unwrap_or([0; 32]);
        let known = Known { digest, appended: Appended { id: EventId(id), n } };
        loaded.known.insert((PersonId(author), ClientId(client_id)), known);
    }

    let people: BTreeSet<(Uuid, Uuid)> = appends()
        .flat_map(|append| {
            let guardian = match &append.what {
                What::Post { to: Address::Private(about), .. } => Some(about.guardian),
                _ => None,
            };
            [Some(append.author), guardian].into_iter().flatten().map(|person| (append.room.0, person.0))
        })
        .collect();
    let people: Vec<Value> = people.into_iter().map(|(room, person)| json!([hex(room), hex(person)])).collect();
    let rows: Vec<MemberRow> = sqlx::query_as(
        "SELECT room_id, person_id, student_id, role, left_seq, sees_after_seq FROM membership
         WHERE (person_id, room_id) IN (SELECT unhex(value ->> 1), unhex(value ->> 0) FROM json_each($1))",
    )
    .bind(Value::Array(people))
    .fetch_all(&mut *on)
    .await?;
    loaded.views = members::views(rows);

    let messages: BTreeSet<(Uuid, Uuid)> =
        appends().filter_map(|append| append.what.target().map(|message| (append.room.0, message.0))).collect();
    if !messages.is_empty() {
        let messages: Vec<Value> = messages.into_iter().map(|(room, id)| json!([hex(room), hex(id)])).collect();
        let rows: Vec<MessageRow> = sqlx::query_as(crate::message_select!(
            "WHERE e.kind = 'posted' AND (e.room_id, e.id) IN (SELECT unhex(value ->> 0), unhex(value ->> 1) FROM json_each($1))"
        ))
            .bind(Value::Array(messages))
            .fetch_all(&mut *on)
            .await?;
        loaded.targets = plan::targets(rows)?;
    }

    let conversations: BTreeSet<Uuid> = appends()
        .filter_map(|append| match &append.what {
            What::Post { to, .. } => Some(to.conversation(append.room).0),
            _ => None,
        })
        .chain(loaded.targets.values().map(|target| target.conversation.0))
        .collect();
    let rows: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT id, last_n FROM conversation WHERE id IN (SELECT unhex(value) FROM json_each($1))")
            .bind(Value::Array(conversations.into_iter().map(hex).collect()))
            .fetch_all(&mut *on)
            .await?;
    loaded.numbers = rows.into_iter().map(|(id, last_n)| (ConversationId(id), last_n)).collect();
    Ok(loaded)
}

async fn store(on: &mut SqliteConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let rows: Vec<Value> = plan.rows.iter().map(row_as_json).collect();
    let rows = Value::Array(rows);
    sqlx::query(
        "INSERT INTO event (room_id, seq, id, kind, conversation_id, n, root_id, root_seq, author_id, client_id, at, urgent, body)
         SELECT unhex(value ->> 0), value ->> 1, unhex(value ->> 2), value ->> 3, unhex(value ->> 4), value ->> 5,
                unhex(value ->> 6), value ->> 7, unhex(value ->> 8), unhex(value ->> 9), $2, value ->> 10, value ->> 11
         FROM json_each($1)",
    )
    .bind(&rows)
    .bind(plan.at.as_datetime())
    .execute(&mut *on)
    .await?;
    sqlx::query(
        "INSERT INTO client_command (author_id, client_id, digest, event_id, n)
         SELECT unhex(value ->> 8), unhex(value ->> 9), unhex(value ->> 12), unhex(value ->> 2), value ->> 5
         FROM json_each($1)",
    )
    .bind(&rows)
    .execute(&mut *on)
    .await?;

    let conversations: Vec<Value> = plan
        .conversations
        .iter()
        .map(|(id, (room, address, n, seq))| {
            let about = address.about();
            let guardian = about.map_or(Value::Null, |about| hex(about.guardian.0));
            let student = about.map_or(Value::Null, |about| hex(about.student.0));
            json!([hex(id.0), hex(room.0), guardian, student, n, seq])
        })
        .collect();
    sqlx::query(
        "INSERT INTO conversation (id, room_id, guardian_id, student_id, last_n, last_seq)
         SELECT unhex(value ->> 0), unhex(value ->> 1), unhex(value ->> 2), unhex(value ->> 3), value ->> 4, value ->> 5
         FROM json_each($1) WHERE TRUE
         ON CONFLICT (id) DO UPDATE SET last_n = excluded.last_n, last_seq = excluded.last_seq",
    )
    .bind(Value::Array(conversations))
    .execute(&mut *on)
    .await?;

    if !plan.changed.is_empty() {
        let changed: Vec<Value> = plan.changed.values().map(changed_as_json).collect();
        sqlx::query(
            "UPDATE event SET
                edited_at = CASE WHEN change.edited THEN $2 ELSE edited_at END,
                retracted_at = CASE WHEN change.retracted THEN $2 ELSE retracted_at END,
                current_body = COALESCE(change.body, current_body)
             FROM (SELECT unhex(value ->> 0) AS room_id, value ->> 1 AS seq, value ->> 2 AS edited,
                          value ->> 3 AS retracted, value ->> 4 AS body FROM json_each($1)) AS change
             WHERE event.room_id = change.room_id AND event.seq = change.seq",
        )
        .bind(Value::Array(changed))
        .bind(plan.at.as_datetime())
        .execute(&mut *on)
        .await?;
    }

    let heads: Vec<Value> = plan.heads.iter().map(|(room, (seq, id))| json!([hex(room.0), seq, hex(id.0)])).collect();
    sqlx::query(
        "UPDATE room SET last_seq = head.seq, last_event_id = head.id
         FROM (SELECT unhex(value ->> 0) AS room_id, value ->> 1 AS seq, unhex(value ->> 2) AS id FROM json_each($1)) AS head
         WHERE room.id = head.room_id",
    )
    .bind(Value::Array(heads))
    .execute(&mut *on)
    .await?;
    Ok(())
}

fn row_as_json(row: &Row) -> Value {
    json!([
        hex(row.room.0),
        row.seq,
        hex(row.id.0),
        row.kind,
        hex(row.conversation.0),
        row.n,
        hex(row.root.0),
        row.root_seq,
        hex(row.author.0),
        hex(row.client_id.0),
        row.urgent,
        row.body,
        data_encoding::HEXLOWER.encode(&row.digest),
    ])
}

fn changed_as_json(changed: &Changed) -> Value {
    json!([hex(changed.room.0), changed.seq, changed.edited, changed.retracted, changed.body])
}
