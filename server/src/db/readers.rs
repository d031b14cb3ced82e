//! Connections for reading an SQLite file.
//!
//! Owns: how many there are, and lending each for one statement. Refuses to know: what is asked, and writing.
//!
//! Each connection is a thread. sqlx's pool asks it whether it is alive when it is lent, and when it is given back: twice over to the thread
//! and back beside the once that a read is. A file does not go away as a server does, so nobody asks here.

use super::executor::executor;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Sqlite};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a place is waited for while all connections are in use.
const PLACE: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Clone)]
pub struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    options: SqliteConnectOptions,
    most: u32,
    places: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl Readers {
    /// Opens the file once, so that whoever starts learns whether it can be done.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) async fn open(options: SqliteConnectOptions, most: u32) -> Result<Self, sqlx::Error> {
        let idle = Mutex::new(vec![options.connect().await?]);
        let shared = Shared { options, most, places: Semaphore::new(most as usize), idle };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Waits for what is in use, and closes all.
    pub(super) async fn close(&self) {
        let _all = self.shared.places.acquire_many(self.shared.most).await;
        self.shared.places.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            // It was only read over.
            let _closed = connection.close().await;
        }
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, sqlx::Error> {
        let place = tokio::time::timeout(PLACE, self.shared.places.acquire()).await;
        place.map_err(|_late| sqlx::Error::PoolTimedOut)?.map_err(|_closed| sqlx::Error::PoolClosed)
    }

    /// The one that was used last: what it has read is still in its memory.
    async fn connection(&self) -> Result<SqliteConnection, sqlx::Error> {
        let idle = self.idle().pop();
        match idle {
            Some(idle) => Ok(idle),
            None => self.shared.options.connect().await,
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SqliteConnection>> {
        // Nothing under this lock panics half-way through a change.
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a statement on a connection that is lent for it. Dropped in the middle, or after an error, the connection is closed.
macro_rules! alone {
    ($readers:expr, $on:ident => $statement:expr) => {{
        let _place = $readers.place().await?;
        let mut connection = $readers.connection().await?;
        let $on = &mut connection;
        let outcome = $statement.await;
        if outcome.is_ok() {
            $readers.idle().push(connection);
        }
        outcome
    }};
}

executor!(Sqlite, &'c Readers, alone);

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readers, {} at most", self.shared.most)
    }
}
