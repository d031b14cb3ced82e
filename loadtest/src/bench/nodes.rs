//! Two nodes with PostgreSQL and Redis, and a school at them.
//!
//! Owns: starting and stopping them, and who is where. Refuses to know: what they tell each other.

use super::crowd::Everybody;
use crate::cluster::{Cluster, ClusterError};
use crate::node::Node;
use crate::people;
use crate::school::{Plan, School};
use crate::{Failure, Surroundings};

/// Two nodes and who can sign in at them.
pub struct Two {
    /// They, and what they need.
    pub cluster: Cluster,
    /// Their school.
    pub people: Everybody,
}

impl Two {
    /// Starts all of it.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn open(surroundings: &Surroundings, plan: Plan) -> Result<Self, Failure> {
        let cluster = Cluster::start(&surroundings.server, 2, 0, &[]).await?;
        let school = School::new(plan);
        let (store, ids) = people::move_in(&cluster, &school).await?;
        let people = Everybody::sign_in(&store, &ids, &school, plan).await?;
        store.close().await;
        Ok(Self { cluster, people })
    }

    /// The one at which things are said, and the other one.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn here_and_there(&self) -> Result<(&Node, &Node), Failure> {
        match self.cluster.nodes.as_slice() {
            [here, there] => Ok((here, there)),
            _ => Err(Failure::Gone),
        }
    }

    /// Stops all of it.
    ///
    /// # Errors
    /// When a part does not leave.
    pub async fn close(mut self) -> Result<(), ClusterError> {
        self.cluster.stop().await
    }
}
