//! A batch on PostgreSQL: rooms locked in id order, those that another node holds passed over, arrays instead of row lists.
//!
//! Owns: reading what the plan needs and storing what it decided. Refuses to know: the rules (see `plan`).

use super::found::{Asked, Found, what};
use super::known::Known;
use super::plan::{self, Loaded, Plan};
use super::{Committed, Pending};
use crate::log::row::MessageRow;
use crate::sabotage::{self, Sabotage};
use sqlx::error::DatabaseError;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres};
use uuid::Uuid;

/// Locks the rooms, in the order of their ids.
macro_rules! lock {
    ($held:literal) => {
        concat!(
            "SELECT $1::bigint AS what, id AS a, last_event_id AS b, NULL::uuid AS c, NULL::bytea AS bytes, kind AS text,
                    last_seq AS number, NULL::bigint AS until
             FROM room WHERE id = ANY($2) ORDER BY id FOR NO KEY UPDATE",
            $held
        )
    };
}

/// One look-up by key for each, whatever the planner believes of the table: with OFFSET it can't turn them into a walk.
const LOAD: &str = "
    SELECT ($6::bigint[])[1] AS what, found.author_id AS a, found.client_id AS b, found.event_id AS c, found.digest AS bytes,
           NULL::text AS text, found.n AS number, NULL::bigint AS until
    FROM unnest($1::uuid[], $2::uuid[]) AS asked (author_id, client_id) CROSS JOIN LATERAL (
        SELECT * FROM client_command command
        WHERE command.author_id = asked.author_id AND command.client_id = asked.client_id OFFSET 0) found
    UNION ALL
    SELECT ($6::bigint[])[2], found.room_id, found.person_id, found.student_id, NULL, found.role, found.sees_after_seq, found.left_seq
    FROM unnest($3::uuid[], $4::uuid[]) AS asked (room_id, person_id) CROSS JOIN LATERAL (
        SELECT * FROM membership WHERE membership.room_id = asked.room_id AND membership.person_id = asked.person_id OFFSET 0) found
    UNION ALL
    SELECT ($6::bigint[])[3], found.id, NULL, NULL, NULL, NULL, found.last_n, NULL
    FROM unnest($5::uuid[]) AS asked (id) CROSS JOIN LATERAL (SELECT * FROM conversation WHERE conversation.id = asked.id OFFSET 0) found";

/// What a batch stores in any case, and before that what becomes of its conversations; `$twice` is said where a client id may be there
/// already.
macro_rules! store {
    ($twice:literal, $conversations:literal, $rooms:literal) => {
        concat!(
            "WITH said AS (
                INSERT INTO event (room_id, seq, id, kind, conversation_id, n, root_id, root_seq, author_id, client_id, urgent, body, at)
                SELECT *, $13::timestamptz FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::uuid[], $6::bigint[],
                       $7::uuid[], $8::bigint[], $9::uuid[], $10::uuid[], $11::boolean[], $12::text[])),
             answered AS (
                INSERT INTO client_command (author_id, client_id, digest, event_id, n)
                SELECT * FROM unnest($9::uuid[], $10::uuid[], $14::bytea[], $3::uuid[], $6::bigint[])",
            $twice,
            "),
             rung AS (INSERT INTO bell (room_id, head_seq) SELECT * FROM unnest($18::uuid[], $19::bigint[])),
             numbered AS (",
            $conversations,
            ")",
            $rooms
        )
    };
}

/// Under the locks, after all was looked up.
macro_rules! store_locked {
    ($twice:literal) => {
        store!(
            $twice,
            "INSERT INTO conversation (id, room_id, guardian_id, student_id, last_n, last_seq)
             SELECT conversation.id, room_id, guardian_id, student_id, n, seq
             FROM unnest($15::uuid[], $16::bigint[], $17::bigint[], $21::uuid[], $22::uuid[], $23::uuid[])
                  AS conversation (id, n, seq, room_id, guardian_id, student_id)
             ON CONFLICT (id) DO UPDATE SET last_n = excluded.last_n, last_seq = excluded.last_seq",
            " UPDATE room SET last_seq = head.seq, last_event_id = head.id
             FROM unnest($18::uuid[], $19::bigint[], $20::uuid[]) AS head (room_id, seq, id) WHERE room.id = head.room_id"
        )
    };
}
const STORE: &str = store_locked!("");
const STORE_TWICE: &str = store_locked!(" ON CONFLICT DO NOTHING");

/// With what was known before: a transaction by itself. It locks the rooms in the order of the arrays, which is that of their ids, and where
/// one of them does not stand as it was known it divides by zero, so that nothing of it happens.
const STORE_KNOWN: &str = store!(
    "",
    "UPDATE conversation SET last_n = now.n, last_seq = now.seq
     FROM unnest($15::uuid[], $16::bigint[], $17::bigint[]) AS now (id, n, seq) WHERE conversation.id = now.id",
    ", moved AS (
        UPDATE room SET last_seq = head.seq, last_event_id = head.id
        FROM unnest($18::uuid[], $19::bigint[], $20::uuid[], $21::uuid[]) AS head (room_id, seq, id, was)
        WHERE room.id = head.room_id AND room.last_event_id = head.was RETURNING TRUE)
     SELECT 1 / (COUNT(*) = cardinality($18::uuid[]))::int FROM moved"
);

/// How long a batch waits for a room that it does not lock first. Whoever holds one for longer may have stopped: it is passed over then.
pub const KNOWN_PATIENCE: (&str, &str) = ("lock_timeout", "20ms");
/// Locks may be waited for, as long as the transaction may take.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = 0";

/// Appends a batch that was planned by what the lane knew, in one round trip; whether it did. It does not where a room stands differently, a
/// client id was answered before, or somebody holds a room.
///
/// # Errors
/// When the database does not take it for another reason, or does not answer.
pub async fn append_known(on: &mut PgConnection, plan: &Plan) -> Result<bool, sqlx::Error> {
    let was: Vec<Option<Uuid>> = plan.heads.values().map(|moved| moved.was.map(|id| id.0)).collect();
    // Done when the server is ready for the next: with the answer to the statement alone it would not be committed yet.
    match bound(STORE_KNOWN, plan).bind(was).execute(on).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_so(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Division by zero, unique violation, lock not available, deadlock.
fn is_not_so(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| matches!(&*code, "22012" | "23505" | "55P03" | "40P01"))
}

/// Appends the batch in one transaction. Commands of rooms that another node holds are skipped, unless
/// `wait_for_locks`.
pub async fn append(
    on: &mut PgConnection,
    batch: &[Pending],
    wait_for_locks: bool,
    known: &mut Known,
    committed: &Committed,
) -> Result<Plan, sqlx::Error> {
    let asked = Asked::by(batch);
    let mut tx = on.begin_with(BEGIN).await?;
    let mut loaded = Loaded::default();
    loaded.take(lock(&mut tx, &asked, wait_for_locks).await?);
    // In a statement of its own, begun after the locks were had: a READ COMMITTED statement takes its snapshot before it
    // waits, and would miss what the former holder committed.
    load(&mut tx, asked, &mut loaded).await?;
    known.meet(&loaded.heads);
    let plan = plan::plan(batch, loaded, wait_for_locks);
    if !plan.rows.is_empty() {
        store(&mut tx, &plan).await?;
        #[cfg(feature = "next")]
        super::next::store(crate::db::Engine::Postgres(&mut *tx), &plan.pins).await?;
    }
    if sabotage::is(Sabotage::PublishBeforeCommit) && !plan.entries.is_empty() {
        committed(&plan.entries);
        // Long enough that something can happen to the commit.
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    tx.commit().await?;
    Ok(plan)
}

async fn lock(on: &mut PgConnection, asked: &Asked, wait_for_locks: bool) -> Result<Vec<Found>, sqlx::Error> {
    let rooms: Vec<Uuid> = asked.rooms.iter().copied().collect();
    sqlx::query_as(if wait_for_locks { lock!("") } else { lock!(" SKIP LOCKED") })
        .bind(what::ROOM)
        .bind(&rooms)
        .fetch_all(on)
        .await
}

async fn load(on: &mut PgConnection, asked: Asked, loaded: &mut Loaded) -> Result<(), sqlx::Error> {
    let Asked { commands, people, messages, mut conversations, .. } = asked;
    if !messages.is_empty() {
        let (rooms, ids): (Vec<Uuid>, Vec<Uuid>) = messages.into_iter().unzip();
        let rows: Vec<MessageRow> = sqlx::query_as(crate::message_select!(
            "JOIN unnest($1::uuid[], $2::uuid[]) AS asked (room_id, id) ON asked.room_id = e.room_id AND asked.id = e.id
             WHERE e.kind = 'posted'"
        ))
        .bind(rooms)
        .bind(ids)
        .fetch_all(&mut *on)
        .await?;
        loaded.targets = plan::targets(rows)?;
        conversations.extend(loaded.targets.values().map(|target| target.conversation.0));
    }
    let (authors, client_ids): (Vec<Uuid>, Vec<Uuid>) = commands.into_iter().unzip();
    let (rooms, people): (Vec<Uuid>, Vec<Uuid>) = people.into_iter().unzip();
    let mut found: Vec<Found> = sqlx::query_as(LOAD)
        .bind(authors)
        .bind(client_ids)
        .bind(rooms)
        .bind(people)
        .bind(conversations.into_iter().collect::<Vec<_>>())
        .bind([what::KNOWN, what::MEMBER, what::CONVERSATION])
        .fetch_all(&mut *on)
        .await?;
    found.retain(|row| !(row.is_known() && sabotage::is(Sabotage::DropDuplicateLookUp)));
    loaded.take(found);
    Ok(())
}

/// The statement with what all have.
fn bound<'q>(text: &'static str, plan: &Plan) -> Query<'q, Postgres, PgArguments> {
    let column = |of: fn(&plan::Row) -> Uuid| -> Vec<Uuid> { plan.rows.iter().map(of).collect() };
    let number = |of: fn(&plan::Row) -> i64| -> Vec<i64> { plan.rows.iter().map(of).collect() };
    sqlx::query(text)
        .bind(column(|row| row.room.0))
        .bind(number(|row| row.seq))
        .bind(column(|row| row.id.0))
        .bind(plan.rows.iter().map(|row| row.kind).collect::<Vec<_>>())
        .bind(column(|row| row.conversation.0))
        .bind(number(|row| row.n))
        .bind(column(|row| row.root.0))
        .bind(number(|row| row.root_seq))
        .bind(column(|row| row.author.0))
        .bind(column(|row| row.client_id.0))
        .bind(plan.rows.iter().map(|row| row.urgent).collect::<Vec<_>>())
        .bind(plan.rows.iter().map(|row| row.body.as_deref()).collect::<Vec<_>>())
        .bind(plan.at.as_datetime())
        .bind(plan.rows.iter().map(|row| row.digest.as_slice()).collect::<Vec<_>>())
        .bind(plan.conversations.keys().map(|id| id.0).collect::<Vec<_>>())
        .bind(plan.conversations.values().map(|(_, _, n, _)| *n).collect::<Vec<_>>())
        .bind(plan.conversations.values().map(|(_, _, _, seq)| *seq).collect::<Vec<_>>())
        .bind(plan.heads.keys().map(|room| room.0).collect::<Vec<_>>())
        .bind(plan.heads.values().map(|moved| moved.seq).collect::<Vec<_>>())
        .bind(plan.heads.values().map(|moved| moved.id.0).collect::<Vec<_>>())
}

/// All in one statement. What it changes in events that it may have made itself comes after it: one statement does not see its own.
async fn store(on: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let conversations = || plan.conversations.values();
    let about = conversations().map(|(_, to, ..)| to.about());
    let (guardians, students): (Vec<_>, Vec<_>) =
        about.map(|about| (about.map(|about| about.guardian.0), about.map(|about| about.student.0))).unzip();
    let text = if sabotage::is(Sabotage::DropDuplicateLookUp) { STORE_TWICE } else { STORE };
    bound(text, plan)
        .bind(conversations().map(|(room, ..)| room.0).collect::<Vec<_>>())
        .bind(guardians)
        .bind(students)
        .execute(&mut *on)
        .await?;
    store_changed(on, plan).await
}

async fn store_changed(on: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    if plan.changed.is_empty() {
        return Ok(());
    }
    let changed = || plan.changed.values();
    sqlx::query(
        "UPDATE event SET
            edited_at = CASE WHEN change.edited THEN $6 ELSE edited_at END,
            retracted_at = CASE WHEN change.retracted THEN $6 ELSE retracted_at END,
            current_body = COALESCE(change.body, current_body)
         FROM unnest($1::uuid[], $2::bigint[], $3::boolean[], $4::boolean[], $5::text[])
              AS change (room_id, seq, edited, retracted, body)
         WHERE event.room_id = change.room_id AND event.seq = change.seq",
    )
    .bind(changed().map(|change| change.room.0).collect::<Vec<_>>())
    .bind(changed().map(|change| change.seq).collect::<Vec<_>>())
    .bind(changed().map(|change| change.edited).collect::<Vec<_>>())
    .bind(changed().map(|change| change.retracted).collect::<Vec<_>>())
    .bind(changed().map(|change| change.body.as_deref()).collect::<Vec<_>>())
    .bind(plan.at.as_datetime())
    .execute(on)
    .await?;
    Ok(())
}
