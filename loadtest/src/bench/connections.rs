//! What a connection costs as there are more of them.
//!
//! Owns: one Homeroom and one bare server that grow to once, twice, four and eight times as many connections, in rooms of the same size,
//! with the same deliveries a second over all of them. Refuses to know: how a room's size matters (`growth`).

use super::crowd::{Ground, TEXT, window};
use super::growth::power;
use super::idle::{Grown, grow};
use super::plot::{Axis, Curve, Plot};
use super::turns::{in_turn, rounds};
use super::usage::Usage;
use super::{Budget, Found, Line, Round, Target, statistics};
use crate::fanout::field::{Field, Kind};
use crate::fanout::figures::Figures;
use crate::fanout::voices::{self, Pace, Says};
use crate::node::Bare;
use crate::school::Plan;
use crate::wire::Wire;
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, stream};
use homeroom_protocol::RoomId;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// Families in each class.
const MEMBERS: usize = 33;
/// How many classes are there: 1,056 connections, and two, four and eight times as many. A process may have 20,000 open files, and this one
/// has those of both servers' clients.
const SIZES: [usize; 4] = [32, 64, 128, MOST];
const MOST: usize = 256;
/// Classes that come before anything is measured: what a server sets up once is there then.
const FIRST: usize = 8;
/// Deliveries a second, however many are there.
const DELIVERIES: f64 = 10_000.0;
/// How many connect at the same time.
const AT_ONCE: usize = 32;
/// As many as an interval needs.
const ROUNDS: u32 = 6;

enum Server<'a> {
    Homeroom(&'a Ground),
    Bare(&'a Bare),
}

/// A server that grows, and its crowd.
struct Side<'a> {
    server: Server<'a>,
    field: Rc<Field>,
    process: u32,
    speaking: RefCell<Vec<AbortHandle>>,
}

/// What was found at one size.
struct Size {
    connections: usize,
    came: Vec<(Grown, Grown)>,
    /// CPU of each connection in a second in which nothing happens, in microseconds.
    idle: Vec<Round>,
    said: Vec<(Figures, Figures)>,
}

/// Memory, joining, idle CPU, and CPU per delivery, by the number of connections.
pub async fn connections(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let budget = Budget { window: budget.window / 2, rounds: budget.rounds.min(ROUNDS), ..*budget };
    let plan = Plan {
        classes: MOST,
        teachers_per_class: 1,
        students: MOST * MEMBERS,
        classes_per_student: 1,
        ..Plan::default()
    };
    let (ground, bare) = Ground::beside_bare(surroundings, plan, 1).await?;
    let ours = Side::new(Server::Homeroom(&ground), Kind::Homeroom, ground.node.process())?;
    let theirs = Side::new(Server::Bare(&bare), Kind::Bare, bare.process())?;
    let mut there = FIRST * MEMBERS;
    ours.come(0..there).await?;
    theirs.come(0..there).await?;
    let mut sizes = Vec::new();
    for classes in SIZES {
        let (from, all) = (there, classes * MEMBERS);
        let part = |round: u32| from + (all - from) * round as usize / budget.rounds as usize;
        let came = rounds(surroundings, budget.rounds, async |round| {
            let some = part(round)..part(round + 1);
            in_turn(round, ours.come(some.clone()), theirs.come(some)).await
        })
        .await?;
        let idle = rounds(surroundings, budget.rounds, async |round| {
            let (ours, theirs) = in_turn(round, ours.idle(budget.window), theirs.idle(budget.window)).await?;
            Ok(Round { ours: ours / all as f64, yardstick: theirs / all as f64 })
        })
        .await?;
        ours.teach(classes).await?;
        theirs.teach(classes).await?;
        let listeners = MEMBERS + 1;
        window(&ours.field, listeners, budget.window / 2).await?;
        // The same bytes on the wire.
        theirs.field.frame_bytes.set(ours.field.frame_bytes.get());
        let said = rounds(surroundings, budget.rounds, async |round| {
            let [ours, theirs] = [&ours, &theirs].map(|side| window(&side.field, listeners, budget.window));
            in_turn(round, ours, theirs).await
        })
        .await?;
        sizes.push(Size { connections: all, came, idle, said });
        there = all;
    }
    Ok(tell(&sizes))
}

impl<'a> Side<'a> {
    fn new(server: Server<'a>, kind: Kind, process: Option<u32>) -> Result<Self, Failure> {
        let process = process.ok_or(Failure::Gone)?;
        Ok(Self { server, field: Rc::new(Field::new(kind, process, None)), process, speaking: RefCell::default() })
    }

    /// Families connect, class by class, and listen from then on.
    async fn come(&self, families: Range<usize>) -> Result<Grown, Failure> {
        let count = families.len();
        let connecting = stream::iter(families).map(|family| self.family(family / MEMBERS, family % MEMBERS));
        let (wires, grown) = grow(self.process, connecting.buffer_unordered(AT_ONCE).try_collect(), count).await?;
        for wire in wires {
            tokio::task::spawn_local(voices::listen(wire, Rc::clone(&self.field)));
        }
        Ok(grown)
    }

    async fn family(&self, class: usize, number: usize) -> io::Result<Wire> {
        match self.server {
            // Students go round the classes.
            Server::Homeroom(ground) => {
                let family = &ground.people.families[number * MOST + class];
                voices::connect(ground.node.door(), &family.token).await
            }
            Server::Bare(bare) => voices::join(bare.listens_on(), class as u32).await,
        }
    }

    /// A teacher in each of so many classes announces from now on; those who did before leave.
    async fn teach(&self, classes: usize) -> Result<(), Failure> {
        self.speaking.take().iter().for_each(AbortHandle::abort);
        let rate = DELIVERIES / (MEMBERS + 1) as f64;
        let pace = Pace { teachers: classes, rate, text: TEXT };
        for class in 0..classes {
            let (wire, room) = match self.server {
                Server::Homeroom(ground) => {
                    let teacher = &ground.people.teachers[class];
                    (voices::connect(ground.node.door(), &teacher.token).await?, ground.people.rooms[class])
                }
                Server::Bare(bare) => (voices::join(bare.listens_on(), class as u32).await?, RoomId::default()),
            };
            let says = Says::announcements(room);
            let teaching = tokio::task::spawn_local(voices::teach(wire, says, class, pace, Rc::clone(&self.field)));
            self.speaking.borrow_mut().push(teaching.abort_handle());
        }
        Ok(())
    }

    /// CPU a second while nothing happens, in microseconds.
    async fn idle(&self, length: Duration) -> Result<f64, Failure> {
        let usage = Usage::of([self.process])?;
        sleep(length).await;
        let used = usage.until_now()?;
        Ok(used.cpu[0] / used.seconds)
    }
}

impl Size {
    fn grown(&self, of: fn(&Grown) -> f64) -> Vec<Round> {
        self.came.iter().map(|(ours, theirs)| Round { ours: of(ours), yardstick: of(theirs) }).collect()
    }

    fn bytes(&self) -> Vec<Round> {
        self.grown(|grown| grown.bytes)
    }

    fn joins(&self) -> Vec<Round> {
        self.grown(|grown| grown.cpu)
    }

    fn idle(&self) -> Vec<Round> {
        self.idle.clone()
    }

    fn deliveries(&self) -> Vec<Round> {
        self.said.iter().map(|(ours, theirs)| Round { ours: ours.cpu, yardstick: theirs.cpu }).collect()
    }

    fn client(&self) -> Option<f64> {
        let said = self.said.iter().map(|(ours, theirs)| ours.own_share.max(theirs.own_share) / 100.0);
        said.max_by(f64::total_cmp)
    }
}

/// One figure, at each size.
struct Figure {
    name: &'static str,
    unit: &'static str,
    of: fn(&Size) -> Vec<Round>,
    note: &'static str,
}

const FIGURES: [Figure; 4] = [
    Figure {
        name: "CPU per delivery",
        unit: "µs",
        of: Size::deliveries,
        note: "10,000 deliveries a second over all rooms of 33, everything on.",
    },
    Figure {
        name: "memory of one connection more",
        unit: "bytes",
        of: Size::bytes,
        note: "Resident memory of the server; each in a class's room and the school's.",
    },
    Figure {
        name: "CPU of joining",
        unit: "µs",
        of: Size::joins,
        note: "Those who come to the ones that are there; the yardstick's join one room.",
    },
    Figure {
        name: "CPU a second of a connection at rest",
        unit: "µs",
        of: Size::idle,
        note: "All that the server uses while nothing happens, divided by its connections.",
    },
];

fn tell(sizes: &[Size]) -> Found {
    let mut lines = Vec::new();
    for figure in FIGURES {
        let [ours, theirs] = points(sizes, figure.of);
        let grows = |points: &[(f64, f64)]| match points.iter().all(|point| point.1 > 0.0) {
            true => format!("to the power of {:.2}", power(points)),
            false => "by no power, since it is nothing at some size".to_owned(),
        };
        let fitted = format!(
            "{} Fitted over all sizes, it grows with the number of connections {}, the yardstick's {}.",
            figure.note,
            grows(&ours),
            grows(&theirs)
        );
        lines.extend(sizes.iter().map(|size| Line {
            name: format!("{}, {} connections", figure.name, size.connections),
            unit: figure.unit,
            yardstick: "bare epoll",
            target: Target::Told,
            rounds: (figure.of)(size),
            note: String::new(),
            client: size.client(),
        }));
        if let Some(last) = lines.last_mut() {
            last.note = fitted;
        }
    }
    let plot = |file, title: &str, label, of: fn(&Size) -> Vec<Round>| {
        let [ours, theirs] = points(sizes, of);
        let curve = |name: &str, points| Curve { name: name.to_owned(), points };
        Plot {
            file,
            title: title.to_owned(),
            x: Axis { label: "connections", logarithmic: false },
            y: Axis { label, logarithmic: false },
            curves: vec![curve("Homeroom", ours), curve("bare epoll", theirs)],
        }
    };
    let plots = vec![
        plot("connections", "CPU per delivery as connections become more", "µs", Size::deliveries),
        plot("connections-memory", "Memory of one connection more", "bytes", Size::bytes),
    ];
    Found { lines, plots }
}

/// The medians by the number of connections: ours, and the yardstick's.
fn points(sizes: &[Size], of: fn(&Size) -> Vec<Round>) -> [Vec<(f64, f64)>; 2] {
    let medians = |figure: fn(&Round) -> f64| {
        let median = |size| statistics::middle(of(size).iter().map(figure).collect()).median;
        sizes.iter().map(|size| (size.connections as f64, median(size))).collect()
    };
    [medians(|round| round.ours), medians(|round| round.yardstick)]
}
