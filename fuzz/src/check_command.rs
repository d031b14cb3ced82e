//! Any text through the command decoder, and what it says through the check of its draft.
//!
//! Owns: what must hold: a frame that was decoded comes back when it is encoded and decoded again, all else is refused with
//! one of two codes and a short reason, and a draft becomes an envelope whose spans lie in order inside the text.
//! Refuses to know: who may say what.

use crate::spans;
use homeroom_protocol::{ClientFrame, Draft, ErrorCode, Limits, ServerFrame, codec};

/// Panics when a promise is broken.
pub fn check(input: &[u8]) {
    // What is not UTF-8 never comes so far: the frame decoder refuses it.
    let Ok(text) = std::str::from_utf8(input) else { return };
    match codec::decode_client(text) {
        Ok(frame) => {
            let encoded = codec::encode_client(&frame).expect("what was decoded can be encoded");
            assert_eq!(
                codec::decode_client(&encoded).as_ref(),
                Ok(&frame),
                "it comes back as something else: {encoded}"
            );
            if let ClientFrame::Post { draft, .. } | ClientFrame::Edit { draft, .. } = frame {
                check_draft(draft);
            }
        }
        Err(refused) => {
            let fault = &refused.fault;
            assert!(matches!(fault.code, ErrorCode::Malformed | ErrorCode::UnknownType), "{:?}", fault.code);
            assert!(!fault.message.is_empty() && fault.message.chars().count() <= 200, "{:?}", fault.message);
            let answer = ServerFrame::Error { reference: refused.reference, fault: refused.fault };
            let encoded = codec::encode_server(&answer).expect("a refusal can be said");
            assert_eq!(codec::decode_server(&encoded).expect("and be read"), answer);
        }
    }
}

fn check_draft(draft: Draft) {
    let text = draft.text.clone();
    let characters = text.chars().count();
    match draft.into_envelope(spans::found) {
        Ok(envelope) => {
            assert_eq!(envelope.text, text, "the text was changed");
            assert!((1..=Limits::CURRENT.text_characters as usize).contains(&characters));
            // What a writer may protect, and what may be found.
            assert!(envelope.protected.len() <= 1_000 + spans::MOST, "{} spans", envelope.protected.len());
            let mut end = 0;
            for span in &envelope.protected {
                assert!(end <= span.start && span.start < span.end, "{:?}", envelope.protected);
                end = span.end;
            }
            assert!(end as usize <= characters, "a span lies outside the text: {:?}", envelope.protected);
        }
        Err(fault) => assert!(matches!(fault.code, ErrorCode::Invalid | ErrorCode::TooLong), "{:?}", fault.code),
    }
}
