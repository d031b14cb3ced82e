//! Connections to PostgreSQL, lent for a statement or a transaction, and never waited for without end.
//!
//! Owns: how many there are, what bounds the wait for one, for its answer and for whether it is still alive, and which are thrown away.
//! Refuses to know: what is asked.
//!
//! The server cuts statements that take too long (`statement_timeout`). That does not help whoever asks over a way that has gone silent: TCP
//! waits for a quarter of an hour. So the answer is waited for [`SLACK`] longer than the server would take to cut the statement; then the
//! connection is closed, and no other that was open by then is used again before it was made anew: what made one of them silent did so to
//! all that went the same way.
//!
//! A connection is kept only after an answer was read to its end. One whose statement was dropped in the middle is closed by being dropped:
//! nobody knows what it would say next. (sqlx's own pool takes it back and waits, without end, for what is still to come.) One that was used
//! within the last second is lent as it is; only one that has rested is asked first whether it is alive.

use super::executor::executor;
use crate::outage::Outage;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Postgres};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How much longer than the server takes to cut a statement its answer is waited for: the way there and back on a slow network.
const SLACK: Duration = Duration::from_millis(500);
/// How long a place is waited for while all connections are in use.
const PLACE: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// A connection that rested for longer is asked whether it is alive before it is lent.
const RESTED: Duration = Duration::from_secs(1);
/// How long that answer may take. A connection too many is made anew where the network is slow; more is not lost.
const ALIVE: Duration = Duration::from_millis(500);
/// After so long a connection is made anew: what its process in the server has gathered goes, and a name that leads elsewhere is noticed.
const LIFE: Duration = Duration::from_secs(30 * 60);

/// What is known of the ways to one database, whoever uses them.
#[derive(Debug)]
pub struct Ways {
    /// Connections that are older than this are not used again.
    trusted: Mutex<Instant>,
    silent: Mutex<Outage>,
    given_up: AtomicU64,
}

/// Connections of one kind. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    options: PgConnectOptions,
    /// How long a statement may take, as the server was told.
    statement: Duration,
    most: u32,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    ways: Arc<Ways>,
}

struct Idle {
    connection: PgConnection,
    born: Instant,
    since: Instant,
}

/// A connection that is in use. Dropped, it is closed, unless it was given back.
pub(super) struct Lent {
    pool: Pool,
    connection: PgConnection,
    born: Instant,
    _place: OwnedSemaphorePermit,
}

/// A connection inside a transaction, to run the next statement on.
pub struct Within<'a> {
    lent: &'a mut Lent,
    /// The last statement's answer was read to its end.
    is_whole: &'a mut bool,
}

impl Ways {
    pub(super) fn new() -> Self {
        Self { trusted: Mutex::new(Instant::now()), silent: Mutex::default(), given_up: AtomicU64::new(0) }
    }

    /// Something that was asked is waited for no more: connections that are open now are closed as soon as their turn comes.
    pub fn distrust(&self) {
        *lock(&self.trusted) = Instant::now();
    }

    /// Statements that were given up.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    fn is_trusted(&self, born: Instant) -> bool {
        born >= *lock(&self.trusted)
    }

    fn is_silent(&self) {
        self.distrust();
        self.given_up.fetch_add(1, Ordering::Relaxed);
        if lock(&self.silent).goes_on() {
            tracing::warn!(
                "PostgreSQL is silent: a statement is waited for no more, and asked again over another connection"
            );
        }
    }

    fn answers(&self) {
        if lock(&self.silent).is_over() {
            tracing::info!("PostgreSQL answers again");
        }
    }
}

impl Pool {
    /// Connects once, so that whoever starts learns whether it can be done. `statement`: how long a statement may take; the server is told.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn open(
        options: PgConnectOptions,
        most: u32,
        statement: Duration,
        ways: Arc<Ways>,
    ) -> Result<Self, sqlx::Error> {
        let pool = Self::lazy(options, most, statement, ways);
        pool.lend().await?.give_back();
        Ok(pool)
    }

    /// The same without a first connection.
    pub(super) fn lazy(options: PgConnectOptions, most: u32, statement: Duration, ways: Arc<Ways>) -> Self {
        let options = options.options([("statement_timeout", format!("{}ms", statement.as_millis()))]);
        let places = Arc::new(Semaphore::new(most as usize));
        Self { shared: Arc::new(Shared { options, statement, most, places, idle: Mutex::default(), ways }) }
    }

    /// What its connections are made with.
    #[must_use]
    pub fn connect_options(&self) -> &PgConnectOptions {
        &self.shared.options
    }

    /// How many connections may be in use at once.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.shared.most
    }

    /// How many more may be in use now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.shared.places.available_permits()
    }

    /// Waits for what is in use, and closes all.
    pub(super) async fn close(&self) {
        let _all = self.shared.places.acquire_many(self.shared.most).await;
        self.shared.places.close();
        let idle = std::mem::take(&mut *lock(&self.shared.idle));
        for Idle { connection, .. } in idle {
            // It says good-bye; where nobody hears it, nothing is lost.
            let _said = timeout(ALIVE, connection.close()).await;
        }
    }

    /// A connection that was alive within the last second, or is new.
    pub(super) async fn lend(&self) -> Result<Lent, sqlx::Error> {
        let place = timeout(PLACE, self.shared.places.clone().acquire_owned()).await;
        let place = place.map_err(|_late| sqlx::Error::PoolTimedOut)?.map_err(|_closed| sqlx::Error::PoolClosed)?;
        let lent = |connection, born| Lent { pool: self.clone(), connection, born, _place: place };
        while let Some(Idle { mut connection, born, since }) = self.idle() {
            if since.elapsed() < RESTED || matches!(timeout(ALIVE, connection.ping()).await, Ok(Ok(()))) {
                return Ok(lent(connection, born));
            }
            // Closed by the server, or silent: so are those that rested beside it.
            self.shared.ways.distrust();
        }
        let born = Instant::now();
        match timeout(CONNECT, self.connect()).await {
            Ok(connected) => Ok(lent(connected?, born)),
            Err(_late) => {
                self.shared.ways.is_silent();
                Err(sqlx::Error::PoolTimedOut)
            }
        }
    }

    /// One that may be used again. Those that may not are closed.
    fn idle(&self) -> Option<Idle> {
        let mut idle = lock(&self.shared.idle);
        while let Some(next) = idle.pop() {
            if self.shared.ways.is_trusted(next.born) && next.born.elapsed() < LIFE {
                return Some(next);
            }
        }
        None
    }

    /// A server that is just starting is asked again, by whoever waits for this.
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut pause = Duration::from_millis(20);
        loop {
            match PgConnection::connect_with(&self.shared.options).await {
                Err(error) if is_starting(&error) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(250));
                }
                outcome => return outcome,
            }
        }
    }
}

fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        // cannot_connect_now
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57P03"),
        _ => false,
    }
}

/// The same in every place: nothing under these locks panics half-way through a change.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lent {
    /// Its last answer was read to the end: the next one may use it.
    pub(super) fn give_back(self) {
        let Self { pool, connection, born, _place } = self;
        lock(&pool.shared.idle).push(Idle { connection, born, since: Instant::now() });
    }

    /// To run one statement of a transaction on. `is_whole`: the one before was answered to its end, or there was none.
    pub(super) fn within<'a>(&'a mut self, is_whole: &'a mut bool) -> Within<'a> {
        Within { lent: self, is_whole }
    }
}

impl Shared {
    /// Waits for an answer as long as it may take; and whether the connection is good for another statement.
    async fn answered<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> (Result<T, sqlx::Error>, bool) {
        let Ok(outcome) = timeout(self.statement + SLACK, statement).await else {
            self.ways.is_silent();
            return (Err(sqlx::Error::PoolTimedOut), false);
        };
        let is_good = match &outcome {
            Ok(_) => true,
            Err(error) if super::is_away(error) => {
                self.ways.distrust();
                false
            }
            // What the database says no to, it has answered.
            Err(error) => matches!(error, sqlx::Error::Database(_)),
        };
        if is_good {
            self.ways.answers();
        }
        (outcome, is_good)
    }
}

/// Runs a statement on a connection that is lent for it.
macro_rules! alone {
    ($pool:expr, $on:ident => $statement:expr) => {{
        let mut lent = $pool.lend().await?;
        let $on = &mut lent.connection;
        let (outcome, is_good) = $pool.shared.answered($statement).await;
        if is_good {
            lent.give_back();
        }
        outcome
    }};
}

/// Runs the next statement of a transaction. Dropped in the middle or given up, it leaves the transaction not whole.
macro_rules! next {
    ($within:expr, $on:ident => $statement:expr) => {{
        *$within.is_whole = false;
        let Lent { pool, connection: $on, .. } = $within.lent;
        let (outcome, is_good) = pool.shared.answered($statement).await;
        *$within.is_whole = is_good;
        outcome
    }};
}

executor!(Postgres, &'c Pool, alone);
executor!(Postgres, Within<'c>, next);

impl fmt::Debug for Pool {
    /// Without what it connects with: that may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool of {}", self.shared.most)
    }
}

impl fmt::Debug for Within<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Within")
    }
}
