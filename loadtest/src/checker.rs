//! Does a run keep Homeroom's word? Compares what the database holds with what every client was told.
//!
//! Owns: the verdict. Nothing acknowledged is lost, nothing comes twice, out of order, to the wrong person, with another
//! number or another text; no mark moves by itself. Refuses to know: sockets, SQL, processes: it judges recorded histories only, so
//! that it can be tested on histories made by hand, broken in every way it must notice.

mod anew;
mod answers;
pub mod deed;
pub mod epochs;
mod heard;
pub mod history;
mod invariant;
mod log;
pub mod marks;
pub mod members;
pub mod tamper;

use self::deed::Deed;
use self::history::{History, Kind, Listening, Record, Stored, Truth};
use self::members::Members;
use homeroom_protocol::{ClientId, EventId, PersonId, RoomId};
pub use invariant::Invariant;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

/// While nothing is broken, everybody hears so soon after an acknowledgement. Generous: a machine may have other things to do.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

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
    /// Heard late although nothing was broken.
    Delayed,
    /// A mark that nobody said, that went back, or that differs between devices.
    Mismarked,
    /// A mark that was said and is not stored.
    Unmarked,
    /// Somebody is in a room where the school did not put them, or not where it did.
    Misplaced,
    /// A client does not know that it is in a room, or that it is not.
    Untold,
    /// A client holds what the log does not hold any more, and was not told.
    Differs,
    /// The client itself noticed that the server broke the protocol, or was reset or refused without need.
    Noticed,
}

impl Fault {
    /// Whether it can be a thing of time: what is not there yet may still come.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Lost | Self::Unanswered | Self::Unmarked | Self::Untold)
    }
}

/// How far the run has come that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It goes on: only what can't be put right any more counts. The database was read after the histories.
    UnderWay,
    /// All said things should be answered, all clients caught up.
    AtRest,
}

/// One breach, and the shortest story that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// In which way.
    pub fault: Fault,
    /// Of which promise.
    pub invariant: Invariant,
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
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Events in the database that clients appended.
    pub stored: usize,
    /// Acknowledgements held by clients.
    pub acked: usize,
    /// Events heard by clients.
    pub heard: usize,
    /// What was done, how often.
    pub deeds: BTreeMap<Deed, usize>,
}

/// The verdict on a run.
#[derive(Debug)]
pub struct Verdict {
    /// What was compared.
    pub counts: Counts,
    /// What was wrong; the shortest story first.
    pub breaches: Vec<Breach>,
}

/// Judges a run.
#[must_use]
pub fn check(truth: &Truth, histories: &[&History], stage: Stage) -> Verdict {
    let mut case = Case { index: Index::new(truth, histories), breaches: Vec::new() };
    case.check_log(truth);
    if stage == Stage::AtRest {
        case.check_nothing_invented(truth, histories);
        case.check_places(truth);
    }
    for history in histories {
        case.check_answers(history, stage);
        case.check_sending_order(history);
        case.check_heard(history, stage);
        for noted in &history.records {
            if let Record::Anew(anew) = &noted.record {
                case.check_anew(history, anew);
            }
        }
    }
    case.check_marks(truth, histories, stage);
    let mut breaches = case.breaches;
    breaches.sort_by_key(|breach| (breach.story.len(), breach.fault));
    let stored = case.index.by_client_id.len();
    Verdict { counts: count(truth, histories, stored), breaches }
}

fn count(truth: &Truth, histories: &[&History], stored: usize) -> Counts {
    let mut counts = Counts { stored, ..Counts::default() };
    for event in &truth.events {
        let deed = match (event.kind, event.member) {
            (Kind::Posted, _) => Deed::Posted,
            (Kind::Edited, _) => Deed::Edited,
            (Kind::Retracted, _) => Deed::Retracted,
            (_, Some(member)) if event.known_by.is_some() => {
                if member.joins {
                    Deed::Joined
                } else {
                    Deed::Left
                }
            }
            _ => continue,
        };
        *counts.deeds.entry(deed).or_default() += 1;
    }
    for noted in histories.iter().flat_map(|history| &history.records) {
        match &noted.record {
            Record::Acked { .. } => counts.acked += 1,
            Record::Heard(_) => counts.heard += 1,
            _ => {}
        }
        let deed = match noted.record {
            Record::Did(deed) => Some(deed),
            Record::Marked { .. } => Some(Deed::Marked),
            Record::Reset { .. } => Some(Deed::Reset),
            Record::Anew(_) => Some(Deed::LookedAnew),
            _ => None,
        };
        if let Some(deed) = deed {
            *counts.deeds.entry(deed).or_default() += 1;
        }
    }
    counts
}

/// Whether those who take in everything at once heard soon what was acknowledged between two moments in which nothing was broken but
/// the manners of some clients.
#[must_use]
pub fn check_delays(histories: &[&History], from: Duration, until: Duration) -> Vec<Breach> {
    let acked: HashMap<EventId, Duration> = histories
        .iter()
        .flat_map(|history| &history.records)
        .filter_map(|noted| match noted.record {
            Record::Acked { id, .. } if noted.at >= from && noted.at <= until => Some((id, noted.at)),
            _ => None,
        })
        .collect();
    let mut breaches = Vec::new();
    // Who comes and goes is late by their own doing.
    let stays = |history: &History| !history.records.iter().any(|noted| matches!(noted.record, Record::Did(_)));
    for history in histories.iter().filter(|history| history.listening == Listening::AtOnce && stays(history)) {
        let slowest = history
            .records
            .iter()
            .filter_map(|noted| match &noted.record {
                Record::Heard(heard) => Some((noted.at.saturating_sub(*acked.get(&heard.id)?), heard)),
                _ => None,
            })
            .max_by_key(|(took, _)| *took);
        if let Some((took, heard)) = slowest.filter(|(took, _)| *took > HEARD_WITHIN) {
            let story =
                vec![format!("{} heard {:.2} s after its acknowledgement: {heard}", history.name, took.as_secs_f64())];
            breaches.push(Breach { fault: Fault::Delayed, invariant: Invariant::NobodyWaits, story });
        }
    }
    breaches
}

/// One state of a message.
struct Version<'a> {
    /// The event that made it.
    event: EventId,
    /// Its number.
    n: u64,
    /// The text then; none when it was taken back.
    text: Option<&'a str>,
}

/// The database, by the keys that the rules ask for.
struct Index<'a> {
    by_id: HashMap<EventId, &'a Stored>,
    by_client_id: HashMap<(PersonId, ClientId), &'a Stored>,
    by_room: HashMap<RoomId, &'a [Stored]>,
    /// By message: its versions, in the order of the log.
    versions: HashMap<EventId, Vec<Version<'a>>>,
    /// When an event was first known to be committed: somebody held its acknowledgement.
    acked_at: HashMap<EventId, Duration>,
    members: Members,
}

impl<'a> Index<'a> {
    fn new(truth: &'a Truth, histories: &[&History]) -> Self {
        let mut index = Self {
            by_id: HashMap::new(),
            by_client_id: HashMap::new(),
            by_room: HashMap::new(),
            versions: HashMap::new(),
            acked_at: HashMap::new(),
            members: Members::new(truth),
        };
        for of_room in truth.events.chunk_by(|one, other| one.room == other.room) {
            if let Some(first) = of_room.first() {
                index.by_room.insert(first.room, of_room);
            }
        }
        for event in &truth.events {
            index.by_id.insert(event.id, event);
            if let (Some(author), Some(client_id)) = (event.author, event.client_id) {
                index.by_client_id.entry((author, client_id)).or_insert(event);
            }
            if let (Some(root), Some(n)) = (event.root, event.n) {
                let version = Version { event: event.id, n, text: event.text.as_deref() };
                index.versions.entry(root).or_default().push(version);
            }
        }
        for noted in histories.iter().flat_map(|history| &history.records) {
            if let Record::Acked { id, .. } = noted.record {
                let at = index.acked_at.entry(id).or_insert(noted.at);
                *at = noted.at.min(*at);
            }
        }
        index
    }

    /// Where the message of an event stands in its room's log.
    fn root(&self, event: &Stored) -> i64 {
        event.root.and_then(|root| self.by_id.get(&root)).map_or(event.seq, |root| root.seq)
    }
}

struct Case<'a> {
    index: Index<'a>,
    breaches: Vec<Breach>,
}

impl Case<'_> {
    fn breach(&mut self, fault: Fault, invariant: Invariant, story: impl IntoIterator<Item = String>) {
        self.breaches.push(Breach { fault, invariant, story: story.into_iter().collect() });
    }
}

#[cfg(test)]
mod tests;
