//! What is counted of appending: what a batch of a hundred posts is decided to do, between loading and storing.
//!
//! Owns: the batches and what the database would have known. Refuses to know: how instructions are counted (`crate::instructions`).

use super::plan::{Answer, Head, Loaded, Plan, plan};
use super::{Append, Pending, What, digest};
use crate::instructions::{NotCounted, counted, envelope, holds};
use crate::log::sight::{Interval, View};
use homeroom_protocol::{Address, ClientId, EventId, PersonId, RoomId, RoomKind};
use tokio::sync::oneshot;

/// Fewer than a lane takes at once.
const BATCH: usize = 100;

/// Plans batches of which every post is taken.
pub(crate) fn run() -> Result<(), NotCounted> {
    for (path, rooms) in [("append_plan_in_one_room", 1), ("append_plan_in_a_hundred_rooms", BATCH)] {
        let (batch, loaded) = posts(rooms)?;
        let plan = counted_plan(&batch, loaded);
        holds(
            "posts taken",
            plan.answers.iter().filter(|answer| matches!(answer, Answer::Appended(_))).count(),
            BATCH,
        )?;
        counted(path, plan.rows.len(), BATCH)?;
    }
    Ok(())
}

#[inline(never)]
fn counted_plan(batch: &[Pending], loaded: Loaded) -> Plan {
    plan(batch, loaded, true)
}

fn posts(rooms: usize) -> Result<(Vec<Pending>, Loaded), NotCounted> {
    let rooms: Vec<(RoomId, PersonId)> = (0..rooms).map(|_| (RoomId::new(), PersonId::new())).collect();
    let mut loaded = Loaded::default();
    for (room, teacher) in &rooms {
        let head = Head { kind: RoomKind::Class, last_seq: 10, last_event: Some(EventId::new()) };
        loaded.heads.insert(*room, head);
        let intervals = [Interval { student: None, after: 0, until: None }].into();
        loaded.views.insert((*room, *teacher), View::Staff { intervals });
        loaded.numbers.insert(Address::Announcements.conversation(*room), 10);
    }
    let mut batch = Vec::with_capacity(BATCH);
    for (room, author) in rooms.iter().cycle().take(BATCH) {
        let what = What::Post { to: Address::Announcements, envelope: Box::new(envelope()?), urgent: false };
        let append = Append { room: *room, author: *author, client_id: ClientId::new(), what, turn: None };
        let reply = oneshot::channel().0;
        let digest = digest(&append);
        batch.push(Pending { append, digest, skips: 0, waits: false, trace: None, step: None, reply });
    }
    Ok((batch, loaded))
}
