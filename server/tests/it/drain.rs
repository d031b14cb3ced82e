//! How a server leaves when it is asked to: each clause of it on a process of its own.

use crate::node::{Ground, Socket, eventually, http, post};
use crate::process::{Demo, Process};
use homeroom::db::{Db, Location};
use homeroom_protocol::{Address, RoomId};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A class on SQLite, and the means to hold up what is being stored.
struct Scene {
    ground: Ground,
    room: RoomId,
    teachers: String,
    anas: String,
}

impl Scene {
    async fn set() -> Self {
        let ground = Ground::sqlite();
        let Demo { room, teachers, anas } = Demo::import(&ground).await;
        Self { ground, room, teachers, anas }
    }

    /// Another process writes: whatever is to be stored waits, five seconds at most.
    async fn hold_up(&self) -> SqliteConnection {
        let Location::Sqlite(file) = &self.ground.location else { panic!("not SQLite") };
        let mut writer = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
        // The server may be writing itself just then.
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = writer.execute("BEGIN IMMEDIATE").await {
            assert!(Instant::now() < deadline, "{error}");
        }
        writer
    }

    fn post(&self, reference: u32, text: &str) -> Value {
        let mut post = post(self.room, Address::Announcements, text);
        post["ref"] = json!(reference);
        post
    }
}

async fn ready(server: &Process) -> (u16, Value) {
    let answer = http().get(server.url("/health/ready")).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Tells a server to leave, and waits until it knows.
async fn drain(server: &Process) {
    server.signal("TERM");
    eventually("readiness turns red", || async { ready(server).await.0 == 503 }).await;
}

/// The answer to an upgrade request: its head.
async fn upgrade(server: &Process) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: homeroom.v1\r\n\r\n",
        server.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The delay that a session is told, and the close code after it.
async fn sent_away(socket: &mut Socket) -> (u64, u16) {
    let bye = socket.hear("bye").await;
    assert_eq!(bye["reason"], "draining");
    (bye["reconnect_after_ms"].as_u64().unwrap(), socket.closed().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_finished_and_nothing_new_is() {
    let scene = Scene::set().await;
    let mut server = Process::start(&scene.ground, &["--drain-seconds", "20"]).await;
    let (mut teacher, mut ana) = (server.session(&scene.teachers).await, server.session(&scene.anas).await);
    assert_eq!(ready(&server).await.0, 200);
    let mut writer = scene.hold_up().await;
    teacher.say(scene.post(1, "said before it was asked to leave")).await;
    // Its answer to this means that it has read the post before.
    teacher.say(json!({ "type": "typing", "ref": 2, "room": scene.room, "to": { "kind": "announcements" } })).await;
    assert_eq!(teacher.hear("ack").await["ref"], 2);

    drain(&server).await;
    let (status, body) = ready(&server).await;
    assert_eq!((status, &body["reasons"]), (503, &json!(["draining"])));
    assert_eq!(http().get(server.url("/health/live")).send().await.unwrap().status(), 200, "it is not dead");
    let refused = upgrade(&server).await.to_lowercase();
    assert!(refused.starts_with("http/1.1 503 ") && refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert_eq!(sent_away(&mut ana).await.1, 1012, "who waits for nothing goes first");
    teacher.say(scene.post(3, "said too late")).await;

    writer.execute("ROLLBACK").await.unwrap();
    let ack = teacher.hear("ack").await;
    assert_eq!((&ack["ref"], &ack["n"]), (&json!(1), &json!(1)));
    assert_eq!(sent_away(&mut teacher).await.1, 1012);
    assert!(server.ended(Duration::from_secs(15)).await.success());

    // What was said too late was not acknowledged, and is not there; its client says it again elsewhere.
    let db = scene.ground.open().await;
    let texts: Vec<(String,)> =
        homeroom::fetch_all!(db.reads(), (String,), "SELECT body FROM event WHERE kind = 'posted'").unwrap();
    assert_eq!(texts.len(), 1);
    assert!(texts[0].0.contains("said before it was asked to leave"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_told_a_moment_of_their_own() {
    let scene = Scene::set().await;
    let mut server = Process::start(&scene.ground, &["--drain-seconds", "8"]).await;
    let mut sessions = Vec::new();
    for number in 0..24 {
        sessions.push(server.session(if number % 2 == 0 { &scene.teachers } else { &scene.anas }).await);
    }
    server.signal("TERM");
    let mut delays = Vec::new();
    for session in &mut sessions {
        let (delay, code) = sent_away(session).await;
        assert_eq!(code, 1012);
        delays.push(delay);
    }
    delays.sort_unstable();
    // Of 24 random moments in 8 s some are early and some late: that all are in one half happens once in 8,000,000 runs.
    assert!(delays[0] < 4_000 && delays[23] >= 4_000 && delays[23] < 8_000, "{delays:?}");
    assert!(server.ended(Duration::from_secs(10)).await.success());
}

/// Whoever does not leave by themselves is left: a session whose command is not answered, one that does not read, an HTTP
/// connection kept for later, and one that never asked for anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_leaves_within_the_window_whoever_stays() {
    let scene = Scene::set().await;
    let window = Duration::from_secs(3);
    let mut server = Process::start(&scene.ground, &["--drain-seconds", "3"]).await;
    let mut teacher = server.session(&scene.teachers).await;
    let mut stuck = server.session(&scene.anas).await;
    let text = "word ".repeat(1_500);
    for _ in 0..40 {
        let posted = teacher.ask_patiently(post(scene.room, Address::Announcements, &text)).await;
        assert_eq!(posted["type"], "ack");
    }
    // Asked for again and again and never read: more than the socket's buffers hold.
    let conversation = Address::Announcements.conversation(scene.room);
    for reference in 0..40 {
        let history = json!({ "type": "history", "ref": reference, "room": scene.room, "conversation": conversation });
        stuck.say(history).await;
    }
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let kept = http();
    assert_eq!(kept.get(server.url("/health/live")).send().await.unwrap().text().await.unwrap(), "live\n");
    let _writer = scene.hold_up().await;
    teacher.say(scene.post(1_000_000, "not answered in time")).await;

    let asked = Instant::now();
    server.signal("TERM");
    server.ended(window * 4).await;
    let took = asked.elapsed();
    assert!(took < window + Duration::from_secs(1), "left after {took:?} with a window of {window:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_leaves_at_once() {
    let scene = Scene::set().await;
    let mut server = Process::start(&scene.ground, &["--drain-seconds", "60"]).await;
    let mut teacher = server.session(&scene.teachers).await;
    let _writer = scene.hold_up().await;
    teacher.say(scene.post(1, "holds the first one up")).await;
    drain(&server).await;
    let asked = Instant::now();
    server.signal("TERM");
    let status = server.ended(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(1), "it says that it did not finish");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    // Nothing was promised, and the next one finds a whole database.
    drop(teacher);
    drop(_writer);
    let db = Db::open(&scene.ground.location).await.unwrap();
    let (state,): (String,) =
        homeroom::fetch_optional!(db.reads(), (String,), "PRAGMA integrity_check").unwrap().unwrap();
    assert_eq!(state, "ok");
}
