//! Commands: what a signed-in client asks for, and where it is answered.
//!
//! Owns: the exhaustive match, and turning each command into a call of the feature that it belongs to.
//! Refuses to know: who may do what (the log decides, under its lock), SQL, and bytes.

use super::Ending;
use super::room::Seat;
use super::session::Session;
use crate::bus::{News, Typing};
use crate::conversation::spans;
use crate::log::append::{Line, Turn};
use crate::log::{Append, AppendError, Appended, MarkUp, Thread, View, What, read, rights};
use crate::trace::Step;
use homeroom_protocol::{
    About, Address, ClientFrame, ClientId, CloseCode, ConversationId, Draft, ErrorCode, Fault, Limits, PersonId, Ref,
    RoomId, ServerFrame,
};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Handles one command. Answers come when they are there; commands that append keep their order.
pub(super) fn handle(session: &Rc<Session>, command: ClientFrame) {
    let Some(reference) = command.reference() else { return };
    // What appends takes its place in the sending order, also when it is refused here: what follows has to wait for it.
    let turn = match line(&command) {
        Some((line, client_id)) => {
            if session.turns().order_is_lost() {
                return session.end(Ending::Close(CloseCode::OrderLost));
            }
            Some(session.turns().next(line, client_id))
        }
        None => None,
    };
    let fails_for_now = || turn.iter().for_each(Turn::failed);
    let begun = if session.worker.node.draining.load(Ordering::Acquire) {
        Err(Fault::new(ErrorCode::Unavailable, "This server is about to leave. Come back in a moment.").after(1_000))
    } else if session.is_allowed(Some(reference)) {
        session.begin(reference)
    } else {
        // `is_allowed` has answered.
        return fails_for_now();
    };
    if let Err(fault) = begun {
        fails_for_now();
        session.refuse(Some(reference), fault);
        return;
    }
    match command {
        ClientFrame::Hello { .. } => {}
        ClientFrame::Post { room, client_id, to, draft, urgent, .. } => {
            let what = envelope(draft).map(|envelope| What::Post { to, envelope, urgent });
            append(session, reference, room, client_id, what, turn);
        }
        ClientFrame::Edit { room, client_id, message, draft, .. } => {
            let what = envelope(draft).map(|envelope| What::Edit { message, envelope });
            append(session, reference, room, client_id, what, turn);
        }
        ClientFrame::Retract { room, client_id, message, .. } => {
            append(session, reference, room, client_id, Ok(What::Retract { message }), turn);
        }
        #[cfg(feature = "next")]
        ClientFrame::Pin { room, client_id, message, until, .. } => {
            append(session, reference, room, client_id, Ok(What::Pin { message, until }), None);
        }
        ClientFrame::Delivered { room, conversation, n, .. } => mark(session, reference, room, conversation, n, 0),
        ClientFrame::Read { room, conversation, n, .. } => mark(session, reference, room, conversation, n, n),
        ClientFrame::Typing { room, to, .. } => typing(session, reference, room, to),
        ClientFrame::History { room, conversation, before, limit, .. } => {
            history(session, reference, room, conversation, before, limit);
        }
        ClientFrame::Refresh { token, .. } => refresh(session, reference, token),
    }
}

/// Whose order a command keeps, if it appends, and its client id.
fn line(command: &ClientFrame) -> Option<(Line, ClientId)> {
    match command {
        ClientFrame::Post { room, client_id, to, .. } => {
            Some((Line { room: *room, conversation: Some(to.conversation(*room)) }, *client_id))
        }
        ClientFrame::Edit { room, client_id, .. } | ClientFrame::Retract { room, client_id, .. } => {
            Some((Line { room: *room, conversation: None }, *client_id))
        }
        #[cfg(feature = "next")]
        ClientFrame::Pin { .. } => None,
        ClientFrame::Hello { .. }
        | ClientFrame::Delivered { .. }
        | ClientFrame::Read { .. }
        | ClientFrame::Typing { .. }
        | ClientFrame::History { .. }
        | ClientFrame::Refresh { .. } => None,
    }
}

fn envelope(draft: Draft) -> Result<Box<homeroom_protocol::Envelope>, Fault> {
    draft.into_envelope(spans::found).map(Box::new)
}

fn append(
    session: &Rc<Session>,
    reference: Ref,
    room: RoomId,
    client_id: ClientId,
    what: Result<What, Fault>,
    turn: Option<Turn>,
) {
    let what = match what {
        Ok(what) => what,
        Err(fault) => {
            turn.iter().for_each(Turn::answered);
            return fail(session, reference, fault);
        }
    };
    let author = signed_in(session);
    let node = &session.worker.node;
    let mut step = node.traces.begin(what.name());
    let trace = step.as_ref().map(Step::context);
    let submitted = match node.log.place(Append { room, author, client_id, what, turn }, trace) {
        Ok(submitted) => submitted,
        Err(error) => return fail(session, reference, error.into()),
    };
    session.worker.ring_soon();
    let session = session.clone();
    actix_rt::spawn(async move {
        match submitted.done().await {
            Ok(Appended { id, n }) => {
                step.iter_mut().for_each(|step| step.note("homeroom.event", id.to_string()));
                session.acknowledge(reference, id, n.unsigned_abs());
            }
            Err(error) => fail(&session, reference, error.into()),
        }
    });
}

fn mark(session: &Rc<Session>, reference: Ref, room: RoomId, conversation: ConversationId, delivered: u64, read: u64) {
    let person = signed_in(session);
    if let Err(fault) = seat_for(session, room, conversation) {
        return fail(session, reference, fault);
    }
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mark = MarkUp { room, conversation, person, delivered: number(delivered), read: number(read) };
    let session = session.clone();
    actix_rt::spawn(async move {
        match session.worker.node.log.mark(mark).await {
            Ok(()) => done(&session, reference),
            Err(error) => fail(&session, reference, error.into()),
        }
    });
}

fn typing(session: &Rc<Session>, reference: Ref, room: RoomId, to: Address) {
    let person = signed_in(session);
    let (conversation, thread) = (to.conversation(room), Thread::from(to));
    // As for a post, but that whom staff write to is not looked up: about nobody, they would tell one another.
    let seat = session.seat(room).filter(|seat| seat.may_see_thread(thread));
    let may = seat.ok_or_else(|| Fault::new(ErrorCode::Forbidden, "You can't write there."));
    if let Err(fault) = may.and_then(|seat| rights::may_write(&seat.view(), seat.room.kind, to)) {
        return fail(session, reference, fault);
    }
    if session.may_tell_typing() {
        let typing = Typing { room, conversation, thread, person };
        session.worker.node.tails.typing(typing);
        session.worker.node.bus.publish(News::Typing(typing));
    }
    done(session, reference);
}

fn history(
    session: &Rc<Session>,
    reference: Ref,
    room: RoomId,
    conversation: ConversationId,
    before: Option<u64>,
    limit: Option<u32>,
) {
    let seat = match seat_for(session, room, conversation) {
        Ok(seat) => seat,
        Err(fault) => return fail(session, reference, fault),
    };
    let most = Limits::CURRENT.history_page;
    let limit = limit.unwrap_or(most).clamp(1, most);
    let session = session.clone();
    actix_rt::spawn(async move {
        let view = seat.view();
        let db = session.worker.node.log.db();
        match read::history(db, room, &view, conversation, before, limit).await {
            // The rights may have changed while the page was read, or unheard of while the bell is silent.
            Ok(page) if Rc::ptr_eq(&view, &seat.view.borrow()) && session.worker.may_deliver() => {
                let (messages, more) = (page.messages, page.more);
                session.answer(reference, &ServerFrame::Page { reference, room, conversation, messages, more });
            }
            Ok(_) => fail(
                &session,
                reference,
                Fault::new(ErrorCode::Unavailable, "This can't be shown at the moment. Ask again.").after(250),
            ),
            Err(error) => {
                tracing::warn!(%error, "a page of history can't be read");
                fail(&session, reference, AppendError::Unavailable(None).into());
            }
        }
    });
}

fn refresh(session: &Rc<Session>, reference: Ref, token: String) {
    let session = session.clone();
    actix_rt::spawn(async move {
        let db = session.worker.node.log.db();
        match crate::identity::who(db, &token).await {
            Ok(Some(who)) if Some(who.person) == session.person() => {
                *session.who.borrow_mut() = Some(who);
                done(&session, reference);
            }
            Ok(_) => {
                let fault = Fault::new(ErrorCode::Unauthenticated, "This token is not this person's, or has run out.");
                fail(&session, reference, fault);
            }
            Err(error) => {
                tracing::warn!(%error, "a token can't be looked up");
                fail(&session, reference, AppendError::Unavailable(None).into());
            }
        }
    });
}

/// The session's seat in the room, if its member may see the conversation.
fn seat_for(session: &Session, room: RoomId, conversation: ConversationId) -> Result<Rc<Seat>, Fault> {
    let missing = || Fault::new(ErrorCode::NotFound, "There is no such conversation.");
    let seat = session.seat(room).ok_or_else(missing)?;
    let may_see = match &*seat.view() {
        // Which conversations a room has is the log's to know: another room's would not be found in this one.
        View::Staff { .. } => true,
        view @ View::Guardian { person, .. } => {
            let guardian = *person;
            Address::Announcements.conversation(room) == conversation
                || view
                    .students()
                    .any(|student| Address::Private(About { guardian, student }).conversation(room) == conversation)
        }
    };
    if may_see { Ok(seat) } else { Err(missing()) }
}

/// Whom the session speaks for. Commands are handled after `hello` only.
fn signed_in(session: &Session) -> PersonId {
    session.person().unwrap_or(PersonId(uuid::Uuid::nil()))
}

fn done(session: &Session, reference: Ref) {
    session.answer(reference, &ServerFrame::Ack { reference, id: None, n: None });
}

fn fail(session: &Session, reference: Ref, fault: Fault) {
    session.answer(reference, &ServerFrame::Error { reference: Some(reference), fault });
}
