//! PostgreSQL: reachable, of a version, keeping what it is given, with enough connections, and a clock.
//!
//! Owns: what Homeroom asks of a PostgreSQL. Refuses to know: the tables (see `schema`).

use super::{Finding, PATIENCE, commit, median, schema};
use crate::db::{self, Engine, Location};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};
use std::time::Instant;

/// The oldest that has what the bell needs (`pg_current_xact_id`), and the one that the tests run.
const OLDEST: i32 = 13;
const TESTED: i32 = 15;
/// Clocks that differ by this make odd times beside messages, and by that, sign-ins that run out early.
const ODD: TimeDelta = TimeDelta::seconds(2);
const WRONG: TimeDelta = TimeDelta::seconds(60);

/// What it says about itself.
#[derive(Debug, sqlx::FromRow)]
struct About {
    version: String,
    version_number: i32,
    is_standby: bool,
    only_reads: bool,
    synchronous_commit: String,
    fsync: bool,
    full_page_writes: bool,
    standby_names: String,
    standbys: i64,
    synchronous_standbys: i64,
    hidden_standbys: i64,
    /// Connections that it lets this user have at once; -1 is no limit.
    of_server: i32,
    of_database: i32,
    of_role: i32,
}

const ABOUT: &str = "SELECT current_setting('server_version') AS version,
        current_setting('server_version_num')::int AS version_number,
        pg_is_in_recovery() AS is_standby,
        current_setting('default_transaction_read_only')::bool AS only_reads,
        current_setting('synchronous_commit') AS synchronous_commit,
        current_setting('fsync')::bool AS fsync,
        current_setting('full_page_writes')::bool AS full_page_writes,
        current_setting('synchronous_standby_names') AS standby_names,
        (SELECT count(*) FROM pg_stat_replication) AS standbys,
        (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS synchronous_standbys,
        (SELECT count(*) FROM pg_stat_replication WHERE sync_state IS NULL) AS hidden_standbys,
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS of_server,
        (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS of_database,
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS of_role";

pub(super) async fn examine(url: &str, several_nodes: bool) -> Vec<Finding> {
    let place = Location::Postgres(url.to_owned());
    let options = match db::postgres_options(url) {
        Ok(options) => options.application_name("homeroom doctor"),
        // The reason may quote the URL.
        Err(_) => {
            let advice = "write it as postgres://user:password@host:port/name, with %-codes for what is special";
            return vec![Finding::broken("database", "database_url can't be read", advice)];
        }
    };
    let began = Instant::now();
    let mut on = match tokio::time::timeout(PATIENCE, options.connect()).await {
        Ok(Ok(on)) => on,
        Ok(Err(error)) => return vec![Finding::broken("database", format!("{place}: {error}"), advice(&error))],
        Err(_) => return vec![Finding::broken("database", format!("{place} does not answer"), advice_unreachable())],
    };
    let found = format!("{place} answers, connected in {}", super::milliseconds(began.elapsed()));
    let mut findings = vec![Finding::ok("database", found)];
    let about = match tokio::time::timeout(PATIENCE, sqlx::query_as::<_, About>(ABOUT).fetch_one(&mut on)).await {
        Ok(Ok(about)) => about,
        Ok(Err(error)) => {
            let advice = "is this PostgreSQL, and may this user read its catalogues?";
            findings.push(Finding::broken("database.version", format!("it can't be asked: {error}"), advice));
            return findings;
        }
        Err(_) => {
            findings.push(Finding::broken("database.version", "it stopped answering", advice_unreachable()));
            return findings;
        }
    };
    findings.extend([version(&about), keeping(&about), connections(&about, several_nodes), standby(&about)]);
    findings.push(schema::examine(Engine::Postgres(&mut on)).await);
    findings.push(clock(&mut on).await);
    // A commit that waits for a standby which is gone never ends, and would leave its connection behind.
    if !waits_for_nobody(&about) && !about.is_standby && !about.only_reads {
        findings.push(time_commits(&mut on).await);
    }
    // Nothing was written: there is nothing to lose.
    let _closed = tokio::time::timeout(PATIENCE, on.close()).await;
    findings
}

fn advice_unreachable() -> &'static str {
    "is it running, are host and port in database_url right, and does a firewall let this machine through?"
}

fn advice(error: &sqlx::Error) -> &'static str {
    let sqlx::Error::Database(error) = error else { return advice_unreachable() };
    match error.code().as_deref() {
        Some("28P01" | "28000") => "mend user and password in database_url, or pg_hba.conf",
        Some("3D000") => "make the database: `createdb --owner USER NAME`",
        Some("53300") => "it has no connection left: raise max_connections, or the limit of the user or database",
        _ => "look into PostgreSQL's log",
    }
}

fn version(about: &About) -> Finding {
    let check = "database.version";
    let found = format!("PostgreSQL {}", about.version);
    match about.version_number / 10_000 {
        major if major < OLDEST => {
            Finding::broken(check, found, format!("upgrade it: {OLDEST} is the oldest that will do"))
        }
        major if major < TESTED => {
            Finding::attention(check, found, format!("upgrade it when you can: {TESTED} is tested"))
        }
        _ => Finding::ok(check, found),
    }
}

/// Whether a commit is on the disk when it says so.
fn keeping(about: &About) -> Finding {
    let check = "database.keeping";
    let found = format!(
        "synchronous_commit {}, fsync {}, full_page_writes {}",
        about.synchronous_commit,
        if about.fsync { "on" } else { "off" },
        if about.full_page_writes { "on" } else { "off" },
    );
    if about.is_standby || about.only_reads {
        let advice = "name the primary in database_url; after a failover the standby has to be promoted first";
        return Finding::broken(check, "it takes no writes: a standby, or set to read only", advice);
    }
    if about.synchronous_commit == "off" || !about.fsync || !about.full_page_writes {
        return Finding::broken(check, found, "set all three to on: a crash loses what was acknowledged");
    }
    if !about.standby_names.is_empty() && about.synchronous_commit != "on" && about.synchronous_commit != "remote_apply"
    {
        let advice =
            "set synchronous_commit to on: as it is, commits don't wait until the standby has them on its disk";
        return Finding::attention(check, found, advice);
    }
    Finding::ok(check, found)
}

fn connections(about: &About, several_nodes: bool) -> Finding {
    let check = "database.connections";
    let limits = [about.of_server, about.of_database, about.of_role];
    let most = limits.into_iter().filter(|limit| *limit >= 0).min().unwrap_or(0);
    let nodes = most / db::POSTGRES_CONNECTIONS;
    let found = format!("{most} connections are enough for {nodes} nodes ({} each)", db::POSTGRES_CONNECTIONS);
    let advice = "raise max_connections, or the limit of the user or database";
    match nodes {
        0 => Finding::broken(check, found, advice),
        1..3 if several_nodes => Finding::attention(check, found, advice),
        _ => Finding::ok(check, found),
    }
}

/// Commits wait for a standby, and none is there.
fn waits_for_nobody(about: &About) -> bool {
    !about.standby_names.is_empty() && about.synchronous_standbys + about.hidden_standbys == 0
}

fn standby(about: &About) -> Finding {
    let check = "database.standby";
    if about.standby_names.is_empty() {
        let found = match about.standbys {
            0 => "none: what was acknowledged survives any crash, but not the loss of the database's machine or disk",
            _ => "only asynchronous ones: losing the database's machine loses what they did not have yet",
        };
        return Finding::ok(check, found);
    }
    if waits_for_nobody(about) {
        let found = "a synchronous standby is asked for and none is there: every commit waits for ever";
        return Finding::broken(check, found, "start the standby, or take it out of synchronous_standby_names");
    }
    Finding::ok(check, "synchronous: what was acknowledged survives the loss of either machine")
}

async fn clock(on: &mut PgConnection) -> Finding {
    let check = "clock";
    let asked = Utc::now();
    let told = sqlx::query_as("SELECT clock_timestamp()").fetch_one(on);
    let Ok(Ok((theirs,))): Result<Result<(DateTime<Utc>,), _>, _> = tokio::time::timeout(PATIENCE, told).await else {
        return Finding::broken(check, "the database does not tell the time", advice_unreachable());
    };
    // It answered somewhere between the question and now.
    let ours = asked + (Utc::now() - asked) / 2;
    let apart = (theirs - ours).abs();
    let found = format!("{:.2} s apart from the database's", apart.as_seconds_f64());
    let advice = "have both clocks set by the same time server (systemd-timesyncd, chrony)";
    if apart > WRONG {
        Finding::broken(check, found, advice)
    } else if apart > ODD {
        Finding::attention(check, found, advice)
    } else {
        Finding::ok(check, found)
    }
}

/// Commits that hold no row: a note in the write-ahead log, which every commit has to wait for.
async fn time_commits(on: &mut PgConnection) -> Finding {
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let written = sqlx::query("SELECT pg_logical_emit_message(true, 'homeroom', 'doctor')").execute(&mut *on);
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(_)) => times.push(began.elapsed()),
            Ok(Err(error)) => {
                let found = format!("it takes no commit: {error}");
                return Finding::broken("database.commit", found, "look into PostgreSQL's log, and at its disk");
            }
            Err(_) => return commit(began.elapsed().max(PATIENCE)),
        }
    }
    commit(median(times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn about() -> About {
        About {
            version: "15.4".to_owned(),
            version_number: 150_004,
            is_standby: false,
            only_reads: false,
            synchronous_commit: "on".to_owned(),
            fsync: true,
            full_page_writes: true,
            standby_names: String::new(),
            standbys: 0,
            synchronous_standbys: 0,
            hidden_standbys: 0,
            of_server: 97,
            of_database: -1,
            of_role: -1,
        }
    }

    #[test]
    fn an_old_version_is_broken() {
        let states = [90_600, 130_001, 150_004, 180_000]
            .map(|version_number| version(&About { version_number, ..about() }).state);
        assert_eq!(states, [State::Broken, State::Attention, State::Ok, State::Ok]);
    }

    #[test]
    fn a_standby_is_no_place_to_write_and_one_that_is_only_sent_to_is_not_enough() {
        assert_eq!(keeping(&About { is_standby: true, ..about() }).state, State::Broken);
        let with = |mode: &str| About { standby_names: "b".to_owned(), synchronous_commit: mode.to_owned(), ..about() };
        assert_eq!(keeping(&with("local")).state, State::Attention);
        assert_eq!(keeping(&with("on")).state, State::Ok);
        assert_eq!(standby(&About { synchronous_standbys: 1, ..with("on") }).state, State::Ok);
        assert_eq!(standby(&with("on")).state, State::Broken);
    }

    #[test]
    fn the_tightest_limit_counts() {
        assert_eq!(connections(&about(), true).state, State::Ok);
        assert_eq!(connections(&About { of_role: 50, ..about() }, true).state, State::Attention);
        assert_eq!(connections(&About { of_role: 50, ..about() }, false).state, State::Ok);
        assert_eq!(connections(&About { of_database: 10, ..about() }, false).state, State::Broken);
    }
}
