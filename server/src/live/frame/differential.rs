//! Our framing beside another implementation's: what tungstenite sends, both read alike; what we send, it reads.
//!
//! Owns: the comparison, on valid input. Refuses to know: what breaks the protocol (see `tests`), where two
//! implementations may rightly differ.

use super::*;
use proptest::prelude::*;
use std::io::{self, Read, Write};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame as TheirFrame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

/// So large that each form of a length can be sent.
const MOST: u32 = 1 << 20;

/// What was read, by either.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<(u16, String)>),
}

/// A connection that gives what was sent, in pieces, and takes answers without keeping them.
struct Wire {
    bytes: Vec<u8>,
    given: usize,
    cuts: Vec<usize>,
    next_cut: usize,
}

impl Wire {
    fn new(bytes: &[u8], cuts: &[usize]) -> Self {
        Self { bytes: bytes.to_vec(), given: 0, cuts: cuts.to_vec(), next_cut: 0 }
    }

    /// The next piece, of at most so many bytes.
    fn piece(&mut self, most: usize) -> Vec<u8> {
        let length = self.cuts[self.next_cut % self.cuts.len()].min(most).min(self.bytes.len() - self.given);
        self.next_cut += 1;
        let piece = self.bytes[self.given..self.given + length].to_vec();
        self.given += length;
        piece
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.piece(into.len());
        if piece.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite reads, until the wire is empty or closed.
fn theirs(bytes: &[u8], cuts: &[usize], role: Role) -> Vec<Said> {
    let config = WebSocketConfig::default().max_message_size(Some(MOST as usize)).max_frame_size(Some(MOST as usize));
    let mut socket = WebSocket::from_raw_socket(Wire::new(bytes, cuts), role, Some(config));
    let mut said = Vec::new();
    loop {
        use tokio_tungstenite::tungstenite::Error;
        said.push(match socket.read() {
            Ok(Message::Text(text)) => Said::Text(text.to_string()),
            Ok(Message::Binary(bytes)) => Said::Binary(bytes.to_vec()),
            Ok(Message::Ping(payload)) => Said::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Said::Pong,
            Ok(Message::Close(reason)) => {
                Said::Close(reason.map(|reason| (reason.code.into(), reason.reason.to_string())))
            }
            Ok(Message::Frame(_)) => unreachable!("frames are not handed on when reading"),
            Err(Error::ConnectionClosed) => return said,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return said,
            Err(error) => panic!("tungstenite refuses what is valid: {error}, after {said:?}"),
        });
    }
}

/// What we read.
fn ours(bytes: &[u8], cuts: &[usize]) -> Vec<Said> {
    let mut wire = Wire::new(bytes, cuts);
    let mut decoder = Decoder::new(MOST);
    let mut said = Vec::new();
    loop {
        let mut piece = wire.piece(usize::MAX);
        if piece.is_empty() {
            return said;
        }
        let outcome = decoder.decode(&mut piece, |item| {
            said.push(match item {
                Item::Text(text) => Said::Text(text.to_owned()),
                Item::Binary(bytes) => Said::Binary(bytes.to_vec()),
                Item::Ping(payload) => Said::Ping(payload.to_vec()),
                Item::Pong => Said::Pong,
                Item::Close(reason) => {
                    Said::Close(reason.map(|reason| (reason.code.into(), reason.description.unwrap_or_default())))
                }
            });
            ControlFlow::Continue(())
        });
        assert_eq!(outcome, Ok(0), "we refuse what is valid, after {said:?}");
    }
}

/// A frame as tungstenite sends it: from a client with a mask.
fn send(out: &mut Vec<u8>, opcode: OpCode, is_final: bool, payload: &[u8], mask: Option<[u8; 4]>) {
    let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
    TheirFrame::from_payload(header, payload.to_vec().into()).format(out).unwrap();
}

/// One thing said, with the places of its cuts, as parts of its length, and what control frames come between the fragments.
#[derive(Debug, Clone)]
struct Sent {
    said: Said,
    fragments: Vec<u8>,
    between: Vec<Said>,
    mask: [u8; 4],
}

impl Sent {
    fn encode(&self, out: &mut Vec<u8>) {
        let (data, payload) = match &self.said {
            Said::Text(text) => (Data::Text, text.as_bytes()),
            Said::Binary(payload) => (Data::Binary, payload.as_slice()),
            control => return encode_control(out, control, self.mask),
        };
        let mut places: Vec<usize> =
            self.fragments.iter().map(|part| payload.len() * usize::from(*part) / 255).collect();
        places.sort_unstable();
        let mut between = self.between.iter();
        let (mut from, mut opcode) = (0, data);
        for place in places {
            send(out, OpCode::Data(opcode), false, &payload[from..place], Some(self.mask));
            if let Some(control) = between.next() {
                encode_control(out, control, self.mask);
            }
            (from, opcode) = (place, Data::Continue);
        }
        send(out, OpCode::Data(opcode), true, &payload[from..], Some(self.mask));
    }
}

fn encode_control(out: &mut Vec<u8>, said: &Said, mask: [u8; 4]) {
    let (control, payload) = match said {
        Said::Ping(payload) => (Control::Ping, payload.clone()),
        Said::Pong => (Control::Pong, b"unasked".to_vec()),
        Said::Close(None) => (Control::Close, Vec::new()),
        Said::Close(Some((code, reason))) => (Control::Close, [&code.to_be_bytes(), reason.as_bytes()].concat()),
        Said::Text(_) | Said::Binary(_) => unreachable!("not a control frame"),
    };
    send(out, OpCode::Control(control), true, &payload, Some(mask));
}

/// Lengths of each form, and their edges.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0_usize..300,
        2 => prop::sample::select(vec![124_usize, 125, 126, 127, 128, 1_000]),
        1 => prop::sample::select(vec![65_534_usize, 65_535, 65_536, 65_537, 70_001]),
    ]
}

fn text_of(length: usize, seed: u8) -> String {
    const LETTERS: [&str; 8] = ["a", "é", "€", "😀", "م", "\0", "\u{10FFFF}", "z"];
    let mut text = String::new();
    let mut place = usize::from(seed);
    while text.len() < length {
        let letter = LETTERS[place % LETTERS.len()];
        // What is left is filled with letters of one byte, so that each length is met.
        text.push_str(if text.len() + letter.len() <= length { letter } else { "x" });
        place = place.wrapping_mul(31).wrapping_add(7);
    }
    text
}

fn control() -> impl Strategy<Value = Said> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..=125).prop_map(Said::Ping), Just(Said::Pong)]
}

fn closing() -> impl Strategy<Value = Said> {
    // 1014 is left out: tungstenite does not know it yet.
    let code = prop_oneof![
        prop::sample::select(vec![1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013]),
        3000_u16..5000
    ];
    prop::option::of((code, (0_usize..=123, any::<u8>()).prop_map(|(length, seed)| text_of(length, seed))))
        .prop_map(Said::Close)
}

fn sent() -> impl Strategy<Value = Sent> {
    let said = prop_oneof![
        3 => (lengths(), any::<u8>()).prop_map(|(length, seed)| Said::Text(text_of(length, seed))),
        3 => (lengths(), any::<u8>()).prop_map(|(length, seed)| Said::Binary((0..length).map(|place| (place as u8).wrapping_mul(seed)).collect())),
        2 => control(),
    ];
    let fragments = prop::collection::vec(any::<u8>(), 0..5);
    (said, fragments, prop::collection::vec(control(), 0..5), any::<[u8; 4]>())
        .prop_map(|(said, fragments, between, mask)| Sent { said, fragments, between, mask })
}

/// What must be heard: control frames between fragments come before the message that they interrupt.
fn expected(sent: &[Sent], close: Option<&Said>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in sent {
        if matches!(one.said, Said::Text(_) | Said::Binary(_)) {
            said.extend(one.between.iter().take(one.fragments.len()).cloned());
        }
        said.push(one.said.clone());
    }
    said.extend(close.cloned());
    said
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        3 => prop::collection::vec(1_usize..400, 1..30),
        1 => prop::collection::vec(1_usize..8, 1..10),
        1 => Just(vec![1]),
        1 => Just(vec![usize::MAX]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_another_implementation_sends_is_read_as_it_reads_it(
        sent in prop::collection::vec(sent(), 0..8),
        close in prop::option::of(closing()),
        after in any::<[u8; 8]>(),
        cuts in cuts(),
    ) {
        let mut bytes = Vec::new();
        for one in &sent {
            one.encode(&mut bytes);
        }
        if let Some(close) = &close {
            encode_control(&mut bytes, close, [1, 2, 3, 4]);
            // Nothing after a close counts.
            bytes.extend_from_slice(&after);
        }
        let expected = expected(&sent, close.as_ref());
        prop_assert_eq!(&theirs(&bytes, &cuts, Role::Server), &expected);
        prop_assert_eq!(&ours(&bytes, &cuts), &expected);
    }

    #[test]
    fn what_we_send_is_read_by_another_implementation(
        said in prop::collection::vec(sent(), 0..8),
        close in (3000_u16..5000, 0_usize..=123, any::<u8>()),
        cuts in cuts(),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for Sent { said, .. } in said {
            match &said {
                Said::Text(text) => append_text(&mut bytes, text.as_bytes()),
                Said::Ping(payload) => bytes.extend(ping(payload)),
                Said::Pong => bytes.extend(pong(b"an answer")),
                Said::Binary(_) | Said::Close(_) => continue,
            }
            expected.push(said);
        }
        let (code, length, seed) = close;
        let reason = text_of(length, seed);
        bytes.extend(self::close(code, &reason));
        expected.push(Said::Close(Some((code, reason))));
        prop_assert_eq!(theirs(&bytes, &cuts, Role::Client), expected);
    }
}
