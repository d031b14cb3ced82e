//! What a durable post costs, beside what the database itself can do.
//!
//! Owns: which writers are compared, and that all of them have the same cores. Refuses to know: how teachers post, and how a bare
//! writer stores.
//!
//! Client, server and database share all cores, and so do yardstick and database: with two cores, binding one of them to one would
//! decide the outcome.

use super::cores::Cores;
use super::posters::{Engine, HOT, Posters, QUIET, Rooms, Used};
use super::turns::{in_turn, rounds};
use super::{Budget, Found, Line, Round, Target};
use crate::bare::messages::Paced;
use crate::bare::{ours, postgres, sqlite};
use crate::{Failure, Surroundings};

/// Messages in a bare batch.
const BATCH: usize = 100;
/// Bare connections with batches, and with one message each.
const FEW: usize = 2;
const MANY: usize = 32;
const EACH: &str = "Teachers post one by one, each into a room of their own, over as many sockets; counted are acknowledgements. The yardstick stores \
                    messages of the same length into as many rooms, from arrays, a counter a room and a row a message in one \
                    transaction, through one prepared statement. Client, server and database share all cores; so do yardstick and database.";

const ONE: &str = "A thousand guardians write to the teachers of one class, over as many sockets, each in their own conversation of its one room; \
                   counted are acknowledgements. Ours holds each event against the view of all who are there. The yardstick stores \
                   messages of the same length behind one counter, on one connection (two would wait for each other), and tells nobody. \
                   Client, server and database share all cores; so do yardstick and database.";

const OWN_TABLES: &str = "The same two connections and batches, but stored as Homeroom does: all columns and indexes, the answers to client ids, \
                          heads and bell. Who sends, may send and is told is in neither: this is what the database allows.";

/// Acknowledged posts a second on PostgreSQL.
pub async fn postgres(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let _cores = Cores::share(surroundings);
    let posters = Posters::open(surroundings, Engine::Postgres, Rooms::Each).await?;
    let mut bare = beside(&posters).await?;
    let url = posters.postgres.as_ref().ok_or(Failure::Gone)?.url();
    let mut own_tables = ours::Ours::open(&url, FEW).await?;
    let (mut client, mut parts) = (0.0_f64, Vec::new());
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        let bare = async {
            let before = posters.used();
            let batches = bare.store(FEW, BATCH, true, budget.window).await?;
            let used = posters.used().since(before, batches.messages);
            let singles = bare.store(MANY, 1, true, budget.window).await?.per_second();
            Ok((batches.per_second(), used, singles, own_tables.store(BATCH, budget.window).await?.per_second()))
        };
        let (ours, (batches, used, singles, tables)) = in_turn(round, posters.busy(budget.window), bare).await?;
        client = client.max(ours.own_share);
        parts.push(ours.used);
        let cpu = Round { ours: ours.used.server + ours.used.database, yardstick: used.own + used.database };
        let beside = |ours, yardstick| Round { ours, yardstick };
        Ok([beside(ours.per_second, batches), beside(ours.per_second, singles), beside(tables, batches), cpu])
    })
    .await?;
    let column = |at: usize| rounds.iter().map(|lines| lines[at]).collect();
    let line = |name: &str, yardstick, target, at, client, note: &str| Line {
        name: format!("{name} a second, PostgreSQL, {QUIET} rooms"),
        unit: "/s",
        yardstick,
        target,
        rounds: column(at),
        note: note.to_owned(),
        client,
    };
    let (posts, batches) = ("durable posts", "two bare connections, batches of 100");
    Ok(vec![
        line(posts, batches, Target::AtLeast(0.5), 0, Some(client), EACH),
        line(posts, "32 bare connections, one each", Target::AtLeast(2.0), 1, Some(client), EACH),
        line("bare batches into our own tables", batches, Target::Told, 2, None, OWN_TABLES),
        of_cpu("PostgreSQL", batches, column(3), &parts),
    ]
    .into())
}

/// The same on SQLite.
pub async fn sqlite(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let _cores = Cores::share(surroundings);
    let posters = Posters::open(surroundings, Engine::Sqlite, Rooms::Each).await?;
    let mut bare = sqlite::Bare::open(&posters.folder.join("bare.db"), QUIET).await?;
    let (mut client, mut parts) = (0.0_f64, Vec::new());
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        let bare = async {
            let before = posters.used();
            let stored = bare.store(BATCH, true, budget.window).await?;
            Ok((stored.per_second(), posters.used().since(before, stored.messages).own))
        };
        let (ours, (yardstick, used)) = in_turn(round, posters.busy(budget.window), bare).await?;
        client = client.max(ours.own_share);
        parts.push(ours.used);
        let cpu = Round { ours: ours.used.server, yardstick: used };
        Ok((Round { ours: ours.per_second, yardstick }, cpu))
    })
    .await?;
    let (rounds, cpu) = rounds.into_iter().unzip();
    let line = Line {
        name: format!("durable posts a second, SQLite FULL, {QUIET} rooms"),
        unit: "/s",
        yardstick: "bare batches of 100",
        target: Target::AtLeast(0.6),
        rounds,
        note: EACH.to_owned(),
        client: Some(client),
    };
    Ok(vec![line, of_cpu("SQLite FULL", "bare batches of 100", cpu, &parts)].into())
}

/// What a post costs without whoever posts it, whose cores the yardstick has for itself.
fn of_cpu(engine: &str, yardstick: &'static str, rounds: Vec<Round>, parts: &[Used]) -> Line {
    let middle = |of: fn(&Used) -> f64| super::statistics::middle(parts.iter().map(of).collect()).median;
    Line {
        name: format!("CPU of a durable post, {engine}, server and database"),
        unit: "µs",
        yardstick,
        target: Target::Told,
        rounds,
        note: format!(
            "At saturation, in the same windows. Of each post: server {:.0} µs, database {:.0} µs; whoever posts takes another {:.0} µs of the \
             same cores, which the yardstick has for itself.",
            middle(|used| used.server),
            middle(|used| used.database),
            middle(|used| used.own)
        ),
        client: None,
    }
}

/// Acknowledged posts a second into one room, on PostgreSQL.
pub async fn hot_postgres(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let _cores = Cores::share(surroundings);
    let posters = Posters::open(surroundings, Engine::Postgres, Rooms::One).await?;
    let url = posters.postgres.as_ref().ok_or(Failure::Gone)?.url();
    let mut bare = postgres::Bare::open(&url, 1, 1, 1).await?;
    let store = async || Ok(bare.store(1, BATCH, false, budget.window).await?.per_second());
    hot(surroundings, budget, &posters, "PostgreSQL", store).await
}

/// The same on SQLite.
pub async fn hot_sqlite(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let _cores = Cores::share(surroundings);
    let posters = Posters::open(surroundings, Engine::Sqlite, Rooms::One).await?;
    let mut bare = sqlite::Bare::open(&posters.folder.join("bare.db"), 1).await?;
    let store = async || Ok(bare.store(BATCH, false, budget.window).await?.per_second());
    hot(surroundings, budget, &posters, "SQLite FULL", store).await
}

async fn hot(
    surroundings: &Surroundings,
    budget: &Budget,
    posters: &Posters,
    engine: &str,
    mut store: impl AsyncFnMut() -> Result<f64, Failure>,
) -> Result<Found, Failure> {
    let mut client = 0.0_f64;
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        let (ours, yardstick) = in_turn(round, posters.busy(budget.window), store()).await?;
        client = client.max(ours.own_share);
        Ok(Round { ours: ours.per_second, yardstick })
    })
    .await?;
    let line = Line {
        name: format!("durable posts a second, {engine}, {HOT} people in one room"),
        unit: "/s",
        yardstick: "bare batches of 100 behind one counter",
        target: Target::Told,
        rounds,
        note: ONE.to_owned(),
        client: Some(client),
    };
    Ok(vec![line].into())
}

/// What our path adds to a commit, at half of what it takes.
pub async fn commit(surroundings: &Surroundings, budget: &Budget) -> Result<Found, Failure> {
    let _cores = Cores::share(surroundings);
    let posters = Posters::open(surroundings, Engine::Postgres, Rooms::Each).await?;
    let mut bare = beside(&posters).await?;
    let most = posters.busy(budget.window).await?.per_second;
    let pace = Paced { rate: most / 2.0, most: BATCH, length: budget.window };
    let mut client = 0.0_f64;
    let rounds = rounds(surroundings, budget.rounds, async |round| {
        let bare = async { Ok(hundredth(bare.paced(FEW, pace, true).await?)) };
        let (ours, yardstick) = in_turn(round, posters.paced(pace.rate, budget.window), bare).await?;
        client = client.max(ours.own_share);
        Ok(Round { ours: hundredth(ours.times) - yardstick, yardstick })
    })
    .await?;
    let line = Line {
        name: "time added to a commit, p99 at half load, PostgreSQL".to_owned(),
        unit: "ms",
        yardstick: "the bare transaction's own p99",
        target: Target::OursAtMost(2.0),
        rounds,
        note: format!(
            "From a post's sending to its acknowledgement, at {:.0} a second (half of what came through before), less the bare \
             transaction at the same rate: two connections, each time with what is due. What a message waits for its transaction \
             counts as ours.",
            pace.rate
        ),
        client: Some(client),
    };
    Ok(vec![line].into())
}

async fn beside(posters: &Posters) -> Result<postgres::Bare, Failure> {
    let url = posters.postgres.as_ref().ok_or(Failure::Gone)?.url();
    // Each of the two has as many rooms as Homeroom has for each of its two lanes.
    Ok(postgres::Bare::open(&url, FEW, MANY, QUIET).await?)
}

/// The 99th hundredth, in milliseconds.
fn hundredth(mut times: Vec<u64>) -> f64 {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).map_or(f64::NAN, |time| *time as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::hundredth;

    #[test]
    fn one_in_a_hundred_is_slower() {
        assert_eq!(hundredth((1..=1_000).map(|time| time * 1_000).rev().collect()), 991.0);
        assert!(hundredth(Vec::new()).is_nan());
    }
}
