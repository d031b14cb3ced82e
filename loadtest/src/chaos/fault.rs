//! The ways to break a cluster.
//!
//! Owns: their names, what each would show, and which may happen at once. Refuses to know: how each is done.

use crate::checker::Invariant;
use crate::cluster::{Ways, proxy::Proxy};
use std::fmt;

/// A way to break a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// kill -9 of a node; it comes back a moment later.
    KillNode,
    /// SIGSTOP of a node, for longer than its locks and its word are good; then it goes on where it was.
    PauseNode,
    /// SIGSTOP of a node while it holds the locks of rooms, inside a transaction. The others' sends have to go on.
    PauseInside,
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
    /// Redis fails over to a replica that repeats what it heard long ago, and back.
    FailOverRedis,
    /// PostgreSQL is restarted: connections are cut.
    RestartPostgres,
    /// PostgreSQL ends at once and recovers from its log.
    CrashPostgres,
    /// All connections to PostgreSQL are cut, in the middle of whatever they do.
    CutConnections,
    /// PostgreSQL is put back to a copy that was taken when the first part was broken. Once in a run.
    Restore,
    /// A node's way to PostgreSQL is cut.
    CutPostgres,
    /// A node's way to PostgreSQL is slow.
    SlowPostgres,
    /// A node's way to PostgreSQL is a black hole.
    HangPostgres,
    /// A node's way to Redis is cut.
    CutRedis,
    /// A node's way to Redis is slow.
    SlowRedis,
    /// A node's way to Redis is a black hole.
    HangRedis,
    /// The clients' way to a node is cut.
    CutClients,
    /// The clients' way to a node is slow.
    SlowClients,
    /// The clients' way to a node is a black hole.
    HangClients,
}

/// What happens to a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// What is connected is reset, and what connects.
    Cut,
    /// Everything is late.
    Slow,
    /// Nothing passes.
    Hang,
}

/// Which way of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To PostgreSQL.
    Postgres,
    /// To Redis.
    Redis,
    /// From the clients.
    Clients,
}

impl Way {
    /// Of these.
    pub fn of(self, ways: &Ways) -> &Proxy {
        match self {
            Self::Postgres => &ways.postgres,
            Self::Redis => &ways.redis,
            Self::Clients => &ways.clients,
        }
    }
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::KillNode,
        Self::PauseNode,
        Self::PauseInside,
        Self::DrainNode,
        Self::KillRedis,
        Self::QuietRedis,
        Self::PauseRedis,
        Self::FlushRedis,
        Self::FailOverRedis,
        Self::RestartPostgres,
        Self::CrashPostgres,
        Self::CutConnections,
        Self::Restore,
        Self::CutPostgres,
        Self::SlowPostgres,
        Self::HangPostgres,
        Self::CutRedis,
        Self::SlowRedis,
        Self::HangRedis,
        Self::CutClients,
        Self::SlowClients,
        Self::HangClients,
    ];

    /// What is broken when this fault is not repaired in time.
    pub fn invariant(self) -> Invariant {
        match self {
            Self::KillRedis
            | Self::PauseRedis
            | Self::FlushRedis
            | Self::FailOverRedis
            | Self::CutRedis
            | Self::SlowRedis
            | Self::HangRedis => Invariant::BusCostsLatency,
            _ => Invariant::Repaired,
        }
    }

    /// The way that it damages, if it damages one.
    pub fn way(self) -> Option<(Way, Damage)> {
        Some(match self {
            Self::CutPostgres => (Way::Postgres, Damage::Cut),
            Self::SlowPostgres => (Way::Postgres, Damage::Slow),
            Self::HangPostgres => (Way::Postgres, Damage::Hang),
            Self::CutRedis => (Way::Redis, Damage::Cut),
            Self::SlowRedis => (Way::Redis, Damage::Slow),
            Self::HangRedis => (Way::Redis, Damage::Hang),
            Self::CutClients => (Way::Clients, Damage::Cut),
            Self::SlowClients => (Way::Clients, Damage::Slow),
            Self::HangClients => (Way::Clients, Damage::Hang),
            _ => return None,
        })
    }

    /// Whether the two may happen at once: one part and one way, and neither of those faults that need the rest whole to show anything.
    pub fn goes_with(self, other: Self) -> bool {
        let alone = [Self::QuietRedis, Self::PauseInside];
        self.way().is_some() != other.way().is_some()
            && !alone.contains(&self)
            && !alone.contains(&other)
            && self.leaves_alone(other)
            && other.leaves_alone(self)
    }

    /// A restore holds all ways to PostgreSQL itself; and an answer out of the log that is gone may not be on its way to a client while
    /// the next log begins, or nobody could tell which of the two it belongs to.
    fn leaves_alone(self, other: Self) -> bool {
        self != Self::Restore || !matches!(other.way(), Some((Way::Postgres | Way::Clients, _)))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillNode => "a node killed (-9) and started again",
            Self::PauseNode => "a node stopped (SIGSTOP) for 2.5 s or more",
            Self::PauseInside => "a node stopped (SIGSTOP) inside a transaction, for 2.5 s or more",
            Self::DrainNode => "a node drained and started again",
            Self::KillRedis => "Redis killed (-9) and started again, empty",
            Self::QuietRedis => "Redis killed (-9) while everybody falls silent, and started again later",
            Self::PauseRedis => "Redis stopped (SIGSTOP) for 1 s or more",
            Self::FlushRedis => "Redis flushed, its subscribers thrown out",
            Self::FailOverRedis => "Redis failed over to a replica that repeats the past, and back",
            Self::RestartPostgres => "PostgreSQL restarted",
            Self::CrashPostgres => "PostgreSQL ended at once and recovered",
            Self::CutConnections => "all connections to PostgreSQL cut",
            Self::Restore => "PostgreSQL put back to an older copy",
            Self::CutPostgres => "a node's way to PostgreSQL cut",
            Self::SlowPostgres => "a node's way to PostgreSQL slowed by 50 to 300 ms",
            Self::HangPostgres => "a node's way to PostgreSQL hung for 2 s or more",
            Self::CutRedis => "a node's way to Redis cut",
            Self::SlowRedis => "a node's way to Redis slowed by 50 to 300 ms",
            Self::HangRedis => "a node's way to Redis hung for 1 s or more",
            Self::CutClients => "the clients' way to a node cut",
            Self::SlowClients => "the clients' way to a node slowed by 50 to 300 ms",
            Self::HangClients => "the clients' way to a node hung for 1 s or more",
        })
    }
}
