//! What sessions ask when they begin, asked together: after a node's death thousands come to another one at once.
//!
//! Owns: the three questions. Refuses to know: what a session does with the answers (see `hello`).

use crate::db::Db;
use crate::db::together::Together;
use crate::identity::{self, LoggedIn, secret};
use crate::log::read::{self, End};
use crate::log::{Place, members};
use homeroom_protocol::{ConversationId, PersonId};
use std::collections::{HashMap, HashSet};

/// The questions of all sessions of a node.
#[derive(Debug)]
pub struct Arrivals {
    who: Together<Vec<u8>, Option<LoggedIn>>,
    places: Together<PersonId, Vec<Place>>,
    ends: Together<Vec<ConversationId>, HashMap<ConversationId, End>>,
}

impl Arrivals {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(db: &Db) -> Self {
        let (logins, memberships, conversations) = (db.clone(), db.clone(), db.clone());
        Self {
            who: Together::new(move |hashes: Vec<Vec<u8>>| {
                let db = logins.clone();
                async move {
                    let mut found = identity::who_of(&db, &hashes).await?;
                    let who = std::mem::take(&mut found.who);
                    // Nobody waits for a write here.
                    tokio::spawn(async move { found.note(&db).await });
                    Ok(who)
                }
            }),
            places: Together::new(move |people: Vec<PersonId>| {
                let db = memberships.clone();
                async move { members::of_people(&db, &people).await }
            }),
            ends: Together::new(move |questions: Vec<Vec<ConversationId>>| {
                let db = conversations.clone();
                async move {
                    // Announcements are asked for by everybody.
                    let all: HashSet<ConversationId> = questions.iter().flatten().copied().collect();
                    let ends = read::ends(&db, &all.into_iter().collect::<Vec<_>>()).await?;
                    let of = |id| ends.get(&id).map(|end| (id, *end));
                    Ok(questions.into_iter().map(|asked| asked.into_iter().filter_map(of).collect()).collect())
                }
            }),
        }
    }

    /// Who a token belongs to, see [`identity::who`].
    pub(super) async fn who(&self, token: &str) -> Result<Option<LoggedIn>, sqlx::Error> {
        self.who.ask(secret::hash(token)).await
    }

    /// The rooms that a person is in, as they are after this was called; see [`members::of_person`].
    pub(super) async fn places(&self, person: PersonId) -> Result<Vec<Place>, sqlx::Error> {
        self.places.ask(person).await
    }

    /// Where conversations end, as they do after this was called; see [`read::ends`].
    pub(super) async fn ends(
        &self,
        conversations: Vec<ConversationId>,
    ) -> Result<HashMap<ConversationId, End>, sqlx::Error> {
        self.ends.ask(conversations).await
    }
}
