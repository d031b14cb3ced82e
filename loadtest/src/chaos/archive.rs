//! Whoever keeps a copy of the database, and once puts it back.
//!
//! Owns: when the copy is taken, what stood in the log that is gone and in the copy, and that nobody reaches the database in between.
//! Refuses to know: what is right afterwards (see `checker::epochs`), and how the tools of the database work.

use crate::Failure;
use crate::checker::epochs::PutBack;
use crate::checker::history::Truth;
use crate::cluster::proxy::State;
use crate::cluster::{Cluster, ClusterError};
use crate::diary::{Clock, Diary};
use crate::roll::Roll;
use crate::store::Store;
use std::time::Duration;
use tokio::time::sleep;

/// So much has to happen since the copy, at least, that something is gone.
const AGE: Duration = Duration::from_secs(2);

/// A copy, and what became of it.
pub struct Archive {
    roll: Roll,
    diaries: Vec<Diary>,
    clock: Clock,
    copied: Option<Duration>,
    put_back: Option<PutBack>,
}

impl Archive {
    /// Without a copy. `diaries`: of all who hold acknowledgements.
    pub fn new(roll: Roll, diaries: Vec<Diary>, clock: Clock) -> Self {
        Self { roll, diaries, clock, copied: None, put_back: None }
    }

    /// The restore, once it has happened.
    pub fn put_back(&self) -> Option<&PutBack> {
        self.put_back.as_ref()
    }

    /// Takes the copy, if there is none. Nobody moves meanwhile, so that it is known who is where in it.
    ///
    /// # Errors
    /// When it can't be taken.
    pub async fn copy(&mut self, cluster: &Cluster) -> Result<(), Failure> {
        if self.copied.is_none() {
            let _closed = self.roll.closed().await;
            let copied = self.clock.now();
            cluster.postgres.copy().await.map_err(ClusterError::from)?;
            self.roll.copy();
            self.copied = Some(copied);
        }
        Ok(())
    }

    /// Puts it back: nobody reaches the database any more, and when they do again it is the copy.
    ///
    /// # Errors
    /// When there is none, or the database does not come back.
    pub async fn restore(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        let Some(copied) = self.copied else { return Err(Failure::Broken("there is no copy".to_owned())) };
        sleep((copied + AGE).saturating_sub(self.clock.now())).await;
        let closed = self.roll.closed().await;
        cluster.ways.iter().for_each(|ways| ways.postgres.set(State::Cut));
        cluster.postgres.until_alone().await?;
        let gone = self.read(cluster).await?;
        cluster.postgres.stop().await.map_err(ClusterError::from)?;
        cluster.postgres.put_back().map_err(ClusterError::from)?;
        cluster.postgres.run().await.map_err(ClusterError::from)?;
        let copy = self.read(cluster).await?;
        // The numbers that were acknowledged and heard are another log's.
        for diary in &self.diaries {
            let mut standing = diary.standing();
            standing.acked.clear();
            standing.heard.clear();
        }
        self.roll.put_back();
        drop(closed);
        self.put_back = Some(PutBack { gone, copy, copied, restored: self.clock.now() });
        cluster.ways.iter().for_each(|ways| ways.postgres.set(State::Open));
        Ok(())
    }

    async fn read(&self, cluster: &Cluster) -> Result<Truth, Failure> {
        let store = Store::postgres(&cluster.postgres.url()).await?;
        let truth = store.truth(&self.roll).await?;
        store.close().await;
        Ok(truth)
    }
}
