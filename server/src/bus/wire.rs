//! News as bytes, for a bus that leaves the process.
//!
//! Owns: the encoding between nodes of one deployment, which may run two versions at once. Refuses to know: how bytes travel.
//!
//! A message is `H1`, the 16 bytes of the sending node's id, and JSON. What a node can't read it drops: the bell tells of it.
//! An event travels as the frame that readers are sent, so a node passes on kinds that it does not know as they are.

use super::{News, Typing};
use crate::log::entry::MemberEntry;
use crate::log::sight::Thread;
use crate::log::{Entry, Moved, Sight};
use homeroom_protocol::{About, ConversationId, Event, EventId, Mark, PersonId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

/// The encoding's name and version.
const MAGIC: &[u8] = b"H1";
/// Where the JSON begins.
const HEAD: usize = MAGIC.len() + 16;

/// What travels.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wire<'a> {
    #[serde(borrow)]
    Entries(Vec<WireEntry<'a>>),
    Moved(Vec<WireMark>),
    Typing(WireTyping),
    SignedOut(Uuid),
}

#[derive(Serialize, Deserialize)]
struct WireEntry<'a> {
    seq: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<EventId>,
    root_seq: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<MemberEntry>,
    /// The step of a trace that it comes from; one that makes no sense is no reason to read nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<Value>,
    /// The frame, as readers with full sight get it.
    #[serde(borrow)]
    event: Cow<'a, RawValue>,
}

#[derive(Serialize, Deserialize)]
struct WireMark {
    room: RoomId,
    conversation: ConversationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<About>,
    mark: Mark,
}

#[derive(Serialize, Deserialize)]
struct WireTyping {
    room: RoomId,
    conversation: ConversationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<About>,
    person: PersonId,
}

/// Encodes news of this node; `None` for what can't be encoded, which is then left to the bell.
#[must_use]
pub fn encode(node: Uuid, news: &News) -> Option<Vec<u8>> {
    let frames: Vec<&str>;
    let wire = match news {
        News::Entries(_, entries) => {
            frames = entries
                .iter()
                .map(|entry| entry.payload(Sight::Full).and_then(|frame| std::str::from_utf8(frame).ok()))
                .collect::<Option<_>>()?;
            let entries = entries.iter().zip(&frames).map(|(entry, frame)| {
                let event = Cow::Borrowed(serde_json::from_str::<&RawValue>(frame).ok()?);
                let (seq, previous, root_seq, member) = (entry.seq, entry.previous, entry.root_seq, entry.member);
                let trace = entry.trace.as_deref().map(|context| String::from(*context).into());
                Some(WireEntry { seq, previous, root_seq, member, trace, event })
            });
            Wire::Entries(entries.collect::<Option<_>>()?)
        }
        News::Moved(moved) => Wire::Moved(
            moved
                .iter()
                .map(|Moved { room, conversation, thread, mark }| WireMark {
                    room: *room,
                    conversation: *conversation,
                    about: about(*thread),
                    mark: *mark,
                })
                .collect(),
        ),
        News::Typing(Typing { room, conversation, thread, person }) => Wire::Typing(WireTyping {
            room: *room,
            conversation: *conversation,
            about: about(*thread),
            person: *person,
        }),
        News::SignedOut(login) => Wire::SignedOut(*login),
    };
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(node.as_bytes());
    serde_json::to_writer(&mut bytes, &wire).ok()?;
    Some(bytes)
}

/// What was read.
#[derive(Debug)]
pub enum Heard {
    /// Another node's news.
    News(News),
    /// This node's own: it knows.
    Own,
    /// Not to be read: a newer version's, or nothing of ours.
    Unreadable,
}

/// Decodes what came over the bus. Never trusts it: whoever can write to the bus could write to the database, but a broken
/// message must not break a node.
#[must_use]
pub fn decode(node: Uuid, bytes: &[u8]) -> Heard {
    let (Some(head), Some(json)) = (bytes.get(..HEAD), bytes.get(HEAD..)) else { return Heard::Unreadable };
    if !head.starts_with(MAGIC) {
        return Heard::Unreadable;
    }
    if head.ends_with(node.as_bytes()) {
        return Heard::Own;
    }
    let Ok(wire) = serde_json::from_slice::<Wire<'_>>(json) else { return Heard::Unreadable };
    match news(wire) {
        Some(news) => Heard::News(news),
        None => Heard::Unreadable,
    }
}

fn news(wire: Wire<'_>) -> Option<News> {
    Some(match wire {
        Wire::Entries(entries) => {
            let entries: Arc<[Arc<Entry>]> = entries.into_iter().map(entry).collect::<Option<_>>()?;
            let room = entries.first()?.event.room;
            if entries.iter().any(|entry| entry.event.room != room) {
                return None;
            }
            News::Entries(room, entries)
        }
        Wire::Moved(marks) => News::Moved(
            marks
                .into_iter()
                .map(|WireMark { room, conversation, about, mark }| Moved {
                    room,
                    conversation,
                    thread: in_conversation(about),
                    mark,
                })
                .collect(),
        ),
        Wire::Typing(WireTyping { room, conversation, about, person }) => {
            News::Typing(Typing { room, conversation, thread: in_conversation(about), person })
        }
        Wire::SignedOut(login) => News::SignedOut(login),
    })
}

fn entry(wire: WireEntry<'_>) -> Option<Arc<Entry>> {
    let event: Event = serde_json::from_str(wire.event.get()).ok()?;
    let thread = if event.conversation.is_some() { in_conversation(event.about) } else { Thread::Room };
    let mut entry =
        Entry::as_sent(wire.seq, wire.previous, wire.root_seq, thread, wire.member, event, wire.event.get());
    entry.trace = wire.trace.and_then(|trace| serde_json::from_value(trace).ok()).map(Box::new);
    Some(Arc::new(entry))
}

fn about(thread: Thread) -> Option<About> {
    match thread {
        Thread::Private(about) => Some(about),
        Thread::Room | Thread::Announcements => None,
    }
}

fn in_conversation(about: Option<About>) -> Thread {
    about.map_or(Thread::Announcements, Thread::Private)
}

#[cfg(test)]
mod tests {
    use super::*;
    use homeroom_protocol::{Address, ClientId, EventBody, Message, Role, Timestamp};
    use proptest::prelude::*;

    fn posted(room: RoomId, address: Address) -> Entry {
        let id = EventId::new();
        let message = Message {
            id,
            n: 3,
            author: PersonId::new(),
            client_id: ClientId::new(),
            at: Timestamp::now(),
            urgent: false,
            envelope: None,
            edited_at: None,
            retracted_at: Some(Timestamp::now()),
        };
        let about = crate::log::entry::About { conversation: address.conversation(room), address, n: 3, root_seq: 9 };
        Entry::of_message(room, 9, id, Timestamp::now(), about, EventBody::Posted { message })
            .following(Some(EventId::new()))
    }

    #[test]
    fn entries_arrive_as_they_left_and_are_not_heard_by_their_own_node() {
        let (here, there, room) = (Uuid::now_v7(), Uuid::now_v7(), RoomId::new());
        let about = About { guardian: PersonId::new(), student: PersonId::new() };
        let member =
            MemberEntry { person: PersonId::new(), student: None, role: Role::Staff, joins: true, sees_after: 4 };
        let sent = [
            posted(room, Address::Announcements),
            posted(room, Address::Private(about)),
            Entry::of_member(room, 10, EventId::new(), Timestamp::now(), member),
        ];
        let sent: Arc<[Arc<Entry>]> = sent.into_iter().map(Arc::new).collect();
        let bytes = encode(here, &News::Entries(room, sent.clone())).unwrap();
        assert!(matches!(decode(here, &bytes), Heard::Own));
        let Heard::News(News::Entries(of, heard)) = decode(there, &bytes) else { panic!("not read") };
        assert_eq!(of, room);
        for (sent, heard) in sent.iter().zip(heard.iter()) {
            assert_eq!(
                (sent.seq, sent.previous, sent.root_seq, sent.thread, sent.member, &sent.event),
                (heard.seq, heard.previous, heard.root_seq, heard.thread, heard.member, &heard.event)
            );
            assert_eq!(sent.payload(Sight::Full), heard.payload(Sight::Full));
            assert_eq!(sent.payload(Sight::Withheld), heard.payload(Sight::Withheld));
        }
    }

    #[test]
    fn a_kind_that_this_version_does_not_know_is_passed_on_as_it_is() {
        let (here, there, room) = (Uuid::now_v7(), Uuid::now_v7(), RoomId::new());
        let frame = serde_json::json!({
            "type": "event", "room": room, "id": EventId::new(), "conversation": ConversationId(Uuid::now_v7()), "n": 4,
            "at": Timestamp::now(), "kind": "pinned", "by": PersonId::new(),
        })
        .to_string();
        let json = format!(r#"{{"entries":[{{"seq":7,"root_seq":7,"event":{frame},"mood":"new"}}]}}"#);
        let bytes = [MAGIC, here.as_bytes(), json.as_bytes()].concat();
        let Heard::News(News::Entries(_, heard)) = decode(there, &bytes) else { panic!("not read") };
        assert_eq!(heard[0].payload(Sight::Full).unwrap(), frame.as_bytes());
        assert_eq!((heard[0].thread, heard[0].event.n), (Thread::Announcements, Some(4)));
    }

    #[test]
    fn a_trace_goes_with_its_entry_and_one_that_makes_no_sense_holds_nothing_up() {
        let (here, there, room) = (Uuid::now_v7(), Uuid::now_v7(), RoomId::new());
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let known: crate::trace::Context = serde_json::from_value(context.into()).unwrap();
        let entry = posted(room, Address::Announcements).traced(known);
        let frame = String::from_utf8(entry.payload(Sight::Full).unwrap().to_vec()).unwrap();
        assert!(!frame.contains("4bf92f"), "clients hear nothing of it");
        let bytes = encode(here, &News::Entries(room, Arc::new([Arc::new(entry)]))).unwrap();
        let heard = |bytes: &[u8]| match decode(there, bytes) {
            Heard::News(News::Entries(_, entries)) => entries[0].trace.as_deref().copied(),
            other => panic!("{other:?}"),
        };
        assert_eq!(heard(&bytes), Some(known));
        // An older node's have none, a newer one's may look otherwise.
        let text = String::from_utf8(bytes[HEAD..].to_vec()).unwrap();
        let written = format!(r#""trace":"{context}","#);
        assert!(text.contains(&written), "{text}");
        for instead in ["", r#""trace":"01-x","#, r#""trace":{"v":2},"#, r#""trace":null,"#] {
            let bytes = [&bytes[..HEAD], text.replace(&written, instead).as_bytes()].concat();
            assert_eq!(heard(&bytes), None, "{instead}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_over_the_bus_breaks_a_node(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..400) {
            let node = Uuid::now_v7();
            let _read = decode(node, &bytes);
            let _read = decode(node, &[MAGIC, &[0; 16], &bytes].concat());
            let room = RoomId::new();
            let whole = encode(Uuid::now_v7(), &News::Entries(room, Arc::new([Arc::new(posted(room, Address::Announcements))]))).unwrap();
            let cut = cut.min(whole.len() - 1);
            prop_assert!(matches!(decode(node, &whole[..cut]), Heard::Unreadable));
        }
    }
}
