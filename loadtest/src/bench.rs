//! The figures that Homeroom has to reach, each beside its yardstick in the same run.
//!
//! Owns: which cells there are, in which order they run, how long each may take, and that one that fails does not take the others
//! with it. Refuses to know: how a cell measures, and how the report looks.

mod bus;
mod connections;
mod cores;
mod crowd;
mod day;
mod deliveries;
mod growth;
mod hearing;
mod idle;
mod latency;
mod line;
mod machine;
mod nodes;
mod plot;
mod posters;
mod report;
mod slow;
mod statistics;
mod storm;
mod tls;
mod turns;
mod usage;
mod writes;

pub use line::{Found, Line, Round, Target};

use crate::{Failure, Surroundings};
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

/// No cell takes longer; one that does has failed.
const LONGEST_CELL: Duration = Duration::from_secs(900);

/// How a run goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Only these cells.
    #[arg(long, value_enum)]
    only: Vec<Cell>,
    /// All cells, and more rounds.
    #[arg(long)]
    full: bool,
    /// In how many rounds a cell measures Homeroom and its yardstick in turn. Below six nothing can be shown.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: Option<u32>,
    /// How long each of the two is measured in a round, in milliseconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    window: Option<u64>,
    /// Where the report goes; by default `docs/bench` for a whole run and `target/bench` for a part of one.
    #[arg(long)]
    into: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Cell {
    /// CPU per delivery, 30 rooms of 33, one message at a time.
    Classes,
    /// The same in one room of 1,000.
    School,
    /// The same in one room of 5,000.
    Large,
    /// Deliveries when 16 messages are under way in a room of 1,000.
    Queued,
    /// Families who read in eight languages instead of one.
    Languages,
    /// Memory of idle connections, and CPU of coming back.
    Idle,
    /// How long a delivery takes, counted from the commit.
    Latency,
    /// 10,000 who come back at once.
    Storm,
    /// One who reads too slowly, among a thousand.
    Slow,
    /// What a delivery costs as rooms grow.
    Growth,
    /// What a connection costs as there are more of them.
    Connections,
    /// What TLS in the server adds.
    Tls,
    /// A school day from 7:00 to 22:00, an hour a second.
    Day,
    /// Durable posts a second, on PostgreSQL.
    Posts,
    /// The same on SQLite.
    PostsSqlite,
    /// Durable posts a second into one room, on PostgreSQL.
    Hot,
    /// The same on SQLite.
    HotSqlite,
    /// What our path adds to a commit.
    Commit,
    /// How long a message takes from one node to another, and what that costs.
    Bus,
    /// What a node does for others: hearing what was said elsewhere, and marks.
    Hearing,
}

/// How much time a cell may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Rounds: in each, ours and the yardstick are measured once.
    pub rounds: u32,
    /// How long one of them is measured in a round.
    pub window: Duration,
    /// Whether there is time for all sizes.
    pub full: bool,
}

impl Cell {
    /// In the order of the report.
    const ALL: [Self; 20] = [
        Self::Classes,
        Self::School,
        Self::Large,
        Self::Queued,
        Self::Languages,
        Self::Idle,
        Self::Latency,
        Self::Storm,
        Self::Slow,
        Self::Growth,
        Self::Connections,
        Self::Tls,
        Self::Day,
        Self::Posts,
        Self::PostsSqlite,
        Self::Hot,
        Self::HotSqlite,
        Self::Commit,
        Self::Bus,
        Self::Hearing,
    ];

    /// Whether it is only run when there is time for everything.
    fn is_for_full(self) -> bool {
        matches!(self, Self::Large | Self::Connections | Self::Tls | Self::Day | Self::Hearing)
    }

    async fn measure(self, surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
        match self {
            Self::Classes => deliveries::classes(surroundings, budget).await,
            Self::School => deliveries::school(surroundings, budget).await,
            Self::Large => deliveries::large(surroundings, budget).await,
            Self::Queued => deliveries::queued(surroundings, budget).await,
            Self::Languages => deliveries::languages(surroundings, budget).await,
            Self::Idle => idle::idle(surroundings, budget).await,
            Self::Latency => latency::latency(surroundings, budget).await,
            Self::Storm => storm::storm(surroundings, budget).await,
            Self::Slow => slow::slow(surroundings, budget).await,
            Self::Growth => growth::growth(surroundings, budget).await,
            Self::Connections => connections::connections(surroundings, budget).await,
            Self::Tls => tls::tls(surroundings, budget).await,
            Self::Day => day::day(surroundings, budget).await,
            Self::Posts => writes::postgres(surroundings, budget).await,
            Self::PostsSqlite => writes::sqlite(surroundings, budget).await,
            Self::Hot => writes::hot_postgres(surroundings, budget).await,
            Self::HotSqlite => writes::hot_sqlite(surroundings, budget).await,
            Self::Commit => writes::commit(surroundings, budget).await,
            Self::Bus => bus::bus(surroundings, budget).await,
            Self::Hearing => hearing::hearing(surroundings, budget).await,
        }
    }
}

/// What came of a cell.
pub struct Outcome {
    cell: Cell,
    took: Duration,
    found: Result<Found, Failure>,
}

/// Runs it, and writes the report.
///
/// # Errors
/// When a cell failed, or the report can't be written.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    let budget = Budget {
        rounds: options.rounds.unwrap_or(if options.full { 15 } else { 9 }),
        window: Duration::from_millis(options.window.unwrap_or(if options.full { 2_500 } else { 1_500 })),
        full: options.full,
    };
    let is_chosen = |cell: &Cell| match options.only.is_empty() {
        true => options.full || !cell.is_for_full(),
        false => options.only.contains(cell),
    };
    let chosen: Vec<Cell> = Cell::ALL.into_iter().filter(is_chosen).collect();
    let whole = options.only.is_empty();
    let into = options.into.clone().unwrap_or_else(|| if whole { "docs/bench" } else { "target/bench" }.into());
    let machine = machine::look();
    let mut outcomes = Vec::with_capacity(chosen.len());
    let bar = surroundings.bar(chosen.len() as u64, "cells");
    for cell in chosen {
        let began = Instant::now();
        let measuring = Box::pin(cell.measure(surroundings, &budget));
        let found = match timeout(LONGEST_CELL, LocalSet::new().run_until(measuring)).await {
            Ok(found) => found,
            Err(_) => Err(Failure::Broken(format!("it took longer than {} s", LONGEST_CELL.as_secs()))),
        };
        let outcome = Outcome { cell, took: began.elapsed(), found };
        bar.suspend(|| report::tell(&outcome));
        bar.inc(1);
        outcomes.push(outcome);
    }
    bar.finish_and_clear();
    let file = report::write(&into, &machine, &budget, whole, &outcomes)?;
    println!("{}", file.display());
    match outcomes.into_iter().find_map(|outcome| outcome.found.err()) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}
