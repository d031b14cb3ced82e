//! The checker on histories made by hand: a good one, and the same broken in every way.

mod anew;
mod epochs;
mod marks;
mod stays;

use super::history::{Heard, Listening, Member, Noted, Place, Saying, Shown};
use super::tamper::Tampering;
use super::*;
use homeroom_protocol::{About, Address, ConversationId, ResetReason};
use std::collections::BTreeSet;

/// A small school: one room, a teacher, two guardians; everything said is acknowledged and heard.
struct School {
    room: RoomId,
    truth: Truth,
    histories: Vec<History>,
    now: Duration,
    /// Who is connected and there, by history.
    hears: Vec<bool>,
}

impl School {
    fn new() -> Self {
        let room = RoomId::new();
        let mut school =
            Self { room, truth: Truth::default(), histories: Vec::new(), now: Duration::ZERO, hears: Vec::new() };
        for name in ["teacher", "guardian one", "guardian two"] {
            let records = vec![Noted { at: Duration::ZERO, record: Record::Began { room, position: None } }];
            let (person, name) = (PersonId::new(), name.to_owned());
            school.histories.push(History { person, name, listening: Listening::AtOnce, records });
            school.hears.push(true);
            school.change_member(school.histories.len() - 1, true, None);
        }
        school
    }

    fn announcements(&self) -> ConversationId {
        Address::Announcements.conversation(self.room)
    }

    fn private(&self, guardian: usize) -> ConversationId {
        let guardian = self.histories[guardian].person;
        Address::Private(About { guardian, student: guardian }).conversation(self.room)
    }

    fn note(&mut self, history: usize, record: Record) {
        let at = self.now;
        self.histories[history].records.push(Noted { at, record });
    }

    /// Everybody who may hears the last event.
    fn tell(&mut self, heard: &Heard) {
        for history in 0..self.histories.len() {
            let mine = history > 0 && heard.conversation == Some(self.private(history));
            let theirs = history == 0 || mine || heard.conversation == Some(self.announcements());
            if self.hears[history] && theirs {
                self.note(history, Record::Heard(heard.clone()));
            }
        }
    }

    /// Somebody joins or leaves, and staff hear of it.
    fn change_member(&mut self, who: usize, joins: bool, known_by: Option<Duration>) {
        let (room, person, id) = (self.room, self.histories[who].person, EventId::new());
        let seq = self.truth.events.len() as i64 + 1;
        let place = Place { room, person, student: (who > 0).then_some(person) };
        let sees_after = if who > 0 { seq } else { 0 };
        let member = Some(Member { place, joins, sees_after });
        self.truth.events.push(Stored {
            room,
            seq,
            id,
            kind: Kind::Member,
            conversation: None,
            n: None,
            root: None,
            author: None,
            client_id: None,
            text: None,
            member,
            known_by,
        });
        self.tell(&Heard { room, id, conversation: None, n: None, message: None });
    }

    /// Says something, stores it, acknowledges it, and lets everybody hear it who may.
    fn say(&mut self, author: usize, conversation: ConversationId, saying: Saying) -> EventId {
        self.now += Duration::from_millis(100);
        let (client_id, id, room) = (ClientId::new(), EventId::new(), self.room);
        let earlier = self.truth.events.iter().filter(|event| event.conversation == Some(conversation)).count();
        let n = earlier as u64 + 1;
        let text = saying.text().map(str::to_owned);
        let root = saying.message().unwrap_or(id);
        self.note(author, Record::Said { client_id, room, conversation, saying: saying.clone() });
        self.truth.events.push(Stored {
            room,
            seq: self.truth.events.len() as i64 + 1,
            id,
            kind: saying.kind(),
            conversation: Some(conversation),
            n: Some(n),
            root: Some(root),
            author: Some(self.histories[author].person),
            client_id: Some(client_id),
            text: text.clone(),
            member: None,
            known_by: None,
        });
        self.note(author, Record::Acked { client_id, id, n });
        let message = Some(Shown { id: root, text });
        self.tell(&Heard { room, id, conversation: Some(conversation), n: Some(n), message });
        id
    }

    /// A day at school.
    fn day() -> Self {
        let mut school = Self::new();
        let (announcements, one, two) = (school.announcements(), school.private(1), school.private(2));
        let first = school.say(0, announcements, post("The trip is on Friday."));
        school.say(1, one, post("Ada is ill today."));
        school.say(2, two, post("Ben forgot his bag."));
        school.say(0, one, post("Get well soon!"));
        school.say(0, announcements, Saying::Edit { message: first, text: "The trip is on Monday.".into() });
        let taken_back = school.say(1, one, post("Thank you"));
        school.say(1, one, Saying::Retract { message: taken_back });
        school.say(0, announcements, post("Bring boots."));
        school
    }

    fn verdict(&self) -> Verdict {
        check(&self.truth, &self.histories.iter().collect::<Vec<_>>(), Stage::AtRest)
    }

    fn faults(&self) -> Vec<Fault> {
        self.verdict().breaches.into_iter().map(|breach| breach.fault).collect()
    }

    fn broken(&self) -> Vec<(Fault, Invariant)> {
        self.verdict().breaches.into_iter().map(|breach| (breach.fault, breach.invariant)).collect()
    }

    /// The n-th event with a message that a client heard.
    fn heard(&mut self, history: usize, place: usize) -> (&mut Vec<Noted>, usize) {
        let records = &mut self.histories[history].records;
        let is_message = |noted: &Noted| matches!(&noted.record, Record::Heard(heard) if heard.n.is_some());
        let places: Vec<usize> =
            records.iter().enumerate().filter(|(_, noted)| is_message(noted)).map(|(at, _)| at).collect();
        (records, places[place])
    }
}

fn post(text: &str) -> Saying {
    Saying::Post { text: text.to_owned() }
}

#[test]
fn a_good_day_passes() {
    let school = School::day();
    let verdict = school.verdict();
    assert_eq!(verdict.breaches, []);
    let deeds = [(Deed::Posted, 6), (Deed::Edited, 1), (Deed::Retracted, 1)].into();
    // The teacher also hears who comes.
    assert_eq!(verdict.counts, Counts { stored: 8, acked: 8, heard: 3 + 8 + (3 + 4) + (3 + 1), deeds });
}

#[test]
fn every_tampering_is_caught_wherever_it_is_done() {
    let mut school = School::day();
    school.leave_and_come_back();
    school.leave(2);
    school.mark(1, school.announcements(), 2, 1);
    assert_eq!(school.broken(), []);
    for tampering in Tampering::ALL {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let caught = tampering.is_caught(&school.truth, None, &school.histories, &mut random);
            assert_eq!(caught, Some(true), "{tampering:?}, seed {seed}");
        }
    }
}

#[test]
fn a_lost_event_is_told_shortly() {
    let mut school = School::day();
    let (records, place) = school.heard(1, 2);
    records.remove(place);
    let verdict = school.verdict();
    assert_eq!(verdict.breaches.len(), 1);
    let story = verdict.breaches[0].to_string();
    assert!(story.starts_with("Lost, against invariant 5 (") && story.contains("Get well soon!"), "{story}");
    assert!(story.contains("guardian one never heard it"), "{story}");
}

#[test]
fn a_run_under_way_may_miss_its_end_and_nothing_else() {
    let mut school = School::day();
    let (records, last) = school.heard(1, 6);
    records.remove(last);
    let under_way =
        |school: &School| check(&school.truth, &school.histories.iter().collect::<Vec<_>>(), Stage::UnderWay).breaches;
    assert_eq!(under_way(&school), []);
    let (records, place) = school.heard(1, 2);
    records.remove(place);
    assert_eq!(under_way(&school).len(), 1);
}

#[test]
fn an_event_shown_as_it_stands_now_is_right_and_as_it_was_is_wrong() {
    let mut school = School::day();
    let set = |school: &mut School, place: usize, text: Option<&str>| {
        let (records, place) = school.heard(1, place);
        let Record::Heard(Heard { message: Some(shown), .. }) = &mut records[place].record else { unreachable!() };
        shown.text = text.map(str::to_owned);
    };
    // Caught up after the edit: the first event already shows the new text.
    set(&mut school, 0, Some("The trip is on Monday."));
    assert_eq!(school.faults(), []);
    // The edit's event with the text before it.
    set(&mut school, 3, Some("The trip is on Friday."));
    assert_eq!(school.faults(), [Fault::Altered]);
    set(&mut school, 3, Some("The trip is on Monday."));
    // The retraction's event with the text that was taken back.
    set(&mut school, 5, Some("Thank you"));
    assert_eq!(school.faults(), [Fault::Altered]);
}

#[test]
fn what_was_taken_back_long_ago_is_not_shown_any_more() {
    let mut school = School::day();
    // Who was away and comes back seconds later hears the message, then that it was taken back, as if it had been live.
    let late = school.now + Duration::from_millis(2_900);
    for place in 4..7 {
        let (records, place) = school.heard(1, place);
        records[place].at = late;
    }
    assert_eq!(school.faults(), [], "for 3 s a node may not know of it");
    for place in 4..7 {
        let (records, place) = school.heard(1, place);
        records[place].at = late + Duration::from_secs(1);
    }
    assert_eq!(school.broken(), [(Fault::Altered, Invariant::Complete)]);
    school.histories[1].listening = Listening::Late;
    assert_eq!(school.faults(), [], "of a late reader nobody knows when it was handed over");
}

#[test]
fn a_second_answer_must_be_the_first_one() {
    let mut school = School::day();
    let is_ack = |noted: &&Noted| matches!(noted.record, Record::Acked { .. });
    let again = school.histories[0].records.iter().find(is_ack).cloned().unwrap();
    school.histories[0].records.push(again.clone());
    assert_eq!(school.faults(), [], "the same answer twice is what a retry gets");
    let Record::Acked { client_id, n, .. } = again.record else { unreachable!() };
    school.note(0, Record::Acked { client_id, id: EventId::new(), n });
    let broken = school.broken();
    assert!(!broken.is_empty());
    assert!(broken.iter().all(|broken| *broken == (Fault::Contradicted, Invariant::OneAnswer)), "{broken:?}");
}

#[test]
fn a_refusal_that_was_stored_is_a_contradiction() {
    let mut school = School::day();
    let client_id = school.truth.events.iter().find_map(|event| event.client_id).unwrap();
    school.note(0, Record::Refused { client_id, why: "no".into() });
    assert_eq!(school.broken(), [(Fault::Contradicted, Invariant::OneAnswer)]);
}

#[test]
fn a_refusal_needs_a_reason() {
    let mut school = School::day();
    let (client_id, room, conversation) = (ClientId::new(), school.room, school.private(1));
    school.note(1, Record::Said { client_id, room, conversation, saying: post("Hello?") });
    school.note(1, Record::Refused { client_id, why: "forbidden".into() });
    assert_eq!(school.broken(), [(Fault::Noticed, Invariant::OneAnswer)]);
    school.leave_and_come_back();
    assert_eq!(school.broken(), []);
}

#[test]
fn what_the_client_noticed_counts() {
    let mut school = School::day();
    school.note(2, Record::Anomaly(Invariant::SendingOrder, "out of order".into()));
    let (room, position) = (school.room, school.truth.events.last().map(|event| event.id));
    school.note(2, Record::Reset { room, position, reason: ResetReason::RightsChanged });
    assert_eq!(school.broken(), [(Fault::Noticed, Invariant::SendingOrder), (Fault::Noticed, Invariant::Complete)]);
}

#[test]
fn a_gap_in_the_log_itself_is_found() {
    let mut school = School::day();
    for event in &mut school.truth.events[6..] {
        event.seq += 1;
    }
    assert_eq!(school.broken(), [(Fault::Misnumbered, Invariant::Gapless)]);
}

#[test]
fn who_is_delayed_without_a_reason_is_found() {
    let mut school = School::day();
    let delays = |school: &School, until| {
        check_delays(&school.histories.iter().collect::<Vec<_>>(), Duration::ZERO, Duration::from_millis(until))
    };
    assert_eq!(delays(&school, 10_000), []);
    let (records, place) = school.heard(2, 1);
    records[place].at += Duration::from_secs(3);
    let found = delays(&school, 10_000);
    assert_eq!(found.iter().map(|breach| breach.invariant).collect::<Vec<_>>(), [Invariant::NobodyWaits]);
    assert!(found[0].to_string().contains("guardian two heard 3.00 s after"), "{}", found[0]);
    assert_eq!(delays(&school, 250), [], "what was acknowledged later does not count");
    school.histories[2].listening = Listening::Late;
    assert_eq!(delays(&school, 10_000), []);
}
