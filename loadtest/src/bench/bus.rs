//! What it takes a message to come from one node to another, beside what Redis takes to carry one.
//!
//! Owns: an author at one node, a reader in each room at the other, and windows of measuring at both buses. Refuses to know: what nodes
//! say to each other, and how Redis is spoken to.
//!
//! Both begin with a client's write and end with another client's read. Ours leads through a node, Redis and the other node, and its
//! storing is taken off as in `latency`: a bare Redis stores nothing.

use super::cores::Cores;
use super::crowd::{COOL_DOWN, TEXT, WARM_UP};
use super::latency::ping;
use super::nodes::Two;
use super::turns::{in_turn, rounds};
use super::usage::{Usage, Used};
use super::{Budget, Found, Line, Round, Target};
use crate::bare::redis::{Bus, Load};
use crate::cluster::ClusterError;
use crate::cluster::redis::Redis;
use crate::fanout::field::{Field, Kind};
use crate::fanout::voices::{self, Pace, Says};
use crate::node::Ear;
use crate::school::Plan;
use crate::{Failure, Surroundings};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::sleep;

const ROOMS: usize = 30;
/// Messages a second over all rooms.
const RATE: f64 = 200.0;
/// Who hears each message of the bare Redis: as many connections as there are nodes.
const LISTENERS: usize = 2;

/// What a window has shown.
struct Carried {
    /// From the commit to the reader, in milliseconds.
    p50: f64,
    p99: f64,
    /// CPU a message, in microseconds.
    redis: f64,
    hearing: f64,
    client: f64,
}

/// Homeroom's two nodes.
struct Homeroom {
    here: Rc<Field>,
    there: Rc<Field>,
    trips: Rc<RefCell<Vec<Duration>>>,
    redis: u32,
    reader: u32,
}

/// A Redis of its own, and who hears it in another process.
pub struct Bare {
    redis: Redis,
    ear: Ear,
    bus: Bus,
    _folder: TempDir,
}

/// How long it takes, and what it costs.
pub async fn bus(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let _cores = Cores::share(surroundings);
    let plan =
        Plan { classes: ROOMS, teachers_per_class: 1, students: ROOMS, classes_per_student: 1, ..Plan::default() };
    let two = Two::open(surroundings, plan).await?;
    let found = measure(surroundings, budget, &two).await;
    two.close().await?;
    found
}

async fn measure(surroundings: &Surroundings, budget: &Budget, two: &Two) -> Result<Found, Failure> {
    let ours = Homeroom::gather(two).await?;
    let mut bare = Bare::start().await?;
    ours.window(budget.window / 4).await?;
    let bytes = ours.there.frame_bytes.get();
    let load = Load { rate: RATE, length: budget.window, bytes };
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        in_turn(round, ours.window(budget.window), bare.window(load)).await
    })
    .await?;
    Ok(tell(&rounds, bytes).into())
}

impl Homeroom {
    async fn gather(two: &Two) -> Result<Self, Failure> {
        let (here, there) = two.here_and_there()?;
        let (author, reader) = (here.process().ok_or(Failure::Gone)?, there.process().ok_or(Failure::Gone)?);
        let near = Rc::new(Field::new(Kind::Homeroom, author, None));
        let far = Rc::new(near.beside(reader));
        for family in &two.people.families {
            let wire = voices::connect(there.door(), &family.token).await?;
            tokio::task::spawn_local(voices::listen(wire, Rc::clone(&far)));
        }
        let pace = Pace { teachers: ROOMS, rate: RATE, text: TEXT };
        for (class, teacher) in two.people.teachers.iter().enumerate() {
            let wire = voices::connect(here.door(), &teacher.token).await?;
            let says = Says::announcements(two.people.rooms[class]);
            tokio::task::spawn_local(voices::teach(wire, says, class, pace, Rc::clone(&near)));
        }
        let trips = Rc::new(RefCell::new(Vec::new()));
        let teacher = two.people.teachers.first().ok_or(Failure::Gone)?;
        let pinging = voices::connect(here.door(), &teacher.token).await?;
        tokio::task::spawn_local(ping(pinging, Rc::clone(&trips)));
        let redis = two.cluster.redis.process().ok_or(Failure::Gone)?;
        Ok(Self { here: near, there: far, trips, redis, reader })
    }

    async fn window(&self, length: Duration) -> Result<Carried, Failure> {
        let usage = || Usage::of([self.redis, self.reader]);
        let quiet = usage()?;
        sleep(length / 2).await;
        let quiet = quiet.until_now()?;
        self.here.begin();
        sleep(WARM_UP).await;
        self.trips.take();
        self.here.follow();
        self.there.follow();
        let (usage, said) = (usage()?, self.here.reading()?.acks);
        sleep(length).await;
        let (used, said) = (usage.until_now()?, self.here.reading()?.acks - said);
        self.here.end();
        sleep(COOL_DOWN).await;
        for field in [&self.here, &self.there] {
            if let Some((error, times)) = field.errors.borrow().first_key_value() {
                return Err(Failure::Broken(format!("{times} × {error}")));
            }
        }
        let mut trips = self.trips.take();
        trips.sort_unstable();
        let trip = trips
            .get(trips.len() / 2)
            .copied()
            .ok_or_else(|| Failure::Broken("no ping was answered in a window".to_owned()))?;
        let latency = self.here.since_the_commit_at(&self.there, trip)?;
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Carried::new(used, &quiet, said, (at(0.5), at(0.99))))
    }
}

impl Bare {
    /// Starts it, and waits until both listeners are known to it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("homeroom-bench-").tempdir()?;
        let redis = Redis::start(folder.path(), "redis").await.map_err(ClusterError::from)?;
        let ear = Ear::start(redis.port())?;
        let bus = Bus::open(redis.port(), LISTENERS).await?;
        Ok(Self { redis, ear, bus, _folder: folder })
    }

    /// CPU a message of whoever hears it, in microseconds.
    ///
    /// # Errors
    /// When a message does not come.
    pub async fn hearing(&mut self, load: Load) -> Result<f64, Failure> {
        Ok(self.window(load).await?.hearing)
    }

    async fn window(&mut self, load: Load) -> Result<Carried, Failure> {
        let (redis, ear) = self.redis.process().zip(self.ear.process()).ok_or(Failure::Gone)?;
        let usage = || Usage::of([redis, ear]);
        let quiet = usage()?;
        sleep(load.length / 2).await;
        let quiet = quiet.until_now()?;
        self.bus.carry(Load { length: WARM_UP, ..load }).await?;
        let usage = usage()?;
        let mut times = self.bus.carry(load).await?;
        let used = usage.until_now()?;
        sleep(COOL_DOWN).await;
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).map_or(f64::NAN, |time| *time as f64 / 1e3);
        Ok(Carried::new(used, &quiet, times.len() as u64, (at(50), at(99))))
    }
}

impl Carried {
    /// What so many messages took, without what there is in quiet, too.
    fn new(used: Used<2>, quiet: &Used<2>, messages: u64, (p50, p99): (f64, f64)) -> Self {
        let each = used.more_than(quiet).map(|a_second| a_second * used.seconds / messages.max(1) as f64);
        let [redis, hearing] = each;
        Self { p50, p99, redis, hearing, client: used.client }
    }
}

fn tell(rounds: &[(Carried, Carried)], bytes: usize) -> Vec<Line> {
    let client = rounds.iter().map(|(ours, bare)| ours.client.max(bare.client)).max_by(f64::total_cmp);
    let line = |name: &str, unit, yardstick, of: fn(&Carried) -> f64, note: String| Line {
        name: format!("{name}, {RATE:.0} a second in {ROOMS} rooms"),
        unit,
        yardstick,
        target: Target::Told,
        rounds: rounds.iter().map(|(ours, bare)| Round { ours: of(ours), yardstick: of(bare) }).collect(),
        note,
        client,
    };
    let latency = format!(
        "From its sending to a reader at the other node, less the time in storage as above, with two nodes, PostgreSQL and Redis on all \
         cores. The yardstick publishes {bytes} bytes to a Redis of its own, from sending to receiving."
    );
    let hearing = "What is used in quiet (the looks at the bell, too) is taken off. Ours decides who may see it and writes it to one reader; the \
                   yardstick's listener does nothing with it."
        .to_owned();
    let redis = "Two listen at both.".to_owned();
    let yardstick = "bare Redis, publish to receive";
    vec![
        line("p50 of a message from node to node, from the commit", "ms", yardstick, |carried| carried.p50, latency),
        line(
            "p99 of a message from node to node, from the commit",
            "ms",
            yardstick,
            |carried| carried.p99,
            String::new(),
        ),
        line("Redis' CPU for a message from node to node", "µs", "bare Redis", |carried| carried.redis, redis),
        line("the other node's CPU for it", "µs", "a bare listener", |carried| carried.hearing, hearing),
    ]
}
