//! A run in whose middle the database was put back to an earlier copy.
//!
//! Owns: what may be gone then and what may not, and cutting each history into what belongs to the log that is gone and what belongs to
//! the one that there is now: within either everything has to be right. Refuses to know: what is right within one log (see the other
//! rules).
//!
//! Where a client holds something that is gone, its history of that room is cut at the first word after it that it starts there anew or
//! is out. Where it holds nothing of that kind, what it heard until then is right in both logs.

mod tamper;

use super::history::{Anew, History, Listening, Noted, Record, Saying, Stored, Truth};
use super::members::Members;
use super::{Breach, Case, Counts, Fault, Index, Invariant, Stage, Verdict, check, count};
use homeroom_protocol::{ClientId, ConversationId, EventId, ResetReason, RoomId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
pub use tamper::tamper;

/// A restored backup.
#[derive(Debug, Clone)]
pub struct PutBack {
    /// The log that is gone, whole: as it was when nobody could reach it any more.
    pub gone: Truth,
    /// What of it was there again when it was put back.
    pub copy: Truth,
    /// When the copy was begun: what was acknowledged before is in it.
    pub copied: Duration,
    /// When somebody could reach the copy: what was answered before belongs to the log that is gone.
    pub restored: Duration,
}

impl PutBack {
    /// The events that are gone for good.
    #[must_use]
    pub fn lost(&self) -> HashSet<EventId> {
        let kept: HashSet<EventId> = self.copy.events.iter().map(|event| event.id).collect();
        self.gone.events.iter().map(|event| event.id).filter(|id| !kept.contains(id)).collect()
    }
}

/// Judges a run, with a restore in its middle or without one.
#[must_use]
pub fn judge(truth: &Truth, put_back: Option<&PutBack>, histories: &[&History], stage: Stage) -> Verdict {
    match put_back {
        Some(put_back) => check_put_back(truth, put_back, histories, stage),
        None => check(truth, histories, stage),
    }
}

/// The rooms of which a client holds what is gone, and has not been told so.
#[must_use]
pub fn unaware(history: &History, lost: &HashSet<EventId>) -> BTreeSet<RoomId> {
    let mut rooms = BTreeSet::new();
    for noted in &history.records {
        if let Some(room) = holds_lost(&noted.record, lost) {
            rooms.insert(room);
        } else if let Some(room) = begins_or_ends(&noted.record) {
            rooms.remove(&room);
        }
    }
    rooms
}

/// The room in which this puts a client at an event that is gone.
fn holds_lost(record: &Record, lost: &HashSet<EventId>) -> Option<RoomId> {
    match record {
        Record::Heard(heard) if lost.contains(&heard.id) => Some(heard.room),
        Record::Began { room, position: Some(id) } | Record::Reset { room, position: Some(id), .. } => {
            lost.contains(id).then_some(*room)
        }
        _ => None,
    }
}

/// The room in which a stretch begins or ends here.
fn begins_or_ends(record: &Record) -> Option<RoomId> {
    match record {
        Record::Began { room, .. } | Record::Reset { room, .. } | Record::Left { room } => Some(*room),
        _ => None,
    }
}

fn check_put_back(truth: &Truth, put_back: &PutBack, histories: &[&History], stage: Stage) -> Verdict {
    let lost = put_back.lost();
    let mut truth = truth.clone();
    truth.moved = Members::new(&put_back.gone).moved().collect();
    let rooms = rooms(&[&truth, &put_back.gone]);
    let mut case = Case { index: Index::new(&put_back.gone, histories), breaches: Vec::new() };
    case.check_nothing_invented(&put_back.gone, histories);
    case.check_kept(&put_back.gone, &put_back.copy, "the log that is gone");
    case.check_kept(&truth, &put_back.copy, "the log that there is now");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for history in histories {
        let cut = Cut::new(history, put_back, &truth, &lost, &rooms);
        case.check_told(history, &lost);
        case.check_needed(history, &lost);
        case.check_answers_told(history, &cut);
        let (first, second) = cut.apart(history);
        before.push(first);
        after.push(second);
    }
    let mut breaches = case.breaches;
    breaches.extend(check(&put_back.gone, &before.iter().collect::<Vec<_>>(), Stage::UnderWay).breaches);
    let now = check(&truth, &after.iter().collect::<Vec<_>>(), stage);
    breaches.extend(now.breaches);
    breaches.sort_by_key(|breach: &Breach| (breach.story.len(), breach.fault));
    // What was done is counted in both logs.
    let mut events: Vec<Stored> =
        put_back.gone.events.iter().filter(|event| lost.contains(&event.id)).cloned().collect();
    events.extend(truth.events.iter().cloned());
    let Counts { acked, heard, deeds, .. } = count(&Truth { events, ..Truth::default() }, histories, 0);
    Verdict { counts: Counts { acked, heard, deeds, stored: now.counts.stored }, breaches }
}

/// In which room a conversation is.
fn rooms(logs: &[&Truth]) -> HashMap<ConversationId, RoomId> {
    let events = logs.iter().flat_map(|log| &log.events);
    events.filter_map(|event| Some((event.conversation?, event.room))).collect()
}

/// By room in which a history holds something gone: where it was told to begin anew, or that it is out. Nothing: it never was.
pub(super) fn told(history: &History, lost: &HashSet<EventId>) -> BTreeMap<RoomId, Option<usize>> {
    let mut told = BTreeMap::new();
    for (place, noted) in history.records.iter().enumerate() {
        if let Some(room) = holds_lost(&noted.record, lost) {
            told.insert(room, None);
        } else if let Some(room) = begins_or_ends(&noted.record)
            && let Some(told) = told.get_mut(&room)
        {
            told.get_or_insert(place);
        }
    }
    told
}

/// Whether what stands at this place of a history, about a room, belongs to the log that there is now.
pub(super) fn is_of_present(told: &BTreeMap<RoomId, Option<usize>>, room: RoomId, place: usize) -> bool {
    told.get(&room).is_none_or(|told| told.is_some_and(|told| place >= told))
}

/// Where a history is cut, and what of it belongs to which log.
struct Cut<'a> {
    put_back: &'a PutBack,
    lost: &'a HashSet<EventId>,
    rooms: &'a HashMap<ConversationId, RoomId>,
    /// See [`told`].
    told: BTreeMap<RoomId, Option<usize>>,
    /// In which room something was said.
    said_in: HashMap<ClientId, RoomId>,
    /// What was said and is gone: answered in the log that is gone and not said again, refused there, or a change of a message that is
    /// gone.
    dropped: HashSet<ClientId>,
    /// What stands under a client id in the log that there is now, if it is what the client used that id for the second time: the first
    /// is gone, and so the second one is the first.
    reused: HashMap<ClientId, &'a str>,
}

impl<'a> Cut<'a> {
    fn new(
        history: &'a History,
        put_back: &'a PutBack,
        truth: &Truth,
        lost: &'a HashSet<EventId>,
        rooms: &'a HashMap<ConversationId, RoomId>,
    ) -> Self {
        let theirs = truth.events.iter().filter(|event| event.author == Some(history.person));
        let stored: HashMap<ClientId, &Stored> = theirs.filter_map(|event| Some((event.client_id?, event))).collect();
        let told = told(history, lost);
        let mut said_in = HashMap::new();
        let (mut dropped, mut reused, mut changes) = (HashSet::new(), HashMap::new(), HashSet::new());
        for noted in &history.records {
            match &noted.record {
                Record::Said { client_id, room, saying, .. } => {
                    said_in.insert(*client_id, *room);
                    if saying.message().is_some_and(|message| lost.contains(&message)) {
                        changes.insert(*client_id);
                    }
                }
                Record::Acked { client_id, id, .. } if lost.contains(id) && !stored.contains_key(client_id) => {
                    dropped.insert(*client_id);
                }
                Record::Refused { client_id, .. } if noted.at < put_back.restored || changes.contains(client_id) => {
                    dropped.insert(*client_id);
                }
                Record::Reused { client_id, text, .. } => {
                    let is_stored = |stored: &&&Stored| stored.text.as_ref() == Some(text);
                    let is_gone = put_back.gone.events.iter().any(|event| {
                        (event.author, event.client_id) == (Some(history.person), Some(*client_id))
                            && lost.contains(&event.id)
                    });
                    if is_gone && stored.get(client_id).filter(is_stored).is_some() {
                        reused.insert(*client_id, text.as_str());
                    }
                }
                _ => {}
            }
        }
        Self { put_back, lost, rooms, told, said_in, dropped, reused }
    }

    /// What of the history belongs to the log that is gone, and what to the one that there is now.
    fn apart(&self, history: &History) -> (History, History) {
        let last_told = self.told.values().flatten().max().copied().unwrap_or(0);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (place, noted) in history.records.iter().enumerate() {
            let early = noted.at < self.put_back.restored;
            let (first, second) = match &noted.record {
                Record::Heard(heard) => self.in_room(heard.room, place, early),
                Record::Began { room, .. } | Record::Reset { room, .. } => self.in_room(*room, place, early),
                // Whoever is out when they are told ends what they had, and begins nothing.
                Record::Left { room } if self.told.get(room) == Some(&Some(place)) => (true, false),
                Record::Left { room } => self.in_room(*room, place, early),
                // It may have been asked for in the one log and shown out of the other.
                Record::Anew(Anew { position, .. }) => {
                    (early, !early && !position.is_some_and(|position| self.lost.contains(&position)))
                }
                Record::Told { conversation, .. } => match self.rooms.get(conversation) {
                    // Until it tells them that the log is another one, a node may speak of the marks of either.
                    Some(room) => (early, !early && self.in_room(*room, place, early).1),
                    None => (early, !early),
                },
                Record::Marked { conversation, delivered, read } => {
                    let here = self.rooms.get(conversation).is_none_or(|room| self.in_room(*room, place, early).1);
                    let (at, conversation, delivered, read) = (noted.at, *conversation, *delivered, *read);
                    if early || !here {
                        after.push(Noted { at, record: Record::MarkedInGone { conversation, delivered, read } });
                    }
                    (true, !early && here)
                }
                Record::Said { client_id, .. } | Record::Refused { client_id, .. } => {
                    (early, !self.dropped.contains(client_id))
                }
                Record::Acked { id, .. } => {
                    let gone = self.lost.contains(id);
                    (early || gone, !gone)
                }
                Record::Reused { client_id, wrong, .. } => {
                    (early, !early && (wrong.is_none() || !self.reused.contains_key(client_id)))
                }
                // The first answer out of the log that there is now may come before the word that it is another one.
                Record::Anomaly(Invariant::SendingOrder, _) if !early && place < last_told => (false, false),
                _ => (early, !early),
            };
            if first {
                before.push(begun(noted));
            }
            if second {
                after.push(self.said_then(begun(noted)));
            }
        }
        (History { records: before, ..history.clone() }, History { records: after, ..history.clone() })
    }

    /// Heard before the client was told, or after; where it holds nothing that is gone, in both logs.
    fn in_room(&self, room: RoomId, place: usize, early: bool) -> (bool, bool) {
        let before = if self.told.contains_key(&room) { !is_of_present(&self.told, room, place) } else { early };
        (before, is_of_present(&self.told, room, place))
    }

    /// What was said twice under one client id was said the second time in the log that there is now.
    fn said_then(&self, mut noted: Noted) -> Noted {
        if let Record::Said { client_id, saying, .. } = &mut noted.record
            && let Some(text) = self.reused.get(client_id)
        {
            *saying = Saying::Post { text: (*text).to_owned() };
        }
        noted
    }
}

/// Whether a client was rightly told to start anew, since its position is in no log, is judged over both (see `check_needed`); within
/// one it begins there.
fn begun(noted: &Noted) -> Noted {
    let at = noted.at;
    match noted.record {
        Record::Reset { room, position, reason: ResetReason::UnknownPosition } => {
            Noted { at, record: Record::Began { room, position } }
        }
        _ => noted.clone(),
    }
}

impl Case<'_> {
    /// All of the copy stands where it stood.
    fn check_kept(&mut self, log: &Truth, copy: &Truth, name: &str) {
        let places: HashMap<EventId, &Stored> = log.events.iter().map(|event| (event.id, event)).collect();
        for event in &copy.events {
            let stands = places.get(&event.id).is_some_and(|stored| stored.seq == event.seq && stored.n == event.n);
            if !stands {
                let story = [format!("the copy held: {event}"), format!("{name} does not hold it there")];
                self.breach(Fault::Lost, Invariant::Durable, story);
            }
        }
    }

    /// Whoever holds what is gone was told so.
    fn check_told(&mut self, history: &History, lost: &HashSet<EventId>) {
        if history.listening == Listening::NotAtAll {
            return;
        }
        for room in unaware(history, lost) {
            let story = [
                format!("{} holds of room {room} what is gone since the copy was put back", history.name),
                "it was never told to start anew".to_owned(),
            ];
            self.breach(Fault::Differs, Invariant::Complete, story);
        }
    }

    /// Whoever holds nothing that is gone goes on.
    fn check_needed(&mut self, history: &History, lost: &HashSet<EventId>) {
        let mut held: HashMap<RoomId, Option<EventId>> = HashMap::new();
        for noted in &history.records {
            let (room, position) = match &noted.record {
                Record::Heard(heard) => (heard.room, Some(heard.id)),
                Record::Began { room, position } => (*room, *position),
                Record::Reset { room, position, reason } => {
                    let before = held.get(room).copied().flatten();
                    if *reason == ResetReason::UnknownPosition && !before.is_some_and(|id| lost.contains(&id)) {
                        let story = [
                            format!("{} was told to start room {room} anew", history.name),
                            format!("what it held last is not gone: {before:?}"),
                        ];
                        self.breach(Fault::Noticed, Invariant::Complete, story);
                    }
                    (*room, *position)
                }
                _ => continue,
            };
            held.insert(room, position);
        }
    }

    /// Whoever holds an acknowledgement of what is gone was answered after the copy was begun, and was told afterwards that the log is
    /// another one, or is out of the room.
    fn check_answers_told(&mut self, history: &History, cut: &Cut<'_>) {
        let mut open: HashMap<RoomId, Vec<String>> = HashMap::new();
        for noted in &history.records {
            if let Some(room) = begins_or_ends(&noted.record) {
                open.remove(&room);
            }
            let Record::Acked { client_id, id, n } = &noted.record else { continue };
            if !cut.lost.contains(id) {
                continue;
            }
            let holds = format!("{} holds an acknowledgement: {client_id} is {id}, number {n}", history.name);
            if noted.at < cut.put_back.copied {
                let why = "it came before the copy was begun, and is not in it".to_owned();
                self.breach(Fault::Lost, Invariant::Durable, [holds, why]);
            } else if let Some(room) = cut.said_in.get(client_id) {
                open.entry(*room).or_default().push(holds);
            }
        }
        if history.listening == Listening::NotAtAll {
            return;
        }
        for holds in open.into_values().flatten() {
            let why = "it is gone, and nobody told the client afterwards to start the room anew".to_owned();
            self.breach(Fault::Lost, Invariant::Durable, [holds, why]);
        }
    }
}
