//! The log itself: its numbers, that nothing is in it twice, and that it holds what was said, of those whom the school put there.
//!
//! Owns: the rules about what is stored. Refuses to know: what was answered and heard.

use super::history::{History, Place, Record, Saying, Stored, Truth};
use super::{Case, Fault, Invariant};
use homeroom_protocol::{ClientId, ConversationId, EventId, PersonId, RoomId};
use std::collections::{BTreeMap, HashMap, HashSet};

impl Case<'_> {
    /// seq without gap or double, n 1, 2, 3 … per conversation, ids and client ids used once.
    pub(super) fn check_log(&mut self, truth: &Truth) {
        let mut last_seq: BTreeMap<RoomId, &Stored> = BTreeMap::new();
        let mut last_n: BTreeMap<ConversationId, &Stored> = BTreeMap::new();
        let mut ids = HashSet::new();
        let mut client_ids = HashMap::new();
        for event in &truth.events {
            let before = last_seq.insert(event.room, event);
            if event.seq != before.map_or(1, |before| before.seq + 1) {
                let story = before.into_iter().chain([event]).map(|event| format!("stored: {event}"));
                self.breach(Fault::Misnumbered, Invariant::Gapless, story);
            }
            if let (Some(conversation), Some(n)) = (event.conversation, event.n) {
                let before = last_n.insert(conversation, event);
                if Some(n) != before.map_or(Some(1), |before| before.n.map(|n| n + 1)) {
                    let doubled = before.is_some_and(|before| before.n == Some(n));
                    let fault = if doubled { Fault::Doubled } else { Fault::Misnumbered };
                    let story = before.into_iter().chain([event]).map(|event| format!("stored: {event}"));
                    self.breach(fault, Invariant::Gapless, story);
                }
            }
            if !ids.insert(event.id) {
                self.breach(Fault::Doubled, Invariant::Gapless, [format!("stored twice under one id: {event}")]);
            }
            if let (Some(author), Some(client_id)) = (event.author, event.client_id)
                && let Some(before) = client_ids.insert((author, client_id), event)
            {
                let story = [before, event].map(|event| format!("stored, with one client id: {event}"));
                self.breach(Fault::Doubled, Invariant::OneAnswer, story);
            }
        }
    }

    /// Whatever is stored of an author who was watched was said by them, in these words.
    pub(super) fn check_nothing_invented(&mut self, truth: &Truth, histories: &[&History]) {
        let watched: HashSet<PersonId> = histories.iter().map(|history| history.person).collect();
        let mut said: HashMap<(PersonId, ClientId), (&ConversationId, &Saying)> = HashMap::new();
        for history in histories {
            for noted in &history.records {
                if let Record::Said { client_id, conversation, saying, .. } = &noted.record {
                    said.insert((history.person, *client_id), (conversation, saying));
                }
            }
        }
        for event in truth.events.iter().filter(|event| event.author.is_some_and(|author| watched.contains(&author))) {
            let (Some(author), Some(client_id)) = (event.author, event.client_id) else { continue };
            match said.get(&(author, client_id)) {
                None => {
                    let story = [format!("stored, and nobody said it: {event}")];
                    self.breach(Fault::Invented, Invariant::OneAnswer, story);
                }
                Some((conversation, saying)) => {
                    let message: Option<EventId> = saying.message();
                    let same = event.kind == saying.kind()
                        && event.text.as_deref() == saying.text()
                        && event.conversation == Some(**conversation)
                        && message.is_none_or(|message| event.root == Some(message));
                    if !same {
                        let story = [format!("said: {saying:?}"), format!("stored: {event}")];
                        self.breach(Fault::Altered, Invariant::Durable, story);
                    }
                }
            }
        }
    }

    /// Those are in the rooms whom the school's files put there.
    pub(super) fn check_places(&mut self, truth: &Truth) {
        let Some(planned) = &truth.planned else { return };
        let found = self.index.members.places();
        let told = |place: &Place| match place.student {
            Some(student) => format!("{} in room {}, through {student}", place.person, place.room),
            None => format!("{} in room {}, as staff", place.person, place.room),
        };
        let extra: Vec<String> = found.difference(planned).map(told).collect();
        let missing: Vec<String> = planned.difference(&found).map(told).collect();
        for place in extra {
            self.breach(Fault::Misplaced, Invariant::Sight, [format!("is there, and should not be: {place}")]);
        }
        for place in missing {
            self.breach(Fault::Misplaced, Invariant::Sight, [format!("should be there, and is not: {place}")]);
        }
    }
}
