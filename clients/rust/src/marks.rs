//! What this device has stored and its person has read, on its way to the server.
//!
//! Owns: per conversation the furthest mark that is wanted and not yet confirmed; only the furthest is ever sent.
//! Refuses to know: the socket.

use homeroom_protocol::{ClientFrame, ConversationId, Ref, RoomId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Most conversations with an unconfirmed mark. When it is full, a new conversation's mark is dropped (*too many
/// marks*): the next one for that conversation makes up for it.
const CAPACITY: usize = 10_000;

/// The wait after a refusal that may pass and says no time itself.
const WAIT: Duration = Duration::from_secs(1);

/// Which of the two marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Delivered,
    Read,
}

/// Which mark of which conversation.
pub(crate) type Key = (ConversationId, Kind);

#[derive(Debug)]
struct Wanted {
    room: RoomId,
    n: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Ready,
    UnderWay(u64),
    Failed(Instant),
}

#[derive(Debug, Default)]
pub(crate) struct Marks {
    wanted: BTreeMap<Key, Wanted>,
}

impl Marks {
    /// Wants a mark moved. A mark that is under way is followed by another when it comes back.
    pub(crate) fn want(&mut self, room: RoomId, key: Key, n: u64) {
        if let Some(wanted) = self.wanted.get_mut(&key) {
            wanted.n = wanted.n.max(n);
        } else if self.wanted.len() < CAPACITY {
            self.wanted.insert(key, Wanted { room, n, state: State::Ready });
        }
    }

    /// The next one that may go, if one may.
    pub(crate) fn next(&mut self, now: Instant, reference: Ref) -> Option<(Key, ClientFrame)> {
        let (key, wanted) = self.wanted.iter_mut().find(|(_, wanted)| wanted.is_sendable(now))?;
        wanted.state = State::UnderWay(wanted.n);
        let (room, conversation, n) = (wanted.room, key.0, wanted.n);
        let frame = match key.1 {
            Kind::Delivered => ClientFrame::Delivered { reference, room, conversation, n },
            Kind::Read => ClientFrame::Read { reference, room, conversation, n },
        };
        Some((*key, frame))
    }

    pub(crate) fn has_next(&self, now: Instant) -> bool {
        self.wanted.values().any(|wanted| wanted.is_sendable(now))
    }

    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.wanted
            .values()
            .filter_map(|wanted| match wanted.state {
                State::Failed(until) => Some(until),
                State::Ready | State::UnderWay(_) => None,
            })
            .min()
    }

    /// The server has it.
    pub(crate) fn acked(&mut self, key: Key) {
        if let Some(wanted) = self.wanted.get_mut(&key)
            && let State::UnderWay(n) = wanted.state
        {
            if wanted.n > n {
                wanted.state = State::Ready;
            } else {
                self.wanted.remove(&key);
            }
        }
    }

    /// The server refused it: for now, or (with `None`) for good.
    pub(crate) fn refused(&mut self, key: Key, again_after: Option<Option<u32>>, now: Instant) {
        match (again_after, self.wanted.get_mut(&key)) {
            (Some(wait), Some(wanted)) => {
                let wait = wait.map_or(WAIT, |milliseconds| Duration::from_millis(milliseconds.into()));
                wanted.state = State::Failed(now + wait);
            }
            (None, _) => drop(self.wanted.remove(&key)),
            (Some(_), None) => {}
        }
    }

    /// The room begins anew: what was stored or read of it may not be in its log any more.
    pub(crate) fn reset(&mut self, room: RoomId) {
        self.wanted.retain(|_, wanted| wanted.room != room);
    }

    /// The connection is gone: what was under way goes again.
    pub(crate) fn disconnected(&mut self) {
        for wanted in self.wanted.values_mut() {
            wanted.state = State::Ready;
        }
    }
}

impl Wanted {
    fn is_sendable(&self, now: Instant) -> bool {
        match self.state {
            State::Ready => true,
            State::UnderWay(_) => false,
            State::Failed(until) => until <= now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_furthest_mark_is_sent() {
        let (mut marks, now, room) = (Marks::default(), Instant::now(), RoomId::new());
        let key = (ConversationId::new(), Kind::Read);
        for n in [3, 7, 5] {
            marks.want(room, key, n);
        }
        assert!(matches!(marks.next(now, Ref(1)), Some((_, ClientFrame::Read { n: 7, .. }))));
        marks.want(room, key, 9);
        assert!(!marks.has_next(now), "one at a time");
        marks.acked(key);
        assert!(matches!(marks.next(now, Ref(2)), Some((_, ClientFrame::Read { n: 9, .. }))));
        marks.disconnected();
        assert!(matches!(marks.next(now, Ref(3)), Some((_, ClientFrame::Read { n: 9, .. }))));
        marks.acked(key);
        assert!(!marks.has_next(now));
    }

    #[test]
    fn a_room_that_begins_anew_forgets_what_was_to_be_said_of_it() {
        let (mut marks, now, room, other) = (Marks::default(), Instant::now(), RoomId::new(), RoomId::new());
        let (key, elsewhere) = ((ConversationId::new(), Kind::Read), (ConversationId::new(), Kind::Read));
        marks.want(room, key, 3);
        marks.want(other, elsewhere, 5);
        marks.reset(room);
        assert_eq!(marks.next(now, Ref(1)).map(|(key, _)| key), Some(elsewhere));
        assert!(!marks.has_next(now));
    }
}
