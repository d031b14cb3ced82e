//! The seats of a worker's sessions: opened, and taken away.
//!
//! Owns: that a seat is opened by a place which is so in the step in which its room begins to hear. Refuses to know: how a seat's cursor
//! is found (see `hello`).

use super::Worker;
use crate::live::Ending;
use crate::live::room::{Room, Seat};
use crate::live::session::Session;
use crate::log::Place;
use homeroom_protocol::{CloseCode, PersonId, RoomId};
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
        let held = loop {
            let held = self.node.tails.hold(place.room, self.number).await?;
            // The place was read before the room was held: what changed it in between would be missed.
            if !self.node.tails.place_changed((place.room, held.holding), person, place.last_seq) {
                break held;
            }
            let places = self.arrivals.places(person).await;
            let present = places.map(|places| places.into_iter().find(|other| other.room == place.room));
            match present {
                Ok(Some(present)) => place = present,
                without => {
                    self.let_go_unless_seated(place.room);
                    return without.map(|_| None);
                }
            }
        };
        // No await between holding and this: the first entry after the head finds the room, and the room a member.
        let room = match self.room(place.room) {
            Some(room) if room.holding == held.holding => room,
            earlier => {
                // Its log was found to be another one; to be told so is on the way.
                earlier.iter().for_each(|earlier| earlier.end_sessions());
                let room = Rc::new(Room::new(place.room, place.kind, held));
                self.rooms.borrow_mut().insert(place.room, room.clone());
                room
            }
        };
        let seat = Rc::new(Seat::new(session.clone(), room.clone(), place.view));
        room.add(seat.clone());
        Ok(Some((seat, place.title)))
    }

    /// The room was held for a seat that was not taken.
    fn let_go_unless_seated(&self, room: RoomId) {
        if self.room(room).is_none() {
            self.node.tails.release(room, self.number);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, Location};
    use crate::identity::LoggedIn;
    use crate::instructions::posted;
    use crate::live::instructions::node_on;
    use crate::live::stream::Stream;
    use crate::log::View;
    use homeroom_protocol::{Address, Language, Role, RoomKind};
    use std::sync::Arc;
    use tempfile::TempDir;
    use tokio::net::{TcpListener, TcpStream};
    use uuid::Uuid;

    /// More than a tail keeps in memory.
    const MUCH: i64 = 200;

    /// A worker on an empty database, and where the other ends of its sessions' sockets are.
    async fn worker() -> (TempDir, Rc<Worker>, TcpListener) {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&Location::Sqlite(folder.path().join("homeroom.db"))).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (folder, Worker::start(Arc::new(node_on(db))), listener)
    }

    async fn somebody(worker: &Rc<Worker>, listener: &TcpListener) -> Rc<Session> {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let session = Session::new(worker.clone(), Stream::Plain(stream), None);
        let (person, login) = (PersonId::new(), Uuid::now_v7());
        let who = LoggedIn { person, login, name: "Tea Cher".to_owned(), language: Language::english() };
        *session.who.borrow_mut() = Some(who);
        session
    }

    fn staff(room: RoomId) -> Place {
        Place {
            room,
            kind: RoomKind::Class,
            title: "Class 4B".to_owned(),
            school: "S".to_owned(),
            role: Role::Staff,
            view: View::Staff { intervals: Box::default() },
            last_seq: 0,
        }
    }

    /// However a worker came to know too little of a room: whoever takes a seat before the last of those who are sent away has left would
    /// else begin where they stopped, and never hear what lies between.
    #[test]
    fn who_comes_while_others_are_sent_away_finds_a_room_of_a_later_making() {
        actix_rt::System::new().block_on(async {
            let (_folder, worker, listener) = worker().await;
            let (id, tails) = (RoomId::new(), &worker.node.tails);
            let first = somebody(&worker, &listener).await;
            let (first, _) = worker.open_seat(&first, staff(id)).await.unwrap().unwrap();
            // It did not fit into the inbox, and goes back further than is kept.
            let missed = (1..=MUCH).map(|seq| Arc::new(posted(id, seq, Address::Announcements).unwrap()));
            tails.accept(&missed.collect::<Vec<_>>());
            worker.fall_behind();
            assert!(first.session.has_ended() && first.room.seats.borrow().len() == 1, "sent away, and not gone yet");
            let second = somebody(&worker, &listener).await;
            let (second, _) = worker.open_seat(&second, Place { last_seq: MUCH, ..staff(id) }).await.unwrap().unwrap();
            assert_eq!(second.room.head.get(), MUCH);
            // Those who leave take nothing from who came.
            worker.remove_seat(&first);
            assert!(worker.room(id).is_some_and(|room| Rc::ptr_eq(&room, &second.room)));

            // So when it was lost which rooms have another log than was known.
            worker.give_up(&second.room);
            let third = somebody(&worker, &listener).await;
            let (third, _) = worker.open_seat(&third, Place { last_seq: MUCH, ..staff(id) }).await.unwrap().unwrap();
            assert!(second.session.has_ended() && !Rc::ptr_eq(&second.room, &third.room));
        });
    }

    /// What was handed over of a log that was put back is not taken for what stands in its place now.
    #[test]
    fn entries_of_an_earlier_holding_are_not_delivered_in_a_later_one() {
        actix_rt::System::new().block_on(async {
            let (_folder, worker, listener) = worker().await;
            let (id, tails) = (RoomId::new(), &worker.node.tails);
            let first = somebody(&worker, &listener).await;
            let (first, _) = worker.open_seat(&first, staff(id)).await.unwrap().unwrap();
            let second = somebody(&worker, &listener).await;
            tails.accept(&[Arc::new(posted(id, 1, Address::Announcements).unwrap())]);
            // The log is found to be another one before that was taken in; another worker has it held anew by then, while this one is busy.
            tails.begin_anew();
            let elsewhere = tails.clone();
            let held = std::thread::spawn(move || {
                actix_rt::System::new().block_on(elsewhere.hold(id, usize::MAX)).unwrap();
            });
            held.join().unwrap();
            let (second, _) = worker.open_seat(&second, staff(id)).await.unwrap().unwrap();
            assert!(!Rc::ptr_eq(&first.room, &second.room) && first.session.has_ended());
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!((second.room.head.get(), second.session.has_ended()), (0, false));
            tails.accept(&[Arc::new(posted(id, 1, Address::Announcements).unwrap())]);
            while second.room.head.get() == 0 {
                tokio::task::yield_now().await;
            }
        });
    }
}
