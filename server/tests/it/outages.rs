//! What the design's failure table says of whole nodes and of what they stand on: each line a test, mostly with processes of their own.
//!
//! Owns: killing and stopping nodes, stopping PostgreSQL, cutting networks, and turning the clock. Refuses to know: drains (see
//! `drain`), Redis that dies or forgets (see `bus`), the disk and torn commits (see `failures`).

use crate::node::{Ground, Node, Socket, connect, eventually, http, post};
use crate::postgres::Server;
use crate::process::{Demo, Process};
use crate::proxy::Proxy;
use crate::redis::Redis;
use homeroom::app::{self, Running};
use homeroom::bus::local::Exchange;
use homeroom::config::Config;
use homeroom::db::{Db, Location};
use homeroom::log::places;
use homeroom_protocol::{Address, PersonId, RoomId};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

pub fn url(location: &Location) -> String {
    match location {
        Location::Postgres(url) => url.clone(),
        Location::Sqlite(_) => panic!("not a PostgreSQL"),
    }
}

/// Another node's folder on the same database.
pub fn beside(ground: &Ground) -> Ground {
    Ground { folder: tempfile::tempdir().unwrap(), location: ground.location.clone() }
}

pub async fn session(node: SocketAddr, token: &str) -> Socket {
    let mut socket = connect(node).await;
    socket.say(json!({ "type": "hello", "token": token })).await;
    socket.hear("caught_up").await;
    socket
}

async fn is_ready(node: SocketAddr) -> bool {
    http().get(format!("http://{node}/health/ready")).send().await.unwrap().status() == 200
}

/// The number of the next event, and what it says.
pub async fn heard(socket: &mut Socket) -> (u64, String) {
    let event = socket.hear("event").await;
    let text = event["message"]["envelope"]["text"].as_str().unwrap_or_default().to_owned();
    (event["n"].as_u64().unwrap(), text)
}

/// A node is killed (-9): its people come back elsewhere, what was acknowledged is there, and nothing is there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_costs_a_reconnect() {
    let ground = Ground::postgres().await;
    let demo = Demo::import(&ground).await;
    let there = beside(&ground);
    let (node, other) = (Process::start(&ground, &[]).await, Process::start(&there, &[]).await);
    let (mut teacher, mut ana) = (node.session(&demo.teachers).await, other.session(&demo.anas).await);
    let posts: Vec<Value> =
        (1..=40).map(|number| post(demo.room, Address::Announcements, &number.to_string())).collect();
    for (number, post) in posts.iter().enumerate() {
        let mut post = post.clone();
        post["ref"] = json!(number);
        teacher.say(post).await;
    }
    // In the middle of it.
    let mut acknowledged = vec![teacher.hear("ack").await];
    node.signal("KILL");
    let killed = Instant::now();
    while let Ok(frame) = teacher.next().await {
        acknowledged.extend((frame["type"] == "ack").then_some(frame));
    }
    let mut teacher = other.session(&demo.teachers).await;
    for (number, post) in posts.iter().enumerate() {
        let again = teacher.ask_patiently(post.clone()).await;
        assert_eq!(again["n"], number + 1, "each is there once, where it was: {again}");
        let before = acknowledged.iter().find(|ack| ack["ref"] == number);
        assert!(before.is_none_or(|ack| ack["id"] == again["id"]), "what was acknowledged is what is there");
    }
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    for number in 1..=40 {
        assert_eq!(heard(&mut ana).await, (number, number.to_string()));
    }
}

/// A node is paused (SIGSTOP) inside a transaction: PostgreSQL ends it after two seconds, other nodes go on, and when it wakes it
/// delivers nothing to somebody who was put out of the room meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_paused_inside_a_transaction_stalls_nobody_and_wakes_without_telling_what_is_not_theirs() {
    let ground = Ground::postgres().await;
    let demo = Demo::import(&ground).await;
    let node = Process::start(&ground, &[]).await;
    let other = app::start(&beside(&ground).config()).await.unwrap();
    let mut sleeper = node.session(&demo.teachers).await;
    let mut ana = node.session(&demo.anas).await;
    let mut teacher = session(other.address, &demo.teachers).await;
    assert_eq!(teacher.post(demo.room, Address::Announcements, "before").await["n"], 1);
    assert_eq!(heard(&mut ana).await.0, 1);

    // The node's transaction has locked the room and waits to write client ids; then the node stops, and the way is free.
    let mut blocker = sqlx::PgConnection::connect(&url(&ground.location)).await.unwrap();
    blocker.execute("BEGIN; LOCK TABLE client_command IN EXCLUSIVE MODE").await.unwrap();
    let mut held = post(demo.room, Address::Announcements, "held");
    held["ref"] = json!(7);
    sleeper.say(held.clone()).await;
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the node waits inside its transaction", || async {
        let mut on = sqlx::PgConnection::connect(&url(&ground.location)).await.unwrap();
        let (waiting,): (i64,) = sqlx::query_as(waits).fetch_one(&mut on).await.unwrap();
        waiting > 0
    })
    .await;
    node.signal("STOP");
    blocker.execute("ROLLBACK").await.unwrap();
    let stopped = Instant::now();
    assert_eq!(teacher.ask_until_acked(post(demo.room, Address::Announcements, "goes on")).await, 2);
    let took = stopped.elapsed();
    // Two seconds until the lock is let go of, and the rest of a busy machine.
    assert!(took < Duration::from_millis(3_500), "another node's send waited {took:?}");

    put_out(&other, demo.room, &demo.anas).await;
    let put_out_at = Instant::now();
    teacher.post(demo.room, Address::Announcements, "not for Ana").await;
    // Two seconds after that nothing is handed to her any more, not even what was said while she was a member.
    tokio::time::sleep(Duration::from_millis(2_200).saturating_sub(put_out_at.elapsed())).await;
    node.signal("CONT");
    let frames = ana.until("left").await;
    assert!(frames.iter().all(|frame| frame["type"] != "event"), "told late: {frames:?}");
    // Its node slept too long to know what became of it, so it is said again; it is there once, at the end.
    assert_eq!(sleeper.hear("error").await["code"], "unavailable");
    assert_eq!(sleeper.ask_until_acked(held).await, 4);
    other.stop().await;
}

/// Ends somebody's places in a room.
async fn put_out(node: &Running, room: RoomId, token: &str) {
    let db = node.node.log.db();
    let person: PersonId = homeroom::identity::who(db, token).await.unwrap().unwrap().person;
    let places = places::of_person(db, person).await.unwrap();
    let view = &places.iter().find(|place| place.room == room).unwrap().view;
    let changes = view.students().map(|student| crate::node::guardian(person, student, false)).collect();
    node.node.log.change_members(room, changes).await.unwrap();
}

/// PostgreSQL restarts, and hangs: sends answer `unavailable` and go on by themselves, sessions stay, nothing is acknowledged that
/// was not committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_restarts_or_hangs_is_waited_for_by_everybody() {
    let postgres = Server::start("");
    let ground = Ground { folder: tempfile::tempdir().unwrap(), location: Location::Postgres(postgres.url()) };
    let node = Node::start(ground).await;
    let address = node.running.address;
    let (room, school) = (node.school.room, &node.school);
    let (mut teacher, mut ana) = (node.session(school.teacher).await, node.session(school.ana).await);
    ana.hear("caught_up").await;
    let mut expected = 1;
    for hangs in [false, true] {
        assert_eq!(teacher.post(room, Address::Announcements, "before").await["n"], expected);
        assert_eq!(heard(&mut ana).await.0, expected);
        let paused = hangs.then(|| postgres.pause());
        if !hangs {
            postgres.stop();
        }
        let command = post(room, Address::Announcements, "meanwhile");
        let began = Instant::now();
        let answer = teacher.ask(command.clone()).await;
        assert_eq!((&answer["code"], &answer["retryable"]), (&json!("unavailable"), &json!(true)), "{answer}");
        assert!(began.elapsed() < Duration::from_secs(10), "an author is not kept waiting: {:?}", began.elapsed());
        eventually("readiness turns red", || async { !is_ready(address).await }).await;
        drop(paused);
        if !hangs {
            postgres.run();
        }
        assert_eq!(teacher.ask_until_acked(command.clone()).await, expected + 1, "it is there once");
        assert_eq!(heard(&mut ana).await, (expected + 1, "meanwhile".to_owned()), "on the same session");
        eventually("readiness is green again", || async { is_ready(address).await }).await;
        expected += 2;
    }
    node.stop().await;
}

/// A network cut between one node and PostgreSQL: that node turns red and takes nothing, the other goes on, and afterwards both have
/// the same history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_from_postgres_turns_red_and_splits_no_history() {
    let ground = Ground::postgres().await;
    let cut_off = beside(&ground);
    let node = Node::start(ground).await;
    let proxy = Proxy::start(&url(&cut_off.location)).await;
    let behind = Config { database: Location::Postgres(proxy.url(&url(&cut_off.location))), ..cut_off.config() };
    let other = app::start_on(&behind, &Exchange::default()).await.unwrap();
    let (room, school) = (node.school.room, &node.school);
    let mut here = node.session(school.teacher).await;
    let mut there = session(other.address, node.token(school.teacher)).await;
    let mut ana = session(other.address, node.token(school.ana)).await;
    assert!(is_ready(other.address).await);

    proxy.hold(true);
    let lost = post(room, Address::Announcements, "from the node that is cut off");
    let answer = there.ask(lost.clone()).await;
    assert_eq!((&answer["code"], &answer["retryable"]), (&json!("unavailable"), &json!(true)), "{answer}");
    for number in 1..=5 {
        assert_eq!(here.post(room, Address::Announcements, "from the other one").await["n"], number);
    }
    eventually("readiness turns red", || async { !is_ready(other.address).await }).await;
    assert!(is_ready(node.running.address).await, "the other node is none the worse");
    // The packets that were held are lost, too.
    proxy.cut();
    proxy.hold(false);
    assert_eq!(there.ask_until_acked(lost.clone()).await, 6);
    for number in 1..=6 {
        assert_eq!(heard(&mut ana).await.0, number);
    }
    eventually("readiness is green again", || async { is_ready(other.address).await }).await;
    other.stop().await;
    node.stop().await;
}

/// A network cut between one node and Redis: both stay ready, and news take the bell's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_from_redis_stays_ready_and_hears_by_the_bell() {
    let redis = Redis::start().await;
    let proxy = Proxy::before_port(redis.port).await;
    let ground = Ground::postgres().await;
    let cut_off = beside(&ground);
    let node = Node::start_with(ground, vec![redis.url()]).await;
    let urls = vec![format!("redis://127.0.0.1:{}", proxy.port())];
    let other = app::start(&Config { redis_urls: urls, ..cut_off.config() }).await.unwrap();
    let (room, school) = (node.school.room, &node.school);
    let mut here = node.session(school.teacher).await;
    let mut there = session(other.address, node.token(school.ana)).await;
    eventually("both channels are confirmed", || async { other.bus.subscribed.load(Relaxed) == 2 }).await;
    let mut number = 0;
    // First nothing comes any more, and nobody knows; then the connections are gone, too, and new ones get no answer.
    proxy.hold(true);
    for is_noticed in [false, true] {
        if is_noticed {
            proxy.cut();
            eventually("it is noticed", || async { other.bus.connected.load(Relaxed) == 0 }).await;
        }
        for _ in 0..5 {
            number += 1;
            let began = Instant::now();
            assert_eq!(here.post(room, Address::Announcements, "x").await["n"], number);
            assert!(began.elapsed() < Duration::from_secs(1), "an acknowledgement waited for Redis");
            assert_eq!(heard(&mut there).await.0, number);
            assert!(began.elapsed() < Duration::from_secs(2), "it came after {:?}", began.elapsed());
        }
        assert!(is_ready(other.address).await && is_ready(node.running.address).await);
    }
    proxy.hold(false);
    eventually("news come through Redis again", || async { other.bus.subscribed.load(Relaxed) == 2 }).await;
    other.stop().await;
    node.stop().await;
}

/// The clock jumps, back and forth by days: times beside messages are odd, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_changes_no_order() {
    let ground = Ground::sqlite();
    let demo = Demo::import(&ground).await;
    let clock = ground.folder.path().join("clock");
    let turn = |by: &str| {
        // In one step: it is read at any time.
        let next = clock.with_extension("next");
        std::fs::write(&next, by).unwrap();
        std::fs::rename(&next, &clock).unwrap();
    };
    turn("+0d");
    // Only the clock of days: what measures durations does not jump on any machine.
    let node = Process::start_with(
        &ground,
        &[],
        &[
            ("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"),
            ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ],
    )
    .await;
    let (mut teacher, mut ana) = (node.session(&demo.teachers).await, node.session(&demo.anas).await);
    let mut times = Vec::new();
    let mut last = Value::Null;
    for (number, by) in ["+0d", "-2d", "+3d", "-9d", "+5d", "+0d"].into_iter().enumerate() {
        turn(by);
        let n = number as u64 + 1;
        assert_eq!(teacher.ask_until_acked(post(demo.room, Address::Announcements, by)).await, n);
        let event = ana.hear("event").await;
        assert_eq!((&event["n"], &event["message"]["envelope"]["text"]), (&json!(n), &json!(by)));
        times.push(event["at"].as_str().unwrap().to_owned());
        last = event["id"].clone();
    }
    assert!(!times.is_sorted(), "the clock did jump: {times:?}");
    // From the log, as history, and from a position of another time: by number, not by time.
    let conversation = Address::Announcements.conversation(demo.room);
    let page = ana.ask(json!({ "type": "history", "room": demo.room, "conversation": conversation })).await;
    let numbers: Vec<u64> = page["messages"].as_array().unwrap().iter().map(|it| it["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [6, 5, 4, 3, 2, 1]);
    turn("-20d");
    assert_eq!(teacher.ask_until_acked(post(demo.room, Address::Announcements, "long ago")).await, 7);
    let mut again = connect(node.address).await;
    let positions = json!({ demo.room.to_string(): last });
    again.say(json!({ "type": "hello", "token": demo.anas, "positions": positions })).await;
    assert_eq!(heard(&mut again).await, (7, "long ago".to_owned()));
    drop(node);
    let db = Db::open(&ground.location).await.unwrap();
    let entries = homeroom::log::read::after(&db, demo.room, 0, 1_000).await.unwrap();
    assert!(entries.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
}
