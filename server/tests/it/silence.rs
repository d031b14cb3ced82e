//! Ways to PostgreSQL that fall silent for ever while something is asked over them. New ones work: whoever asks has to find that out.
//!
//! Owns: silence in the middle of each kind of question. Refuses to know: a PostgreSQL that is gone or hangs (see `outages`), cut
//! commits (see `failures`), statements that the server cuts (see `bounds`).

use crate::node::{Ground, Node, School, Socket, connect, eventually, guardian, log, post};
use crate::outages::{beside, heard, session, url};
use crate::proxy::{Proxy, Silence};
use homeroom::app::{self, Running};
use homeroom::bus::local::Exchange;
use homeroom::config::Config;
use homeroom::db::{Db, Engine, Location};
use homeroom::log::{MarkUp, places, read};
use homeroom_protocol::Address;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use std::time::{Duration, Instant};

/// After a fault everything is heard within so long.
const REPAIR: Duration = Duration::from_secs(5);

/// A node beside another one, whose way to PostgreSQL can fall silent. The bell is all that it hears the other one by.
struct Behind {
    node: Node,
    other: Running,
    proxy: Proxy,
    database: String,
}

impl Behind {
    async fn start() -> Self {
        let ground = Ground::postgres().await;
        let database = url(&ground.location);
        let proxy = Proxy::start(&database).await;
        let behind = Config { database: Location::Postgres(proxy.url(&database)), ..beside(&ground).config() };
        let node = Node::start(ground).await;
        let other = app::start_on(&behind, &Exchange::default()).await.unwrap();
        Self { node, other, proxy, database }
    }

    async fn direct(&self) -> PgConnection {
        PgConnection::connect(&self.database).await.unwrap()
    }

    /// Nobody reads or writes the table until what this gives is gone.
    async fn lock(&self, table: &str) -> PgConnection {
        let mut on = self.direct().await;
        on.execute(sqlx::AssertSqlSafe(format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))).await.unwrap();
        on
    }

    /// Waits until somebody waits for the lock; then ways fall silent, theirs among them, and the lock goes.
    async fn silence_in_the_middle(&self, which: Silence, lock: PgConnection) -> Instant {
        let waits =
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("something is being asked", || async {
            let (waiting,): (i64,) = sqlx::query_as(waits).fetch_one(&mut self.direct().await).await.unwrap();
            waiting > 0
        })
        .await;
        self.proxy.silence(which);
        lock.close().await.unwrap();
        Instant::now()
    }

    /// A session at the node behind, from the beginning of what its member may see.
    async fn come_from_the_beginning(&self, token: &str) -> Socket {
        let mut socket = connect(self.other.address).await;
        let positions = json!({ self.node.school.room.to_string(): null });
        socket.say(json!({ "type": "hello", "token": token, "positions": positions })).await;
        socket
    }

    async fn stop(self) {
        self.other.stop().await;
        self.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_is_filled_over_another_way_when_its_reading_hangs() {
    let behind = Behind::start().await;
    let (room, school) = (behind.node.school.room, &behind.node.school);
    let mut teacher = behind.node.session(school.teacher).await;
    let mut ana = session(behind.other.address, behind.node.token(school.ana)).await;
    assert_eq!(teacher.post(room, Address::Announcements, "before").await["n"], 1);
    assert_eq!(heard(&mut ana).await.0, 1);
    for (n, which) in [(2, Silence::OfWaiting), (3, Silence::OfAll)] {
        let given_up = behind.other.node.log.db().given_up();
        // Told by the bell only once the log can't be read.
        behind.proxy.hold(true);
        assert_eq!(teacher.post(room, Address::Announcements, "meanwhile").await["n"], n);
        let lock = behind.lock("event").await;
        behind.proxy.hold(false);
        let silent = behind.silence_in_the_middle(which, lock).await;
        // In a quiet room nothing else shows the hole.
        assert_eq!(heard(&mut ana).await, (n, "meanwhile".to_owned()));
        assert!(silent.elapsed() < REPAIR, "{:?}", silent.elapsed());
        eventually(&format!("it is counted for {n}"), || async { behind.other.node.log.db().given_up() > given_up })
            .await;
    }
    behind.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_read_over_another_way_when_its_reading_hangs() {
    let behind = Behind::start().await;
    let (room, school) = (behind.node.school.room, &behind.node.school);
    let mut teacher = behind.node.session(school.teacher).await;
    assert_eq!(teacher.post(room, Address::Announcements, "first").await["n"], 1);
    let lock = behind.lock("event").await;
    // All of them wait for one page.
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut reader = behind.come_from_the_beginning(behind.node.token(school.teacher)).await;
        reader.hear("welcome").await;
        readers.push(reader);
    }
    let silent = behind.silence_in_the_middle(Silence::OfWaiting, lock).await;
    for reader in &mut readers {
        let frames = reader.until("caught_up").await;
        assert!(frames.iter().any(|frame| frame["message"]["envelope"]["text"] == "first"), "{frames:?}");
    }
    assert!(silent.elapsed() < REPAIR, "{:?}", silent.elapsed());
    behind.stop().await;
}

/// Whoever signs in meanwhile is sent away, and comes back to a node that answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_in_while_the_way_falls_silent_is_let_in_the_next_time() {
    let behind = Behind::start().await;
    let (room, school) = (behind.node.school.room, &behind.node.school);
    let mut teacher = behind.node.session(school.teacher).await;
    assert_eq!(teacher.post(room, Address::Announcements, "first").await["n"], 1);
    let lock = behind.lock("login").await;
    let mut ana = behind.come_from_the_beginning(behind.node.token(school.ana)).await;
    let silent = behind.silence_in_the_middle(Silence::OfWaiting, lock).await;
    assert_eq!(ana.closed().await, homeroom_protocol::CloseCode::Unavailable.number());
    let mut ana = behind.come_from_the_beginning(behind.node.token(school.ana)).await;
    assert_eq!(heard(&mut ana).await.0, 1);
    assert!(silent.elapsed() < REPAIR, "{:?}", silent.elapsed());
    behind.stop().await;
}

/// Posts, changes of membership and marks: what was under way is done once, and the next one is not held up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_while_the_way_falls_silent_is_there_once() {
    let behind = Behind::start().await;
    let (room, school) = (behind.node.school.room, &behind.node.school);
    let log = behind.other.node.log.clone();
    let mut teacher = session(behind.other.address, behind.node.token(school.teacher)).await;

    let lock = behind.lock("client_command").await;
    let posting = teacher.ask_until_acked(post(room, Address::Announcements, "first"));
    let (n, silent) = tokio::join!(posting, behind.silence_in_the_middle(Silence::OfWaiting, lock));
    assert_eq!(n, 1);
    assert!(silent.elapsed() < REPAIR, "a post: {:?}", silent.elapsed());

    let lock = behind.lock("membership").await;
    let leaves = vec![guardian(school.ana, school.anas_child, false)];
    let (changed, silent) =
        tokio::join!(log.change_members(room, leaves), behind.silence_in_the_middle(Silence::OfWaiting, lock));
    changed.unwrap();
    assert!(silent.elapsed() < REPAIR, "a change of membership: {:?}", silent.elapsed());
    assert!(places::of_person(log.db(), school.ana).await.unwrap().is_empty());
    assert_eq!(teacher.post(room, Address::Announcements, "second").await["n"], 2, "the lane goes on");

    let conversation = Address::Announcements.conversation(room);
    let mark = MarkUp { room, conversation, person: school.ben, delivered: 1, read: 0 };
    let lock = behind.lock("mark").await;
    let (lost, silent) = tokio::join!(log.mark(mark), behind.silence_in_the_middle(Silence::OfWaiting, lock));
    assert!(lost.is_err(), "nobody knows what became of it");
    log.mark(mark).await.unwrap();
    assert!(silent.elapsed() < Duration::from_secs(7), "a mark: {:?}", silent.elapsed());
    behind.stop().await;
}

/// What was silent while nothing was asked costs the next question half a second, and no other one anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fell_silent_while_they_rested_are_made_anew() {
    let ground = Ground::postgres().await;
    let database = url(&ground.location);
    let proxy = Proxy::start(&database).await;
    let school = School::open(&log(&ground).await).await;
    let db = Db::open(&Location::Postgres(proxy.url(&database))).await.unwrap();
    let question = || async { read::head(&db, school.room).await.unwrap().unwrap().0 };
    // As many connections as there may be.
    let all = futures_util::future::join_all((0..64).map(|_| question())).await;
    assert!(all.iter().all(|seq| *seq == 3), "{all:?}");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    proxy.silence(Silence::OfAll);
    let began = Instant::now();
    for _ in 0..8 {
        assert_eq!(question().await, 3);
    }
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    db.close().await;
}

/// A statement that is dropped before its answer came must not leave that answer to the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_next_never_gets_the_answer_to_a_question_that_was_dropped() {
    let ground = Ground::postgres().await;
    let db = ground.open().await;
    let (Engine::Postgres(reads), Engine::Postgres(writes)) = (db.reads(), db.writes()) else { panic!() };
    for number in 0..400_i64 {
        // Some are dropped while they connect, some while their statement is prepared, some while they are answered.
        let patience = Duration::from_micros(37 * (number.unsigned_abs() % 50));
        for pool in [reads, writes] {
            let asked = sqlx::query_as("SELECT $1, pg_sleep(0.001)::text").bind(number).fetch_one(pool);
            if let Ok(answer) = tokio::time::timeout(patience, asked).await {
                let (answer, _): (i64, Option<String>) = answer.unwrap();
                assert_eq!(answer, number);
            }
            let (answer,): (i64,) = sqlx::query_as("SELECT $1").bind(-number).fetch_one(pool).await.unwrap();
            assert_eq!(answer, -number);
        }
        let mut tx = db.begin().await.unwrap();
        let asked = async { homeroom::fetch_optional!(tx.on(), (Option<String>,), "SELECT pg_sleep(0.001)::text") };
        if tokio::time::timeout(patience, asked).await.is_err() {
            assert!(tx.commit().await.is_err(), "what was dropped in the middle is not committed");
        }
    }
    assert_eq!((reads.free(), writes.free()), (reads.most() as usize, writes.most() as usize), "every place is free");
    db.close().await;
}
