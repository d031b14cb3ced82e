//! Looks a whole installation over: what is well, what is not, and the one thing to do about it.
//!
//! Owns: what a finding is, and the order in which things are looked at. Refuses to know: how findings are shown (see `cli`).
//!
//! It changes nothing but for a file that it writes into the data folder and takes away again, and commits that hold no row. It works
//! beside a running server and without one. What it says never holds a password.

mod folder;
mod network;
mod postgres;
mod redis;
mod schema;
mod sqlite;

use crate::config::Config;
use crate::db::Location;
use serde::Serialize;
use std::time::Duration;

/// How long anything that is asked may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Attention,
    /// People can't be served, or a promise is not kept.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at; the same name each time, so that programs can tell.
    pub check: &'static str,
    /// How it stands.
    pub state: State,
    /// What was seen.
    pub found: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn new(check: &'static str, state: State, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = (state != State::Ok).then(|| advice.into());
        Self { check, state, found: found.into(), advice }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, State::Ok, found, "")
    }

    fn attention(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, State::Attention, found, advice)
    }

    fn broken(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(check, State::Broken, found, advice)
    }

    /// The configuration can't be read: nothing else can be looked at.
    #[must_use]
    pub fn misconfigured(mistakes: &str) -> Self {
        Self::broken("configuration", mistakes, "mend it; `homeroom serve --help` lists all settings")
    }
}

/// The worst of all.
#[must_use]
pub fn verdict(findings: &[Finding]) -> State {
    findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
}

/// Looks everything over that a configuration names.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("configuration", summary(config))];
    findings.extend(folder::examine(&config.data_dir));
    let (server, of_server) = folder::server(&config.data_dir).await;
    findings.extend(of_server);
    match &config.database {
        Location::Sqlite(file) => findings.extend(sqlite::examine(file, &config.data_dir).await),
        Location::Postgres(url) => findings.extend(postgres::examine(url, !config.redis_urls.is_empty()).await),
    }
    findings.extend(redis::examine(&config.redis_urls).await);
    findings.push(folder::open_files(server, config.workers));
    findings.extend(network::examine(config, server.is_some()).await);
    findings
}

fn summary(config: &Config) -> String {
    let bus = match config.redis_urls.len() {
        0 => String::new(),
        servers => format!(", {servers} Redis"),
    };
    format!("no mistakes; {}{bus}, served on {}", config.database, config.listen)
}

/// How long something took, as far as anybody wants to know.
fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1_000.0)
}

/// The one in the middle.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Judges how long a commit takes: it is what everybody waits for who sends something.
fn commit(took: Duration) -> Finding {
    let check = "database.commit";
    let found = format!("a commit takes {}", milliseconds(took));
    let advice = "find out what slows its disk down, or its standby: everybody who sends something waits for this";
    match took.as_millis() {
        0..50 => Finding::ok(check, found),
        50..1_000 => Finding::attention(check, found, advice),
        _ => Finding::broken(check, found, advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_of_a_second_is_broken() {
        let state = |milliseconds| commit(Duration::from_millis(milliseconds)).state;
        assert_eq!([state(3), state(60), state(1_000)], [State::Ok, State::Attention, State::Broken]);
    }

    #[test]
    fn the_worst_finding_is_the_verdict() {
        let findings = [Finding::ok("a", ""), Finding::broken("b", "", ""), Finding::attention("c", "", "")];
        assert_eq!(verdict(&findings), State::Broken);
        assert_eq!(verdict(&findings[..1]), State::Ok);
    }
}
