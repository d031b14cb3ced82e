//! A backup that is put back: what may be gone, and who must know.

use super::*;
use crate::checker::epochs::{PutBack, check_put_back, tamper};

/// A day, a copy, something more that is gone with the log, and an evening on the copy.
struct Restored {
    school: School,
    put_back: PutBack,
}

impl Restored {
    fn new() -> Self {
        let mut school = School::day();
        let (announcements, one) = (school.announcements(), school.private(1));
        let (kept, copied) = (school.truth.events.clone(), school.now);
        // Guardian two hears nothing of it: only a private word is said.
        school.now += Duration::from_millis(1);
        school.say(0, one, post("Is Ada better?"));
        school.say(1, one, post("She is."));
        let gone = std::mem::replace(&mut school.truth, Truth { events: kept, ..Truth::default() });
        school.now += Duration::from_secs(1);
        let (copy, restored) = (school.truth.clone(), school.now);
        for (history, conversations) in [(0, None), (1, Some([announcements, one]))] {
            let is_theirs = |event: &&Stored| match conversations {
                None => true,
                Some(theirs) => event.conversation.is_some_and(|conversation| theirs.contains(&conversation)),
            };
            let (room, last) = (school.room, copy.events.iter().rfind(is_theirs).map(|event| event.id));
            let reason = ResetReason::UnknownPosition;
            school.note(history, Record::Reset { room, position: last, reason });
        }
        school.say(0, announcements, post("We had a restore."));
        school.say(1, one, post("She is better."));
        Self { school, put_back: PutBack { gone, copy, copied: copied + Duration::from_millis(1), restored } }
    }

    fn faults(&self) -> Vec<Fault> {
        let verdict = check_put_back(&self.school.truth, &self.put_back, &self.school.histories, Stage::AtRest);
        verdict.breaches.iter().map(|breach| breach.fault).collect()
    }

    fn records(&mut self, history: usize) -> &mut Vec<Noted> {
        &mut self.school.histories[history].records
    }

    fn reset(&mut self, history: usize) -> usize {
        let is_reset = |noted: &Noted| matches!(noted.record, Record::Reset { .. });
        self.records(history).iter().position(is_reset).unwrap()
    }
}

#[test]
fn what_came_after_the_copy_may_be_gone() {
    let restored = Restored::new();
    assert_eq!(restored.put_back.lost().len(), 2);
    assert_eq!(restored.faults(), []);
    let tampered = tamper(&restored.school.truth, &restored.put_back, &restored.school.histories);
    assert!(tampered.iter().all(|(_, caught)| *caught == Some(true)), "{tampered:?}");
}

#[test]
fn a_change_of_what_is_gone_is_refused_rightly_and_of_what_is_kept_is_not() {
    let mut restored = Restored::new();
    let (room, announcements, at) = (restored.school.room, restored.school.announcements(), restored.put_back.restored);
    let refuse = |restored: &mut Restored, message: EventId| {
        let (client_id, saying) = (ClientId::new(), Saying::Retract { message });
        let said = Record::Said { client_id, room, conversation: announcements, saying };
        let refused = Record::Refused { client_id, why: "there is no such message".to_owned() };
        restored.records(0).extend([said, refused].map(|record| Noted { at, record }));
    };
    let gone = *restored.put_back.lost().iter().next().unwrap();
    refuse(&mut restored, gone);
    assert_eq!(restored.faults(), []);
    let kept = restored.put_back.copy.events.last().unwrap().id;
    refuse(&mut restored, kept);
    assert_eq!(restored.faults(), [Fault::Noticed]);
}

#[test]
fn without_a_restore_the_same_is_a_breach() {
    let restored = Restored::new();
    let faults = restored.school.faults();
    assert!(faults.contains(&Fault::Lost) && faults.contains(&Fault::Invented), "{faults:?}");
}

#[test]
fn who_holds_what_is_gone_must_be_told() {
    let mut restored = Restored::new();
    let reset = restored.reset(1);
    restored.records(1).remove(reset);
    let faults = restored.faults();
    assert!(faults.contains(&Fault::Differs), "{faults:?}");
    // Their own acknowledgement is gone, too, and nobody says so.
    assert!(faults.contains(&Fault::Lost), "{faults:?}");
}

#[test]
fn who_holds_nothing_that_is_gone_goes_on() {
    let mut restored = Restored::new();
    let (room, at, copy) = (restored.school.room, restored.put_back.restored, restored.put_back.copy.clone());
    let announcements = restored.school.announcements();
    let last = copy.events.iter().rfind(|event| event.conversation == Some(announcements)).unwrap().id;
    let record = Record::Reset { room, position: Some(last), reason: ResetReason::UnknownPosition };
    let end = restored.records(2).len() - 1;
    restored.records(2).insert(end, Noted { at, record });
    assert_eq!(restored.faults(), [Fault::Noticed]);
}

#[test]
fn what_was_acknowledged_before_the_copy_must_be_there() {
    let mut restored = Restored::new();
    restored.put_back.copied += Duration::from_millis(150);
    assert_eq!(restored.faults(), [Fault::Lost]);
}

#[test]
fn what_is_acknowledged_after_the_restore_must_be_there() {
    let mut restored = Restored::new();
    let last = restored.school.truth.events.pop().unwrap();
    assert_eq!(last.text.as_deref(), Some("She is better."));
    let faults = restored.faults();
    assert!(faults.contains(&Fault::Lost) && faults.contains(&Fault::Invented), "{faults:?}");
}

#[test]
fn an_answer_of_the_log_that_is_gone_must_not_come_after_the_word_of_it() {
    let mut restored = Restored::new();
    let lost = restored.put_back.lost();
    let is_lost = |noted: &Noted| matches!(noted.record, Record::Acked { id, .. } if lost.contains(&id));
    let place = restored.records(1).iter().position(is_lost).unwrap();
    let answer = restored.records(1).remove(place);
    let at = restored.put_back.restored;
    restored.records(1).push(Noted { at, ..answer });
    assert!(restored.faults().contains(&Fault::Lost));
}

#[test]
fn what_is_heard_after_the_restore_is_exact() {
    let mut restored = Restored::new();
    let after = restored.reset(1) + 1;
    let is_heard = |noted: &Noted| matches!(noted.record, Record::Heard(_));
    let place = after + restored.records(1)[after..].iter().position(is_heard).unwrap();
    let heard = restored.records(1).remove(place);
    assert_eq!(restored.faults(), [Fault::Lost]);
    restored.records(1).insert(place, heard.clone());
    restored.records(1).insert(place, heard);
    assert_eq!(restored.faults(), [Fault::Doubled]);
}

#[test]
fn before_the_restore_nothing_may_be_missing_either() {
    let mut restored = Restored::new();
    let (records, place) = restored.school.heard(1, 2);
    records.remove(place);
    assert_eq!(restored.faults(), [Fault::Lost]);
}
