//! What a client was handed, against the log and against its person's memberships.
//!
//! Owns: the rules about hearing: all that is theirs, once, in order, as it stands, and nothing else. Refuses to know: what was answered.
//!
//! A client hears a room in *stretches*: one begins when it comes to the room with a position, or is told to start anew, and ends when
//! it is told that it is out, or to start anew. Every change of what its person may hear ends one. Within a stretch nothing may be
//! missing; at rest the last one reaches the end of the log.

use super::history::{Heard, History, Kind, Listening, Record, Stored};
use super::members::Right;
use super::{Case, Fault, Invariant, Stage};
use homeroom_protocol::{EventId, ResetReason, RoomId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// How soon every node shows a message as it stands: the bell tells of a change within 2 s or delivery stops, and a second for the
/// client to read what was handed over before.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);
/// Who missed more than this may be told to start anew (docs/protocol.md says "about 2,000").
const FAR: usize = 1_900;

/// A stretch of a room as one client heard it.
struct Stretch<'a> {
    room: RoomId,
    position: Option<EventId>,
    heard: Vec<(Duration, &'a Heard)>,
}

impl<'a> Case<'a> {
    /// All that a client heard.
    pub(super) fn check_heard(&mut self, history: &'a History, stage: Stage) {
        if history.listening == Listening::NotAtAll {
            return;
        }
        let name = &history.name;
        let mut open: BTreeMap<RoomId, Stretch<'_>> = BTreeMap::new();
        for noted in &history.records {
            match &noted.record {
                Record::Began { room, position } => {
                    let stretch = Stretch { room: *room, position: *position, heard: Vec::new() };
                    if let Some(before) = open.insert(*room, stretch) {
                        self.check_stretch(history, &before, false);
                    }
                }
                Record::Reset { room, position, reason } => {
                    let stretch = Stretch { room: *room, position: *position, heard: Vec::new() };
                    if let Some(before) = open.insert(*room, stretch) {
                        self.check_stretch(history, &before, false);
                        self.check_reset(history, &before, *reason);
                    }
                }
                Record::Left { room } => {
                    if let Some(before) = open.remove(room) {
                        self.check_stretch(history, &before, false);
                    }
                }
                Record::Heard(heard) => match open.get_mut(&heard.room) {
                    Some(stretch) => stretch.heard.push((noted.at, heard)),
                    None => {
                        let story = [format!("{name} heard of a room in which it was not: {heard}")];
                        self.breach(Fault::Leaked, Invariant::Sight, story);
                    }
                },
                _ => {}
            }
        }
        let at_rest = stage == Stage::AtRest;
        for stretch in open.values() {
            self.check_stretch(history, stretch, at_rest);
        }
        if at_rest {
            self.check_rooms(history, &open);
        }
    }

    /// At rest a client is in the rooms that its person is in.
    fn check_rooms(&mut self, history: &History, open: &BTreeMap<RoomId, Stretch<'_>>) {
        let rooms: HashSet<RoomId> = self.index.members.rooms(history.person).collect();
        for room in open.keys().filter(|room| !rooms.contains(room)) {
            let story = [format!("{} was never told that its person is not in room {room} any more", history.name)];
            self.breach(Fault::Untold, Invariant::Sight, story);
        }
        for room in rooms.iter().filter(|room| !open.contains_key(room)) {
            let story = [format!("{} was never told that its person is in room {room}", history.name)];
            self.breach(Fault::Untold, Invariant::Complete, story);
        }
    }

    /// A client starts anew only for a reason.
    fn check_reset(&mut self, history: &History, before: &Stretch<'_>, reason: ResetReason) {
        let position = before.heard.last().map(|(_, heard)| heard.id).or(before.position);
        let seq = position.and_then(|id| self.index.by_id.get(&id)).map_or(0, |stored| stored.seq);
        let is_right = match reason {
            ResetReason::RightsChanged => self.index.members.changed_after(history.person, before.room, seq),
            ResetReason::TooFarBehind => {
                let of_room = self.index.by_room.get(&before.room).copied().unwrap_or_default();
                let after = of_room.partition_point(|stored| stored.seq <= seq);
                of_room[after..].iter().filter(|stored| self.is_for(history, stored)).count() > FAR
            }
            ResetReason::UnknownPosition | ResetReason::Unknown => false,
        };
        if !is_right {
            let story = [format!("{} was reset in room {} without need: {reason:?}", history.name, before.room)];
            self.breach(Fault::Noticed, Invariant::Complete, story);
        }
    }

    fn is_for(&self, history: &History, stored: &Stored) -> bool {
        self.index.members.right(history.person, stored, self.index.root(stored), None) != Right::Nothing
    }

    fn check_stretch(&mut self, history: &History, stretch: &Stretch<'_>, to_the_end: bool) {
        let name = &history.name;
        let mut seen: HashSet<EventId> = HashSet::new();
        let mut shown: HashMap<EventId, u64> = HashMap::new();
        let mut last: Option<&Stored> = None;
        let mut first: Option<i64> = None;
        for (at, heard) in &stretch.heard {
            let Some(stored) = self.index.by_id.get(&heard.id).copied() else {
                let story = [format!("{name} heard: {heard}"), "stored: nothing with this id".to_owned()];
                self.breach(Fault::Invented, Invariant::Complete, story);
                continue;
            };
            if !self.check_right(history, *at, heard, stored) {
                seen.insert(heard.id);
                continue;
            }
            if stored.n != heard.n || stored.conversation != heard.conversation || stored.room != heard.room {
                let story = [format!("{name} heard: {heard}"), format!("stored: {stored}")];
                self.breach(Fault::Misnumbered, Invariant::Gapless, story);
            }
            if !seen.insert(heard.id) {
                let story = [format!("{name} heard twice: {heard}"), format!("stored: {stored}")];
                self.breach(Fault::Doubled, Invariant::Complete, story);
                continue;
            }
            if let Some(before) = last.replace(stored)
                && before.seq > stored.seq
            {
                let story = [format!("{name} heard first: {before}"), format!("{name} heard after it: {stored}")];
                self.breach(Fault::Reordered, Invariant::Gapless, story);
            }
            first.get_or_insert(stored.seq);
            self.check_text(history, *at, heard, &mut shown);
        }
        let start = match stretch.position {
            Some(id) => match self.index.by_id.get(&id) {
                Some(stored) => Some(stored.seq),
                None => {
                    let story =
                        [format!("{name} began after {id} in room {}", stretch.room), "it is not stored".to_owned()];
                    self.breach(Fault::Invented, Invariant::Complete, story);
                    first
                }
            },
            None => self.index.members.began(history.person, stretch.room, first).or(first),
        };
        let until = if to_the_end { None } else { last.map(|last| last.seq) };
        if let (Some(start), true) = (start, to_the_end || until.is_some()) {
            self.check_nothing_missing(history, stretch.room, start, until, &seen);
        }
    }

    fn check_nothing_missing(
        &mut self,
        history: &History,
        room: RoomId,
        start: i64,
        until: Option<i64>,
        seen: &HashSet<EventId>,
    ) {
        let of_room = self.index.by_room.get(&room).copied().unwrap_or_default();
        let mut missing = of_room.iter().filter(|stored| {
            stored.seq > start
                && until.is_none_or(|until| stored.seq <= until)
                && stored.kind != Kind::Other
                && self.index.members.must_hear(history.person, stored, until)
                && !seen.contains(&stored.id)
        });
        let Some(first) = missing.next() else { return };
        let others = missing.count();
        let mut story = vec![format!("stored: {first}"), format!("{} never heard it", history.name)];
        if others > 0 {
            story.push(format!("nor {others} others"));
        }
        self.breach(Fault::Lost, Invariant::Complete, story);
    }

    /// It is theirs to hear, and was so at that moment.
    fn check_right(&mut self, history: &History, at: Duration, heard: &Heard, stored: &Stored) -> bool {
        let name = &history.name;
        let at = (history.listening == Listening::AtOnce).then_some(at);
        let is_message = matches!(stored.kind, Kind::Posted | Kind::Edited | Kind::Retracted);
        let right = self.index.members.right(history.person, stored, self.index.root(stored), at);
        match right {
            Right::Nothing => {
                let story = [format!("{name} heard what is not theirs to know: {heard}"), format!("stored: {stored}")];
                self.breach(Fault::Leaked, Invariant::Sight, story);
            }
            Right::TooLate => {
                let story = [format!("{name} heard, too long after they were put out: {heard}")];
                self.breach(Fault::Leaked, Invariant::Sight, story);
            }
            Right::Withheld if heard.message.is_some() => {
                let story = [format!("{name} heard what was said when they were not there: {heard}")];
                self.breach(Fault::Leaked, Invariant::Sight, story);
            }
            Right::Full if heard.message.is_none() && is_message => {
                let story = [format!("{name} was not shown what is theirs: {heard}"), format!("stored: {stored}")];
                self.breach(Fault::Lost, Invariant::Complete, story);
            }
            Right::Full | Right::Withheld => return true,
        }
        false
    }

    /// A message is shown as it stood at its event or later, never goes back, and never as it was long ago.
    fn check_text(&mut self, history: &History, at: Duration, heard: &Heard, shown: &mut HashMap<EventId, u64>) {
        let name = &history.name;
        let (Some(message), Some(n)) = (&heard.message, heard.n) else { return };
        let Some(versions) = self.index.versions.get(&message.id) else { return };
        let at_least = n.max(shown.get(&message.id).copied().unwrap_or(0));
        // A text may occur twice among the versions; the newest of them is the most lenient reading.
        let version = versions.iter().rev().find(|version| version.text == message.text.as_deref());
        let Some(version) = version.map(|version| version.n) else {
            let story = [format!("{name} heard a text that nobody wrote: {heard}")];
            return self.breach(Fault::Altered, Invariant::Complete, story);
        };
        if version < at_least {
            let story = [
                format!("{name} heard number {n} of message {} as it stood at {version}", message.id),
                format!("heard: {heard}"),
            ];
            return self.breach(Fault::Altered, Invariant::Complete, story);
        }
        shown.insert(message.id, at_least);
        let known = versions.iter().rev().find_map(|version| {
            let acked_at = *self.index.acked_at.get(&version.event)?;
            (acked_at + KNOWN_WITHIN < at).then_some((version.n, acked_at))
        });
        if history.listening == Listening::AtOnce
            && let Some((known, acked_at)) = known
            && version < known
        {
            let ago = at.saturating_sub(acked_at).as_secs_f64();
            let story = [
                format!("{name} heard message {} as it stood at {version}", message.id),
                format!("number {known} had changed it {ago:.1} s before"),
                format!("heard: {heard}"),
            ];
            self.breach(Fault::Altered, Invariant::Complete, story);
        }
    }
}
