//! How much one person may ask of this node.
//!
//! Owns: what they have left, over all their devices: whoever opens fifty connections may say as much as whoever opens one, and lanes and
//! readers are there for others, too. Refuses to know: what is asked.

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use homeroom_protocol::{ErrorCode, Fault, Limits, PersonId};
use std::num::NonZeroU32;

/// Requests over HTTP a second, sustained, and at once. A page asks for a handful when it is opened and when a room is; each is some
/// statements.
const REQUESTS: (u32, u32) = (10, 60);

/// What everybody has left.
pub struct Allowances {
    commands: DefaultKeyedRateLimiter<PersonId>,
    requests: DefaultKeyedRateLimiter<PersonId>,
    clock: DefaultClock,
}

impl Default for Allowances {
    fn default() -> Self {
        let limits = Limits::CURRENT;
        Self {
            commands: RateLimiter::keyed(quota(limits.commands_per_second, limits.command_burst)),
            requests: RateLimiter::keyed(quota(REQUESTS.0, REQUESTS.1)),
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
        self.take(&self.commands, person, "Too many commands at once. Slow down.")
    }

    /// Takes one request over HTTP.
    ///
    /// # Errors
    /// `rate_limited`, with the time until there is one more.
    pub fn request(&self, person: PersonId) -> Result<(), Fault> {
        self.take(&self.requests, person, "Too many requests at once. Slow down.")
    }

    /// Forgets those who have all of it.
    pub fn forget(&self) {
        for limiter in [&self.commands, &self.requests] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    fn take(&self, of: &DefaultKeyedRateLimiter<PersonId>, person: PersonId, words: &str) -> Result<(), Fault> {
        of.check_key(&person).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now()).as_millis();
            Fault::new(ErrorCode::RateLimited, words).after(u32::try_from(wait).unwrap_or(u32::MAX).max(1))
        })
    }
}

fn quota(per_second: u32, burst: u32) -> Quota {
    let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(allowances.command(ben).is_ok() && allowances.request(ana).is_ok());
        assert_eq!((allowances.commands.len(), allowances.requests.len()), (2, 1));
        allowances.forget();
        assert!(allowances.command(ana).is_err(), "not who has little left");
    }
}
