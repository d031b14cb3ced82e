//! What was read a moment ago and is not so any more.
//!
//! Owns: pages of several rooms of which one takes long, a log that is put back while it is being read, and who somebody was when it was asked.
//! Refuses to know: what edits and retractions do to what is kept (see `live` and `log`).

use crate::node::{Ground, Node, School, connect, eventually, guardian, log, staff};
use crate::outages::{beside, session, url};
use crate::proxy::Proxy;
use chrono::{DateTime, Utc};
use homeroom::app;
use homeroom::bus::local::Exchange;
use homeroom::bus::{Bus, News, Waiting};
use homeroom::config::Config;
use homeroom::db::{Db, Location};
use homeroom::live::listening::Listening;
use homeroom::live::tail::{Held, Tails};
use homeroom::log::bell::Bell;
use homeroom::log::{Append, Log, Sight, What, read};
use homeroom::trace::Traces;
use homeroom_protocol::{Address, ClientId, Draft, Language, RoomId};
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// What was read of one room is shown while another room's page is still being read: kept until that one is there, it would show messages
/// as they were, and not as they stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_offered_when_it_was_read_and_waits_for_no_other() {
    let ground = Ground::postgres().await;
    let (there, database) = (beside(&ground), url(&ground.location));
    let node = Node::start(ground).await;
    let (quick, slow, teacher) = (node.school.room, RoomId::new(), node.school.teacher);
    let text = "INSERT INTO room (id, district_id, kind, school_id, class_id, title)
                SELECT $1, district_id, 'school', school_id, NULL, 'Read after Class 4B' FROM room WHERE id = $2";
    homeroom::execute!(node.log().db().writes(), text, slow.0, quick.0).unwrap();
    node.log().change_members(slow, vec![staff(teacher, true)]).await.unwrap();
    let mut here = node.session(teacher).await;
    let mut posted = Vec::new();
    for room in [quick, slow] {
        posted.push(here.post(room, Address::Announcements, "read").await["id"].clone());
    }
    // Another node, in whose memory nothing is but what it reads.
    let other = app::start_on(&there.config(), &Exchange::default()).await.unwrap();
    let from_the_beginning = json!({
        "type": "hello", "token": node.token(teacher), "positions": { quick.to_string(): null, slow.to_string(): null },
    });
    let mut first = connect(other.address).await;
    first.say(from_the_beginning.clone()).await;
    first.until("caught_up").await;
    first.until("caught_up").await;
    // Both pages are kept now; this makes one of them be read again.
    let draft = json!({ "language": "en", "text": "edited" });
    let client_id = ClientId::new();
    let edit = json!({ "type": "edit", "room": slow, "client_id": client_id, "message": posted[1], "draft": draft });
    assert_eq!(first.ask(edit).await["type"], "ack");
    let mut lock = PgConnection::connect(&database).await.unwrap();
    lock.execute("BEGIN; LOCK TABLE event IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut second = connect(other.address).await;
    second.say(from_the_beginning).await;
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the other page is being read", || async {
        let mut on = PgConnection::connect(&database).await.unwrap();
        let (waiting,): (i64,) = sqlx::query_as(waits).fetch_one(&mut on).await.unwrap();
        waiting > 0
    })
    .await;
    // It was said before that reading began, which is cut after two seconds.
    let shown = async {
        let frames = second.until("caught_up").await;
        let of_quick = frames.iter().filter(|frame| frame["room"] == json!(quick));
        assert!(of_quick.clone().any(|frame| frame["message"]["id"] == posted[0]), "{frames:?}");
        assert!(of_quick.clone().any(|frame| frame["type"] == "caught_up"), "{frames:?}");
    };
    tokio::time::timeout(Duration::from_secs(1), shown).await.expect("it does not wait for the other page");
    lock.close().await.unwrap();
    let frames = second.until("caught_up").await;
    let shown = |text: &str| frames.iter().any(|frame| frame["message"]["envelope"]["text"] == text);
    assert!(shown("edited") && !shown("read"), "{frames:?}");
    other.stop().await;
    node.stop().await;
}

/// Nobody can be told that they were put into a room, or that they are signed out, while it is still being asked who they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_of_somebody_before_it_is_known_who_they_are_is_not_missed() {
    let ground = Ground::postgres().await;
    let database = url(&ground.location);
    let proxy = Proxy::start(&database).await;
    let exchange = Exchange::default();
    let behind = Config { database: Location::Postgres(proxy.url(&database)), ..beside(&ground).config() };
    let node = Node::start_on(ground, &exchange).await;
    let other = app::start_on(&behind, &exchange).await.unwrap();
    let (room, school) = (node.school.room, &node.school);
    // So that the room is held there, and what changes in it is heard at once.
    let _ana = session(other.address, node.token(school.ana)).await;
    node.log().change_members(room, vec![guardian(school.ben, school.bens_child, false)]).await.unwrap();

    let mut on = PgConnection::connect(&database).await.unwrap();
    // Gives a session of Ben's that was asked for, with the answer still on its way.
    let mut come = async || {
        let (now,): (DateTime<Utc>,) = sqlx::query_as("SELECT clock_timestamp()").fetch_one(&mut on).await.unwrap();
        proxy.hold_answers(true);
        let mut ben = connect(other.address).await;
        ben.say(json!({ "type": "hello", "token": node.token(school.ben) })).await;
        let on = tokio::sync::Mutex::new(&mut on);
        eventually("it was asked who that is", || async {
            let answered = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
                            AND query LIKE '%token_hash%' AND state_change > $1";
            let (answered,): (i64,) =
                sqlx::query_as(answered).bind(now).fetch_one(&mut **on.lock().await).await.unwrap();
            answered > 0
        })
        .await;
        ben
    };

    let mut ben = come().await;
    node.log().change_members(room, vec![guardian(school.ben, school.bens_child, true)]).await.unwrap();
    // What is told in one process is there long before.
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.hold_answers(false);
    let welcome = ben.hear("welcome").await;
    assert_eq!(welcome["rooms"][0]["room"], json!(room), "{welcome}");

    let mut ben = come().await;
    let who = homeroom::identity::who(node.log().db(), node.token(school.ben)).await.unwrap().unwrap();
    homeroom::identity::sign_out(node.log().db(), who.login).await.unwrap();
    node.running.node.signed_out(who.login);
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.hold_answers(false);
    assert_eq!(ben.closed().await, homeroom_protocol::CloseCode::Unauthenticated.number());
    other.stop().await;
    node.stop().await;
}

struct Silent;

impl Bus for Silent {
    fn publish(&self, _: News) {}
    fn hold(&self, _: RoomId) {}
    fn release(&self, _: RoomId) {}
    fn waiting(&self) -> Waiting {
        Waiting::default()
    }
}

/// Says something; gives its seq.
async fn announce(log: &Log, school: &School) -> i64 {
    let draft = Draft { language: Language::english(), text: "as it was said".to_owned(), protected: Vec::new() };
    let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
    let what = What::Post { to: Address::Announcements, envelope, urgent: false };
    let command = Append { room: school.room, author: school.teacher, client_id: ClientId::new(), what, turn: None };
    log.append(command).await.unwrap();
    read::head(log.db(), school.room).await.unwrap().unwrap().0
}

/// A process that was stopped for seconds wakes up with what it knew before. Nothing of that may be shown once delivery goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_back_while_a_node_was_stopped_is_known_before_it_delivers_again() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let db = Db::open(&ground.location).await.unwrap();
    let bell = Bell::begin(db.clone()).await.unwrap();
    let tails = Tails::new(db, Arc::new(Silent), true, Traces::off());
    let mut listening = Listening::new(bell, tails.clone());
    let Held { head: before, holding } = tails.hold(school.room, 0).await.unwrap();
    announce(&log, &school).await;
    listening.look().await.unwrap();
    eventually("it is known", || async { tails.head(school.room).unwrap().seq == before.seq + 1 }).await;
    let shown = || {
        let entries = tails.after((school.room, holding), before.seq).unwrap();
        entries[0].payload(Sight::Full).map(|frame| String::from_utf8_lossy(frame).contains("as it was said"))
    };
    assert_eq!((tails.may_deliver(), shown()), (true, Some(true)));

    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert!(!tails.may_deliver());
    let what = What::Retract { message: tails.head(school.room).unwrap().event.unwrap() };
    let (room, author) = (school.room, school.teacher);
    log.append(Append { room, author, client_id: ClientId::new(), what, turn: None }).await.unwrap();
    listening.look().await.unwrap();
    assert_eq!((tails.may_deliver(), shown()), (true, Some(false)));
}

/// The log is put back after a reading saw it, and before the reading is done something comes that could not be in the log as it was
/// read. What was read says that all is well; it has to be read once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_suspected_while_a_tail_is_filled_is_looked_at_again() {
    let ground = Ground::postgres().await;
    let (log, database) = (log(&ground).await, url(&ground.location));
    let school = School::open(&log).await;
    let room = school.room;
    let proxy = Proxy::start(&database).await;
    let behind = Db::open(&Location::Postgres(proxy.url(&database))).await.unwrap();
    let tails = Tails::new(behind, Arc::new(Silent), true, Traces::off());
    tails.hold(room, 0).await.unwrap();
    let filled = |seq: i64| {
        let tails = tails.clone();
        async move { tails.head(room).unwrap().seq == seq }
    };
    // So that the connection is there, and knows the statement: the next reading is one question and one answer.
    let known = announce(&log, &school).await;
    tails.ring(room, known);
    eventually("the tail is filled", || filled(known)).await;

    let mut direct = PgConnection::connect(&database).await.unwrap();
    let head = announce(&log, &school).await;
    proxy.hold_answers(true);
    let asked = now(&mut direct).await;
    tails.ring(room, head);
    was_asked(&mut direct, "%e.seq > $2%", asked).await;
    assert_eq!(tails.head(room).unwrap().seq, known, "no answer has come yet");
    for text in [
        "UPDATE event SET id = gen_random_uuid() WHERE room_id = $1 AND seq >= $2",
        "UPDATE room SET last_event_id = (SELECT id FROM event WHERE room_id = $1 AND seq = last_seq) WHERE id = $1 AND last_seq > $2",
    ] {
        sqlx::query(text).bind(room.0).bind(known).execute(&mut direct).await.unwrap();
    }
    let contradicts = read::after(log.db(), room, known - 1, 1).await.unwrap();
    let contradicts: Vec<_> = contradicts.into_iter().map(Arc::new).collect();
    assert_eq!((contradicts.len(), contradicts[0].seq), (1, known));
    tails.accept(&contradicts);
    proxy.hold_answers(false);
    eventually("it is read again", || async { tails.counts().rewritten.load(Relaxed) == 1 }).await;
}

/// The database's clock.
async fn now(on: &mut PgConnection) -> DateTime<Utc> {
    let (now,): (DateTime<Utc>,) = sqlx::query_as("SELECT clock_timestamp()").fetch_one(on).await.unwrap();
    now
}

/// Waits until PostgreSQL has answered such a statement: it saw what was committed by then, wherever its answer is.
async fn was_asked(on: &mut PgConnection, statement: &str, since: DateTime<Utc>) {
    let text = "SELECT COUNT(*) FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE $1 AND state = 'idle' AND query_start > $2";
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let asked = sqlx::query_as(text).bind(statement).bind(since);
        let (asked,): (i64,) = asked.fetch_one(&mut *on).await.unwrap();
        if asked > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "never asked: {statement}");
        tokio::task::yield_now().await;
    }
}

/// A node's tails, which hear of others by the bell alone and whose answers can be held back.
struct Reading {
    log: Log,
    school: School,
    proxy: Proxy,
    tails: Tails,
    listening: Listening,
    direct: PgConnection,
    _ground: Ground,
}

impl Reading {
    async fn start() -> Self {
        let ground = Ground::postgres().await;
        let (log, database) = (log(&ground).await, url(&ground.location));
        let school = School::open(&log).await;
        let proxy = Proxy::start(&database).await;
        let behind = Db::open(&Location::Postgres(proxy.url(&database))).await.unwrap();
        let bell = Bell::begin(Db::open(&ground.location).await.unwrap()).await.unwrap();
        let tails = Tails::new(behind, Arc::new(Silent), true, Traces::off());
        let mut listening = Listening::new(bell, tails.clone());
        listening.look().await.unwrap();
        // So that a connection is there, and knows the statement: the next reading is one question and one answer.
        tails.hold(RoomId::new(), 0).await.unwrap();
        let direct = PgConnection::connect(&database).await.unwrap();
        Self { log, school, proxy, tails, listening, direct, _ground: ground }
    }

    /// Begins to hold the room; its head has been read, and the answer is on its way.
    async fn hold(&mut self) -> JoinHandle<Held> {
        self.proxy.hold_answers(true);
        let asked = now(&mut self.direct).await;
        let (tails, room) = (self.tails.clone(), self.school.room);
        let holding = tokio::spawn(async move { tails.hold(room, 0).await.unwrap() });
        was_asked(&mut self.direct, "%last_event_id FROM room%", asked).await;
        holding
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_bell_tells_while_a_room_is_read_is_read_too() {
    let mut reading = Reading::start().await;
    let room = reading.school.room;
    let holding = reading.hold().await;
    let first = announce(&reading.log, &reading.school).await;
    reading.listening.look().await.unwrap();
    reading.proxy.hold_answers(false);
    assert_eq!(holding.await.unwrap().head.seq, first - 1, "it was read before");
    let tails = reading.tails.clone();
    let is_known = |seq: i64| {
        let tails = tails.clone();
        async move { tails.head(room).unwrap().seq == seq }
    };
    eventually("what was told while the head was read is known", || is_known(first)).await;

    // The same while a hole is filled.
    let second = announce(&reading.log, &reading.school).await;
    reading.proxy.hold_answers(true);
    let asked = now(&mut reading.direct).await;
    reading.listening.look().await.unwrap();
    was_asked(&mut reading.direct, "%e.seq > $2%", asked).await;
    let third = announce(&reading.log, &reading.school).await;
    reading.listening.look().await.unwrap();
    assert_eq!(tails.head(room).unwrap().seq, first, "no answer has come yet");
    reading.proxy.hold_answers(false);
    assert_eq!((second, third), (first + 1, first + 2));
    eventually("what was told while a hole was filled is known", || is_known(third)).await;
}

/// Who leaves while a room is read must not be given a seat by how the room was before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_while_a_room_is_read_has_left_when_it_is_held() {
    let mut reading = Reading::start().await;
    let holding = reading.hold().await;
    let school = &reading.school;
    let leaves = guardian(school.ana, school.anas_child, false);
    reading.log.change_members(school.room, vec![leaves]).await.unwrap();
    let left = read::head(reading.log.db(), school.room).await.unwrap().unwrap().0;
    let asked = now(&mut reading.direct).await;
    let mut listening = reading.listening;
    let looking = tokio::spawn(async move { listening.look().await.unwrap() });
    // It asks for members last, once it has taken in what was told; or for a connection to ask over, whose answer is held, too.
    let direct = Mutex::new(reading.direct);
    eventually("it has taken in what was told", || async {
        let text = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND (backend_start > $1 OR query_start > $1 AND query LIKE 'SELECT DISTINCT room_id%')";
        let (asks,): (i64,) = sqlx::query_as(text).bind(asked).fetch_one(&mut *direct.lock().await).await.unwrap();
        asks > 0
    })
    .await;
    reading.proxy.hold_answers(false);
    assert_eq!(holding.await.unwrap().head.seq, left);
    looking.await.unwrap();
    assert!(reading.tails.may_deliver());
}
