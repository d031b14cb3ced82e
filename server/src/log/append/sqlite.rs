//! A batch on SQLite: one writer, `BEGIN IMMEDIATE`, arrays as JSON so that each kind of row is one statement.
//!
//! Owns: reading what the plan needs and storing what it decided. Refuses to know: the rules (see `plan`).

use super::Pending;
use super::found::{Asked, Found, what};
use super::plan::{self, Changed, Loaded, Plan, Row};
use crate::log::row::MessageRow;
use homeroom_protocol::{Address, ConversationId, RoomId};
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

/// Ids, or pairs of them, as JSON: whatever their number, the statement is the same.
fn ids(ids: BTreeSet<Uuid>) -> Value {
    Value::Array(ids.into_iter().map(hex).collect())
}

fn pairs(ids: BTreeSet<(Uuid, Uuid)>) -> Value {
    Value::Array(ids.into_iter().map(|(one, other)| json!([hex(one), hex(other)])).collect())
}

async fn load(on: &mut SqliteConnection, batch: &[Pending]) -> Result<Loaded, sqlx::Error> {
    let Asked { rooms, commands, people, messages, mut conversations } = Asked::by(batch);
    let mut loaded = Loaded::default();
    if !messages.is_empty() {
        let rows: Vec<MessageRow> = sqlx::query_as(crate::message_select!(
            "WHERE e.kind = 'posted' AND (e.room_id, e.id) IN (SELECT unhex(value ->> 0), unhex(value ->> 1) FROM json_each($1))"
        ))
            .bind(pairs(messages))
            .fetch_all(&mut *on)
            .await?;
        loaded.targets = plan::targets(rows)?;
        conversations.extend(loaded.targets.values().map(|target| target.conversation.0));
    }
    let found: Vec<Found> = sqlx::query_as(
        "SELECT $5 AS what, id AS a, last_event_id AS b, NULL AS c, NULL AS bytes, kind AS text, last_seq AS number, NULL AS until
         FROM room WHERE id IN (SELECT unhex(value) FROM json_each($1))
         UNION ALL
         SELECT $6, author_id, client_id, event_id, digest, NULL, n, NULL FROM client_command
         WHERE (author_id, client_id) IN (SELECT unhex(value ->> 0), unhex(value ->> 1) FROM json_each($2))
         UNION ALL
         SELECT $7, room_id, person_id, student_id, NULL, role, sees_after_seq, left_seq FROM membership
         WHERE (room_id, person_id) IN (SELECT unhex(value ->> 0), unhex(value ->> 1) FROM json_each($3))
         UNION ALL
         SELECT $8, id, NULL, NULL, NULL, NULL, last_n, NULL FROM conversation
         WHERE id IN (SELECT unhex(value) FROM json_each($4))",
    )
    .bind(ids(rooms))
    .bind(pairs(commands))
    .bind(pairs(people))
    .bind(ids(conversations))
    .bind(what::ROOM)
    .bind(what::KNOWN)
    .bind(what::MEMBER)
    .bind(what::CONVERSATION)
    .fetch_all(&mut *on)
    .await?;
    loaded.take(found);
    Ok(loaded)
}

/// What every batch stores: SQLite runs the statements of one query one after the other, in one hand-over to its thread.
macro_rules! store {
    ($more:literal) => {
        concat!(
            "INSERT INTO event (room_id, seq, id, kind, conversation_id, n, root_id, root_seq, author_id, client_id, at, urgent, body)
             SELECT unhex(value ->> 0), value ->> 1, unhex(value ->> 2), value ->> 3, unhex(value ->> 4), value ->> 5,
                    unhex(value ->> 6), value ->> 7, unhex(value ->> 8), unhex(value ->> 9), $2, value ->> 10, value ->> 11
             FROM json_each($1);
             INSERT INTO client_command (author_id, client_id, digest, event_id, n)
             SELECT unhex(value ->> 0), unhex(value ->> 1), unhex(value ->> 2), unhex(value ->> 3), value ->> 4 FROM json_each($3);
             INSERT INTO conversation (id, room_id, guardian_id, student_id, last_n, last_seq)
             SELECT unhex(value ->> 0), unhex(value ->> 1), unhex(value ->> 2), unhex(value ->> 3), value ->> 4, value ->> 5
             FROM json_each($4) WHERE TRUE
             ON CONFLICT (id) DO UPDATE SET last_n = excluded.last_n, last_seq = excluded.last_seq;
             UPDATE room SET last_seq = head.seq, last_event_id = head.id
             FROM (SELECT unhex(value ->> 0) AS room_id, value ->> 1 AS seq, unhex(value ->> 2) AS id FROM json_each($5)) AS head
             WHERE room.id = head.room_id",
            $more
        )
    };
}

async fn store(on: &mut SqliteConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let conversation = |(id, (room, address, n, seq)): (&ConversationId, &(RoomId, Address, i64, i64))| {
        let about = address.about();
        let guardian = about.map_or(Value::Null, |about| hex(about.guardian.0));
        let student = about.map_or(Value::Null, |about| hex(about.student.0));
        json!([hex(id.0), hex(room.0), guardian, student, n, seq])
    };
    let changed: Vec<Value> = plan.changed.values().map(changed_as_json).collect();
    let text = if changed.is_empty() {
        store!("")
    } else {
        store!(
            "; UPDATE event SET
                edited_at = CASE WHEN change.edited THEN $2 ELSE edited_at END,
                retracted_at = CASE WHEN change.retracted THEN $2 ELSE retracted_at END,
                current_body = COALESCE(change.body, current_body)
             FROM (SELECT unhex(value ->> 0) AS room_id, value ->> 1 AS seq, value ->> 2 AS edited,
                          value ->> 3 AS retracted, value ->> 4 AS body FROM json_each($6)) AS change
             WHERE event.room_id = change.room_id AND event.seq = change.seq"
        )
    };
    sqlx::query(text)
        .bind(Value::Array(plan.rows.iter().map(row_as_json).collect()))
        .bind(plan.at.as_datetime())
        .bind(Value::Array(plan.rows.iter().map(answer_as_json).collect()))
        .bind(Value::Array(plan.conversations.iter().map(conversation).collect()))
        .bind(Value::Array(plan.heads.iter().map(|(room, (seq, id))| json!([hex(room.0), seq, hex(id.0)])).collect()))
        .bind(Value::Array(changed))
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
    ])
}

fn answer_as_json(row: &Row) -> Value {
    let digest = data_encoding::HEXLOWER.encode(&row.digest);
    json!([hex(row.author.0), hex(row.client_id.0), digest, hex(row.id.0), row.n])
}

fn changed_as_json(changed: &Changed) -> Value {
    json!([hex(changed.room.0), changed.seq, changed.edited, changed.retracted, changed.body])
}
