//! Does the checker have teeth? Chaos with a server that breaks its word must be noticed.
//!
//! Owns: the sabotages that are tried, and that each is noticed on every seed. Refuses to know: what a sabotage does, and how it is
//! noticed.

use crate::chaos;
use crate::checker::Invariant;
use crate::{Failure, Surroundings};

/// As the server built for it calls them, and the promise that each breaks.
const SABOTAGES: [(&str, Invariant); 8] = [
    ("skip-hole-filling", Invariant::Complete),
    ("publish-before-commit", Invariant::Complete),
    ("drop-duplicate-look-up", Invariant::OneAnswer),
    ("live-one-early", Invariant::Complete),
    ("ignore-bell", Invariant::Repaired),
    ("deliver-to-revoked", Invariant::Sight),
    ("retracted-from-ring", Invariant::Complete),
    ("marks-on-writes", Invariant::Marks),
];

/// How it is tried.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long each may go unnoticed, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=600))]
    seconds: u64,
    /// On so many seeds, from 1 on.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Only this sabotage.
    #[arg(long)]
    only: Option<String>,
}

/// Tries each sabotage.
///
/// # Errors
/// When one is not noticed, or something else goes wrong.
pub async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), Failure> {
    let wanted = |(how, _): &&(&str, Invariant)| options.only.as_deref().is_none_or(|only| only == *how);
    for (how, broken) in SABOTAGES.iter().filter(wanted) {
        for seed in 1..=options.seeds {
            println!("\n{how}, seed {seed}");
            let chaos = chaos::Options::sabotaged(how, options.seconds, seed);
            match Box::pin(chaos::run(&chaos, surroundings)).await {
                Err(Failure::Breach { invariants, story }) if invariants.contains(broken) => {
                    println!("noticed, {broken}: {}", story.lines().take(4).collect::<Vec<_>>().join("\n  "));
                }
                Err(Failure::Breach { story, .. }) => {
                    let why = format!("{how} with seed {seed} breaks {broken}, and what was noticed is: {story}");
                    return Err(Failure::Toothless(why));
                }
                Ok(()) => return Err(Failure::Toothless(format!("nobody noticed {how} with seed {seed}"))),
                Err(other) => return Err(other),
            }
        }
    }
    println!("\nevery sabotage was noticed, and called by the promise that it breaks");
    Ok(())
}
