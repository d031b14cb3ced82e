//! A whole Homeroom on this machine: PostgreSQL, Redis, nodes, and HAProxy before them.
//!
//! Owns: starting the parts in order, on free ports of the loopback, and stopping them in order. Every part ends with this
//! process, however that ends. Refuses to know: what is done with them.

mod haproxy;
pub mod part;
pub mod postgres;
pub mod proxy;
pub mod redis;
mod show;

pub use show::{Options, run};

use crate::node::{Node, NodeError};
use haproxy::Haproxy;
use homeroom_client::{NotAnAddress, ServerAddress};
use part::PartError;
use postgres::Postgres;
use proxy::Proxy;
use redis::Redis;
use std::path::Path;
use tempfile::TempDir;

/// Why a cluster did not come up.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// PostgreSQL, Redis or HAProxy.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A node.
    #[error("a node")]
    Node(#[from] NodeError),
    /// A folder.
    #[error("a folder for it")]
    Folder(#[from] std::io::Error),
}

/// The parts, running.
#[derive(Debug)]
pub struct Cluster {
    /// The database.
    pub postgres: Postgres,
    /// The bus.
    pub redis: Redis,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The ways to and from each node, where they can be broken.
    pub ways: Vec<Ways>,
    /// Before them.
    pub haproxy: Haproxy,
    folder: TempDir,
}

/// The ways to and from one node.
#[derive(Debug, Clone)]
pub struct Ways {
    /// From it to PostgreSQL.
    pub postgres: Proxy,
    /// From it to Redis.
    pub redis: Proxy,
    /// From HAProxy to it.
    pub clients: Proxy,
}

impl Ways {
    /// For a node that is not there yet: the way to it leads nowhere.
    async fn lay(postgres: &Postgres, redis: &Redis) -> std::io::Result<Self> {
        Ok(Self {
            postgres: Proxy::start(postgres.port()).await?,
            redis: Proxy::start(redis.port()).await?,
            clients: Proxy::start(0).await?,
        })
    }
}

impl Cluster {
    /// Starts `nodes` nodes of a binary, and what they need. `listen`: HAProxy's port, 0 for a free one.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn start(
        binary: &Path,
        nodes: usize,
        listen: u16,
        settings: &[(&str, &str)],
    ) -> Result<Self, ClusterError> {
        Self::assemble(binary, nodes, listen, settings, false).await
    }

    /// The same with ways between the parts that can be broken, on a free port.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn start_breakable(binary: &Path, nodes: usize, settings: &[(&str, &str)]) -> Result<Self, ClusterError> {
        Self::assemble(binary, nodes, 0, settings, true).await
    }

    async fn assemble(
        binary: &Path,
        nodes: usize,
        listen: u16,
        settings: &[(&str, &str)],
        breakable: bool,
    ) -> Result<Self, ClusterError> {
        let folder = tempfile::Builder::new().prefix("homeroom-cluster-").tempdir()?;
        let postgres = Postgres::start(folder.path()).await?;
        let redis = Redis::start(folder.path(), "redis").await?;
        let listen = if listen == 0 { part::free_port()? } else { listen };
        let public_url = format!("http://127.0.0.1:{listen}");
        let (mut running, mut ways, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=nodes {
            let home = folder.path().join(format!("node{number}"));
            std::fs::create_dir(&home)?;
            let way = if breakable { Some(Ways::lay(&postgres, &redis).await?) } else { None };
            let (database, bus) = match &way {
                None => (postgres.url(), redis.url()),
                Some(way) => (Postgres::url_by(way.postgres.port()), Redis::url_by(way.redis.port())),
            };
            let mut node = Node::new(binary.to_owned(), home, None)?
                .with("HOMEROOM_DATABASE_URL", &database)
                .with("HOMEROOM_REDIS_URLS", &bus)
                .with("HOMEROOM_PUBLIC_URL", &public_url)
                .with("HOMEROOM_TRUSTED_PROXIES", "127.0.0.1");
            for (name, value) in settings {
                node = node.with(name, value);
            }
            node.start().await?;
            let port = node.listens_on().port();
            ports.push(way.as_ref().map_or(port, |way| {
                way.clients.turn_to(port);
                way.clients.port()
            }));
            running.push(node);
            ways.extend(way);
        }
        let haproxy = Haproxy::start(folder.path(), listen, &ports).await?;
        Ok(Self { postgres, redis, nodes: running, ways, haproxy, folder })
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// Never: the address is made of a port.
    pub fn address(&self) -> Result<ServerAddress, NotAnAddress> {
        ServerAddress::parse(&format!("http://127.0.0.1:{}", self.haproxy.port()))
    }

    /// A folder that goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps its folder, with all logs.
    #[must_use]
    pub fn keep(self) -> std::path::PathBuf {
        self.folder.keep()
    }

    /// Stops the nodes as an operator would, then the rest.
    ///
    /// # Errors
    /// When a node does not leave.
    pub async fn stop(&mut self) -> Result<(), ClusterError> {
        let leaving = self.nodes.iter_mut().map(Node::stop);
        futures_util::future::join_all(leaving).await.into_iter().collect::<Result<(), _>>()?;
        self.haproxy.stop().await;
        self.redis.kill().await;
        self.postgres.stop().await?;
        Ok(())
    }
}
