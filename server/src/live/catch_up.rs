//! Catching up: from a seat's cursor to the room's head, page by page, in the order of the log.
//!
//! Owns: the one way of reading what was missed, whether a session just came, was slow, or its room's rights changed; and
//! the step in which a seat becomes live. Refuses to know: how a position became a cursor (see `hello`).
//!
//! Never reads beyond what this worker has taken in: up to there the view is known to be the right one.

use super::frame;
use super::room::{Seat, SeatState};
use super::session::Session;
use super::{Ending, encode};
use crate::log::{Entry, View, read};
use crate::sabotage::{self, Sabotage};
use homeroom_protocol::{CloseCode, EventId, ResetReason, RoomId, ServerFrame};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes offered at once while catching up.
const PIECE: usize = 32 * 1024;

impl Session {
    /// Brings the seats that are behind up to date; at once where nothing was missed.
    pub(super) fn catch_up(self: &Rc<Self>) {
        let seats: Vec<Rc<Seat>> = self.seats.borrow().clone();
        let may_deliver = self.worker.may_deliver();
        self.in_one_write(|| {
            for seat in &seats {
                if may_deliver && seat.state() == SeatState::Behind && stands_at(seat, seat.room.head.get()) {
                    go_live(seat);
                }
            }
        });
        let behind = seats.iter().any(|seat| seat.state() == SeatState::Behind);
        if behind && !self.catching_up.replace(true) {
            actix_rt::spawn(run(self.clone()));
        }
    }

    /// What the member may see has changed: a fresh start at the head.
    pub(super) fn restart(self: &Rc<Self>, seat: &Rc<Seat>) {
        let (session, seat) = (self.clone(), seat.clone());
        actix_rt::spawn(async move { session.reset(&seat, ResetReason::RightsChanged).await });
    }

    /// Tells the client to take a fresh snapshot, and goes on from the room's head.
    pub(super) async fn reset(self: &Rc<Self>, seat: &Rc<Seat>, reason: ResetReason) {
        match self.start_at_head(seat).await {
            // Its member has left meanwhile, and was told so.
            Ok(_) if seat.state() == SeatState::Gone => {}
            Ok(position) => {
                self.write(&encode(&ServerFrame::Reset { room: seat.room.id, position, reason }));
                self.begin_seat(seat);
            }
            Err(error) => {
                tracing::warn!(%error, "a seat can't be reset");
                self.end(Ending::Close(CloseCode::Unavailable));
            }
        }
    }

    /// Puts the cursor at the head; gives the last event before it that the member may know of.
    pub(super) async fn start_at_head(&self, seat: &Seat) -> Result<Option<EventId>, sqlx::Error> {
        loop {
            let (head, view) = (seat.room.head.get(), seat.view());
            let position = self.last_visible(seat.room.id, &view, head).await?;
            // Meanwhile the room may have gone on, or the view have changed: the answer must fit both.
            if Rc::ptr_eq(&view, &seat.view.borrow()) {
                seat.cursor.set(head);
                return Ok(position);
            }
        }
    }

    /// The last event up to the head that the member may know of. Mostly nothing was said since, and where their conversations end is the
    /// answer, which the room's tail knows or asks for together with others.
    async fn last_visible(&self, room: RoomId, view: &View, head: i64) -> Result<Option<EventId>, sqlx::Error> {
        let node = &self.worker.node;
        match view {
            View::Staff { .. } => {
                if let Some(known) = node.tails.head(room).filter(|known| known.seq == head) {
                    return Ok(known.event);
                }
            }
            View::Guardian { person, .. } => {
                let theirs = read::conversations_of(room, *person, view);
                if node.tails.ends(room, &[]).is_none() {
                    self.worker.arrivals.learn_ends(vec![room]).await?;
                }
                let after = view.present_after().unwrap_or(i64::MAX);
                if let Some(ends) = node.tails.ends(room, &theirs)
                    && ends.iter().all(|end| end.seq <= head && end.event.is_some())
                {
                    let last = ends.iter().filter(|end| end.seq > after).max_by_key(|end| end.seq);
                    if view.came_or_went_at().is_none_or(|came| last.is_some_and(|end| end.seq > came)) {
                        return Ok(last.and_then(|end| end.event));
                    }
                }
            }
        }
        read::last_visible(node.log.db(), room, view, head).await
    }

    /// The seat knows where it starts.
    pub(super) fn begin_seat(self: &Rc<Self>, seat: &Seat) {
        if seat.state() == SeatState::Starting {
            seat.becomes(SeatState::Behind);
        }
        self.catch_up();
    }
}

async fn run(session: Rc<Session>) {
    let outcome = all_seats(&session).await;
    session.catching_up.set(false);
    match outcome {
        // Something may have fallen behind while the last seat was read.
        Ok(()) if !session.is_blocked() => session.catch_up(),
        Ok(()) => {}
        Err(error) => {
            // Delivery pauses, the session stays; it is tried again shortly.
            tracing::warn!(session = %session.id, %error, "what was missed can't be read");
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            session.catch_up();
        }
    }
}

async fn all_seats(session: &Rc<Session>) -> Result<(), sqlx::Error> {
    loop {
        let next = session.seats.borrow().iter().find(|seat| seat.state() == SeatState::Behind).cloned();
        let Some(seat) = next else { return Ok(()) };
        while seat.state() == SeatState::Behind {
            session.worker.until_deliverable().await;
            if session.has_ended() || session.is_blocked() {
                return Ok(());
            }
            step(session, &seat).await?;
        }
    }
}

/// Reads and offers one page, and goes live where that was all. What was read is offered in the step in which it is there: a page that
/// waited for others would show messages as they were, and not as they stand.
async fn step(session: &Rc<Session>, seat: &Rc<Seat>) -> Result<(), sqlx::Error> {
    let (head, view) = (seat.room.head.get(), seat.view());
    if stands_at(seat, head) {
        go_live(seat);
        return Ok(());
    }
    let node = &session.worker.node;
    let head = head - i64::from(sabotage::is(Sabotage::LiveOneEarly));
    let missed = node.tails.missed((seat.room.id, seat.room.holding), &view, seat.cursor.get(), head).await?;
    // A change of rights while the page was read: it was chosen by the old view, so it is read again.
    if !Rc::ptr_eq(&view, &seat.view.borrow()) || seat.state() != SeatState::Behind || !session.worker.may_deliver() {
        return Ok(());
    }
    session.in_one_write(|| {
        offer(session, seat, &missed.entries, missed.until.min(head));
        if stands_at(seat, seat.room.head.get()) {
            go_live(seat);
        }
    });
    Ok(())
}

fn offer(session: &Rc<Session>, seat: &Seat, entries: &[Arc<Entry>], until: i64) {
    let mut bytes = Vec::new();
    let mut reached = seat.cursor.get();
    let mut delivered = 0;
    let mut frames = 0;
    for entry in entries.iter().filter(|entry| entry.seq > seat.cursor.get() && entry.seq <= until) {
        if let Some(payload) = entry.payload(seat.sight(entry.subject())) {
            frame::append_text(&mut bytes, payload);
            frames += 1;
        }
        reached = entry.seq;
        if bytes.len() >= PIECE {
            if !session.offer(&bytes) {
                return;
            }
            seat.cursor.set(reached);
            delivered += std::mem::take(&mut frames);
            bytes.clear();
            if session.is_blocked() {
                session.worker.node.counts.delivered.fetch_add(delivered, Ordering::Relaxed);
                return;
            }
        }
    }
    if bytes.is_empty() || session.offer(&bytes) {
        seat.cursor.set(until.max(reached));
        delivered += frames;
    }
    session.worker.node.counts.delivered.fetch_add(delivered, Ordering::Relaxed);
}

fn stands_at(seat: &Seat, head: i64) -> bool {
    if sabotage::is(Sabotage::LiveOneEarly) && seat.cursor.get() + 1 == head {
        seat.cursor.set(head);
    }
    seat.cursor.get() >= head
}

fn go_live(seat: &Seat) {
    seat.becomes(SeatState::Live);
    if seat.owes_caught_up.replace(false) {
        seat.session.write(&encode(&ServerFrame::CaughtUp { room: seat.room.id }));
    }
}
