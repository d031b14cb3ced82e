//! The order of what one session appends.
//!
//! Owns: invariant 4. A command that failed for now keeps its place in the sending order until it is answered for good; what was sent
//! after it to the same conversation waits until it is on its way again. So what is acknowledged has rising `n` in sending order.
//! Refuses to know: why something failed, and other sessions.

use homeroom_protocol::{ClientId, ConversationId, RoomId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Failed commands that are remembered for one session. One more, and *the order is lost*: nothing of the session goes any more, and
/// it ends, so that its client comes back and begins with the head of its outbox.
const FAILED: usize = 256;

/// What of one session failed and has to come again.
#[derive(Debug, Default)]
pub struct Turns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sent: u64,
    /// By place.
    failed: Vec<Failed>,
    order_is_lost: bool,
}

/// Whose order a command keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The room.
    pub room: RoomId,
    /// Its conversation. Nothing for an edit or a retraction: they name a message, and which conversation that is in shows only
    /// under the lock. So they keep the order of the whole room.
    pub conversation: Option<ConversationId>,
}

impl Line {
    /// Whether one may have to wait for the other.
    fn meets(self, other: Self) -> bool {
        self.room == other.room && self.conversation.zip(other.conversation).is_none_or(|(one, other)| one == other)
    }
}

#[derive(Debug)]
struct Failed {
    place: u64,
    line: Line,
    client_id: ClientId,
    /// It was sent again and has no answer yet; what comes after it in the lane may go.
    under_way: bool,
}

/// A command's place in its session's sending order.
#[derive(Debug, Clone)]
pub struct Turn {
    turns: Arc<Turns>,
    place: u64,
    line: Line,
    client_id: ClientId,
}

impl Turns {
    /// The next place in the sending order.
    #[must_use]
    pub fn next(self: &Arc<Self>, line: Line, client_id: ClientId) -> Turn {
        let mut state = self.lock();
        state.sent += 1;
        Turn { turns: self.clone(), place: state.sent, line, client_id }
    }

    /// More failed than is remembered: nobody knows any more what would have to come first.
    #[must_use]
    pub fn order_is_lost(&self) -> bool {
        self.lock().order_is_lost
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// This command failed for now. If it failed before it keeps the place of its first try.
    pub fn failed(&self) {
        let mut state = self.turns.lock();
        if let Some(at) = self.find(&state.failed) {
            state.failed[at].under_way = false;
        } else if state.failed.len() == FAILED {
            state.order_is_lost = true;
        } else {
            let Self { place, line, client_id, .. } = *self;
            let at = state.failed.partition_point(|failed| failed.place < place);
            state.failed.insert(at, Failed { place, line, client_id, under_way: false });
        }
    }

    /// This command has its answer for good: nothing waits for it any more.
    pub fn answered(&self) {
        let mut state = self.turns.lock();
        if let Some(at) = self.find(&state.failed) {
            state.failed.remove(at);
        }
    }

    /// Whether this command may go: all that failed before it are on their way again. Asked by the lane, in the lane's order, so that
    /// those are stored, or have failed again, before this one is looked at.
    #[must_use]
    pub fn may_go(&self) -> bool {
        let mut state = self.turns.lock();
        if state.order_is_lost {
            return false;
        }
        let again = self.find(&state.failed);
        let earlier = again.unwrap_or_else(|| state.failed.partition_point(|failed| failed.place < self.place));
        let may_go = state.failed[..earlier].iter().all(|failed| failed.under_way || !failed.line.meets(self.line));
        if let (true, Some(at)) = (may_go, again) {
            state.failed[at].under_way = true;
        }
        may_go
    }

    fn find(&self, failed: &[Failed]) -> Option<usize> {
        failed.iter().position(|one| one.client_id == self.client_id && one.line == self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    struct Session(Arc<Turns>, Line);

    impl Session {
        fn new() -> Self {
            let room = RoomId(Uuid::now_v7());
            Self(Arc::default(), Line { room, conversation: Some(ConversationId(Uuid::now_v7())) })
        }

        fn elsewhere(&self) -> Line {
            Line { conversation: Some(ConversationId(Uuid::now_v7())), ..self.1 }
        }

        /// An edit's: of which conversation is not known yet.
        fn of_room(&self) -> Line {
            Line { conversation: None, ..self.1 }
        }

        fn send(&self, client_id: ClientId) -> Turn {
            self.0.next(self.1, client_id)
        }
    }

    #[test]
    fn later_posts_wait_until_each_failed_one_is_on_its_way_again() {
        let session = Session::new();
        let [first, second] = [ClientId::new(), ClientId::new()];
        let earlier = session.send(ClientId::new());
        session.send(first).failed();
        session.send(second).failed();
        assert!(!session.send(ClientId::new()).may_go());
        assert!(!session.send(second).may_go());
        assert!(session.0.next(session.elsewhere(), second).may_go(), "other conversations go on");
        assert!(earlier.may_go(), "what was sent before the failed one does not wait for it");
        assert!(session.send(first).may_go());
        assert!(!session.send(ClientId::new()).may_go(), "the second one failed, too");
        assert!(session.send(second).may_go());
        assert!(session.send(ClientId::new()).may_go());
    }

    #[test]
    fn an_edit_waits_for_posts_and_posts_wait_for_an_edit() {
        let session = Session::new();
        let [post, edit] = [ClientId::new(), ClientId::new()];
        session.send(post).failed();
        assert!(!session.0.next(session.of_room(), edit).may_go());
        session.0.next(session.of_room(), edit).failed();
        assert!(session.send(post).may_go());
        assert!(!session.send(ClientId::new()).may_go());
        assert!(!session.0.next(session.elsewhere(), ClientId::new()).may_go(), "it may be about a message there");
        let other_room = Line { room: RoomId(Uuid::now_v7()), conversation: None };
        assert!(session.0.next(other_room, ClientId::new()).may_go());
        assert!(session.0.next(session.of_room(), edit).may_go());
        assert!(session.send(ClientId::new()).may_go());
    }

    #[test]
    fn what_fails_again_keeps_the_place_of_its_first_try() {
        let session = Session::new();
        let [first, second] = [ClientId::new(), ClientId::new()];
        session.send(first).failed();
        session.send(second).failed();
        let again = session.send(first);
        assert!(again.may_go());
        assert!(again.may_go(), "asked twice when another node had the room's lock");
        again.failed();
        assert!(!session.send(second).may_go());
        assert!(session.send(first).may_go());
        session.send(first).answered();
        assert!(session.send(second).may_go());
    }

    #[test]
    fn places_are_those_of_sending_not_of_failing() {
        let session = Session::new();
        let [first, second] = [ClientId::new(), ClientId::new()];
        let (early, late) = (session.send(first), session.send(second));
        late.failed();
        early.failed();
        assert!(!session.send(second).may_go());
        assert!(session.send(first).may_go());
    }

    #[test]
    fn what_is_refused_for_good_is_waited_for_no_more() {
        let session = Session::new();
        let first = session.send(ClientId::new());
        first.failed();
        assert!(!session.send(ClientId::new()).may_go());
        first.answered();
        assert!(session.send(ClientId::new()).may_go());
    }

    #[test]
    fn more_failures_than_are_remembered_stop_every_post() {
        let session = Session::new();
        let first = ClientId::new();
        session.send(first).failed();
        for _ in 1..FAILED {
            session.0.next(session.elsewhere(), ClientId::new()).failed();
        }
        assert!(session.send(first).may_go() && !session.0.order_is_lost());
        for _ in 0..10 {
            session.0.next(session.elsewhere(), ClientId::new()).failed();
        }
        assert!(session.0.order_is_lost());
        assert_eq!(session.0.lock().failed.len(), FAILED);
        assert!(!session.send(first).may_go(), "a wrong order is worse than none");
    }
}
