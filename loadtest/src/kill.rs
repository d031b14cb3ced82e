//! kill -9 under load, again and again, and then the reckoning.
//!
//! Owns: the order of the run and its report. Refuses to know: what is right (see `checker`).

use crate::cast::{self, Ids, Player};
use crate::checker::deed::USUAL;
use crate::checker::history::History;
use crate::checker::{self, Invariant, Stage};
use crate::diary::{Clock, Diary};
use crate::node::Node;
use crate::participant::{Act, Participant};
use crate::people;
use crate::reckoning;
use crate::roll::Roll;
use crate::school::{Plan, School};
use crate::store::Store;
use crate::{Failure, Surroundings};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How a run goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How often the server is killed.
    #[arg(long, default_value_t = 10)]
    times: u32,
    /// The run's chance: the same seed says the same things and kills after the same pauses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Classes, each with a teacher and three students who are also in the next class.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    classes: u16,
    /// How long a person pauses on average between things said, in milliseconds.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(20..))]
    pause: u64,
    /// The longest time that the server lives between two kills, in milliseconds.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    life: u64,
}

/// Runs it, and says whether Homeroom kept its word.
///
/// # Errors
/// When the run could not be made, or it found a breach.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    println!("kill -9 × {}, seed {}", options.times, options.seed);
    let classes = usize::from(options.classes);
    let school = School::new(Plan {
        classes,
        teachers_per_class: 1,
        students: classes * 3,
        classes_per_student: classes.min(2),
        second_guardian_every: 4,
        sibling_every: 3,
    });
    let folder = tempfile::Builder::new().prefix("homeroom-kill-").tempdir()?;
    let files = folder.path().join("school");
    std::fs::create_dir(&files)?;
    school.write(&files)?;
    let mut node = Node::new(surroundings.server.clone(), folder.path().to_owned(), None)?;
    node.import(&files).await?;
    node.start().await?;
    let sources = school.people();
    let bar = surroundings.bar(sources.len() as u64, "signing in");
    let signed_in = people::sign_in(&node, &sources, &bar).await?;
    bar.finish_and_clear();
    let store = Store::open(&node.database()).await?;
    let ids = Ids::read(&store, &school).await?;
    let (players, roll) = (cast::players(&school, &ids, &signed_in)?, cast::roll(&school, &ids)?);
    store.close().await;

    let started = Instant::now();
    let played = play(options, surroundings, &mut node, players, &roll).await;
    let stopped = node.stop().await;
    let diaries = match played {
        Ok(diaries) => diaries,
        Err(failure) => {
            println!("the data stays in {}", folder.keep().display());
            return Err(failure);
        }
    };
    stopped?;
    let store = Store::open(&node.database()).await?;
    let (truth, integrity) = (store.truth(&roll).await?, store.integrity().await?);
    let histories: Vec<History> = diaries.iter().map(|diary| diary.history().clone()).collect();
    let verdict = checker::check(&truth, &histories.iter().collect::<Vec<_>>(), Stage::AtRest);
    let lost: u64 = diaries.iter().map(|diary| diary.standing().lost).sum();
    println!(
        "{} people, {} s: {} kills, {lost} connections lost or refused; database {integrity}",
        histories.len(),
        started.elapsed().as_secs(),
        options.times,
    );
    reckoning::describe(&verdict);
    let judged = if integrity == "ok" {
        let run = reckoning::Reckoning { truth: &truth, put_back: None, histories: &histories };
        reckoning::judge(&verdict, run, &USUAL, options.seed)
    } else {
        let story = format!("the database is damaged: {integrity}");
        Err(Failure::Breach { invariants: [Invariant::Durable].into(), story })
    };
    if judged.is_err() {
        println!("the data stays in {}; its server's log is server.log", folder.keep().display());
    }
    judged
}

/// Everybody speaks while the server is killed, then all come to rest and leave.
async fn play(
    options: &Options,
    surroundings: &Surroundings,
    node: &mut Node,
    players: Vec<Player>,
    roll: &Roll,
) -> Result<Vec<Diary>, Failure> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let clock = Clock::start();
    let (act, acts) = watch::channel(Act::Speak);
    let mut diaries = Vec::new();
    let mut listeners = Vec::new();
    let mut playing = JoinSet::new();
    for player in players {
        let (pause, token) = (Duration::from_millis(options.pause), player.token.clone());
        let participant = Participant::start(player, node.address()?, pause, random.fork(), clock)?;
        diaries.push(participant.diary());
        listeners.push((participant.diary(), token));
        playing.spawn(participant.play(acts.clone()));
    }
    let bar = surroundings.bar(options.times.into(), "killing");
    for _ in 0..options.times {
        sleep(Duration::from_millis(random.u64(1..=options.life))).await;
        node.kill().await?;
        sleep(Duration::from_millis(random.u64(0..200))).await;
        node.start().await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    sleep(Duration::from_millis(options.life)).await;
    act.send_replace(Act::Listen);
    let store = Store::open(&node.database()).await?;
    reckoning::until_rest(&diaries, roll, &store, None).await?;
    store.close().await;
    reckoning::take_snapshots(&listeners, &node.address()?).await?;
    act.send_replace(Act::Leave);
    while let Some(left) = playing.join_next().await {
        left.map_err(|error| Failure::Broken(error.to_string()))?;
    }
    Ok(diaries)
}
