//! What a lane knows of its rooms without asking.
//!
//! Owns: rooms as the lane's last batch in each has left them. Whatever changes a room, who is in it, the numbers of its conversations,
//! changes it with an entry of its log: as long as the room's last entry is the one that is known here, all that is known here is so.
//! Whoever builds on it makes the database say that (see `postgres` and `sqlite`). Refuses to know: SQL, and the rules (see `plan`).

use super::plan::{Head, Loaded, Plan};
use super::{Heads, Pending, What};
use crate::log::sight::View;
use homeroom_protocol::{ConversationId, PersonId, RoomId};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Rooms, people and conversations that one lane knows: some 10 MB. One more, and *it begins anew*, which costs each room a look-up.
const MOST: usize = 50_000;

/// What one lane knows.
#[derive(Debug, Default)]
pub struct Known {
    rooms: HashMap<RoomId, Room>,
    size: usize,
}

#[derive(Debug)]
struct Room {
    head: Head,
    views: HashMap<PersonId, View>,
    numbers: HashMap<ConversationId, i64>,
}

impl Room {
    fn size(&self) -> usize {
        1 + self.views.len() + self.numbers.len()
    }
}

impl Known {
    /// All that a batch of posts has to know; nothing when something of it has to be asked for. Whether a client id was answered before
    /// is never known here.
    pub fn loaded(&self, batch: &[Pending]) -> Option<Loaded> {
        let mut loaded = Loaded::default();
        for Pending { append, .. } in batch {
            let What::Post { to, .. } = &append.what else { return None };
            let (room, conversation) = (self.rooms.get(&append.room)?, to.conversation(append.room));
            loaded.heads.insert(append.room, room.head);
            loaded.numbers.insert(conversation, *room.numbers.get(&conversation)?);
            for person in [append.author].into_iter().chain(to.about().map(|about| about.guardian)) {
                loaded.views.insert((append.room, person), room.views.get(&person)?.clone());
            }
        }
        Some(loaded)
    }

    /// Forgets the rooms that stand differently by now: another node wrote to them.
    pub fn meet(&mut self, heads: &Heads) {
        for (room, head) in heads {
            if self.rooms.get(room).is_some_and(|known| known.head.last_event != head.last_event) {
                self.forget(*room);
            }
        }
    }

    /// Takes over how rooms stand after a batch that is committed, with whom and what was looked up for it. Those that were known before
    /// are as [`meet`](Self::meet) left them.
    pub fn learn(&mut self, plan: &mut Plan) {
        if self.size > MOST {
            *self = Self::default();
        }
        let Loaded { heads, views, .. } = std::mem::take(&mut plan.after);
        for (room, head) in heads {
            // Before its first entry there is nothing by which a room could be known.
            if head.last_event.is_some() {
                let size = &mut self.size;
                let room = self.rooms.entry(room).or_insert_with(|| {
                    *size += 1;
                    Room { head, views: HashMap::new(), numbers: HashMap::new() }
                });
                room.head = head;
            }
        }
        for ((room, person), view) in views {
            if let Some(room) = self.rooms.get_mut(&room) {
                self.size += usize::from(room.views.insert(person, view).is_none());
            }
        }
        for (conversation, (room, _, n, _)) in &plan.conversations {
            if let Some(room) = self.rooms.get_mut(room) {
                self.size += usize::from(room.numbers.insert(*conversation, *n).is_none());
            }
        }
    }

    /// The same after a batch that was planned by what is known here.
    pub fn advance(&mut self, plan: &Plan) {
        for (conversation, (room, _, n, _)) in &plan.conversations {
            let Some(known) = self.rooms.get_mut(room) else { continue };
            if let (Some(moved), Some(number)) = (plan.heads.get(room), known.numbers.get_mut(conversation)) {
                known.head = Head { last_seq: moved.seq, last_event: Some(moved.id), ..known.head };
                *number = *n;
            }
        }
    }

    /// Forgets a room.
    pub fn forget(&mut self, room: RoomId) {
        if let Some(room) = self.rooms.remove(&room) {
            self.size -= room.size();
        }
    }
}

/// Rooms to which other nodes wrote, as far as was heard. What is known of them is as good as it was; it is only that trying it would be in vain.
#[derive(Debug, Default)]
pub struct Elsewhere(Mutex<HashSet<RoomId>>);

impl Elsewhere {
    /// Notes a room; not when as many are noted as a lane knows.
    pub fn note(&self, room: RoomId) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.len() < MOST {
            rooms.insert(room);
        }
    }

    /// Those that were noted since the last time.
    pub fn take(&self) -> HashSet<RoomId> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::super::{Append, digest};
    use super::*;
    use crate::log::sight::Interval;
    use homeroom_protocol::{Address, ClientId, Draft, EventId, Language, RoomKind};
    use tokio::sync::oneshot;

    fn post(room: RoomId, author: PersonId) -> Pending {
        let draft = Draft { language: Language::english(), text: "text".to_owned(), protected: Vec::new() };
        let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
        let what = What::Post { to: Address::Announcements, envelope, urgent: false };
        let append = Append { room, author, client_id: ClientId::new(), what, turn: None };
        let (digest, reply) = (digest(&append), oneshot::channel().0);
        Pending { append, digest, skips: 0, waits: false, trace: None, step: None, reply }
    }

    /// As the database would tell of a room with a teacher, in which something was said.
    fn told(room: RoomId, teacher: PersonId) -> Loaded {
        let head = Head { kind: RoomKind::Class, last_seq: 10, last_event: Some(EventId::new()) };
        let intervals = [Interval { student: None, after: 0, until: None }].into();
        Loaded {
            heads: [(room, head)].into(),
            views: [((room, teacher), View::Staff { intervals })].into(),
            numbers: [(Address::Announcements.conversation(room), 7)].into(),
            ..Loaded::default()
        }
    }

    #[test]
    fn a_room_is_known_as_the_last_batch_has_left_it() {
        let (room, teacher) = (RoomId::new(), PersonId::new());
        let mut known = Known::default();
        let batch = [post(room, teacher), post(room, teacher)];
        assert!(known.loaded(&batch).is_none());
        known.learn(&mut plan(&batch, told(room, teacher), true));
        for said in [12, 14, 16] {
            let plan = plan(&batch, known.loaded(&batch).unwrap(), true);
            assert!(plan.appends_all());
            assert_eq!(plan.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [said + 1, said + 2]);
            assert_eq!(plan.rows.iter().map(|row| row.n).collect::<Vec<_>>(), [said - 2, said - 1]);
            let moved = plan.heads[&room];
            assert_eq!(moved.was, known.rooms[&room].head.last_event, "the last event before the batch, not within");
            known.advance(&plan);
        }
        assert!(known.loaded(&[post(room, PersonId::new())]).is_none(), "who was never looked up is not known");
    }

    #[test]
    fn a_room_that_moved_elsewhere_is_forgotten_with_all_that_was_known_of_it() {
        let (room, teacher) = (RoomId::new(), PersonId::new());
        let batch = [post(room, teacher)];
        let mut known = Known::default();
        let plan = |loaded| plan(&batch, loaded, true);
        known.learn(&mut plan(told(room, teacher)));
        let as_it_is = HashMap::from([(room, known.rooms[&room].head)]);
        known.meet(&as_it_is);
        assert!(known.loaded(&batch).is_some());
        known.meet(&told(room, teacher).heads);
        assert!(known.loaded(&batch).is_none());
        assert_eq!(known.size, 0);
    }

    #[test]
    fn a_room_without_an_entry_is_not_known_and_what_is_known_is_bounded() {
        let (room, teacher) = (RoomId::new(), PersonId::new());
        let mut known = Known::default();
        let empty = Head { kind: RoomKind::Class, last_seq: 0, last_event: None };
        let loaded = Loaded { heads: [(room, empty)].into(), ..Loaded::default() };
        known.learn(&mut plan(&[post(room, teacher)], loaded, true));
        assert_eq!((known.rooms.len(), known.size), (0, 0));
        for _ in 0..2 * MOST / 3 {
            let (room, teacher) = (RoomId::new(), PersonId::new());
            known.learn(&mut plan(&[post(room, teacher)], told(room, teacher), true));
            assert!(known.size <= MOST + 3);
        }
    }
}
