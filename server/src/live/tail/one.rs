//! One room's tail: its head, the ring of its newest entries, and what came too early.
//!
//! Owns: putting entries in order, and noticing that something is missing or contradicts what is known.
//! Refuses to know: the database, the workers, and the other rooms.

use super::ends::Ends;
use crate::log::Entry;
use crate::log::pages::Holding;
use crate::sabotage::{self, Sabotage};
use homeroom_protocol::{EventBody, EventId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::OnceCell;

/// Entries kept in memory per held room. A reconnect after a few minutes finds what it missed here. Short messages take 1.1 KB each, 140 KB
/// a room. The longest that a frame can bring, 8,000 characters of four bytes with some 1,100 spans, takes 135 KB with its frame, so a room in
/// which nothing else is said takes 17 MB.
const RING: usize = 128;
/// Entries that came before their predecessor. More than this, and the log is read instead.
const EARLY: usize = 256;

/// The head of a room's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last seq.
    pub seq: i64,
    /// The last event; `None` in a room where nothing ever happened.
    pub event: Option<EventId>,
}

impl Head {
    /// Whether it is this event at this place.
    pub(super) fn is(self, seq: i64, event: EventId) -> bool {
        self.seq == seq && self.event == Some(event)
    }

    /// Whether an entry follows it by its own word, as far as it says.
    fn precedes(self, entry: &Entry) -> bool {
        entry.previous.is_none() || self.event.is_none() || entry.previous == self.event
    }
}

#[derive(Default)]
pub(super) struct Tail {
    /// Tells it from an earlier and a later tail of the same room.
    pub(super) holding: Holding,
    pub(super) head: Option<Head>,
    pub(super) loading: Arc<OnceCell<()>>,
    pub(super) ring: VecDeque<Arc<Entry>>,
    pub(super) early: BTreeMap<i64, Arc<Entry>>,
    pub(super) holders: Vec<usize>,
    pub(super) filling: bool,
    /// Something came too early and could not be kept.
    pub(super) dropped: bool,
    /// The log has to be read once more, from now on: something came that follows another entry than the head, so that it may have been
    /// put back to an earlier state; or the bell told of more while it was being read, which what was read may be too old to hold.
    pub(super) suspect: bool,
    /// While its head is read: the log goes at least so far, and among what it holds are changes of membership. A head that is older is
    /// not good enough for anybody to take a seat by.
    pub(super) told: i64,
    pub(super) left_at: Option<Instant>,
    /// Where its conversations end.
    pub(super) ends: Ends,
}

impl Tail {
    pub(super) fn has_hole(&self) -> bool {
        self.head.is_some() && (self.dropped || self.suspect || !self.early.is_empty())
    }

    /// The head is known from the log now. What came meanwhile follows.
    pub(super) fn settle(&mut self, head: Head) {
        if self.head.is_none() {
            self.head = Some(head);
            // Nobody holds the room before its head is known, so there is nobody to hand these to.
            let _nobody = self.take_early();
        }
    }

    /// Takes what follows the head, keeps what is early, drops what is known; gives what is new, in order.
    pub(super) fn accept(&mut self, entries: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
        let mut fresh = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.head {
                Some(head) if entry.seq <= head.seq => self.suspect |= self.contradicts(entry),
                Some(head) if entry.seq == head.seq + 1 || sabotage::is(Sabotage::SkipHoleFilling) => {
                    if entry.seq == head.seq + 1 && !head.precedes(entry) {
                        self.suspect = true;
                        break;
                    }
                    self.push(entry.clone());
                    fresh.push(entry.clone());
                }
                _ if self.early.len() < EARLY => {
                    self.early.insert(entry.seq, entry.clone());
                }
                _ => self.dropped = true,
            }
        }
        fresh.extend(self.take_early());
        fresh
    }

    /// Whether another entry is known to stand in this one's place.
    fn contradicts(&self, entry: &Entry) -> bool {
        let Some(oldest) = self.ring.front() else { return false };
        let place = usize::try_from(entry.seq - oldest.seq).ok();
        place.and_then(|place| self.ring.get(place)).is_some_and(|known| known.event.id != entry.event.id)
    }

    fn take_early(&mut self) -> Vec<Arc<Entry>> {
        let mut fresh = Vec::new();
        while let (Some(head), Some(first)) = (self.head, self.early.first_entry()) {
            if *first.key() > head.seq + 1 {
                break;
            }
            let entry = first.remove();
            if entry.seq == head.seq + 1 && !head.precedes(&entry) {
                self.suspect = true;
            } else if entry.seq == head.seq + 1 {
                self.push(entry.clone());
                fresh.push(entry);
            }
        }
        fresh
    }

    fn push(&mut self, entry: Arc<Entry>) {
        // An edit or a retraction changes how earlier entries about the same message stand now.
        if let EventBody::Edited { message } | EventBody::Retracted { message } = &entry.event.body
            && !(message.envelope.is_none() && sabotage::is(Sabotage::RetractedFromRing))
        {
            for earlier in &mut self.ring {
                if earlier.message().is_some_and(|earlier| earlier.id == message.id) {
                    *earlier = Arc::new(earlier.with_message(message));
                } else if earlier.is_unknown_about(entry.root_seq) {
                    *earlier = Arc::new(earlier.bare());
                }
            }
        }
        self.head = Some(Head { seq: entry.seq, event: Some(entry.event.id) });
        self.ends.note(&entry);
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Sight;
    use crate::log::entry::{About, Shows};
    use homeroom_protocol::{Address, ClientId, Message, PersonId, RoomId, Timestamp};

    #[test]
    fn what_a_newer_version_says_of_a_message_is_not_kept_once_that_is_retracted() {
        let (room, address, message, at) = (RoomId::new(), Address::Announcements, EventId::new(), Timestamp::now());
        let about = |n| About { conversation: address.conversation(room), address, n, root_seq: 1 };
        let tombstone = Message {
            id: message,
            n: 1,
            author: PersonId::new(),
            client_id: ClientId::new(),
            at,
            urgent: false,
            envelope: None,
            edited_at: None,
            retracted_at: Some(at),
        };
        let posted = EventBody::Posted { message: tombstone.clone() };
        let retracted = EventBody::Retracted { message: tombstone };
        let shows = Shows { kind: "translated", body: Some(r#"{"text":"hola"}"#) };
        let entries = [
            Entry::of_message(room, 1, message, at, about(1), posted),
            Entry::of_unknown(room, 2, EventId::new(), at, Some(about(2)), Some(shows)),
            Entry::of_message(room, 3, EventId::new(), at, about(3), retracted),
        ]
        .map(Arc::new);
        let mut tail = Tail { head: Some(Head { seq: 0, event: None }), ..Tail::default() };
        let shown = |tail: &Tail| String::from_utf8(tail.ring[1].payload(Sight::Full).unwrap().to_vec()).unwrap();
        tail.accept(&entries[..2]);
        assert!(shown(&tail).contains("hola"));
        tail.accept(&entries[2..]);
        assert!(!shown(&tail).contains("hola") && shown(&tail).contains(r#""n":2"#));
    }
}
