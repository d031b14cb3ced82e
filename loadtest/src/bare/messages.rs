//! What the bare writers have in common.
//!
//! Owns: messages of about 300 bytes as JSON, and how many are due by now. Refuses to know: databases.

use std::time::{Duration, Instant};
use uuid::Uuid;

/// Columns of as many messages.
pub(super) struct Said {
    pub ids: Vec<Uuid>,
    pub authors: Vec<Uuid>,
    pub bodies: Vec<String>,
}

/// What was stored, and how long it took.
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    /// How many messages.
    pub messages: u64,
    /// How long.
    pub took: Duration,
}

/// At which rate messages are due.
#[derive(Debug, Clone, Copy)]
pub struct Paced {
    /// Messages a second.
    pub rate: f64,
    /// The largest batch.
    pub most: usize,
    /// How long.
    pub length: Duration,
}

impl Said {
    pub fn new(count: usize) -> Self {
        let body = |id: &Uuid| {
            let text = "The trip to the museum is on Friday. Bring a packed lunch and a coat. ".repeat(3);
            format!(r#"{{"language":"en","direction":"ltr","text":"{id} {text:.205}","protected":[]}}"#)
        };
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        let bodies = ids.iter().map(body).collect();
        Self { authors: (0..count).map(|_| Uuid::new_v4()).collect(), ids, bodies }
    }
}

impl Stored {
    /// Messages a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.messages as f64 / self.took.as_secs_f64()
    }
}

impl Paced {
    /// How many messages are due that were not yet stored; no more than a batch holds.
    pub(super) fn waiting(self, since: Instant, stored: u64) -> usize {
        let due = (since.elapsed().as_secs_f64() * self.rate) as u64;
        usize::try_from(due.saturating_sub(stored)).map_or(self.most, |waiting| waiting.min(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_about_300_bytes_of_json() {
        let said = Said::new(2);
        for body in &said.bodies {
            assert!((290..=310).contains(&body.len()), "{} bytes", body.len());
            serde_json::from_str::<serde_json::Value>(body).unwrap();
        }
        assert_ne!(said.ids[0], said.ids[1]);
    }
}
