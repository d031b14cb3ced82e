//! A node that is stopped inside a transaction, while it holds the locks of rooms.
//!
//! Owns: finding such a moment, and that the other nodes' sends go on meanwhile. Refuses to know: how locks are lost.

use super::probe::Probes;
use crate::Failure;
use crate::cluster::Cluster;
use crate::cluster::part::signal;
use crate::cluster::proxy::State;
use crate::node::Node;
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long it stays stopped, at least: longer than a transaction may be idle.
const STOPPED: Duration = Duration::from_millis(2_500);
/// How long the other nodes' sends may take meanwhile: the database ends an idle transaction after 2 s; the rest is for a busy machine.
const OTHERS_WITHIN: Duration = Duration::from_secs(3);
/// A transaction that takes this long in each direction is easy to hit.
const SLOWED: Duration = Duration::from_millis(20);
/// How long a node is watched before another one is.
const WATCHED: Duration = Duration::from_secs(2);
/// How many nodes are watched, one after the other.
const TRIES: usize = 12;

/// Stops a node inside a transaction, beginning with this one; gives the longest time that a send at another node took meanwhile.
///
/// # Errors
/// When no node was ever inside of one, or the others did not go on.
pub async fn stop(cluster: &Cluster, first: usize, longer: Duration, probes: &mut Probes) -> Result<Duration, Failure> {
    let mut watching = PgConnection::connect(&cluster.postgres.url()).await?;
    for which in (first..first + TRIES).map(|which| which % cluster.nodes.len()) {
        let Some(process) = cluster.nodes.get(which).and_then(Node::process) else {
            return Err(Failure::Gone);
        };
        let others = cluster.nodes.iter().enumerate().filter(|(other, _)| *other != which);
        let others = others.map(|(other, node)| Ok::<_, Failure>((other, node.address()?)));
        let lines = probes.open(&others.collect::<Result<Vec<_>, _>>()?).await?;
        if !stop_inside(cluster, which, process, &mut watching).await? {
            continue;
        }
        let until = Instant::now() + STOPPED + longer;
        let asked = probes.ask(&lines, OTHERS_WITHIN).await;
        sleep_until(until).await;
        signal(process, "CONT").await;
        return asked;
    }
    Err(Failure::Broken("no node was ever inside a transaction".to_owned()))
}

/// Stops this node when it is inside of one, and looks whether it still is; whether it worked.
async fn stop_inside(
    cluster: &Cluster,
    which: usize,
    process: u32,
    watching: &mut PgConnection,
) -> Result<bool, Failure> {
    let Some(way) = cluster.ways.get(which).map(|ways| &ways.postgres) else { return Err(Failure::Gone) };
    way.set(State::Slow(SLOWED));
    let deadline = Instant::now() + WATCHED;
    while Instant::now() < deadline {
        if cluster.postgres.holds_locks(watching, &way.ports()).await? {
            signal(process, "STOP").await;
            // What was on its way arrives; then only what the node holds is held.
            way.set(State::Open);
            sleep(SLOWED * 3).await;
            if cluster.postgres.holds_locks(watching, &way.ports()).await? {
                return Ok(true);
            }
            signal(process, "CONT").await;
            way.set(State::Slow(SLOWED));
        }
        sleep(Duration::from_millis(10)).await;
    }
    way.set(State::Open);
    Ok(false)
}
