//! What tests need to stand on: a database of either engine, a small school, a node, a WebSocket.
//!
//! Owns: making these. Refuses to know: what is asserted about them.

use futures_util::{SinkExt, StreamExt};
use homeroom::app::{self, Running};
use homeroom::bus::local::Exchange;
use homeroom::config::Config;
use homeroom::db::{Db, Location};
use homeroom::identity;
use homeroom::log::{Listeners, Log, MemberChange, read};
use homeroom_protocol::{Address, PersonId, Role, RoomId};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use uuid::Uuid;

/// Runs a test on both engines, each time with an empty database.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::node::Ground::sqlite()).await })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::node::Ground::postgres().await).await })*
        }
    };
}

/// An HTTP client. Built with the whole workspace, reqwest speaks TLS and wants to be told by which library, also for plain http.
pub fn http() -> reqwest::Client {
    let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A folder and a database.
pub struct Ground {
    pub folder: TempDir,
    pub location: Location,
}

impl Ground {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("homeroom.db"));
        Self { folder, location }
    }

    pub async fn postgres() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), location: Location::Postgres(crate::postgres::database().await) }
    }

    pub fn config(&self) -> Config {
        Config { database: self.location.clone(), ..Config::for_tests(self.folder.path()) }
    }

    pub async fn open(&self) -> Db {
        Db::open(&self.location).await.unwrap()
    }
}

/// One class: a teacher, and two guardians of a student each.
pub struct School {
    pub room: RoomId,
    pub teacher: PersonId,
    pub ana: PersonId,
    pub anas_child: PersonId,
    pub ben: PersonId,
    pub bens_child: PersonId,
}

impl School {
    /// Writes the people and the room; nobody is in it yet.
    pub async fn found(db: &Db) -> Self {
        let (district, school, course, class) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let now = chrono::Utc::now();
        let digest = vec![1_u8];
        homeroom::execute!(
            db.writes(),
            "INSERT INTO district (id, name, created_at) VALUES ($1, 'D', $2)",
            district,
            now
        )
        .unwrap();
        homeroom::execute!(
            db.writes(),
            "INSERT INTO school (id, district_id, source_id, source_digest, name, kind) VALUES ($1, $2, 's', $3, 'S', 'school')",
            school, district, &digest
        )
        .unwrap();
        homeroom::execute!(
            db.writes(),
            "INSERT INTO course (id, district_id, source_id, source_digest, title, school_id) VALUES ($1, $2, 'c', $3, 'C', $4)",
            course, district, &digest, school
        )
        .unwrap();
        homeroom::execute!(
            db.writes(),
            "INSERT INTO class (id, district_id, source_id, source_digest, title, kind, course_id, school_id)
             VALUES ($1, $2, 'k', $3, 'Class 4B', 'homeroom', $4, $5)",
            class,
            district,
            &digest,
            course,
            school
        )
        .unwrap();
        let room = RoomId::new();
        homeroom::execute!(
            db.writes(),
            "INSERT INTO room (id, district_id, kind, school_id, class_id, title) VALUES ($1, $2, 'class', $3, $4, 'Class 4B')",
            room.0, district, school, class
        )
        .unwrap();
        let mut people = Vec::new();
        for (given, family) in
            [("Tea", "Cher"), ("Ana", "Silva"), ("Maria", "Silva"), ("Ben", "Okafor"), ("Jon", "Okafor")]
        {
            let person = PersonId::new();
            homeroom::execute!(
                db.writes(),
                "INSERT INTO person (id, district_id, source_id, source_digest, username, given_name, family_name)
                 VALUES ($1, $2, $3, $4, $3, $5, $6)",
                person.0,
                district,
                format!("{given}.{family}").to_lowercase(),
                &digest,
                given,
                family
            )
            .unwrap();
            people.push(person);
        }
        let [teacher, ana, anas_child, ben, bens_child] = people[..] else { unreachable!() };
        for child in [anas_child, bens_child] {
            homeroom::execute!(
                db.writes(),
                "INSERT INTO enrollment (id, district_id, source_id, source_digest, class_id, person_id, role)
                 VALUES ($1, $2, $3, $4, $5, $6, 'student')",
                Uuid::now_v7(),
                district,
                child.to_string(),
                &digest,
                class,
                child.0
            )
            .unwrap();
        }
        Self { room, teacher, ana, anas_child, ben, bens_child }
    }

    /// The same, with everybody in the room.
    pub async fn open(log: &Log) -> Self {
        let school = Self::found(log.db()).await;
        log.change_members(
            school.room,
            vec![
                staff(school.teacher, true),
                guardian(school.ana, school.anas_child, true),
                guardian(school.ben, school.bens_child, true),
            ],
        )
        .await
        .unwrap();
        school
    }

    pub fn with_ana(&self) -> Address {
        Address::Private(homeroom_protocol::About { guardian: self.ana, student: self.anas_child })
    }

    pub fn with_ben(&self) -> Address {
        Address::Private(homeroom_protocol::About { guardian: self.ben, student: self.bens_child })
    }
}

pub fn staff(person: PersonId, joins: bool) -> MemberChange {
    MemberChange { person, student: None, role: Role::Staff, joins, sees_from: Some(chrono::DateTime::UNIX_EPOCH) }
}

pub fn guardian(person: PersonId, student: PersonId, joins: bool) -> MemberChange {
    MemberChange { person, student: Some(student), role: Role::Guardian, joins, sees_from: None }
}

/// A log on a database of its own.
pub async fn log(ground: &Ground) -> Log {
    Log::start(&ground.open().await, Listeners::none())
}

/// A node with a school in it.
pub struct Node {
    pub running: Running,
    pub school: School,
    tokens: HashMap<PersonId, String>,
    _folder: TempDir,
}

impl Node {
    pub async fn start(ground: Ground) -> Self {
        Self::start_on(ground, &Exchange::default()).await
    }

    /// On Redis.
    pub async fn start_with(ground: Ground, redis_urls: Vec<String>) -> Self {
        let config = Config { redis_urls, ..ground.config() };
        Self::start_as(ground, &config, &Exchange::default()).await
    }

    pub async fn start_on(ground: Ground, exchange: &Exchange) -> Self {
        let config = ground.config();
        Self::start_as(ground, &config, exchange).await
    }

    pub async fn start_as(ground: Ground, config: &Config, exchange: &Exchange) -> Self {
        let running = app::start_on(config, exchange).await.unwrap();
        let school = School::open(&running.node.log).await;
        let mut tokens = HashMap::new();
        for person in [school.teacher, school.ana, school.ben] {
            tokens.insert(person, token(running.node.log.db(), person).await);
        }
        Self { running, school, tokens, _folder: ground.folder }
    }

    pub fn log(&self) -> &Log {
        &self.running.node.log
    }

    pub fn token(&self, person: PersonId) -> &str {
        &self.tokens[&person]
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address)
    }

    /// A WebSocket that has said nothing yet.
    pub async fn connect(&self) -> Socket {
        connect(self.running.address).await
    }

    /// A signed-in session that starts at the end of each room.
    pub async fn session(&self, person: PersonId) -> Socket {
        self.resume(person, json!({})).await
    }

    /// Waits until the workers have taken in what was committed. Authors are answered before that; who comes in between is caught up with
    /// what was known by then, and hears the rest as if it were said now.
    async fn has_taken_in(&self) {
        let (room, tails) = (self.school.room, &self.running.node.tails);
        eventually("the workers took in what was committed", || async {
            let committed = read::head(self.log().db(), room).await.unwrap().map_or(0, |(seq, _)| seq);
            let known = tails.head(room).is_none_or(|head| head.seq >= committed);
            known && tails.waiting().iter().all(|waiting| *waiting == 0)
        })
        .await;
    }

    /// A signed-in session that goes on from positions, past its `welcome`.
    pub async fn resume(&self, person: PersonId, positions: Value) -> Socket {
        self.has_taken_in().await;
        let mut socket = self.connect().await;
        socket.say(json!({ "type": "hello", "token": self.token(person), "positions": positions })).await;
        socket.welcome = socket.hear("welcome").await;
        socket
    }

    pub async fn stop(self) {
        self.running.stop().await;
    }
}

/// A bearer token for somebody.
pub async fn token(db: &Db, person: PersonId) -> String {
    let invitation = identity::invite(db, person).await.unwrap().unwrap();
    let login = identity::sign_in_with_link(db, invitation.secret.reveal()).await.unwrap().unwrap();
    login.token.reveal().to_owned()
}

pub async fn connect(address: std::net::SocketAddr) -> Socket {
    let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "homeroom.v1".parse().unwrap());
    let (stream, _) = Box::pin(tokio_tungstenite::connect_async(request)).await.unwrap();
    Socket::new(stream)
}

type Stream = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A WebSocket that speaks JSON, and gives up after ten seconds of silence.
pub struct Socket {
    pub stream: Stream,
    pub welcome: Value,
    next: u32,
    /// What came while an answer was waited for.
    passed_over: VecDeque<Value>,
}

impl Socket {
    pub fn new(stream: Stream) -> Self {
        Self { stream, welcome: Value::Null, next: 0, passed_over: VecDeque::new() }
    }

    pub async fn say(&mut self, frame: Value) {
        self.stream.send(Message::Text(frame.to_string().into())).await.unwrap();
    }

    /// The next text frame; the close code as a number where the session was closed.
    pub async fn next(&mut self) -> Result<Value, u16> {
        match self.passed_over.pop_front() {
            Some(frame) => Ok(frame),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.stream.next())
                .await
                .expect("the server says something");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(close))) => return Err(close.map_or(1005, |close| close.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// The next frame of a type; others are passed over.
    pub async fn hear(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await.unwrap_or_else(|code| panic!("closed with {code} while waiting for {kind}"));
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Everything up to and including the next frame of a type.
    pub async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await.unwrap_or_else(|code| panic!("closed with {code} while waiting for {kind}"));
            let last = frame["type"] == kind;
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// The close code that the server ends with; frames before it are passed over.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    /// Sends a command with a fresh ref and gives its answer. What else comes meanwhile is heard later.
    pub async fn ask(&mut self, mut command: Value) -> Value {
        self.next += 1;
        let reference = self.next;
        command["ref"] = json!(reference);
        self.say(command).await;
        loop {
            let frame =
                self.read().await.unwrap_or_else(|code| panic!("closed with {code} while waiting for an answer"));
            if frame["ref"] == json!(reference) {
                return frame;
            }
            self.passed_over.push_back(frame);
        }
    }

    /// The same, again while the answer says to wait.
    pub async fn ask_patiently(&mut self, command: Value) -> Value {
        loop {
            let answer = self.ask(command.clone()).await;
            match answer["retry_after_ms"].as_u64() {
                Some(wait) => tokio::time::sleep(Duration::from_millis(wait)).await,
                None => return answer,
            }
        }
    }

    /// The same until it is acknowledged, as a client does that keeps what it said; gives its number.
    pub async fn ask_until_acked(&mut self, command: Value) -> u64 {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.ask(command.clone()).await;
            if let Some(n) = answer["n"].as_u64() {
                return n;
            }
            assert!(answer["retryable"] == true && std::time::Instant::now() < deadline, "{answer}");
            tokio::time::sleep(Duration::from_millis(answer["retry_after_ms"].as_u64().unwrap_or(100))).await;
        }
    }

    /// The same, but gives back the first answer that says that nothing can be stored.
    pub async fn ask_patiently_unless_full(&mut self, command: Value) -> Value {
        loop {
            let answer = self.ask(command.clone()).await;
            match answer["retry_after_ms"].as_u64() {
                Some(wait) if answer["code"] == "rate_limited" => tokio::time::sleep(Duration::from_millis(wait)).await,
                _ => return answer,
            }
        }
    }

    pub async fn post(&mut self, room: RoomId, to: Address, text: &str) -> Value {
        self.ask(post(room, to, text)).await
    }
}

pub fn post(room: RoomId, to: Address, text: &str) -> Value {
    json!({
        "type": "post", "room": room, "client_id": Uuid::now_v7(), "to": to,
        "draft": { "language": "en", "text": text },
    })
}

/// Waits until something is so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(std::time::Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A port that nobody listens on, below those that the kernel hands out: no connection of another test takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another process of tests begins elsewhere. A Redis of a cluster takes the port 10,000 above, too.
    let first = (std::process::id() % 10_000) as u16;
    loop {
        let port = 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
