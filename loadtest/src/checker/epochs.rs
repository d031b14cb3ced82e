//! A run in whose middle the database was put back to an earlier copy.
//!
//! Owns: what may be gone then and what may not, and cutting each history into what belongs to the log that is gone and what belongs to
//! the one that there is now: within either everything has to be right. Refuses to know: what is right within one log (see the other
//! rules). It knows of no comings and goings of members, and of no marks, around the restore.

use super::history::{History, Listening, Noted, Record, Stored, Truth};
use super::{Breach, Case, Counts, Fault, Index, Invariant, Stage, Verdict, check};
use homeroom_protocol::{ClientId, EventId, ResetReason, RoomId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

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

/// The rooms of which a client holds what is gone, and has not been told so.
#[must_use]
pub fn unaware(history: &History, put_back: &PutBack, lost: &HashSet<EventId>) -> BTreeSet<RoomId> {
    let mut rooms = BTreeSet::new();
    for noted in &history.records {
        match &noted.record {
            Record::Heard(heard) if lost.contains(&heard.id) => drop(rooms.insert(heard.room)),
            Record::Reset { room, .. } if noted.at >= put_back.restored => drop(rooms.remove(room)),
            _ => {}
        }
    }
    rooms
}

/// Judges such a run.
#[must_use]
pub fn check_put_back(truth: &Truth, put_back: &PutBack, histories: &[History], stage: Stage) -> Verdict {
    let lost = put_back.lost();
    let all: Vec<&History> = histories.iter().collect();
    let mut case = Case { index: Index::new(&put_back.gone, &all), breaches: Vec::new() };
    case.check_nothing_invented(&put_back.gone, &all);
    case.check_kept(&put_back.gone, &put_back.copy, "the log that is gone");
    case.check_kept(truth, &put_back.copy, "the log that there is now");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for history in histories {
        let cut = case.cut(history, put_back, &lost);
        before.push(cut.0);
        after.push(cut.1);
    }
    let mut breaches = case.breaches;
    breaches.extend(check(&put_back.gone, &before.iter().collect::<Vec<_>>(), Stage::UnderWay).breaches);
    let now = check(truth, &after.iter().collect::<Vec<_>>(), stage);
    breaches.extend(now.breaches);
    breaches.sort_by_key(|breach: &Breach| (breach.story.len(), breach.fault));
    let is = |of: fn(&Record) -> bool| {
        histories.iter().flat_map(|history| &history.records).filter(|noted| of(&noted.record)).count()
    };
    let acked = is(|record| matches!(record, Record::Acked { .. }));
    let heard = is(|record| matches!(record, Record::Heard(_)));
    Verdict { counts: Counts { acked, heard, ..now.counts }, breaches }
}

/// Where a history is cut.
struct Cut {
    /// By room, where it was told that its position is not in the log.
    reset: BTreeMap<RoomId, usize>,
    rooms: HashMap<ClientId, RoomId>,
}

impl Cut {
    fn new(history: &History, put_back: &PutBack) -> Self {
        let (mut reset, mut rooms) = (BTreeMap::new(), HashMap::new());
        for (place, noted) in history.records.iter().enumerate() {
            match noted.record {
                Record::Reset { room, reason: ResetReason::UnknownPosition, .. } if noted.at >= put_back.restored => {
                    reset.entry(room).or_insert(place);
                }
                Record::Said { client_id, room, .. } => drop(rooms.insert(client_id, room)),
                _ => {}
            }
        }
        Self { reset, rooms }
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

    /// What of a history belongs to the log that is gone, and what to the one that there is now.
    fn cut(&mut self, history: &History, put_back: &PutBack, lost: &HashSet<EventId>) -> (History, History) {
        let cut = Cut::new(history, put_back);
        self.check_told(history, put_back, lost);
        self.check_needed(history, &cut, lost);
        let dropped = self.dropped(history, put_back, &cut, lost);
        let last_reset = cut.reset.values().max().copied().unwrap_or(0);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (place, noted) in history.records.iter().enumerate() {
            let early = noted.at < put_back.restored;
            let (first, second) = match &noted.record {
                Record::Heard(heard) => in_room(&cut, heard.room, place, early),
                Record::Began { room, .. } | Record::Left { room } | Record::Reset { room, .. } => {
                    in_room(&cut, *room, place, early)
                }
                Record::Said { client_id, .. } => (early, !dropped.contains(client_id)),
                Record::Acked { client_id, .. } => {
                    let gone = dropped.contains(client_id);
                    (early || gone, !gone)
                }
                Record::Refused { client_id, .. } => (early, !dropped.contains(client_id)),
                // The first answer out of the log that there is now may come before the word that it is another one.
                Record::Anomaly(Invariant::SendingOrder, _) if !early && place < last_reset => (false, false),
                _ => (early, !early),
            };
            if first {
                before.push(noted.clone());
            }
            if second {
                after.push(begun(noted, place, &cut));
            }
        }
        (History { records: before, ..history.clone() }, History { records: after, ..history.clone() })
    }

    /// Whoever holds what is gone was told so.
    fn check_told(&mut self, history: &History, put_back: &PutBack, lost: &HashSet<EventId>) {
        if history.listening == Listening::NotAtAll {
            return;
        }
        for room in unaware(history, put_back, lost) {
            let story = [
                format!("{} holds of room {room} what is gone since the copy was put back", history.name),
                "it was never told to start anew".to_owned(),
            ];
            self.breach(Fault::Differs, Invariant::Complete, story);
        }
    }

    /// Whoever holds nothing that is gone goes on.
    fn check_needed(&mut self, history: &History, cut: &Cut, lost: &HashSet<EventId>) {
        for (room, place) in &cut.reset {
            let held = history.records[..*place].iter().rev().find_map(|noted| match &noted.record {
                Record::Heard(heard) if heard.room == *room => Some(Some(heard.id)),
                Record::Began { room: began, position } if began == room => Some(*position),
                _ => None,
            });
            if !held.flatten().is_some_and(|id| lost.contains(&id)) {
                let story = [
                    format!("{} was told to start room {room} anew", history.name),
                    format!("what it held last is not gone: {held:?}"),
                ];
                self.breach(Fault::Noticed, Invariant::Complete, story);
            }
        }
    }

    /// What was said and answered in the log that is gone, and is gone with it: acknowledged after the copy was begun, and before the
    /// client was told to start the room anew; refused then; or a change of a message that is gone.
    fn dropped(
        &mut self,
        history: &History,
        put_back: &PutBack,
        cut: &Cut,
        lost: &HashSet<EventId>,
    ) -> HashSet<ClientId> {
        let mut dropped = HashSet::new();
        let mut changes: HashSet<ClientId> = HashSet::new();
        for (place, noted) in history.records.iter().enumerate() {
            match &noted.record {
                Record::Said { client_id, saying, .. }
                    if saying.message().is_some_and(|message| lost.contains(&message)) =>
                {
                    changes.insert(*client_id);
                }
                Record::Acked { client_id, id, n } if lost.contains(id) => {
                    let room = cut.rooms.get(client_id);
                    let told = room.and_then(|room| cut.reset.get(room)).is_some_and(|reset| place < *reset);
                    let holds = format!("{} holds an acknowledgement: {client_id} is {id}, number {n}", history.name);
                    let why = if noted.at < put_back.copied {
                        "it came before the copy was begun, and is not in it"
                    } else if !told && history.listening != Listening::NotAtAll {
                        "it is gone, and nobody told the client afterwards to start the room anew"
                    } else {
                        dropped.insert(*client_id);
                        continue;
                    };
                    self.breach(Fault::Lost, Invariant::Durable, [holds, why.to_owned()]);
                    dropped.insert(*client_id);
                }
                Record::Refused { client_id, .. } if noted.at < put_back.restored || changes.contains(client_id) => {
                    dropped.insert(*client_id);
                }
                _ => {}
            }
        }
        dropped
    }
}

/// Heard before the client was told to start anew, or after; where it was not, in both logs.
fn in_room(cut: &Cut, room: RoomId, place: usize, early: bool) -> (bool, bool) {
    cut.reset.get(&room).map_or((early, true), |reset| (place < *reset, place >= *reset))
}

/// A record of the log that there is now: what was told to start anew begins there.
fn begun(noted: &Noted, place: usize, cut: &Cut) -> Noted {
    match noted.record {
        Record::Reset { room, position, .. } if cut.reset.get(&room) == Some(&place) => {
            Noted { at: noted.at, record: Record::Began { room, position } }
        }
        _ => noted.clone(),
    }
}

/// Breaks a good run in the ways that only a restore knows; whether each is caught. Nothing where the run has no place for one.
#[must_use]
pub fn tamper(truth: &Truth, put_back: &PutBack, histories: &[History]) -> Vec<(&'static str, Option<bool>)> {
    let is_caught = |put_back: &PutBack, histories: &[History], fault: Fault| {
        let verdict = check_put_back(truth, put_back, histories, Stage::AtRest);
        verdict.breaches.iter().any(|breach| breach.fault == fault)
    };
    let lost = put_back.lost();
    let is_reset = |noted: &Noted| matches!(noted.record, Record::Reset { .. });
    let untold = histories.iter().position(|history| history.records.iter().any(is_reset)).map(|which| {
        let mut histories = histories.to_vec();
        histories[which].records.retain(|noted| !is_reset(noted));
        is_caught(put_back, &histories, Fault::Differs)
    });
    let gone = histories.iter().flat_map(|history| &history.records).find_map(|noted| match noted.record {
        Record::Acked { id, .. } if lost.contains(&id) => Some(noted.at),
        _ => None,
    });
    let copied_later = gone.map(|at| {
        let put_back = PutBack { copied: at + Duration::from_nanos(1), ..put_back.clone() };
        is_caught(&put_back, histories, Fault::Lost)
    });
    let needless = histories.iter().position(|history| {
        history.listening != Listening::NotAtAll && history.records.iter().any(|noted| noted.at > put_back.restored)
    });
    let needless = needless.and_then(|which| {
        let mut histories = histories.to_vec();
        let records = &mut histories[which].records;
        let heard = records.iter().rev().find_map(|noted| match &noted.record {
            Record::Heard(heard) if !lost.contains(&heard.id) => Some((noted.at, heard.room, heard.id)),
            _ => None,
        });
        let (at, room, id) = heard?;
        let record = Record::Reset { room, position: Some(id), reason: ResetReason::UnknownPosition };
        records.push(Noted { at: at.max(put_back.restored), record });
        Some(is_caught(put_back, &histories, Fault::Noticed))
    });
    let kept = put_back.copy.events.iter().position(|event| event.client_id.is_some()).map(|place| {
        let id = put_back.copy.events[place].id;
        let mut truth = truth.clone();
        truth.events.retain(|event| event.id != id);
        let verdict = check_put_back(&truth, put_back, histories, Stage::AtRest);
        verdict.breaches.iter().any(|breach| breach.fault == Fault::Lost)
    });
    vec![
        ("a client is not told to start anew", untold),
        ("what was acknowledged before the copy is gone", copied_later),
        ("a client is told to start anew without need", needless),
        ("what was in the copy is gone", kept),
    ]
}
