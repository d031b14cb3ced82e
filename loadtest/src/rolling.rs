//! A rolling restart under load, or an upgrade and the way back: invisible but for reconnects.
//!
//! Owns: the order in which nodes leave and come back, and the report. Refuses to know: what is right (see `checker`), and what is
//! new in the other version.

use crate::cast::{self, Player};
use crate::checker::deed::USUAL;
use crate::checker::history::{History, Record};
use crate::checker::{self, Stage};
use crate::cluster::{Cluster, ClusterError};
use crate::diary::{Clock, Diary};
use crate::participant::{Act, Participant};
use crate::reckoning;
use crate::roll::Roll;
use crate::school::{Plan, School};
use crate::store::Store;
use crate::{Failure, Surroundings, people};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long nobody may be away beyond the drain window, which is the server's word. Loaded machines take their time.
const GRACE: Duration = Duration::from_secs(10);
/// How long HAProxy takes to see that a node is ready again: it asks four times a second.
const SEEN: Duration = Duration::from_millis(600);

/// How a run goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Another version's binary: the nodes go over to it one by one, and back. Without it they are only restarted.
    #[arg(long)]
    next: Option<PathBuf>,
    /// Nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=8))]
    nodes: u16,
    /// The nodes' drain window, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    drain: u64,
    /// The run's chance: the same seed says the same things.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long a person pauses on average between things said, in milliseconds.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(20..))]
    pause: u64,
}

/// Runs it, and says whether anybody noticed more than a reconnect.
///
/// # Errors
/// When the run could not be made, or somebody did.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    let way = if options.next.is_some() { "over to another version and back" } else { "restart" };
    println!("rolling {way}: {} nodes, a drain window of {} s, seed {}", options.nodes, options.drain, options.seed);
    let drain = options.drain.to_string();
    let settings = [("HOMEROOM_DRAIN_SECONDS", drain.as_str())];
    let mut cluster = Cluster::start(&surroundings.server, options.nodes.into(), 0, &settings).await?;
    let judged = match roll(options, surroundings, &mut cluster).await {
        Ok(rolled) => reckon(options, &cluster, rolled).await,
        Err(failure) => Err(failure),
    };
    let stopped = cluster.stop().await;
    if judged.is_err() {
        println!("the data and all logs stay in {}", cluster.keep().display());
    }
    judged.and(stopped.map_err(Failure::from))
}

/// What a run left behind.
struct Rolled {
    diaries: Vec<Diary>,
    roll: Roll,
    restarts: usize,
    slowest_to_leave: Duration,
}

/// A small school in the cluster's database, everybody signed in.
///
/// # Errors
/// When the school can't be imported.
pub async fn populate(cluster: &Cluster) -> Result<(Vec<Player>, Roll), Failure> {
    let school = School::new(Plan {
        classes: 3,
        teachers_per_class: 1,
        students: 9,
        classes_per_student: 2,
        second_guardian_every: 4,
        sibling_every: 3,
    });
    let (store, ids) = people::move_in(cluster, &school).await?;
    let signed_in = people::write_in(&store, &ids, &school.people()).await?;
    store.close().await;
    Ok((cast::players(&school, &ids, &signed_in)?, cast::roll(&school, &ids)?))
}

/// Everybody speaks while one node after the other is replaced; then all come to rest and leave.
async fn roll(options: &Options, surroundings: &Surroundings, cluster: &mut Cluster) -> Result<Rolled, Failure> {
    let (players, roll) = populate(cluster).await?;
    let mut random = fastrand::Rng::with_seed(options.seed);
    let (act, acts) = watch::channel(Act::Speak);
    let clock = Clock::start();
    let mut diaries: Vec<Diary> = Vec::new();
    let mut playing = JoinSet::new();
    for player in players {
        let pause = Duration::from_millis(options.pause);
        let participant = Participant::start(player, cluster.address()?, pause, random.fork(), clock)?;
        diaries.push(participant.diary());
        playing.spawn(participant.play(acts.clone()));
    }
    sleep(Duration::from_secs(1)).await;
    let ways: Vec<&Path> = match &options.next {
        Some(next) => vec![next, &surroundings.server],
        None => vec![&surroundings.server],
    };
    let (mut restarts, mut slowest_to_leave) = (0, Duration::ZERO);
    for binary in ways {
        for node in &mut cluster.nodes {
            let asked = Instant::now();
            node.stop().await.map_err(ClusterError::from)?;
            slowest_to_leave = slowest_to_leave.max(asked.elapsed());
            node.becomes(binary).map_err(ClusterError::from)?;
            node.start().await.map_err(ClusterError::from)?;
            restarts += 1;
            sleep(SEEN).await;
        }
    }
    act.send_replace(Act::Listen);
    let store = Store::postgres(&cluster.postgres.url()).await?;
    reckoning::until_rest(&diaries, &roll, &store, None).await?;
    store.close().await;
    act.send_replace(Act::Leave);
    while let Some(left) = playing.join_next().await {
        left.map_err(|error| Failure::Broken(error.to_string()))?;
    }
    Ok(Rolled { diaries, roll, restarts, slowest_to_leave })
}

async fn reckon(options: &Options, cluster: &Cluster, rolled: Rolled) -> Result<(), Failure> {
    let store = Store::postgres(&cluster.postgres.url()).await?;
    let truth = store.truth(&rolled.roll).await?;
    store.close().await;
    let histories: Vec<History> = rolled.diaries.iter().map(|diary| diary.history().clone()).collect();
    let verdict = checker::check(&truth, &histories.iter().collect::<Vec<_>>(), Stage::AtRest);
    let standings = || rolled.diaries.iter().map(|diary| diary.standing().clone());
    let lost: u64 = standings().map(|standing| standing.lost).sum();
    let turned_away: u64 = standings().map(|standing| standing.turned_away).sum();
    let longest_gap = standings().map(|standing| standing.longest_gap).max().unwrap_or_default();
    let refused = histories.iter().flat_map(|history| &history.records);
    let refused = refused.filter(|noted| matches!(noted.record, Record::Refused { .. })).count();
    println!(
        "{} people, {} restarts: {} acknowledged, {} heard; {lost} quiet reconnects, {turned_away} connections refused or broken, \
         {refused} commands refused; longest gap {:.2} s, slowest node to leave {:.2} s",
        histories.len(),
        rolled.restarts,
        verdict.counts.acked,
        verdict.counts.heard,
        longest_gap.as_secs_f64(),
        rolled.slowest_to_leave.as_secs_f64(),
    );
    let window = Duration::from_secs(options.drain);
    for (is_so, what) in [
        (lost > 0, "nobody was connected to the nodes that left".to_owned()),
        (turned_away == 0, format!("{turned_away} connections were refused or broken")),
        (refused == 0, format!("{refused} commands were refused")),
        (longest_gap < window + GRACE, format!("somebody was away for {longest_gap:?}")),
        (rolled.slowest_to_leave < window + GRACE, format!("a node took {:?} to leave", rolled.slowest_to_leave)),
    ] {
        if !is_so {
            return Err(Failure::breach(format!("a rolling restart was noticed: {what}")));
        }
    }
    let run = reckoning::Reckoning { truth: &truth, put_back: None, histories: &histories };
    reckoning::judge(&verdict, run, &USUAL, options.seed)
}
