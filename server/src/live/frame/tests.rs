//! Every rule of RFC 6455 that a client can break, with the right close code; and any valid message in any pieces.

use super::*;
use proptest::prelude::*;

/// What was decoded, owned.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = Vec::new();
    append(&mut bytes, first & 0x0F, payload);
    let header = bytes.len() - payload.len();
    bytes[0] = first;
    bytes[1] |= 0x80;
    let mut masked = bytes[..header].to_vec();
    masked.extend_from_slice(&mask);
    masked.extend(payload.iter().enumerate().map(|(place, byte)| byte ^ mask[place % 4]));
    masked
}

fn decode_in(pieces: impl IntoIterator<Item = Vec<u8>>, limit: u32) -> (Vec<Said>, Result<(), ProtocolError>, usize) {
    decode_stopping(pieces, limit, false)
}

/// `stops`: after each message whoever takes it breaks, and goes on later.
fn decode_stopping(
    pieces: impl IntoIterator<Item = Vec<u8>>,
    limit: u32,
    stops: bool,
) -> (Vec<Said>, Result<(), ProtocolError>, usize) {
    let mut decoder = Decoder::new(limit);
    let mut said = Vec::new();
    let mut most = 0;
    for mut piece in pieces {
        let mut take = |item: Item<'_>| {
            said.push(match item {
                Item::Text(text) => Said::Text(text.to_owned()),
                Item::Binary(bytes) => Said::Binary(bytes.to_vec()),
                Item::Ping(payload) => Said::Ping(payload.to_vec()),
                Item::Pong => Said::Pong,
                Item::Close(reason) => Said::Close(reason.map(|reason| reason.code.into())),
            });
            if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut from = 0;
        let outcome = loop {
            match decoder.decode(&mut piece[from..], &mut take) {
                Ok(0) => break Ok(()),
                Ok(rest) => from = piece.len() - rest,
                Err(error) => break Err(error),
            }
        };
        most = most.max(decoder.kept());
        if outcome.is_err() {
            return (said, outcome, most);
        }
    }
    (said, Ok(()), most)
}

fn decode(bytes: &[u8]) -> (Vec<Said>, Result<(), ProtocolError>) {
    let whole = decode_in([bytes.to_vec()], 65_536);
    let bytewise = decode_in(bytes.iter().map(|byte| vec![*byte]), 65_536);
    assert_eq!((&whole.0, &whole.1), (&bytewise.0, &bytewise.1), "the pieces must not matter");
    let stopping = decode_stopping([bytes.to_vec()], 65_536, true);
    assert_eq!((&whole.0, &whole.1), (&stopping.0, &stopping.1), "nor who stops after each message");
    (whole.0, whole.1)
}

fn breach(bytes: &[u8]) -> ProtocolError {
    decode(bytes).1.expect_err("this breaks the protocol")
}

#[test]
fn an_idle_decoder_is_small_and_holds_nothing() {
    assert!(size_of::<Decoder>() <= 16, "{}", size_of::<Decoder>());
    let mut decoder = Decoder::new(65_536);
    decoder.decode(&mut frame(0x81, b"hello"), |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(decoder.kept(), 0);
}

#[test]
fn messages_of_each_kind() {
    let mut bytes = frame(0x81, "grüße".as_bytes());
    bytes.extend(frame(0x82, &[0, 255]));
    bytes.extend(frame(0x89, b"?"));
    bytes.extend(frame(0x8A, b"!"));
    bytes.extend(frame(0x81, b""));
    bytes.extend(frame(0x88, &[0x03, 0xE8]));
    bytes.extend(frame(0x81, b"after the close nothing counts"));
    let expected = vec![
        Said::Text("grüße".into()),
        Said::Binary(vec![0, 255]),
        Said::Ping(b"?".to_vec()),
        Said::Pong,
        Said::Text(String::new()),
        Said::Close(Some(1000)),
    ];
    assert_eq!(decode(&bytes), (expected, Ok(())));
}

#[test]
fn fragments_with_control_frames_between_them() {
    let mut bytes = frame(0x01, b"one ");
    bytes.extend(frame(0x89, b"p"));
    bytes.extend(frame(0x00, b""));
    bytes.extend(frame(0x80, b"two"));
    assert_eq!(decode(&bytes).0, vec![Said::Ping(b"p".to_vec()), Said::Text("one two".into())]);
}

#[test]
fn a_character_split_between_fragments_is_whole_again() {
    for text in ["é", "€", "😀", "a😀b€"] {
        for place in 0..=text.len() {
            let (start, end) = text.as_bytes().split_at(place);
            let bytes = [frame(0x01, start), frame(0x89, b""), frame(0x00, b""), frame(0x80, end)].concat();
            assert_eq!(decode(&bytes).0, vec![Said::Ping(Vec::new()), Said::Text(text.into())], "{text} at {place}");
        }
    }
}

/// A header with a length in the form of its choice: 126 for two bytes, 127 for eight.
fn announced(first: u8, form: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | form];
    let wide = length.to_be_bytes();
    bytes.extend_from_slice(if form == 126 { &wide[6..] } else { &wide });
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

#[test]
fn what_breaks_the_framing_is_closed_with_1002() {
    let mut cases: Vec<(String, Vec<u8>, ProtocolError)> = Vec::new();
    for opcode in 0..=15_u8 {
        for bit in [0x40, 0x20, 0x10, 0x70] {
            let name = format!("5.2: reserved bits {bit:#x} on opcode {opcode}");
            cases.push((name, frame(0x80 | bit | opcode, b""), ProtocolError::ReservedBit));
        }
        if matches!(opcode, 3..=7 | 11..=15) {
            for last in [0x80, 0] {
                cases.push((format!("5.2: opcode {opcode}"), frame(last | opcode, b""), ProtocolError::UnknownOpcode));
            }
        }
    }
    for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
        cases.push((format!("5.1: opcode {opcode} unmasked"), vec![0x80 | opcode, 1, b'x'], ProtocolError::Unmasked));
    }
    for opcode in [CLOSE, PING, PONG] {
        cases.push((format!("5.5: opcode {opcode} fragmented"), frame(opcode, b""), ProtocolError::BadControl));
        for length in [126, 127, 65_536] {
            let long = frame(0x80 | opcode, &vec![0; length]);
            cases.push((format!("5.5: opcode {opcode} of {length} bytes"), long, ProtocolError::BadControl));
        }
    }
    for opcode in [TEXT, BINARY] {
        for (name, inner) in [("text", 0x81), ("binary", 0x82), ("begun text", 0x01), ("begun binary", 0x02)] {
            let bytes = [frame(opcode, b"one"), frame(inner, b"another inside it")].concat();
            cases.push((format!("5.4: {name} inside opcode {opcode}"), bytes, ProtocolError::BadFragment));
        }
        let bytes = [frame(0x80 | opcode, b"whole"), frame(0x80, b"")].concat();
        cases.push((format!("5.4: continuation after a whole opcode {opcode}"), bytes, ProtocolError::BadFragment));
        let bytes = [frame(opcode, b"a"), frame(0x80, b"b"), frame(0x00, b"c")].concat();
        cases.push((format!("5.4: continuation after the last of opcode {opcode}"), bytes, ProtocolError::BadFragment));
    }
    for first in [0x80, 0x00] {
        cases.push(("5.4: continuation of nothing".to_owned(), frame(first, b""), ProtocolError::BadFragment));
    }
    for length in [0, 1, 125] {
        let bytes = announced(0x81, 126, length);
        cases.push((format!("5.2: length {length} in 16 bits"), bytes, ProtocolError::BadLength));
    }
    for length in [0, 125, 126, 65_535, 1 << 63, (1 << 63) + 1, u64::MAX] {
        let bytes = announced(0x81, 127, length);
        cases.push((format!("5.2: length {length} in 64 bits"), bytes, ProtocolError::BadLength));
    }
    cases.push(("5.5.1: close of one byte".to_owned(), frame(0x88, &[3]), ProtocolError::BadClose));
    for (name, bytes, error) in cases {
        assert_eq!(breach(&bytes), error, "{name}");
        assert_eq!(error.close_code().number(), 1002, "{name}");
    }
}

#[test]
fn close_codes_that_may_not_be_sent_are_refused() {
    for code in 0..=u16::MAX {
        // Section 7.4: 1004 is reserved; 1005, 1006 and 1015 are never sent; 1012 to 1014 were registered later.
        let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let expected = if allowed { Ok(()) } else { Err(ProtocolError::BadClose) };
        assert_eq!(decode(&frame(0x88, &code.to_be_bytes())).1, expected, "{code}");
    }
    assert_eq!(ProtocolError::BadClose.close_code().number(), 1002);
}

#[test]
fn text_that_is_not_utf8_is_closed_with_1007_as_soon_as_it_is_there() {
    let broken: [&[u8]; 14] = [
        b"\xC3\x28", // a beginning without its end
        b"\x80",     // an end without its beginning
        b"\xC0\xAF", // longer than needed: in two, three and four bytes
        b"\xE0\x80\xAF",
        b"\xF0\x80\x80\xAF",
        b"\xED\xA0\x80", // halves of a surrogate pair
        b"\xED\xBF\xBF",
        b"\xF4\x90\x80\x80", // beyond U+10FFFF
        b"\xF5\x80\x80\x80",
        b"\xF8\x88\x80\x80\x80", // five and six bytes
        b"\xFC\x84\x80\x80\x80\x80",
        b"\xFE",
        b"ok \xFF",
        "cut short €".as_bytes().split_last().map_or(&[], |(_, rest)| rest),
    ];
    for bad in broken {
        assert_eq!(breach(&frame(0x81, bad)), ProtocolError::BadText, "{bad:?}");
        let reason = [&[0x03, 0xE8], bad].concat();
        assert_eq!(breach(&frame(0x88, &reason)), ProtocolError::BadText, "in a close reason: {bad:?}");
        for place in 0..=bad.len() {
            let pieces = [frame(0x01, &bad[..place]), frame(0x89, b""), frame(0x80, &bad[place..])].concat();
            assert_eq!(breach(&pieces), ProtocolError::BadText, "{bad:?} in fragments at {place}");
        }
    }
    // The message goes on, but its beginning is already bad.
    assert_eq!(breach(&frame(0x01, b"\xFF and more to come")), ProtocolError::BadText);
    let mut begun = frame(0x81, b"\xF4\x90 and much more to come");
    begun.truncate(6 + 2);
    assert_eq!(breach(&begun), ProtocolError::BadText, "the second byte already shows it");
    assert_eq!(ProtocolError::BadText.close_code().number(), 1007);
    // What is not text may hold anything.
    assert_eq!(decode(&frame(0x82, b"\xFF\xFE")).0, vec![Said::Binary(vec![0xFF, 0xFE])]);
}

#[test]
fn too_large_is_said_at_the_header_and_nothing_is_kept_for_it() {
    for declared in [65_537_u64, 10 << 30, (1 << 63) - 1] {
        let mut bytes = vec![0x81, 0xFF];
        bytes.extend_from_slice(&declared.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let (_, outcome, kept) = decode_in([bytes], 65_536);
        assert_eq!(outcome, Err(ProtocolError::TooLarge), "{declared}");
        assert!(kept < 256, "{kept}");
    }
    assert_eq!(ProtocolError::TooLarge.close_code().number(), 1009);
    // The sum of fragments counts.
    let mut bytes = frame(0x02, &[0; 40_000]);
    bytes.extend(frame(0x80, &[0; 40_000]));
    assert_eq!(breach(&bytes), ProtocolError::TooLarge);
    // A declared length costs nothing until bytes come.
    let mut announced = vec![0x82, 0xFE, 0xFF, 0xFF, 0, 0, 0, 0];
    announced.push(7);
    let (_, outcome, kept) = decode_in([announced], 65_536);
    assert_eq!(outcome, Ok(()));
    assert!(kept < 512, "{kept}");
}

#[test]
fn a_million_empty_fragments_keep_memory_flat() {
    let mut decoder = Decoder::new(65_536);
    decoder.decode(&mut frame(0x02, b""), |_| ControlFlow::Continue(())).unwrap();
    let many: Vec<u8> = frame(0x00, b"").repeat(1_000);
    for _ in 0..1_000 {
        decoder.decode(&mut many.clone(), |_| ControlFlow::Continue(())).unwrap();
    }
    assert!(decoder.kept() < 512, "{}", decoder.kept());
    let mut said = 0;
    let count = |item: Item<'_>| {
        said += usize::from(item == Item::Binary(b""));
        ControlFlow::Continue(())
    };
    decoder.decode(&mut frame(0x80, b""), count).unwrap();
    assert_eq!(said, 1);
}

#[test]
fn a_flood_of_control_frames_keeps_memory_flat_and_each_is_told() {
    let mut decoder = Decoder::new(65_536);
    decoder.decode(&mut frame(0x01, b"one "), |_| ControlFlow::Continue(())).unwrap();
    let flood = [frame(0x89, &[7; CONTROL]), frame(0x8A, b"")].concat().repeat(1_000);
    let mut told = 0;
    for _ in 0..100 {
        // Cut inside a frame each time.
        let (start, end) = flood.split_at(flood.len() / 3 + 1);
        for piece in [start, end] {
            let heard = |item: Item<'_>| {
                told += usize::from(matches!(item, Item::Ping(_) | Item::Pong));
                ControlFlow::Continue(())
            };
            decoder.decode(&mut piece.to_vec(), heard).unwrap();
            assert!(decoder.kept() < 768, "{}", decoder.kept());
        }
    }
    assert_eq!(told, 200_000);
    let mut said = Vec::new();
    decoder
        .decode(&mut frame(0x80, b"two"), |item| {
            said.push(matches!(item, Item::Text("one two")));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(said, [true]);
}

#[test]
fn a_close_reason_is_cut_at_a_character() {
    let bytes = close(1008, &"é".repeat(100));
    assert_eq!(bytes[1] as usize, bytes.len() - 2);
    assert!(bytes.len() <= 2 + CONTROL);
    assert!(str::from_utf8(&bytes[4..]).is_ok());
}

/// A message with the places where it is cut into fragments, and whether a ping comes between them.
fn messages() -> impl Strategy<Value = Vec<(Said, Vec<usize>, bool)>> {
    let said = prop_oneof![
        ".{0,200}".prop_map(Said::Text),
        prop::collection::vec(any::<u8>(), 0..400).prop_map(Said::Binary),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Said::Ping),
    ];
    prop::collection::vec((said, prop::collection::vec(0_usize..400, 0..4), any::<bool>()), 0..12)
}

proptest! {
    #[test]
    fn any_messages_in_any_pieces_are_what_was_sent(messages in messages(), cuts in prop::collection::vec(1_usize..300, 1..40)) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (said, mut fragments, ping_between) in messages {
            let (opcode, payload) = match &said {
                Said::Text(text) => (TEXT, text.clone().into_bytes()),
                Said::Binary(payload) => (BINARY, payload.clone()),
                Said::Ping(payload) => {
                    bytes.extend(frame(0x89, payload));
                    expected.push(said.clone());
                    continue;
                }
                _ => unreachable!(),
            };
            fragments.retain(|place| *place <= payload.len());
            fragments.sort_unstable();
            let mut from = 0;
            let mut first = opcode;
            for place in fragments {
                bytes.extend(frame(first, &payload[from..place]));
                if ping_between {
                    bytes.extend(frame(0x89, b"between"));
                    expected.push(Said::Ping(b"between".to_vec()));
                }
                (from, first) = (place, CONTINUATION);
            }
            bytes.extend(frame(0x80 | first, &payload[from..]));
            expected.push(said);
        }
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, others) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = others;
        }
        let (said, outcome, _) = decode_in(pieces, 65_536);
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(said, expected);
    }

    #[test]
    fn any_bytes_are_survived_within_bounds(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let (_, _, kept) = decode_in(pieces, 1_000);
        prop_assert!(kept <= 4_096, "{}", kept);
    }
}
