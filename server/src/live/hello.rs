//! The first frame of a session: who it is, and where it starts in each room.
//!
//! Owns: turning a token into a person, their places into seats, and positions into cursors, or into a `reset`.
//! Refuses to know: how tokens are stored, and how what was missed is read (see `catch_up`).

use super::room::{Seat, SeatState};
use super::session::Session;
use super::worker::Worker;
use super::{Ending, encode};
use crate::identity::arriving::Arrival;
use crate::log::{Place, View, read};
use futures_util::future::join_all;
use homeroom_protocol::{
    CloseCode, ErrorCode, EventId, Fault, Limits, ResetReason, RoomId, RoomPosition, ServerFrame, You,
};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Positions that a client may name; nobody has more rooms.
const POSITIONS: usize = 1_000;

/// How a seat starts.
enum Start {
    /// Goes on from here.
    At(i64),
    /// From the end.
    End,
    /// Can't go on.
    Reset(ResetReason),
}

/// Signs the session in, or ends it.
pub(super) async fn hello(session: &Rc<Session>, token: Option<String>, positions: BTreeMap<RoomId, Option<EventId>>) {
    if session.who.borrow().is_some() {
        session.refuse(None, Fault::new(ErrorCode::Invalid, "This session is signed in already."));
        return;
    }
    if positions.len() > POSITIONS {
        session.refuse(None, Fault::new(ErrorCode::Invalid, "Too many positions: name only rooms that you are in."));
        session.end(Ending::Close(CloseCode::Policy));
        return;
    }
    let Some(token) = token.or_else(|| session.cookie.borrow_mut().take()) else {
        session.refuse(None, Fault::new(ErrorCode::Unauthenticated, "Sign in first: `hello` has no token."));
        session.end(Ending::Close(CloseCode::Unauthenticated));
        return;
    };
    session.cookie.borrow_mut().take();
    let arrivals = &session.worker.arrivals;
    let outcome = async {
        let told = session.worker.told_of_people();
        let Some(mut arrival) = arrivals.who(&token).await? else { return Ok(false) };
        *session.who.borrow_mut() = Some(arrival.who.clone());
        // From here on it is told of whatever is added, and of its sign-in's end.
        session.worker.add_person(arrival.who.person, session);
        if session.worker.told_of_people() != told {
            // Something of that was told since the question was asked, while nobody knew whom it concerns.
            match arrivals.who(&token).await? {
                Some(present) => arrival = present,
                None => return Ok(false),
            }
        }
        let Arrival { who, places } = arrival;
        let you = You { person: who.person, name: who.name, language: who.language };
        welcome(session, you, places, positions).await?;
        Ok::<bool, sqlx::Error>(true)
    }
    .await;
    match outcome {
        Ok(true) => {}
        Ok(false) => {
            let fault =
                Fault::new(ErrorCode::Unauthenticated, "This sign-in is unknown or has run out. Sign in again.");
            session.refuse(None, fault);
            session.end(Ending::Close(CloseCode::Unauthenticated));
        }
        Err(error) => {
            tracing::warn!(session = %session.id, %error, "a session can't be signed in");
            session.end(Ending::Close(CloseCode::Unavailable));
        }
    }
}

async fn welcome(
    session: &Rc<Session>,
    you: You,
    places: Vec<Place>,
    positions: BTreeMap<RoomId, Option<EventId>>,
) -> Result<(), sqlx::Error> {
    let worker = session.worker.clone();
    session.seats.borrow_mut().reserve_exact(places.len());
    let mut seats = Vec::with_capacity(places.len());
    let mut titles = Vec::with_capacity(places.len());
    for place in places {
        let room = place.room;
        let Some((seat, title)) = worker.open_seat(session, place).await? else { continue };
        // A change of membership may have given it this seat while others were opened.
        if session.seat(room).is_some() {
            worker.remove_seat(&seat);
            continue;
        }
        session.seats.borrow_mut().push(seat.clone());
        seats.push(seat);
        titles.push(title);
    }
    let seqs = seqs(&worker, &seats, &positions).await?;
    // All at once, so that what they ask is asked together; and all to their end, since a statement that is dropped costs its connection.
    let begun = join_all(seats.iter().map(|seat| begin(session, seat, &positions, &seqs))).await;
    let mut begun: Vec<_> = begun.into_iter().collect::<Result<_, sqlx::Error>>()?;
    pass_over(&worker, &seats).await?;
    give_up(session, &seats, &mut begun).await?;
    let mut rooms = Vec::with_capacity(seats.len());
    let mut resets = Vec::new();
    for ((seat, title), (position, reset)) in seats.iter().zip(titles).zip(begun) {
        let room = seat.room.id;
        resets.extend(reset.map(|reason| ServerFrame::Reset { room, position, reason }));
        rooms.push(RoomPosition { room, title, role: seat.role(), position });
    }
    let welcome = ServerFrame::Welcome { session: session.id, you, rooms, limits: Limits::CURRENT };
    let mut bytes = encode(&welcome);
    for reset in resets {
        bytes.extend(encode(&reset));
    }
    session.welcomed.set(true);
    if session.looks_again.take()
        && let Some(person) = session.person()
    {
        worker.seat_newcomer(session.clone(), person);
    }
    for seat in &seats {
        if seat.state() == SeatState::Starting {
            seat.becomes(SeatState::Behind);
        }
    }
    // The welcome, and that nothing was missed, mostly.
    session.in_one_write(|| {
        session.write(&bytes);
        session.catch_up();
    });
    Ok(())
}

/// A seat's position, and why it can't go on from the one that was given.
type Begun = (Option<EventId>, Option<ResetReason>);

/// Puts a seat's cursor where it starts.
async fn begin(
    session: &Rc<Session>,
    seat: &Seat,
    positions: &BTreeMap<RoomId, Option<EventId>>,
    seqs: &HashMap<(RoomId, EventId), i64>,
) -> Result<Begun, sqlx::Error> {
    let given = positions.get(&seat.room.id).copied();
    Ok(match start(seat, given, seqs) {
        Start::At(cursor) => {
            seat.cursor.set(cursor);
            (given.flatten(), None)
        }
        Start::End => (session.start_at_head(seat).await?, None),
        Start::Reset(reason) => (session.start_at_head(seat).await?, Some(reason)),
    })
}

/// Rooms went on while a guardian was away, mostly with what is said to others. Where none of their own conversations did, their
/// cursor stands at the head, and no page has to be read to find nothing. One query for all rooms of which this is not known yet.
async fn pass_over(worker: &Worker, seats: &[Rc<Seat>]) -> Result<(), sqlx::Error> {
    let mut behind = Vec::new();
    for seat in seats {
        let (view, head) = (seat.view(), seat.room.head.get());
        if let View::Guardian { person, .. } = &*view
            && seat.cursor.get() < head
        {
            let theirs = read::conversations_of(seat.room.id, *person, &view);
            behind.push((seat, view, head, theirs));
        }
    }
    let tails = &worker.node.tails;
    let rooms = behind.iter().map(|(seat, ..)| seat.room.id);
    worker.arrivals.learn_ends(rooms.filter(|room| tails.ends(*room, &[]).is_none()).collect()).await?;
    for (seat, view, head, theirs) in behind {
        // Read after the head was: whatever was said up to it is in the answer. Without one the room is read as any other.
        let Some(ends) = tails.ends(seat.room.id, &theirs) else { continue };
        let missed_nothing = ends.iter().all(|end| end.seq <= seat.cursor.get());
        // Who was given another conversation meanwhile reads it as everybody does.
        if missed_nothing && Rc::ptr_eq(&view, &seat.view()) {
            seat.cursor.set(head);
        }
    }
    Ok(())
}

/// Where the given positions stand: in memory mostly, the rest in one query.
async fn seqs(
    worker: &Worker,
    seats: &[Rc<Seat>],
    positions: &BTreeMap<RoomId, Option<EventId>>,
) -> Result<HashMap<(RoomId, EventId), i64>, sqlx::Error> {
    let mut known = HashMap::new();
    let mut unknown = Vec::new();
    for seat in seats {
        let room = seat.room.id;
        if let Some(event) = positions.get(&room).copied().flatten() {
            match worker.node.tails.seq_of(room, event) {
                Some(seq) => {
                    known.insert((room, event), seq);
                }
                None => unknown.push((room, event)),
            }
        }
    }
    known.extend(worker.arrivals.seqs(unknown).await?);
    Ok(known)
}

fn start(seat: &Seat, given: Option<Option<EventId>>, seqs: &HashMap<(RoomId, EventId), i64>) -> Start {
    let (room, view, head) = (seat.room.id, seat.view(), seat.room.head.get());
    match given {
        None => Start::End,
        // Nothing was there to see when they left an earlier stay. Something may have been since, of which this stay shows a part.
        Some(None) if view.present_after().is_some_and(|present| view.first_after() < present) => {
            Start::Reset(ResetReason::RightsChanged)
        }
        Some(None) => Start::At(view.present_after().unwrap_or(head)),
        Some(Some(event)) => match seqs.get(&(room, event)) {
            None => Start::Reset(ResetReason::UnknownPosition),
            // What they may see has changed since: their stay began after it, or one of their children came or went.
            Some(seq) if *seq < view.changed_at() => Start::Reset(ResetReason::RightsChanged),
            Some(seq) => Start::At(*seq),
        },
    }
}

/// Whoever missed more than is worth going through starts anew. Asked once those who missed nothing have been passed over: in a large
/// room they are mostly as far from its head.
async fn give_up(session: &Rc<Session>, seats: &[Rc<Seat>], begun: &mut [Begun]) -> Result<(), sqlx::Error> {
    let anew = seats.iter().map(|seat| async {
        let (room, view, head) = (seat.room.id, seat.view(), seat.room.head.get());
        if read::is_too_far(session.worker.node.log.db(), room, &view, seat.cursor.get(), head).await? {
            return Ok(Some((session.start_at_head(seat).await?, Some(ResetReason::TooFarBehind))));
        }
        Ok::<_, sqlx::Error>(None)
    });
    for (begun, anew) in begun.iter_mut().zip(join_all(anew).await) {
        if let Some(anew) = anew? {
            *begun = anew;
        }
    }
    Ok(())
}

impl Session {
    /// Its person was added to a room while it was connected.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn join(self: &Rc<Self>, worker: &Rc<Worker>, place: Place) -> Result<(), sqlx::Error> {
        let room = place.room;
        let Some((seat, title)) = worker.open_seat(self, place).await? else { return Ok(()) };
        // Two changes may have asked for the same seat.
        if self.seat(room).is_some() || self.has_ended() {
            worker.remove_seat(&seat);
            return Ok(());
        }
        self.seats.borrow_mut().push(seat.clone());
        let position = self.start_at_head(&seat).await?;
        // They left again while their place was looked for, and were told so.
        if seat.state() == SeatState::Gone {
            return Ok(());
        }
        let room = RoomPosition { room, title, role: seat.role(), position };
        self.write(&encode(&ServerFrame::Joined { room }));
        self.begin_seat(&seat);
        Ok(())
    }
}
