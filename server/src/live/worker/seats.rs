//! The seats of a worker's sessions: opened, and taken away.
//!
//! Owns: that a seat is opened by a place which is so in the step in which its room begins to hear. Refuses to know: how a seat's cursor
//! is found (see `hello`).

use super::Worker;
use crate::live::Ending;
use crate::live::room::{Room, Seat};
use crate::live::session::Session;
use crate::log::Place;
use homeroom_protocol::{CloseCode, PersonId};
use std::rc::Rc;

impl Worker {
    /// Somebody who is connected was added to a room. A session that is not welcomed yet looks again when it is.
    pub(in crate::live) fn seat_newcomer(self: &Rc<Self>, session: Rc<Session>, person: PersonId) {
        if !session.welcomed.get() {
            session.looks_again.set(true);
            return;
        }
        let worker = self.clone();
        actix_rt::spawn(async move {
            if let Err(error) = worker.seat_everywhere(&session, person).await {
                // The session would miss its new room: it comes back and asks again.
                tracing::warn!(%error, "a new place can't be read");
                session.end(Ending::Close(CloseCode::Unavailable));
            }
        });
    }

    async fn seat_everywhere(self: &Rc<Self>, session: &Rc<Session>, person: PersonId) -> Result<(), sqlx::Error> {
        for place in self.arrivals.places(person).await? {
            if session.seat(place.room).is_none() {
                session.join(self, place).await?;
            }
        }
        Ok(())
    }

    /// Gives a session its seat in a room, not live yet, its cursor at the room's head, and the room's title; `None` when its person is
    /// no member of it any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(in crate::live) async fn open_seat(
        &self,
        session: &Rc<Session>,
        mut place: Place,
    ) -> Result<Option<(Rc<Seat>, String)>, sqlx::Error> {
        let Some(person) = session.person() else { return Ok(None) };
        let head = loop {
            let head = self.node.tails.hold(place.room, self.number).await?;
            // The place was read before the room was held: what changed it in between would be missed.
            if !self.node.tails.place_changed(place.room, person, place.last_seq) {
                break head;
            }
            let places = self.arrivals.places(person).await?;
            match places.into_iter().find(|other| other.room == place.room) {
                Some(present) => place = present,
                None => return Ok(None),
            }
        };
        // No await between holding and this: the first entry after `head` finds the room, and the room a member.
        let room = self
            .rooms
            .borrow_mut()
            .entry(place.room)
            .or_insert_with(|| Rc::new(Room::new(place.room, head.seq)))
            .clone();
        let seat = Rc::new(Seat::new(session.clone(), room.clone(), place.view));
        room.add(seat.clone());
        Ok(Some((seat, place.title)))
    }

    /// Takes a seat away, and lets go of the room if it was the last one.
    pub(in crate::live) fn remove_seat(&self, seat: &Rc<Seat>) {
        let room = &seat.room;
        room.remove(seat);
        let is_held = self.rooms.borrow().get(&room.id).is_some_and(|held| Rc::ptr_eq(held, room));
        if is_held && room.seats.borrow().is_empty() {
            self.rooms.borrow_mut().remove(&room.id);
            self.node.tails.release(room.id, self.number);
        }
    }
}
