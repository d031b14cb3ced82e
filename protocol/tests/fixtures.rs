//! The golden fixtures in `protocol/fixtures/`, as this crate reads and writes them.
//!
//! Owns: that each fixture decodes and encodes back to the same JSON value, and that every variant of every enum on the
//! wire has one. Refuses to know: how other clients read the same files; they have tests of their own.
//!
//! Names: `client.*` and `server.*` are frames, `api.*` bodies of the HTTP API, `newer.*` what a newer peer may say and
//! what this version reads in it, `refused.*` what a client is refused for.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use homeroom_protocol::codec::{decode_client, decode_server, encode_client, encode_server};
use homeroom_protocol::{
    Address, ByeReason, ChangeMe, ClientFrame, ConversationId, Direction, ErrorCode, EventBody, Fault, HistoryPage,
    Home, Keep, Reach, Ref, ResetReason, Role, RoomDetail, RoomId, RoomKind, ServerFrame, SignInWithCode,
    SignInWithLink, SignedIn, SpanKind,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// All fixtures, by name without `.json`.
fn fixtures() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Names each variant in a match without a wildcard, so that a new variant does not compile until it is listed here;
/// and once listed, the test fails until it has a fixture.
macro_rules! variants {
    ($($function:ident of $kind:ident { $($variant:ident),+ $(,)? })+) => {$(
        fn $function(it: &$kind) -> String {
            let variant = match it { $($kind::$variant { .. } => stringify!($variant)),+ };
            format!("{}::{variant}", stringify!($kind))
        }
    )+
        fn all_variants() -> BTreeSet<String> {
            [$($(concat!(stringify!($kind), "::", stringify!($variant))),+),+].map(str::to_owned).into()
        }
    };
}

variants! {
    client_frame of ClientFrame { Hello, Post, Edit, Retract, Delivered, Read, Typing, History, Refresh }
    server_frame of ServerFrame {
        Welcome, Event, CaughtUp, Reset, Joined, Left, Ack, Page, Mark, Typing, Error, Bye, Unknown
    }
    event_body of EventBody { Posted, Edited, Retracted, Withheld, MemberJoined, MemberLeft, Unknown }
    address of Address { Announcements, Private }
    role of Role { Staff, Guardian, Unknown }
    room_kind of RoomKind { Class, School, Unknown }
    direction of Direction { Ltr, Rtl }
    span_kind of SpanKind { Name, Date, Number, Link, Unknown }
    reset_reason of ResetReason { UnknownPosition, TooFarBehind, RightsChanged, Unknown }
    bye_reason of ByeReason { Draining, SignedOut, Unknown }
    keep of Keep { Cookie, Token }
    error_code of ErrorCode {
        Malformed, UnknownType, Invalid, TooLong, Unauthenticated, Forbidden, NotFound, Conflict, OutOfTurn, RefInUse,
        RateLimited, Unavailable, Unknown
    }
}

/// Decodes the text as `T` and demands that it encodes to the same JSON value.
fn golden<T: Serialize + DeserializeOwned>(name: &str, text: &str) -> T {
    let decoded: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_value(&decoded).unwrap(), value(text), "{name}");
    decoded
}

fn golden_server(name: &str, text: &str) -> ServerFrame {
    let frame = decode_server(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(value(&encode_server(&frame).unwrap()), value(text), "{name}");
    frame
}

fn golden_client(name: &str, text: &str) -> ClientFrame {
    let frame = decode_client(text).unwrap_or_else(|error| panic!("{name}: {}", error.fault));
    assert_eq!(value(&encode_client(&frame).unwrap()), value(text), "{name}");
    frame
}

/// Notes the variants inside a client's frame.
fn note_client(frame: &ClientFrame, seen: &mut BTreeSet<String>) {
    seen.insert(client_frame(frame));
    match frame {
        ClientFrame::Post { to, draft, .. } => {
            seen.insert(address(to));
            seen.extend(draft.protected.iter().map(|span| span_kind(&span.kind)));
        }
        ClientFrame::Typing { to, .. } => drop(seen.insert(address(to))),
        _ => {}
    }
}

/// Notes the variants inside a server's frame.
fn note_server(frame: &ServerFrame, seen: &mut BTreeSet<String>) {
    seen.insert(server_frame(frame));
    match frame {
        ServerFrame::Welcome { rooms, .. } => seen.extend(rooms.iter().map(|room| role(&room.role))),
        ServerFrame::Joined { room } => drop(seen.insert(role(&room.role))),
        ServerFrame::Reset { reason, .. } => drop(seen.insert(reset_reason(reason))),
        ServerFrame::Error { fault, .. } => drop(seen.insert(error_code(&fault.code))),
        ServerFrame::Bye { reason, .. } => drop(seen.insert(bye_reason(reason))),
        ServerFrame::Event(event) => {
            seen.insert(event_body(&event.body));
            if let EventBody::Posted { message } | EventBody::Edited { message } = &event.body {
                let envelope = message.envelope.as_ref().expect("a message that stands has an envelope");
                seen.insert(direction(&envelope.direction));
                seen.extend(envelope.protected.iter().map(|span| span_kind(&span.kind)));
            }
        }
        _ => {}
    }
}

/// Checks a body of the HTTP API, and notes the variants inside.
fn note_api(name: &str, text: &str, seen: &mut BTreeSet<String>) {
    match name.split('.').nth(1).unwrap() {
        "home" => {
            let home: Home = golden(name, text);
            seen.extend(home.rooms.iter().map(|room| room_kind(&room.kind)));
        }
        "room" => drop(golden::<RoomDetail>(name, text)),
        "history_page" => drop(golden::<HistoryPage>(name, text)),
        "reach" => drop(golden::<Reach>(name, text)),
        "sign_in_link" => drop(seen.insert(keep(&golden::<SignInWithLink>(name, text).keep))),
        "sign_in_code" => drop(seen.insert(keep(&golden::<SignInWithCode>(name, text).keep))),
        "signed_in" => drop(golden::<SignedIn>(name, text)),
        "change_me" => drop(golden::<ChangeMe>(name, text)),
        "fault" => drop(golden::<Fault>(name, text)),
        other => panic!("{name}: no body is called {other}"),
    }
}

/// What a newer peer says, and what this version reads in it.
#[derive(Deserialize)]
struct FromNewer {
    received: Value,
    read_as: Value,
}

/// What a client is refused for.
#[derive(Deserialize)]
struct Refused {
    received: Value,
    #[serde(rename = "ref")]
    reference: Option<Ref>,
    code: ErrorCode,
}

#[test]
fn every_fixture_is_golden_and_every_variant_has_one() {
    let mut seen = BTreeSet::new();
    for (name, text) in fixtures() {
        if name.starts_with("client.") {
            note_client(&golden_client(&name, &text), &mut seen);
        } else if name.starts_with("server.") {
            note_server(&golden_server(&name, &text), &mut seen);
        } else if name.starts_with("api.") {
            note_api(&name, &text, &mut seen);
        } else if name.starts_with("newer.server.") {
            let newer: FromNewer = serde_json::from_str(&text).unwrap();
            let frame = decode_server(&newer.received.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(serde_json::to_value(&frame).unwrap(), newer.read_as, "{name}");
            note_server(&frame, &mut seen);
        } else if name == "newer.api.home" {
            let newer: FromNewer = serde_json::from_str(&text).unwrap();
            let home: Home = serde_json::from_value(newer.received).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(serde_json::to_value(&home).unwrap(), newer.read_as, "{name}");
            seen.extend(home.rooms.iter().flat_map(|room| [room_kind(&room.kind), role(&room.role)]));
        } else if name.starts_with("newer.client.") {
            let newer: FromNewer = serde_json::from_str(&text).unwrap();
            let frame = decode_client(&newer.received.to_string()).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert_eq!(serde_json::to_value(&frame).unwrap(), newer.read_as, "{name}");
        } else if name.starts_with("refused.client.") {
            let refused: Refused = serde_json::from_str(&text).unwrap();
            let undecodable = decode_client(&refused.received.to_string()).unwrap_err();
            assert_eq!((undecodable.fault.code, undecodable.reference), (refused.code, refused.reference), "{name}");
        } else if name != "conversation_ids" {
            panic!("{name}: no kind of fixture is called so");
        }
    }
    let missing: Vec<String> = all_variants().difference(&seen).cloned().collect();
    assert_eq!(missing, Vec::<String>::new(), "variants without a fixture");
}

#[test]
fn conversation_ids_follow_from_addresses() {
    #[derive(Deserialize)]
    struct Derived {
        room: RoomId,
        address: Address,
        conversation: ConversationId,
    }
    let derived: Vec<Derived> = serde_json::from_str(&fixtures()["conversation_ids"]).unwrap();
    for Derived { room, address, conversation } in derived {
        assert_eq!(address.conversation(room), conversation);
    }
}
