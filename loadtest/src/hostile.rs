//! Clients without manners, next to the honest ones.
//!
//! Owns: who they are, and what all of them share: a thin connection whose every word is written into a diary. Refuses to know: what
//! each does with it.

mod comer;
mod ear;
mod reader;
mod twin;

use crate::cast::{Ids, Player};
use crate::diary::{Clock, Diary};
use crate::participant::Act;
use crate::school::School;
use homeroom_client::ServerAddress;
use homeroom_protocol::Address;
use std::net::SocketAddr;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Where they find the servers.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Before the nodes.
    pub balancer: ServerAddress,
    /// The nodes themselves.
    pub nodes: Vec<SocketAddr>,
}

/// Those who are to be hostile: devices of people who also play.
#[derive(Debug)]
pub struct Cast {
    /// Reads slowly.
    pub slow: Player,
    /// Stops reading.
    pub stuck: Player,
    /// Reconnects without end.
    pub restless: Player,
    /// Come back after seconds only.
    pub absent: Vec<Player>,
    /// Says everything over two sockets at once.
    pub twin: Player,
}

impl Cast {
    /// Whose second devices they are, by source id, in the order of the fields.
    #[must_use]
    pub fn sources(school: &School) -> Vec<String> {
        let teacher = |class: usize| school.teachers[class % school.teachers.len()][0].clone();
        let guardian = |guardian: usize| School::guardian(guardian % school.guardians.len());
        vec![teacher(0), teacher(1), guardian(0), teacher(0), guardian(1), guardian(2), teacher(1)]
    }

    /// From players in that order.
    #[must_use]
    pub fn new(players: Vec<Player>) -> Option<Self> {
        let mut players = players.into_iter();
        let (slow, stuck, restless) = (players.next()?, players.next()?, players.next()?);
        let mut absent: Vec<Player> = players.collect();
        let twin = absent.pop()?;
        Some(Self { slow, stuck, restless, absent, twin })
    }
}

/// Starts them all; gives their diaries.
///
/// # Errors
/// When a client can't be started.
pub fn start(
    cast: Cast,
    ids: &Ids,
    servers: &Servers,
    random: &mut fastrand::Rng,
    clock: Clock,
    act: &watch::Receiver<Act>,
    playing: &mut JoinSet<()>,
) -> Vec<Diary> {
    let mut diaries = Vec::new();
    for (player, manner) in [(cast.slow, reader::Manner::Slow), (cast.stuck, reader::Manner::Stops)] {
        let reader = reader::Reader::new(player, manner, servers.clone(), random.fork(), clock);
        diaries.push(reader.diary());
        playing.spawn(reader.play(act.clone()));
    }
    let comers = std::iter::once((cast.restless, comer::Manner::Restless))
        .chain(cast.absent.into_iter().map(|player| (player, comer::Manner::Absent)));
    for (player, manner) in comers {
        let comer = comer::Comer::new(player, manner, servers.clone(), random.fork(), clock);
        diaries.push(comer.diary());
        playing.spawn(comer.play(act.clone()));
    }
    // Of its own class, which nobody can take from it.
    let announcements = cast.twin.places.iter().rev().find(|place| place.to == Address::Announcements).copied();
    if let Some(place) = announcements.filter(|place| !ids.is_school_room(place.room)) {
        let twin = twin::Twin::new(cast.twin, place, servers.clone(), random.fork(), clock);
        diaries.push(twin.diary());
        playing.spawn(twin.play(act.clone()));
    }
    diaries
}
