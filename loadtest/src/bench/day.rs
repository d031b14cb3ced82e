//! A school day from 7:00 to 22:00, an hour a second.
//!
//! Owns: who says how much at which hour, and why. Refuses to know: what the figures are compared for.

use super::crowd::{Ground, TEXT};
use super::turns::{in_turn, rounds};
use super::{Budget, Found, Line, Round, Target};
use crate::cast::Place;
use crate::fanout::field::{Field, Kind};
use crate::fanout::figures::Figures;
use crate::fanout::voices;
use crate::node::Bare;
use crate::school::Plan;
use crate::wire::Wire;
use crate::{Failure, Surroundings};
use futures_util::{StreamExt, TryStreamExt, stream};
use homeroom_protocol::{Address, RoomId};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

const CLASSES: usize = 30;
const FAMILIES: usize = 20;
/// An hour of the day in the run.
const HOUR: Duration = Duration::from_secs(1);
/// A day takes a quarter of a minute: no more of them than an interval needs.
const ROUNDS: u32 = 6;
/// What waits to be said by one of them.
const WAITING: usize = 64;

/// What a school of 600 families says in an hour.
struct Hour {
    announcements: u32,
    replies: u32,
}

const fn hour(announcements: u32, replies: u32) -> Hour {
    Hour { announcements, replies }
}

/// From 7:00 on.
const DAY: [Hour; 15] = [
    // Before school: who is ill today is said by families, one in fifteen.
    hour(5, 40),
    // The bell: every class announces once, and families answer.
    hour(30, 60),
    // Lessons: hardly anybody has a hand free.
    hour(5, 20),
    hour(10, 20),
    hour(5, 15),
    // Lunch.
    hour(15, 30),
    hour(10, 20),
    hour(10, 20),
    // The last bell: homework and tomorrow's plan from every class, and the questions about them.
    hour(30, 80),
    hour(15, 60),
    // Families come home from work: they read and answer, teachers hardly announce.
    hour(5, 50),
    hour(5, 60),
    hour(3, 50),
    // The evening's lull.
    hour(2, 30),
    hour(1, 10),
];

/// Somebody who says something when told to: the moment at which it was due.
type Voice = mpsc::Sender<Instant>;

/// Everybody at one server.
struct Cast {
    field: Rc<Field>,
    teachers: Vec<Voice>,
    /// None at the bare server: it knows no private conversation.
    families: Vec<Voice>,
}

/// Latency and CPU over the day.
pub async fn day(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let plan = Plan {
        classes: CLASSES,
        teachers_per_class: 1,
        students: CLASSES * FAMILIES,
        classes_per_student: 1,
        ..Plan::default()
    };
    let (ground, bare) = Ground::beside_bare(surroundings, plan, 8).await?;
    let (ours, bares) = (at_homeroom(&ground).await?, at_bare(&bare).await?);
    let rounds = rounds(surroundings, budget.rounds.min(ROUNDS), async |round| {
        let bare = async {
            // The same bytes on the wire.
            bares.field.frame_bytes.set(ours.field.frame_bytes.get());
            bares.play().await
        };
        in_turn(round, ours.play(), bare).await
    })
    .await?;
    Ok(tell(&rounds).into())
}

async fn at_homeroom(ground: &Ground) -> Result<Cast, Failure> {
    let server = ground.node.listens_on();
    let field = Rc::new(Field::new(Kind::Homeroom, ground.node.process().ok_or(Failure::Gone)?, None));
    let people = ground
        .people
        .teachers
        .iter()
        .chain(&ground.people.families)
        .map(|person| voices::connect(server, &person.token));
    let wires: Vec<Wire> = stream::iter(people).buffered(32).try_collect().await?;
    let mut voices = Vec::new();
    for (number, wire) in wires.into_iter().enumerate() {
        let room = ground.people.rooms[number % CLASSES];
        // Families come after the teachers, student by student, and students go around the classes.
        let to = match number.checked_sub(CLASSES) {
            Some(family) => Address::Private(ground.people.about[family]),
            None => Address::Announcements,
        };
        voices.push(voice(wire, Place { room, to }, number, &field));
    }
    let families = voices.split_off(CLASSES);
    Ok(Cast { field, teachers: voices, families })
}

async fn at_bare(bare: &Bare) -> Result<Cast, Failure> {
    let field = Rc::new(Field::new(Kind::Bare, bare.process().ok_or(Failure::Gone)?, None));
    let mut teachers = Vec::new();
    let place = Place { room: RoomId::default(), to: Address::Announcements };
    for number in 0..CLASSES * (FAMILIES + 1) {
        let wire = voices::join(bare.listens_on(), (number % CLASSES) as u32).await?;
        teachers.push(voice(wire, place, number, &field));
    }
    Ok(Cast { field, teachers, families: Vec::new() })
}

fn voice(wire: Wire, place: Place, number: usize, field: &Rc<Field>) -> Voice {
    let (voice, due) = mpsc::channel(WAITING);
    tokio::task::spawn_local(speak(wire, place, number, due, Rc::clone(field)));
    voice
}

async fn speak(mut wire: Wire, place: Place, number: usize, mut due: mpsc::Receiver<Instant>, field: Rc<Field>) {
    let mut reference = 0;
    loop {
        // Neither loses anything when it is dropped.
        let should = tokio::select! {
            frame = wire.next() => match frame {
                Ok(frame) if frame.starts_with(br#"{"type":"error""#) => {
                    field.error(String::from_utf8_lossy(frame).chars().take(120).collect::<String>());
                    continue;
                }
                Ok(frame) => {
                    field.hear(frame);
                    continue;
                }
                Err(error) => return field.error(format!("a connection: {error}")),
            },
            should = due.recv() => match should {
                Some(should) => should,
                None => return,
            },
        };
        reference += 1;
        let text = voices::text(field.since_origin(should), number, TEXT);
        let frame = match field.kind {
            Kind::Homeroom => voices::post(place, reference, text),
            Kind::Bare => format!("{text:.<width$}", width = field.frame_bytes.get()),
        };
        if let Err(error) = wire.send(&frame).await {
            return field.error(format!("a connection: {error}"));
        }
    }
}

impl Cast {
    /// One day.
    async fn play(&self) -> Result<Figures, Failure> {
        let before = self.field.reading()?;
        self.field.measure_latency()?;
        let began = Instant::now();
        // The same each day: whose turn it is goes around.
        let (mut teacher, mut family) = (0, 0);
        for (number, hour) in DAY.iter().enumerate() {
            let starts = began + HOUR * number as u32;
            let replies = if self.families.is_empty() { 0 } else { hour.replies };
            let spread = |count: u32| (0..count).map(move |place| starts + HOUR * place / count);
            let announcements = spread(hour.announcements).map(|due| (due, true));
            let mut due: Vec<_> = announcements.chain(spread(replies).map(|due| (due, false))).collect();
            due.sort();
            for (due, announces) in due {
                sleep_until(due).await;
                let (voices, turn) =
                    if announces { (&self.teachers, &mut teacher) } else { (&self.families, &mut family) };
                let among = if announces { CLASSES } else { voices.len() };
                // A full queue is a server that stands still: the day waits, and its latency tells.
                voices[*turn % among].send(due).await.map_err(|_| Failure::Gone)?;
                *turn += 1;
            }
        }
        sleep_until(began + HOUR * DAY.len() as u32).await;
        let after = self.field.reading()?;
        let latency = self.field.latencies();
        sleep(Duration::from_millis(300)).await;
        match self.field.errors.borrow().first_key_value() {
            Some((error, times)) => Err(Failure::Broken(format!("{times} × {error}"))),
            None => Ok(Figures::new(&before, &after, latency)),
        }
    }
}

fn tell(rounds: &[(Figures, Figures)]) -> Vec<Line> {
    let said = DAY.iter().fold((0, 0), |sum, hour| (sum.0 + hour.announcements, sum.1 + hour.replies));
    let line = |name: &str, unit, of: fn(&Figures) -> f64, note: String| Line {
        name: format!("a school day: {name}"),
        unit,
        yardstick: "bare epoll, announcements only",
        target: Target::Told,
        rounds: rounds.iter().map(|(ours, bare)| Round { ours: of(ours), yardstick: of(bare) }).collect(),
        note,
        client: rounds.iter().map(|(ours, bare)| ours.own_share.max(bare.own_share) / 100.0).max_by(f64::total_cmp),
    };
    let note = format!(
        "7:00 to 22:00 in {} s, {CLASSES} classes of {FAMILIES} families: {} announcements and {} private messages from families, each \
         stored, hour by hour as `loadtest/src/bench/day.rs` says with the reasons. Storing is in ours.",
        DAY.len(),
        said.0,
        said.1
    );
    vec![
        line("p50 from the moment due", "ms", |figures| figures.p50 / 1e3, note),
        line("p99 from the moment due", "ms", |figures| figures.p99 / 1e3, String::new()),
        line("CPU of the day", "s", |figures| figures.server.as_secs_f64(), String::new()),
    ]
}
