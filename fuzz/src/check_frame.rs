//! Any bytes, in any pieces, through the frame decoder.
//!
//! Owns: what must hold: the pieces do not matter, nor where its user stops and goes on later, what is kept is bounded by what has arrived, and what was decoded comes
//! back when it is encoded and decoded again. Refuses to know: which bytes are allowed (the decoder's own tests do).
//!
//! An input is a byte that says how many cuts follow (its low three bits) and which limit holds (its high bit), the cuts,
//! each the length of a piece less one, and the stream.

use crate::frame::{self, Decoder, Item, ProtocolError};
use std::ops::ControlFlow;

/// What the server takes.
const LIMIT: u32 = 64 * 1024;
/// So small that a short input can pass it.
const SMALL: u32 = 600;

#[derive(Debug, Clone, PartialEq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<(u16, String)>),
}

/// Panics when a promise is broken.
pub fn check(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let (cuts, stream) = rest.split_at(usize::from(first & 7).min(rest.len()));
    let limit = if first & 0x80 == 0 { LIMIT } else { SMALL };

    let whole = decode(stream, limit, &[]);
    assert_eq!(whole, decode(stream, limit, &[0]), "byte by byte it says something else");
    if !cuts.is_empty() {
        assert_eq!(whole, decode(stream, limit, cuts), "in pieces it says something else");
    }
    if let Err(error) = whole.1 {
        assert!(matches!(error.close_code().number(), 1002 | 1007 | 1009), "{error} has no code for it");
    }

    let mut again = Vec::new();
    for said in &whole.0 {
        again.extend(masked(&encode(said), [0x5A, first, 0, 0xFF]));
    }
    assert_eq!(decode(&again, limit, cuts), (whole.0, Ok(())), "encoded and decoded it says something else");
}

/// Decodes a stream in pieces whose lengths are the cuts, each and one, over and over; whole without any.
fn decode(stream: &[u8], limit: u32, cuts: &[u8]) -> (Vec<Said>, Result<(), ProtocolError>) {
    let mut decoder = Decoder::new(limit);
    let mut said = Vec::new();
    let mut arrived = 0;
    let mut cuts = cuts.iter().cycle();
    while arrived < stream.len() {
        let length = cuts.next().map_or(stream.len(), |cut| usize::from(*cut) + 1);
        let mut piece: Vec<u8> = stream.iter().skip(arrived).take(length).copied().collect();
        arrived += piece.len();
        let mut take = |item: Item<'_>| {
            said.push(match item {
                Item::Text(text) => Said::Text(text.to_owned()),
                Item::Binary(bytes) => Said::Binary(bytes.to_vec()),
                Item::Ping(payload) => Said::Ping(payload.to_vec()),
                Item::Pong => Said::Pong,
                Item::Close(reason) => {
                    Said::Close(reason.map(|reason| (reason.code.into(), reason.description.unwrap_or_default())))
                }
            });
            // Who takes no more for now is given the rest later.
            if said.len() % 3 == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut from = 0;
        let outcome = loop {
            match decoder.decode(&mut piece[from..], &mut take) {
                Ok(0) => break Ok(()),
                Ok(rest) => from = piece.len() - rest,
                Err(error) => break Err(error),
            }
        };
        // A vector that grows holds at most twice what was put in; 512 is for the rest, and a control frame.
        let bound = 512 + 2 * arrived.min(limit as usize);
        assert!(decoder.kept() <= bound, "{} bytes are kept of {arrived}", decoder.kept());
        if outcome.is_err() {
            return (said, outcome);
        }
    }
    for item in &said {
        match item {
            Said::Text(text) => assert!(text.len() <= limit as usize),
            Said::Binary(bytes) => assert!(bytes.len() <= limit as usize),
            Said::Ping(payload) => assert!(payload.len() <= 125),
            Said::Pong | Said::Close(_) => {}
        }
    }
    (said, Ok(()))
}

/// As the server would encode it.
fn encode(said: &Said) -> Vec<u8> {
    let mut out = Vec::new();
    match said {
        Said::Text(text) => frame::append_text(&mut out, text.as_bytes()),
        Said::Binary(bytes) => {
            // The server sends no binary messages; the frame differs by its opcode alone.
            frame::append_text(&mut out, bytes);
            out[0] = 0x82;
        }
        Said::Ping(payload) => out = frame::ping(payload),
        Said::Pong => out = frame::pong(b""),
        Said::Close(Some((code, reason))) => out = frame::close(*code, reason),
        Said::Close(None) => out = vec![0x88, 0],
    }
    out
}

/// The frame as a client would send it.
fn masked(frame: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let mut out = frame[..header].to_vec();
    out[1] |= 0x80;
    out.extend_from_slice(&mask);
    out.extend(frame[header..].iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}
