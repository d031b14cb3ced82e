//! Pages of the log in memory: what readers who come back ask for again and again.
//!
//! Owns: aligned pages of a room or of one conversation, kept up to so many bytes; one read however many ask for the same
//! page at once; and merging, by seq, the conversations that a guardian may see.
//! Refuses to know: who is connected, and the newest entries (those are in the tail's ring).
//!
//! A page holds what is numbered `128 k + 1` to `128 (k + 1)`: by `seq` in a room, by `n` in a conversation. A full page
//! never grows; the last one is complete up to the head that its reader knew, and read again by who needs more. An edit or a
//! retraction forgets the pages of its room that show the message, so that what is served stands as it is now.

use super::entry::Entry;
use super::read;
pub use super::read::PAGE;
use super::sight::{Sight, View};
use crate::db::Db;
use homeroom_protocol::{ConversationId, RoomId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// What is kept over all rooms of a node, in bytes. A school's day of talk is a few megabytes; 10,000 families of 1,500 classes who
/// come back at once read the last page of each once, and find it here the other 32 times: some 55 MB.
pub const BYTES: usize = 64 * 1024 * 1024;

/// A stretch of what a member missed.
#[derive(Debug)]
pub struct Missed {
    /// In the order of the log. Whoever is offered them is asked what they may see of each.
    pub entries: Vec<Arc<Entry>>,
    /// All that the member may see up to this seq is in `entries`.
    pub until: i64,
}

/// One holding of a room by a node, from when it was first wanted until it was let go, or its log was found to be another one. What was read
/// for one is not served to another: up to which head it is complete, and which edits of it are told, is that holding's to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Holding(pub u64);

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    room: RoomId,
    holding: Holding,
    /// One conversation's entries; without it the whole room's.
    conversation: Option<ConversationId>,
    page: i64,
}

#[derive(Debug)]
struct Page {
    entries: Vec<Arc<Entry>>,
    /// Nothing of the room or conversation up to this seq is missing, if it follows the page before.
    until: i64,
    bytes: usize,
}

/// A page, or its reading that is under way.
#[derive(Debug, Default)]
struct Slot {
    page: OnceCell<Page>,
    used: AtomicU64,
    /// It shows something as it was: whoever waits for it reads again.
    forgotten: AtomicBool,
    /// Its bytes are counted. Changed under the lock only.
    counted: AtomicBool,
}

impl Slot {
    /// Takes its bytes from the count; gives how many.
    fn uncount(&self) -> usize {
        let counted = self.counted.swap(false, Ordering::Relaxed);
        self.page.get().filter(|_| counted).map_or(0, |page| page.bytes)
    }
}

#[derive(Debug, Default)]
struct Kept {
    slots: HashMap<Key, Arc<Slot>>,
    bytes: usize,
}

/// The pages of one node.
#[derive(Debug)]
pub struct Pages {
    db: Db,
    most: usize,
    kept: Mutex<Kept>,
    clock: AtomicU64,
    /// Pages read from the database, for `/metrics`.
    reads: AtomicU64,
    /// Pages that were there, for `/metrics`.
    hits: AtomicU64,
}

impl Pages {
    /// Keeps up to `most` bytes, or a little more while pages are read.
    #[must_use]
    pub fn new(db: Db, most: usize) -> Self {
        Self {
            db,
            most,
            kept: Mutex::default(),
            clock: AtomicU64::default(),
            reads: AtomicU64::default(),
            hits: AtomicU64::default(),
        }
    }

    /// A stretch of what a member missed after `cursor`. `head`: everything up to it was committed before this call, in the log that this
    /// holding of the room knows, and the answer never goes beyond it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn missed(
        &self,
        (room, holding): (RoomId, Holding),
        view: &View,
        cursor: i64,
        head: i64,
    ) -> Result<Missed, sqlx::Error> {
        let of_room = || self.of_room((room, holding), view, cursor, head);
        let View::Guardian { person, .. } = view else { return of_room().await };
        // A short way is read with the room's own pages, which all its members share: a class that comes back after a restart
        // is one read. A long way, conversation by conversation: a busy class must not be read to find three messages.
        if head - cursor <= PAGE {
            return of_room().await;
        }
        let mut entries = Vec::new();
        let mut until = head;
        let theirs = read::conversations_of(room, *person, view);
        // Read after `head` was known: where nothing was said after the cursor by now, nothing was missed.
        let ends = read::ends(&self.db, &theirs).await?;
        let goes_on = |conversation: &ConversationId| ends.get(conversation).is_some_and(|end| end.seq > cursor);
        for conversation in theirs.into_iter().filter(goes_on) {
            let number = read::number_at(&self.db, room, conversation, cursor).await?;
            let key = Key { room, holding, conversation: Some(conversation), page: number / PAGE };
            let found = self.page(key, cursor, head).await?;
            if let Some(page) = found.page.get() {
                until = until.min(page.until);
                entries.extend(page.entries.iter().filter(|entry| entry.seq > cursor).cloned());
            }
        }
        entries.retain(|entry| entry.seq <= until);
        entries.sort_unstable_by_key(|entry| entry.seq);
        Ok(Missed { entries, until })
    }

    async fn of_room(
        &self,
        (room, holding): (RoomId, Holding),
        view: &View,
        cursor: i64,
        head: i64,
    ) -> Result<Missed, sqlx::Error> {
        let key = Key { room, holding, conversation: None, page: cursor / PAGE };
        let found = self.page(key, cursor, head).await?;
        let Some(page) = found.page.get() else { return Ok(Missed { entries: Vec::new(), until: cursor }) };
        let until = page.until.min(head);
        let visible = |entry: &&Arc<Entry>| {
            entry.seq > cursor && entry.seq <= until && view.sight(entry.subject()) != Sight::Nothing
        };
        Ok(Missed { entries: page.entries.iter().filter(visible).cloned().collect(), until })
    }

    /// A page that is complete beyond `cursor`, and whole up to `head` where it is the last one.
    async fn page(&self, key: Key, cursor: i64, head: i64) -> Result<Arc<Slot>, sqlx::Error> {
        loop {
            let slot = self.kept().slots.entry(key).or_default().clone();
            slot.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            let mut read_now = false;
            let outcome = slot
                .page
                .get_or_try_init(|| async {
                    read_now = true;
                    self.read(key, head).await
                })
                .await;
            let page = match outcome {
                Ok(page) => page,
                Err(error) => {
                    self.drop_slot(key, &slot);
                    return Err(error);
                }
            };
            if read_now {
                self.count(key, &slot, page.bytes);
            } else {
                self.hits.fetch_add(1, Ordering::Relaxed);
            }
            // What was read before an edit that is known by now, or ends where the reader already is, is read again.
            let stale = slot.forgotten.load(Ordering::Acquire) || (page.until <= cursor && page.until < head);
            if !stale {
                return Ok(slot);
            }
            self.drop_slot(key, &slot);
        }
    }

    async fn read(&self, key: Key, head: i64) -> Result<Page, sqlx::Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let from = key.page * PAGE;
        let mut entries = match key.conversation {
            None => read::after(&self.db, key.room, from, PAGE).await?,
            Some(conversation) => read::conversation_after(&self.db, key.room, conversation, from, PAGE).await?,
        };
        let full = entries.len() >= PAGE as usize;
        // What was committed since is not yet known to this node's tails: it comes with its turn.
        entries.retain(|entry| entry.seq <= head);
        let full = full && entries.len() >= PAGE as usize;
        let until = entries.last().filter(|_| full).map_or(head, |last| last.seq);
        let bytes = entries.iter().map(Entry::bytes).sum();
        Ok(Page { entries: entries.into_iter().map(Arc::new).collect(), until, bytes })
    }

    /// A message was edited or retracted: the pages that show it are forgotten.
    pub fn forget_message(&self, room: RoomId, conversation: Option<ConversationId>, root_seq: i64) {
        let shows = |key: &Key, slot: &Slot| {
            key.room == room
                && (key.conversation.is_none() || key.conversation == conversation)
                // A reading that is under way may see it as it was.
                && slot.page.get().is_none_or(|page| page.entries.iter().any(|entry| entry.root_seq == root_seq))
        };
        self.forget(shows);
    }

    /// The room is not held any more: nobody would tell of its edits.
    pub fn forget_room(&self, room: RoomId) {
        self.forget(|key, _| key.room == room);
    }

    fn forget(&self, which: impl Fn(&Key, &Slot) -> bool) {
        let mut kept = self.kept();
        let mut freed = 0;
        kept.slots.retain(|key, slot| {
            let forgotten = which(key, slot);
            if forgotten {
                slot.forgotten.store(true, Ordering::Release);
                freed += slot.uncount();
            }
            !forgotten
        });
        kept.bytes -= freed;
    }

    /// Notes the bytes of a page that was just read, and makes room for it.
    fn count(&self, key: Key, slot: &Arc<Slot>, bytes: usize) {
        let mut kept = self.kept();
        if !kept.slots.get(&key).is_some_and(|present| Arc::ptr_eq(present, slot)) {
            return;
        }
        slot.counted.store(true, Ordering::Relaxed);
        kept.bytes += bytes;
        if kept.bytes <= self.most {
            return;
        }
        // An eighth at once, the longest unused first: sorting is paid once for many pages.
        let counted = |slot: &Slot| slot.counted.load(Ordering::Relaxed);
        let mut by_use: Vec<(u64, Key)> = kept
            .slots
            .iter()
            .filter(|(_, slot)| counted(slot))
            .map(|(key, slot)| (slot.used.load(Ordering::Relaxed), *key))
            .collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in by_use {
            if kept.bytes <= self.most / 8 * 7 {
                break;
            }
            if let Some(slot) = kept.slots.remove(&key) {
                kept.bytes -= slot.uncount();
            }
        }
    }

    fn drop_slot(&self, key: Key, slot: &Arc<Slot>) {
        let mut kept = self.kept();
        if kept.slots.get(&key).is_some_and(|present| Arc::ptr_eq(present, slot)) {
            kept.slots.remove(&key);
            kept.bytes -= slot.uncount();
        }
    }

    /// Bytes that are kept, as estimated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept().bytes
    }

    /// Pages read from the database so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Pages that were there when they were asked for, so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // No code under this lock panics half-way through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
