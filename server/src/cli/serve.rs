//! `homeroom serve`: a server from its start to its end.
//!
//! Owns: the order of lock, signals, node and control socket, and waiting for a database that does not answer yet. Refuses to
//! know: what a node is made of (see `app`).

use super::show::{complain, fail};
use super::{FAILED, lock};
use crate::app;
use crate::config::{Config, LogFormat};
use crate::control::{self, Hands};
use crate::db::{Db, Location, OpenError};
use crate::log::Log;
use crate::roster::places;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

/// How often places in rooms are looked at: enrolments begin and end by their dates.
const PLACES: Duration = Duration::from_secs(3_600);

pub(super) async fn serve(config: &Config) -> ExitCode {
    trace(config);
    let _lock = match lock(config) {
        Ok(lock) => lock,
        Err(why) => return complain(FAILED, &why),
    };
    // Before anybody is told that the server is there: whoever stops it at once is heard, too.
    let mut signals = match Signals::take() {
        Ok(signals) => signals,
        Err(error) => return fail(FAILED, &error),
    };
    let starting = start_patiently(config);
    let running = tokio::select! {
        running = starting => running,
        // Nothing was started yet that would have to be ended in order.
        () = signals.next() => return ExitCode::SUCCESS,
    };
    let running = match running {
        Ok(running) => running,
        Err(error) => return fail(FAILED, &error),
    };
    let base_url = config.public_url.clone().unwrap_or_else(|| running.url());
    let hands = Hands {
        db: running.node.log.db().clone(),
        log: running.node.log.clone(),
        node: Some(running.node.clone()),
        base_url,
    };
    let control = match control::serve(&config.data_dir, hands) {
        Ok(control) => tokio::spawn(control),
        Err(error) => return complain(FAILED, &format!("{}: {error}", control::path(&config.data_dir).display())),
    };
    let keeping = tokio::spawn(keep_places(running.node.log.clone()));
    if let Some(address) = running.metrics_address {
        println!("metrics on http://{address}/metrics");
    }
    // Last: whoever waits for it may ask for everything.
    println!("listening on {}", running.url());
    // Whoever reads this from a pipe waits for it.
    let _unflushed = std::io::stdout().flush();
    signals.next().await;
    tracing::info!("stopping: sessions are told when to come back");
    tokio::spawn(async move {
        signals.next().await;
        tracing::warn!("stopped at once");
        std::process::exit(i32::from(FAILED));
    });
    control.abort();
    keeping.abort();
    running.stop().await;
    // It is stale from here on, and would only make the next command wait.
    let _gone = std::fs::remove_file(control::path(&config.data_dir));
    ExitCode::SUCCESS
}

/// Starts; while a PostgreSQL does not answer, waits for it instead of ending: whoever looks after processes would only start it over
/// and over.
async fn start_patiently(config: &Config) -> Result<app::Running, app::StartError> {
    loop {
        match (app::start(config).await, &config.database) {
            (Err(app::StartError::Database(OpenError::Unreachable(error))), Location::Postgres(_)) => {
                wait_for_database(config, error).await?;
            }
            (outcome, _) => return outcome,
        }
    }
}

/// Says why, asks again at growing intervals, and meanwhile tells whoever looks that the process lives and is not ready.
async fn wait_for_database(config: &Config, mut error: sqlx::Error) -> Result<(), app::StartError> {
    let waiting = app::Waiting::start(config)?;
    let mut wait = Duration::from_millis(500);
    loop {
        let seconds = wait.as_secs_f32();
        tracing::warn!(%error, database = %config.database, "the database does not answer; tried again in {seconds} s");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(15));
        match Db::open(&config.database).await {
            Err(OpenError::Unreachable(again)) => error = again,
            Ok(db) => {
                db.close().await;
                break;
            }
            // For the start itself to say.
            Err(_) => break,
        }
    }
    waiting.stop().await;
    Ok(())
}

async fn keep_places(log: Log) {
    loop {
        if let Err(error) = places::follow(log.db(), &log, &|_| {}).await {
            tracing::warn!(%error, "places in rooms can't be brought up to date; tried again in an hour");
        }
        tokio::time::sleep(PLACES).await;
    }
}

/// SIGTERM and SIGINT, ours from the moment this is made.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn take() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        // Either is the same wish; a dropped `recv` loses nothing that matters.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn trace(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log).unwrap_or_default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber is refused; the first one goes on.
    let _already = match config.log_format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
