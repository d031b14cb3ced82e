//! When to come back, and whether.
//!
//! Owns: exponential backoff with full jitter, a server's own word about when to return, the turn from one address to
//! the next, and the rule of close codes. Refuses to know: sockets.

use crate::address::ServerAddress;
use crate::update::Stop;
use homeroom_protocol::CloseCode;
use std::time::Duration;

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait; each failure doubles it.
    pub base: Duration,
    /// The longest wait of all.
    pub cap: Duration,
}

impl Default for Backoff {
    /// 250 ms, doubling to 30 s: a client alone is back at once; ten thousand after an outage come over half a minute.
    fn default() -> Self {
        Self { base: Duration::from_millis(250), cap: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The longest wait after so many failures in a row (0 for the first).
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        self.base.saturating_mul(2_u32.saturating_pow(failures)).min(self.cap)
    }

    /// A wait after so many failures in a row: anywhere from nothing to the ceiling, all alike ("full jitter").
    #[must_use]
    pub fn wait(&self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        self.ceiling(failures).mul_f64(random.f64())
    }
}

/// Decides, for one client, when to try which server.
#[derive(Debug)]
pub(crate) struct Plan {
    servers: Vec<ServerAddress>,
    turn: usize,
    backoff: Backoff,
    failures: u32,
    told: Option<Duration>,
    random: fastrand::Rng,
}

impl Plan {
    pub(crate) fn new(servers: Vec<ServerAddress>, backoff: Backoff) -> Self {
        Self { servers, turn: 0, backoff, failures: 0, told: None, random: fastrand::Rng::new() }
    }

    /// The server whose turn it is.
    pub(crate) fn server(&self) -> &ServerAddress {
        &self.servers[self.turn % self.servers.len()]
    }

    /// The connection is of use: whatever went wrong before is over.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The server said when to come back; it spreads its clients itself, so its word stands as it is.
    pub(crate) fn told(&mut self, wait: Duration) {
        self.told = Some(wait);
    }

    /// The connection is lost, or was never made: the wait until the next attempt, at the next server.
    pub(crate) fn lost(&mut self) -> Duration {
        self.turn = self.turn.wrapping_add(1);
        if let Some(wait) = self.told.take() {
            return wait;
        }
        let wait = self.backoff.wait(self.failures, &mut self.random);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// Whether a close code ends the client for good, and how that is said.
pub(crate) fn final_stop(code: u16, reason: &str) -> Option<Stop> {
    if CloseCode::may_return(code) {
        None
    } else if code == CloseCode::Unauthenticated.number() {
        Some(Stop::SignedOut)
    } else {
        Some(Stop::TurnedAway { code, reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(servers: &[&str]) -> Plan {
        Plan::new(servers.iter().map(|text| ServerAddress::parse(text).unwrap()).collect(), Backoff::default())
    }

    #[test]
    fn waits_double_to_the_cap_and_use_their_whole_range() {
        let backoff = Backoff::default();
        let ceilings: Vec<u128> = (0..9).map(|failures| backoff.ceiling(failures).as_millis()).collect();
        assert_eq!(ceilings, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(backoff.ceiling(u32::MAX), backoff.cap);

        let mut random = fastrand::Rng::with_seed(7);
        let waits: Vec<Duration> = (0..1_000).map(|_| backoff.wait(2, &mut random)).collect();
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)));
        assert!(waits.iter().any(|wait| *wait < Duration::from_millis(50)));
        assert!(waits.iter().any(|wait| *wait > Duration::from_millis(950)));
    }

    #[test]
    fn a_servers_word_replaces_one_wait() {
        let mut plan = plan(&["localhost:1"]);
        plan.told(Duration::from_millis(4_321));
        assert_eq!(plan.lost(), Duration::from_millis(4_321));
        assert!(plan.lost() <= Duration::from_millis(250));
    }

    #[test]
    fn servers_are_tried_in_turn() {
        let mut plan = plan(&["localhost:1", "localhost:2", "localhost:3"]);
        let mut tried = Vec::new();
        for _ in 0..4 {
            tried.push(plan.server().to_string());
            plan.lost();
        }
        assert_eq!(tried, ["http://localhost:1", "http://localhost:2", "http://localhost:3", "http://localhost:1"]);
    }

    #[test]
    fn only_44xx_is_for_good() {
        for code in [1000, 1001, 1006, 1008, 1012, 4500, 4503, 4504, 4599, 3000] {
            assert!(final_stop(code, "").is_none(), "{code}");
        }
        assert!(matches!(final_stop(4401, ""), Some(Stop::SignedOut)));
        assert!(matches!(final_stop(4499, "no"), Some(Stop::TurnedAway { code: 4499, .. })));
    }
}
