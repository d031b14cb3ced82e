//! How much one person may ask of this node.
//!
//! Owns: what they have left, over all their devices: whoever opens fifty connections may say as much as whoever opens one, and lanes and
//! readers are there for others, too. Refuses to know: what is asked.

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use homeroom_protocol::{ErrorCode, Fault, Limits, PersonId};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests over HTTP that are worked on at once for one person. The others wait: a page that opens asks for all its rooms, and none of
/// that should be refused, nor keep everybody else's from being read.
const AT_ONCE: usize = 4;

/// What everybody has left.
pub struct Allowances {
    commands: DefaultKeyedRateLimiter<PersonId>,
    turns: Mutex<HashMap<PersonId, Weak<Semaphore>>>,
    clock: DefaultClock,
}

/// A request's turn; over when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Default for Allowances {
    fn default() -> Self {
        let limits = Limits::CURRENT;
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let per_second = Quota::per_second(at_least_one(limits.commands_per_second));
        Self {
            commands: RateLimiter::keyed(per_second.allow_burst(at_least_one(limits.command_burst))),
            turns: Mutex::default(),
            clock: DefaultClock::default(),
        }
    }
}

impl Allowances {
    /// Takes one command over a WebSocket.
    ///
    /// # Errors
    /// `rate_limited`, with the time until there is one more.
    pub fn command(&self, person: PersonId) -> Result<(), Fault> {
        self.commands.check_key(&person).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now()).as_millis();
            let fault = Fault::new(ErrorCode::RateLimited, "Too many commands at once. Slow down.");
            fault.after(u32::try_from(wait).unwrap_or(u32::MAX).max(1))
        })
    }

    /// Waits for the turn of one request over HTTP, in the order in which they came.
    ///
    /// # Errors
    /// Never: nobody closes what is waited for.
    pub async fn turn(&self, person: PersonId) -> Result<Turn, tokio::sync::AcquireError> {
        let turns = {
            let mut all = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&person).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turns = Arc::new(Semaphore::new(AT_ONCE));
                all.insert(person, Arc::downgrade(&turns));
                turns
            })
        };
        turns.acquire_owned().await.map(|permit| Turn { _permit: permit })
    }

    /// Forgets those who have all of it.
    pub fn forget(&self) {
        self.commands.retain_recent();
        self.commands.shrink_to_fit();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turns| turns.strong_count() > 0);
        turns.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn each_has_their_own_and_who_has_all_of_it_is_forgotten() {
        let allowances = Allowances::default();
        let (ana, ben) = (PersonId::new(), PersonId::new());
        let burst = Limits::CURRENT.command_burst;
        let taken = (0..2 * burst).take_while(|_| allowances.command(ana).is_ok()).count();
        assert!(taken >= burst as usize && taken < 2 * burst as usize, "{taken}");
        let fault = allowances.command(ana).unwrap_err();
        assert_eq!(fault.code, ErrorCode::RateLimited);
        assert!(fault.retry_after_ms.is_some_and(|wait| (1..=50).contains(&wait)), "{fault:?}");
        assert!(allowances.command(ben).is_ok());
        allowances.forget();
        assert!(allowances.command(ana).is_err(), "not who has little left");
    }

    #[test]
    fn requests_of_one_person_wait_for_one_another_and_for_nobody_else() {
        let allowances = Allowances::default();
        let (ana, ben) = (PersonId::new(), PersonId::new());
        let turn = |person| allowances.turn(person).now_or_never().map(Result::unwrap);
        let mut under_way: Vec<Turn> = (0..AT_ONCE).map(|_| turn(ana).unwrap()).collect();
        assert!(turn(ana).is_none() && turn(ben).is_some());
        allowances.forget();
        assert!(turn(ana).is_none(), "what is under way is not forgotten");
        under_way.pop();
        assert!(turn(ana).is_some());
        under_way.clear();
        allowances.forget();
        assert_eq!(allowances.turns.lock().unwrap().len(), 0);
    }
}
