//! Breaks a good run, to prove that the checker would notice.
//!
//! Owns: one small damage of each kind, at a place chosen by seed. Refuses to know: how it is found.

use super::history::{Heard, History, Kind, Record, Sight, Truth};
use super::{Fault, check};
use homeroom_protocol::EventId;

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
}

impl Tampering {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Unheard,
        Self::HeardTwice,
        Self::HeardInDisorder,
        Self::HeardByAnother,
        Self::HeardMisnumbered,
        Self::HeardAltered,
        Self::LostFromTheDatabase,
        Self::StoredTwice,
        Self::StoredInDisorder,
        Self::NeverAnswered,
    ];

    /// What the checker must call it, among whatever else it says.
    #[must_use]
    pub fn fault(self) -> Fault {
        match self {
            Self::Unheard | Self::LostFromTheDatabase => Fault::Lost,
            Self::HeardTwice | Self::StoredTwice => Fault::Doubled,
            Self::HeardInDisorder | Self::StoredInDisorder => Fault::Reordered,
            Self::HeardByAnother => Fault::Leaked,
            Self::HeardMisnumbered => Fault::Misnumbered,
            Self::HeardAltered => Fault::Altered,
            Self::NeverAnswered => Fault::Unanswered,
        }
    }

    /// Whether the checker finds this damage in a run that was good. Nothing when the run has no place for it.
    #[must_use]
    pub fn is_caught(self, truth: &Truth, histories: &[History], random: &mut fastrand::Rng) -> Option<bool> {
        let (mut truth, mut histories) = (truth.clone(), histories.to_vec());
        self.apply(&mut truth, &mut histories, random)?;
        Some(check(&truth, &histories).breaches.iter().any(|breach| breach.fault == self.fault()))
    }

    fn apply(self, truth: &mut Truth, histories: &mut [History], random: &mut fastrand::Rng) -> Option<()> {
        match self {
            Self::Unheard => {
                let (history, place, _) = pick_heard(histories, random)?;
                history.records.remove(place);
            }
            Self::HeardTwice => {
                let (history, place, heard) = pick_heard(histories, random)?;
                history.records.insert(place + 1, Record::Heard(heard));
            }
            Self::HeardInDisorder => {
                let (history, place, heard) = pick_heard(histories, random)?;
                let other = history.records.iter().enumerate().find(|(other, record)| {
                    *other != place && matches!(record, Record::Heard(also) if also.room == heard.room)
                })?;
                let other = other.0;
                history.records.swap(place, other);
            }
            Self::HeardByAnother => {
                let secret = histories.iter().find_map(|history| {
                    history.records.iter().find_map(|record| match record {
                        Record::Heard(heard) if is_hidden_from_some(heard, histories) => Some(heard.clone()),
                        _ => None,
                    })
                })?;
                let other = histories.iter_mut().find(|history| !history.may_hear(&secret))?;
                other.records.push(Record::Heard(secret));
            }
            Self::HeardMisnumbered => {
                let (history, place, mut heard) = pick_heard(histories, random)?;
                heard.n = heard.n.map(|n| n + 1);
                history.records[place] = Record::Heard(heard);
            }
            Self::HeardAltered => {
                let (history, place, mut heard) = pick_heard(histories, random)?;
                heard.message.as_mut()?.text = Some("something else".to_owned());
                history.records[place] = Record::Heard(heard);
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
            Self::StoredInDisorder => {
                let (first, second) = truth.events.iter().enumerate().find_map(|(place, first)| {
                    let second = truth.events.iter().skip(place + 1).position(|second| {
                        first.client_id.is_some()
                            && second.author == first.author
                            && second.conversation == first.conversation
                    })?;
                    Some((place, place + 1 + second))
                })?;
                let (n, seq) = (truth.events[first].n, truth.events[first].seq);
                (truth.events[first].n, truth.events[first].seq) = (truth.events[second].n, truth.events[second].seq);
                (truth.events[second].n, truth.events[second].seq) = (n, seq);
                truth.events.swap(first, second);
            }
            Self::NeverAnswered => {
                let history = histories.iter_mut().find(|history| history.records.iter().any(is_ack))?;
                let place = history.records.iter().position(is_ack)?;
                history.records.remove(place);
            }
        }
        Some(())
    }
}

fn is_ack(record: &Record) -> bool {
    matches!(record, Record::Acked { .. })
}

fn is_hidden_from_some(heard: &Heard, histories: &[History]) -> bool {
    histories
        .iter()
        .any(|history| matches!(history.sight.get(&heard.room), Some(Sight::Only(_))) && !history.may_hear(heard))
}

/// A client and an event with a message that it heard.
fn pick_heard<'a>(histories: &'a mut [History], random: &mut fastrand::Rng) -> Option<(&'a mut History, usize, Heard)> {
    let places: Vec<(usize, usize)> = histories
        .iter()
        .enumerate()
        .flat_map(|(history, records)| {
            let heard = records.records.iter().enumerate();
            heard.filter(|(_, record)| is_message(record)).map(move |(place, _)| (history, place))
        })
        .collect();
    let (history, place) = *places.get(random.usize(..places.len().max(1)))?;
    let history = &mut histories[history];
    let Record::Heard(heard) = history.records[place].clone() else { return None };
    Some((history, place, heard))
}

fn is_message(record: &Record) -> bool {
    matches!(record, Record::Heard(heard) if heard.message.is_some())
}

/// A stored event that a client appended.
fn pick_said(truth: &Truth, random: &mut fastrand::Rng) -> Option<usize> {
    let places: Vec<usize> = truth
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.kind != Kind::Other)
        .map(|(place, _)| place)
        .collect();
    places.get(random.usize(..places.len().max(1))).copied()
}
