//! What sessions ask when they begin, asked together: after a node's death thousands come to another one at once.
//!
//! Owns: the four questions. Refuses to know: what a session does with the answers (see `hello`).

use super::tail::Tails;
use crate::db::Db;
use crate::db::together::Together;
use crate::identity::arriving::{self, Arrival};
use crate::identity::secret;
use crate::log::read;
use crate::log::{Place, places};
use homeroom_protocol::{EventId, PersonId, RoomId};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// Where events stand in their rooms' logs.
type Seqs = HashMap<(RoomId, EventId), i64>;

/// The questions of all sessions of a worker. They are asked from its own thread, so that an answer wakes nobody on another one.
#[derive(Debug)]
pub(super) struct Arrivals {
    who: Together<Vec<u8>, Option<Arrival>>,
    places: Together<PersonId, Vec<Place>>,
    ends: Together<Vec<RoomId>, ()>,
    seqs: Together<Vec<(RoomId, EventId)>, Seqs>,
}

impl Arrivals {
    /// Nobody has asked yet.
    pub(super) fn new(db: &Db, tails: &Tails) -> Self {
        let (logins, memberships, events, tails) = (db.clone(), db.clone(), db.clone(), tails.clone());
        Self {
            who: Together::new(move |hashes: Vec<Vec<u8>>| {
                let db = logins.clone();
                async move {
                    let mut arrivals = arriving::arrivals(&db, &hashes).await?;
                    let found = std::mem::take(&mut arrivals.found);
                    // Nobody waits for a write here.
                    tokio::spawn(async move { arrivals.note(&db).await });
                    Ok(found)
                }
            }),
            places: Together::new(move |people: Vec<PersonId>| {
                let db = memberships.clone();
                async move { places::of_people(&db, &people).await }
            }),
            ends: Together::new(move |questions: Vec<Vec<RoomId>>| {
                let tails = tails.clone();
                async move {
                    tails.learn_ends(&each_once(&questions)).await?;
                    Ok(vec![(); questions.len()])
                }
            }),
            seqs: Together::new(move |questions: Vec<Vec<(RoomId, EventId)>>| {
                let db = events.clone();
                async move {
                    let seqs = read::seqs(&db, &each_once(&questions)).await?;
                    Ok(questions.into_iter().map(|asked| found(asked, &seqs)).collect())
                }
            }),
        }
    }

    /// Who a token belongs to, and where they are, as things stand after this was called; see [`arriving::arrivals`].
    pub(super) async fn who(&self, token: &str) -> Result<Option<Arrival>, sqlx::Error> {
        self.who.ask(secret::hash(token)).await
    }

    /// The rooms that a person is in, as they are after this was called; see [`places::of_person`].
    pub(super) async fn places(&self, person: PersonId) -> Result<Vec<Place>, sqlx::Error> {
        self.places.ask(person).await
    }

    /// Has the tails of these rooms know where their conversations end; see [`Tails::ends`].
    pub(super) async fn learn_ends(&self, rooms: Vec<RoomId>) -> Result<(), sqlx::Error> {
        if rooms.is_empty() {
            return Ok(());
        }
        self.ends.ask(rooms).await
    }

    /// Where events stand in their rooms' logs; see [`read::seqs`].
    pub(super) async fn seqs(&self, events: Vec<(RoomId, EventId)>) -> Result<Seqs, sqlx::Error> {
        if events.is_empty() {
            return Ok(HashMap::new());
        }
        self.seqs.ask(events).await
    }
}

/// What is asked for: a class's announcements, and the event at which all of it left, by everybody in it.
fn each_once<T: Copy + Eq + Hash>(questions: &[Vec<T>]) -> Vec<T> {
    let all: HashSet<T> = questions.iter().flatten().copied().collect();
    all.into_iter().collect()
}

/// What was found of one question.
fn found<T: Eq + Hash, A: Copy>(asked: Vec<T>, answers: &HashMap<T, A>) -> HashMap<T, A> {
    asked.into_iter().filter_map(|key| answers.get(&key).copied().map(|answer| (key, answer))).collect()
}
