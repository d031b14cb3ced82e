//! What the design's failure table says of the database: each line a test.
//!
//! Owns: breaking the way to PostgreSQL, its locks, and the disk under SQLite. Refuses to know: Redis (see `bus`), and whole
//! nodes that are killed (see the load test's checker).

use crate::node::{Ground, Node, Socket, connect, eventually, guardian, log, post, repository};
use crate::process::Demo;
use crate::proxy::{Commit, Proxy};
use homeroom::app;
use homeroom::bus::local::Exchange;
use homeroom::bus::{Bus, News};
use homeroom::config::Config;
use homeroom::db::{Db, Engine, Location};
use homeroom::log::{Append, AppendError, Listeners, Log, What, read};
use homeroom_protocol::{Address, ClientId, Draft, Language, RoomId};
use serde_json::json;
use sqlx::{Connection, Executor};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};

pub fn announcement(room: RoomId, author: homeroom_protocol::PersonId, text: &str) -> Append {
    let draft = Draft { language: Language::english(), text: text.to_owned(), protected: Vec::new() };
    let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
    let what = What::Post { to: Address::Announcements, envelope, urgent: false };
    Append { room, author, client_id: ClientId::new(), what, turn: None }
}

fn url(location: &Location) -> &str {
    match location {
        Location::Postgres(url) => url,
        Location::Sqlite(_) => panic!("not a PostgreSQL"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_which_nobody_knows_is_resolved_and_nothing_is_lost_or_doubled() {
    let ground = Ground::postgres().await;
    let school = crate::node::School::open(&log(&ground).await).await;
    let proxy = Proxy::start(url(&ground.location)).await;
    let db = Db::open(&Location::Postgres(proxy.url(url(&ground.location)))).await.unwrap();
    let log = Log::start(&db, Listeners::none());
    let mut last = 0;
    for round in 0..6 {
        let command = announcement(school.room, school.teacher, &format!("round {round}"));
        proxy.at_next_commit(if round % 2 == 0 { Commit::IsNotAnswered } else { Commit::IsLost });
        let appended = log.append(command.clone()).await.unwrap();
        assert_eq!(appended.n, last + 1, "whether it was committed before or after the cut, it is there once");
        last = appended.n;
        assert_eq!(log.append(command).await.unwrap(), appended, "and has one answer");
    }
    assert_eq!(proxy.torn(), 6, "every commit was torn");
    let entries = read::after(&db, school.room, 0, 100).await.unwrap();
    assert_eq!(entries.len(), 9, "three joined, six were said");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_hangs_is_answered_by_unavailable_and_the_same_command_is_there_once_afterwards() {
    let ground = Ground::postgres().await;
    let school = crate::node::School::open(&log(&ground).await).await;
    let proxy = Proxy::start(url(&ground.location)).await;
    let db = Db::open(&Location::Postgres(proxy.url(url(&ground.location)))).await.unwrap();
    let log = Log::start(&db, Listeners::none());
    log.append(announcement(school.room, school.teacher, "before")).await.unwrap();
    proxy.hold(true);
    let command = announcement(school.room, school.teacher, "meanwhile");
    let began = Instant::now();
    let outcome = log.append(command.clone()).await;
    assert!(matches!(outcome, Err(AppendError::Unavailable(_))), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "an author is not kept waiting: {:?}", began.elapsed());
    proxy.hold(false);
    let mut answer = log.append(command.clone()).await;
    while matches!(answer, Err(AppendError::Unavailable(_))) {
        answer = log.append(command.clone()).await;
    }
    assert_eq!(answer.unwrap().n, 2);
    proxy.cut();
    assert_eq!(log.append(command).await.unwrap().n, 2, "a cut is not even noticed");
}

/// A node that holds a room's lock and was stopped there: the database ends its transaction after two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stopped_inside_a_transaction_does_not_stall_the_others() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let school = crate::node::School::open(&log).await;
    let other = RoomId::new();
    let text = "INSERT INTO room (id, district_id, kind, school_id, class_id, title)
                SELECT $1, district_id, 'school', school_id, NULL, 'Other' FROM room WHERE id = $2";
    homeroom::execute!(log.db().writes(), text, other.0, school.room.0).unwrap();
    log.change_members(other, vec![crate::node::staff(school.teacher, true)]).await.unwrap();
    let mut stopped = sqlx::PgConnection::connect(url(&ground.location)).await.unwrap();
    stopped.execute("SET idle_in_transaction_session_timeout = '2s'").await.unwrap();
    stopped.execute("BEGIN").await.unwrap();
    sqlx::query("SELECT 1 FROM room WHERE id = $1 FOR NO KEY UPDATE")
        .bind(school.room.0)
        .execute(&mut stopped)
        .await
        .unwrap();

    let held = tokio::spawn({
        let (log, command) = (log.clone(), announcement(school.room, school.teacher, "held"));
        async move { log.append(command).await }
    });
    let began = Instant::now();
    for _ in 0..20 {
        log.append(announcement(other, school.teacher, "goes on")).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "other rooms waited {:?}", began.elapsed());
    assert_eq!(held.await.unwrap().unwrap().n, 1, "what waited is appended once the lock is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_hear_the_bell_for_two_seconds_delivers_nothing_until_it_does() {
    let ground = Ground::postgres().await;
    let node = Node::start(Ground { folder: tempfile::tempdir().unwrap(), location: ground.location.clone() }).await;
    let (room, school) = (node.school.room, &node.school);
    let proxy = Proxy::start(url(&ground.location)).await;
    let behind = Config { database: Location::Postgres(proxy.url(url(&ground.location))), ..ground.config() };
    let exchange = Exchange::default();
    let deaf = app::start_on(&behind, &exchange).await.unwrap();
    let (bus, _) = exchange.join(Arc::default());
    let mut ana = connect(deaf.address).await;
    ana.say(json!({ "type": "hello", "token": node.token(school.ana) })).await;
    ana.hear("caught_up").await;
    let mut ben = connect(deaf.address).await;
    ben.say(json!({ "type": "hello", "token": node.token(school.ben) })).await;
    ben.hear("caught_up").await;

    proxy.hold(true);
    let mut teacher = node.session(school.teacher).await;
    teacher.post(room, Address::Announcements, "said while both were members").await;
    node.log().change_members(room, vec![guardian(school.ana, school.anas_child, false)]).await.unwrap();
    eventually("delivery is held", || async { !deaf.node.tails.may_deliver() }).await;
    // The bus brings late what was said before she left, and nothing of her leaving.
    let said = read::after(node.log().db(), room, 3, 1).await.unwrap().into_iter().map(Arc::new).collect();
    bus.publish(News::Entries(room, said));
    eventually("it has arrived", || async { deaf.node.tails.head(room).is_some_and(|head| head.seq == 4) }).await;
    assert!(heard_nothing(&mut ana).await && heard_nothing(&mut ben).await, "nobody is delivered anything");
    proxy.hold(false);
    assert_eq!(ben.hear("event").await["kind"], "posted", "who may see it gets it when the bell is heard again");
    let frames = ana.until("left").await;
    assert!(frames.iter().all(|frame| frame["type"] != "event"), "who left does not: {frames:?}");
    deaf.stop().await;
    node.stop().await;
}

/// Whether nothing but pings comes for a while that is long compared with a delivery.
async fn heard_nothing(socket: &mut Socket) -> bool {
    tokio::time::timeout(Duration::from_millis(500), socket.next()).await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_history_are_read_by_indexes_and_never_by_scanning() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let school = crate::node::School::open(&log).await;
    let posts: Vec<_> = (0..600)
        .filter_map(|round| {
            let mut append = announcement(school.room, school.teacher, "text");
            if round % 2 == 0
                && let What::Post { to, .. } = &mut append.what
            {
                *to = school.with_ben();
            }
            log.submit(append).ok()
        })
        .collect();
    for posted in posts {
        posted.done().await.unwrap();
    }
    // A thousand times as many in rooms that nobody asks for, so that scanning would not pay.
    let Engine::Postgres(pool) = log.db().writes() else { panic!() };
    pool.execute(
        "INSERT INTO event (room_id, seq, id, kind, at, body)
         SELECT gen_random_uuid(), 1, gen_random_uuid(), 'member_joined', now(), '{}' FROM generate_series(1, 100000)",
    )
    .await
    .unwrap();
    pool.execute("ANALYZE event").await.unwrap();
    let scans = || async {
        let (sequential, by_index): (i64, i64) =
            sqlx::query_as("SELECT seq_scan, COALESCE(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'event'")
                .fetch_one(pool)
                .await
                .unwrap();
        (sequential, by_index)
    };
    eventually("the statistics have settled", || async {
        let before = scans().await;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        before == scans().await
    })
    .await;
    let before = scans().await;
    let view = homeroom::log::places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    let pages = homeroom::log::pages::Pages::new(log.db().clone(), 0);
    let head = read::head(log.db(), school.room).await.unwrap().unwrap().0;
    let mut reads = 0;
    let mut cursor = 0;
    while cursor < head {
        cursor =
            pages.missed((school.room, homeroom::log::pages::Holding(1)), &view, cursor, head).await.unwrap().until;
        reads += 1;
    }
    let conversation = Address::Announcements.conversation(school.room);
    for before in [None, Some(200), Some(100)] {
        read::history(log.db(), school.room, &view, conversation, before, 50).await.unwrap();
        read::last_visible(log.db(), school.room, &view, head).await.unwrap();
        read::at(log.db(), &[(school.room, 5)]).await.unwrap();
        reads += 3;
    }
    eventually("the statistics tell of it", || async { scans().await.1 >= before.1 + reads }).await;
    assert_eq!(scans().await.0, before.0, "no statement walked the table");
}

/// A server that may write no more than so many blocks: the disk is full, as far as it can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_sends_answer_an_error_reading_goes_on_and_the_database_stays_whole() {
    let ground = Ground::sqlite();
    let binary = env!("CARGO_BIN_EXE_homeroom");
    let folder = ground.folder.path().to_str().unwrap();
    let Demo { room, teachers, anas } = Demo::import(&ground).await;
    // Files may grow to 2.5 MiB; a write beyond fails instead of ending the process.
    let script = "trap '' XFSZ; ulimit -S -f 5120; exec \"$0\" serve --listen 127.0.0.1:0 --data-dir \"$1\"";
    let mut server = tokio::process::Command::new("sh")
        .args(["-c", script, binary, folder])
        .current_dir(repository())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("the server says where it listens");
        if let Some(address) = line.strip_prefix("listening on http://") {
            break address.parse().unwrap();
        }
    };
    let mut here = connect(address).await;
    here.say(json!({ "type": "hello", "token": teachers })).await;
    here.hear("caught_up").await;
    let text = "word ".repeat(1_500);
    let mut acknowledged = 0_i64;
    let (refused, refusal) = loop {
        let command = post(room, Address::Announcements, &text);
        let answer = here.ask_patiently_unless_full(command.clone()).await;
        if answer["type"] != "ack" {
            break (command, answer);
        }
        acknowledged += 1;
        assert!(acknowledged < 5_000, "the disk never got full");
    };
    assert_eq!((&refusal["code"], &refusal["retryable"]), (&json!("unavailable"), &json!(true)));
    assert!(acknowledged > 20, "{acknowledged}");
    let mut there = connect(address).await;
    there.say(json!({ "type": "hello", "token": anas, "positions": { room.to_string(): null } })).await;
    let mut events = 0;
    while events < acknowledged {
        events += i64::from(there.next().await.expect("reading goes on")["type"] == "event");
    }
    // There is room again.
    let process = server.id().unwrap().to_string();
    let room_is_made = tokio::process::Command::new("prlimit").args(["--fsize=unlimited:", "--pid", &process]).status();
    assert!(room_is_made.await.unwrap().success());
    assert_eq!(here.ask_until_acked(refused).await, acknowledged.unsigned_abs() + 1);
    server.start_kill().unwrap();
    server.wait().await.unwrap();

    let db = ground.open().await;
    let (state,): (String,) =
        homeroom::fetch_optional!(db.reads(), (String,), "PRAGMA integrity_check").unwrap().unwrap();
    assert_eq!(state, "ok");
    let (stored,): (i64,) = homeroom::fetch_optional!(
        db.reads(),
        (i64,),
        "SELECT COUNT(*) FROM event WHERE room_id = $1 AND kind = 'posted'",
        room.0
    )
    .unwrap()
    .unwrap();
    assert_eq!(stored, acknowledged + 1, "what was acknowledged is there, and nothing else");
}
