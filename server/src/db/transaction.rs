//! A writing transaction on either engine.
//!
//! Owns: beginning it, and that one which was dropped half-way leaves nothing behind. Refuses to know: what is written.

use super::Engine;
use super::pool::{Lent, Pool, Within};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Executor, Sqlite, Transaction};
use std::fmt;

/// A writing transaction. Dropped before it is committed it is undone: on PostgreSQL by closing its connection, so that it can be dropped
/// at any point.
pub struct Tx(Engine<PostgresTx, Transaction<'static, Sqlite>>);

struct PostgresTx {
    lent: Lent,
    /// Whether the last statement was answered to its end.
    is_whole: bool,
}

impl Tx {
    /// Begins one.
    ///
    /// # Errors
    /// When no connection can be had.
    pub(super) async fn begin(writes: Engine<&Pool, &SqlitePool>) -> Result<Self, sqlx::Error> {
        Ok(Self(match writes {
            Engine::Postgres(pool) => {
                let mut tx = PostgresTx { lent: pool.lend().await?, is_whole: true };
                tx.next().execute("BEGIN").await?;
                Engine::Postgres(tx)
            }
            Engine::Sqlite(pool) => Engine::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
        }))
    }

    /// The connection, to run a query on.
    pub fn on(&mut self) -> Engine<Within<'_>, &mut SqliteConnection> {
        match &mut self.0 {
            Engine::Postgres(tx) => Engine::Postgres(tx.next()),
            Engine::Sqlite(tx) => Engine::Sqlite(&mut **tx),
        }
    }

    /// Makes it lasting.
    ///
    /// # Errors
    /// When the engine refuses, or the connection is lost: then the outcome is unknown.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self.0 {
            Engine::Postgres(mut tx) => {
                if !tx.is_whole {
                    return Err(sqlx::Error::PoolTimedOut);
                }
                tx.next().execute("COMMIT").await?;
                tx.lent.give_back();
                Ok(())
            }
            Engine::Sqlite(tx) => tx.commit().await,
        }
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx")
    }
}

impl PostgresTx {
    fn next(&mut self) -> Within<'_> {
        self.lent.within(&mut self.is_whole)
    }
}
