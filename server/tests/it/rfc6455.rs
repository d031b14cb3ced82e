//! RFC 6455 on real sockets of a server in a process of its own: each rule that a client can break, with its close code; floods, during
//! which its memory stays flat; and a neighbour who hears an announcement after each and during all of it.
//!
//! Owns: what is sent. Refuses to know: how frames are decoded; `live::frame`'s tests hold each rule against the decoder, in any pieces.

mod floods;

use crate::node::{Ground, Socket, eventually, free_port, http, post};
use crate::process::{Demo, Process};
use crate::raw::{Raw, announced, masked};
use homeroom_protocol::Address;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// So long at most an announcement may take to a neighbour, whatever somebody else sends.
const UNDISTURBED: Duration = Duration::from_secs(2);
/// The longest message.
const LIMIT: usize = 64 * 1024;

/// A server, a teacher and a mother who talk, and the means to connect to it.
struct Scene {
    server: Process,
    metrics: String,
    demo: Demo,
    teacher: Socket,
    ana: Socket,
    _ground: Ground,
}

impl Scene {
    async fn set() -> Self {
        Self::set_with(&[]).await
    }

    async fn set_with(arguments: &[&str]) -> Self {
        let ground = Ground::sqlite();
        let demo = Demo::import(&ground).await;
        let metrics = format!("127.0.0.1:{}", free_port());
        let server = Process::start(&ground, &[&["--metrics-listen", &metrics], arguments].concat()).await;
        let (teacher, ana) = (server.session(&demo.teachers).await, server.session(&demo.anas).await);
        Self { server, metrics: format!("http://{metrics}/metrics"), demo, teacher, ana, _ground: ground }
    }

    /// Another of Ana's devices, signed in and caught up.
    async fn device(&self) -> Raw {
        self.sign_in(Raw::connect(self.server.address).await).await
    }

    async fn sign_in(&self, mut raw: Raw) -> Raw {
        raw.say(&json!({ "type": "hello", "token": self.demo.anas })).await;
        raw.reader.hear("caught_up").await;
        raw
    }

    /// The teacher announces, and Ana hears it in time.
    async fn neighbours_hear(&mut self, meanwhile: &str) {
        let began = Instant::now();
        let answer = self.teacher.ask_patiently(post(self.demo.room, Address::Announcements, meanwhile)).await;
        let heard = loop {
            let event = self.ana.hear("event").await;
            if event["id"] == answer["id"] {
                break event;
            }
        };
        assert_eq!(heard["message"]["envelope"]["text"], meanwhile);
        assert!(began.elapsed() < UNDISTURBED, "{meanwhile}: {:?}", began.elapsed());
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = http().get(&self.metrics).send().await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    fn post(&self, reference: u32, text: &str) -> Value {
        let mut post = post(self.demo.room, Address::Announcements, text);
        post["ref"] = json!(reference);
        post
    }
}

/// What a client may not send, and the code that it is closed with.
struct Breach {
    rule: String,
    bytes: Vec<u8>,
    code: u16,
}

fn breaches() -> Vec<Breach> {
    [framing(), fragments(), lengths(), texts(), closes()].into_iter().flatten().collect()
}

fn breach(rule: impl Into<String>, bytes: impl Into<Vec<u8>>, code: u16) -> Breach {
    Breach { rule: rule.into(), bytes: bytes.into(), code }
}

fn framing() -> Vec<Breach> {
    let mut breaches = Vec::new();
    for opcode in 0..=15_u8 {
        for bits in [0x40, 0x20, 0x10, 0x70] {
            let name = format!("5.2: reserved bits {bits:#x} on opcode {opcode}");
            breaches.push(breach(name, masked(0x80 | bits | opcode, b"{}"), 1002));
        }
        if matches!(opcode, 3..=7 | 11..=15) {
            breaches.push(breach(format!("5.2: opcode {opcode}"), masked(0x80 | opcode, b""), 1002));
        } else {
            breaches.push(breach(format!("5.1: opcode {opcode} unmasked"), [0x80 | opcode, 2, b'{', b'}'], 1002));
        }
    }
    for opcode in [8, 9, 10] {
        breaches.push(breach(format!("5.5: opcode {opcode} fragmented"), masked(opcode, b""), 1002));
        for length in [126, 127, LIMIT] {
            let name = format!("5.5: opcode {opcode} of {length} bytes");
            breaches.push(breach(name, masked(0x80 | opcode, &vec![0; length]), 1002));
        }
    }
    breaches
}

fn fragments() -> Vec<Breach> {
    let mut breaches = Vec::new();
    for outer in [1, 2] {
        for inner in [0x81, 0x82, 0x01, 0x02] {
            let bytes = [masked(outer, b"{"), masked(inner, b"{}")].concat();
            breaches.push(breach(format!("5.4: {inner:#x} inside opcode {outer}"), bytes, 1002));
        }
        let bytes = [masked(outer, b"{"), masked(0x89, b"?"), masked(0x00, b""), masked(0x81, b"{}")].concat();
        breaches.push(breach(format!("5.4: text inside opcode {outer} after a ping and a fragment"), bytes, 1002));
    }
    for first in [0x80, 0x00] {
        breaches.push(breach("5.4: continuation of nothing", masked(first, b"{}"), 1002));
    }
    let bytes = [masked(0x81, b"{}"), masked(0x80, b"")].concat();
    breaches.push(breach("5.4: continuation after a whole message", bytes, 1002));
    breaches
}

fn lengths() -> Vec<Breach> {
    let mut breaches = Vec::new();
    let headers = [0, 1, 125].map(|length| (126, length)).into_iter();
    for (form, length) in headers.chain([0, 125, 65_535, 1 << 63, (1 << 63) | 2, u64::MAX].map(|length| (127, length)))
    {
        let bytes = [announced(0x81, form, length), vec![0; 4]].concat();
        breaches.push(breach(format!("5.2: length {length} in form {form}"), bytes, 1002));
    }
    for length in [LIMIT as u64 + 1, 10 << 30, (1 << 63) - 1] {
        let bytes = [announced(0x82, 127, length), vec![0; 4]].concat();
        breaches.push(breach(format!("too large: {length} are announced"), bytes, 1009));
    }
    let bytes = [masked(0x02, &vec![0; LIMIT / 2]), masked(0x00, &vec![0; LIMIT / 2]), masked(0x80, b"x")].concat();
    breaches.push(breach("too large: the sum of fragments", bytes, 1009));
    breaches
}

fn texts() -> Vec<Breach> {
    let broken: [&[u8]; 13] = [
        b"\xC3\x28",
        b"\x80",
        b"\xC0\xAF",
        b"\xE0\x80\xAF",
        b"\xF0\x80\x80\xAF",
        b"\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xF4\x90\x80\x80",
        b"\xF5\x80\x80\x80",
        b"\xFC\x84\x80\x80\x80\x80",
        b"\xFE",
        b"ok \xFF",
        b"cut short \xE2\x82",
    ];
    let mut breaches = Vec::new();
    for bad in broken {
        breaches.push(breach(format!("8.1: {bad:?}"), masked(0x81, bad), 1007));
        breaches.push(breach(format!("8.1: {bad:?} as a reason"), masked(0x88, &[&[3, 0xE8], bad].concat()), 1007));
        let (start, end) = bad.split_at(bad.len() - 1);
        let bytes = [masked(0x01, start), masked(0x89, b""), masked(0x80, end)].concat();
        breaches.push(breach(format!("8.1: {bad:?} split between fragments"), bytes, 1007));
    }
    breaches.push(breach("8.1: bad already, and more to come", masked(0x01, b"\xFF"), 1007));
    breaches
}

fn closes() -> Vec<Breach> {
    let mut breaches = vec![breach("5.5.1: a close of one byte", masked(0x88, &[3]), 1002)];
    // 7.4: below 1000; reserved; never on the wire; not registered; beyond.
    let forbidden = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 5001, u16::MAX];
    for code in forbidden {
        breaches.push(breach(format!("7.4: close code {code}"), masked(0x88, &code.to_be_bytes()), 1002));
    }
    breaches
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rule_that_a_client_breaks_has_its_close_code_and_nobody_else_notices() {
    let mut scene = Scene::set().await;
    let breaches = breaches();
    let mut broken = 0;
    for Breach { rule, bytes, code } in &breaches {
        let mut raw = scene.device().await;
        raw.send(bytes).await;
        assert_eq!(raw.reader.close_code().await, *code, "{rule}");
        broken += 1;
        // The network may make any pieces of it.
        if bytes.len() <= 40 {
            let mut raw = scene.device().await;
            for byte in bytes {
                // It may be closed by now: what is wrong is said as soon as it can be seen.
                if raw.writer.try_write(&[*byte]).is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            assert_eq!(raw.reader.close_code().await, *code, "{rule}, byte by byte");
            broken += 1;
        }
        scene.neighbours_hear(rule).await;
    }
    // Who has not signed in is held to the same rules.
    let mut stranger = Raw::connect(scene.server.address).await;
    stranger.send(&masked(0xC1, b"{}")).await;
    assert_eq!(stranger.reader.close_code().await, 1002);
    assert_eq!(scene.metric("homeroom_protocol_errors_total").await, broken + 1);
    eventually("all of them are gone", || async { scene.metric("homeroom_connections").await == 2 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_rules_allow_is_understood_in_any_form() {
    let mut scene = Scene::set().await;
    let mut raw = Raw::connect(scene.server.address).await;
    raw.say(&json!({ "type": "hello", "token": scene.demo.teachers })).await;
    raw.reader.hear("caught_up").await;

    // A frame one byte at a time.
    for byte in masked(0x81, scene.post(1, "byte by byte: 😀").to_string().as_bytes()) {
        raw.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.reader.hear("ack").await["ref"], 1);
    assert_eq!(scene.ana.hear("event").await["message"]["envelope"]["text"], "byte by byte: 😀");

    // Fragments of a byte, which cut characters, too, and a ping between any two.
    let text = scene.post(2, "in fragments: 😀").to_string().into_bytes();
    let pinged = |number: usize| &text[..number % 100];
    for (number, byte) in text.iter().enumerate() {
        let first = if number == 0 { 0x01 } else { 0x00 };
        raw.send(&[masked(first, &[*byte]), masked(0x89, pinged(number))].concat()).await;
    }
    raw.send(&masked(0x80, b"")).await;
    for number in 0..text.len() {
        assert_eq!(raw.reader.pong().await, pinged(number), "a pong repeats what it answers");
    }
    assert_eq!(raw.reader.hear("ack").await["ref"], 2);
    assert_eq!(scene.ana.hear("event").await["message"]["envelope"]["text"], "in fragments: 😀");

    // As long as a message may be; and what is not text is an error of the command, not of the frame.
    let mut longest = scene.post(3, "long").to_string();
    longest.push_str(&" ".repeat(LIMIT - longest.len()));
    raw.send(&masked(0x81, longest.as_bytes())).await;
    assert_eq!(raw.reader.hear("ack").await["ref"], 3);
    raw.send(&masked(0x82, &vec![0xFF; LIMIT])).await;
    assert_eq!(raw.reader.hear("error").await["code"], "malformed");
    raw.send(&masked(0x8A, b"a pong that nobody asked for")).await;
    raw.say(&scene.post(4, "still here")).await;
    assert_eq!(raw.reader.hear("ack").await["ref"], 4);

    // Who closes hears the same code, and nothing after the close counts.
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for code in codes {
        let mut leaving = scene.device().await;
        let reason = [&u16::to_be_bytes(code)[..], "grüße".as_bytes()].concat();
        leaving.send(&[masked(0x88, &reason), masked(0xF1, b"nonsense")].concat()).await;
        assert_eq!(leaving.reader.close_code().await, code);
    }
    let mut leaving = scene.device().await;
    leaving.send(&masked(0x88, b"")).await;
    assert_eq!(leaving.reader.close_code().await, 1000);
    assert_eq!(scene.metric("homeroom_protocol_errors_total").await, 0);
    // What is heard in between are the last two posts.
    scene.neighbours_hear("after all of it").await;
}
