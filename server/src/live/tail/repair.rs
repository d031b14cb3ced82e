//! Repairing tails from the log: holes, what the bell told, and a log that is not the one that was known.
//!
//! Owns: reading what is missing, and the order in which what the bell told is taken in. Refuses to know: when the bell rings.

use super::one::Head;
use super::{STRAGGLER, Tails, ToWorker};
use crate::log::bell::Rung;
use crate::log::pages::Holding;
use crate::log::{Entry, members, read};
use crate::sabotage::{self, Sabotage};
use futures_util::future::join_all;
use homeroom_protocol::{PersonId, RoomId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Readings of a room in which something contradicts the log again and again, before whoever else waits for a reading has their turn.
const FILLS: usize = 3;
/// The shortest and the longest wait before a hole is tried to be filled again.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// Rooms read at once while delivery waits for all of them.
const AT_ONCE: usize = 4;
/// Rooms looked at in one query.
const LOOK: usize = 1_000;

impl Tails {
    /// The bell rang for a room: its log goes at least up to `head`. What is on its way over the bus comes first: just committed, it
    /// would else be read by every node that looks in that moment.
    pub fn ring(&self, room: RoomId, head: i64) {
        {
            let mut rooms = self.rooms();
            let Some(tail) = rooms.get_mut(&room) else { return };
            if tail.head.is_some_and(|known| known.seq >= head) {
                return;
            }
            // It is told once. Whoever is reading the log already may have asked before this was there.
            if tail.filling || tail.head.is_none() {
                tail.suspect = true;
                return;
            }
            tail.filling = true;
        }
        let tails = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(STRAGGLER).await;
            if tails.has_arrived(room, head) {
                return;
            }
            tails.shared.counts.holes.fetch_add(1, Ordering::Relaxed);
            tails.fill_patiently(room).await;
        });
    }

    /// Whether the bus has brought all that is known to be there; then the log need not be read.
    fn has_arrived(&self, room: RoomId, head: i64) -> bool {
        let mut rooms = self.rooms();
        let Some(tail) = rooms.get_mut(&room) else { return true };
        let arrived = tail.head.is_some_and(|known| known.seq >= head) && !tail.has_hole();
        tail.filling &= !arrived;
        arrived
    }

    /// Fills a hole, however often that takes. Nobody else would: the bell tells each change once, and in a quiet room no entry follows that
    /// shows the hole again. Meanwhile the room is being filled, so that this is done once for each.
    pub(super) async fn fill_patiently(&self, room: RoomId) {
        let mut pause = BACKOFF[0];
        loop {
            match self.fill(room).await {
                Ok(true) => return,
                Ok(false) => {}
                // The node has left.
                Err(sqlx::Error::PoolClosed) => return,
                Err(error) if pause == BACKOFF[0] => {
                    tracing::warn!(%room, %error, "a hole can't be filled yet; it is tried again until it is");
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF[1]);
        }
    }

    /// Reads what is missing from the log, beginning with the head itself: where the log holds another entry there, it is not
    /// the log that this node knew. Whether that was all, or there is more to read again.
    ///
    /// # Errors
    /// When the database does not answer; then it is the caller's to try again.
    async fn fill(&self, room: RoomId) -> Result<bool, sqlx::Error> {
        for _ in 0..FILLS {
            match self.rooms().get_mut(&room).filter(|tail| tail.head.is_some()) {
                // What is suspected while the log is read may be younger than what was read.
                Some(tail) => tail.suspect = false,
                // It was let go of, or is a later holding of the room, whose head is being read.
                None => return Ok(true),
            }
            self.fill_pages(room).await?;
            match self.rooms().get_mut(&room).filter(|tail| tail.head.is_some()) {
                Some(tail) if tail.suspect => {}
                Some(tail) => {
                    tail.filling = false;
                    tail.dropped = false;
                    // What came too early and still has no predecessor is in the log, and the bell tells of it.
                    tail.early.clear();
                    return Ok(true);
                }
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Fills several rooms, some at once, and all of those to their end: a statement that is dropped costs its connection.
    async fn fill_each(&self, rooms: Vec<RoomId>) -> Result<(), sqlx::Error> {
        for some in rooms.chunks(AT_ONCE) {
            let filled = join_all(some.iter().map(|room| self.fill(*room))).await;
            for (room, filled) in some.iter().zip(filled) {
                if !filled? {
                    self.ring(*room, i64::MAX);
                }
            }
        }
        Ok(())
    }

    async fn fill_pages(&self, room: RoomId) -> Result<(), sqlx::Error> {
        while let Some(known) = self.head(room) {
            let read = read::after(&self.shared.db, room, known.seq.saturating_sub(1), read::PAGE).await?;
            let full = read.len() >= read::PAGE as usize;
            if known.seq > 0 && !read.first().is_some_and(|first| known.is(first.seq, first.event.id)) {
                self.rewritten(room, known);
                return Ok(());
            }
            let read: Vec<Arc<Entry>> = read.into_iter().map(Arc::new).collect();
            {
                let mut rooms = self.rooms();
                let Some(tail) = rooms.get_mut(&room) else { return Ok(()) };
                let fresh = tail.accept(&read);
                self.shared.counts.filled.fetch_add(u64::from(!fresh.is_empty()), Ordering::Relaxed);
                self.forget_changed(&fresh);
                self.hand_over(room, tail, fresh);
            }
            self.tell_of_members(&read);
            if !full {
                break;
            }
        }
        Ok(())
    }

    /// The room's log does not hold what this node knew of it: a backup was put back, or a standby without the last commits
    /// took over. Its sessions come back, find their positions unknown, and take a fresh snapshot.
    fn rewritten(&self, room: RoomId, known: Head) {
        let holding = {
            let mut rooms = self.rooms();
            // Another task may have found it already.
            if rooms.get(&room).and_then(|tail| tail.head) != Some(known) {
                return;
            }
            let Some(tail) = rooms.remove(&room) else { return };
            self.shared.pages.forget_room(room);
            self.shared.bus.release(room);
            tail.holding
        };
        tracing::warn!(%room, seq = known.seq, "the log is not the one that was known: its sessions start anew");
        self.shared.counts.rewritten.fetch_add(1, Ordering::Relaxed);
        self.tell_all(&ToWorker::Rewritten(room, holding));
    }

    /// Looks at every room that is held: whether the log still holds its head, and whether it went on. After the bell was not
    /// heard for long, or the database was away.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn look_at_all(&self) -> Result<(), sqlx::Error> {
        self.look_at(&self.all_heads()).await
    }

    /// The heads of all rooms. Those that are just being read were asked for before, and may be answered by what is in doubt: they are
    /// looked at when they are there.
    fn all_heads(&self) -> Vec<(RoomId, Head)> {
        let mut heads = Vec::new();
        for (room, tail) in self.rooms().iter_mut() {
            match tail.head {
                Some(head) => heads.push((*room, head)),
                None => tail.suspect = true,
            }
        }
        heads
    }

    async fn look_at(&self, heads: &[(RoomId, Head)]) -> Result<(), sqlx::Error> {
        for some in heads.chunks(LOOK) {
            let places: Vec<(RoomId, i64)> = some.iter().map(|(room, head)| (*room, head.seq)).collect();
            let found = read::at(&self.shared.db, &places).await?;
            let mut behind = Vec::new();
            for (room, head) in some {
                match found.get(room) {
                    Some((event, last_seq)) if head.seq == 0 || *event == head.event => {
                        if *last_seq > head.seq {
                            behind.push(*room);
                        }
                    }
                    _ => self.rewritten(*room, *head),
                }
            }
            self.fill_each(behind).await?;
        }
        Ok(())
    }

    /// This node was deaf for longer than the bell remembers: all sessions come back, and everything is read again.
    pub fn begin_anew(&self) {
        self.all_heads().into_iter().for_each(|(room, head)| self.rewritten(room, head));
    }

    /// Takes in what the bell told. Rooms whose members changed are read before this returns: what may be delivered after it
    /// depends on them. So are `all` that are behind, where nothing was delivered for a while: not what was known then may go out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rung(&self, rung: &[Rung], all: bool) -> Result<(), sqlx::Error> {
        if sabotage::is(Sabotage::IgnoreBell) {
            return Ok(());
        }
        let is_read_now = |rung: &&Rung| rung.members || all;
        for rung in rung.iter().filter(|rung| !is_read_now(rung)) {
            self.ring(rung.room, rung.head);
        }
        self.note_told(rung.iter().filter(is_read_now));
        // The log goes less far than was known: mostly this node was faster than the bell, but it may have been put back.
        let fallen: Vec<(RoomId, Head)> = rung
            .iter()
            .filter_map(|rung| Some((rung.room, self.head(rung.room).filter(|known| known.seq > rung.head)?)))
            .collect();
        self.look_at(&fallen).await?;
        let changed: Vec<RoomId> = rung.iter().filter(|rung| rung.members).map(|rung| rung.room).collect();
        let is_behind = |rung: &&Rung| self.head(rung.room).is_some_and(|known| known.seq < rung.head);
        let behind = rung.iter().filter(is_read_now).filter(is_behind).map(|rung| rung.room).collect();
        self.fill_each(behind).await?;
        // Somebody who joined a room that this node does not hold may be connected here.
        for some in changed.chunks(LOOK) {
            let joined = members::of_rooms(&self.shared.db, some).await?;
            if !joined.is_empty() {
                self.tell_all(&ToWorker::Joined(joined.into()));
            }
        }
        Ok(())
    }

    /// Rooms whose head is just being read may be read as they were before this: they are read until they go as far.
    fn note_told<'a>(&self, told: impl Iterator<Item = &'a Rung>) {
        let mut rooms = self.rooms();
        for rung in told {
            if let Some(tail) = rooms.get_mut(&rung.room).filter(|tail| tail.head.is_none()) {
                tail.told = tail.told.max(rung.head);
            }
        }
    }

    /// Whether a person's place in the room changed after `seq`, as far as this node has taken the log in.
    pub(in crate::live) fn place_changed(&self, of: (RoomId, Holding), person: PersonId, seq: i64) -> bool {
        match self.after(of, seq) {
            Some(entries) => entries.iter().any(|entry| entry.member.is_some_and(|member| member.person == person)),
            // More was said than is kept: nobody knows.
            None => true,
        }
    }
}
