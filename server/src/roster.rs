//! The roster: who is at school, from the school's own system.
//!
//! Owns: importing OneRoster CSV: everything is staged and checked first, then what differs is applied in short
//! transactions, and places in rooms follow. Refuses to know: what is said in the rooms.
//!
//! Ids are derived from the district and the roster's `sourcedId`, so references need no look-ups and importing again finds
//! the same rows.

mod apply;
pub mod files;
pub mod places;
pub mod rows;
mod source;
mod stage;

use crate::db::{Db, Engine};
use crate::log::{AppendError, Log};
pub use rows::BadRow;
use rows::UnreadableFile;
use serde::{Deserialize, Serialize};
use source::Source;
use sqlx::Connection;
use stage::Staged;
use std::path::{Path, PathBuf};

/// How to import.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImportOptions {
    /// Only say what would change.
    pub dry_run: bool,
    /// Leave bad rows out, and write them here.
    pub skip_bad_rows: Option<PathBuf>,
    /// Go on although more than half of the people would be removed.
    pub allow_mass_removal: bool,
}

/// How far an import has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub stage: String,
    /// How much of it is done.
    pub done: u64,
    /// How much there is.
    pub total: u64,
}

/// Called with the progress, now and then.
pub type OnProgress<'a> = dyn Fn(Progress) + Send + Sync + 'a;

/// Rows that changed, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// New.
    pub added: u64,
    /// Known, and different now.
    pub changed: u64,
    /// No longer in the roster.
    pub removed: u64,
}

/// What an import did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Schools and what stands above them.
    pub orgs: Changes,
    /// Years and terms.
    pub sessions: Changes,
    /// Courses.
    pub courses: Changes,
    /// Classes.
    pub classes: Changes,
    /// People.
    pub people: Changes,
    /// Who is in which class.
    pub enrollments: Changes,
    /// Who speaks for whom.
    pub guardianships: Changes,
    /// Places in rooms. A dry run does not know them.
    pub places: Changes,
    /// Bad rows that were left out.
    pub skipped: u64,
    /// Nothing was written.
    pub dry_run: bool,
}

impl Report {
    /// The lines of the report.
    #[must_use]
    pub fn lines(&self) -> [(&'static str, Changes); 8] {
        [
            ("schools", self.orgs),
            ("terms", self.sessions),
            ("courses", self.courses),
            ("classes", self.classes),
            ("people", self.people),
            ("enrollments", self.enrollments),
            ("guardians", self.guardianships),
            ("places in rooms", self.places),
        ]
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No manifest.
    #[error("there is no manifest.csv; give the folder or zip that your school's system exported as OneRoster CSV")]
    NoManifest,
    /// Another version.
    #[error("the manifest says OneRoster {0:?}; versions 1.1 and 1.2 are read")]
    Version(String),
    /// A manifest that names no file.
    #[error("the manifest names no file to read")]
    Nothing,
    /// A file can't be read.
    #[error("{0}")]
    Unreadable(String),
    /// Rows are bad.
    #[error("{total} row(s) can't be taken; mend them, or leave them out with --skip-bad-rows FILE")]
    Bad {
        /// The first of them.
        rows: Vec<BadRow>,
        /// How many there are.
        total: u64,
    },
    /// It would remove more than half.
    #[error("this would remove {removed} of {present} people; if that is meant, say --allow-mass-removal")]
    MassRemoval {
        /// Who would go.
        removed: u64,
        /// Who is there.
        present: u64,
    },
    /// Another import is under way.
    #[error("another import is under way; wait until it is done, then start this one again")]
    Running,
    /// The database.
    #[error("the database failed; what was applied so far stands, importing again goes on from there")]
    Database(#[from] sqlx::Error),
    /// The log.
    #[error("places in rooms could not be changed; importing again goes on from there")]
    Places(#[from] AppendError),
}

impl From<UnreadableFile> for ImportError {
    fn from(error: UnreadableFile) -> Self {
        match error {
            UnreadableFile::Broken(why) => Self::Unreadable(why),
            UnreadableFile::Columns(rows) => Self::Bad { total: rows.len() as u64, rows },
        }
    }
}

/// The right to import: one at a time for a database, whatever process or node asks.
enum Turn {
    /// A connection that holds an advisory lock; closing it gives the lock back.
    Postgres { connection: sqlx::PgConnection },
    /// A locked file beside the database.
    Sqlite { file: std::fs::File },
}

/// The advisory lock's number; nothing else here uses one.
const TURN: i64 = 0x686f_6d65_726f_6f6d;

impl Turn {
    async fn take(db: &Db) -> Result<Self, ImportError> {
        match db.writes() {
            Engine::Postgres(pool) => {
                let mut connection = sqlx::PgConnection::connect_with(pool.connect_options()).await?;
                let (taken,): (bool,) =
                    sqlx::query_as("SELECT pg_try_advisory_lock($1)").bind(TURN).fetch_one(&mut connection).await?;
                if taken { Ok(Self::Postgres { connection }) } else { Err(ImportError::Running) }
            }
            Engine::Sqlite(pool) => {
                let path = pool.connect_options().get_filename().with_extension("import-lock");
                let unlockable = |error| ImportError::Unreadable(format!("{}: {error}", path.display()));
                let file = std::fs::File::create(&path).map_err(unlockable)?;
                if file.try_lock().is_ok() { Ok(Self::Sqlite { file }) } else { Err(ImportError::Running) }
            }
        }
    }

    /// Gives it back, so that the next one can have it at once. Where this is not come to, the end of the connection or of the file
    /// does it, and later: a database takes its time to notice, and a process that is just being started holds the file, too.
    async fn give_back(self) {
        match self {
            Self::Postgres { mut connection } => {
                // Whatever fails here, the connection ends.
                let _given = sqlx::query("SELECT pg_advisory_unlock($1)").bind(TURN).execute(&mut connection).await;
                let _closed = connection.close().await;
            }
            Self::Sqlite { file } => {
                let _given = file.unlock();
            }
        }
    }
}

/// Imports a roster from a folder or zip.
///
/// # Errors
/// [`ImportError`]. Up to and including the check nothing is written.
pub async fn import(
    db: &Db,
    log: &Log,
    path: &Path,
    options: &ImportOptions,
    progress: &OnProgress<'_>,
) -> Result<Report, ImportError> {
    let turn = Turn::take(db).await?;
    let outcome = import_in_turn(db, log, path, options, progress).await;
    turn.give_back().await;
    outcome
}

async fn import_in_turn(
    db: &Db,
    log: &Log,
    path: &Path,
    options: &ImportOptions,
    progress: &OnProgress<'_>,
) -> Result<Report, ImportError> {
    let source = Source::open(path)?;
    let staged = Staged::read(&source, progress).await?;
    progress(Progress { stage: "checking".to_owned(), done: 0, total: 1 });
    staged.check_references(db, &source).await?;
    let (total, rows) = staged.bad_rows().await?;
    if total > 0 {
        match &options.skip_bad_rows {
            Some(file) => staged.write_bad_rows(&source, file).await?,
            None => return Err(ImportError::Bad { rows, total }),
        }
    }
    let mut report = Report { skipped: total, dry_run: options.dry_run, ..Report::default() };
    apply::apply(db, &staged, &source, options, &mut report, progress).await?;
    if !options.dry_run {
        report.places = places::follow(db, log, progress).await?;
    }
    Ok(report)
}
