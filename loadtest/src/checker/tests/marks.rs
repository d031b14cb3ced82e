//! Marks: said, stored, told and shown.

use super::super::history::StoredMark;
use super::super::marks::fallen;
use super::*;
use homeroom_protocol::Mark;

impl School {
    /// A client says how far it is; that is stored, and the teacher is told.
    pub(super) fn mark(&mut self, who: usize, conversation: ConversationId, delivered: u64, read: u64) {
        self.now += Duration::from_millis(100);
        self.note(who, Record::Marked { conversation, delivered, read });
        let mark = Mark { person: self.histories[who].person, delivered, read };
        self.store(conversation, mark);
        self.note(0, Record::Told { conversation, mark });
    }

    fn store(&mut self, conversation: ConversationId, mark: Mark) {
        self.truth.marks.retain(|stored| (stored.conversation, stored.mark.person) != (conversation, mark.person));
        self.truth.marks.push(StoredMark { conversation, mark });
    }

    fn stored(&mut self) -> &mut Mark {
        &mut self.truth.marks[0].mark
    }
}

const WRONG: (Fault, Invariant) = (Fault::Mismarked, Invariant::Marks);

fn marked() -> School {
    let mut school = School::day();
    let (announcements, now) = (school.announcements(), school.now);
    school.mark(1, announcements, 2, 0);
    school.mark(1, announcements, 3, 1);
    assert!(school.now > now);
    school
}

#[test]
fn marks_that_were_said_are_right() {
    let mut school = marked();
    assert_eq!(school.broken(), []);
    assert_eq!(school.verdict().counts.deeds[&Deed::Marked], 2);
    let mark = *school.stored();
    let conversation = school.announcements();
    school.note(1, Record::Snapshot { marks: vec![(conversation, mark)] });
    school.note(
        0,
        Record::Snapshot { marks: vec![(conversation, Mark { person: PersonId::new(), delivered: 0, read: 0 })] },
    );
    assert_eq!(school.broken(), []);
}

#[test]
fn a_mark_that_nobody_said_is_found() {
    let mut school = marked();
    let announcements = school.announcements();
    let person = school.histories[2].person;
    school.store(announcements, Mark { person, delivered: 1, read: 0 });
    assert_eq!(school.broken(), [WRONG]);
    // Delivered is not read.
    let mut school = marked();
    school.stored().read = 2;
    assert_eq!(school.broken(), [WRONG]);
}

#[test]
fn a_mark_told_before_it_was_said_is_found() {
    let mut school = marked();
    let told = |noted: &Noted| matches!(noted.record, Record::Told { .. });
    let place = school.histories[0].records.iter().rposition(told).unwrap();
    school.histories[0].records[place].at -= Duration::from_millis(50);
    assert_eq!(school.broken(), [WRONG]);
    // Also while the run goes on.
    let under_way = check(&school.truth, &school.histories.iter().collect::<Vec<_>>(), Stage::UnderWay);
    assert_eq!(under_way.breaches.iter().map(|breach| breach.invariant).collect::<Vec<_>>(), [Invariant::Marks]);
}

#[test]
fn a_mark_past_the_end_is_found() {
    let mut school = marked();
    let announcements = school.announcements();
    school.note(1, Record::Marked { conversation: announcements, delivered: 9, read: 0 });
    school.stored().delivered = 9;
    assert_eq!(school.broken(), [WRONG]);
    school.stored().delivered = 3;
    assert_eq!(school.broken(), [], "what is said is cut at the end");
}

#[test]
fn a_mark_that_went_back_is_found() {
    let mut school = marked();
    let before = school.truth.marks.clone();
    assert_eq!(fallen(&before, &school.truth.marks), None);
    school.stored().read = 0;
    assert!(fallen(&before, &school.truth.marks).is_some());
    assert!(fallen(&before, &[]).is_some());
    assert!(school.broken().contains(&WRONG), "somebody was told that it was further");
}

#[test]
fn a_mark_that_was_said_and_not_stored_is_found() {
    let mut school = marked();
    let conversation = school.private(2);
    school.note(2, Record::Marked { conversation, delivered: 1, read: 0 });
    assert_eq!(school.broken(), [(Fault::Unmarked, Invariant::Marks)]);
}

#[test]
fn a_device_that_is_shown_something_else_is_found() {
    let mut school = marked();
    let conversation = school.announcements();
    let mark = Mark { read: 0, ..*school.stored() };
    school.note(1, Record::Snapshot { marks: vec![(conversation, mark)] });
    assert_eq!(school.broken(), [WRONG]);
}
