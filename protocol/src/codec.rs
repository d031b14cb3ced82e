//! Frames as JSON text: the only file that knows the encoding.
//!
//! Owns: encoding, decoding, and telling *malformed* from *unknown type* while saving the `ref` for the answer.
//! Refuses to know: what the frames mean.

use crate::error::{ErrorCode, Fault};
use crate::event::Event;
use crate::frame::{ClientFrame, ServerFrame};
use crate::ids::Ref;
use serde::{Deserialize, Serialize};

/// A frame that could not be decoded: the `ref` it carried, if that much could be read, and the fault to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// The ref, if there was one.
    pub reference: Option<Ref>,
    /// What to answer.
    pub fault: Fault,
}

/// The `type`s that [`ClientFrame`] has. A test holds the two together.
const CLIENT_TYPES: &[&str] = &[
    "hello",
    "post",
    "edit",
    "retract",
    "delivered",
    "read",
    "typing",
    "history",
    "refresh",
    #[cfg(feature = "next")]
    "pin",
];

/// Decodes what a client sent.
///
/// # Errors
/// [`Undecodable`], with `unknown_type` for a type from a newer protocol and `malformed` for all else.
pub fn decode_client(text: &str) -> Result<ClientFrame, Undecodable> {
    // serde would also read `["hello"]` as a frame: it lets a list of values stand for an object.
    if !text.trim_start().starts_with('{') {
        let fault = Fault::new(ErrorCode::Malformed, "The frame is not a JSON object.");
        return Err(Undecodable { reference: None, fault });
    }
    serde_json::from_str(text).map_err(|error| explain(text, &error))
}

/// Decodes what a server sent. A type that is not known becomes [`ServerFrame::Unknown`].
///
/// # Errors
/// When the text is not a frame at all.
pub fn decode_server(text: &str) -> Result<ServerFrame, serde_json::Error> {
    serde_json::from_str(text)
}

/// Encodes a client's frame.
///
/// # Errors
/// Never for the frames of this crate: all keys are strings and all numbers finite. The encoder's signature allows it.
pub fn encode_client(frame: &ClientFrame) -> Result<String, serde_json::Error> {
    serde_json::to_string(frame)
}

/// Encodes a server's frame.
///
/// # Errors
/// As for [`encode_client`].
pub fn encode_server(frame: &ServerFrame) -> Result<String, serde_json::Error> {
    serde_json::to_string(frame)
}

/// Encodes an event as the frame that carries it, without building the frame.
///
/// # Errors
/// As for [`encode_client`].
pub fn encode_event(event: &Event) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(flatten)]
        event: &'a Event,
    }
    serde_json::to_string(&Frame { kind: "event", event })
}

/// Looks again, slowly, at a text that did not decode, for the words of the answer.
fn explain(text: &str, error: &serde_json::Error) -> Undecodable {
    #[derive(Deserialize)]
    struct Outline {
        #[serde(rename = "type", default)]
        kind: Option<serde_json::Value>,
        #[serde(rename = "ref", default)]
        reference: Option<serde_json::Value>,
    }
    let Ok(outline) = serde_json::from_str::<Outline>(text) else {
        let fault = Fault::new(ErrorCode::Malformed, "The frame is not a JSON object with a `type`.");
        return Undecodable { reference: None, fault };
    };
    let reference = outline.reference.and_then(|value| serde_json::from_value(value).ok());
    let fault = match outline.kind.as_ref().and_then(serde_json::Value::as_str) {
        None => Fault::new(ErrorCode::Malformed, "The frame has no `type`, or one that is not a string."),
        Some(kind) if !CLIENT_TYPES.contains(&kind) => {
            Fault::new(ErrorCode::UnknownType, "This server does not know frames of this `type`.")
        }
        // serde_json names the field and the place, and repeats at most a scalar of the input.
        Some(_) => Fault::new(ErrorCode::Malformed, shortened(&error.to_string())),
    };
    Undecodable { reference, fault }
}

/// At most 200 characters, so that an answer does not echo a long input.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_type_is_known_by_name() {
        for kind in CLIENT_TYPES {
            let undecodable = decode_client(&format!(r#"{{"type":"{kind}","ref":"x"}}"#));
            if let Err(undecodable) = undecodable {
                assert_eq!(undecodable.fault.code, ErrorCode::Malformed, "{kind}");
            }
        }
    }

    #[test]
    fn faults_keep_the_ref_and_name_the_reason() {
        for (text, code, reference) in [
            ("", ErrorCode::Malformed, None),
            ("[]", ErrorCode::Malformed, None),
            ("{}", ErrorCode::Malformed, None),
            (r#"{"type":7,"ref":3}"#, ErrorCode::Malformed, Some(Ref(3))),
            (r#"{"type":"dance","ref":3}"#, ErrorCode::UnknownType, Some(Ref(3))),
            (r#"{"type":"typing","ref":3}"#, ErrorCode::Malformed, Some(Ref(3))),
            (r#"{"type":"typing","ref":-3}"#, ErrorCode::Malformed, None),
        ] {
            let undecodable = decode_client(text).unwrap_err();
            assert_eq!(undecodable.fault.code, code, "{text}");
            assert_eq!(undecodable.reference, reference, "{text}");
        }
    }

    #[test]
    fn an_event_by_itself_is_encoded_as_its_frame() {
        let event = Event {
            room: crate::RoomId::new(),
            id: crate::EventId::new(),
            conversation: None,
            about: None,
            n: Some(3),
            at: crate::Timestamp::now(),
            body: crate::EventBody::Withheld,
        };
        assert_eq!(decode_server(&encode_event(&event).unwrap()).unwrap(), ServerFrame::Event(event));
    }

    #[test]
    fn unknown_frames_and_fields_of_a_newer_server_are_survived() {
        assert_eq!(decode_server(r#"{"type":"fireworks","loud":true}"#).unwrap(), ServerFrame::Unknown);
    }
}
