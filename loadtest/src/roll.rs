//! The roll: who may be heard by whom at present, by the school's files, and what an import made of them when.
//!
//! Owns: what is expected of memberships, told apart from what the server says of them, also while they are as they were in a copy that
//! was put back; and that nobody changes them while one is taken or put back. Refuses to know: how files are imported.

use crate::checker::history::{Place, Truth};
use chrono::{DateTime, Utc};
use homeroom_protocol::{ConversationId, PersonId, RoomId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as Door, MutexGuard as Closed};

/// What a person may see of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Staff.
    All,
    /// A guardian: announcements and their own conversations.
    Only(BTreeSet<ConversationId>),
}

/// What everybody may see.
pub type Sights = BTreeMap<PersonId, BTreeMap<RoomId, Sight>>;

/// When an import ran, by the time of day, and when it was known to be done, by the run's clock.
#[derive(Debug, Clone, Copy)]
struct Import {
    began: DateTime<Utc>,
    ended: DateTime<Utc>,
    known_by: Duration,
}

/// The roll. Clones are the same roll.
#[derive(Debug, Clone)]
pub struct Roll(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Held while memberships change, or may not.
    door: Door<()>,
}

#[derive(Debug)]
struct State {
    sights: Sights,
    /// What is being imported.
    next: Option<Sights>,
    /// As it was when a copy was taken.
    copied: Option<Sights>,
    /// That copy was put back, and nothing was imported since.
    put_back: bool,
    planned: BTreeSet<Place>,
    imports: Vec<Import>,
}

impl Roll {
    /// As the run begins.
    #[must_use]
    pub fn new(sights: Sights, planned: BTreeSet<Place>) -> Self {
        let state = State { sights, next: None, copied: None, put_back: false, planned, imports: Vec::new() };
        Self(Arc::new(Shared { state: Mutex::new(state), door: Door::new(()) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody changes memberships; nobody does while this is held.
    pub async fn closed(&self) -> Closed<'_, ()> {
        self.0.door.lock().await
    }

    /// A copy was taken of what is stored now.
    pub fn copy(&self) {
        let mut state = self.state();
        state.copied = Some(state.sights.clone());
    }

    /// That copy was put back: memberships are as they were then, until the files are imported again.
    pub fn put_back(&self) {
        self.state().put_back = true;
    }

    /// Whether what is stored is as it was in a copy, and not as the files say.
    #[must_use]
    pub fn is_put_back(&self) -> bool {
        self.state().put_back
    }

    /// Whether somebody may hear a conversation, for sure: while files are being imported, by the old ones and by the new.
    #[must_use]
    pub fn sees(&self, person: PersonId, room: RoomId, conversation: ConversationId) -> bool {
        let state = self.state();
        let sees = |sights: &Sights| match sights.get(&person).and_then(|rooms| rooms.get(&room)) {
            Some(Sight::All) => true,
            Some(Sight::Only(theirs)) => theirs.contains(&conversation),
            None => false,
        };
        let copied = state.copied.as_ref().filter(|_| state.put_back);
        sees(&state.sights) && state.next.as_ref().is_none_or(sees) && copied.is_none_or(sees)
    }

    /// Whether nothing is being imported, or has to be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        state.next.is_none() && !state.put_back
    }

    /// These files are going to be imported.
    pub fn begin(&self, next: Sights) {
        self.state().next = Some(next);
    }

    /// They were imported.
    pub fn end(&self, planned: BTreeSet<Place>, began: DateTime<Utc>, known_by: Duration) {
        let mut state = self.state();
        if let Some(next) = state.next.take() {
            state.sights = next;
        }
        state.planned = planned;
        state.put_back = false;
        state.imports.push(Import { began, ended: Utc::now(), known_by });
    }

    /// When a change of membership of this time of day was known to be committed; nothing when it is from before the run. Nobody else
    /// changes them, so the import that ran then made it.
    #[must_use]
    pub fn known_by(&self, at: DateTime<Utc>) -> Option<Duration> {
        // What is stored has no more than microseconds.
        let slack = chrono::TimeDelta::milliseconds(1);
        let state = self.state();
        let of_then = state.imports.iter().find(|import| import.began - slack <= at && at <= import.ended + slack);
        of_then.map(|import| import.known_by)
    }

    /// Says in what was read from the database who should be where.
    pub fn complete(&self, truth: &mut Truth) {
        truth.planned = Some(self.state().planned.clone());
    }
}
