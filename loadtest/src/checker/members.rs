//! Who was in which room from when to when, by the log's own entries, and what they may hear by that.
//!
//! Owns: the intervals, and what follows from them. It is written from the design, not from the server's code. Refuses to know: what
//! anybody heard.

use super::history::{Place, Stored, Truth};
use homeroom_protocol::{About, Address, ConversationId, PersonId, RoomId};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// So long after a membership ended something may still be handed over: the design's 2 s, and a second for the client to read what
/// was handed over in time.
pub const REVOKED_WITHIN: Duration = Duration::from_secs(3);

/// A stretch of a room's log in which somebody was there.
#[derive(Debug, Clone)]
struct Stay {
    student: Option<PersonId>,
    /// A guardian: the announcements, and their conversation about this student. Staff hear all.
    hears: Option<[ConversationId; 2]>,
    joined: i64,
    after: i64,
    left: Option<i64>,
    /// When it was known that they had joined during the run, on its clock.
    joined_by: Option<Duration>,
    /// When it was known that they had left.
    left_by: Option<Duration>,
}

impl Stay {
    fn is_for(&self, conversation: Option<ConversationId>) -> bool {
        self.hears.is_none_or(|hears| conversation.is_some_and(|conversation| hears.contains(&conversation)))
    }

    /// Whether it began or ended during the run.
    fn is_of_run(&self) -> bool {
        self.joined_by.is_some() || self.left_by.is_some()
    }

    fn holds(&self, seq: i64) -> bool {
        seq > self.after && self.left.is_none_or(|left| seq <= left)
    }
}

/// What somebody may hear of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// All of it.
    Full,
    /// That there is one more: it changes a message from before their time.
    Withheld,
    /// It is not for them.
    Nothing,
    /// It was for them until their membership ended, which was too long ago.
    TooLate,
}

/// Everybody's stays.
#[derive(Debug, Default)]
pub struct Members {
    stays: HashMap<(RoomId, PersonId), Vec<Stay>>,
    /// Rooms in which somebody joined or left during the run.
    changed: BTreeSet<RoomId>,
    /// Who joined or left which room in a log that is gone.
    moved_before: BTreeSet<(RoomId, PersonId)>,
}

impl Members {
    /// Reads them off the log.
    #[must_use]
    pub fn new(truth: &Truth) -> Self {
        let changed = truth.moved.iter().map(|(room, _)| *room).collect();
        let mut members = Self { changed, moved_before: truth.moved.clone(), stays: HashMap::new() };
        for event in &truth.events {
            let Some(member) = event.member else { continue };
            let Place { room, person, student } = member.place;
            if event.known_by.is_some() {
                members.changed.insert(room);
            }
            let stays = members.stays.entry((room, person)).or_default();
            if member.joins {
                let private = |student| Address::Private(About { guardian: person, student }).conversation(room);
                let hears = student.map(|student| [Address::Announcements.conversation(room), private(student)]);
                let (joined, after) = (event.seq, member.sees_after);
                let joined_by = event.known_by;
                stays.push(Stay { student, hears, joined, after, left: None, joined_by, left_by: None });
            } else if let Some(stay) = stays.iter_mut().find(|stay| stay.student == student && stay.left.is_none()) {
                stay.left = Some(event.seq);
                stay.left_by = event.known_by;
            }
        }
        members
    }

    fn stays(&self, person: PersonId, room: RoomId) -> &[Stay] {
        self.stays.get(&(room, person)).map_or(&[], Vec::as_slice)
    }

    /// What a person may hear of an event whose message stands at `root`. `at`: when they heard it, if that tells when it was handed
    /// over.
    #[must_use]
    pub fn right(&self, person: PersonId, event: &Stored, root: i64, at: Option<Duration>) -> Right {
        let theirs = || self.stays(person, event.room).iter().filter(|stay| stay.is_for(event.conversation));
        let content = if theirs().any(|stay| stay.holds(root)) { Right::Full } else { Right::Withheld };
        // Whoever judged the event knew all that stands before it in the log.
        let there = |stay: &&Stay| stay.joined <= event.seq && stay.left.is_none_or(|left| event.seq <= left);
        let in_time = |stay: &Stay| match (stay.left_by, at) {
            (Some(left_by), Some(at)) => at <= left_by + REVOKED_WITHIN,
            _ => true,
        };
        // A node that is behind may know already that they are here again, and then tells them of what is from before.
        let back = |stay: &Stay| match (stay.joined_by, at) {
            (Some(joined_by), Some(at)) => content == Right::Withheld || at >= joined_by,
            _ => true,
        };
        if theirs().filter(there).any(in_time) || theirs().filter(|stay| stay.joined > event.seq).any(back) {
            content
        } else if theirs().any(|stay| there(&stay)) {
            Right::TooLate
        } else {
            Right::Nothing
        }
    }

    /// Whether somebody who began before this event and heard things up to `until` (all, if nothing is said) must have heard it.
    #[must_use]
    pub fn must_hear(&self, person: PersonId, event: &Stored, until: Option<i64>) -> bool {
        self.stays(person, event.room).iter().any(|stay| {
            stay.is_for(event.conversation)
                && stay.joined < event.seq
                // Staff may have heard of their own leaving as the last thing.
                && stay.left.is_none_or(|left| until.is_some_and(|until| left >= until))
        })
    }

    /// Where what a person may hear begins, if they began with nothing: by the stay that holds this seq, or their present one.
    #[must_use]
    pub fn began(&self, person: PersonId, room: RoomId, seq: Option<i64>) -> Option<i64> {
        let is_open = |stay: &&Stay| match seq {
            Some(seq) => stay.joined <= seq && stay.left.is_none_or(|left| seq <= left),
            None => stay.left.is_none(),
        };
        self.stays(person, room).iter().filter(is_open).map(|stay| stay.after).min()
    }

    /// Whether what a person may hear changed after this seq.
    #[must_use]
    pub fn changed_after(&self, person: PersonId, room: RoomId, seq: i64) -> bool {
        self.stays(person, room).iter().any(|stay| stay.joined > seq || stay.left.is_some_and(|left| left > seq))
    }

    /// Whether a person joined or left the room during the run.
    #[must_use]
    pub fn changed_during_run(&self, person: PersonId, room: RoomId) -> bool {
        self.moved_before.contains(&(room, person)) || self.stays(person, room).iter().any(Stay::is_of_run)
    }

    /// Whether a person joined or left any room during the run.
    #[must_use]
    pub fn has_moved(&self, person: PersonId) -> bool {
        self.moved_before.iter().any(|(_, who)| *who == person)
            || self.stays.iter().any(|((_, who), stays)| *who == person && stays.iter().any(Stay::is_of_run))
    }

    /// Whether anybody joined or left the room during the run.
    #[must_use]
    pub fn has_changed(&self, room: RoomId) -> bool {
        self.changed.contains(&room)
    }

    /// The rooms that a person is in at the end.
    pub fn rooms(&self, person: PersonId) -> impl Iterator<Item = RoomId> + '_ {
        let is_there = |stays: &[Stay]| stays.iter().any(|stay| stay.left.is_none());
        self.stays.iter().filter(move |((_, who), stays)| *who == person && is_there(stays)).map(|((room, _), _)| *room)
    }

    /// Who joined or left which room during the run.
    pub fn moved(&self) -> impl Iterator<Item = (RoomId, PersonId)> + '_ {
        self.stays.iter().filter(|(_, stays)| stays.iter().any(Stay::is_of_run)).map(|(key, _)| *key)
    }

    /// Who is where at the end.
    #[must_use]
    pub fn places(&self) -> BTreeSet<Place> {
        let there = |((room, person), stays): (&(RoomId, PersonId), &Vec<Stay>)| {
            let (room, person) = (*room, *person);
            let open = stays.iter().filter(|stay| stay.left.is_none());
            open.map(move |stay| Place { room, person, student: stay.student }).collect::<Vec<_>>()
        };
        self.stays.iter().flat_map(there).collect()
    }
}
