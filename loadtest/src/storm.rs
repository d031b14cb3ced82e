//! A node dies, and everybody who was there comes to another one at once.
//!
//! Owns: the order of the run, and what coming back cost: time, processor, pages of the log. Refuses to know: how the cluster is
//! made, and what back-off a client takes (here none: the worst herd there is).

use crate::cluster::{Cluster, ClusterError};
use crate::people::{self, SignedIn};
use crate::process::Cpu;
use crate::school::{Plan, School};
use crate::wire::{Door, Wire};
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, stream};
use homeroom_protocol::{Address, ClientFrame, ClientId, Draft, EventId, Language, Ref, RoomId, ServerFrame, codec};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, timeout};

/// Nobody waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Families; each is one connection.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    clients: u32,
    /// In how many classes' rooms each of them is; the school's room comes on top.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rooms_each: u32,
    /// Families in each class's room.
    #[arg(long, default_value_t = 33, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    members: u32,
    /// Announcements that each class missed meanwhile.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=40))]
    missed: u32,
}

/// Where a client stands in its rooms.
pub type Positions = BTreeMap<RoomId, Option<EventId>>;

/// Somebody who came back.
pub struct Back {
    /// From the herd's start until all rooms were caught up.
    pub took: Duration,
    /// Events that came.
    pub heard: usize,
}

/// Runs it and prints the figures.
///
/// # Errors
/// When the run could not be made, or somebody missed something.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    let classes = (options.clients * options.rooms_each / options.members).max(options.rooms_each) as usize;
    let school = School::new(Plan {
        classes,
        teachers_per_class: 1,
        students: options.clients as usize,
        classes_per_student: options.rooms_each as usize,
        ..Plan::default()
    });
    let mut cluster = Cluster::start(&surroundings.server, 2, 0, &[]).await?;
    let outcome = LocalSet::new().run_until(Box::pin(strike(options, surroundings, &mut cluster, &school))).await;
    let stopped = cluster.stop().await;
    outcome.and(stopped.map_err(Failure::from))
}

async fn strike(
    options: &Options,
    surroundings: &Surroundings,
    cluster: &mut Cluster,
    school: &School,
) -> Result<(), Failure> {
    let (store, ids) = people::move_in(cluster, school).await?;
    let signed_in = people::write_in(&store, &ids, &school.people()).await?;
    store.close().await;
    let (teachers, families) = signed_in.split_at(school.teachers.len());
    let [first, second, ..] = cluster.nodes.as_mut_slice() else { return Err(Failure::Gone) };

    let bar = surroundings.bar(families.len() as u64, "connecting");
    let (from, to) = (first.listens_on(), second.listens_on());
    let there: Vec<(Wire, Positions)> = stream::iter(families)
        .map(|family| async {
            let joined = join(from, &family.token, Positions::new()).await;
            bar.inc(1);
            joined.map(|joined| (joined.wire, joined.positions))
        })
        .buffered(64)
        .try_collect()
        .await?;
    bar.finish_and_clear();
    first.kill().await.map_err(ClusterError::from)?;
    let positions: Vec<Positions> = there.into_iter().map(|(_, positions)| positions).collect();
    let rooms: Vec<RoomId> = (0..school.teachers.len()).map(|class| ids.room(class)).collect();
    announce(options.missed, &rooms, teachers, to).await?;

    let process = second.process().ok_or(Failure::Gone)?;
    let read = |value: Option<f64>| value.ok_or(Failure::Gone);
    let pages = read(second.metric("homeroom_pages_read_total").await)?;
    let cpu = Cpu::of(process).ok_or(Failure::Gone)?;
    let backs = come_back(to, families, positions).await?;
    let cpu = Cpu::of(process).ok_or(Failure::Gone)?.since(cpu);
    let pages = read(second.metric("homeroom_pages_read_total").await)? - pages;
    let rooms = school.teachers.len() + 1;
    tell(options, &backs, cpu, pages, rooms)
}

/// What each class misses while its families are away: `missed` announcements of its one teacher.
///
/// # Errors
/// When one of them is not acknowledged.
pub async fn announce(
    missed: u32,
    rooms: &[RoomId],
    teachers: &[SignedIn],
    server: impl Into<Door>,
) -> Result<(), Failure> {
    let server = server.into();
    let announcing = teachers.iter().zip(rooms).map(async |(teacher, room)| {
        let mut wire = join(server.clone(), &teacher.token, Positions::new()).await?.wire;
        for number in 0..missed {
            wire.send(&announcement(*room, number)).await?;
        }
        let mut open = missed;
        while open > 0 {
            match next(&mut wire).await? {
                ServerFrame::Ack { .. } => open -= 1,
                ServerFrame::Error { fault, .. } => return Err(io::Error::other(fault.message)),
                _ => {}
            }
        }
        Ok::<_, io::Error>(())
    });
    Ok(stream::iter(announcing).buffer_unordered(32).try_collect::<()>().await?)
}

/// All at once, none before the others.
///
/// # Errors
/// When one of them does not come through.
pub async fn come_back(
    server: SocketAddr,
    families: &[SignedIn],
    positions: Vec<Positions>,
) -> Result<Vec<Back>, Failure> {
    let together = Rc::new(Barrier::new(families.len() + 1));
    let mut coming = JoinSet::new();
    for (family, positions) in families.iter().zip(positions) {
        let (token, together) = (family.token.clone(), together.clone());
        coming.spawn_local(async move {
            together.wait().await;
            let began = Instant::now();
            let joined = join(server, &token, positions).await?;
            Ok::<_, io::Error>((joined.wire, Back { took: began.elapsed(), heard: joined.heard }))
        });
    }
    together.wait().await;
    let mut backs = Vec::with_capacity(families.len());
    // They stay until the last one is there: nobody makes room for others.
    let mut wires = Vec::with_capacity(families.len());
    while let Some(came) = coming.join_next().await {
        let (wire, back) = came.map_err(|error| Failure::Broken(error.to_string()))??;
        wires.push(wire);
        backs.push(back);
    }
    Ok(backs)
}

fn tell(options: &Options, backs: &[Back], cpu: Cpu, pages: f64, rooms: usize) -> Result<(), Failure> {
    let mut took: Vec<f64> = backs.iter().map(|back| back.took.as_secs_f64()).collect();
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get(((took.len() - 1) as f64 * share) as usize).copied().unwrap_or(0.0);
    let count = backs.len();
    println!("{count} clients in {} rooms each, all at once to one node, {rooms} rooms in all", options.rooms_each + 1);
    println!("caught up: half in {:.2} s, 99 of 100 in {:.2} s, the last after {:.2} s", at(0.5), at(0.99), at(1.0));
    println!("server: {:.0} µs of CPU each", cpu.total().as_secs_f64() * 1e6 / count as f64);
    println!("pages read: {pages}, {:.3} for each room", pages / rooms as f64);
    let due = (options.rooms_each * options.missed) as usize;
    match backs.iter().filter(|back| back.heard != due).count() {
        0 => {
            println!("each heard the {due} announcements that it had missed, once");
            Ok(())
        }
        wrong => Err(Failure::breach(format!(
            "{wrong} clients did not hear exactly the {due} announcements that they missed"
        ))),
    }
}

/// A client that is caught up in all its rooms.
pub struct Joined {
    /// Its connection.
    pub wire: Wire,
    /// Where it stands.
    pub positions: Positions,
    /// Events that came meanwhile.
    pub heard: usize,
}

/// Connects, says hello, and waits until all rooms are caught up.
///
/// # Errors
/// When the connection breaks, or the server has something else to say than that.
pub async fn join(server: impl Into<Door>, token: &str, positions: Positions) -> io::Result<Joined> {
    let up = async {
        let mut wire = Wire::open(server).await?;
        let hello = ClientFrame::Hello { token: Some(token.to_owned()), positions };
        wire.send(&codec::encode_client(&hello).map_err(io::Error::other)?).await?;
        let (mut rooms, mut caught_up, mut heard) = (None, 0, 0);
        let mut positions = Positions::new();
        while rooms != Some(caught_up) {
            match next(&mut wire).await? {
                ServerFrame::Welcome { rooms: theirs, .. } => {
                    rooms = Some(theirs.len());
                    positions = theirs.iter().map(|room| (room.room, room.position)).collect();
                }
                ServerFrame::CaughtUp { .. } => caught_up += 1,
                ServerFrame::Event(_) => heard += 1,
                ServerFrame::Reset { reason, .. } => return Err(io::Error::other(format!("was reset: {reason:?}"))),
                ServerFrame::Error { fault, .. } => return Err(io::Error::other(fault.message)),
                _ => {}
            }
        }
        Ok(Joined { wire, positions, heard })
    };
    timeout(PATIENCE, Box::pin(up)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn next(wire: &mut Wire) -> io::Result<ServerFrame> {
    codec::decode_server(&String::from_utf8_lossy(wire.next().await?)).map_err(io::Error::other)
}

/// An announcement as a frame.
pub fn announcement(room: RoomId, number: u32) -> String {
    let text = format!("Announcement {number}: the trip to the museum is on Friday.");
    let frame = ClientFrame::Post {
        reference: Ref(number + 1),
        room,
        client_id: ClientId::new(),
        to: Address::Announcements,
        draft: Draft { language: Language::english(), text, protected: Vec::new() },
        urgent: false,
    };
    // A frame of plain strings and numbers always encodes.
    codec::encode_client(&frame).unwrap_or_default()
}
