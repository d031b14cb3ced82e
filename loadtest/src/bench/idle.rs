//! What a connection costs that is there and hears nothing, and what it costs to come back.
//!
//! Owns: a crowd that grows by the same number in each round, at Homeroom and at a bare server. Refuses to know: deliveries.

use super::crowd::Ground;
use super::plot::{Axis, Curve, Plot};
use super::turns::{in_turn, rounds};
use super::usage::Usage;
use super::{Budget, Found, Line, Round, Target};
use crate::fanout::voices;
use crate::node::Bare;
use crate::process::resident;
use crate::school::Plan;
use crate::storm::{self, Positions};
use crate::wire::Wire;
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, stream};
use homeroom_protocol::{EventId, RoomId};
use std::io;
use std::ops::Range;
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
pub struct Grown {
    /// Resident memory each.
    pub bytes: f64,
    /// CPU each, in microseconds.
    pub cpu: f64,
    /// This program's share of a processor.
    pub client: f64,
}

/// Memory of idle connections, and CPU of coming back.
pub async fn idle(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let chunk = MOST / (budget.rounds as usize + 1);
    let (ground, bare) = Ground::beside_bare(surroundings, plan(MOST), 1).await?;
    let guests = Guests::of(ground).await?;
    let bare_process = bare.process().ok_or(Failure::Gone)?;
    let (mut wires, mut heap) = (Vec::new(), (Vec::new(), Vec::new()));
    // The first one is what a server sets up once.
    let mut rounds = rounds(surroundings, budget.rounds + 1, async |number| {
        let begin = number as usize * chunk;
        let bares = grow(bare_process, bare_members(&bare, chunk), chunk);
        let (ours, bares) = in_turn(number, guests.come(begin..begin + chunk), bares).await?;
        wires.extend(ours.0);
        wires.extend(bares.0);
        let connections = (wires.len() / 2) as f64;
        heap.0.push((connections, resident(guests.process).unwrap_or_default() as f64 / 1e6));
        heap.1.push((connections, resident(bare_process).unwrap_or_default() as f64 / 1e6));
        Ok((ours.1, bares.1))
    })
    .await?;
    rounds.remove(0);
    Ok(tell(&rounds, chunk, heap))
}

/// So many families, each in five classes of thirty and in the school's room.
pub fn plan(families: usize) -> Plan {
    Plan {
        classes: CLASSES,
        teachers_per_class: 1,
        students: families,
        classes_per_student: CLASSES_EACH,
        ..Plan::default()
    }
}

/// A Homeroom at which families come back who have missed nothing, and stay.
pub struct Guests {
    ground: Ground,
    process: u32,
    /// Where each class's room stands, and then the school's.
    known: Vec<(RoomId, Option<EventId>)>,
}

impl Guests {
    /// Each room has an announcement, and everybody knows it.
    ///
    /// # Errors
    /// When somebody can't announce or connect.
    pub async fn of(ground: Ground) -> Result<Self, Failure> {
        let (server, process) = (ground.node.door(), ground.node.process().ok_or(Failure::Gone)?);
        let people = &ground.people;
        let mut told = Positions::new();
        storm::announce(1, &people.rooms, &people.teachers, server.clone()).await?;
        // As families of all classes are told.
        for family in people.families.iter().take(CLASSES) {
            told.extend(storm::join(server.clone(), &family.token, Positions::new()).await?.positions);
        }
        let of_class = |room| told.remove_entry(room);
        let mut known: Vec<_> = people.rooms.iter().map(of_class).collect::<Option<_>>().ok_or(Failure::Gone)?;
        // The only one that is left.
        known.extend(told);
        Ok(Self { ground, process, known })
    }

    /// Where a family stands that has missed nothing.
    fn positions(&self, family: usize) -> Positions {
        let classes = plan(MOST).classes_of(family).filter_map(|class| self.known.get(class));
        classes.chain(self.known.last()).copied().collect()
    }

    /// Some of them come; the answer is their connections, and what each took.
    ///
    /// # Errors
    /// When one of them does not come, or hears what it knows.
    pub async fn come(&self, families: Range<usize>) -> Result<(Vec<Wire>, Grown), Failure> {
        let server = self.ground.node.door();
        let count = families.len();
        let coming = families.filter_map(|family| Some((family, self.ground.people.families.get(family)?)));
        let joining = stream::iter(coming).map(|(number, family)| {
            let (server, positions) = (server.clone(), self.positions(number));
            async move {
                let joined = storm::join(server, &family.token, positions).await?;
                match joined.heard {
                    0 => Ok(joined.wire),
                    missed => Err(io::Error::other(format!("{missed} events came to somebody who had missed nothing"))),
                }
            }
        });
        grow(self.process, joining.buffer_unordered(AT_ONCE).try_collect(), count).await
    }
}

async fn bare_members(bare: &Bare, count: usize) -> io::Result<Vec<Wire>> {
    let members = (0..count).map(|member| voices::join(bare.listens_on(), (member % CLASSES) as u32));
    stream::iter(members).buffer_unordered(AT_ONCE).try_collect().await
}

/// What so many connections take that are made meanwhile.
///
/// # Errors
/// When one of them can't be made.
pub async fn grow(
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
