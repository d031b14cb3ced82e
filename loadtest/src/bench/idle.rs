//! What a connection costs that is there and hears nothing, and what it costs to come back.
//!
//! Owns: a crowd that grows by the same number in each round, at Homeroom and at a bare server. Refuses to know: deliveries.

use super::crowd::Ground;
use super::plot::{Axis, Curve, Plot};
use super::turns::in_turn;
use super::usage::Usage;
use super::{Budget, Found, Line, Round, Target};
use crate::fanout::voices;
use crate::node::Bare;
use crate::people::SignedIn;
use crate::process::resident;
use crate::school::Plan;
use crate::storm::{self, Positions};
use crate::wire::Wire;
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::sleep;

/// Class rooms; the rooms themselves are there after the first round.
const CLASSES: usize = 30;
/// In how many of them each family is; the school's room is the sixth.
const CLASSES_EACH: usize = 5;
/// Connections to each server in all: a process may have 20,000 open files, and this one has both ends' clients.
const MOST: usize = 9_000;
/// How many connect at the same time.
const AT_ONCE: usize = 32;
/// Until what is freed or kept after connecting has settled.
const SETTLE: Duration = Duration::from_millis(300);

/// One server's share of a round.
struct Grown {
    bytes: f64,
    /// CPU each, in microseconds.
    cpu: f64,
    client: f64,
}

/// Memory of idle connections, and CPU of coming back.
pub async fn idle(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let chunk = MOST / (budget.rounds as usize + 1);
    let plan = Plan {
        classes: CLASSES,
        teachers_per_class: 1,
        students: MOST,
        classes_per_student: CLASSES_EACH,
        ..Plan::default()
    };
    let (ground, bare) = Ground::beside_bare(surroundings, plan, 1).await?;
    let (homeroom, process) = (ground.node.listens_on(), ground.node.process().ok_or(Failure::Gone)?);
    storm::announce(1, &ground.people.rooms, &ground.people.teachers, homeroom).await?;
    let known = positions(homeroom, &ground.people.families).await?;

    let bar = surroundings.bar(budget.rounds.into(), "rounds");
    let (mut wires, mut rounds) = (Vec::new(), Vec::new());
    let mut heap = (Vec::new(), Vec::new());
    for (number, families) in ground.people.families.chunks(chunk).take(budget.rounds as usize + 1).enumerate() {
        let number = number as u32;
        let ours = grow(process, homeroom_families(homeroom, families, &known), families.len());
        let bares = grow(bare.process().unwrap_or_default(), bare_members(&bare, families.len()), families.len());
        let (ours, bares) = in_turn(number, ours, bares).await?;
        wires.extend(ours.0);
        wires.extend(bares.0);
        let connections = (wires.len() / 2) as f64;
        heap.0.push((connections, resident(process).unwrap_or_default() as f64 / 1e6));
        heap.1.push((connections, bare.process().and_then(resident).unwrap_or_default() as f64 / 1e6));
        // The first one is what a server sets up once.
        if number > 0 {
            rounds.push((ours.1, bares.1));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(tell(&rounds, chunk, heap))
}

/// What all rooms' positions are, as families of all classes are told.
async fn positions(server: SocketAddr, families: &[SignedIn]) -> io::Result<Positions> {
    let mut known = Positions::new();
    for family in families.iter().take(CLASSES) {
        known.extend(storm::join(server, &family.token, Positions::new()).await?.positions);
    }
    Ok(known)
}

async fn homeroom_families(server: SocketAddr, families: &[SignedIn], known: &Positions) -> io::Result<Vec<Wire>> {
    stream::iter(families)
        .map(|family| async {
            let joined = storm::join(server, &family.token, known.clone()).await?;
            match joined.heard {
                0 => Ok(joined.wire),
                missed => Err(io::Error::other(format!("{missed} events came to somebody who had missed nothing"))),
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn bare_members(bare: &Bare, count: usize) -> io::Result<Vec<Wire>> {
    let members = (0..count).map(|member| voices::join(bare.listens_on(), (member % CLASSES) as u32));
    stream::iter(members).buffer_unordered(AT_ONCE).try_collect().await
}

async fn grow(
    process: u32,
    connecting: impl Future<Output = io::Result<Vec<Wire>>>,
    count: usize,
) -> Result<(Vec<Wire>, Grown), Failure> {
    let memory = resident(process).ok_or(Failure::Gone)?;
    let usage = Usage::of([process])?;
    let wires = connecting.await?;
    let client = usage.until_now()?.client;
    sleep(SETTLE).await;
    let after = resident(process).ok_or(Failure::Gone)?;
    let bytes = after.saturating_sub(memory) as f64 / count as f64;
    Ok((wires, Grown { bytes, cpu: usage.until_now()?.cpu[0] / count as f64, client }))
}

type Drawn = Vec<(f64, f64)>;

fn tell(rounds: &[(Grown, Grown)], chunk: usize, (ours, bares): (Drawn, Drawn)) -> Found {
    let of = |figure: fn(&Grown) -> f64| {
        rounds.iter().map(|(ours, bare)| Round { ours: figure(ours), yardstick: figure(bare) }).collect()
    };
    let client = rounds.iter().map(|(ours, bare)| ours.client.max(bare.client)).max_by(f64::total_cmp);
    let line = |name: &str, unit, yardstick, target, rounds, note: String| Line {
        name: name.to_owned(),
        unit,
        yardstick,
        target,
        rounds,
        note,
        client,
    };
    let lines = vec![
        line(
            "memory of an idle, signed-in connection with six rooms",
            "bytes",
            "bare epoll",
            Target::OursAtMost(4_000.0),
            of(|grown| grown.bytes),
            format!(
                "Resident memory of the server, {chunk} connections more in each round, in {CLASSES} classes' rooms and the school's; \
                 what the kernel keeps for a socket is the same for all and not in it."
            ),
        ),
        line(
            "CPU of upgrade, sign-in and resume of six rooms, nothing missed",
            "µs",
            "bare epoll's join",
            Target::AtMost(4.0),
            of(|grown| grown.cpu),
            format!("{AT_ONCE} at the same time. The yardstick upgrades and joins one room."),
        ),
    ];
    let plot = Plot {
        file: "memory",
        title: "Resident memory with idle connections".to_owned(),
        x: Axis { label: "connections", logarithmic: false },
        y: Axis { label: "MB", logarithmic: false },
        curves: vec![
            Curve { name: "Homeroom, six rooms each".to_owned(), points: ours },
            Curve { name: "bare epoll".to_owned(), points: bares },
        ],
    };
    Found { lines, plots: vec![plot] }
}
