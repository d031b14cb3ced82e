//! What a snapshot shows to a client that was told to start a room anew, against the log.
//!
//! Owns: the rule that a snapshot taken after a reset and the events after the reset's position are all that there is: nothing that
//! came up to the position is missing, older than it was there, or not theirs. Refuses to know: why the client was reset.

use super::history::{Anew, History, Kind, Page, Shown, Stored};
use super::members::Right;
use super::{Case, Fault, Invariant};
use homeroom_protocol::ConversationId;
use std::collections::{BTreeMap, HashSet};

impl Case<'_> {
    /// A snapshot that was taken after a reset.
    pub(super) fn check_anew(&mut self, history: &History, anew: &Anew) {
        let Some(at) = anew.position.and_then(|position| self.index.by_id.get(&position)).map(|stored| stored.seq)
        else {
            // It starts with the room's first event: there is nothing that would have to be in the snapshot.
            return self.check_all_shown(history, anew, 0);
        };
        self.check_all_shown(history, anew, at);
        let theirs: Vec<&Stored> = {
            let of_room = self.index.by_room.get(&anew.room).copied().unwrap_or_default();
            // By a stay that lasts: when the snapshot was taken, another one may have been over.
            let is_theirs = |stored: &&Stored| {
                stored.seq <= at
                    && stored.conversation.is_some()
                    && self.index.members.must_hear(history.person, stored, None)
            };
            of_room.iter().filter(is_theirs).collect()
        };
        let mut ends: BTreeMap<ConversationId, &Stored> = BTreeMap::new();
        for stored in &theirs {
            ends.extend(stored.conversation.map(|conversation| (conversation, *stored)));
        }
        for (conversation, end) in ends {
            let shown = anew.conversations.get(&conversation).map(|(n, _)| *n);
            if shown < end.n {
                let story = [
                    format!("{} began room {} anew after seq {at}", history.name, anew.room),
                    format!("their snapshot shows conversation {conversation} up to {shown:?}"),
                    format!("stored: {end}"),
                ];
                self.breach(Fault::Lost, Invariant::Complete, story);
            }
        }
        let Some(Page { conversation, messages, more }) = &anew.page else { return };
        let on_page: HashSet<_> = messages.iter().map(|(_, shown)| shown.id).collect();
        let from = if *more { messages.last().map_or(u64::MAX, |(n, _)| *n) } else { 0 };
        let missing = theirs.iter().find(|stored| {
            stored.kind == Kind::Posted
                && stored.conversation == Some(*conversation)
                && stored.n >= Some(from)
                && !on_page.contains(&stored.id)
        });
        if let Some(missing) = missing {
            let story = [
                format!("{} looked at conversation {conversation} anew, and was not shown", history.name),
                format!("stored: {missing}"),
            ];
            self.breach(Fault::Lost, Invariant::Complete, story);
        }
    }

    fn check_all_shown(&mut self, history: &History, anew: &Anew, at: i64) {
        let newest = anew.conversations.values().filter_map(|(_, shown)| shown.as_ref());
        let paged = anew.page.iter().flat_map(|page| page.messages.iter().map(|(_, shown)| shown));
        for shown in newest.chain(paged) {
            self.check_shown(history, shown, at);
        }
    }

    /// A message in it is theirs, and no older than it stood at the position.
    fn check_shown(&mut self, history: &History, shown: &Shown, at: i64) {
        let what = || format!("{} was shown anew: message {}, {:?}", history.name, shown.id, shown.text);
        let Some(stored) = self.index.by_id.get(&shown.id).copied() else {
            let story = [what(), "stored: nothing with this id".to_owned()];
            return self.breach(Fault::Invented, Invariant::Complete, story);
        };
        if self.index.members.right(history.person, stored, stored.seq, None) != Right::Full {
            let story = [what(), format!("not theirs: {stored}")];
            return self.breach(Fault::Leaked, Invariant::Sight, story);
        }
        let versions = self.index.versions.get(&shown.id).map_or(&[][..], Vec::as_slice);
        let seq = |event| self.index.by_id.get(&event).map_or(0, |stored| stored.seq);
        let at_least = versions.iter().rev().find(|version| seq(version.event) <= at).map_or(0, |version| version.n);
        let is = versions.iter().rev().find(|version| version.text == shown.text.as_deref()).map(|version| version.n);
        if is < Some(at_least) {
            let story = [what(), format!("at the position it stood at number {at_least}"), format!("that is {is:?}")];
            self.breach(Fault::Altered, Invariant::Complete, story);
        }
    }
}
