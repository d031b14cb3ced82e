//! Who may see an event: the one function that decides it, where events are delivered and where they are read.
//!
//! Owns: a member's view of a room (their role and intervals), and [`View::sight`].
//! Refuses to know: where memberships are stored, and what a session or a page is.

use homeroom_protocol::{About, PersonId};

/// A stretch of the room's log: after `after`, up to and including `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// For a guardian: through which student. For staff: nothing.
    pub student: Option<PersonId>,
    /// What may be seen begins after this seq.
    pub after: i64,
    /// What may be seen ends with this seq; `None` while the membership is open.
    pub until: Option<i64>,
}

impl Interval {
    fn holds(&self, seq: i64) -> bool {
        seq > self.after && self.until.is_none_or(|until| seq <= until)
    }
}

/// What one person may see of one room. Whoever has no open interval is no member and sees nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// Staff see all that was begun in their time, every conversation and every change of membership.
    Staff {
        /// Their intervals, open ones among them.
        intervals: Box<[Interval]>,
    },
    /// Guardians see announcements, and their own conversation about each student they are here for.
    Guardian {
        /// Who.
        person: PersonId,
        /// Their intervals, open ones among them.
        intervals: Box<[Interval]>,
    },
}

/// What decides: where an event stands in the log, where the message it is about stands, and whom it is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The seq of the message that the event is about; of the event itself for other kinds.
    pub root_seq: i64,
    /// The conversation.
    pub thread: Thread,
}

/// Which part of a room an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// The room's own affairs, such as who joined and left: staff only.
    Room,
    /// Announcements: every member.
    Announcements,
    /// A private conversation: one guardian, about one student, and the staff.
    Private(About),
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// All of it.
    Full,
    /// Only that its conversation's number went up by one: it changes a message from before their time.
    Withheld,
    /// Not even that it exists.
    Nothing,
}

impl View {
    /// What this member sees of an event.
    #[must_use]
    pub fn sight(&self, subject: Subject) -> Sight {
        let seen = |intervals: &[Interval], student: Option<PersonId>| -> Sight {
            let mine = |interval: &&Interval| student.is_none() || interval.student == student;
            if !intervals.iter().filter(mine).any(|interval| interval.until.is_none()) {
                Sight::Nothing
            } else if intervals.iter().filter(mine).any(|interval| interval.holds(subject.root_seq)) {
                Sight::Full
            } else {
                Sight::Withheld
            }
        };
        match (self, subject.thread) {
            (Self::Staff { intervals }, _) => seen(intervals, None),
            (Self::Guardian { .. }, Thread::Room) => Sight::Nothing,
            (Self::Guardian { intervals, .. }, Thread::Announcements) => seen(intervals, None),
            (Self::Guardian { person, intervals }, Thread::Private(about)) => {
                if about.guardian == *person {
                    seen(intervals, Some(about.student))
                } else {
                    Sight::Nothing
                }
            }
        }
    }

    /// Where the member's present stay begins: events at or before it belong to another time, and a position there
    /// can't be gone on from. `None` for somebody who is no member now.
    #[must_use]
    pub fn present_after(&self) -> Option<i64> {
        let (Self::Staff { intervals } | Self::Guardian { intervals, .. }) = self;
        intervals.iter().filter(|interval| interval.until.is_none()).map(|interval| interval.after).min()
    }

    /// The last place in the log at which what the member may see changed. Who was last here before it starts anew: for some of
    /// what they hold, or of what they missed, another view would be the right one.
    #[must_use]
    pub fn changed_at(&self) -> i64 {
        let (Self::Staff { intervals } | Self::Guardian { intervals, .. }) = self;
        intervals.iter().map(|interval| interval.until.unwrap_or(interval.after)).max().unwrap_or(i64::MAX)
    }

    /// Where the member's first stay begins: nothing at or before it was ever theirs.
    #[must_use]
    pub fn first_after(&self) -> i64 {
        let (Self::Staff { intervals } | Self::Guardian { intervals, .. }) = self;
        intervals.iter().map(|interval| interval.after).min().unwrap_or(i64::MAX)
    }

    /// The last place before a subject at which the member sees what is said in its conversation: the end of an earlier stay, where the
    /// subject lies between two. `None` where nothing older is theirs.
    #[must_use]
    pub fn seen_until(&self, subject: Subject) -> Option<i64> {
        if self.sight(subject) == Sight::Nothing {
            return None;
        }
        let (Self::Staff { intervals } | Self::Guardian { intervals, .. }) = self;
        let student = match (self, subject.thread) {
            (Self::Guardian { .. }, Thread::Private(about)) => Some(about.student),
            _ => None,
        };
        let mine = intervals.iter().filter(|interval| student.is_none() || interval.student == student);
        let before = subject.root_seq - 1;
        let seen = |interval: &Interval| {
            let last = interval.until.map_or(before, |until| until.min(before));
            interval.holds(last).then_some(last)
        };
        mine.filter_map(seen).max()
    }

    /// The member's own entry in the log by which a guardian's stay changed last, where it was not the first: another child of theirs came
    /// or went, or they left and are back.
    #[must_use]
    pub fn came_or_went_at(&self) -> Option<i64> {
        let changed_at = self.changed_at();
        (!self.is_staff() && self.first_after() < changed_at).then_some(changed_at)
    }

    /// Whether the member is staff.
    #[must_use]
    pub fn is_staff(&self) -> bool {
        matches!(self, Self::Staff { .. })
    }

    /// The students whom a guardian is here for now.
    pub fn students(&self) -> impl Iterator<Item = PersonId> + '_ {
        let (Self::Staff { intervals } | Self::Guardian { intervals, .. }) = self;
        intervals.iter().filter(|interval| interval.until.is_none()).filter_map(|interval| interval.student)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(student: Option<PersonId>, after: i64) -> Interval {
        Interval { student, after, until: None }
    }

    fn subject(thread: Thread, root_seq: i64) -> Subject {
        Subject { root_seq, thread }
    }

    #[test]
    fn staff_see_everything_begun_in_their_time() {
        let about = About { guardian: PersonId::new(), student: PersonId::new() };
        let view = View::Staff { intervals: [open(None, 10)].into() };
        for thread in [Thread::Room, Thread::Announcements, Thread::Private(about)] {
            assert_eq!(view.sight(subject(thread, 11)), Sight::Full);
            assert_eq!(view.sight(subject(thread, 10)), Sight::Withheld);
        }
    }

    #[test]
    fn a_guardian_sees_announcements_and_their_own_conversations_only() {
        let (me, child, other) = (PersonId::new(), PersonId::new(), PersonId::new());
        let view = View::Guardian { person: me, intervals: [open(Some(child), 0)].into() };
        let private = |guardian, student| Thread::Private(About { guardian, student });
        assert_eq!(view.sight(subject(Thread::Announcements, 1)), Sight::Full);
        assert_eq!(view.sight(subject(private(me, child), 1)), Sight::Full);
        assert_eq!(view.sight(subject(private(other, child), 1)), Sight::Nothing);
        assert_eq!(view.sight(subject(private(me, other), 1)), Sight::Nothing);
        assert_eq!(view.sight(subject(Thread::Room, 1)), Sight::Nothing);
    }

    #[test]
    fn who_left_sees_nothing_and_who_came_back_sees_both_stays() {
        let (me, child) = (PersonId::new(), PersonId::new());
        let past = Interval { student: Some(child), after: 0, until: Some(10) };
        let gone = View::Guardian { person: me, intervals: [past].into() };
        assert_eq!(gone.sight(subject(Thread::Announcements, 5)), Sight::Nothing);
        let other = View::Guardian { person: me, intervals: [past, open(Some(PersonId::new()), 0)].into() };
        assert_eq!((other.present_after(), other.changed_at()), (Some(0), 10), "one of their children left");
        let back = View::Guardian { person: me, intervals: [past, open(Some(child), 20)].into() };
        for (root_seq, sight) in [(5, Sight::Full), (15, Sight::Withheld), (25, Sight::Full)] {
            assert_eq!(back.sight(subject(Thread::Announcements, root_seq)), sight);
        }
        assert_eq!((back.present_after(), back.changed_at()), (Some(20), 20));
    }

    #[test]
    fn what_is_older_is_theirs_from_the_end_of_an_earlier_stay_for_the_same_child() {
        let (me, child, other) = (PersonId::new(), PersonId::new(), PersonId::new());
        let past = |student, after, until| Interval { student: Some(student), after, until: Some(until) };
        let intervals = [past(child, 2, 10), past(other, 12, 14), past(child, 15, 15), open(Some(child), 20)];
        let view = View::Guardian { person: me, intervals: intervals.into() };
        let private = |student| Thread::Private(About { guardian: me, student });
        for (thread, seq, until) in [
            (Thread::Announcements, 18, Some(14)),
            (Thread::Announcements, 25, Some(24)),
            (Thread::Announcements, 12, Some(10)),
            (Thread::Announcements, 3, None),
            (private(child), 18, Some(10)),
            (private(child), 2, None),
            (private(other), 18, None),
            (Thread::Room, 18, None),
        ] {
            assert_eq!(view.seen_until(subject(thread, seq)), until, "{thread:?} before {seq}");
        }
        let staff =
            View::Staff { intervals: [Interval { student: None, after: 1, until: Some(4) }, open(None, 9)].into() };
        assert_eq!(staff.seen_until(subject(private(child), 7)), Some(4));
    }
}
