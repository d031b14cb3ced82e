//! The checker on histories made by hand: a good one, and the same broken in every way.

use super::history::{Heard, Shown};
use super::tamper::Tampering;
use super::*;
use homeroom_protocol::{About, Address};
use std::collections::BTreeSet;

/// A small school: one room, a teacher, two guardians; everything said is acknowledged and heard.
struct School {
    room: RoomId,
    truth: Truth,
    histories: Vec<History>,
}

impl School {
    fn new() -> Self {
        let room = RoomId::new();
        let announcements = Address::Announcements.conversation(room);
        let mut histories = Vec::new();
        for name in ["teacher", "guardian one", "guardian two"] {
            let person = PersonId::new();
            let sight = if histories.is_empty() {
                Sight::All
            } else {
                Sight::Only(BTreeSet::from([announcements, private(room, person)]))
            };
            let sight = [(room, sight)].into();
            histories.push(History { person, name: name.to_owned(), sight, records: Vec::new() });
        }
        Self { room, truth: Truth::default(), histories }
    }

    fn announcements(&self) -> ConversationId {
        Address::Announcements.conversation(self.room)
    }

    fn private(&self, guardian: usize) -> ConversationId {
        private(self.room, self.histories[guardian].person)
    }

    /// Says something, stores it, acknowledges it, and lets everybody hear it who may.
    fn say(&mut self, author: usize, conversation: ConversationId, saying: Saying) -> EventId {
        let (client_id, id) = (ClientId::new(), EventId::new());
        let earlier = self.truth.events.iter().filter(|event| event.conversation == Some(conversation)).count();
        let n = earlier as u64 + 1;
        let text = saying.text().map(str::to_owned);
        let stored = Stored {
            room: self.room,
            seq: self.truth.events.len() as i64 + 1,
            id,
            kind: saying.kind(),
            conversation: Some(conversation),
            n: Some(n),
            root: Some(saying.message().unwrap_or(id)),
            author: Some(self.histories[author].person),
            client_id: Some(client_id),
            text: text.clone(),
        };
        let heard = Heard {
            room: self.room,
            id,
            conversation: Some(conversation),
            n: Some(n),
            message: Some(Shown { id: saying.message().unwrap_or(id), text }),
        };
        self.histories[author].records.push(Record::Said { client_id, conversation, saying });
        self.truth.events.push(stored);
        self.histories[author].records.push(Record::Acked { client_id, id, n });
        for history in &mut self.histories {
            if history.may_hear(&heard) {
                history.records.push(Record::Heard(heard.clone()));
            }
        }
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

    fn faults(&self) -> Vec<Fault> {
        check(&self.truth, &self.histories).breaches.into_iter().map(|breach| breach.fault).collect()
    }

    /// The n-th event that a client heard.
    fn heard(&mut self, history: usize, place: usize) -> (&mut Vec<Record>, usize) {
        let records = &mut self.histories[history].records;
        let places: Vec<usize> = records
            .iter()
            .enumerate()
            .filter(|(_, record)| matches!(record, Record::Heard(_)))
            .map(|(at, _)| at)
            .collect();
        (records, places[place])
    }
}

fn private(room: RoomId, guardian: PersonId) -> ConversationId {
    Address::Private(About { guardian, student: guardian }).conversation(room)
}

fn post(text: &str) -> Saying {
    Saying::Post { text: text.to_owned() }
}

#[test]
fn a_good_day_passes() {
    let school = School::day();
    let verdict = check(&school.truth, &school.histories);
    assert_eq!(verdict.breaches, []);
    let said = Counts { posted: 6, edited: 1, retracted: 1, ..Counts::default() };
    assert_eq!(verdict.counts, Counts { stored: 8, acked: 8, heard: 8 + 3 + 4 + 3 + 1, ..said });
}

#[test]
fn every_tampering_is_caught_wherever_it_is_done() {
    let school = School::day();
    for tampering in Tampering::ALL {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let caught = tampering.is_caught(&school.truth, &school.histories, &mut random);
            assert_eq!(caught, Some(true), "{tampering:?}, seed {seed}");
        }
    }
}

#[test]
fn a_lost_event_is_told_shortly() {
    let mut school = School::day();
    let (records, place) = school.heard(1, 2);
    records.remove(place);
    let verdict = check(&school.truth, &school.histories);
    assert_eq!(verdict.breaches.len(), 1);
    let story = verdict.breaches[0].to_string();
    assert!(story.starts_with("Lost, against invariant 5 (") && story.contains("Get well soon!"), "{story}");
    assert!(story.contains("guardian one never heard it"), "{story}");
}

#[test]
fn an_event_shown_as_it_stands_now_is_right_and_as_it_was_is_wrong() {
    let mut school = School::day();
    let set = |school: &mut School, place: usize, text: Option<&str>| {
        let (records, place) = school.heard(1, place);
        let Record::Heard(Heard { message: Some(shown), .. }) = &mut records[place] else { unreachable!() };
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
fn a_second_answer_must_be_the_first_one() {
    let mut school = School::day();
    let again =
        school.histories[0].records.iter().find(|record| matches!(record, Record::Acked { .. })).cloned().unwrap();
    school.histories[0].records.push(again.clone());
    assert_eq!(school.faults(), [], "the same answer twice is what a retry gets");
    let Record::Acked { client_id, n, .. } = again else { unreachable!() };
    school.histories[0].records.push(Record::Acked { client_id, id: EventId::new(), n });
    assert!(school.faults().iter().all(|fault| *fault == Fault::Contradicted));
}

#[test]
fn a_refusal_that_was_stored_is_a_contradiction() {
    let mut school = School::day();
    let client_id = school.truth.events[0].client_id.unwrap();
    school.histories[0].records.push(Record::Refused { client_id, why: "no".into() });
    assert_eq!(school.faults(), [Fault::Contradicted]);
}

#[test]
fn what_the_client_noticed_counts() {
    let mut school = School::day();
    school.histories[2].records.push(Record::Anomaly("a hole".into()));
    let room = school.room;
    school.histories[2].records.push(Record::Reset { room });
    assert_eq!(school.faults(), [Fault::Noticed, Fault::Noticed]);
}

#[test]
fn a_gap_in_the_log_itself_is_found() {
    let mut school = School::day();
    for event in &mut school.truth.events[4..] {
        event.seq += 1;
    }
    assert_eq!(school.faults(), [Fault::Misnumbered]);
}
