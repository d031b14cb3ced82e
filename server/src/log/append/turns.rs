//! The order of one session's posts.
//!
//! Owns: invariant 4. After a retryable failure the later posts of the same session to the same conversation are refused
//! until the failed one was sent again, so that acknowledged posts have rising `n` in sending order.
//! Refuses to know: why something failed, and other sessions.

use homeroom_protocol::{ClientId, ConversationId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Failed posts that are remembered for one session. Whoever goes on sending instead of sending again has their order watched over
/// for so many failures; more would be memory for a stranger to fill.
const FAILED: usize = 256;

/// What has to be sent again before anything later goes, per conversation, in sending order.
#[derive(Debug, Default)]
pub struct Turns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sent: u64,
    failed: usize,
    awaited: HashMap<ConversationId, VecDeque<(u64, ClientId)>>,
}

/// A post's place in its session's sending order.
#[derive(Debug, Clone)]
pub struct Turn {
    turns: Arc<Turns>,
    place: u64,
}

impl Turns {
    /// The next place in the sending order.
    #[must_use]
    pub fn next(self: &Arc<Self>) -> Turn {
        let mut state = self.lock();
        state.sent += 1;
        Turn { turns: self.clone(), place: state.sent }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// This post failed for now: all later ones of its conversation wait until it was sent again.
    pub fn failed(&self, conversation: ConversationId, client_id: ClientId) {
        let mut state = self.turns.lock();
        let State { failed, awaited, .. } = &mut *state;
        if *failed == FAILED {
            return;
        }
        let queue = awaited.entry(conversation).or_default();
        if queue.iter().all(|(_, awaited)| *awaited != client_id) {
            let at = queue.partition_point(|(place, _)| *place < self.place);
            queue.insert(at, (self.place, client_id));
            *failed += 1;
        }
    }

    /// Whether this post may go: it is the first of those that are awaited, or nothing that was sent before it has failed.
    #[must_use]
    pub fn may_go(&self, conversation: ConversationId, client_id: ClientId) -> bool {
        let mut state = self.turns.lock();
        let State { failed, awaited, .. } = &mut *state;
        let Some(queue) = awaited.get_mut(&conversation) else { return true };
        match queue.iter().position(|(_, awaited)| *awaited == client_id) {
            Some(0) => {
                queue.pop_front();
                *failed -= 1;
                if queue.is_empty() {
                    awaited.remove(&conversation);
                }
                true
            }
            Some(_) => false,
            None => queue.front().is_none_or(|(place, _)| self.place < *place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn later_posts_wait_for_the_first_failed_one() {
        let turns = Arc::new(Turns::default());
        let (here, there) = (ConversationId(Uuid::now_v7()), ConversationId(Uuid::now_v7()));
        let [zeroth, first, second] = [ClientId::new(), ClientId::new(), ClientId::new()];
        let earlier = turns.next();
        let sent = turns.next();
        assert!(sent.may_go(here, first));
        sent.failed(here, first);
        turns.next().failed(here, second);
        assert!(!turns.next().may_go(here, second));
        assert!(turns.next().may_go(there, second), "other conversations go on");
        assert!(earlier.may_go(here, zeroth), "what was sent before the failed one does not wait for it");
        assert!(turns.next().may_go(here, first));
        assert!(!turns.next().may_go(here, ClientId::new()), "the second one failed, too");
        assert!(turns.next().may_go(here, second));
        assert!(turns.next().may_go(here, ClientId::new()));
    }

    #[test]
    fn a_stranger_can_not_fill_the_memory_with_failures() {
        let turns = Arc::new(Turns::default());
        let here = ConversationId(Uuid::now_v7());
        let first = ClientId::new();
        turns.next().failed(here, first);
        for _ in 0..10 * FAILED {
            turns.next().failed(ConversationId(Uuid::now_v7()), ClientId::new());
        }
        assert_eq!(turns.lock().failed, FAILED);
        assert!(!turns.next().may_go(here, ClientId::new()), "what is remembered is still awaited");
    }

    #[test]
    fn the_earliest_failure_is_awaited() {
        let turns = Arc::new(Turns::default());
        let here = ConversationId(Uuid::now_v7());
        let (early, late) = (turns.next(), turns.next());
        let (first, second) = (ClientId::new(), ClientId::new());
        late.failed(here, second);
        early.failed(here, first);
        assert!(!turns.next().may_go(here, second));
        assert!(turns.next().may_go(here, first));
    }
}
