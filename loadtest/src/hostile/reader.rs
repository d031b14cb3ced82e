//! One that reads slowly, and one that stops reading and goes on asking.
//!
//! Owns: when they read. Both have to have everything in the end. Refuses to know: what they hear.

use super::Servers;
use super::ear::{self, Ear};
use crate::cast::Player;
use crate::checker::deed::Deed;
use crate::checker::history::Listening;
use crate::diary::{Clock, Diary};
use crate::participant::Act;
use crate::wire::Wire;
use homeroom_protocol::{ClientFrame, Ref};
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Between two frames of the slow one.
const SLOWLY: Duration = Duration::from_millis(60);
/// Pages of history asked for while nothing is read: each is up to 100 messages.
const PAGES: u32 = 200;
/// How long a frame may take to be sent before the server counts as not reading.
const SEND_WITHIN: Duration = Duration::from_millis(200);

/// How it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// A little at a time.
    Slow,
    /// Not at all for seconds, then all.
    Stops,
}

/// A reader without manners.
pub struct Reader {
    player: Player,
    manner: Manner,
    servers: Servers,
    random: fastrand::Rng,
    diary: Diary,
    ear: Ear,
}

impl Reader {
    /// Not connected yet.
    pub fn new(player: Player, manner: Manner, servers: Servers, random: fastrand::Rng, clock: Clock) -> Self {
        let name = format!("{} ({manner:?} reader)", player.name);
        let diary = Diary::new(name, player.person, Listening::Late, clock);
        let ear = Ear::new(diary.clone(), player.token.clone(), &player.rooms);
        Self { player, manner, servers, random, diary, ear }
    }

    /// For whoever waits for it.
    pub fn diary(&self) -> Diary {
        self.diary.clone()
    }

    /// Misbehaves while everybody speaks, then reads all that is left.
    pub async fn play(mut self, mut act: watch::Receiver<Act>) {
        while *act.borrow_and_update() != Act::Leave {
            let node = self.servers.nodes[self.random.usize(..self.servers.nodes.len())];
            let connected = timeout(Duration::from_secs(2), self.ear.connect(node, true)).await;
            if let Ok(Ok(mut wire)) = connected {
                // It ends with the connection, mostly because the node was broken.
                let _lost = self.use_up(&mut wire, &mut act).await;
                self.diary.standing().lost += 1;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn use_up(&mut self, wire: &mut Wire, act: &mut watch::Receiver<Act>) -> io::Result<()> {
        loop {
            let now = *act.borrow_and_update();
            self.diary.standing().quiet = now != Act::Speak;
            match (now, self.manner) {
                (Act::Leave, _) => return Ok(()),
                (Act::Listen, _) => tokio::select! {
                    heard = self.ear.next(wire) => heard?,
                    changed = act.changed() => if changed.is_err() { return Ok(()) },
                },
                (Act::Speak, Manner::Slow) => {
                    self.diary.did(Deed::ReadSlowly);
                    self.ask(wire, 1).await?;
                    self.read_for(wire, Duration::from_secs(1), SLOWLY, act).await?;
                }
                (Act::Speak, Manner::Stops) => {
                    self.diary.did(Deed::StoppedReading);
                    self.ask(wire, PAGES).await?;
                    let stuck = Duration::from_millis(self.random.u64(2_000..5_000));
                    // Dropping the sleep loses nothing.
                    tokio::select! {
                        () = sleep(stuck) => {}
                        _ = act.changed() => {}
                    }
                    let reads = Duration::from_millis(self.random.u64(1_000..3_000));
                    self.read_for(wire, reads, Duration::ZERO, act).await?;
                }
            }
        }
    }

    async fn read_for(
        &mut self,
        wire: &mut Wire,
        how_long: Duration,
        pause: Duration,
        act: &watch::Receiver<Act>,
    ) -> io::Result<()> {
        let until = Instant::now() + how_long;
        while Instant::now() < until && *act.borrow() == Act::Speak {
            match timeout(how_long, self.ear.next(wire)).await {
                Ok(heard) => heard?,
                Err(_) => return Ok(()),
            }
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Asks for pages of history until the server takes no more.
    async fn ask(&mut self, wire: &mut Wire, pages: u32) -> io::Result<()> {
        let Some(place) = self.player.places.last().copied() else { return Ok(()) };
        for number in 0..pages {
            let ask = ClientFrame::History {
                reference: Ref(number),
                room: place.room,
                conversation: place.conversation(),
                before: None,
                limit: None,
            };
            match timeout(SEND_WITHIN, ear::send(wire, &ask)).await {
                Ok(sent) => sent?,
                // A frame cut in the middle would be the client's own fault: the connection is done with.
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
            if number % 20 == 19 {
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }
}
