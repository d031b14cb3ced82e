//! The order of one session's posts.
//!
//! Owns: invariant 4. After a retryable failure the later posts of the same session to the same conversation are refused
//! until the failed one was sent again, so that acknowledged posts have rising `n` in sending order.
//! Refuses to know: why something failed, and other sessions.

use homeroom_protocol::{ClientId, ConversationId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What has to be sent again first, per conversation. At most one entry for each conversation in which the last answer was
/// a retryable error; bounded by `CONVERSATIONS`.
#[derive(Debug, Default)]
pub struct Turns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sent: u64,
    awaited: HashMap<ConversationId, (u64, ClientId)>,
}

/// A session that has failed in more conversations than this must clear some first.
const CONVERSATIONS: usize = 64;

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
    /// This post failed for now. The earliest failure counts: all later ones wait behind it.
    pub fn failed(&self, conversation: ConversationId, client_id: ClientId) {
        let mut state = self.turns.lock();
        if state.awaited.len() < CONVERSATIONS || state.awaited.contains_key(&conversation) {
            let first = state.awaited.entry(conversation).or_insert((self.place, client_id));
            if self.place < first.0 {
                *first = (self.place, client_id);
            }
        }
    }

    /// Whether this post may go: nothing sent before it has failed. The awaited one opens the way again.
    #[must_use]
    pub fn may_go(&self, conversation: ConversationId, client_id: ClientId) -> bool {
        let mut state = self.turns.lock();
        match state.awaited.get(&conversation) {
            None => state.awaited.len() < CONVERSATIONS,
            Some((_, awaited)) if *awaited == client_id => {
                state.awaited.remove(&conversation);
                true
            }
            Some((place, _)) => self.place < *place,
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
        assert!(turns.next().may_go(here, second));
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
