//! kill -9 under load, again and again, and then the reckoning.
//!
//! Owns: the order of the run and its report. Refuses to know: what is right (see `checker`).

use crate::cast::{self, Ids, Player};
use crate::checker;
use crate::checker::history::History;
use crate::node::Node;
use crate::participant::{Act, Participant, Watched};
use crate::people;
use crate::reckoning::{self, Sights};
use crate::school::{Plan, School};
use crate::store::Store;
use crate::{Failure, Surroundings};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long everybody may take, after the last kill, to have all answers and all events.
const REST_WITHIN: Duration = Duration::from_secs(90);

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
    let players = cast::players(&school, &Ids::read(&store, &school).await?, &signed_in)?;
    drop(store);

    let started = Instant::now();
    let recorded = play(options, surroundings, &mut node, players).await;
    let stopped = node.stop().await;
    let (histories, watched) = match recorded {
        Ok(recorded) => recorded,
        Err(failure) => {
            println!("the data stays in {}", folder.keep().display());
            return Err(failure);
        }
    };
    stopped?;
    let store = Store::open(&node.database()).await?;
    let (truth, integrity) = (store.truth().await?, store.integrity().await?);
    let verdict = checker::check(&truth, &histories);
    let lost: u64 = watched.iter().map(|watched| watched.standing().lost).sum();
    println!(
        "{} people, {} s: {} kills, {lost} connections lost or refused; database {integrity}",
        histories.len(),
        started.elapsed().as_secs(),
        options.times,
    );
    reckoning::describe(&verdict);
    let judged = if integrity == "ok" {
        reckoning::judge(&verdict, &truth, &histories, options.seed)
    } else {
        Err(Failure::Breach(format!("the database is damaged: {integrity}")))
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
) -> Result<(Vec<History>, Vec<Watched>), Failure> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let (act, acts) = watch::channel(Act::Speak);
    let sights: Sights = players.iter().map(|player| player.sight.clone()).collect();
    let mut watched = Vec::new();
    let mut playing = JoinSet::new();
    for player in players {
        let pause = Duration::from_millis(options.pause);
        let participant = Participant::start(player, node.address()?, pause, random.fork())?;
        watched.push(participant.watched());
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
    let deadline = Instant::now() + REST_WITHIN;
    while !reckoning::at_rest(&watched, &sights) {
        if Instant::now() >= deadline {
            println!("not at rest after {} s: the reckoning shows who misses what", REST_WITHIN.as_secs());
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    act.send_replace(Act::Leave);
    let mut histories = Vec::new();
    while let Some(history) = playing.join_next().await {
        histories.push(history.map_err(|error| Failure::Broken(error.to_string()))?);
    }
    histories.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((histories, watched))
}
