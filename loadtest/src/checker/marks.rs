//! Marks: how far people have had conversations delivered, and read.
//!
//! Owns: the rules about marks: only as far as one of the person's clients said, never past the end, never back, and the same for
//! all after rest. Refuses to know: events' texts.

use super::history::{History, Record, StoredMark, Truth};
use super::{Case, Fault, Invariant, Stage};
use homeroom_protocol::{ConversationId, Mark, PersonId, RoomId};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

type Key = (ConversationId, PersonId);

/// How far a person's clients have said a conversation to be, at most, from a moment on.
#[derive(Debug, Clone, Copy)]
struct Said {
    at: Duration,
    delivered: u64,
    read: u64,
}

/// Everything that was said about marks.
struct Sayings {
    /// Of this log, and of one that is gone: a mark may be on its way for a while.
    by_key: HashMap<Key, Vec<Said>>,
    /// Of this log only, in the end.
    lasting: HashMap<Key, (u64, u64)>,
    watched: HashSet<PersonId>,
}

impl Sayings {
    fn new(histories: &[&History]) -> Self {
        let mut by_key: HashMap<Key, Vec<Said>> = HashMap::new();
        let mut lasting: HashMap<Key, (u64, u64)> = HashMap::new();
        for history in histories {
            for noted in &history.records {
                let (conversation, delivered, read) = match noted.record {
                    Record::Marked { conversation, delivered, read } => {
                        let last = lasting.entry((conversation, history.person)).or_default();
                        *last = (last.0.max(delivered).max(read), last.1.max(read));
                        (conversation, delivered, read)
                    }
                    Record::MarkedInGone { conversation, delivered, read } => (conversation, delivered, read),
                    _ => continue,
                };
                let said = Said { at: noted.at, delivered: delivered.max(read), read };
                by_key.entry((conversation, history.person)).or_default().push(said);
            }
        }
        for said in by_key.values_mut() {
            said.sort_by_key(|said| said.at);
            let (mut delivered, mut read) = (0, 0);
            for said in said {
                (delivered, read) = (delivered.max(said.delivered), read.max(said.read));
                (said.delivered, said.read) = (delivered, read);
            }
        }
        Self { by_key, lasting, watched: histories.iter().map(|history| history.person).collect() }
    }

    /// The furthest that was said up to a moment, or at all.
    fn until(&self, key: Key, at: Option<Duration>) -> (u64, u64) {
        let Some(said) = self.by_key.get(&key) else { return (0, 0) };
        let count = at.map_or(said.len(), |at| said.partition_point(|said| said.at <= at));
        count.checked_sub(1).map_or((0, 0), |last| (said[last].delivered, said[last].read))
    }
}

impl Case<'_> {
    pub(super) fn check_marks(&mut self, truth: &Truth, histories: &[&History], stage: Stage) {
        let sayings = Sayings::new(histories);
        let mut ends: HashMap<ConversationId, (RoomId, u64)> = HashMap::new();
        for event in &truth.events {
            if let (Some(conversation), Some(n)) = (event.conversation, event.n) {
                let end = ends.entry(conversation).or_insert((event.room, 0));
                end.1 = end.1.max(n);
            }
        }
        let end = |conversation: ConversationId| ends.get(&conversation).map_or(0, |(_, end)| *end);
        let mut stored: HashMap<Key, Mark> = HashMap::new();
        for StoredMark { conversation, mark } in &truth.marks {
            stored.insert((*conversation, mark.person), *mark);
            self.check_end(&format!("stored: {}", told(*conversation, *mark)), *mark, end(*conversation));
            // Under way, more may have been said since the histories were looked at.
            if stage == Stage::AtRest {
                self.check_said("stored", *conversation, *mark, &sayings, None);
            }
        }
        for history in histories {
            for noted in &history.records {
                match &noted.record {
                    Record::Told { conversation, mark } => {
                        let what = format!("{} was told", history.name);
                        self.check_end(&format!("{what}: {}", told(*conversation, *mark)), *mark, end(*conversation));
                        self.check_said(&what, *conversation, *mark, &sayings, Some(noted.at));
                        self.check_risen(&what, *conversation, *mark, &stored);
                    }
                    Record::Snapshot { marks } if stage == Stage::AtRest => {
                        self.check_snapshot(history, marks, &stored);
                    }
                    _ => {}
                }
            }
        }
        if stage == Stage::AtRest {
            self.check_arrived(&sayings, &ends, &stored);
        }
    }

    fn check_end(&mut self, what: &str, mark: Mark, end: u64) {
        if mark.delivered.max(mark.read) > end {
            self.breach(Fault::Mismarked, Invariant::Marks, [what.to_owned(), format!("its last number is {end}")]);
        }
    }

    fn check_said(
        &mut self,
        what: &str,
        conversation: ConversationId,
        mark: Mark,
        sayings: &Sayings,
        at: Option<Duration>,
    ) {
        let (delivered, read) = sayings.until((conversation, mark.person), at);
        if sayings.watched.contains(&mark.person) && (mark.delivered > delivered || mark.read > read) {
            let story = [
                format!("{what}: {}", told(conversation, mark)),
                format!("their clients have said: delivered {delivered}, read {read}"),
            ];
            self.breach(Fault::Mismarked, Invariant::Marks, story);
        }
    }

    /// What anybody was told was stored by then, so what is stored now goes at least as far.
    fn check_risen(&mut self, what: &str, conversation: ConversationId, mark: Mark, stored: &HashMap<Key, Mark>) {
        let (delivered, read) =
            stored.get(&(conversation, mark.person)).map_or((0, 0), |stored| (stored.delivered, stored.read));
        if mark.delivered > delivered || mark.read > read {
            let story = [
                format!("{what}: {}", told(conversation, mark)),
                format!("stored: delivered {delivered}, read {read}"),
            ];
            self.breach(Fault::Mismarked, Invariant::Marks, story);
        }
    }

    /// A device that looks after rest sees what is stored.
    fn check_snapshot(&mut self, history: &History, marks: &[(ConversationId, Mark)], stored: &HashMap<Key, Mark>) {
        for (conversation, mark) in marks {
            let is = stored.get(&(*conversation, mark.person)).copied().unwrap_or(Mark {
                person: mark.person,
                delivered: 0,
                read: 0,
            });
            if is != *mark {
                let story = [
                    format!("{} was shown after rest: {}", history.name, told(*conversation, *mark)),
                    format!("stored: {}", told(*conversation, is)),
                ];
                self.breach(Fault::Mismarked, Invariant::Marks, story);
            }
        }
    }

    /// At rest everything said has arrived, but for what was said by somebody who was put out meanwhile.
    fn check_arrived(
        &mut self,
        sayings: &Sayings,
        ends: &HashMap<ConversationId, (RoomId, u64)>,
        stored: &HashMap<Key, Mark>,
    ) {
        for (key, (delivered, read)) in &sayings.lasting {
            let Some((room, end)) = ends.get(&key.0) else { continue };
            let is = stored.get(key).map_or((0, 0), |mark| (mark.delivered, mark.read));
            let wanted = (*delivered.min(end), *read.min(end));
            let lacks = is.0 < wanted.0 || is.1 < wanted.1;
            if lacks && !self.index.members.changed_during_run(key.1, *room) {
                let story = [
                    format!("{} said of conversation {}: delivered {}, read {}", key.1, key.0, wanted.0, wanted.1),
                    format!("stored: delivered {}, read {}", is.0, is.1),
                ];
                self.breach(Fault::Unmarked, Invariant::Marks, story);
            }
        }
    }
}

/// Whether a mark of the database went back since it was last looked at.
#[must_use]
pub fn fallen<'a>(before: &'a [StoredMark], now: &[StoredMark]) -> Option<(&'a StoredMark, Option<StoredMark>)> {
    let now: HashMap<Key, StoredMark> = now.iter().map(|mark| ((mark.conversation, mark.mark.person), *mark)).collect();
    before.iter().find_map(|before| {
        let present = now.get(&(before.conversation, before.mark.person)).copied();
        let stands = present.is_some_and(|present| {
            present.mark.delivered >= before.mark.delivered && present.mark.read >= before.mark.read
        });
        (!stands).then_some((before, present))
    })
}

fn told(conversation: ConversationId, mark: Mark) -> String {
    format!("{} has conversation {conversation} delivered {}, read {}", mark.person, mark.delivered, mark.read)
}
