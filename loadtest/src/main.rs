//! What Homeroom costs, and whether it keeps its word.
//!
//! Owns: the command line of the load tests. Refuses to know: the server's code; every run starts a server of its own
//! from its binary, on this machine, on data made for it.

mod bare;
mod bench;
mod between;
mod cast;
mod certificate;
mod chaos;
mod checker;
mod cluster;
mod diary;
mod fanout;
mod hostile;
mod kill;
mod node;
mod participant;
mod people;
mod process;
mod reckoning;
mod roll;
mod rolling;
mod scale;
mod school;
mod store;
mod storm;
mod teeth;
mod versions;
mod wire;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

/// Load tests for Homeroom. Each starts a server of its own, on this machine only, and stops by itself.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
struct Arguments {
    /// The server binary; by default the one that was built beside this one.
    #[arg(long, global = true)]
    server: Option<PathBuf>,
    /// Bind the server to the first processor and this program to the second, as far as there are two.
    #[arg(long, global = true)]
    pin: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Every figure that Homeroom has to reach, beside its yardstick, and a report of it.
    Bench(bench::Options),
    /// Announcements to rooms full of families: deliveries per second, CPU per delivery, latency, memory.
    Fanout(fanout::Options),
    /// What another node adds to a delivery, with Redis and while it is away.
    Between(between::Options),
    /// A node dies, and all its clients come to another one at once: how long until all are caught up, at what cost.
    Storm(storm::Options),
    /// kill -9 under load, then every acknowledgement and everything heard against the database.
    Kill(kill::Options),
    /// A cluster under load while its parts are broken, then every acknowledgement and everything heard against the database.
    Chaos(chaos::Options),
    /// Whether the checker notices a server that breaks its word on purpose: chaos with each sabotage must fail.
    Teeth(teeth::Options),
    /// A rolling restart under load, or over to another version and back: nobody may notice more than a reconnect.
    Rolling(rolling::Options),
    /// Two versions at once on one database and one bus, word for word.
    Versions(versions::Options),
    /// A whole Homeroom to click through: PostgreSQL, Redis, nodes and HAProxy, with the demo school.
    Cluster(cluster::Options),
    /// What ten thousand, a million and fifty million families would need: makes the tables of docs/scale.md anew.
    Scale(scale::Options),
    /// The bare server that `fanout --compare` starts.
    #[command(hide = true)]
    BareServer(bare::Options),
    /// Who hears a bare Redis, for `bench`.
    #[command(hide = true)]
    BareEar(bare::redis::Ear),
}

/// What all scenarios need.
#[derive(Debug)]
struct Surroundings {
    server: PathBuf,
    server_core: Option<usize>,
}

impl Surroundings {
    /// A progress bar; where nobody watches it stays silent.
    fn bar(&self, length: u64, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::new(length).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {elapsed}") {
            bar.set_style(style);
        }
        bar
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the server")]
    Node(#[from] node::NodeError),
    #[error(transparent)]
    Cluster(#[from] cluster::ClusterError),
    #[error("signing in")]
    SignIn(#[from] people::SignInError),
    #[error("the database")]
    Database(#[from] sqlx::Error),
    #[error("the cast")]
    Cast(#[from] cast::CastError),
    #[error("a client could not be started")]
    Client(#[from] homeroom_client::StartError),
    #[error("an address")]
    Address(#[from] homeroom_client::NotAnAddress),
    #[error("input or output")]
    Io(#[from] std::io::Error),
    #[error("the histogram")]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error("the server is gone")]
    Gone,
    #[error("a snapshot")]
    Snapshot(#[from] homeroom_client::HttpError),
    #[error("a participant broke: {0}")]
    Broken(String),
    #[error("HOMEROOM BROKE ITS WORD: {story}")]
    Breach {
        /// As far as they are known.
        invariants: BTreeSet<checker::Invariant>,
        story: String,
    },
    #[error("THE CHECKER HAS NO TEETH: {0}")]
    Toothless(String),
    #[error("the checker is blind: it did not notice {0:?}")]
    Blind(checker::tamper::Tampering),
}

impl Failure {
    /// The word was broken, in a way that the story tells.
    fn breach(story: impl Into<String>) -> Self {
        Self::Breach { invariants: BTreeSet::new(), story: story.into() }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bare = match arguments.scenario {
        Scenario::BareServer(options) => Some(bare::serve(options)),
        Scenario::BareEar(ear) => Some(bare::redis::listen(ear)),
        _ => None,
    };
    match bare {
        Some(Ok(never)) => match never {},
        Some(Err(error)) => return fail(&error),
        None => {}
    }
    if let Scenario::Scale(options) = &arguments.scenario {
        return match scale::run(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    let server_core = arguments.pin.then(pin_self).flatten();
    let surroundings = Surroundings { server: arguments.server.unwrap_or_else(node::beside_this_one), server_core };
    // One thread: what it costs is then one figure, and it never competes with itself.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let outcome = runtime.block_on(async {
        match &arguments.scenario {
            Scenario::Bench(options) => Box::pin(bench::run(options, &surroundings)).await,
            Scenario::Fanout(options) => Box::pin(fanout::run(options, &surroundings)).await,
            Scenario::Between(options) => Box::pin(between::run(options, &surroundings)).await,
            Scenario::Storm(options) => Box::pin(storm::run(options, &surroundings)).await,
            Scenario::Kill(options) => Box::pin(kill::run(options, &surroundings)).await,
            Scenario::Chaos(options) => Box::pin(chaos::run(options, &surroundings)).await,
            Scenario::Teeth(options) => Box::pin(teeth::run(options, &surroundings)).await,
            Scenario::Rolling(options) => Box::pin(rolling::run(options, &surroundings)).await,
            Scenario::Versions(options) => Box::pin(versions::run(options, &surroundings)).await,
            Scenario::Cluster(options) => Box::pin(cluster::run(options, &surroundings)).await,
            // Done above.
            Scenario::BareServer(_) | Scenario::BareEar(_) | Scenario::Scale(_) => Ok(()),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Says what went wrong and why, one cause a line.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

/// Binds this process to the second processor and leaves the first to the server; nothing where that is not possible.
fn pin_self() -> Option<usize> {
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        return None;
    }
    let own = std::process::id().to_string();
    let bound = std::process::Command::new("taskset").args(["-pc", "1", &own]).output().ok()?;
    bound.status.success().then_some(0)
}
