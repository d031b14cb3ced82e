//! One that reconnects without end, and some that come back after seconds only.
//!
//! Owns: when they come and go. Each goes on from where it was. Refuses to know: what they hear.

use super::Servers;
use crate::cast::Player;
use crate::checker::Invariant;
use crate::checker::deed::Deed;
use crate::checker::history::{Listening, Record};
use crate::diary::{Clock, Diary};
use crate::participant::Act;
use homeroom_client::{Backoff, Client, Options, Progress};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How it comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Many times a second.
    Restless,
    /// Away for longer than a node may take to learn of anything, and not so long that a quiet room's ring has gone on.
    Absent,
}

/// A client that comes and goes.
pub struct Comer {
    player: Player,
    manner: Manner,
    servers: Servers,
    random: fastrand::Rng,
    progress: Progress,
    diary: Diary,
}

impl Comer {
    /// Not connected yet.
    pub fn new(player: Player, manner: Manner, servers: Servers, random: fastrand::Rng, clock: Clock) -> Self {
        let name = format!("{} ({manner:?} device)", player.name);
        let diary = Diary::new(name, player.person, Listening::AtOnce, clock);
        player.rooms.iter().for_each(|room| diary.begin(*room, None));
        let rooms = player.rooms.iter().map(|room| (*room, Default::default())).collect();
        let progress = Progress { rooms };
        Self { player, manner, servers, random, progress, diary }
    }

    /// For whoever waits for it.
    pub fn diary(&self) -> Diary {
        self.diary.clone()
    }

    /// Comes and goes while everybody speaks, then stays.
    pub async fn play(mut self, mut act: watch::Receiver<Act>) {
        loop {
            let now = *act.borrow_and_update();
            self.diary.standing().quiet = now != Act::Speak;
            if now == Act::Leave {
                return;
            }
            let stays = match self.manner {
                _ if now == Act::Listen => None,
                Manner::Restless => Some(self.random.u64(10..250)),
                Manner::Absent => Some(self.random.u64(500..1_500)),
            };
            self.listen(stays.map(Duration::from_millis), &mut act).await;
            if *act.borrow() == Act::Speak {
                let (deed, away) = match self.manner {
                    Manner::Restless => (Deed::CameBack, self.random.u64(0..50)),
                    Manner::Absent => (Deed::WasAway, self.random.u64(4_500..7_000)),
                };
                self.diary.did(deed);
                self.diary.standing().away = true;
                // Dropping the sleep loses nothing.
                tokio::select! {
                    () = sleep(Duration::from_millis(away)) => {}
                    _ = act.changed() => {}
                }
                self.diary.standing().away = false;
            }
        }
    }

    /// Connects, hears for so long, and breaks the connection without a word; without a time it stays until things change.
    async fn listen(&mut self, how_long: Option<Duration>, act: &mut watch::Receiver<Act>) {
        let mut options = Options::new(self.servers.balancer.clone(), self.player.token.clone());
        options.progress = self.progress.clone();
        options.backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_millis(400) };
        // The handle is kept: without one the client would still listen, but nobody could say why.
        let (_client, mut updates) = match Client::start(options) {
            Ok(started) => started,
            Err(error) => return self.diary.note(Record::Anomaly(Invariant::Complete, error.to_string())),
        };
        let until = how_long.map(|how_long| Instant::now() + how_long);
        loop {
            tokio::select! {
                update = updates.recv() => match update {
                    Some(update) => self.diary.hear(&update),
                    None => break,
                },
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break,
                _ = act.changed() => break,
            }
        }
        self.progress = updates.progress().clone();
    }
}
