//! The log: what was said in each room, in commit order.
//!
//! Owns: appending (in batches, idempotent by client id), reading back as things stand now, who may see what, marks.
//! Refuses to know: sockets, HTTP, and how the other nodes hear of it.

pub mod append;
pub mod bell;
pub mod entry;
pub mod marks;
pub mod members;
pub mod pages;
pub mod places;
pub mod read;
pub mod rights;
pub mod row;
pub mod sight;

use crate::db::Db;
use crate::trace::{Context, Traces};
use homeroom_protocol::RoomId;
use std::sync::Arc;

pub use append::{Append, AppendError, Appended, Lanes, What};
pub use entry::{Entry, MemberEntry};
pub use marks::{MarkUp, Moved};
pub use members::MemberChange;
pub use places::Place;
pub use sight::{Interval, Sight, Subject, Thread, View};

/// The one writer of the rooms' logs, memberships and marks on this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    db: Db,
    appender: append::Appender,
    marks: marks::Marks,
}

/// Who is told of what was stored.
#[derive(Clone)]
pub struct Listeners {
    /// What was committed, per room in the order of its log.
    pub committed: Arc<append::Committed>,
    /// Marks that moved.
    pub moved: Arc<marks::OnMoved>,
    /// The size of a batch, and how long its transaction took.
    pub batch: Arc<append::OnBatch>,
    /// Which commands are traced.
    pub traces: Traces,
}

impl Listeners {
    /// Nobody: for commands that work on a database which no server holds.
    #[must_use]
    pub fn none() -> Self {
        Self { committed: Arc::new(|_| {}), moved: Arc::new(|_| {}), batch: Arc::new(|_, _| {}), traces: Traces::off() }
    }
}

impl Log {
    /// Starts the lanes and the collector of marks on the current runtime.
    #[must_use]
    pub fn start(db: &Db, listeners: Listeners) -> Self {
        Self::start_with(db, Lanes::of(db), listeners)
    }

    /// The same with other lanes than are usual: to find those, and for nothing else.
    #[must_use]
    pub fn start_with(db: &Db, lanes: Lanes, listeners: Listeners) -> Self {
        let Listeners { committed, moved, batch, traces } = listeners;
        Self {
            db: db.clone(),
            appender: append::Appender::start(db, lanes, &committed, &batch, &traces),
            marks: marks::Marks::start(db, moved),
        }
    }

    /// The database that it writes to, for reading.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Takes a place in the room's lane, now: two calls in a row are appended in that order.
    ///
    /// # Errors
    /// [`AppendError::Busy`] when too many commands wait.
    pub fn submit(&self, append: Append) -> Result<append::Submitted, AppendError> {
        let submitted = self.place(append, None);
        self.ring();
        submitted
    }

    /// The same, but it is appended once the lanes are rung: what is placed before that goes into one batch. `trace` is the step that it
    /// comes from.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub fn place(&self, append: Append, trace: Option<Context>) -> Result<append::Submitted, AppendError> {
        self.appender.place(append, trace)
    }

    /// Lets the lanes begin with what was placed.
    pub fn ring(&self) {
        self.appender.ring();
    }

    /// Appends a command and waits for the commit.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.submit(append)?.done().await
    }

    /// Another node wrote to a room. Nothing depends on hearing it: who appends there next finds out sooner.
    pub fn heard(&self, room: RoomId) {
        self.appender.heard(room);
    }

    /// Changes who is in a room. What is already so is passed over. At most a few hundred at a time: they are one
    /// transaction, and posts of the room's lane wait for it.
    ///
    /// # Errors
    /// [`AppendError`]; then none of the changes happened.
    pub async fn change_members(&self, room: RoomId, changes: Vec<MemberChange>) -> Result<(), AppendError> {
        self.appender.change_members(room, changes).await
    }

    /// Raises a mark; done once it is stored.
    ///
    /// # Errors
    /// [`AppendError`] when it could not be stored; marks may be sent again at any time.
    pub async fn mark(&self, mark: MarkUp) -> Result<(), AppendError> {
        self.marks.up(mark).await
    }

    /// How many commands wait to be appended, in each lane.
    #[must_use]
    pub fn waiting(&self) -> Vec<usize> {
        self.appender.waiting()
    }
}
