//! How fast commands may be sent.
//!
//! Owns: a bucket that keeps the client under the limits which the server announced, so that it is never refused for
//! haste. Refuses to know: what is sent.

use homeroom_protocol::Limits;
use std::time::Duration;
use tokio::time::Instant;

/// The part of the announced limits that is used: the server counts by its own clock.
const SHARE: f64 = 0.9;

#[derive(Debug)]
pub(crate) struct Pace {
    per_second: f64,
    burst: f64,
    left: f64,
    counted_at: Instant,
}

impl Pace {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        let burst = (f64::from(limits.command_burst) * SHARE).max(1.0);
        Self {
            per_second: (f64::from(limits.commands_per_second) * SHARE).max(0.1),
            burst,
            left: burst,
            counted_at: now,
        }
    }

    /// Takes the right to send one command now, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.count(now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    /// How long until the next command may go.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        self.count(now);
        // A millisecond more than computed, so that rounding never wakes the client too early.
        Duration::from_secs_f64(((1.0 - self.left) / self.per_second).max(0.0)) + Duration::from_millis(1)
    }

    fn count(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted_at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.burst);
        self.counted_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_rate() {
        let mut now = Instant::now();
        let mut pace = Pace::new(&Limits::CURRENT, now);
        let burst = (0..100).filter(|_| pace.take(now)).count();
        assert_eq!(burst, 54);
        let mut sent = 0;
        for _ in 0..100 {
            now += Duration::from_millis(100);
            sent += usize::from(pace.take(now)) + usize::from(pace.take(now)) + usize::from(pace.take(now));
        }
        assert!((178..=181).contains(&sent), "{sent} in ten seconds");
        while pace.take(now) {}
        let wait = pace.wait(now);
        assert!(pace.take(now + wait));
    }
}
