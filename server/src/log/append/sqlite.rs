//! A batch on SQLite: one writer, `BEGIN IMMEDIATE`, arrays as JSON so that each kind of row is one statement.
//!
//! Owns: reading what the plan needs and storing what it decided. Refuses to know: the rules (see `plan`).

use super::Pending;
use super::found::{Asked, Found, what};
use super::known::Known;
use super::plan::{self, Changed, Loaded, Moved, Plan, Row};
use crate::log::row::MessageRow;
use homeroom_protocol::{Address, ConversationId, RoomId};
use serde_json::{Value, json};
use sqlx::Sqlite;
use sqlx::error::DatabaseError;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Appends the batch in one transaction.
pub async fn append(pool: &SqlitePool, batch: &[Pending], known: &mut Known) -> Result<Plan, sqlx::Error> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let loaded = load(&mut tx, batch).await?;
    known.meet(&loaded.heads);
    let plan = plan::plan(batch, loaded, true);
    if !plan.rows.is_empty() {
        store(&mut tx, &plan).await?;
        #[cfg(feature = "next")]
        super::next::store(crate::db::Engine::Sqlite(&mut *tx), &plan.pins).await?;
    }
    tx.commit().await?;
    Ok(plan)
}

/// Appends a batch that was planned by what the lane knew, in one hand-over to SQLite's thread; whether it did. It does not where a client
/// id was answered before. There is no other writer, so a room stands as it is known; were it ever not so, its next seq would be taken.
///
/// # Errors
/// When the database does not take it for another reason.
pub async fn append_known(pool: &SqlitePool, plan: &Plan) -> Result<bool, sqlx::Error> {
    let mut on = pool.acquire().await?;
    let Err(error) = bound(STORE_KNOWN, plan).execute(&mut *on).await else { return Ok(true) };
    // Where SQLite has undone it by itself there is nothing to undo.
    let _undone = sqlx::raw_sql("ROLLBACK").execute(&mut *on).await;
    if is_twice(&error) { Ok(false) } else { Err(error) }
}

/// SQLITE_CONSTRAINT, of a unique key or a primary one.
fn is_twice(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| matches!(&*code, "1555" | "2067"))
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
    ($before:literal, $more:literal) => {
        concat!(
            $before,
            "INSERT INTO event (room_id, seq, id, kind, conversation_id, n, root_id, root_seq, author_id, client_id, at, urgent, body)
             SELECT unhex(value ->> 0), value ->> 1, unhex(value ->> 2), value ->> 3, unhex(value ->> 4), value ->> 5,
                    unhex(value ->> 6), value ->> 7, unhex(value ->> 8), unhex(value ->> 9), $2, value ->> 10, value ->> 11
             FROM jsonb_each($1);
             INSERT INTO client_command (author_id, client_id, digest, event_id, n)
             SELECT unhex(value ->> 0), unhex(value ->> 1), unhex(value ->> 2), unhex(value ->> 3), value ->> 4 FROM jsonb_each($3);
             INSERT INTO conversation (id, room_id, guardian_id, student_id, last_n, last_seq)
             SELECT unhex(value ->> 0), unhex(value ->> 1), unhex(value ->> 2), unhex(value ->> 3), value ->> 4, value ->> 5
             FROM jsonb_each($4) WHERE TRUE
             ON CONFLICT (id) DO UPDATE SET last_n = excluded.last_n, last_seq = excluded.last_seq;
             UPDATE room SET last_seq = head.seq, last_event_id = head.id
             FROM (SELECT unhex(value ->> 0) AS room_id, value ->> 1 AS seq, unhex(value ->> 2) AS id FROM jsonb_each($5)) AS head
             WHERE room.id = head.room_id",
            $more
        )
    };
}

const STORE: &str = store!("", "");
const STORE_KNOWN: &str = store!("BEGIN IMMEDIATE; ", "; COMMIT");
const STORE_CHANGED: &str = store!(
    "",
    "; UPDATE event SET
        edited_at = CASE WHEN change.edited THEN $2 ELSE edited_at END,
        retracted_at = CASE WHEN change.retracted THEN $2 ELSE retracted_at END,
        current_body = COALESCE(change.body, current_body)
     FROM (SELECT unhex(value ->> 0) AS room_id, value ->> 1 AS seq, value ->> 2 AS edited,
                  value ->> 3 AS retracted, value ->> 4 AS body FROM jsonb_each($6)) AS change
     WHERE event.room_id = change.room_id AND event.seq = change.seq"
);

/// The statements with what all have.
fn bound<'q>(text: &'static str, plan: &Plan) -> Query<'q, Sqlite, SqliteArguments> {
    let conversation = |(id, (room, address, n, seq)): (&ConversationId, &(RoomId, Address, i64, i64))| {
        let about = address.about();
        let guardian = about.map_or(Value::Null, |about| hex(about.guardian.0));
        let student = about.map_or(Value::Null, |about| hex(about.student.0));
        json!([hex(id.0), hex(room.0), guardian, student, n, seq])
    };
    let head = |(room, moved): (&RoomId, &Moved)| json!([hex(room.0), moved.seq, hex(moved.id.0)]);
    sqlx::query(text)
        .bind(Value::Array(plan.rows.iter().map(row_as_json).collect()))
        .bind(plan.at.as_datetime())
        .bind(Value::Array(plan.rows.iter().map(answer_as_json).collect()))
        .bind(Value::Array(plan.conversations.iter().map(conversation).collect()))
        .bind(Value::Array(plan.heads.iter().map(head).collect()))
}

async fn store(on: &mut SqliteConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let query = if plan.changed.is_empty() {
        bound(STORE, plan)
    } else {
        bound(STORE_CHANGED, plan).bind(Value::Array(plan.changed.values().map(changed_as_json).collect()))
    };
    query.execute(on).await.map(drop)
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
