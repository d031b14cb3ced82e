//! The hot paths, each as a function that can be counted: how many instructions it takes, alike on every run.
//!
//! Owns: which paths are counted, on which inputs, and that each did what it is counted for. Where a path is private, its part stands
//! beside it (`live::instructions`, `log::append::instructions`).
//! Refuses to know: how instructions are counted and what is too many: `scripts/instructions.py` does, with Valgrind.
//!
//! What is counted is in functions whose names begin with `counted_`: Valgrind counts from their first instruction to their last. So they
//! hold the path and nothing else, make nothing that they could be handed, and hand on what they made instead of dropping it. No closure
//! stands in them: it would carry their name. After each the path's own name is said.
//! Built only with the feature of this name, which no release has; and with the unit tests, so that a change which it must follow is
//! noticed where it is made.

use crate::conversation::spans;
use crate::live::frame::{self, Decoder, Item, ProtocolError};
use crate::log::entry::About;
use crate::log::{Entry, Interval, Sight, Subject, Thread, View};
use homeroom_protocol::codec::{self, Undecodable};
use homeroom_protocol::{
    Address, ClientFrame, ClientId, Draft, Envelope, EventBody, EventId, Language, Message, PersonId, Ref, RoomId,
    ServerFrame, Timestamp,
};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::process::ExitCode;

/// How often a short path is gone, so that its number is not a handful.
const TIMES: usize = 100;
/// A message as a teacher writes it: 160 characters, with what has to be found in it. As an event it is some 600 bytes.
const TEXT: &str = "Tomorrow, 14 March, we meet at 8:30 in front of the museum. Please bring 4.50 € and a rain jacket; \
    the way is on https://school.example/trip. Grüße, Frau Öztürk";

/// Why the numbers are good for nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotCounted {
    /// A path did not do what it is counted for.
    #[error("{path}: {found} instead of {expected}")]
    Undone {
        /// Which.
        path: &'static str,
        /// What it did.
        found: usize,
        /// What it is counted for.
        expected: usize,
    },
    /// A frame that was made here could not be read here.
    #[error("a command could not be read: {0:?}")]
    Unread(Undecodable),
    /// A frame that was made here breaks the protocol.
    #[error("a frame could not be read")]
    Unframed(#[from] ProtocolError),
    /// A draft that was made here is no good.
    #[error("a draft was refused: {0}")]
    Refused(homeroom_protocol::Fault),
    /// JSON was not made.
    #[error("a frame could not be encoded")]
    Unencoded(#[from] serde_json::Error),
    /// No database is asked for anything; its address must be readable all the same.
    #[error("no place for a database")]
    Database(#[from] crate::db::OpenError),
    /// No sockets.
    #[error("no sockets could be made")]
    Sockets(#[from] std::io::Error),
}

/// Goes every path once.
#[must_use]
pub fn run() -> ExitCode {
    match frames()
        .and_then(|()| commands())
        .and_then(|()| permissions())
        .and_then(|()| crate::log::append::instructions::run())
        .and_then(|()| crate::live::instructions::run())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", crate::cli::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Says which path was gone, in the order in which Valgrind wrote its numbers down, if it did what it is counted for.
pub(crate) fn counted(path: &'static str, found: usize, expected: usize) -> Result<(), NotCounted> {
    holds(path, found, expected)?;
    println!("{path}");
    Ok(())
}

/// Whether something is as it must be.
pub(crate) fn holds(path: &'static str, found: usize, expected: usize) -> Result<(), NotCounted> {
    if found == expected { Ok(()) } else { Err(NotCounted::Undone { path, found, expected }) }
}

/// What is said in every path.
pub(crate) fn envelope() -> Result<Envelope, NotCounted> {
    draft().into_envelope(spans::found).map_err(NotCounted::Refused)
}

fn draft() -> Draft {
    Draft { language: Language::english(), text: TEXT.to_owned(), protected: Vec::new() }
}

/// The post with this number in a room's log.
pub(crate) fn posted(room: RoomId, seq: i64, to: Address) -> Result<Entry, NotCounted> {
    let (id, at) = (EventId::new(), Timestamp::now());
    let message = Message {
        id,
        n: seq.unsigned_abs(),
        author: PersonId::new(),
        client_id: ClientId::new(),
        at,
        urgent: false,
        envelope: Some(envelope()?),
        edited_at: None,
        retracted_at: None,
    };
    let about = About { conversation: to.conversation(room), address: to, n: seq, root_seq: seq };
    Ok(Entry::of_message(room, seq, id, at, about, EventBody::Posted { message }))
}

fn frames() -> Result<(), NotCounted> {
    let payload = posted(RoomId::new(), 1, Address::Announcements)?;
    let payload = payload.payload(Sight::Full).map(|bytes| bytes.to_vec()).unwrap_or_default();
    let encoded = counted_frame_encode(black_box(&payload));
    let header = 4;
    counted("frame_encode", encoded.len(), TIMES * (header + payload.len()))?;

    // As a client would send them.
    let mut sent = Vec::new();
    for _ in 0..TIMES {
        sent.extend_from_slice(&[0x81, 0xFE]);
        sent.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        sent.extend_from_slice(&[0x37, 0xFA, 0x21, 0x3D]);
        sent.extend(payload.iter().zip([0x37, 0xFA, 0x21, 0x3D].iter().cycle()).map(|(byte, key)| byte ^ key));
    }
    counted("frame_decode", counted_frame_decode(&mut sent.clone())?, TIMES * payload.len())?;
    counted("frame_decode_in_pieces", counted_frame_decode_in_pieces(&mut sent)?, TIMES * payload.len())
}

/// One event's frame, a hundred times into one buffer.
#[inline(never)]
fn counted_frame_encode(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..TIMES {
        frame::append_text(&mut out, payload);
    }
    out
}

/// A hundred frames that came in one read.
#[inline(never)]
fn counted_frame_decode(sent: &mut [u8]) -> Result<usize, ProtocolError> {
    decode(&mut Decoder::new(65_536), sent)
}

/// The same frames in reads of a hundred bytes: what is incomplete is kept.
#[inline(never)]
fn counted_frame_decode_in_pieces(sent: &mut [u8]) -> Result<usize, ProtocolError> {
    let mut decoder = Decoder::new(65_536);
    let mut bytes = 0;
    for piece in sent.chunks_mut(100) {
        bytes += decode(&mut decoder, piece)?;
    }
    Ok(bytes)
}

fn decode(decoder: &mut Decoder, sent: &mut [u8]) -> Result<usize, ProtocolError> {
    let mut bytes = 0;
    decoder.decode(sent, |item| {
        if let Item::Text(text) = item {
            bytes += text.len();
        }
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

fn commands() -> Result<(), NotCounted> {
    let room = RoomId::new();
    let post = ClientFrame::Post {
        reference: Ref(7),
        room,
        client_id: ClientId::new(),
        to: Address::Announcements,
        draft: draft(),
        urgent: false,
    };
    let text = codec::encode_client(&post)?;
    let decoded = counted_command_decode(black_box(&text)).map_err(NotCounted::Unread)?;
    counted("command_decode", decoded.iter().filter(|frame| **frame == post).count(), TIMES)?;

    let ack = ServerFrame::Ack { reference: Ref(7), id: Some(EventId::new()), n: Some(7) };
    let encoded = counted_ack_encode(black_box(&ack))?;
    counted("ack_encode", encoded.len(), TIMES)?;
    let entry = posted(room, 1, Address::Announcements)?;
    let encoded = counted_event_encode(black_box(&entry))?;
    counted("event_encode", encoded.len(), TIMES)
}

/// A post as its author sends it, a hundred times.
#[inline(never)]
fn counted_command_decode(text: &str) -> Result<Vec<ClientFrame>, Undecodable> {
    let mut decoded = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        decoded.push(codec::decode_client(text)?);
    }
    Ok(decoded)
}

/// The answer to a command, a hundred times.
#[inline(never)]
fn counted_ack_encode(frame: &ServerFrame) -> Result<Vec<String>, serde_json::Error> {
    let mut encoded = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        encoded.push(codec::encode_server(frame)?);
    }
    Ok(encoded)
}

/// An event as its readers are sent it, a hundred times.
#[inline(never)]
fn counted_event_encode(entry: &Entry) -> Result<Vec<String>, serde_json::Error> {
    let mut encoded = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        encoded.push(codec::encode_event(&entry.event)?);
    }
    Ok(encoded)
}

/// A thousand members, one in twenty of them staff; one in ten guardians has two children in the class, another one was there before.
pub(crate) fn views() -> Vec<View> {
    let open = |student| Interval { student, after: 10, until: None };
    (0..1_000)
        .map(|number| {
            let (person, child) = (PersonId::new(), Some(PersonId::new()));
            let intervals = match number % 20 {
                0 => return View::Staff { intervals: [open(None)].into() },
                1 | 2 => vec![open(child), open(Some(PersonId::new()))],
                3 | 4 => vec![Interval { student: child, after: 0, until: Some(5) }, open(child)],
                _ => vec![open(child)],
            };
            View::Guardian { person, intervals: intervals.into() }
        })
        .collect()
}

fn permissions() -> Result<(), NotCounted> {
    let views = views();
    let announcement = Subject { root_seq: 100, thread: Thread::Announcements };
    counted("sight_of_announcement", counted_sight(&views, announcement), 1_000)?;
    let Some(View::Guardian { person, intervals }) = views.last() else { return holds("guardians", 0, 1) };
    let student = intervals.first().and_then(|interval| interval.student).unwrap_or_default();
    let about = homeroom_protocol::About { guardian: *person, student };
    let private = Subject { root_seq: 100, thread: Thread::Private(about) };
    counted("sight_of_private", counted_sight(&views, private), 51)
}

/// What each of a thousand members sees of an event; how many see all of it.
#[inline(never)]
fn counted_sight(views: &[View], subject: Subject) -> usize {
    let mut seeing = 0;
    for view in views {
        seeing += usize::from(view.sight(subject) == Sight::Full);
    }
    seeing
}
