//! Does a run keep Homeroom's word? Compares what the database holds with what every client was told.
//!
//! Owns: the rules. Nothing acknowledged is lost, nothing comes twice, out of order, to the wrong person, with another
//! number or another text. Refuses to know: sockets, SQL, processes: it judges recorded histories only, so that it can
//! be tested on histories made by hand, broken in every way it must notice.

pub mod history;
mod invariant;
pub mod tamper;

use self::history::{Heard, History, Kind, Record, Saying, Sight, Stored, Truth};
pub use self::invariant::Invariant;
use homeroom_protocol::{ClientId, ConversationId, EventId, PersonId, RoomId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// In which way the word was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Acknowledged, or stored, and not there.
    Lost,
    /// There twice.
    Doubled,
    /// Not in the order of the log, or of sending.
    Reordered,
    /// Told to somebody who may not know.
    Leaked,
    /// A number that is not the one of the log, or a log whose numbers are not 1, 2, 3 …
    Misnumbered,
    /// Something that nobody said.
    Invented,
    /// Another text than the one said, or an older one than the event stands for.
    Altered,
    /// An answer that the database denies.
    Contradicted,
    /// Something said that was never answered.
    Unanswered,
    /// The client itself noticed that the server broke the protocol, or was reset without need.
    Noticed,
}

/// One breach, and the shortest story that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Of what.
    pub invariant: Invariant,
    /// In which way.
    pub fault: Fault,
    /// What happened, line by line.
    pub story: Vec<String>,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, against invariant {}:", self.fault, self.invariant)?;
        self.story.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// What a run amounted to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Events in the database that clients appended.
    pub stored: usize,
    /// Things said by clients: messages,
    pub posted: usize,
    /// other texts for them,
    pub edited: usize,
    /// and messages taken back.
    pub retracted: usize,
    /// Acknowledgements held by clients.
    pub acked: usize,
    /// Events heard by clients.
    pub heard: usize,
}

/// The verdict on a run.
#[derive(Debug)]
pub struct Verdict {
    /// What was compared.
    pub counts: Counts,
    /// What was wrong; the shortest story first.
    pub breaches: Vec<Breach>,
}

/// Judges a run that has come to rest: all said things answered, all clients caught up.
#[must_use]
pub fn check(truth: &Truth, histories: &[History]) -> Verdict {
    let mut case = Case { index: Index::new(truth), breaches: Vec::new() };
    case.check_log(truth);
    case.check_nothing_invented(truth, histories);
    let mut counts = Counts { stored: case.index.by_client_id.len(), ..Counts::default() };
    for history in histories {
        for record in &history.records {
            match record {
                Record::Said { saying: Saying::Post { .. }, .. } => counts.posted += 1,
                Record::Said { saying: Saying::Edit { .. }, .. } => counts.edited += 1,
                Record::Said { saying: Saying::Retract { .. }, .. } => counts.retracted += 1,
                Record::Acked { .. } => counts.acked += 1,
                Record::Heard(_) => counts.heard += 1,
                Record::Refused { .. } | Record::Reset { .. } | Record::Anomaly(_) => {}
            }
        }
        case.check_answers(history);
        case.check_sending_order(history);
        case.check_heard(truth, history);
        case.check_texts(history);
    }
    let mut breaches = case.breaches;
    breaches.sort_by_key(|breach| (breach.story.len(), breach.fault));
    Verdict { counts, breaches }
}

/// The database, by the keys that the rules ask for.
struct Index<'a> {
    by_id: HashMap<EventId, &'a Stored>,
    by_client_id: HashMap<(PersonId, ClientId), &'a Stored>,
    /// By message: its versions, as number and text (none when retracted), in the order of the log.
    versions: HashMap<EventId, Vec<(u64, Option<&'a str>)>>,
}

impl<'a> Index<'a> {
    fn new(truth: &'a Truth) -> Self {
        let mut index = Self { by_id: HashMap::new(), by_client_id: HashMap::new(), versions: HashMap::new() };
        for event in &truth.events {
            index.by_id.insert(event.id, event);
            if let (Some(author), Some(client_id)) = (event.author, event.client_id) {
                index.by_client_id.entry((author, client_id)).or_insert(event);
            }
            if let (Some(root), Some(n)) = (event.root, event.n) {
                index.versions.entry(root).or_default().push((n, event.text.as_deref()));
            }
        }
        index
    }
}

struct Case<'a> {
    index: Index<'a>,
    breaches: Vec<Breach>,
}

impl Case<'_> {
    fn breach(&mut self, invariant: Invariant, fault: Fault, story: impl IntoIterator<Item = String>) {
        self.breaches.push(Breach { invariant, fault, story: story.into_iter().collect() });
    }

    /// The log itself: seq without gap or double, n 1, 2, 3 … per conversation, ids and client ids used once.
    fn check_log(&mut self, truth: &Truth) {
        let mut last_seq: BTreeMap<RoomId, &Stored> = BTreeMap::new();
        let mut last_n: BTreeMap<ConversationId, &Stored> = BTreeMap::new();
        let mut ids = HashSet::new();
        let mut client_ids = HashMap::new();
        for event in &truth.events {
            let before = last_seq.insert(event.room, event);
            if event.seq != before.map_or(1, |before| before.seq + 1) {
                self.breach(
                    Invariant::Gapless,
                    Fault::Misnumbered,
                    before.into_iter().chain([event]).map(|event| format!("stored: {event}")),
                );
            }
            if let (Some(conversation), Some(n)) = (event.conversation, event.n) {
                let before = last_n.insert(conversation, event);
                if Some(n) != before.map_or(Some(1), |before| before.n.map(|n| n + 1)) {
                    let fault = if before.is_some_and(|before| before.n == Some(n)) {
                        Fault::Doubled
                    } else {
                        Fault::Misnumbered
                    };
                    self.breach(
                        Invariant::Gapless,
                        fault,
                        before.into_iter().chain([event]).map(|event| format!("stored: {event}")),
                    );
                }
            }
            if !ids.insert(event.id) {
                self.breach(Invariant::Gapless, Fault::Doubled, [format!("stored twice under one id: {event}")]);
            }
            if let (Some(author), Some(client_id)) = (event.author, event.client_id)
                && let Some(before) = client_ids.insert((author, client_id), event)
            {
                self.breach(
                    Invariant::OneAnswer,
                    Fault::Doubled,
                    [before, event].map(|event| format!("stored, with one client id: {event}")),
                );
            }
        }
    }

    /// Whatever is stored of an author who was watched was said by them, in these words.
    fn check_nothing_invented(&mut self, truth: &Truth, histories: &[History]) {
        let watched: HashSet<PersonId> = histories.iter().map(|history| history.person).collect();
        let mut said: HashMap<(PersonId, ClientId), (&ConversationId, &Saying)> = HashMap::new();
        for history in histories {
            for record in &history.records {
                if let Record::Said { client_id, conversation, saying, .. } = record {
                    said.insert((history.person, *client_id), (conversation, saying));
                }
            }
        }
        for event in truth.events.iter().filter(|event| event.author.is_some_and(|author| watched.contains(&author))) {
            let (Some(author), Some(client_id)) = (event.author, event.client_id) else { continue };
            match said.get(&(author, client_id)) {
                None => {
                    self.breach(Invariant::Durable, Fault::Invented, [format!("stored, and nobody said it: {event}")])
                }
                Some((conversation, saying)) => {
                    let same = event.kind == saying.kind()
                        && event.text.as_deref() == saying.text()
                        && event.conversation == Some(**conversation)
                        && saying.message().is_none_or(|message| event.root == Some(message));
                    if !same {
                        self.breach(
                            Invariant::Durable,
                            Fault::Altered,
                            [format!("said: {saying:?}"), format!("stored: {event}")],
                        );
                    }
                }
            }
        }
    }

    /// Every acknowledgement is in the database as it was given; everything said was answered.
    fn check_answers(&mut self, history: &History) {
        let mut open: BTreeMap<ClientId, &Saying> = BTreeMap::new();
        let mut answers: HashMap<ClientId, (EventId, u64)> = HashMap::new();
        for record in &history.records {
            match record {
                Record::Said { client_id, saying, .. } => {
                    open.insert(*client_id, saying);
                }
                Record::Acked { client_id, id, n } => {
                    open.remove(client_id);
                    let answer = format!("{} holds an acknowledgement: {client_id} is {id}, number {n}", history.name);
                    if let Some(before) = answers.insert(*client_id, (*id, *n))
                        && before != (*id, *n)
                    {
                        let earlier = format!("and another: {client_id} is {}, number {}", before.0, before.1);
                        self.breach(Invariant::OneAnswer, Fault::Contradicted, [answer.clone(), earlier]);
                    }
                    match self.index.by_client_id.get(&(history.person, *client_id)) {
                        None => self.breach(
                            Invariant::Durable,
                            Fault::Lost,
                            [answer, "stored: nothing with this client id".to_owned()],
                        ),
                        Some(stored) if stored.id != *id || stored.n != Some(*n) => {
                            let fault = if stored.id == *id { Fault::Misnumbered } else { Fault::Contradicted };
                            let stored = format!("stored: {stored}");
                            self.breach(Invariant::OneAnswer, fault, [answer, stored]);
                        }
                        Some(_) => {}
                    }
                }
                Record::Refused { client_id, why } => {
                    open.remove(client_id);
                    if let Some(stored) = self.index.by_client_id.get(&(history.person, *client_id)) {
                        let stored = format!("stored all the same: {stored}");
                        self.breach(
                            Invariant::OneAnswer,
                            Fault::Contradicted,
                            [format!("{} was refused: {why}", history.name), stored],
                        );
                    }
                }
                Record::Anomaly(what) => {
                    self.breach(Invariant::Complete, Fault::Noticed, [format!("{} noticed: {what}", history.name)])
                }
                Record::Reset { room } => {
                    self.breach(
                        Invariant::Complete,
                        Fault::Noticed,
                        [format!("{} was reset in room {room} without need", history.name)],
                    );
                }
                Record::Heard(_) => {}
            }
        }
        for (client_id, saying) in open {
            self.breach(
                Invariant::OneAnswer,
                Fault::Unanswered,
                [format!("{} said {saying:?} as {client_id}: never answered", history.name)],
            );
        }
    }

    /// Within one client and conversation, numbers rise in the order of sending.
    fn check_sending_order(&mut self, history: &History) {
        let mut last: BTreeMap<ConversationId, &Stored> = BTreeMap::new();
        for record in &history.records {
            let Record::Said { client_id, conversation, .. } = record else { continue };
            let Some(stored) = self.index.by_client_id.get(&(history.person, *client_id)) else { continue };
            if let Some(before) = last.insert(*conversation, stored)
                && before.n >= stored.n
            {
                let story = [
                    format!("{} said first, stored: {before}", history.name),
                    format!("{} said after it, stored: {stored}", history.name),
                ];
                self.breach(Invariant::SendingOrder, Fault::Reordered, story);
            }
        }
    }

    /// What a client heard is what the log holds for it: complete, once, in order, and nothing else.
    fn check_heard(&mut self, truth: &Truth, history: &History) {
        let name = &history.name;
        let mut seen: HashSet<EventId> = HashSet::new();
        let mut last: BTreeMap<RoomId, &Stored> = BTreeMap::new();
        for heard in history.heard() {
            if !history.may_hear(heard) {
                self.breach(
                    Invariant::Sight,
                    Fault::Leaked,
                    [format!("{name} heard what is not theirs to know: {heard}")],
                );
                continue;
            }
            let Some(stored) = self.index.by_id.get(&heard.id).copied() else {
                self.breach(
                    Invariant::Complete,
                    Fault::Invented,
                    [format!("{name} heard: {heard}"), "stored: nothing with this id".to_owned()],
                );
                continue;
            };
            if stored.n != heard.n || stored.conversation != heard.conversation || stored.room != heard.room {
                let story = [format!("{name} heard: {heard}"), format!("stored: {stored}")];
                self.breach(Invariant::Gapless, Fault::Misnumbered, story);
            }
            if !seen.insert(heard.id) {
                self.breach(
                    Invariant::Complete,
                    Fault::Doubled,
                    [format!("{name} heard twice: {heard}"), format!("stored: {stored}")],
                );
                continue;
            }
            if let Some(before) = last.insert(heard.room, stored)
                && before.seq > stored.seq
            {
                let story = [format!("{name} heard first: {before}"), format!("{name} heard after it: {stored}")];
                self.breach(Invariant::Gapless, Fault::Reordered, story);
            }
        }
        let missing: Vec<&Stored> =
            truth.events.iter().filter(|stored| history.must_hear(stored) && !seen.contains(&stored.id)).collect();
        if let Some(first) = missing.first() {
            let mut story = vec![format!("stored: {first}"), format!("{name} never heard it")];
            if missing.len() > 1 {
                story.push(format!("nor {} others", missing.len() - 1));
            }
            self.breach(Invariant::Complete, Fault::Lost, story);
        }
    }

    /// A message is shown as it stood at its event or later, and never goes back.
    fn check_texts(&mut self, history: &History) {
        let name = &history.name;
        let mut shown: HashMap<EventId, u64> = HashMap::new();
        for heard in history.heard() {
            let (Some(message), Some(n)) = (&heard.message, heard.n) else { continue };
            let Some(versions) = self.index.versions.get(&message.id) else { continue };
            let at_least = n.max(shown.get(&message.id).copied().unwrap_or(0));
            // A text may occur twice among the versions; the newest of them is the most lenient reading.
            let version = versions.iter().rev().find(|(_, text)| *text == message.text.as_deref()).map(|(n, _)| *n);
            match version {
                Some(version) if version >= at_least => {
                    shown.insert(message.id, at_least);
                }
                Some(version) => {
                    let story = format!("{name} heard number {n} of message {} as it stood at {version}", message.id);
                    self.breach(Invariant::Complete, Fault::Altered, [story, format!("heard: {heard}")]);
                }
                None => self.breach(
                    Invariant::Complete,
                    Fault::Altered,
                    [format!("{name} heard a text that nobody wrote: {heard}")],
                ),
            }
        }
    }
}

impl History {
    fn heard(&self) -> impl Iterator<Item = &Heard> {
        self.records.iter().filter_map(|record| match record {
            Record::Heard(heard) => Some(heard),
            _ => None,
        })
    }

    fn may_hear(&self, heard: &Heard) -> bool {
        self.may_see(heard.room, heard.conversation)
    }

    fn may_see(&self, room: RoomId, conversation: Option<ConversationId>) -> bool {
        match (self.sight.get(&room), conversation) {
            (None, _) => false,
            (Some(Sight::All), _) => true,
            (Some(Sight::Only(theirs)), Some(conversation)) => theirs.contains(&conversation),
            (Some(Sight::Only(_)), None) => false,
        }
    }

    /// Membership events from before the start of the watch are not counted on.
    fn must_hear(&self, stored: &Stored) -> bool {
        stored.kind != Kind::Other && self.may_see(stored.room, stored.conversation)
    }
}

#[cfg(test)]
mod tests;
