//! Whoever breaks the parts.
//!
//! Owns: the faults, in a random order in which each comes as often as the others, and putting right what they broke.
//! Refuses to know: what the clients notice.

use crate::Failure;
use crate::checker::Invariant;
use crate::cluster::part::signal;
use crate::cluster::{Cluster, ClusterError};
use std::fmt;
use std::time::Duration;
use tokio::time::sleep;

/// A way to break a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// kill -9 of a node; it comes back a moment later.
    KillNode,
    /// SIGSTOP of a node, for longer than its locks and its word are good; then it goes on where it was.
    PauseNode,
    /// SIGTERM of a node: it drains and leaves, then comes back.
    DrainNode,
    /// kill -9 of Redis; it comes back empty.
    KillRedis,
    /// kill -9 of Redis while everybody falls silent: no later message brings what was lost.
    QuietRedis,
    /// SIGSTOP of Redis.
    PauseRedis,
    /// Redis forgets everything and throws its subscribers out.
    FlushRedis,
    /// PostgreSQL is restarted: connections are cut.
    RestartPostgres,
    /// PostgreSQL ends at once and recovers from its log.
    CrashPostgres,
    /// All connections to PostgreSQL are cut, in the middle of whatever they do.
    CutConnections,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::KillNode,
        Self::PauseNode,
        Self::DrainNode,
        Self::KillRedis,
        Self::QuietRedis,
        Self::PauseRedis,
        Self::FlushRedis,
        Self::RestartPostgres,
        Self::CrashPostgres,
        Self::CutConnections,
    ];

    /// What is broken when this fault is not repaired in time.
    pub fn invariant(self) -> Invariant {
        match self {
            Self::KillRedis | Self::PauseRedis | Self::FlushRedis => Invariant::BusCostsLatency,
            _ => Invariant::Repaired,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillNode => "a node killed (-9) and started again",
            Self::PauseNode => "a node stopped (SIGSTOP) for 2.5 s or more",
            Self::DrainNode => "a node drained and started again",
            Self::KillRedis => "Redis killed (-9) and started again, empty",
            Self::QuietRedis => "Redis killed (-9) while everybody falls silent, and started again later",
            Self::PauseRedis => "Redis stopped (SIGSTOP) for 1 s or more",
            Self::FlushRedis => "Redis flushed, its subscribers thrown out",
            Self::RestartPostgres => "PostgreSQL restarted",
            Self::CrashPostgres => "PostgreSQL ended at once and recovered",
            Self::CutConnections => "all connections to PostgreSQL cut",
        })
    }
}

/// Breaks one thing after the other.
pub struct Nemesis {
    planned: Vec<Fault>,
    bag: Vec<Fault>,
    random: fastrand::Rng,
}

impl Nemesis {
    /// With these faults in mind.
    pub fn new(planned: Vec<Fault>, random: fastrand::Rng) -> Self {
        Self { planned, bag: Vec::new(), random }
    }

    /// What comes next, after a moment.
    ///
    /// # Errors
    /// When nothing is planned.
    pub async fn choose(&mut self) -> Result<Fault, Failure> {
        if self.bag.is_empty() {
            self.bag.clone_from(&self.planned);
            self.random.shuffle(&mut self.bag);
        }
        let Some(fault) = self.bag.pop() else { return Err(Failure::Broken("no fault is planned".to_owned())) };
        sleep(Duration::from_millis(self.random.u64(100..800))).await;
        Ok(fault)
    }

    /// Breaks something, and puts it right again. What needs everybody's silence is left broken.
    ///
    /// # Errors
    /// When a part does not come back.
    pub async fn inject(&mut self, fault: Fault, cluster: &mut Cluster) -> Result<(), Failure> {
        let short = Duration::from_millis(self.random.u64(100..1_500));
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
        }
        Ok(())
    }
}
