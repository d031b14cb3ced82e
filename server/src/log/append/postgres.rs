//! A batch on PostgreSQL: rooms locked in id order, those that another node holds passed over, arrays instead of row lists.
//!
//! Owns: reading what the plan needs and storing what it decided. Refuses to know: the rules (see `plan`).

use super::plan::{self, Head, Known, Loaded, Plan};
use super::{Appended, Committed, Pending, What};
use crate::log::members::{self, MemberRow};
use crate::log::row::MessageRow;
use crate::sabotage::{self, Sabotage};
use homeroom_protocol::{Address, ClientId, ConversationId, EventId, PersonId, RoomId, RoomKind};
use sqlx::{Connection, PgConnection};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Appends the batch in one transaction. Commands of rooms that another node holds are skipped, unless
/// `wait_for_locks`.
pub async fn append(
    on: &mut PgConnection,
    batch: &[Pending],
    wait_for_locks: bool,
    committed: &Committed,
) -> Result<Plan, sqlx::Error> {
    let mut tx = on.begin().await?;
    let mut loaded = Loaded::default();
    lock(&mut tx, batch, wait_for_locks, &mut loaded).await?;
    // In statements of their own, begun after the locks were had: a READ COMMITTED statement takes its snapshot before it
    // waits, and would miss what the former holder committed.
    load(&mut tx, batch, &mut loaded).await?;
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

async fn lock(
    on: &mut PgConnection,
    batch: &[Pending],
    wait_for_locks: bool,
    loaded: &mut Loaded,
) -> Result<(), sqlx::Error> {
    let rooms: BTreeSet<Uuid> = batch.iter().map(|pending| pending.append.room.0).collect();
    let rooms: Vec<Uuid> = rooms.into_iter().collect();
    let text = if wait_for_locks {
        "SELECT id, kind, last_seq, last_event_id FROM room WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"
    } else {
        "SELECT id, kind, last_seq, last_event_id FROM room WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED"
    };
    let rows: Vec<(Uuid, String, i64, Option<Uuid>)> = sqlx::query_as(text).bind(&rooms).fetch_all(on).await?;
    for (id, kind, last_seq, last_event) in rows {
        let kind = if kind == "school" { RoomKind::School } else { RoomKind::Class };
        loaded.heads.insert(RoomId(id), Head { kind, last_seq, last_event: last_event.map(EventId) });
    }
    Ok(())
}

async fn load(on: &mut PgConnection, batch: &[Pending], loaded: &mut Loaded) -> Result<(), sqlx::Error> {
    let appends = || batch.iter().map(|pending| &pending.append);

    let (authors, ids): (Vec<Uuid>, Vec<Uuid>) = appends().map(|append| (append.author.0, append.client_id.0)).unzip();
    let rows: Vec<(Uuid, Uuid, Vec<u8>, Uuid, i64)> = sqlx::query_as(
        "SELECT author_id, client_id, digest, event_id, n FROM client_command
         WHERE (author_id, client_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
    )
    .bind(&authors)
    .bind(&ids)
    .fetch_all(&mut *on)
    .await?;
    let rows = rows.into_iter().filter(|_| !sabotage::is(Sabotage::DropDuplicateLookUp));
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
    let (rooms, people): (Vec<Uuid>, Vec<Uuid>) = people.into_iter().unzip();
    let rows: Vec<MemberRow> = sqlx::query_as(
        "SELECT room_id, person_id, student_id, role, left_seq, sees_after_seq FROM membership
         WHERE (person_id, room_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
    )
    .bind(&people)
    .bind(&rooms)
    .fetch_all(&mut *on)
    .await?;
    loaded.views = members::views(rows);

    let messages: BTreeSet<(Uuid, Uuid)> =
        appends().filter_map(|append| append.what.target().map(|message| (append.room.0, message.0))).collect();
    if !messages.is_empty() {
        let (rooms, ids): (Vec<Uuid>, Vec<Uuid>) = messages.into_iter().unzip();
        let rows: Vec<MessageRow> = sqlx::query_as(crate::message_select!(
            "WHERE e.kind = 'posted' AND (e.room_id, e.id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))"
        ))
        .bind(&rooms)
        .bind(&ids)
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
    let conversations: Vec<Uuid> = conversations.into_iter().collect();
    let rows: Vec<(Uuid, i64)> = sqlx::query_as("SELECT id, last_n FROM conversation WHERE id = ANY($1)")
        .bind(&conversations)
        .fetch_all(&mut *on)
        .await?;
    loaded.numbers = rows.into_iter().map(|(id, last_n)| (ConversationId(id), last_n)).collect();
    Ok(())
}

async fn store(on: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let column = |of: fn(&plan::Row) -> Uuid| -> Vec<Uuid> { plan.rows.iter().map(of).collect() };
    let number = |of: fn(&plan::Row) -> i64| -> Vec<i64> { plan.rows.iter().map(of).collect() };
    let (ids, authors, client_ids) =
        (column(|row| row.id.0), column(|row| row.author.0), column(|row| row.client_id.0));
    let numbers = number(|row| row.n);
    sqlx::query(
        "INSERT INTO event (room_id, seq, id, kind, conversation_id, n, root_id, root_seq, author_id, client_id, urgent, body, at)
         SELECT *, $13::timestamptz FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::uuid[], $6::bigint[],
                $7::uuid[], $8::bigint[], $9::uuid[], $10::uuid[], $11::boolean[], $12::text[])",
    )
    .bind(column(|row| row.room.0))
    .bind(number(|row| row.seq))
    .bind(&ids)
    .bind(plan.rows.iter().map(|row| row.kind).collect::<Vec<_>>())
    .bind(column(|row| row.conversation.0))
    .bind(&numbers)
    .bind(column(|row| row.root.0))
    .bind(number(|row| row.root_seq))
    .bind(&authors)
    .bind(&client_ids)
    .bind(plan.rows.iter().map(|row| row.urgent).collect::<Vec<_>>())
    .bind(plan.rows.iter().map(|row| row.body.as_deref()).collect::<Vec<_>>())
    .bind(plan.at.as_datetime())
    .execute(&mut *on)
    .await?;
    sqlx::query(if sabotage::is(Sabotage::DropDuplicateLookUp) {
        "INSERT INTO client_command (author_id, client_id, digest, event_id, n)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::uuid[], $5::bigint[]) ON CONFLICT DO NOTHING"
    } else {
        "INSERT INTO client_command (author_id, client_id, digest, event_id, n)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::uuid[], $5::bigint[])"
    })
    .bind(&authors)
    .bind(&client_ids)
    .bind(plan.rows.iter().map(|row| row.digest.as_slice()).collect::<Vec<_>>())
    .bind(&ids)
    .bind(&numbers)
    .execute(&mut *on)
    .await?;
    store_conversations(on, plan).await?;
    store_changed(on, plan).await?;

    let rooms: Vec<Uuid> = plan.heads.keys().map(|room| room.0).collect();
    let seqs: Vec<i64> = plan.heads.values().map(|(seq, _)| *seq).collect();
    let events: Vec<Uuid> = plan.heads.values().map(|(_, id)| id.0).collect();
    sqlx::query(
        "WITH head AS (SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[]) AS head (room_id, seq, id)),
              rung AS (INSERT INTO bell (room_id, head_seq) SELECT room_id, seq FROM head)
         UPDATE room SET last_seq = head.seq, last_event_id = head.id FROM head WHERE room.id = head.room_id",
    )
    .bind(&rooms)
    .bind(&seqs)
    .bind(&events)
    .execute(&mut *on)
    .await?;
    Ok(())
}

async fn store_conversations(on: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let conversations: Vec<_> = plan.conversations.iter().collect();
    sqlx::query(
        "INSERT INTO conversation (id, room_id, guardian_id, student_id, last_n, last_seq)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[])
         ON CONFLICT (id) DO UPDATE SET last_n = excluded.last_n, last_seq = excluded.last_seq",
    )
    .bind(conversations.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
    .bind(conversations.iter().map(|(_, (room, ..))| room.0).collect::<Vec<_>>())
    .bind(conversations.iter().map(|(_, (_, to, ..))| to.about().map(|about| about.guardian.0)).collect::<Vec<_>>())
    .bind(conversations.iter().map(|(_, (_, to, ..))| to.about().map(|about| about.student.0)).collect::<Vec<_>>())
    .bind(conversations.iter().map(|(_, (_, _, n, _))| *n).collect::<Vec<_>>())
    .bind(conversations.iter().map(|(_, (_, _, _, seq))| *seq).collect::<Vec<_>>())
    .execute(on)
    .await?;
    Ok(())
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
