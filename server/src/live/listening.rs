//! Listening to the bell: when, what was told and is not taken in yet, and for how long it covers delivery.
//!
//! Owns: the order of asking, taking in and covering. Refuses to know: how the bell is asked (see `log::bell`), and what taking in means
//! (see `tail`).

use super::tail::Tails;
use crate::log::bell::{Bell, Rung};
use homeroom_protocol::RoomId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often the bell is listened to.
const EVERY: Duration = Duration::from_millis(250);
/// For how long what the bell told covers delivery (invariant 9).
const COVERED: Duration = Duration::from_secs(2);
/// Who did not hear the bell for so long lets all sessions begin anew: old rows are swept away after ten minutes.
const DEAF: Duration = Duration::from_secs(300);

/// A node that listens.
pub struct Listening {
    bell: Bell,
    tails: Tails,
    /// When the last look that was taken in began.
    heard: Instant,
    /// Whether every room that is held has to be looked at.
    in_doubt: bool,
    /// What was told and is not taken in yet; at most one for each room.
    rung: HashMap<RoomId, Rung>,
}

impl Listening {
    /// Has heard nothing yet.
    #[must_use]
    pub fn new(bell: Bell, tails: Tails) -> Self {
        Self { bell, tails, heard: Instant::now(), in_doubt: false, rung: HashMap::new() }
    }

    /// Looks four times a second, for ever.
    pub async fn run(mut self) {
        let mut clock = tokio::time::interval(EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            clock.tick().await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the bell can't be heard; delivery pauses after 2 s");
            }
        }
    }

    /// Looks once: asks, takes in what was told, and from then on delivery is covered.
    ///
    /// # Errors
    /// When the database does not answer; what was told by then is taken in with the next look.
    pub async fn look(&mut self) -> Result<(), sqlx::Error> {
        let asked = Instant::now();
        let deaf = asked.duration_since(self.heard);
        if deaf > DEAF {
            self.tails.begin_anew();
            self.heard = asked;
        }
        let told = self.bell.listen().await?;
        self.in_doubt |= told.in_doubt;
        for room in told.rung {
            let known = self.rung.entry(room.room).or_insert(room);
            known.head = known.head.max(room.head);
            known.members |= room.members;
        }
        if self.in_doubt {
            self.tails.look_at_all().await?;
            self.in_doubt = false;
        }
        // Delivery has paused, and must not go on with what was known before: a process that was stopped for seconds would show messages
        // that were taken back meanwhile.
        let all = deaf > COVERED;
        let told: Vec<Rung> = self.rung.values().copied().collect();
        self.tails.rung(&told, all).await?;
        self.rung.clear();
        self.heard = asked;
        self.tails.cover(asked, COVERED);
        Ok(())
    }
}
