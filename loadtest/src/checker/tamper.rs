//! Breaks a good run, to prove that the checker would notice.
//!
//! Owns: one small damage of each kind, at a place chosen by seed. Refuses to know: how it is found.

use super::epochs::{PutBack, is_of_present, judge, told};
use super::history::{Heard, History, Kind, Listening, Member, Noted, Record, Stored, StoredMark, Truth};
use super::members::REVOKED_WITHIN;
use super::{Fault, Stage};
use homeroom_protocol::{ClientId, ConversationId, EventId, PersonId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tampering {
    /// A client does not hear an event.
    Unheard,
    /// A client hears an event twice.
    HeardTwice,
    /// A client hears two events of a room in the other order.
    HeardInDisorder,
    /// A guardian hears what another family said.
    HeardByAnother,
    /// A client hears an event long after its person was put out.
    HeardAfterLeaving,
    /// A client hears an event with another number.
    HeardMisnumbered,
    /// A client hears another text.
    HeardAltered,
    /// An acknowledged event is missing from the database.
    LostFromTheDatabase,
    /// What was said is stored twice.
    StoredTwice,
    /// Two things said one after the other are stored in the other order.
    StoredInDisorder,
    /// Something said is never answered.
    NeverAnswered,
    /// The same client id is answered differently the second time.
    AnsweredDifferently,
    /// A client hears of a room without having been told that it is in it.
    HeardWithoutBeingThere,
    /// A mark goes further than anybody said.
    MarkedBySomebodyElse,
    /// A mark falls behind what somebody was told.
    MarkedBack,
}

impl Tampering {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Unheard,
        Self::HeardTwice,
        Self::HeardInDisorder,
        Self::HeardByAnother,
        Self::HeardAfterLeaving,
        Self::HeardMisnumbered,
        Self::HeardAltered,
        Self::LostFromTheDatabase,
        Self::StoredTwice,
        Self::StoredInDisorder,
        Self::NeverAnswered,
        Self::AnsweredDifferently,
        Self::HeardWithoutBeingThere,
        Self::MarkedBySomebodyElse,
        Self::MarkedBack,
    ];

    /// What the checker must call it, among whatever else it says.
    #[must_use]
    pub fn fault(self) -> Fault {
        match self {
            Self::Unheard | Self::LostFromTheDatabase => Fault::Lost,
            Self::HeardTwice | Self::StoredTwice => Fault::Doubled,
            Self::HeardInDisorder | Self::StoredInDisorder => Fault::Reordered,
            Self::HeardByAnother | Self::HeardAfterLeaving | Self::HeardWithoutBeingThere => Fault::Leaked,
            Self::HeardMisnumbered => Fault::Misnumbered,
            Self::HeardAltered => Fault::Altered,
            Self::NeverAnswered => Fault::Unanswered,
            Self::AnsweredDifferently => Fault::Contradicted,
            Self::MarkedBySomebodyElse | Self::MarkedBack => Fault::Mismarked,
        }
    }

    /// Whether the checker finds this damage in a run that was good. Nothing when the run has no place for it.
    #[must_use]
    pub fn is_caught(
        self,
        truth: &Truth,
        put_back: Option<&PutBack>,
        histories: &[History],
        random: &mut fastrand::Rng,
    ) -> Option<bool> {
        let (mut truth, mut histories) = (truth.clone(), histories.to_vec());
        self.apply(&mut truth, put_back, &mut histories, random)?;
        let histories: Vec<&History> = histories.iter().collect();
        let verdict = judge(&truth, put_back, &histories, Stage::AtRest);
        Some(verdict.breaches.iter().any(|breach| breach.fault == self.fault()))
    }

    fn apply(
        self,
        truth: &mut Truth,
        put_back: Option<&PutBack>,
        histories: &mut [History],
        random: &mut fastrand::Rng,
    ) -> Option<()> {
        match self {
            Self::Unheard => {
                let (history, place, _) = pick_heard(histories, random)?;
                history.records.remove(place);
            }
            Self::HeardTwice => {
                let (history, place, _) = pick_heard(histories, random)?;
                let again = history.records[place].clone();
                history.records.insert(place + 1, again);
            }
            Self::HeardInDisorder => {
                let (history, place, heard) = pick_heard(histories, random)?;
                let is_next = |noted: &Noted| match &noted.record {
                    Record::Heard(also) => also.room == heard.room && also.n.is_some(),
                    _ => false,
                };
                let before = history.records[..place].iter().rposition(is_next);
                let after = history.records[place + 1..].iter().position(is_next).map(|next| place + 1 + next);
                let other = after.or(before)?;
                history.records.swap(place, other);
            }
            Self::HeardByAnother => hear_by_another(histories, random)?,
            Self::HeardAfterLeaving => hear_after_leaving(truth, put_back, histories, random)?,
            Self::HeardMisnumbered => {
                let (history, place, mut heard) = pick_heard(histories, random)?;
                heard.n = heard.n.map(|n| n + 1);
                history.records[place].record = Record::Heard(heard);
            }
            Self::HeardAltered => {
                let (history, place, mut heard) = pick_heard(histories, random)?;
                heard.message.as_mut()?.text = Some("something else".to_owned());
                history.records[place].record = Record::Heard(heard);
            }
            Self::LostFromTheDatabase => {
                let place = pick_said(truth, random)?;
                truth.events.remove(place);
            }
            Self::StoredTwice => {
                let place = pick_said(truth, random)?;
                let mut again = truth.events[place].clone();
                again.id = EventId::new();
                truth.events.insert(place + 1, again);
            }
            Self::StoredInDisorder => store_in_disorder(truth, histories)?,
            Self::NeverAnswered => {
                let (history, place) = first_answer(histories)?;
                history.records.remove(place);
            }
            Self::AnsweredDifferently => {
                let (history, place) = first_answer(histories)?;
                let mut again = history.records[place].clone();
                if let Record::Acked { id, .. } = &mut again.record {
                    *id = EventId::new();
                }
                history.records.push(again);
            }
            Self::HeardWithoutBeingThere => hear_without_being_there(histories)?,
            Self::MarkedBySomebodyElse => {
                // One further than its owner's clients ever said: a mark that lags behind what they said may well rise.
                let watched: HashSet<PersonId> = histories.iter().map(|history| history.person).collect();
                let theirs = |stored: &&mut StoredMark| watched.contains(&stored.mark.person);
                let mut marks: Vec<&mut StoredMark> = truth.marks.iter_mut().filter(theirs).collect();
                let place = random.usize(..marks.len().max(1));
                let damaged = marks.get_mut(place)?;
                damaged.mark.read = furthest_said(histories, damaged.conversation, damaged.mark.person) + 1;
            }
            Self::MarkedBack => {
                let told = histories.iter().flat_map(|history| &history.records).rev();
                let (conversation, person) = told.into_iter().find_map(|noted| match noted.record {
                    Record::Told { conversation, mark } if mark.delivered > 0 => Some((conversation, mark.person)),
                    _ => None,
                })?;
                truth.marks.retain(|stored| (stored.conversation, stored.mark.person) != (conversation, person));
            }
        }
        Some(())
    }
}

/// How far a person's clients said that they have read a conversation.
fn furthest_said(histories: &[History], conversation: ConversationId, person: PersonId) -> u64 {
    let theirs = histories.iter().filter(|history| history.person == person).flat_map(|history| &history.records);
    let said = theirs.filter_map(|noted| match noted.record {
        Record::Marked { conversation: of, read, .. } if of == conversation => Some(read),
        _ => None,
    });
    said.max().unwrap_or(0)
}

/// The first acknowledgement that somebody who listens holds.
fn first_answer(histories: &mut [History]) -> Option<(&mut History, usize)> {
    let is_answer = |noted: &Noted| matches!(noted.record, Record::Acked { .. });
    histories.iter_mut().filter(|history| history.listening != Listening::NotAtAll).find_map(|history| {
        let place = history.records.iter().position(is_answer)?;
        Some((history, place))
    })
}

/// Somebody hears in the end what none of their clients ever heard: a private word of others.
fn hear_by_another(histories: &mut [History], random: &mut fastrand::Rng) -> Option<()> {
    let mut heard_by: HashMap<ConversationId, HashSet<PersonId>> = HashMap::new();
    let mut words: BTreeMap<EventId, &Heard> = BTreeMap::new();
    for history in histories.iter() {
        for noted in &history.records {
            if let Record::Heard(heard) = &noted.record
                && let (Some(conversation), Some(_)) = (heard.conversation, &heard.message)
            {
                heard_by.entry(conversation).or_default().insert(history.person);
                words.insert(heard.id, heard);
            }
        }
    }
    let people: BTreeSet<PersonId> = histories
        .iter()
        .filter(|history| history.listening != Listening::NotAtAll)
        .map(|history| history.person)
        .collect();
    let secrets: Vec<(&Heard, PersonId)> = words
        .into_values()
        .filter_map(|heard| {
            let knowing = heard_by.get(&heard.conversation?)?;
            let stranger = people.iter().find(|person| !knowing.contains(person))?;
            Some((heard, *stranger))
        })
        .collect();
    let (secret, stranger) = *secrets.get(random.usize(..secrets.len().max(1)))?;
    let record = Record::Heard(secret.clone());
    let hears = |history: &&mut History| history.person == stranger && history.listening != Listening::NotAtAll;
    let stranger = histories.iter_mut().find(hears)?;
    let at = stranger.records.last()?.at;
    stranger.records.push(Noted { at, record });
    Some(())
}

/// The last thing heard before somebody was put out comes long after it.
fn hear_after_leaving(
    truth: &Truth,
    put_back: Option<&PutBack>,
    histories: &mut [History],
    random: &mut fastrand::Rng,
) -> Option<()> {
    let lost = put_back.map(PutBack::lost).unwrap_or_default();
    let put_out: Vec<_> = truth
        .events
        .iter()
        .filter(|event| event.known_by.is_some())
        .filter_map(|event| event.member.filter(|member| !member.joins).map(|member| (event, member)))
        .filter(|(event, member)| {
            // Who came back, or was there for another student too, may hear much all the same.
            let stays = |other: &Member| {
                let (here, same) = (other.place.room == event.room, other.place.person == member.place.person);
                here && same && other.place.student != member.place.student
            };
            let back =
                |other: &Stored| other.seq > event.seq && other.member.is_some_and(|back| back.place == member.place);
            !truth.events.iter().any(|other| other.member.as_ref().is_some_and(stays) || back(other))
        })
        .collect();
    let from = random.usize(..put_out.len().max(1));
    for (event, member) in put_out.iter().cycle().skip(from).take(put_out.len()) {
        let of_person =
            |history: &&mut History| history.person == member.place.person && history.listening == Listening::AtOnce;
        for history in histories.iter_mut().filter(of_person) {
            let is_left = |noted: &Noted| matches!(noted.record, Record::Left { room } if room == event.room);
            let known_by = event.known_by?;
            let left = history.records.iter().position(|noted| is_left(noted) && noted.at + REVOKED_WITHIN > known_by);
            let Some(left) = left else { continue };
            // What belongs to a log that is gone is judged by that one: there they may never have been put out.
            let told = told(history, &lost);
            let is_heard = |(place, noted): &(usize, &Noted)| {
                matches!(&noted.record, Record::Heard(heard) if heard.room == event.room)
                    && is_of_present(&told, event.room, *place)
            };
            let began = history.records[..left].iter().rposition(is_left).unwrap_or(0);
            let mut stretch = history.records.iter().enumerate().take(left).skip(began);
            if let Some((last, _)) = stretch.rfind(is_heard) {
                history.records[last].at = known_by + REVOKED_WITHIN * 2;
                return Some(());
            }
        }
    }
    None
}

/// The word that somebody is back in a room never comes, and what follows is heard all the same.
fn hear_without_being_there(histories: &mut [History]) -> Option<()> {
    for history in histories.iter_mut().filter(|history| history.listening != Listening::NotAtAll) {
        let left = history.records.iter().enumerate().find_map(|(place, noted)| match noted.record {
            Record::Left { room } => Some((place, room)),
            _ => None,
        });
        let Some((left, room)) = left else { continue };
        let back = history.records[left..]
            .iter()
            .position(|noted| matches!(noted.record, Record::Began { room: began, .. } if began == room));
        let Some(back) = back.map(|back| left + back) else { continue };
        let heard = history.records[back..].iter().any(
            |noted| matches!(&noted.record, Record::Heard(heard) if heard.room == room && heard.message.is_some()),
        );
        if heard {
            history.records.remove(back);
            return Some(());
        }
    }
    None
}

fn store_in_disorder(truth: &mut Truth, histories: &[History]) -> Option<()> {
    // By one client: what a person says on two devices has no order.
    let mut said_by: HashMap<ClientId, usize> = HashMap::new();
    for (client, history) in histories.iter().enumerate() {
        for noted in &history.records {
            if let Record::Said { client_id, .. } = noted.record {
                said_by.insert(client_id, client);
            }
        }
    }
    let client = |event: &Stored| event.client_id.and_then(|client_id| said_by.get(&client_id));
    let (first, second) = truth.events.iter().enumerate().find_map(|(place, first)| {
        let second = truth.events.iter().skip(place + 1).position(|second| {
            first.kind == Kind::Posted
                && second.kind == Kind::Posted
                && client(first).is_some()
                && client(second) == client(first)
                && second.conversation == first.conversation
        })?;
        Some((place, place + 1 + second))
    })?;
    let (n, seq) = (truth.events[first].n, truth.events[first].seq);
    (truth.events[first].n, truth.events[first].seq) = (truth.events[second].n, truth.events[second].seq);
    (truth.events[second].n, truth.events[second].seq) = (n, seq);
    truth.events.swap(first, second);
    Some(())
}

/// A client and an event with a message that it heard, and after which it heard another of the room in the same stretch.
fn pick_heard<'a>(histories: &'a mut [History], random: &mut fastrand::Rng) -> Option<(&'a mut History, usize, Heard)> {
    let places: Vec<(usize, usize)> = histories
        .iter()
        .enumerate()
        .filter(|(_, history)| history.listening == Listening::AtOnce)
        .flat_map(|(history, of_client)| {
            let heard = of_client.records.iter().enumerate();
            heard.filter(|(place, _)| is_followed(&of_client.records[*place..])).map(move |(place, _)| (history, place))
        })
        .collect();
    let (history, place) = *places.get(random.usize(..places.len().max(1)))?;
    let history = &mut histories[history];
    let Record::Heard(heard) = history.records[place].record.clone() else { return None };
    Some((history, place, heard))
}

/// Whether the first of these is a message heard, and another of its room follows before the stretch ends.
fn is_followed(records: &[Noted]) -> bool {
    let Some((first, rest)) = records.split_first() else { return false };
    let Record::Heard(heard) = &first.record else { return false };
    let next = rest.iter().find_map(|noted| match &noted.record {
        Record::Heard(also) if also.room == heard.room && also.n.is_some() => Some(true),
        Record::Left { room } | Record::Began { room, .. } | Record::Reset { room, .. } if *room == heard.room => {
            Some(false)
        }
        _ => None,
    });
    heard.message.is_some() && next == Some(true)
}

/// A stored event that a client appended.
fn pick_said(truth: &Truth, random: &mut fastrand::Rng) -> Option<usize> {
    let places: Vec<usize> = truth
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.client_id.is_some())
        .map(|(place, _)| place)
        .collect();
    places.get(random.usize(..places.len().max(1))).copied()
}
