//! What a client was answered, against what is stored.
//!
//! Owns: the rules about answers and the order of sending. Refuses to know: what was heard.

use super::history::{History, Record, Saying, Stored};
use super::{Case, Fault, Invariant, Stage};
use homeroom_protocol::{ClientId, ConversationId, EventId, RoomId};
use std::collections::{BTreeMap, HashMap};

impl Case<'_> {
    /// Every acknowledgement is in the database as it was given; everything said was answered.
    pub(super) fn check_answers(&mut self, history: &History, stage: Stage) {
        let mut open: BTreeMap<ClientId, (RoomId, &Saying)> = BTreeMap::new();
        let mut answers: HashMap<ClientId, (EventId, u64)> = HashMap::new();
        let mut rooms: HashMap<ClientId, RoomId> = HashMap::new();
        for noted in &history.records {
            match &noted.record {
                Record::Said { client_id, room, saying, .. } => {
                    open.insert(*client_id, (*room, saying));
                    rooms.insert(*client_id, *room);
                }
                Record::Acked { client_id, id, n } => {
                    open.remove(client_id);
                    let before = answers.insert(*client_id, (*id, *n));
                    self.check_answer(history, *client_id, (*id, *n), before);
                }
                Record::Refused { client_id, why } => {
                    open.remove(client_id);
                    let refused = format!("{} was refused: {why}", history.name);
                    if let Some(stored) = self.index.by_client_id.get(&(history.person, *client_id)) {
                        let stored = format!("stored all the same: {stored}");
                        self.breach(Fault::Contradicted, Invariant::OneAnswer, [refused, stored]);
                    } else if !rooms.get(client_id).is_some_and(|room| self.index.members.has_changed(*room)) {
                        let story = [refused, "nobody joined or left its room".to_owned()];
                        self.breach(Fault::Noticed, Invariant::OneAnswer, story);
                    }
                }
                Record::Reused { client_id, text, wrong: Some(wrong) } => {
                    let story = [format!("{} used {client_id} again for {text:?}: {wrong}", history.name)];
                    self.breach(Fault::Contradicted, Invariant::OneAnswer, story);
                }
                Record::Anomaly(invariant, what) => {
                    self.breach(Fault::Noticed, *invariant, [format!("{} noticed: {what}", history.name)]);
                }
                Record::Complaint(what) if !self.index.members.has_moved(history.person) => {
                    let story = [format!("{} was refused, and was in its rooms all the time: {what}", history.name)];
                    self.breach(Fault::Noticed, Invariant::Sight, story);
                }
                _ => {}
            }
        }
        if stage == Stage::AtRest {
            for (client_id, (_, saying)) in open {
                let story = [format!("{} said {saying:?} as {client_id}: never answered", history.name)];
                self.breach(Fault::Unanswered, Invariant::OneAnswer, story);
            }
        }
    }

    fn check_answer(
        &mut self,
        history: &History,
        client_id: ClientId,
        (id, n): (EventId, u64),
        before: Option<(EventId, u64)>,
    ) {
        let answer = format!("{} holds an acknowledgement: {client_id} is {id}, number {n}", history.name);
        if let Some(before) = before
            && before != (id, n)
        {
            let earlier = format!("and another: {client_id} is {}, number {}", before.0, before.1);
            self.breach(Fault::Contradicted, Invariant::OneAnswer, [answer.clone(), earlier]);
        }
        match self.index.by_client_id.get(&(history.person, client_id)) {
            None => {
                let story = [answer, "stored: nothing with this client id".to_owned()];
                self.breach(Fault::Lost, Invariant::Durable, story);
            }
            Some(stored) if stored.id != id || stored.n != Some(n) => {
                let fault = if stored.id == id { Fault::Misnumbered } else { Fault::Contradicted };
                let story = [answer, format!("stored: {stored}")];
                self.breach(fault, Invariant::OneAnswer, story);
            }
            Some(_) => {}
        }
    }

    /// Within one client and conversation, numbers rise in the order of sending.
    pub(super) fn check_sending_order(&mut self, history: &History) {
        let mut last: BTreeMap<ConversationId, &Stored> = BTreeMap::new();
        for noted in &history.records {
            let Record::Said { client_id, conversation, .. } = &noted.record else { continue };
            let Some(stored) = self.index.by_client_id.get(&(history.person, *client_id)) else { continue };
            if let Some(before) = last.insert(*conversation, stored)
                && before.n >= stored.n
            {
                let story = [
                    format!("{} said first, stored: {before}", history.name),
                    format!("{} said after it, stored: {stored}", history.name),
                ];
                self.breach(Fault::Reordered, Invariant::SendingOrder, story);
            }
        }
    }
}
