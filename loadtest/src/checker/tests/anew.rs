//! Snapshots that are taken after a reset: what must be in them, and what may not.

use super::*;
use crate::checker::history::{Anew, Page};

impl School {
    /// What guardian one would be shown now, after they were told to go on after the last event.
    fn anew(&self) -> Anew {
        let (announcements, one) = (self.announcements(), self.private(1));
        let newest = |root: EventId| {
            let of_root = self.truth.events.iter().rfind(|event| event.root == Some(root)).unwrap();
            Shown { id: root, text: of_root.text.clone() }
        };
        let of = |conversation: ConversationId| {
            let theirs = move |event: &&Stored| event.conversation == Some(conversation);
            self.truth.events.iter().rev().filter(theirs)
        };
        let page = |conversation: ConversationId| -> Vec<(u64, Shown)> {
            let posts = of(conversation).filter(|event| event.kind == Kind::Posted);
            posts.map(|event| (event.n.unwrap(), newest(event.id))).collect()
        };
        let conversations = [announcements, one]
            .into_iter()
            .map(|conversation| {
                let last = of(conversation).next().unwrap().n.unwrap();
                (conversation, (last, page(conversation).first().map(|(_, shown)| shown.clone())))
            })
            .collect();
        let page_of = |conversation| Page { conversation, messages: page(conversation), more: false };
        let position = self.truth.events.last().map(|event| event.id);
        Anew { room: self.room, position, conversations, page: Some(page_of(announcements)) }
    }

    fn faults_of(&self, anew: Anew) -> Vec<Fault> {
        let mut histories = self.histories.clone();
        histories[1].records.push(Noted { at: self.now, record: Record::Anew(anew) });
        let verdict = check(&self.truth, &histories.iter().collect::<Vec<_>>(), Stage::AtRest);
        verdict.breaches.into_iter().map(|breach| breach.fault).collect()
    }
}

#[test]
fn all_that_there_is_is_right() {
    let school = School::day();
    assert_eq!(school.faults_of(school.anew()), []);
    // A snapshot may be newer than the position.
    let earlier = Anew { position: Some(school.truth.events[4].id), ..school.anew() };
    assert_eq!(school.faults_of(earlier), []);
}

#[test]
fn a_message_is_missing() {
    let school = School::day();
    let mut anew = school.anew();
    anew.page.as_mut().unwrap().messages.remove(0);
    assert_eq!(school.faults_of(anew), [Fault::Lost]);
    // Older ones may be on the next page.
    let mut anew = school.anew();
    let page = anew.page.as_mut().unwrap();
    page.messages.pop();
    assert_eq!(school.faults_of(anew.clone()), [Fault::Lost]);
    anew.page.as_mut().unwrap().more = true;
    assert_eq!(school.faults_of(anew), []);
}

#[test]
fn a_conversation_ends_too_early_or_is_not_there() {
    let school = School::day();
    let mut anew = school.anew();
    anew.conversations.get_mut(&school.private(1)).unwrap().0 -= 1;
    assert_eq!(school.faults_of(anew.clone()), [Fault::Lost]);
    anew.conversations.remove(&school.private(1));
    assert_eq!(school.faults_of(anew), [Fault::Lost]);
}

#[test]
fn a_text_that_was_changed_before_the_position_is_not_shown_any_more() {
    let school = School::day();
    let mut anew = school.anew();
    let (_, oldest) = anew.page.as_mut().unwrap().messages.last_mut().unwrap();
    assert_eq!(oldest.text.replace("The trip is on Friday.".into()).as_deref(), Some("The trip is on Monday."));
    assert_eq!(school.faults_of(anew.clone()), [Fault::Altered]);
    // Before it was changed it was right.
    let posted = school.truth.events.iter().position(|event| event.kind == Kind::Posted).unwrap();
    anew.position = Some(school.truth.events[posted].id);
    assert_eq!(school.faults_of(anew), []);
}

#[test]
fn what_is_not_theirs_and_what_nobody_wrote() {
    let school = School::day();
    let two = school.private(2);
    let theirs = school.truth.events.iter().find(|event| event.conversation == Some(two)).unwrap();
    let show = |shown: Shown| {
        let mut anew = school.anew();
        anew.conversations.insert(two, (1, Some(shown)));
        school.faults_of(anew)
    };
    assert_eq!(show(Shown { id: theirs.id, text: theirs.text.clone() }), [Fault::Leaked]);
    assert_eq!(show(Shown { id: EventId::new(), text: None }), [Fault::Invented]);
}
