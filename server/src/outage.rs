//! What is said of something that does not answer: when it begins, now and then while it lasts, and when it is over.
//!
//! Owns: how often. Refuses to know: what does not answer, and in which words.

use std::time::{Duration, Instant};

/// The shortest time between two lines about the same thing, however often it is tried meanwhile.
const QUIET: Duration = Duration::from_secs(5);

/// What was said of one thing so far.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// When it last was said that it does not answer.
    said: Option<Instant>,
    /// That the outage that lasts now was said: then its end is, too.
    is_told: bool,
}

impl Outage {
    /// It does not answer, or still does not. Whether to say so.
    pub(crate) fn goes_on(&mut self) -> bool {
        let now = Instant::now();
        let due = self.said.is_none_or(|said| now - said >= QUIET);
        if due {
            self.said = Some(now);
            self.is_told = true;
        }
        due
    }

    /// It answers. Whether to say so.
    pub(crate) fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.is_told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_at_its_beginning_now_and_then_and_at_its_end() {
        let mut outage = Outage::default();
        assert!(!outage.is_over(), "nothing was the matter");
        assert!(outage.goes_on());
        assert!(!(0..100).any(|_| outage.goes_on()));
        outage.said = outage.said.map(|said| said - QUIET);
        assert!(outage.goes_on() && !outage.goes_on());
        assert!(outage.is_over() && !outage.is_over());
        // What comes and goes many times a second is not said as often.
        assert!(!(0..100).any(|_| outage.goes_on() || outage.is_over()));
    }
}
