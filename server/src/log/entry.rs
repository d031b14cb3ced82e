//! One entry of a room's log, as it travels inside the servers.
//!
//! Owns: the entry with its `seq`, what decides who sees it, and the frames that show it, encoded once and shared.
//! Refuses to know: SQL, sockets, and who is connected.

use super::sight::{Sight, Subject, Thread};
use crate::trace::Context;
use bytes::Bytes;
use homeroom_protocol::{
    Address, ConversationId, Envelope, Event, EventBody, EventId, Message, PersonId, ProtectedSpan, Role, RoomId,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::OnceLock;

/// One entry of a room's log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number in its room's log, in commit order, without a gap.
    pub seq: i64,
    /// The entry before it, where it came with its commit; what was read from the log follows by its place there.
    pub previous: Option<EventId>,
    /// The seq of the message that it is about; its own for other kinds.
    pub root_seq: i64,
    /// Which part of the room it belongs to.
    pub thread: Thread,
    /// A change of membership, where it is one.
    pub member: Option<MemberEntry>,
    /// As readers see it.
    pub event: Event,
    /// The step of a trace that it comes from, where it is traced. It never leaves the servers.
    pub trace: Option<Box<Context>>,
    full: OnceLock<Bytes>,
    withheld: OnceLock<Bytes>,
}

/// A change of membership, as it is stored in the log (the `body` of `member_joined` and `member_left`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEntry {
    /// Who.
    pub person: PersonId,
    /// For a guardian: through whom.
    pub student: Option<PersonId>,
    /// As what.
    pub role: Role,
    /// Whether they joined or left.
    pub joins: bool,
    /// What they may see begins after this seq.
    pub sees_after: i64,
}

/// A frame besides its text and spans: the names and ids.
const FRAME_BYTES: usize = 512;
/// A span in a frame: `{"start":1234,"end":1235,"kind":"number"},`.
const SPAN_BYTES: usize = 42;
/// An `Arc`'s two counters, and its place in a vector.
const COUNTED_BYTES: usize = 24;

/// The kinds of entries by their names in the table.
pub mod kind {
    /// A message was posted.
    pub const POSTED: &str = "posted";
    /// A message was edited.
    pub const EDITED: &str = "edited";
    /// A message was retracted.
    pub const RETRACTED: &str = "retracted";
    /// A message is to be kept in sight.
    #[cfg(feature = "next")]
    pub const PINNED: &str = "pinned";
    /// Somebody joined the room.
    pub const MEMBER_JOINED: &str = "member_joined";
    /// Somebody left the room.
    pub const MEMBER_LEFT: &str = "member_left";
    /// All that this version knows.
    pub const ALL: [&str; 5] = [POSTED, EDITED, RETRACTED, MEMBER_JOINED, MEMBER_LEFT];
}

/// What an entry of a conversation is about.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The conversation.
    pub conversation: ConversationId,
    /// Who is in it.
    pub address: Address,
    /// The entry's number in it.
    pub n: i64,
    /// The seq of the message.
    pub root_seq: i64,
}

/// What is stored of a kind that this version does not know.
#[derive(Debug, Clone, Copy)]
pub struct Shows<'a> {
    /// Its name.
    pub kind: &'a str,
    /// A JSON object: the further fields of its frame.
    pub body: Option<&'a str>,
}

impl Shows<'_> {
    /// The frame that the newer version would send. What every event has stands as the columns say, whatever the body says.
    fn frame(&self, event: &Event) -> Option<Bytes> {
        let mut frame: Map<String, Value> = serde_json::from_slice(&encode(event)).ok()?;
        frame.insert("kind".to_owned(), self.kind.into());
        if let Some(body) = self.body {
            let further: Map<String, Value> = serde_json::from_str(body).ok()?;
            for (name, value) in further {
                frame.entry(name).or_insert(value);
            }
        }
        serde_json::to_vec(&frame).ok().map(Bytes::from)
    }
}

impl Entry {
    /// A post, an edit or a retraction.
    #[must_use]
    pub fn of_message(room: RoomId, seq: i64, id: EventId, at: Timestamp, about: About, body: EventBody) -> Self {
        let event = Event {
            room,
            id,
            conversation: Some(about.conversation),
            about: about.address.about(),
            n: Some(about.n.unsigned_abs()),
            at,
            body,
        };
        Self {
            seq,
            previous: None,
            root_seq: about.root_seq,
            thread: about.address.into(),
            member: None,
            event,
            trace: None,
            full: OnceLock::new(),
            withheld: OnceLock::new(),
        }
    }

    /// A change of membership.
    #[must_use]
    pub fn of_member(room: RoomId, seq: i64, id: EventId, at: Timestamp, member: MemberEntry) -> Self {
        let MemberEntry { person, student, role, .. } = member;
        let body = if member.joins {
            EventBody::MemberJoined { person, role, student }
        } else {
            EventBody::MemberLeft { person, role, student }
        };
        let event = Event { room, id, conversation: None, about: None, n: None, at, body };
        Self {
            seq,
            previous: None,
            root_seq: seq,
            thread: Thread::Room,
            member: Some(member),
            event,
            trace: None,
            full: OnceLock::new(),
            withheld: OnceLock::new(),
        }
    }

    /// A kind that this version does not know, written by a newer one: passed on by its columns, with what `shows` says besides.
    /// Without `shows` readers learn that there was something, and its numbers.
    #[must_use]
    pub fn of_unknown(
        room: RoomId,
        seq: i64,
        id: EventId,
        at: Timestamp,
        about: Option<About>,
        shows: Option<Shows<'_>>,
    ) -> Self {
        let event = Event {
            room,
            id,
            conversation: about.map(|about| about.conversation),
            about: about.and_then(|about| about.address.about()),
            n: about.map(|about| about.n.unsigned_abs()),
            at,
            body: EventBody::Unknown,
        };
        Self {
            seq,
            previous: None,
            root_seq: about.map_or(seq, |about| about.root_seq),
            thread: about.map_or(Thread::Room, |about| about.address.into()),
            member: None,
            trace: None,
            full: shows.and_then(|shows| shows.frame(&event)).map(OnceLock::from).unwrap_or_default(),
            event,
            withheld: OnceLock::new(),
        }
    }

    /// An entry as another node sent it, with the frame that it made: it is not made again, and shows what this version may not
    /// know.
    #[must_use]
    pub fn as_sent(
        seq: i64,
        previous: Option<EventId>,
        root_seq: i64,
        thread: Thread,
        member: Option<MemberEntry>,
        event: Event,
        frame: &str,
    ) -> Self {
        let full = OnceLock::from(Bytes::copy_from_slice(frame.as_bytes()));
        Self { seq, previous, root_seq, thread, member, event, trace: None, full, withheld: OnceLock::new() }
    }

    /// The same entry, said to follow another one.
    #[must_use]
    pub fn following(self, previous: Option<EventId>) -> Self {
        Self { previous, ..self }
    }

    /// The same entry, with its frames, as it goes on from a step of a trace.
    #[must_use]
    pub fn traced(&self, context: Context) -> Self {
        Self { trace: Some(Box::new(context)), ..self.clone() }
    }

    /// Its kind by the name in the table, where this version knows it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.event.body {
            EventBody::Posted { .. } => kind::POSTED,
            EventBody::Edited { .. } => kind::EDITED,
            EventBody::Retracted { .. } => kind::RETRACTED,
            EventBody::MemberJoined { .. } => kind::MEMBER_JOINED,
            EventBody::MemberLeft { .. } => kind::MEMBER_LEFT,
            _ => "other",
        }
    }

    /// What decides who sees it.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject { root_seq: self.root_seq, thread: self.thread }
    }

    /// The message that it is about, as it stands now.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match &self.event.body {
            EventBody::Posted { message } | EventBody::Edited { message } | EventBody::Retracted { message } => {
                Some(message)
            }
            _ => None,
        }
    }

    /// Bytes that it takes in memory behind an [`Arc`](std::sync::Arc), its frame among them: whoever is shown it has that encoded.
    /// An estimate, so that nothing is encoded to be counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let envelope = self.message().and_then(|message| message.envelope.as_ref());
        let frame = self.full.get().map_or_else(|| FRAME_BYTES + envelope.map_or(0, encoded_bytes), Bytes::len);
        COUNTED_BYTES + size_of::<Self>() + envelope.map_or(0, held_bytes) + frame
    }

    /// Whether it is of a kind that this version does not know, about an earlier message. Such a one may show the message's words
    /// (a translation would), and nobody here knows where.
    #[must_use]
    pub fn is_unknown_about(&self, root_seq: i64) -> bool {
        self.event.body == EventBody::Unknown && self.root_seq == root_seq && self.seq != root_seq
    }

    /// The same entry, showing nothing but that there was something.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self {
            seq: self.seq,
            previous: self.previous,
            root_seq: self.root_seq,
            thread: self.thread,
            member: self.member,
            event: Event { body: EventBody::Unknown, ..self.event.clone() },
            trace: None,
            full: OnceLock::new(),
            withheld: OnceLock::new(),
        }
    }

    /// The same entry with its message as it stands after a later edit or retraction.
    #[must_use]
    pub fn with_message(&self, now: &Message) -> Self {
        let message = now.clone();
        let body = match &self.event.body {
            EventBody::Posted { .. } => EventBody::Posted { message },
            EventBody::Edited { .. } => EventBody::Edited { message },
            EventBody::Retracted { .. } => EventBody::Retracted { message },
            other => other.clone(),
        };
        let event = Event { body, ..self.event.clone() };
        Self {
            seq: self.seq,
            previous: self.previous,
            root_seq: self.root_seq,
            thread: self.thread,
            member: self.member,
            event,
            trace: None,
            full: OnceLock::new(),
            withheld: OnceLock::new(),
        }
    }

    /// The text frame's payload for a reader with this sight; encoded at the first call, shared afterwards.
    #[must_use]
    pub fn payload(&self, sight: Sight) -> Option<&Bytes> {
        match sight {
            Sight::Full => Some(self.full.get_or_init(|| encode(&self.event))),
            Sight::Withheld => {
                Some(self.withheld.get_or_init(|| encode(&Event { body: EventBody::Withheld, ..self.event.clone() })))
            }
            Sight::Nothing => None,
        }
    }
}

/// What an envelope holds beside its own size.
fn held_bytes(envelope: &Envelope) -> usize {
    let translated: usize = envelope.translations.values().map(|translation| translation.text.capacity()).sum();
    envelope.text.capacity() + envelope.protected.capacity() * size_of::<ProtectedSpan>() + translated
}

/// What an envelope adds to its frame.
fn encoded_bytes(envelope: &Envelope) -> usize {
    let translated: usize = envelope.translations.values().map(|translation| json_bytes(&translation.text)).sum();
    json_bytes(&envelope.text) + envelope.protected.len() * SPAN_BYTES + translated
}

/// A text's bytes inside a JSON string.
fn json_bytes(text: &str) -> usize {
    let of_byte = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        // \u0001
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(of_byte).sum()
}

fn encode(event: &Event) -> Bytes {
    // An event has string keys and finite numbers only; were it ever not so, the reader would get an empty object, which
    // every client ignores, and see the hole in `n`.
    homeroom_protocol::codec::encode_event(event).map_or_else(
        |error| {
            tracing::error!(%error, "an event could not be encoded");
            Bytes::from_static(b"{}")
        },
        Bytes::from,
    )
}

impl From<Address> for Thread {
    fn from(address: Address) -> Self {
        match address {
            Address::Announcements => Self::Announcements,
            Address::Private(about) => Self::Private(about),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::spans;
    use homeroom_protocol::{ClientId, Draft, Language, SpanKind};
    use std::sync::Arc;

    fn posted(text: &str, protected: Vec<ProtectedSpan>) -> Entry {
        let draft = Draft { language: Language::english(), text: text.to_owned(), protected };
        let (room, id, at, address) = (RoomId::new(), EventId::new(), Timestamp::now(), Address::Announcements);
        // As it is read from the log: a vector that grew may have room for twice of what is in it.
        let body = serde_json::to_string(&draft.into_envelope(spans::found).unwrap()).unwrap();
        let message = Message {
            id,
            n: 1,
            author: PersonId::new(),
            client_id: ClientId::new(),
            at,
            urgent: false,
            envelope: serde_json::from_str(&body).unwrap(),
            edited_at: None,
            retracted_at: None,
        };
        let about = About { conversation: address.conversation(room), address, n: 1, root_seq: 1 };
        Entry::of_message(room, 1, id, at, about, EventBody::Posted { message })
    }

    /// What it takes once it was shown.
    fn real(entry: Entry) -> usize {
        let entry = Arc::new(entry);
        let envelope = entry.message().unwrap().envelope.as_ref().unwrap();
        let spans = envelope.protected.capacity() * size_of::<ProtectedSpan>();
        let frame = entry.payload(Sight::Full).unwrap().len();
        3 * size_of::<usize>() + size_of::<Entry>() + envelope.text.capacity() + spans + frame
    }

    #[test]
    fn what_an_entry_takes_is_known_within_a_factor_of_two() {
        let written =
            (0..1_000).map(|n| ProtectedSpan { start: 4 * n, end: 4 * n + 3, kind: SpanKind::Name }).collect();
        for (what, text, protected) in [
            ("a word", "yes".to_owned(), Vec::new()),
            ("long, without a span", "x".repeat(8_000), Vec::new()),
            ("of four bytes each", "😀".repeat(8_000), Vec::new()),
            ("of what JSON escapes", format!("x{}", "\u{1}".repeat(7_999)), Vec::new()),
            ("spans that are found", "1 ".repeat(4_000), Vec::new()),
            ("spans and little else", "1 ".repeat(spans::MOST), Vec::new()),
            ("spans that are written", "1 ".repeat(4_000), written),
        ] {
            let entry = posted(&text, protected);
            let estimate = entry.bytes();
            let real = real(entry);
            println!("{what}: {estimate} estimated, {real} real");
            assert!(estimate <= 2 * real && real <= 2 * estimate, "{what}: {estimate} estimated, {real} real");
        }
    }
}
