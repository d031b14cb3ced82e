//! What Homeroom promises, by number.
//!
//! Owns: the numbers and words of ARCHITECTURE.md's table. Refuses to know: how a breach is found.

use std::fmt;

/// An invariant that a run can show to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// An acknowledged command is in every later read.
    Durable = 1,
    /// Per room `seq`, and per conversation `n`, is 1, 2, 3 …
    Gapless = 2,
    /// The same (author, client id) always gets the same answer.
    OneAnswer = 3,
    /// Within a session and conversation, acknowledged numbers rise in the order of sending.
    SendingOrder = 4,
    /// What is received is complete, in order, once, as it stands now; or it says `reset`.
    Complete = 5,
    /// Whatever happens to Redis costs latency only.
    BusCostsLatency = 6,
    /// What was missed is repaired soon.
    Repaired = 7,
    /// A slow client delays nobody.
    NobodyWaits = 8,
    /// Nobody is told what they may not know, nor later than 2 s after they may not know it any more.
    Sight = 9,
    /// Marks only rise, never past the end, and only as far as a client said; all devices agree.
    Marks = 11,
}

impl Invariant {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Durable => "what was acknowledged is durable",
            Self::Gapless => "seq and n are 1, 2, 3 …",
            Self::OneAnswer => "one client id, one answer",
            Self::SendingOrder => "acknowledged in the order of sending",
            Self::Complete => "received whole, once, in order, as it stands now, or reset",
            Self::BusCostsLatency => "Redis costs latency only",
            Self::Repaired => "what was missed is repaired soon",
            Self::NobodyWaits => "a slow client delays nobody",
            Self::Sight => "nobody is told what they may not know",
            Self::Marks => "marks move by a client's word only, and never back",
        };
        write!(f, "{} ({words})", self.number())
    }
}
