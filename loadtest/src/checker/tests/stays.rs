//! Who joins, leaves and comes back: what they must hear, and what they may not.

use super::*;

impl School {
    /// Guardian one leaves, something is said, they come back, and something more is said.
    pub(super) fn leave_and_come_back(&mut self) {
        let (announcements, room) = (self.announcements(), self.room);
        self.leave(1);
        self.say(0, announcements, post("While guardian one is away."));
        self.change_member(1, true, Some(self.now));
        self.hears[1] = true;
        self.note(1, Record::Began { room, position: None });
        self.say(0, announcements, post("Now they are back."));
    }

    pub(super) fn leave(&mut self, who: usize) {
        let room = self.room;
        self.change_member(who, false, Some(self.now));
        self.note(who, Record::Left { room });
        self.hears[who] = false;
    }

    /// The event as it was heard by another.
    fn as_heard(&self, history: usize, text: &str) -> Heard {
        let heard = |noted: &Noted| match &noted.record {
            Record::Heard(heard) if heard.message.as_ref()?.text.as_deref() == Some(text) => Some(heard.clone()),
            _ => None,
        };
        self.histories[history].records.iter().find_map(heard).unwrap()
    }
}

#[test]
fn who_comes_back_goes_on_from_there() {
    let mut school = School::day();
    school.leave_and_come_back();
    assert_eq!(school.broken(), []);
    let deeds = school.verdict().counts.deeds;
    assert_eq!((deeds[&Deed::Joined], deeds[&Deed::Left]), (1, 1));
}

#[test]
fn who_is_back_must_hear_what_is_said_from_then_on() {
    let mut school = School::day();
    school.leave_and_come_back();
    school.histories[1].records.pop();
    assert_eq!(school.broken(), [(Fault::Lost, Invariant::Complete)]);
}

#[test]
fn what_was_said_meanwhile_is_not_theirs() {
    let mut school = School::day();
    school.leave_and_come_back();
    let heard = school.as_heard(0, "While guardian one is away.");
    let last = school.histories[1].records.len() - 1;
    let at = school.now;
    school.histories[1].records.insert(last, Noted { at, record: Record::Heard(heard.clone()) });
    assert_eq!(school.broken(), [(Fault::Leaked, Invariant::Sight)]);
    // That there was something, without its text, is what a node may say that does not know yet since when they are back.
    school.histories[1].records[last].record = Record::Heard(Heard { message: None, ..heard });
    assert_eq!(school.broken(), []);
}

#[test]
fn what_is_theirs_is_shown_to_them() {
    let mut school = School::day();
    let (records, place) = school.heard(1, 2);
    let Record::Heard(heard) = &mut records[place].record else { unreachable!() };
    heard.message = None;
    assert_eq!(school.broken(), [(Fault::Lost, Invariant::Complete)]);
}

#[test]
fn nothing_is_handed_over_three_seconds_after_they_left() {
    let mut school = School::day();
    let (records, last) = school.heard(1, 6);
    let kept = records.remove(last);
    let left_at = school.now;
    school.leave(1);
    // In the order of the log it came before they left: on a node that does not know it yet they may hear it for 2 s.
    let before_left = school.histories[1].records.len() - 1;
    let mut late = kept.clone();
    late.at = left_at + Duration::from_millis(2_900);
    school.histories[1].records.insert(before_left, late);
    assert_eq!(school.broken(), []);
    school.histories[1].records[before_left].at = left_at + Duration::from_millis(3_100);
    let verdict = school.verdict();
    assert_eq!(school.broken(), [(Fault::Leaked, Invariant::Sight)]);
    assert!(verdict.breaches[0].to_string().contains("too long after they were put out"), "{}", verdict.breaches[0]);
    school.histories[1].listening = Listening::Late;
    assert_eq!(school.broken(), [], "of a late reader nobody knows when it was handed over");
}

#[test]
fn what_stands_after_their_leaving_is_never_theirs() {
    let mut school = School::day();
    let (announcements, one) = (school.announcements(), school.private(1));
    let first = school.truth.events.iter().find(|event| event.conversation == Some(announcements)).unwrap().id;
    school.leave(1);
    school.histories[1].records.pop();
    school.hears[1] = true;
    school.say(0, announcements, Saying::Edit { message: first, text: "There is no trip.".into() });
    let room = school.room;
    school.note(1, Record::Left { room });
    assert_eq!(school.broken(), [(Fault::Leaked, Invariant::Sight)], "although the message is from their time");
    assert_ne!(one, announcements);
}

#[test]
fn who_left_and_is_not_told_is_found() {
    let mut school = School::day();
    school.leave(1);
    school.histories[1].records.pop();
    assert_eq!(school.broken(), [(Fault::Untold, Invariant::Sight)]);
}

#[test]
fn who_joined_and_is_not_told_is_found() {
    let mut school = School::day();
    school.leave(1);
    school.change_member(1, true, Some(school.now));
    assert_eq!(school.broken(), [(Fault::Untold, Invariant::Complete)]);
}

#[test]
fn a_reset_is_right_when_rights_changed_or_too_much_was_missed() {
    let mut school = School::day();
    let (room, announcements) = (school.room, school.announcements());
    let position = school.truth.events.last().map(|event| event.id);
    // Away while it leaves and comes back; told at the next connection.
    school.hears[1] = false;
    school.change_member(1, false, Some(school.now));
    school.change_member(1, true, Some(school.now));
    school.note(1, Record::Reset { room, position: None, reason: ResetReason::RightsChanged });
    school.hears[1] = true;
    school.say(0, announcements, post("again"));
    assert_eq!(school.broken(), []);
    // Guardian two had no such reason.
    school.note(2, Record::Reset { room, position, reason: ResetReason::TooFarBehind });
    assert_eq!(school.faults(), [Fault::Noticed, Fault::Lost], "and what came after that position was not heard again");
    school.histories[2].records.pop();
    school.hears[2] = false;
    for number in 0..2_000 {
        school.say(0, announcements, post(&format!("number {number}")));
    }
    let position = school.truth.events.last().map(|event| event.id);
    school.note(2, Record::Reset { room, position, reason: ResetReason::TooFarBehind });
    assert_eq!(school.broken(), []);
    school.note(2, Record::Reset { room, position, reason: ResetReason::UnknownPosition });
    assert_eq!(school.broken(), [(Fault::Noticed, Invariant::Complete)]);
}

#[test]
fn places_are_those_of_the_schools_files() {
    let mut school = School::day();
    let mut planned: BTreeSet<Place> =
        school.truth.events.iter().filter_map(|event| event.member).map(|member| member.place).collect();
    school.truth.planned = Some(planned.clone());
    assert_eq!(school.broken(), []);
    let place = planned.pop_first().unwrap();
    school.truth.planned = Some(planned.clone());
    assert_eq!(school.broken(), [(Fault::Misplaced, Invariant::Sight)]);
    planned.extend([place, Place { person: PersonId::new(), ..place }]);
    school.truth.planned = Some(planned);
    assert_eq!(school.broken(), [(Fault::Misplaced, Invariant::Sight)]);
}

#[test]
fn who_heard_of_their_own_leaving_has_heard_all_before_it() {
    let mut school = School::day();
    school.leave(0);
    assert_eq!(school.broken(), []);
    let (records, place) = school.heard(0, 3);
    records.remove(place);
    assert_eq!(school.broken(), [(Fault::Lost, Invariant::Complete)]);
}
