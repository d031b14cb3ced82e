//! A whole cluster under load while its parts are broken, and then the reckoning.
//!
//! Owns: the order of the run and its report. Refuses to know: how a part is broken (see `nemesis`) and what is right (see
//! `checker`).

mod aftermath;
mod archive;
mod failover;
mod fault;
mod inside;
mod nemesis;
mod probe;
mod registrar;

use crate::cast::{self, Ids, Player};
use crate::checker::deed::Deed;
use crate::checker::epochs::{self, PutBack};
use crate::checker::history::{History, StoredMark};
use crate::checker::{self, Stage};
use crate::cluster::Cluster;
use crate::diary::{Clock, Diary};
use crate::hostile;
use crate::node::Node;
use crate::participant::{Act, Participant};
use crate::reckoning;
use crate::roll::Roll;
use crate::school::{Plan, School};
use crate::store::Store;
use crate::{Failure, Surroundings, people};
use archive::Archive;
use fault::Fault;
use nemesis::{Nemesis, Strike};
use probe::Probes;
use registrar::Registrar;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Before anything is broken, hostile clients do their worst for so long, at most; the honest ones must not notice.
const CALM: Duration = Duration::from_secs(6);
/// The nodes' drain window. Who is told to come back stays away for up to as long, and has to have everything within 5 s of a fault's end.
const DRAIN_SECONDS: &str = "4";
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
    let sabotage = options.sabotage.iter().map(|how| ("HOMEROOM_SABOTAGE", how.as_str()));
    let settings: Vec<(&str, &str)> = sabotage.chain([("HOMEROOM_DRAIN_SECONDS", DRAIN_SECONDS)]).collect();
    let mut cluster = Cluster::start_breakable(&surroundings.server, options.nodes.into(), &settings).await?;
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
    let archive = Archive::new(run.roll.clone(), run.diaries.clone(), run.clock);
    let mut nemesis = Nemesis::new(run.planned.clone(), random.fork(), probes, archive);
    while run.goes_on(began.elapsed()) {
        let Some(strike) = nemesis.choose().await else { continue };
        nemesis.inject(strike, run.cluster).await?;
        run.after(strike, nemesis.archive.put_back()).await?;
        bar.set_position(began.elapsed().as_secs());
    }
    bar.finish_and_clear();
    run.act.send_replace(Act::Listen);
    let put_back = nemesis.archive.put_back();
    reckoning::until_rest(&run.diaries, &run.roll, &run.store, put_back).await?;
    run.leave().await?;
    if let Some(took) = nemesis.longest_wait {
        let took = took.as_secs_f64();
        println!("longest wait at another node while one was stopped inside a transaction: {took:.2} s");
    }
    run.reckon(calm, put_back).await
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
            // A breach has to show soon, and these show it; the ways between the parts and another log add variety and take time.
            [] if options.sabotage.is_some() => {
                Fault::ALL.into_iter().filter(|fault| fault.way().is_none() && *fault != Fault::Restore).collect()
            }
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

    async fn reckon(mut self, calm: (Duration, Duration), put_back: Option<&PutBack>) -> Result<(), Failure> {
        self.playing.abort_all();
        let truth = self.store.truth(&self.roll).await?;
        let histories: Vec<History> = self.diaries.iter().map(|diary| diary.history().clone()).collect();
        let all: Vec<&History> = histories.iter().collect();
        let mut verdict = epochs::judge(&truth, put_back, &all, Stage::AtRest);
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
        if let Some(put_back) = put_back {
            let (lost, kept) = (put_back.lost().len(), put_back.copy.events.len());
            println!("{lost} events were gone with the log that was put back, {kept} were kept");
        }
        let run = reckoning::Reckoning { truth: &truth, put_back, histories: &histories };
        reckoning::judge(&verdict, run, &Deed::ALL, self.options.seed)?;
        match self.planned.iter().find(|fault| !self.injected.contains_key(fault)) {
            Some(missing) => {
                Err(Failure::Broken(format!("the run was too short: {missing} was planned and never happened")))
            }
            None => Ok(()),
        }
    }
}
