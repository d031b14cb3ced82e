//! An older backup is put back under load, and then the reckoning: only what came after the copy may be gone, and everybody knows it.
//!
//! Owns: the order of the run and its report. Refuses to know: what is right (see `checker::epochs`).

use crate::cast::Player;
use crate::checker::epochs::{self, PutBack};
use crate::checker::history::History;
use crate::checker::{Invariant, Stage};
use crate::cluster::proxy::State;
use crate::cluster::{Cluster, ClusterError};
use crate::diary::{Clock, Diary};
use crate::participant::{Act, Participant};
use crate::roll::Roll;
use crate::store::Store;
use crate::{Failure, Surroundings, reckoning, rolling};
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// So soon everybody who holds what is gone has been told, and has all that there is.
const REPAIRED_WITHIN: Duration = Duration::from_secs(10);
/// How long everybody may take, in the end, to have all answers and all events.
const REST_WITHIN: Duration = Duration::from_secs(60);

/// How a run goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long people speak before the copy, after it, and after it was put back, in seconds each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// The run's chance: the same seed says the same things.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=8))]
    nodes: u16,
    /// How long a person pauses on average between things said, in milliseconds.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(20..))]
    pause: u64,
}

/// Runs it, and says whether Homeroom kept its word.
///
/// # Errors
/// When the run could not be made, or it found a breach.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    println!("an older backup is put back: {} nodes, seed {}", options.nodes, options.seed);
    let mut cluster = Cluster::start_breakable(&surroundings.server, options.nodes.into(), &[]).await?;
    let judged = match rolling::populate(&cluster).await {
        Ok((players, roll)) => play(options, &mut cluster, players, roll).await,
        Err(failure) => Err(failure),
    };
    let stopped = cluster.stop().await;
    if judged.is_err() {
        println!("the data and all logs stay in {}", cluster.keep().display());
    }
    judged.and(stopped.map_err(Failure::from))
}

/// Everybody speaks; the copy is taken, and put back.
async fn play(options: &Options, cluster: &mut Cluster, players: Vec<Player>, roll: Roll) -> Result<(), Failure> {
    let (act, acts) = watch::channel(Act::Speak);
    let (clock, mut random) = (Clock::start(), fastrand::Rng::with_seed(options.seed));
    let (mut diaries, mut playing) = (Vec::new(), JoinSet::new());
    for player in players {
        let pause = Duration::from_millis(options.pause);
        // A mark says how far a log was read, and this one ends.
        let player = Player { marks: false, ..player };
        let participant = Participant::start(player, cluster.address()?, pause, random.fork(), clock)?;
        diaries.push(participant.diary());
        playing.spawn(participant.play(acts.clone()));
    }
    let a_while = Duration::from_secs(options.seconds);
    sleep(a_while).await;
    let copied = clock.now();
    cluster.postgres.copy().await.map_err(ClusterError::from)?;
    sleep(a_while).await;
    let put_back = put_back(cluster, &diaries, &roll, clock, copied).await?;
    let took = until_repaired(&diaries, &roll, &put_back).await?;
    sleep(a_while).await;
    act.send_replace(Act::Listen);
    let deadline = Instant::now() + REST_WITHIN;
    let rests = || reckoning::is_silent(&diaries) && reckoning::have_heard(&diaries, &roll, &reckoning::ends(&diaries));
    while !rests() && Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
    }
    // What nobody was acknowledged is heard, too: changes of members, and what was answered twice.
    sleep(Duration::from_secs(1)).await;
    act.send_replace(Act::Leave);
    while let Some(left) = playing.join_next().await {
        left.map_err(|error| Failure::Broken(error.to_string()))?;
    }
    reckon(cluster, &diaries, &roll, &put_back, took).await
}

/// Nobody reaches the database any more, and when they do again it is the copy.
async fn put_back(
    cluster: &mut Cluster,
    diaries: &[Diary],
    roll: &Roll,
    clock: Clock,
    copied: Duration,
) -> Result<PutBack, Failure> {
    cluster.ways.iter().for_each(|ways| ways.postgres.set(State::Cut));
    cluster.postgres.until_alone().await?;
    let gone = read(cluster, roll).await?;
    cluster.postgres.stop().await.map_err(ClusterError::from)?;
    cluster.postgres.put_back().map_err(ClusterError::from)?;
    cluster.postgres.run().await.map_err(ClusterError::from)?;
    let copy = read(cluster, roll).await?;
    // The numbers that were acknowledged are another log's.
    diaries.iter().for_each(|diary| diary.standing().acked.clear());
    let restored = clock.now();
    cluster.ways.iter().for_each(|ways| ways.postgres.set(State::Open));
    Ok(PutBack { gone, copy, copied, restored })
}

async fn read(cluster: &Cluster, roll: &Roll) -> Result<crate::checker::history::Truth, Failure> {
    let store = Store::postgres(&cluster.postgres.url()).await?;
    let truth = store.truth(roll).await?;
    store.close().await;
    Ok(truth)
}

/// How long it takes until everybody who holds what is gone was told so, and has heard what was acknowledged since.
async fn until_repaired(diaries: &[Diary], roll: &Roll, put_back: &PutBack) -> Result<Duration, Failure> {
    let (began, lost) = (Instant::now(), put_back.lost());
    let is_unaware = |diary: &&Diary| !epochs::unaware(&diary.history(), put_back, &lost).is_empty();
    loop {
        let unaware: Vec<String> =
            diaries.iter().filter(is_unaware).map(|diary| diary.history().name.clone()).collect();
        if unaware.is_empty() && reckoning::have_heard(diaries, roll, &reckoning::ends(diaries)) {
            return Ok(began.elapsed());
        }
        if began.elapsed() > REPAIRED_WITHIN {
            let story = format!(
                "{:.1} s after the restore these do not know of it: {unaware:?}",
                began.elapsed().as_secs_f64()
            );
            return Err(Failure::Breach { invariants: [Invariant::Complete].into(), story });
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn reckon(
    cluster: &Cluster,
    diaries: &[Diary],
    roll: &Roll,
    put_back: &PutBack,
    took: Duration,
) -> Result<(), Failure> {
    let truth = read(cluster, roll).await?;
    let histories: Vec<History> = diaries.iter().map(|diary| diary.history().clone()).collect();
    let verdict = epochs::check_put_back(&truth, put_back, &histories, Stage::AtRest);
    let lost: HashSet<_> = put_back.lost();
    reckoning::describe(&verdict);
    println!(
        "{} events were gone with the log, {} were kept; everybody knew and had the new ones {:.2} s after the restore",
        lost.len(),
        put_back.copy.events.len(),
        took.as_secs_f64()
    );
    reckoning::refuse(&verdict.breaches)?;
    if lost.is_empty() {
        return Err(Failure::Broken(
            "the run shows nothing: nothing was said between the copy and the restore".to_owned(),
        ));
    }
    for (what, caught) in epochs::tamper(&truth, put_back, &histories) {
        match caught {
            Some(true) => println!("caught: {what}"),
            Some(false) => return Err(Failure::Broken(format!("the checker is blind: it did not notice that {what}"))),
            None => println!("this run has no place to try that {what}"),
        }
    }
    Ok(())
}
