//! A backup that is put back: what may be gone, and who must know.

use super::*;
use crate::checker::epochs::{PutBack, judge, tamper};
use crate::checker::history::StoredMark;

/// A day, a copy, something more that is gone with the log, and an evening on the copy.
struct Restored {
    school: School,
    put_back: PutBack,
}

impl Restored {
    fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// Something happens first on the copy, with what is gone.
    fn with(first: impl FnOnce(&mut School, &[Stored])) -> Self {
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
        first(&mut school, &gone.events[copy.events.len()..]);
        school.say(0, announcements, post("We had a restore."));
        school.say(1, one, post("She is better."));
        Self { school, put_back: PutBack { gone, copy, copied: copied + Duration::from_millis(1), restored } }
    }

    fn faults(&self) -> Vec<Fault> {
        let histories: Vec<&History> = self.school.histories.iter().collect();
        let verdict = judge(&self.school.truth, Some(&self.put_back), &histories, Stage::AtRest);
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

#[test]
fn who_was_put_out_in_the_log_that_is_gone_may_be_in_again_and_out_again() {
    let mut school = School::day();
    let announcements = school.announcements();
    let (copy, copied) = (school.truth.clone(), school.now + Duration::from_millis(1));
    school.now += Duration::from_millis(2);
    school.leave(2);
    school.say(0, announcements, post("Guardian two is out."));
    let gone = std::mem::replace(&mut school.truth, copy.clone());
    school.now += Duration::from_secs(1);
    let (room, restored) = (school.room, school.now);
    for (history, last) in [(0, copy.events.len() - 1), (1, copy.events.len() - 1)] {
        let (position, reason) = (Some(copy.events[last].id), ResetReason::UnknownPosition);
        school.note(history, Record::Reset { room, position, reason });
    }
    // By the copy they are in; nobody has to tell them, and the files are imported again.
    school.say(0, announcements, post("We had a restore."));
    school.change_member(2, false, Some(school.now));
    school.say(0, announcements, post("Guardian two is out again."));
    let mut restored = Restored { school, put_back: PutBack { gone, copy, copied, restored } };
    assert_eq!(restored.faults(), []);
    // What is said after that is still not theirs.
    let last = restored.records(1).last().unwrap().clone();
    restored.records(2).push(last);
    assert!(restored.faults().contains(&Fault::Leaked));
}

#[test]
fn a_refusal_for_a_move_that_is_gone_is_right() {
    let mut restored = Restored::new();
    let (room, conversation, at) = (restored.school.room, restored.school.announcements(), restored.put_back.restored);
    let refuse = |restored: &mut Restored| {
        let (client_id, saying) = (ClientId::new(), post("Am I in?"));
        let said = Record::Said { client_id, room, conversation, saying };
        let refused = Record::Refused { client_id, why: "not a member".to_owned() };
        restored.records(1).extend([said, refused].map(|record| Noted { at, record }));
    };
    refuse(&mut restored);
    assert_eq!(restored.faults(), [Fault::Noticed]);
    let member = Member { place: Place { room, person: PersonId::new(), student: None }, joins: true, sees_after: 0 };
    let last = restored.put_back.gone.events.last().unwrap().clone();
    let moved = Stored {
        seq: last.seq + 1,
        id: EventId::new(),
        kind: Kind::Member,
        conversation: None,
        n: None,
        root: None,
        author: None,
        client_id: None,
        text: None,
        member: Some(member),
        known_by: Some(at),
        ..last
    };
    restored.put_back.gone.events.push(moved);
    assert_eq!(restored.faults(), []);
}

#[test]
fn marks_of_the_log_that_is_gone_need_not_be_in_this_one_and_later_ones_must() {
    let mut restored = Restored::new();
    let (one, at) = (restored.school.private(1), restored.put_back.restored);
    let person = restored.school.histories[1].person;
    let mark = |n| StoredMark { conversation: one, mark: homeroom_protocol::Mark { person, delivered: n, read: 0 } };
    let said = |n| Record::Marked { conversation: one, delivered: n, read: 0 };
    let reset = restored.reset(1);
    restored.records(1).insert(reset, Noted { at: at - Duration::from_millis(1), record: said(6) });
    restored.put_back.gone.marks = vec![mark(6)];
    restored.put_back.copy.marks = vec![mark(3)];
    restored.school.truth.marks = vec![mark(3)];
    assert_eq!(restored.faults(), []);
    // What was on its way when the log ended may be stored in this one, as far as that goes.
    restored.school.truth.marks = vec![mark(5)];
    assert_eq!(restored.faults(), []);
    restored.school.truth.marks = vec![mark(3)];
    restored.records(1).push(Noted { at: at + Duration::from_secs(1), record: said(5) });
    assert_eq!(restored.faults(), [Fault::Unmarked]);
    restored.school.truth.marks = vec![mark(5)];
    assert_eq!(restored.faults(), []);
    // A mark past the end of this log is of the other one.
    let mark = mark(6).mark;
    restored
        .records(0)
        .push(Noted { at: at + Duration::from_secs(1), record: Record::Told { conversation: one, mark } });
    assert!(restored.faults().contains(&Fault::Mismarked));
}

/// Guardian one says it under the client id of something that is gone.
fn say_under(school: &mut School, client_id: ClientId, text: &str) {
    let conversation = school.private(1);
    school.say(1, conversation, post(text));
    let stored = school.truth.events.last_mut().unwrap();
    let new = stored.client_id.replace(client_id).unwrap();
    let records = &mut school.histories[1].records;
    // They said it once, then; what came is the second answer to it.
    records.retain(|noted| !matches!(noted.record, Record::Said { client_id, .. } if client_id == new));
    for noted in records {
        if let Record::Acked { client_id: of, .. } = &mut noted.record
            && *of == new
        {
            *of = client_id;
        }
    }
}

#[test]
fn what_was_answered_in_the_log_that_is_gone_and_sent_again_stands_where_it_was_stored_again() {
    let mut restored = Restored::with(|school, gone| {
        let last = gone.last().unwrap();
        say_under(school, last.client_id.unwrap(), last.text.as_deref().unwrap());
    });
    assert_eq!(restored.faults(), []);
    let again = restored.school.truth.events.iter_mut().find(|event| event.text.as_deref() == Some("She is."));
    again.unwrap().text = Some("Something else.".to_owned());
    assert!(restored.faults().contains(&Fault::Altered));
}

#[test]
fn another_content_under_a_client_id_stands_only_where_the_first_is_gone() {
    let reused = |client_id, wrong: Option<&str>| {
        let (text, wrong) = ("Something else.".to_owned(), wrong.map(str::to_owned));
        Record::Reused { client_id, text, wrong }
    };
    let restored = Restored::with(|school, gone| {
        let first = gone.last().unwrap().client_id.unwrap();
        say_under(school, first, "Something else.");
        school.note(1, reused(first, Some("Acked")));
    });
    assert_eq!(restored.faults(), []);
    // Without a restore the same is a breach.
    let mut school = School::day();
    let said = school.histories[1].records.iter().find_map(|noted| match noted.record {
        Record::Said { client_id, .. } => Some(client_id),
        _ => None,
    });
    school.note(1, reused(said.unwrap(), None));
    assert_eq!(school.faults(), []);
    school.note(1, reused(said.unwrap(), Some("Acked")));
    assert_eq!(school.faults(), [Fault::Contradicted]);
}
