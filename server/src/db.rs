//! The database: PostgreSQL or SQLite, behind one door.
//!
//! Owns: opening pools, how long what is asked may take, migrations, and the check that this binary and the schema fit.
//!
//! Refuses to know: any table but `compatibility`. Only where the engines truly differ does a feature match on [`Engine`].

mod executor;
mod pool;
mod readers;
mod statements;
pub mod together;
mod transaction;

use pool::Ways;
pub use pool::{Pool, Within};
pub use readers::Readers;
use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use std::fmt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
pub use transaction::Tx;

static POSTGRES_MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let migrations = sqlx::migrate!("../migrations/postgres");
    #[cfg(feature = "next")]
    let migrations = and_next(migrations, sqlx::migrate!("../migrations/next/postgres"));
    beside_newer(migrations)
});
static SQLITE_MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let migrations = sqlx::migrate!("../migrations/sqlite");
    #[cfg(feature = "next")]
    let migrations = and_next(migrations, sqlx::migrate!("../migrations/next/sqlite"));
    beside_newer(migrations)
});

/// Readers of an SQLite file at once; each is a thread and a page cache of about 2 MB.
const SQLITE_READERS: u32 = 2;
/// Connections for appends and other writes. Two lanes of batches beat 32 single writers fivefold; the rest serves roster and sign-in.
const POSTGRES_WRITERS: u32 = 8;
/// Connections for pages and snapshots, apart so that a herd of readers can't starve appends.
const POSTGRES_READERS: u32 = 8;
/// How long a read of those who are connected may take: a page, a sign-in, a snapshot. Each is a few milliseconds by its index. One that
/// hangs is given up half a second later ([`Pool`] says why) and asked again by whoever wants it, so that repair after a fault stays
/// within 5 s.
const READ: Duration = Duration::from_secs(2);
/// How long a statement may take that writes, and one that goes through a whole roster: they wait for each other's locks.
const WRITE: Duration = Duration::from_secs(10);
/// Connections that a node needs in all: the pools, one for each of two lanes, one for the bell, and some while it reconnects.
pub const POSTGRES_CONNECTIONS: i32 = 22;

/// One thing for each engine: a pool, a connection, …
#[derive(Debug, Clone, Copy)]
pub enum Engine<P, S> {
    /// PostgreSQL.
    Postgres(P),
    /// SQLite.
    Sqlite(S),
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An SQLite file; made if it is missing.
    Sqlite(PathBuf),
    /// A `postgres://` URL. It may hold a password: never log it.
    Postgres(String),
}

impl fmt::Display for Location {
    /// Where it is, without who asks and with which password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "SQLite in {}", file.display()),
            Self::Postgres(url) => {
                let (_, rest) = url.split_once("://").unwrap_or_default();
                let (who, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                if after.contains('@') {
                    // Perhaps of a password: nobody can tell where it ends.
                    return f.write_str("PostgreSQL (an @, / or ? in a password has to be written as %40, %2F or %3F)");
                }
                let host = who.rsplit_once('@').map_or(who, |(_, host)| host);
                write!(f, "PostgreSQL at {host}{}", after.split(['?', '#']).next().unwrap_or_default())
            }
        }
    }
}

/// The pools of the database.
#[derive(Debug, Clone)]
pub struct Db {
    writes: Engine<Pool, SqlitePool>,
    reads: Engine<Pool, Readers>,
    ways: Arc<Ways>,
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL makes no sense.
    #[error("the database URL can't be read; expected postgres://user:password@host:port/name")]
    BadUrl(#[source] sqlx::Error),
    /// No connection, or a query failed.
    #[error("the database does not answer")]
    Unreachable(#[from] sqlx::Error),
    /// A migration failed.
    #[error("a migration failed; the database is as it was before that migration")]
    Migration(#[source] MigrateError),
    /// A newer Homeroom has changed the schema in a way that this one does not know.
    #[error(
        "the database needs schema version {needed} or newer, this homeroom knows {known}; install a newer homeroom"
    )]
    TooOld {
        /// What the schema asks for.
        needed: i64,
        /// The newest migration of this binary.
        known: i64,
    },
}

impl From<MigrateError> for OpenError {
    /// A database that goes away in the middle of a migration undoes it, and is waited for like one that was never there.
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) if is_away(&error) => {
                Self::Unreachable(error)
            }
            error => Self::Migration(error),
        }
    }
}

/// The connection was lost or could not be had, or the server restarts (SQLSTATE 08, 57P): nothing is wrong with what was asked.
#[must_use]
pub fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
        }
        _ => false,
    }
}

impl Db {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`]; the text never holds the URL, since that may hold a password.
    pub async fn open(location: &Location) -> Result<Self, OpenError> {
        let db = match location {
            Location::Sqlite(file) => Self::sqlite(file).await?,
            Location::Postgres(url) => Self::postgres(url).await?,
        };
        db.refuse_if_too_old().await?;
        match &db.writes {
            Engine::Postgres(pool) => {
                // A connection of its own: building an index may take longer than a statement may otherwise, and so may waiting
                // for another node that migrates.
                let options = pool.connect_options().clone().options([("statement_timeout", "0")]);
                let mut on = PgConnection::connect_with(&options).await?;
                POSTGRES_MIGRATIONS.run(&mut on).await?;
                on.close().await?;
            }
            Engine::Sqlite(pool) => SQLITE_MIGRATIONS.run(pool).await?,
        }
        Ok(db)
    }

    async fn sqlite(file: &Path) -> Result<Self, OpenError> {
        // Its owner's alone: it holds what families say. If it can't be made, connecting says why.
        let _made = std::fs::File::options().write(true).create_new(true).mode(0o600).open(file);
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: an acknowledgement survives the loss of power, not only of the process.
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", "67108864")
            // Written back at 16 MB, not at 4: a page that changes with every batch is written back once for four times as many of them.
            .pragma("wal_autocheckpoint", "4000")
            .busy_timeout(Duration::from_secs(5));
        let writes = SqlitePoolOptions::new()
            .max_connections(1)
            // A file does not go away as a server does; asking would be another hand-over to its thread and back, for each batch.
            .test_before_acquire(false)
            // After an error of the disk SQLite has rolled back by itself, the rollback that follows fails, and sqlx goes on counting
            // that transaction: such a connection would begin none any more.
            .before_acquire(|on, _| Box::pin(async move { Ok(!on.is_in_transaction()) }))
            .connect_with(options.clone())
            .await?;
        let reads = Readers::open(options.read_only(true), SQLITE_READERS).await?;
        Ok(Self { writes: Engine::Sqlite(writes), reads: Engine::Sqlite(reads), ways: Arc::new(Ways::new()) })
    }

    async fn postgres(url: &str) -> Result<Self, OpenError> {
        let options = postgres_options(url)?
            .application_name("homeroom")
            .options([("idle_in_transaction_session_timeout", "2s")]);
        let ways = Arc::new(Ways::new());
        let writes = Pool::open(options.clone(), POSTGRES_WRITERS, WRITE, ways.clone()).await?;
        let options = options.options([("default_transaction_read_only", "on")]);
        let reads = Pool::open(options, POSTGRES_READERS, READ, ways.clone()).await?;
        Ok(Self { writes: Engine::Postgres(writes), reads: Engine::Postgres(reads), ways })
    }

    /// A database that nobody may ask anything: there is none at this address.
    ///
    /// # Errors
    /// Never: the address is readable.
    #[cfg(any(test, feature = "instructions"))]
    pub fn nowhere() -> Result<Self, OpenError> {
        let ways = Arc::new(Ways::new());
        let pool = Pool::lazy(postgres_options("postgres://127.0.0.1:9/nowhere")?, 1, READ, ways.clone());
        Ok(Self { writes: Engine::Postgres(pool.clone()), reads: Engine::Postgres(pool), ways })
    }

    /// A schema that contracted since may not be written by a binary that only knows what it was.
    async fn refuse_if_too_old(&self) -> Result<(), OpenError> {
        let found: Result<Option<(i64,)>, sqlx::Error> =
            crate::fetch_optional!(self.writes(), (i64,), "SELECT min_compatible_version FROM compatibility");
        let needed = match found {
            Ok(row) => row.map_or(0, |(version,)| version),
            // The table does not exist yet: an empty database.
            Err(sqlx::Error::Database(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        let known = SQLITE_MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        if needed > known { Err(OpenError::TooOld { needed, known }) } else { Ok(()) }
    }

    /// The pool for reading pages and snapshots.
    #[must_use]
    pub fn reads(&self) -> Engine<&Pool, &Readers> {
        self.reads.as_ref()
    }

    /// For reads that may take as long as a write: those that go through a whole roster.
    #[must_use]
    pub fn long_reads(&self) -> Engine<&Pool, &Readers> {
        match (&self.writes, &self.reads) {
            (Engine::Postgres(pool), _) => Engine::Postgres(pool),
            // Nothing cuts them there, and the one writer has other things to do.
            (_, reads) => reads.as_ref(),
        }
    }

    /// The pool for single writing statements. For SQLite it has one connection: hold it briefly.
    #[must_use]
    pub fn writes(&self) -> Engine<&Pool, &SqlitePool> {
        self.writes.as_ref()
    }

    /// Begins a writing transaction. For SQLite there is one writer: keep it short, never wait for anything else in it.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn begin(&self) -> Result<Tx, sqlx::Error> {
        Tx::begin(self.writes()).await
    }

    /// Whoever waited for PostgreSQL over a connection of their own waits no more: what else is connected may be as dead.
    pub fn distrust_connections(&self) {
        self.ways.distrust();
    }

    /// Statements that PostgreSQL did not answer in time, so far.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.ways.given_up()
    }

    /// Closes the pools; for SQLite this also writes the WAL back.
    pub async fn close(&self) {
        match &self.reads {
            Engine::Postgres(pool) => pool.close().await,
            Engine::Sqlite(readers) => readers.close().await,
        }
        match &self.writes {
            Engine::Postgres(pool) => pool.close().await,
            Engine::Sqlite(pool) => pool.close().await,
        }
    }
}

impl<P, S> Engine<P, S> {
    fn as_ref(&self) -> Engine<&P, &S> {
        match self {
            Self::Postgres(it) => Engine::Postgres(it),
            Self::Sqlite(it) => Engine::Sqlite(it),
        }
    }
}

/// What a connection to this URL is made with.
///
/// # Errors
/// [`OpenError::BadUrl`].
pub fn postgres_options(url: &str) -> Result<PgConnectOptions, OpenError> {
    PgConnectOptions::from_str(url).map_err(OpenError::BadUrl)
}

/// The migrations that this binary knows, for PostgreSQL.
#[must_use]
pub fn postgres_migrations() -> &'static Migrator {
    &POSTGRES_MIGRATIONS
}

/// The same, for SQLite.
#[must_use]
pub fn sqlite_migrations() -> &'static Migrator {
    &SQLITE_MIGRATIONS
}

/// What a newer version has added to the schema meanwhile is none of this one's business, as long as the schema does not say that
/// this one is too old for it: two versions run at once while nodes are replaced one after the other.
fn beside_newer(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}

/// With what only the next version has. No release contains it.
#[cfg(feature = "next")]
fn and_next(released: Migrator, next: Migrator) -> Migrator {
    Migrator::with_migrations(released.iter().chain(next.iter()).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_have_the_same_migrations() {
        let names = |migrator: &Migrator| -> Vec<(i64, String)> {
            migrator.iter().map(|migration| (migration.version, migration.description.to_string())).collect()
        };
        assert_eq!(names(&POSTGRES_MIGRATIONS), names(&SQLITE_MIGRATIONS));
    }

    #[tokio::test]
    async fn a_schema_that_a_newer_binary_has_expanded_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("homeroom.db"));
        let db = Db::open(&location).await.unwrap();
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     VALUES (1000000, 'something new', TRUE, x'00', 1)";
        crate::execute!(db.writes(), newer).unwrap();
        db.close().await;
        Db::open(&location).await.unwrap();
    }

    #[test]
    fn a_place_never_shows_a_password() {
        let shown = |url: &str| Location::Postgres(url.to_owned()).to_string();
        assert_eq!(
            shown("postgres://ana:geheim@db.example:5432/school?sslmode=require"),
            "PostgreSQL at db.example:5432/school"
        );
        assert_eq!(shown("postgres://db/school?user=ana&password=geheim"), "PostgreSQL at db/school");
        for url in ["postgres://ana:ge/heim@db/x", "postgres://ana:ge?heim@db", "postgres://ana:ge#heim@db/x", "geheim"]
        {
            assert!(!shown(url).contains("ge") && !shown(url).contains("heim"), "{}", shown(url));
        }
        assert!(!shown("postgres://db/x?password=ge@heim").contains("heim"));
        assert!(!shown("postgres://ana:ge@heim@db/x").contains("heim"));
    }

    #[tokio::test]
    async fn a_schema_for_newer_binaries_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("homeroom.db"));
        let db = Db::open(&location).await.unwrap();
        crate::execute!(db.writes(), "UPDATE compatibility SET min_compatible_version = 1000000").unwrap();
        db.close().await;
        assert!(matches!(Db::open(&location).await, Err(OpenError::TooOld { needed: 1_000_000, .. })));
    }
}
