//! A whole cluster under load while its parts are broken, and then the reckoning.
//!
//! Owns: the order of the run and its report. Refuses to know: how a part is broken (see `nemesis`) and what is right (see
//! `checker`).

mod nemesis;

use crate::cast::{self, Ids, Player};
use crate::checker;
use crate::checker::history::History;
use crate::cluster::{Cluster, ClusterError};
use crate::participant::{Act, Participant, Watched};
use crate::reckoning::{self, Sights};
use crate::school::{Plan, School};
use crate::store::Store;
use crate::{Failure, Surroundings, people};
use nemesis::{Fault, Nemesis};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long everybody may take, after the last fault, to have all answers and all events.
const REST_WITHIN: Duration = Duration::from_secs(90);

/// What was acknowledged when a fault ended has to be heard by all so soon after it. The design asks for 5 s; the rest is for
/// machines that have other things to do.
const REPAIRED_WITHIN: Duration = Duration::from_secs(15);

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
    let mut cluster = Cluster::start(&surroundings.server, options.nodes.into(), 0, &sabotage).await?;
    let played = prepare_and_play(options, surroundings, &mut cluster, &school).await;
    let judged = match played {
        Ok(played) => reckon(options, &cluster, played).await,
        Err(failure) => Err(failure),
    };
    let stopped = cluster.stop().await;
    if judged.is_err() && options.sabotage.is_none() {
        println!("the data and all logs stay in {}", cluster.keep().display());
    }
    judged.and(stopped.map_err(Failure::from))
}

/// What a run left behind.
struct Played {
    histories: Vec<History>,
    lost: u64,
    injected: BTreeMap<Fault, usize>,
    slowest: Option<(Fault, Duration)>,
    planned: Vec<Fault>,
}

async fn prepare_and_play(
    options: &Options,
    surroundings: &Surroundings,
    cluster: &mut Cluster,
    school: &School,
) -> Result<Played, Failure> {
    let files = cluster.folder().join("school");
    std::fs::create_dir(&files)?;
    school.write(&files)?;
    let sources = school.people();
    let Some(first) = cluster.nodes.first() else { return Err(Failure::Gone) };
    first.import(&files).await.map_err(ClusterError::from)?;
    let store = Store::postgres(&cluster.postgres.url()).await?;
    let ids = Ids::read(&store, school).await?;
    let signed_in = people::write_in(&store, &ids, &sources).await?;
    let players = cast::players(school, &ids, &signed_in)?;
    store.close().await;
    play(options, surroundings, cluster, players).await
}

/// Everybody speaks while parts are broken, then all come to rest and leave.
async fn play(
    options: &Options,
    surroundings: &Surroundings,
    cluster: &mut Cluster,
    players: Vec<Player>,
) -> Result<Played, Failure> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let (act, acts) = watch::channel(Act::Speak);
    let sights: Sights = players.iter().map(|player| player.sight.clone()).collect();
    let mut watched: Vec<Watched> = Vec::new();
    let mut playing = JoinSet::new();
    for player in players {
        let pause = Duration::from_millis(options.pause);
        let participant = Participant::start(player, cluster.address()?, pause, random.fork())?;
        watched.push(participant.watched());
        playing.spawn(participant.play(acts.clone()));
    }
    let planned = if options.only.is_empty() { Fault::ALL.to_vec() } else { options.only.clone() };
    let mut nemesis = Nemesis::new(planned.clone(), random.fork());
    let mut injected: BTreeMap<Fault, usize> = BTreeMap::new();
    let mut slowest: Option<(Fault, Duration)> = None;
    let bar = surroundings.bar(options.seconds, "breaking");
    let began = Instant::now();
    // Nobody has lost anything yet: all have to be there first.
    sleep(Duration::from_secs(1)).await;
    while began.elapsed() < Duration::from_secs(options.seconds) {
        let fault = nemesis.choose().await?;
        nemesis.inject(fault, cluster).await?;
        *injected.entry(fault).or_default() += 1;
        if fault == Fault::QuietRedis {
            act.send_replace(Act::Listen);
            until_silent(&watched).await;
        }
        let took = until_repaired(&watched, &sights).await;
        if took > REPAIRED_WITHIN {
            let story = format!(
                "against invariant {}: {:.1} s after the end of \"{fault}\" somebody still had not heard all of it",
                fault.invariant(),
                took.as_secs_f64()
            );
            return Err(Failure::Breach(story));
        }
        if fault == Fault::QuietRedis {
            cluster.redis.run().await.map_err(ClusterError::from)?;
            act.send_replace(Act::Speak);
        }
        if slowest.is_none_or(|(_, slowest)| took > slowest) {
            slowest = Some((fault, took));
        }
        bar.set_position(began.elapsed().as_secs());
    }
    bar.finish_and_clear();
    act.send_replace(Act::Listen);
    let deadline = Instant::now() + REST_WITHIN;
    while !reckoning::at_rest(&watched, &sights) {
        if Instant::now() >= deadline {
            println!("not at rest after {} s: the reckoning shows who misses what", REST_WITHIN.as_secs());
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    act.send_replace(Act::Leave);
    let lost = watched.iter().map(|watched| watched.standing().lost).sum();
    let mut histories = Vec::new();
    while let Some(history) = playing.join_next().await {
        histories.push(history.map_err(|error| Failure::Broken(error.to_string()))?);
    }
    histories.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Played { histories, lost, injected, slowest, planned })
}

/// Waits until nobody says anything more and everything said is answered, or long enough.
async fn until_silent(watched: &[Watched]) {
    let deadline = Instant::now() + REPAIRED_WITHIN;
    let is_silent = || watched.iter().map(Watched::standing).all(|standing| standing.quiet && standing.open == 0);
    while !is_silent() && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
}

/// How long it takes, from the end of a fault, until everybody has heard what was acknowledged when it ended.
async fn until_repaired(watched: &[Watched], sights: &Sights) -> Duration {
    let began = Instant::now();
    let ends = reckoning::ends(&watched.iter().map(Watched::standing).collect::<Vec<_>>());
    while began.elapsed() <= REPAIRED_WITHIN {
        let standings: Vec<_> = watched.iter().map(Watched::standing).collect();
        if reckoning::have_heard(&standings, sights, &ends) {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

async fn reckon(options: &Options, cluster: &Cluster, played: Played) -> Result<(), Failure> {
    let store = Store::postgres(&cluster.postgres.url()).await?;
    let truth = store.truth().await?;
    store.close().await;
    let verdict = checker::check(&truth, &played.histories);
    println!("{} people; {} connections lost or refused", played.histories.len(), played.lost);
    reckoning::describe(&verdict);
    let total: usize = played.injected.values().sum();
    println!("{total} faults:");
    for (fault, times) in &played.injected {
        println!("  {times:>4} × {fault}");
    }
    if let Some((fault, took)) = played.slowest {
        println!("longest repair: {:.2} s, after: {fault}", took.as_secs_f64());
    }
    if let Some(missing) = played.planned.iter().find(|fault| !played.injected.contains_key(fault)) {
        return Err(Failure::Broken(format!("the run was too short: {missing} was planned and never happened")));
    }
    reckoning::judge(&verdict, &truth, &played.histories, options.seed)
}
