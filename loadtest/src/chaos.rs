//! A whole cluster under load while its parts are broken, and then the reckoning.
//!
//! Owns: the order of the run and its report. Refuses to know: how a part is broken (see `nemesis`) and what is right (see
//! `checker`).

mod failover;
mod fault;
mod inside;
mod nemesis;
mod probe;
mod registrar;

use crate::cast::{self, Ids, Player};
use crate::checker::history::{Deed, History, StoredMark};
use crate::checker::{self, Invariant, Stage, marks};
use crate::cluster::{Cluster, ClusterError};
use crate::diary::{Clock, Diary};
use crate::hostile;
use crate::node::Node;
use crate::participant::{Act, Participant};
use crate::reckoning::{self, Ends};
use crate::roll::Roll;
use crate::school::{Plan, School};
use crate::store::Store;
use crate::{Failure, Surroundings, people};
use fault::Fault;
use nemesis::{Nemesis, Strike};
use probe::Probes;
use registrar::Registrar;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// What was acknowledged when a fault ended has to be heard by all who are there so soon after it.
const REPAIRED_WITHIN: Duration = Duration::from_secs(5);
/// Who has not heard it so long after that has lost it: it is not late any more.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// Before anything is broken, hostile clients do their worst for so long, at most; the honest ones must not notice.
const CALM: Duration = Duration::from_secs(6);
/// How long everybody may take to leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// How a run goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long parts are broken, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    /// The run's chance: the same seed says the same things and breaks the same parts in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=8))]
    nodes: u16,
    /// Classes, each with a teacher and three students who are also in the next class.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    classes: u16,
    /// How long a person pauses on average between things said, in milliseconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(20..))]
    pause: u64,
    /// Break only this; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Fault>,
    /// Have the server break its word in this way: only a binary that was built for it does.
    #[arg(long, hide = true)]
    sabotage: Option<String>,
}

impl Options {
    /// A run with a server that breaks its word.
    #[must_use]
    pub fn sabotaged(how: &str, seconds: u64, seed: u64) -> Self {
        let sabotage = Some(how.to_owned());
        Self { seconds, seed, nodes: 3, classes: 3, pause: 150, only: Vec::new(), sabotage }
    }
}

/// Runs it, and says whether Homeroom kept its word.
///
/// # Errors
/// When the run could not be made, or it found a breach.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    println!("chaos for {} s, seed {}, {} nodes", options.seconds, options.seed, options.nodes);
    let classes = usize::from(options.classes);
    let school = School::new(Plan {
        classes,
        teachers_per_class: 1,
        students: classes * 3,
        classes_per_student: classes.min(2),
        second_guardian_every: 4,
        sibling_every: 3,
    });
    let sabotage: Vec<(&str, &str)> = options.sabotage.iter().map(|how| ("HOMEROOM_SABOTAGE", how.as_str())).collect();
    let mut cluster = Cluster::start_breakable(&surroundings.server, options.nodes.into(), &sabotage).await?;
    let judged = match prepare(&cluster, school).await {
        Ok(company) => play_and_reckon(options, surroundings, &mut cluster, company).await,
        Err(failure) => Err(failure),
    };
    let stopped = cluster.stop().await;
    if judged.is_err() && options.sabotage.is_none() {
        println!("the data and all logs stay in {}", cluster.keep().display());
    }
    judged.and(stopped.map_err(Failure::from))
}

/// All who play, and what they play.
struct Company {
    school: School,
    ids: Ids,
    roll: Roll,
    store: Store,
    honest: Vec<Player>,
    hostile: hostile::Cast,
    clock: Clock,
}

async fn prepare(cluster: &Cluster, school: School) -> Result<Company, Failure> {
    let (store, ids) = people::move_in(cluster, &school).await?;
    let signed_in = people::write_in(&store, &ids, &school.people()).await?;
    let honest = cast::players(&school, &ids, &signed_in)?;
    let signed_in = people::write_in(&store, &ids, &hostile::Cast::sources(&school)).await?;
    let hostile = hostile::Cast::new(cast::players(&school, &ids, &signed_in)?).ok_or(Failure::Gone)?;
    let roll = cast::roll(&school, &ids)?;
    Ok(Company { school, ids, roll, store, honest, hostile, clock: Clock::start() })
}

/// A run under way.
struct Run<'a> {
    options: &'a Options,
    cluster: &'a mut Cluster,
    roll: Roll,
    store: Store,
    clock: Clock,
    act: watch::Sender<Act>,
    diaries: Vec<Diary>,
    /// Whoever takes a snapshot in the end, with their tokens.
    listeners: Vec<(Diary, String)>,
    playing: JoinSet<()>,
    office: JoinSet<Result<(), Failure>>,
    planned: Vec<Fault>,
    injected: BTreeMap<Fault, usize>,
    slowest: Option<(Strike, Duration)>,
    marks: Vec<StoredMark>,
}

async fn play_and_reckon(
    options: &Options,
    surroundings: &Surroundings,
    cluster: &mut Cluster,
    company: Company,
) -> Result<(), Failure> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let probes = Probes::new(&company.honest, cluster.nodes.len(), company.clock);
    let mut run = Run::start(options, cluster, company, &mut random)?;
    run.diaries.extend(probes.diaries());
    let calm = run.calm().await;
    let began = Instant::now();
    let bar = surroundings.bar(options.seconds, "breaking");
    let mut nemesis = Nemesis::new(run.planned.clone(), random.fork(), probes);
    while run.goes_on(began.elapsed()) {
        let strike = nemesis.choose().await?;
        nemesis.inject(strike, run.cluster).await?;
        run.after(strike).await?;
        bar.set_position(began.elapsed().as_secs());
    }
    bar.finish_and_clear();
    run.act.send_replace(Act::Listen);
    reckoning::until_rest(&run.diaries, &run.roll, &run.store).await?;
    run.leave().await?;
    if let Some(took) = nemesis.longest_wait {
        let took = took.as_secs_f64();
        println!("longest wait at another node while one was stopped inside a transaction: {took:.2} s");
    }
    run.reckon(calm).await
}

impl Run<'_> {
    fn start<'a>(
        options: &'a Options,
        cluster: &'a mut Cluster,
        company: Company,
        random: &mut fastrand::Rng,
    ) -> Result<Run<'a>, Failure> {
        let Company { school, ids, roll, store, honest, hostile, clock } = company;
        let (act, acts) = watch::channel(Act::Speak);
        let (mut diaries, mut listeners, mut playing) = (Vec::new(), Vec::new(), JoinSet::new());
        for player in honest {
            let (pause, token) = (Duration::from_millis(options.pause), player.token.clone());
            let participant = Participant::start(player, cluster.address()?, pause, random.fork(), clock)?;
            diaries.push(participant.diary());
            listeners.push((participant.diary(), token));
            playing.spawn(participant.play(acts.clone()));
        }
        let nodes = cluster.nodes.iter().map(Node::listens_on).collect();
        let servers = hostile::Servers { balancer: cluster.address()?, nodes };
        diaries.extend(hostile::start(hostile, &ids, &servers, random, clock, &acts, &mut playing));
        let offices = cluster.nodes.iter().map(Node::office).collect();
        let registrar = Registrar::new(school, ids, roll.clone(), offices, cluster.folder(), random.fork(), clock);
        let mut office = JoinSet::new();
        office.spawn(registrar.work(acts));
        let planned = match options.only.as_slice() {
            // A breach has to show soon, and these show it; the ways between the parts add variety and take time.
            [] if options.sabotage.is_some() => Fault::ALL.into_iter().filter(|fault| fault.way().is_none()).collect(),
            [] => Fault::ALL.to_vec(),
            only => only.to_vec(),
        };
        let (injected, slowest, marks) = (BTreeMap::new(), None, Vec::new());
        Ok(Run {
            options,
            cluster,
            roll,
            store,
            clock,
            act,
            diaries,
            listeners,
            playing,
            office,
            planned,
            injected,
            slowest,
            marks,
        })
    }

    /// Until the time is over; on a slow machine longer, until all that was planned has happened.
    fn goes_on(&self, broken_for: Duration) -> bool {
        let seconds = Duration::from_secs(self.options.seconds);
        let lacks = self.planned.iter().any(|fault| !self.injected.contains_key(fault));
        broken_for < seconds || (lacks && self.options.sabotage.is_none() && broken_for < seconds * 2)
    }

    /// Everybody comes, and nothing is broken but the manners of some. Between these moments the honest must not be delayed.
    async fn calm(&self) -> (Duration, Duration) {
        // Nobody has lost anything yet: all have to be there first.
        sleep(Duration::from_secs(1)).await;
        let from = self.clock.now();
        // A server that breaks its word needs no more than time.
        let calm = if self.options.sabotage.is_some() { Duration::ZERO } else { CALM };
        sleep(calm.min(Duration::from_secs(self.options.seconds / 8))).await;
        (from, self.clock.now())
    }

    /// Waits until all have heard what was acknowledged when the fault ended, and looks whether anything is wrong already.
    async fn after(&mut self, strike: Strike) -> Result<(), Failure> {
        strike.faults().for_each(|fault| *self.injected.entry(fault).or_default() += 1);
        let quiet = strike.fault == Fault::QuietRedis;
        if quiet {
            self.act.send_replace(Act::Listen);
            self.until_silent().await;
        }
        let ends = reckoning::ends(&self.diaries);
        let took = self.until_heard(&ends, REPAIRED_WITHIN).await;
        if took > REPAIRED_WITHIN {
            return Err(self.late(strike, &ends, took).await);
        }
        if quiet {
            self.cluster.redis.run().await.map_err(ClusterError::from)?;
            self.act.send_replace(Act::Speak);
        }
        if self.slowest.is_none_or(|(_, slowest)| took > slowest) {
            self.slowest = Some((strike, took));
        }
        self.look_at_marks().await?;
        // The whole log is read for it: a long run does so in the end only.
        if self.options.sabotage.is_some() { self.look().await } else { Ok(()) }
    }

    /// Whether anything is wrong that can't be put right any more.
    async fn look(&self) -> Result<(), Failure> {
        // Before the database is read: whatever they hold is in it then.
        let histories: Vec<History> = self.diaries.iter().map(|diary| diary.history().clone()).collect();
        let Ok(truth) = self.store.truth(&self.roll).await else { return Ok(()) };
        let histories: Vec<&History> = histories.iter().collect();
        reckoning::refuse(&checker::check(&truth, &histories, Stage::UnderWay).breaches)
    }

    /// No mark goes back.
    async fn look_at_marks(&mut self) -> Result<(), Failure> {
        let Ok(marks) = self.store.marks().await else { return Ok(()) };
        if let Some((before, now)) = marks::fallen(&self.marks, &marks) {
            let story = format!("a mark went back: {before:?}, and then {now:?}");
            return Err(Failure::Breach { invariants: [Invariant::Marks].into(), story });
        }
        self.marks = marks;
        Ok(())
    }

    /// Waits until nobody says anything more and everything said is answered, or long enough.
    async fn until_silent(&self) {
        let deadline = Instant::now() + REPAIRED_WITHIN;
        let is_silent = || reckoning::is_silent(&self.diaries) && self.roll.is_settled();
        while !is_silent() && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// How long it takes until everybody has heard what was acknowledged up to there; a little more than `within` when it takes longer.
    async fn until_heard(&self, ends: &Ends, within: Duration) -> Duration {
        let began = Instant::now();
        while began.elapsed() <= within && !reckoning::have_heard(&self.diaries, &self.roll, ends) {
            sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// What it means that not all was heard in time: it was late, or it is lost.
    async fn late(&self, strike: Strike, ends: &Ends, took: Duration) -> Failure {
        let mut story =
            format!("{:.1} s after the end of \"{strike}\" somebody still had not heard all of it", took.as_secs_f64());
        let mut invariants: BTreeSet<Invariant> = strike.faults().map(Fault::invariant).collect();
        if self.until_heard(ends, LOST_AFTER).await > LOST_AFTER {
            story += &format!(", nor {} s later", LOST_AFTER.as_secs());
            invariants.insert(Invariant::Complete);
        }
        Failure::Breach { invariants, story }
    }

    /// Everybody looks once more at how things stand, and goes home.
    async fn leave(&mut self) -> Result<(), Failure> {
        reckoning::take_snapshots(&self.listeners, &self.cluster.address()?).await?;
        self.act.send_replace(Act::Leave);
        while let Some(done) = self.office.join_next().await {
            done.map_err(|error| Failure::Broken(error.to_string()))??;
        }
        let left = async {
            while let Some(left) = self.playing.join_next().await {
                left.map_err(|error| Failure::Broken(error.to_string()))?;
            }
            Ok::<(), Failure>(())
        };
        // Who still waits for an answer is in the verdict.
        timeout(LEAVE_WITHIN, left).await.unwrap_or(Ok(()))
    }

    async fn reckon(mut self, calm: (Duration, Duration)) -> Result<(), Failure> {
        self.playing.abort_all();
        let truth = self.store.truth(&self.roll).await?;
        let histories: Vec<History> = self.diaries.iter().map(|diary| diary.history().clone()).collect();
        let all: Vec<&History> = histories.iter().collect();
        let mut verdict = checker::check(&truth, &all, Stage::AtRest);
        verdict.breaches.extend(checker::check_delays(&all, calm.0, calm.1));
        let lost: u64 = self.diaries.iter().map(|diary| diary.standing().lost).sum();
        println!("{} clients; {lost} connections lost or refused", histories.len());
        reckoning::describe(&verdict);
        println!("{} faults:", self.injected.values().sum::<usize>());
        for (fault, times) in &self.injected {
            println!("  {times:>7} × {fault}");
        }
        if let Some((strike, took)) = self.slowest {
            println!("longest repair: {:.2} s, after: {strike}", took.as_secs_f64());
        }
        reckoning::judge(&verdict, &truth, &histories, &Deed::ALL, self.options.seed)?;
        match self.planned.iter().find(|fault| !self.injected.contains_key(fault)) {
            Some(missing) => {
                Err(Failure::Broken(format!("the run was too short: {missing} was planned and never happened")))
            }
            None => Ok(()),
        }
    }
}
