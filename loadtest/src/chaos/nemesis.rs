//! Whoever breaks the parts.
//!
//! Owns: the random order in which each fault comes as often as the others, most of them two at once, breaking a part or a way, and
//! putting it right. Refuses to know: what the clients notice.

use super::archive::Archive;
use super::failover;
use super::fault::{Damage, Fault};
use super::inside;
use super::probe::Probes;
use crate::Failure;
use crate::cluster::part::signal;
use crate::cluster::proxy::{Proxy, State};
use crate::cluster::{Cluster, ClusterError};
use std::fmt;
use std::time::Duration;
use tokio::time::sleep;

/// What happens at once: a part or a way is broken, or one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// The one.
    pub fault: Fault,
    /// And the other.
    pub also: Option<Fault>,
}

impl Strike {
    /// All of it.
    pub fn faults(self) -> impl Iterator<Item = Fault> {
        [Some(self.fault), self.also].into_iter().flatten()
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.also {
            Some(also) => write!(f, "{}, and {also}", self.fault),
            None => write!(f, "{}", self.fault),
        }
    }
}

/// Breaks one thing after the other.
pub struct Nemesis {
    planned: Vec<Fault>,
    bag: Vec<Fault>,
    random: fastrand::Rng,
    probes: Probes,
    /// The copy of the database, and the restore.
    pub archive: Archive,
    /// The longest time that a send at another node took while a node was stopped inside a transaction.
    pub longest_wait: Option<Duration>,
}

impl Nemesis {
    /// With these faults in mind.
    pub fn new(planned: Vec<Fault>, random: fastrand::Rng, probes: Probes, archive: Archive) -> Self {
        Self { planned, bag: Vec::new(), random, probes, archive, longest_wait: None }
    }

    /// What comes next, after a moment; nothing when all that was planned happens once and has happened.
    pub async fn choose(&mut self) -> Option<Strike> {
        sleep(Duration::from_millis(self.random.u64(100..500))).await;
        if self.bag.is_empty() {
            let again = |fault: &&Fault| **fault != Fault::Restore || self.archive.put_back().is_none();
            self.bag = self.planned.iter().filter(again).copied().collect();
            self.random.shuffle(&mut self.bag);
        }
        let fault = self.bag.pop()?;
        let partner = self.bag.iter().position(|other| fault.goes_with(*other));
        let also = partner.map(|partner| self.bag.swap_remove(partner));
        Some(Strike { fault, also })
    }

    /// Breaks something, and puts it right again. What needs everybody's silence is left broken.
    ///
    /// # Errors
    /// When a part does not come back, or the others did not go on as they have to.
    pub async fn inject(&mut self, strike: Strike, cluster: &mut Cluster) -> Result<(), Failure> {
        if self.planned.contains(&Fault::Restore) {
            self.archive.copy(cluster).await?;
        }
        let ways = cluster.ways.clone();
        let mut damages = Vec::new();
        for (way, damage) in strike.faults().filter_map(Fault::way) {
            let Some(ways) = ways.get(self.random.usize(..ways.len())) else { return Err(Failure::Gone) };
            damages.push(self.damage(damage, way.of(ways).clone()));
        }
        let damaged = futures_util::future::join_all(damages);
        let part = strike.faults().find(|fault| fault.way().is_none());
        let broken = async {
            match part {
                Some(fault) => self.break_part(fault, cluster).await,
                None => Ok(()),
            }
        };
        tokio::join!(damaged, broken).1
    }

    /// Damages a way for a while.
    fn damage(&mut self, damage: Damage, way: Proxy) -> impl Future<Output = ()> + use<> {
        let short = Duration::from_millis(self.random.u64(100..800));
        let (state, time) = match damage {
            Damage::Cut => (State::Cut, short),
            Damage::Slow => {
                (State::Slow(Duration::from_millis(self.random.u64(50..=300))), Duration::from_secs(1) + short)
            }
            // Longer than a node may be without the bell before it holds delivery, or a bus server may take to answer.
            Damage::Hang => (State::Hung, Duration::from_secs(2) + short),
        };
        async move {
            way.set(state);
            sleep(time).await;
            way.set(State::Open);
        }
    }

    async fn break_part(&mut self, fault: Fault, cluster: &mut Cluster) -> Result<(), Failure> {
        let short = Duration::from_millis(self.random.u64(100..1_000));
        let which = self.random.usize(..cluster.nodes.len());
        let Some(node) = cluster.nodes.get_mut(which) else { return Err(Failure::Gone) };
        match fault {
            Fault::KillNode => {
                node.kill().await.map_err(ClusterError::from)?;
                sleep(short).await;
                node.start().await.map_err(ClusterError::from)?;
            }
            Fault::PauseNode => {
                let Some(process) = node.process() else { return Err(Failure::Gone) };
                signal(process, "STOP").await;
                sleep(Duration::from_millis(2_500) + short).await;
                signal(process, "CONT").await;
            }
            Fault::PauseInside => {
                let took = inside::stop(cluster, which, short, &mut self.probes).await?;
                self.longest_wait = self.longest_wait.max(Some(took));
            }
            Fault::DrainNode => {
                node.stop().await.map_err(ClusterError::from)?;
                node.start().await.map_err(ClusterError::from)?;
            }
            Fault::QuietRedis => {
                cluster.redis.kill().await;
                sleep(short).await;
            }
            Fault::KillRedis => {
                cluster.redis.kill().await;
                sleep(short).await;
                cluster.redis.run().await.map_err(ClusterError::from)?;
            }
            Fault::PauseRedis => {
                let Some(process) = cluster.redis.process() else { return Err(Failure::Gone) };
                signal(process, "STOP").await;
                sleep(Duration::from_secs(1) + short).await;
                signal(process, "CONT").await;
            }
            Fault::FlushRedis => {
                cluster.redis.tell(&["FLUSHALL"]).await;
                cluster.redis.tell(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            }
            Fault::FailOverRedis => failover::to_a_replica_and_back(cluster, short).await?,
            Fault::RestartPostgres => {
                cluster.postgres.stop().await.map_err(ClusterError::from)?;
                cluster.postgres.run().await.map_err(ClusterError::from)?;
            }
            Fault::CrashPostgres => {
                cluster.postgres.crash().await.map_err(ClusterError::from)?;
                sleep(short).await;
                cluster.postgres.run().await.map_err(ClusterError::from)?;
            }
            Fault::CutConnections => cluster.postgres.cut_connections().await?,
            Fault::Restore => self.archive.restore(cluster).await?,
            // Damages of ways.
            _ => {}
        }
        Ok(())
    }
}
