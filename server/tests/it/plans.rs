//! How both engines run the statements by which a session begins and pages and history are read: by which index, in its order, and
//! nothing else.
//!
//! Owns: asking them, for the very statements that the code runs. `cargo test plans -- --nocapture` shows the plans.

use crate::node::{Ground, School, log};
use homeroom::db::{Engine, Pool};
use homeroom::identity::arriving;
use homeroom::log::read::statement;
use homeroom::log::{Append, Log, What, places, read};
use homeroom_protocol::{Address, ClientId, Draft, EventId, Language};
use serde_json::{Value, json};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Executor, Postgres, Row, Sqlite};
use uuid::Uuid;

/// The statements that both engines share, and the index of `event` that each goes by.
const SHARED: [(&str, &str, Binds); 7] = [
    ("a room's page", statement::OF_ROOM, Binds::RoomNumberLimit),
    ("a conversation's page", statement::OF_CONVERSATION, Binds::ConversationNumberLimit),
    ("history", statement::HISTORY, Binds::ConversationNumberLimit),
    ("the other end of a gap", statement::FIRST_AFTER, Binds::ConversationNumberSeq),
    ("one message", statement::MESSAGE, Binds::RoomEvent),
    ("the last of a room", statement::LAST_OF_ROOM, Binds::RoomNumber),
    ("the last of a conversation", statement::LAST_OF_CONVERSATION, Binds::ConversationNumber),
];

/// What a statement is asked with.
#[derive(Clone, Copy)]
enum Binds {
    RoomNumberLimit,
    RoomNumber,
    RoomEvent,
    ConversationNumberLimit,
    ConversationNumber,
    ConversationNumberSeq,
}

/// Which index of `event` a statement has to go by, in PostgreSQL's names.
fn index(name: &str) -> &'static str {
    match name {
        "a room's page" | "the last of a room" | "places of rooms" => "event_pkey",
        "a conversation's page" | "history" | "the last of a conversation" | "the other end of a gap" => {
            "event_by_conversation"
        }
        _ => "event_by_id",
    }
}

/// Somebody who asks: where, in which conversation, from which number on, for which event.
struct Asked {
    room: Uuid,
    conversation: Uuid,
    event: Uuid,
    number: i64,
}

/// Binds in the statement's order, on either engine.
macro_rules! bound {
    ($query:expr, $binds:expr, $asked:expr) => {
        match $binds {
            Binds::RoomNumberLimit => $query.bind($asked.room).bind($asked.number).bind(128_i64),
            Binds::RoomNumber => $query.bind($asked.room).bind($asked.number),
            Binds::RoomEvent => $query.bind($asked.room).bind($asked.event),
            Binds::ConversationNumberLimit => {
                $query.bind($asked.room).bind($asked.conversation).bind($asked.number).bind(128_i64)
            }
            Binds::ConversationNumberSeq => {
                let query = $query.bind($asked.room).bind($asked.conversation);
                query.bind($asked.number).bind(20_i64).bind(32_i64)
            }
            Binds::ConversationNumber => $query.bind($asked.room).bind($asked.conversation).bind($asked.number),
        }
    };
}

/// A room in which much was said.
async fn talk(log: &Log) -> (School, Asked) {
    let school = School::open(log).await;
    let mut posts = Vec::new();
    for round in 0..300 {
        let draft = Draft { language: Language::english(), text: "text".to_owned(), protected: Vec::new() };
        let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
        let to = if round % 2 == 0 { Address::Announcements } else { school.with_ben() };
        let what = What::Post { to, envelope, urgent: false };
        let append = Append { room: school.room, author: school.teacher, client_id: ClientId::new(), what, turn: None };
        posts.push(log.submit(append).unwrap());
    }
    let mut event = EventId::new();
    for post in posts {
        event = post.done().await.unwrap().id;
    }
    let conversation = Address::Announcements.conversation(school.room).0;
    let asked = Asked { room: school.room.0, conversation, event: event.0, number: 50 };
    (school, asked)
}

/// Every node of a plan with what is said of it.
fn nodes(plan: &Value, found: &mut Vec<Value>) {
    found.push(plan.clone());
    for below in plan["Plans"].as_array().into_iter().flatten() {
        nodes(below, found);
    }
}

async fn postgres_plan(pool: &Pool, query: Query<'_, Postgres, PgArguments>) -> Vec<Value> {
    let row = query.fetch_one(pool).await.unwrap();
    let mut found = Vec::new();
    nodes(&row.get::<Value, _>(0)[0]["Plan"], &mut found);
    found
}

/// Rows in rooms that nobody asks for, so that walking the table would cost, and what the planner knows of it.
async fn fill(pool: &Pool) {
    pool.execute(
        "INSERT INTO event (room_id, seq, id, kind, conversation_id, n, at, body)
         SELECT gen_random_uuid(), 1, gen_random_uuid(), 'posted', gen_random_uuid(), 1, now(), '{}'
         FROM generate_series(1, 30000)",
    )
    .await
    .unwrap();
    pool.execute("ANALYZE").await.unwrap();
}

/// A year of talk in the room and the conversation that are asked for: so long that reading it all and sorting would cost.
async fn lengthen(pool: &Pool, asked: &Asked) {
    sqlx::query(
        "INSERT INTO event (room_id, seq, id, kind, conversation_id, n, root_seq, at, body)
         SELECT $1, 1000 + more, gen_random_uuid(), 'posted', $2, 1000 + more, 1000 + more, now(), '{}'
         FROM generate_series(1, 30000) AS more",
    )
    .bind(asked.room)
    .bind(asked.conversation)
    .execute(pool)
    .await
    .unwrap();
}

/// Asks for the plan of each statement; gives it with its name.
async fn postgres_plans(pool: &Pool, asked: &Asked) -> Vec<(&'static str, Vec<Value>)> {
    // They are run, too: what stands under a recursion's work table is not planned aloud before.
    let explain = |statement: &str| AssertSqlSafe(format!("EXPLAIN (ANALYZE, FORMAT JSON, COSTS OFF) {statement}"));
    let mut plans = Vec::new();
    for (name, statement, binds) in SHARED {
        plans.push((name, postgres_plan(pool, bound!(sqlx::query(explain(statement)), binds, asked)).await));
    }
    let seqs = sqlx::query(explain(statement::SEQS_POSTGRES)).bind(vec![asked.room]).bind(vec![asked.event]);
    plans.push(("positions", postgres_plan(pool, seqs).await));
    let at = sqlx::query(explain(statement::AT_POSTGRES)).bind(vec![asked.room]).bind(vec![asked.number]);
    plans.push(("places of rooms", postgres_plan(pool, at).await));
    plans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_reads_pages_and_history_by_their_indexes() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let (_school, asked) = talk(&log).await;
    let Engine::Postgres(pool) = log.db().writes() else { panic!("not PostgreSQL") };
    lengthen(pool, &asked).await;
    fill(pool).await;
    for (name, plan) in postgres_plans(pool, &asked).await {
        let by: Vec<&str> = plan.iter().filter_map(|node| node["Index Name"].as_str()).collect();
        println!("PostgreSQL, {name}: {} by {by:?}", kinds(&plan).join(" > "));
        assert!(by.contains(&index(name)), "{name}: {plan:?}");
        let walked = |node: &Value| node["Node Type"] == "Seq Scan" && node["Relation Name"] == "event";
        let sorted = |node: &Value| node["Node Type"] == "Sort";
        assert!(!plan.iter().any(|node| walked(node) || sorted(node)), "{name} walks or sorts: {plan:?}");
        // Both ends of the stretch are found in the index; nothing is read to be thrown away, but for other kinds in history.
        let filtered = plan.iter().any(|node| {
            let filter = node["Filter"].as_str().unwrap_or_default();
            node["Alias"] == "e" && (filter.contains("seq") || filter.contains("conversation_id"))
        });
        assert!(!filtered, "{name} reads what it throws away: {plan:?}");
    }
}

fn kinds(plan: &[Value]) -> Vec<&str> {
    plan.iter().filter_map(|node| node["Node Type"].as_str()).collect()
}

async fn sqlite_plan(log: &Log, query: Query<'_, Sqlite, SqliteArguments>) -> Vec<String> {
    let Engine::Sqlite(pool) = log.db().reads() else { panic!("not SQLite") };
    let rows = query.fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_reads_pages_and_history_by_their_indexes() {
    let ground = Ground::sqlite();
    let log = log(&ground).await;
    let (_school, asked) = talk(&log).await;
    let explain = |statement: &str| AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let mut plans = Vec::new();
    for (name, statement, binds) in SHARED {
        plans.push((name, sqlite_plan(&log, bound!(sqlx::query(explain(statement)), binds, asked)).await));
    }
    let hex = |id: Uuid| id.simple().to_string();
    let seqs = sqlx::query(explain(statement::SEQS_SQLITE)).bind(json!([[hex(asked.room), hex(asked.event)]]));
    plans.push(("positions", sqlite_plan(&log, seqs).await));
    let at = sqlx::query(explain(statement::AT_SQLITE)).bind(json!([[hex(asked.room), asked.number]]));
    plans.push(("places of rooms", sqlite_plan(&log, at).await));
    for (name, plan) in plans {
        println!("SQLite, {name}: {}", plan.join("; "));
        // SQLite gives a primary key's index a name of its own.
        let by = index(name).replace("event_pkey", "sqlite_autoindex_event_1");
        assert!(plan.iter().any(|step| step.starts_with("SEARCH e") && step.contains(&by)), "{name}: {plan:?}");
        let walks = |step: &String| step.starts_with("SCAN e ") || step == "SCAN e" || step.starts_with("SCAN event");
        assert!(!plan.iter().any(|step| walks(step) || step.contains("TEMP B-TREE FOR ORDER BY")), "{name}: {plan:?}");
    }
}

/// A district with 60,000 rooms, in each of them one who is signed in. What the planner knows of it, too.
async fn settle(pool: &Pool) {
    sqlx::raw_sql(
        "CREATE TEMPORARY TABLE one AS SELECT gen_random_uuid() AS id, number FROM generate_series(1, 60000) AS number;
         INSERT INTO person (id, district_id, source_id, source_digest, username, given_name, family_name)
         SELECT one.id, d.id, 'p' || number, '', 'u' || number, 'A', 'B' FROM one, district d;
         INSERT INTO login (id, token_hash, person_id, created_at, used_at, expires_at)
         SELECT id, sha256(number::text::bytea), id, now(), now(), now() + interval '30 days' FROM one;
         INSERT INTO room (id, district_id, kind, school_id, title)
         SELECT one.id, s.district_id, 'class', s.id, 'C' FROM one, school s;
         INSERT INTO membership (room_id, person_id, student_id, role, joined_seq, sees_after_seq, joined_at)
         SELECT id, id, gen_random_uuid(), 'guardian', 1, 1, now() FROM one;
         DROP TABLE one;
         ANALYZE",
    )
    .execute(pool)
    .await
    .unwrap();
}

/// A herd that comes back asks it in every batch: whatever grows with the district is looked up by key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_begins_with_look_ups_by_key_on_postgres() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let _school = School::open(&log).await;
    let Engine::Postgres(pool) = log.db().writes() else { panic!("not PostgreSQL") };
    settle(pool).await;
    for of_batch in [1, 64] {
        let explain = AssertSqlSafe(format!("EXPLAIN (FORMAT JSON, COSTS OFF) {}", arriving::statement::POSTGRES));
        let plan = postgres_plan(
            pool,
            sqlx::query(explain)
                .bind((0..of_batch).map(|number| vec![number as u8; 32]).collect::<Vec<_>>())
                .bind(chrono::Utc::now()),
        )
        .await;
        println!("PostgreSQL, {of_batch} who come: {}", kinds(&plan).join(" > "));
        let by: Vec<&str> = plan.iter().filter_map(|node| node["Index Name"].as_str()).collect();
        for index in ["login_token_hash_key", "person_pkey", "membership_by_person", "room_pkey"] {
            assert!(by.contains(&index), "{index} is not used by {of_batch}: {plan:?}");
        }
        let grows = ["login", "person", "membership", "room"];
        let walked = |node: &Value| {
            node["Node Type"] == "Seq Scan" && node["Relation Name"].as_str().is_some_and(|of| grows.contains(&of))
        };
        assert!(!plan.iter().any(walked), "{of_batch} walk: {plan:?}");
        // All of a membership that is asked for stands in the index.
        let covered = plan
            .iter()
            .any(|node| node["Node Type"] == "Index Only Scan" && node["Index Name"] == "membership_by_person");
        assert!(covered, "{of_batch} read the table of memberships: {plan:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_begins_with_look_ups_by_key_on_sqlite() {
    let ground = Ground::sqlite();
    let log = log(&ground).await;
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", arriving::statement::SQLITE));
    let query = sqlx::query(explain).bind(json!(["00".repeat(32)])).bind(chrono::Utc::now());
    let plan = sqlite_plan(&log, query).await;
    println!("SQLite, who comes: {}", plan.join("; "));
    for (table, index) in [
        ("l", "sqlite_autoindex_login_2"),
        ("p", "sqlite_autoindex_person_1"),
        ("m", "COVERING INDEX membership_by_person"),
        ("r", "sqlite_autoindex_room_1"),
    ] {
        let looked_up = |step: &String| step.starts_with(&format!("SEARCH {table} ")) && step.contains(index);
        assert!(plan.iter().any(looked_up), "{table} not by {index}: {plan:?}");
    }
    let walks = |step: &&String| step.starts_with("SCAN ") && !step.contains("json_each");
    assert_eq!(plan.iter().find(walks), None);
}

/// Makes a table one of four parts, by hash of a column, with all that was in it.
async fn split(pool: &Pool, table: &str, by: &str) {
    let mut text = format!("BEGIN; CREATE TABLE whole (LIKE {table} INCLUDING ALL) PARTITION BY HASH ({by});");
    for part in 0..4 {
        text +=
            &format!("CREATE TABLE {table}_{part} PARTITION OF whole FOR VALUES WITH (MODULUS 4, REMAINDER {part});");
    }
    text += &format!("INSERT INTO whole SELECT * FROM {table}; DROP TABLE {table};");
    text += &format!("ALTER TABLE whole RENAME TO {table}; COMMIT");
    sqlx::raw_sql(AssertSqlSafe(text)).execute(pool).await.unwrap();
}

/// The tables that grow with what is said can be split as they are migrated: events by hash of the room, client ids by hash of
/// their author. The log works on them as before, and a page is looked for in one part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_grows_can_be_partitioned_events_by_hash_of_the_room() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let (school, asked) = talk(&log).await;
    let Engine::Postgres(pool) = log.db().writes() else { panic!("not PostgreSQL") };
    split(pool, "event", "room_id").await;
    split(pool, "client_command", "author_id").await;
    fill(pool).await;

    let draft = Draft { language: Language::english(), text: "on".to_owned(), protected: Vec::new() };
    let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
    let command =
        |what| Append { room: school.room, author: school.teacher, client_id: ClientId::new(), what, turn: None };
    let post = command(What::Post { to: Address::Announcements, envelope: envelope.clone(), urgent: false });
    let said = log.append(post.clone()).await.unwrap();
    assert_eq!(said.n, 151);
    assert_eq!(log.append(post).await.unwrap().id, said.id, "the same command gets the same answer");
    assert_eq!(log.append(command(What::Edit { message: said.id, envelope })).await.unwrap().n, 152);
    assert_eq!(log.append(command(What::Retract { message: said.id })).await.unwrap().n, 153);
    let seqs: Vec<i64> =
        read::after(log.db(), school.room, 0, 1_000).await.unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=306).collect::<Vec<i64>>());
    let view = places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    let conversation = Address::Announcements.conversation(school.room);
    let history = read::history(log.db(), school.room, &view, conversation, None, 50).await.unwrap();
    assert_eq!((history.messages.len(), history.more), (50, true));

    for (name, plan) in postgres_plans(pool, &asked).await {
        // Where the rooms come as a list, the parts are chosen while it runs: each is looked up by its index.
        let parts: std::collections::BTreeSet<&str> = plan
            .iter()
            .filter(|node| node["Alias"].as_str().is_some_and(|alias| alias.starts_with('e')))
            .filter_map(|node| node["Relation Name"].as_str())
            .collect();
        let one = !["positions", "places of rooms"].contains(&name);
        assert!(!one || parts.len() == 1, "{name} looks into {parts:?}");
        let walked = plan.iter().any(|node| {
            node["Node Type"] == "Seq Scan" && node["Relation Name"].as_str().is_some_and(|of| of.starts_with("event"))
        });
        assert!(!walked, "{name}: {plan:?}");
    }
}

/// PostgreSQL keeps the plan that it made when a table was empty, and goes on reading that table from end to end when it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_looks_everything_up_by_key_whatever_was_counted_last() {
    const BATCHES: i64 = 60;
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let envelope = || {
        let draft = Draft { language: Language::english(), text: "text".to_owned(), protected: Vec::new() };
        Box::new(draft.into_envelope(|_| Vec::new()).unwrap())
    };
    let append = async |what| {
        let append = Append { room: school.room, author: school.teacher, client_id: ClientId::new(), what, turn: None };
        log.append(append).await.unwrap()
    };
    let post = async || append(What::Post { to: Address::Announcements, envelope: envelope(), urgent: false }).await;
    // A post is stored by what is known of its room; an edit looks everything up first.
    let message = post().await.id;
    let edit = async || append(What::Edit { message, envelope: envelope() }).await;
    for _ in 0..BATCHES {
        edit().await;
        post().await;
    }
    let Engine::Postgres(pool) = log.db().writes() else { panic!("not PostgreSQL") };
    let told = "SELECT relname::text, seq_scan, COALESCE(idx_scan, 0) FROM pg_stat_user_tables
                WHERE relname IN ('room', 'membership', 'conversation', 'client_command')";
    let tables: Vec<(String, i64, i64)> = loop {
        let tables: Vec<(String, i64, i64)> = sqlx::query_as(told).fetch_all(pool).await.unwrap();
        // A connection tells what it has done at the end of a transaction, at most once a second.
        if tables.len() == 4 && tables.iter().all(|(_, walked, looked_up)| walked + looked_up >= BATCHES) {
            break tables;
        }
        edit().await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    // The migrations and the school's opening walk some of them.
    assert!(tables.iter().all(|(_, walked, _)| *walked < BATCHES / 4), "{tables:?}");
}
