//! A whole Homeroom on this machine: PostgreSQL, Redis, nodes, and HAProxy before them.
//!
//! Owns: starting the parts in order, on free ports of the loopback, and stopping them in order. Every part ends with this
//! process, however that ends. Refuses to know: what is done with them.

pub mod part;
mod show;

pub use show::{Options, run};

use crate::node::{Node, NodeError};
use homeroom_client::{NotAnAddress, ServerAddress};
use part::{Haproxy, PartError, Postgres, Redis};
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
    /// Before them.
    pub haproxy: Haproxy,
    folder: TempDir,
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
        let folder = tempfile::Builder::new().prefix("homeroom-cluster-").tempdir()?;
        let postgres = Postgres::start(folder.path()).await?;
        let redis = Redis::start(folder.path()).await?;
        let listen = if listen == 0 { part::free_port()? } else { listen };
        let public_url = format!("http://127.0.0.1:{listen}");
        let mut running = Vec::with_capacity(nodes);
        for number in 1..=nodes {
            let home = folder.path().join(format!("node{number}"));
            std::fs::create_dir(&home)?;
            let mut node = Node::new(binary.to_owned(), home, None)?
                .with("HOMEROOM_DATABASE_URL", &postgres.url())
                .with("HOMEROOM_REDIS_URLS", &redis.url())
                .with("HOMEROOM_PUBLIC_URL", &public_url)
                .with("HOMEROOM_TRUSTED_PROXIES", "127.0.0.1");
            for (name, value) in settings {
                node = node.with(name, value);
            }
            node.start().await?;
            running.push(node);
        }
        let ports: Vec<u16> = running.iter().map(|node| node.listens_on().port()).collect();
        let haproxy = Haproxy::start(folder.path(), listen, &ports).await?;
        Ok(Self { postgres, redis, nodes: running, haproxy, folder })
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
