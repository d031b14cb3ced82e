//! How far a reader has come.
//!
//! Owns: per room the position, per conversation the last `n`, and the check that nothing is missing or doubled.
//! Refuses to know: where events come from, and what snapshots the application holds.

use crate::update::{Anomaly, Update};
use homeroom_protocol::{ConversationId, Event, EventId, RoomId, RoomPosition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far a reader has come in all of its rooms. An application that keeps this (it is `Serialize`) beside what it has
/// stored, and gives it to [`Options::progress`](crate::Options::progress) at its next start, goes on without a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// By room.
    pub rooms: BTreeMap<RoomId, RoomProgress>,
}

/// How far a reader has come in one room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomProgress {
    /// The last event taken in; `None` when it has taken in none yet.
    pub position: Option<EventId>,
    /// The last `n` of each conversation of which an event came.
    pub numbers: BTreeMap<ConversationId, u64>,
}

impl Progress {
    /// The positions, as `hello` says them.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<RoomId, Option<EventId>> {
        self.rooms.iter().map(|(room, progress)| (*room, progress.position)).collect()
    }

    /// Moves on with what was handed over.
    pub(crate) fn follow(&mut self, update: &Update) {
        match update {
            Update::Welcome(welcome) => welcome.rooms.iter().for_each(|room| self.start(room)),
            Update::Joined(room) => self.start(room),
            Update::Event(event) => {
                self.take(event);
            }
            Update::Reset { room, position, .. } => {
                self.rooms.insert(*room, RoomProgress { position: *position, numbers: BTreeMap::new() });
            }
            Update::Left(room) => {
                self.rooms.remove(room);
            }
            _ => {}
        }
    }

    /// A room in which the session starts: where it was left if it is held, else where the server says.
    fn start(&mut self, room: &RoomPosition) {
        self.rooms
            .entry(room.room)
            .or_insert_with(|| RoomProgress { position: room.position, numbers: BTreeMap::new() });
    }

    /// Takes in an event. What it says about the server's word is the result.
    pub(crate) fn take(&mut self, event: &Event) -> Option<Anomaly> {
        let Some(room) = self.rooms.get_mut(&event.room) else {
            return Some(Anomaly::UnknownRoom { room: event.room, event: event.id });
        };
        let doubled = room.position == Some(event.id);
        room.position = Some(event.id);
        let (Some(conversation), Some(n)) = (event.conversation, event.n) else {
            return doubled.then_some(Anomaly::Doubled {
                room: event.room,
                conversation: event.conversation,
                event: event.id,
                n: event.n,
            });
        };
        match room.numbers.insert(conversation, n) {
            // The first that is seen of a conversation: a reader who came later starts in the middle.
            None => None,
            Some(last) if n == last + 1 => None,
            Some(last) if n <= last => {
                // A double must not turn the clock back: the next good event follows on `last`.
                room.numbers.insert(conversation, last);
                Some(Anomaly::Doubled {
                    room: event.room,
                    conversation: Some(conversation),
                    event: event.id,
                    n: Some(n),
                })
            }
            Some(last) => {
                Some(Anomaly::Hole { room: event.room, conversation, event: event.id, expected: last + 1, found: n })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use homeroom_protocol::{EventBody, Timestamp};

    fn event(room: RoomId, conversation: ConversationId, n: u64) -> Event {
        Event {
            room,
            id: EventId::new(),
            conversation: Some(conversation),
            about: None,
            n: Some(n),
            at: Timestamp::now(),
            body: EventBody::Withheld,
        }
    }

    #[test]
    fn numbers_are_contiguous_or_said_not_to_be() {
        let (room, conversation) = (RoomId::new(), ConversationId::new());
        let mut progress = Progress::default();
        progress.rooms.insert(room, RoomProgress::default());
        // A reader who joined later starts anywhere; then each is one more than the last.
        for n in [4, 5, 6] {
            assert_eq!(progress.take(&event(room, conversation, n)), None);
        }
        assert!(matches!(
            progress.take(&event(room, conversation, 9)),
            Some(Anomaly::Hole { expected: 7, found: 9, .. })
        ));
        assert!(matches!(progress.take(&event(room, conversation, 9)), Some(Anomaly::Doubled { n: Some(9), .. })));
        assert_eq!(progress.take(&event(room, conversation, 10)), None);
        assert!(matches!(progress.take(&event(RoomId::new(), conversation, 1)), Some(Anomaly::UnknownRoom { .. })));
    }

    #[test]
    fn a_reset_forgets_and_goes_on_from_where_it_says() {
        let (room, conversation) = (RoomId::new(), ConversationId::new());
        let mut progress = Progress::default();
        progress.rooms.insert(room, RoomProgress::default());
        progress.take(&event(room, conversation, 4));
        let position = Some(EventId::new());
        progress.follow(&Update::Reset { room, position, reason: homeroom_protocol::ResetReason::TooFarBehind });
        assert_eq!(progress.positions()[&room], position);
        assert_eq!(progress.take(&event(room, conversation, 90)), None);
        progress.follow(&Update::Left(room));
        assert!(progress.positions().is_empty());
    }
}
