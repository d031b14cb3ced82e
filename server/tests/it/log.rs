//! The log on both engines: appending once, in order, by those who may; reading back as things stand now.

use crate::node::{Ground, School, eventually, guardian, log, staff};
use crate::on_both_engines;
use homeroom::log::append::{Line, OnBatch, Turns};
use homeroom::log::marks::OnMoved;
use homeroom::log::pages::{self, Holding, Pages};
use homeroom::log::{Append, AppendError, Listeners, Log, MarkUp, Place, What, places, read};
use homeroom_protocol::{
    Address, ClientId, Draft, Envelope, ErrorCode, EventBody, EventId, Language, PersonId, Role, RoomId,
};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

on_both_engines! {
    n_counts_per_conversation_and_seq_per_room
    the_same_command_always_gets_the_same_answer
    commands_at_once_from_many_tasks_make_no_hole
    rights_are_checked_under_the_lock
    many_peoples_places_are_read_at_once
    what_was_edited_or_retracted_is_read_as_it_stands
    a_guardian_misses_only_what_is_theirs
    who_comes_back_does_not_see_what_was_said_meanwhile
    marks_only_rise_and_never_past_the_end
    a_mark_moves_in_the_room_of_its_conversation_whatever_room_was_named
    a_poisoned_command_does_not_fail_its_neighbours
    history_pages_backwards
    history_goes_on_behind_a_gap_between_two_stays
    a_long_gap_between_two_stays_is_jumped_over
    pages_are_read_once_however_many_ask
    what_was_read_of_a_log_that_was_put_back_is_not_served_of_the_other
    pages_are_bounded_in_bytes
    a_page_that_ends_at_the_head_goes_on_when_the_head_does
    a_kind_of_a_newer_version_is_passed_on_by_its_columns
}

const HOLDING: Holding = Holding(1);

fn envelope(text: &str) -> Box<Envelope> {
    let draft = Draft { language: Language::english(), text: text.to_owned(), protected: Vec::new() };
    Box::new(draft.into_envelope(|_| Vec::new()).unwrap())
}

fn post(school: &School, author: PersonId, to: Address, text: &str) -> Append {
    let what = What::Post { to, envelope: envelope(text), urgent: false };
    Append { room: school.room, author, client_id: ClientId::new(), what, turn: None }
}

fn change(school: &School, author: PersonId, what: What) -> Append {
    Append { room: school.room, author, client_id: ClientId::new(), what, turn: None }
}

fn code(outcome: Result<homeroom::log::Appended, AppendError>) -> ErrorCode {
    match outcome {
        Err(AppendError::Refused(fault)) => fault.code,
        other => panic!("not refused: {other:?}"),
    }
}

async fn log_head(log: &Log, school: &School) -> i64 {
    read::head(log.db(), school.room).await.unwrap().unwrap().0
}

async fn seqs(log: &Log, school: &School) -> Vec<i64> {
    read::after(log.db(), school.room, 0, 10_000).await.unwrap().iter().map(|entry| entry.seq).collect()
}

/// On one thread, so that a lane that could run has run whenever this waits.
#[tokio::test]
async fn what_is_placed_before_a_lane_is_rung_is_one_batch() {
    let ground = Ground::sqlite();
    let school = School::open(&log(&ground).await).await;
    let batches = Arc::new(Mutex::new(Vec::new()));
    let noted = batches.clone();
    let batch: Arc<OnBatch> = Arc::new(move |size, _| noted.lock().unwrap().push(size));
    let log = Log::start(&ground.open().await, Listeners { batch, ..Listeners::none() });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let announcement = || post(&school, school.teacher, Address::Announcements, "x");
    let placed: Vec<_> = (0..16).map(|_| log.place(announcement(), None).unwrap()).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(batches.lock().unwrap().is_empty(), "nobody has rung");
    log.ring();
    for (n, placed) in (1..).zip(placed) {
        assert_eq!(placed.done().await.unwrap().n, n);
    }
    eventually("a batch is counted", || async { !batches.lock().unwrap().is_empty() }).await;
    assert_eq!(*batches.lock().unwrap(), [16]);
    // A lane that has nothing to do ends with the last who could say anything.
    drop(log);
    eventually("the lanes have ended", || async { Arc::strong_count(&batches) == 1 }).await;
}

async fn n_counts_per_conversation_and_seq_per_room(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let mut numbers = Vec::new();
    for (author, to) in [
        (school.teacher, Address::Announcements),
        (school.ana, school.with_ana()),
        (school.teacher, school.with_ana()),
        (school.teacher, Address::Announcements),
        (school.ben, school.with_ben()),
    ] {
        numbers.push(log.append(post(&school, author, to, "x")).await.unwrap().n);
    }
    assert_eq!(numbers, [1, 1, 2, 2, 1]);
    assert_eq!(seqs(&log, &school).await, (1..=8).collect::<Vec<i64>>(), "three joined, five were said");
}

async fn the_same_command_always_gets_the_same_answer(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let command = post(&school, school.ana, school.with_ana(), "once");
    let first = log.append(command.clone()).await.unwrap();
    assert_eq!(log.append(command.clone()).await.unwrap(), first);
    // At once, in the same batch.
    let twice = post(&school, school.ana, school.with_ana(), "at once");
    let (a, b) = tokio::join!(log.append(twice.clone()), log.append(twice));
    assert_eq!(a.unwrap(), b.unwrap());
    // Also when the author has lost the right meanwhile.
    log.change_members(school.room, vec![guardian(school.ana, school.anas_child, false)]).await.unwrap();
    assert_eq!(log.append(command.clone()).await.unwrap(), first);
    // Other content under the same id is told from it.
    let what = What::Post { to: school.with_ana(), envelope: envelope("other"), urgent: false };
    assert_eq!(code(log.append(Append { what, ..command }).await), ErrorCode::Conflict);
    let said = read::after(log.db(), school.room, 0, 100).await.unwrap();
    assert_eq!(said.iter().filter(|entry| matches!(entry.event.body, EventBody::Posted { .. })).count(), 2);
}

async fn commands_at_once_from_many_tasks_make_no_hole(ground: Ground) {
    let log = log(&ground).await;
    let school = Arc::new(School::open(&log).await);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (log, school) = (log.clone(), school.clone());
        tasks.spawn(async move {
            let (author, to) = match task % 3 {
                0 => (school.teacher, Address::Announcements),
                1 => (school.ana, school.with_ana()),
                _ => (school.ben, school.with_ben()),
            };
            let mut answers = Vec::new();
            for _ in 0..40 {
                answers
                    .push((to.conversation(school.room), log.append(post(&school, author, to, "x")).await.unwrap().n));
            }
            answers
        });
    }
    let answers = tasks.join_all().await.concat();
    let distinct: HashSet<_> = answers.iter().collect();
    assert_eq!(distinct.len(), 320, "no number is given twice");
    for address in [Address::Announcements, school.with_ana(), school.with_ben()] {
        let conversation = address.conversation(school.room);
        let mut numbers: Vec<i64> = answers.iter().filter(|(of, _)| *of == conversation).map(|(_, n)| *n).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    }
    assert_eq!(seqs(&log, &school).await, (1..=323).collect::<Vec<i64>>());
}

async fn rights_are_checked_under_the_lock(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let stranger = school.anas_child;
    for (author, to) in [
        (school.ana, Address::Announcements),
        (school.ana, school.with_ben()),
        (school.ana, Address::Private(homeroom_protocol::About { guardian: school.ana, student: school.bens_child })),
        (
            school.teacher,
            Address::Private(homeroom_protocol::About { guardian: school.ana, student: school.bens_child }),
        ),
        (stranger, school.with_ana()),
        (stranger, Address::Announcements),
    ] {
        assert_eq!(code(log.append(post(&school, author, to, "x")).await), ErrorCode::Forbidden);
    }
    let urgent = What::Post { to: school.with_ana(), envelope: envelope("now"), urgent: true };
    assert_eq!(code(log.append(change(&school, school.ana, urgent)).await), ErrorCode::Forbidden);
    let said = log.append(post(&school, school.teacher, school.with_ana(), "x")).await.unwrap();
    let edit = |message| What::Edit { message, envelope: envelope("y") };
    assert_eq!(
        code(log.append(change(&school, school.ana, edit(said.id))).await),
        ErrorCode::Forbidden,
        "not the author"
    );
    assert_eq!(
        code(log.append(change(&school, school.ben, edit(said.id))).await),
        ErrorCode::NotFound,
        "not even that it is there"
    );
    assert_eq!(code(log.append(change(&school, school.teacher, edit(EventId::new()))).await), ErrorCode::NotFound);
    let nowhere =
        Append { room: homeroom_protocol::RoomId::new(), ..post(&school, school.ana, school.with_ana(), "x") };
    assert_eq!(code(log.append(nowhere).await), ErrorCode::Forbidden);
    log.change_members(school.room, vec![staff(school.teacher, false)]).await.unwrap();
    assert_eq!(
        code(log.append(post(&school, school.teacher, Address::Announcements, "x")).await),
        ErrorCode::Forbidden
    );
    assert_eq!(code(log.append(change(&school, school.teacher, edit(said.id))).await), ErrorCode::Forbidden);
}

async fn many_peoples_places_are_read_at_once(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let nobody = PersonId::new();
    let asked = [school.teacher, nobody, school.ana, school.teacher];
    let places = places::of_people(log.db(), &asked).await.unwrap();
    let rooms =
        |of: &Vec<Place>| of.iter().map(|place| (place.room, place.role, place.view.clone())).collect::<Vec<_>>();
    assert_eq!(places.len(), asked.len());
    for (person, places) in asked.into_iter().zip(&places) {
        assert_eq!(rooms(places), rooms(&places::of_person(log.db(), person).await.unwrap()));
    }
    assert_eq!(
        places.iter().map(|of| of.iter().any(|place| place.role == Role::Staff)).collect::<Vec<_>>(),
        [true, false, false, true]
    );
    assert!(places[1].is_empty() && !places[2].is_empty());
}

async fn what_was_edited_or_retracted_is_read_as_it_stands(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let said = log.append(post(&school, school.ana, school.with_ana(), "frist")).await.unwrap();
    let edited = log
        .append(change(&school, school.ana, What::Edit { message: said.id, envelope: envelope("first") }))
        .await
        .unwrap();
    assert_eq!(edited.n, 2);
    let view = places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    let pages = Pages::new(log.db().clone(), 1 << 20);
    let head = log_head(&log, &school).await;
    let missed = pages.missed((school.room, HOLDING), &view, 0, head).await.unwrap().entries;
    let texts: Vec<String> =
        missed.iter().map(|entry| entry.message().unwrap().envelope.as_ref().unwrap().text.clone()).collect();
    assert_eq!(texts, ["first", "first"], "never as it was");
    assert!(missed[0].message().unwrap().edited_at.is_some());

    log.append(change(&school, school.ana, What::Retract { message: said.id })).await.unwrap();
    let head = log_head(&log, &school).await;
    pages.forget_message(school.room, Some(school.with_ana().conversation(school.room)), missed[0].seq);
    let missed = pages.missed((school.room, HOLDING), &view, 0, head).await.unwrap().entries;
    assert_eq!(missed.len(), 3);
    for entry in &missed {
        let message = entry.message().unwrap();
        assert!(message.envelope.is_none() && message.retracted_at.is_some());
        let shown = entry.payload(homeroom::log::Sight::Full).unwrap();
        assert!(!String::from_utf8_lossy(shown).contains("first"), "a retracted text is never shown again");
    }
    let page = read::history(log.db(), school.room, &view, school.with_ana().conversation(school.room), None, 10)
        .await
        .unwrap();
    assert_eq!(page.messages.len(), 1);
    assert!(page.messages[0].envelope.is_none());
    let again = change(&school, school.ana, What::Edit { message: said.id, envelope: envelope("back") });
    assert_eq!(code(log.append(again).await), ErrorCode::Invalid);
}

async fn a_guardian_misses_only_what_is_theirs(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    for round in 0..150 {
        log.append(post(&school, school.teacher, school.with_ben(), &format!("ben {round}"))).await.unwrap();
        if round % 3 == 0 {
            log.append(post(&school, school.teacher, school.with_ana(), &format!("ana {round}"))).await.unwrap();
            log.append(post(&school, school.teacher, Address::Announcements, &format!("all {round}"))).await.unwrap();
        }
    }
    let view = places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    let (head, _) = read::head(log.db(), school.room).await.unwrap().unwrap();
    let pages = Pages::new(log.db().clone(), 1 << 20);
    let mut cursor = 0;
    let mut seen = Vec::new();
    while cursor < head {
        let missed = pages.missed((school.room, HOLDING), &view, cursor, head).await.unwrap();
        assert!(missed.until > cursor, "each page goes on");
        seen.extend(missed.entries.iter().map(|entry| (entry.seq, entry.event.n.unwrap(), entry.thread)));
        cursor = missed.until;
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.is_sorted_by_key(|(seq, ..)| *seq));
    assert!(seen.iter().all(|(_, _, thread)| *thread != homeroom::log::Thread::from(school.with_ben())));
    let last = read::last_visible(log.db(), school.room, &view, head).await.unwrap();
    assert_eq!(read::seqs(log.db(), &[(school.room, last.unwrap())]).await.unwrap().len(), 1);
    assert!(!read::is_too_far(log.db(), school.room, &view, 0, head).await.unwrap());
}

async fn who_comes_back_does_not_see_what_was_said_meanwhile(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let announce = |text: &'static str| log.append(post(&school, school.teacher, Address::Announcements, text));
    announce("before").await.unwrap();
    log.change_members(school.room, vec![guardian(school.ana, school.anas_child, false)]).await.unwrap();
    assert!(places::of_person(log.db(), school.ana).await.unwrap().is_empty());
    announce("meanwhile").await.unwrap();
    log.change_members(school.room, vec![guardian(school.ana, school.anas_child, true)]).await.unwrap();
    announce("after").await.unwrap();
    let view = places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    let conversation = Address::Announcements.conversation(school.room);
    let page = read::history(log.db(), school.room, &view, conversation, None, 10).await.unwrap();
    let texts: Vec<String> = page.messages.into_iter().map(|message| message.envelope.unwrap().text).collect();
    assert_eq!(texts, ["after", "before"]);
}

async fn marks_only_rise_and_never_past_the_end(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    for _ in 0..3 {
        log.append(post(&school, school.teacher, Address::Announcements, "x")).await.unwrap();
    }
    let conversation = Address::Announcements.conversation(school.room);
    let mark = |delivered, read| MarkUp { room: school.room, conversation, person: school.ana, delivered, read };
    let stored = || async {
        homeroom::fetch_all!(
            log.db().reads(),
            (i64, i64),
            "SELECT delivered_n, read_n FROM mark WHERE person_id = $1",
            school.ana.0
        )
        .unwrap()
    };
    log.mark(mark(2, 0)).await.unwrap();
    assert_eq!(stored().await, [(2, 0)]);
    let (a, b) = tokio::join!(log.mark(mark(1, 1)), log.mark(mark(99, 0)));
    a.unwrap();
    b.unwrap();
    assert_eq!(stored().await, [(3, 1)]);
    log.mark(mark(0, 2)).await.unwrap();
    assert_eq!(stored().await, [(3, 2)]);
    let elsewhere = MarkUp { conversation: school.with_ben().conversation(school.room), ..mark(1, 1) };
    log.mark(elsewhere).await.unwrap();
    assert_eq!(stored().await.len(), 1, "a conversation in which nothing was said has no end to be marked");
}

/// Staff may name any conversation, one of a room that they had to leave among them.
async fn a_mark_moves_in_the_room_of_its_conversation_whatever_room_was_named(ground: Ground) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let noting = told.clone();
    let moved: Arc<OnMoved> = Arc::new(move |moved| {
        noting.lock().unwrap().extend(moved.iter().map(|moved| (moved.room, moved.mark.person, moved.mark.read)));
    });
    let log = Log::start(&ground.open().await, Listeners { moved, ..Listeners::none() });
    let school = School::open(&log).await;
    log.append(post(&school, school.teacher, Address::Announcements, "x")).await.unwrap();
    let conversation = Address::Announcements.conversation(school.room);
    let elsewhere = RoomId::new();
    let read = |room, person| log.mark(MarkUp { room, conversation, person, delivered: 1, read: 1 });
    // All within one second, on both sides of whose mark it is.
    let (teacher, ana, ben, again) = tokio::join!(
        read(elsewhere, school.teacher),
        read(school.room, school.ana),
        read(elsewhere, school.ben),
        read(school.room, school.ben),
    );
    [teacher, ana, ben, again].into_iter().for_each(|stored| stored.unwrap());
    eventually("who has read is told", || async { told.lock().unwrap().len() >= 2 }).await;
    assert_eq!(*told.lock().unwrap(), [(school.room, school.ana, 1), (school.room, school.ben, 1)]);
}

async fn a_poisoned_command_does_not_fail_its_neighbours(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    // The edge refuses NUL; this one gets past it, and PostgreSQL can't store it. SQLite can, so there it is a neighbour.
    let mut poison = envelope("x");
    poison.text = "a\0b".to_owned();
    let poison = Append {
        what: What::Post { to: school.with_ana(), envelope: poison, urgent: false },
        ..post(&school, school.ana, school.with_ana(), "x")
    };
    let turns = Arc::new(Turns::default());
    let good = |text: &str| {
        let good = post(&school, school.ben, school.with_ben(), text);
        let line = Line { room: school.room, conversation: Some(school.with_ben().conversation(school.room)) };
        Append { turn: Some(turns.next(line, good.client_id)), ..good }
    };
    let submitted: Vec<_> =
        [good("one"), poison, good("two")].into_iter().map(|append| log.submit(append).unwrap()).collect();
    let mut answers = Vec::new();
    for submitted in submitted {
        answers.push(submitted.done().await);
    }
    assert_eq!(answers[0].as_ref().unwrap().n, 1);
    assert_eq!(answers[2].as_ref().unwrap().n, 2);
}

async fn history_pages_backwards(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    for number in 1..=25 {
        log.append(post(&school, school.ana, school.with_ana(), &number.to_string())).await.unwrap();
    }
    let view = places::of_person(log.db(), school.teacher).await.unwrap().remove(0).view;
    let conversation = school.with_ana().conversation(school.room);
    let mut before = None;
    let mut read_back = Vec::new();
    loop {
        let page = read::history(log.db(), school.room, &view, conversation, before, 10).await.unwrap();
        read_back.extend(page.messages.iter().map(|message| message.n));
        before = page.messages.last().map(|message| message.n);
        if !page.more {
            break;
        }
    }
    assert_eq!(read_back, (1..=25).rev().collect::<Vec<u64>>());
    let others = places::of_person(log.db(), school.ben).await.unwrap().remove(0).view;
    let page = read::history(log.db(), school.room, &others, conversation, None, 10).await.unwrap();
    assert!(page.messages.is_empty(), "another guardian's page is empty, whatever the route forgot to check");
}

async fn history_goes_on_behind_a_gap_between_two_stays(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let announce = |text: String| {
        let append = post(&school, school.teacher, Address::Announcements, &text);
        let log = &log;
        async move { log.append(append).await.unwrap() }
    };
    announce("before".to_owned()).await;
    log.change_members(school.room, vec![guardian(school.ana, school.anas_child, false)]).await.unwrap();
    for round in 0..12 {
        announce(format!("meanwhile {round}")).await;
    }
    log.change_members(school.room, vec![guardian(school.ana, school.anas_child, true)]).await.unwrap();
    announce("after".to_owned()).await;
    let view = places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    let conversation = Address::Announcements.conversation(school.room);
    let newest = read::history(log.db(), school.room, &view, conversation, None, 1).await.unwrap();
    assert_eq!((newest.messages.len(), newest.more), (1, true));
    let before = Some(newest.messages[0].n);
    let older = read::history(log.db(), school.room, &view, conversation, before, 1).await.unwrap();
    let texts: Vec<String> = older.messages.into_iter().map(|message| message.envelope.unwrap().text).collect();
    assert_eq!(texts, ["before"], "a page that is wholly another time's is passed over");
    assert!(!older.more);
}

async fn a_long_gap_between_two_stays_is_jumped_over(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let announce = |text: &str| {
        let append = post(&school, school.teacher, Address::Announcements, text);
        let log = &log;
        async move { log.append(append).await.unwrap() }
    };
    let place = |joins| vec![guardian(school.ana, school.anas_child, joins)];
    // Two gaps, the older one short and just before the long one.
    announce("first").await;
    log.change_members(school.room, place(false)).await.unwrap();
    announce("not hers").await;
    log.change_members(school.room, place(true)).await.unwrap();
    for text in ["second", "third"] {
        announce(text).await;
    }
    log.change_members(school.room, place(false)).await.unwrap();
    for _ in 0..20 {
        let append = || post(&school, school.teacher, Address::Announcements, "meanwhile");
        let placed: Vec<_> = (0..100).map(|_| log.submit(append()).unwrap()).collect();
        for submitted in placed {
            submitted.done().await.unwrap();
        }
    }
    log.change_members(school.room, place(true)).await.unwrap();
    announce("last").await;
    let (room, conversation) = (school.room, Address::Announcements.conversation(school.room));
    let view = places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    // Whoever reads a message without an author fails: all of the gap but what lies within a page of its end.
    homeroom::execute!(
        log.db().writes(),
        "UPDATE event SET author_id = NULL WHERE room_id = $1 AND conversation_id = $2 AND n BETWEEN 5 AND 1900",
        room.0,
        conversation.0
    )
    .unwrap();
    for limit in [1, 2, 3, 100] {
        let (mut texts, mut from) = (Vec::new(), None);
        loop {
            let page = read::history(log.db(), room, &view, conversation, from, limit).await.unwrap();
            assert!(page.messages.len() <= limit as usize && !page.messages.is_empty());
            from = page.messages.last().map(|message| message.n);
            texts.extend(page.messages.into_iter().map(|message| message.envelope.unwrap().text));
            assert_eq!(page.more, texts.len() < 4, "limit {limit}: {texts:?}");
            if !page.more {
                break;
            }
        }
        assert_eq!(texts, ["last", "third", "second", "first"], "limit {limit}");
    }
}

async fn pages_are_read_once_however_many_ask(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    for round in 0..20 {
        log.append(post(&school, school.teacher, Address::Announcements, &format!("{round}"))).await.unwrap();
    }
    let (head, pages) = (log_head(&log, &school).await, Arc::new(Pages::new(log.db().clone(), 1 << 20)));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..64 {
        let (pages, room) = (pages.clone(), school.room);
        let person = if reader % 2 == 0 { school.ana } else { school.ben };
        let view = places::of_person(log.db(), person).await.unwrap().remove(0).view;
        readers.spawn(async move { pages.missed((room, HOLDING), &view, 3, head).await.unwrap() });
    }
    for missed in readers.join_all().await {
        assert_eq!((missed.entries.len(), missed.until), (20, head));
    }
    assert_eq!(pages.reads(), 1);
    assert_eq!(pages.hits(), 63);
    // A message that was edited is not served as it was, and only the pages that show it are read again.
    let said = log.append(post(&school, school.teacher, school.with_ben(), "frist")).await.unwrap();
    let edit = What::Edit { message: said.id, envelope: envelope("first") };
    let conversation = school.with_ben().conversation(school.room);
    log.append(change(&school, school.teacher, edit)).await.unwrap();
    pages.forget_message(school.room, Some(conversation), head + 1);
    let view = places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    pages.missed((school.room, HOLDING), &view, 3, head).await.unwrap();
    assert_eq!(pages.reads(), 1, "that page does not show it");
    pages.forget_room(school.room);
    assert_eq!(pages.bytes(), 0);
}

/// A page that ends where its reader believed the log to end holds for that reader's log alone.
async fn what_was_read_of_a_log_that_was_put_back_is_not_served_of_the_other(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let view = places::of_person(log.db(), school.teacher).await.unwrap().remove(0).view;
    let pages = Pages::new(log.db().clone(), 1 << 20);
    let head = log_head(&log, &school).await;
    // What this reader knew of was in the log before a copy was put back.
    let gone = pages.missed((school.room, HOLDING), &view, 0, head + 50).await.unwrap();
    assert_eq!((gone.entries.len() as i64, gone.until), (head, head + 50));
    log.append(post(&school, school.teacher, Address::Announcements, "since")).await.unwrap();
    let missed = pages.missed((school.room, Holding(2)), &view, 0, head + 1).await.unwrap();
    assert_eq!((missed.entries.len() as i64, missed.until), (head + 1, head + 1));
}

async fn pages_are_bounded_in_bytes(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let text = "word ".repeat(40);
    let rounds = 10 * pages::PAGE;
    let posts: Vec<_> =
        (0..rounds).map(|_| log.submit(post(&school, school.teacher, Address::Announcements, &text))).collect();
    for posted in posts {
        match posted {
            Ok(posted) => drop(posted.done().await.unwrap()),
            // The lane is full: one at a time then.
            Err(_) => drop(log.append(post(&school, school.teacher, Address::Announcements, &text)).await.unwrap()),
        }
    }
    let head = log_head(&log, &school).await;
    // Three pages and a little.
    let most = 600 * 1024;
    let pages = Pages::new(log.db().clone(), most);
    let view = places::of_person(log.db(), school.teacher).await.unwrap().remove(0).view;
    for _ in 0..2 {
        let (mut cursor, mut seen) = (0, 0);
        while cursor < head {
            let missed = pages.missed((school.room, HOLDING), &view, cursor, head).await.unwrap();
            seen += missed.entries.len() as i64;
            cursor = missed.until;
            assert!(pages.bytes() <= most, "{} bytes are kept", pages.bytes());
        }
        assert_eq!(seen, head);
    }
    assert!(pages.bytes() > most / 2, "what fits is kept");
}

async fn a_page_that_ends_at_the_head_goes_on_when_the_head_does(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let pages = Pages::new(log.db().clone(), 1 << 20);
    let view = places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    let mut cursor = log_head(&log, &school).await;
    for round in 0..2 * pages::PAGE {
        log.append(post(&school, school.teacher, Address::Announcements, &format!("{round}"))).await.unwrap();
        let head = log_head(&log, &school).await;
        // What this node has not heard of yet is never served.
        let nothing = pages.missed((school.room, HOLDING), &view, cursor, head - 1).await.unwrap();
        assert!(nothing.entries.is_empty());
        let missed = pages.missed((school.room, HOLDING), &view, cursor, head).await.unwrap();
        let texts: Vec<&str> = missed
            .entries
            .iter()
            .map(|entry| entry.message().unwrap().envelope.as_ref().unwrap().text.as_str())
            .collect();
        assert_eq!((texts, missed.until), (vec![&*round.to_string()], head));
        cursor = missed.until;
    }
}

/// As a newer version would: an entry of a kind that this one does not know, with a number and a body of its own.
async fn a_kind_of_a_newer_version_is_passed_on_by_its_columns(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let said = log.append(post(&school, school.ana, school.with_ana(), "hello")).await.unwrap();
    let (id, conversation) = (EventId::new(), school.with_ana().conversation(school.room));
    homeroom::execute!(
        log.db().writes(),
        "INSERT INTO event (room_id, seq, id, kind, conversation_id, n, root_id, root_seq, at, body)
         VALUES ($1, 5, $2, 'translated', $3, 2, $4, 4, $5, $6)",
        school.room.0,
        id.0,
        conversation.0,
        said.id.0,
        chrono::Utc::now(),
        r#"{"language":"es","text":"hola","n":99,"room":"elsewhere","kind":"posted"}"#
    )
    .unwrap();
    for text in [
        "UPDATE room SET last_seq = 5, last_event_id = $2 WHERE id = $1",
        "UPDATE conversation SET last_n = 2, last_seq = 5 WHERE room_id = $1 AND guardian_id IS NOT NULL AND $2 = $2",
    ] {
        homeroom::execute!(log.db().writes(), text, school.room.0, id.0).unwrap();
    }
    let view = places::of_person(log.db(), school.ana).await.unwrap().remove(0).view;
    let pages = Pages::new(log.db().clone(), 1 << 20);
    let shown = async |head| {
        let missed = pages.missed((school.room, HOLDING), &view, 4, head).await.unwrap().entries;
        let entry = missed.iter().find(|entry| entry.event.id == id).unwrap();
        assert_eq!((entry.seq, entry.root_seq, &entry.event.body), (5, 4, &EventBody::Unknown));
        serde_json::from_slice::<serde_json::Value>(entry.payload(homeroom::log::Sight::Full).unwrap()).unwrap()
    };
    let frame = shown(5).await;
    assert_eq!(frame["room"], serde_json::json!(school.room), "what every event has stands as the columns say");
    for (name, value) in [("type", "event"), ("kind", "translated"), ("language", "es"), ("text", "hola")] {
        assert_eq!(frame[name], value);
    }
    assert_eq!((&frame["id"], &frame["n"]), (&serde_json::json!(id), &serde_json::json!(2)));
    assert_eq!(frame["about"]["guardian"], serde_json::json!(school.ana));

    // It numbers on behind it, and what was taken back is not told in another language either.
    let retracted = log.append(change(&school, school.ana, What::Retract { message: said.id })).await.unwrap();
    assert_eq!((retracted.n, log_head(&log, &school).await), (3, 6));
    pages.forget_message(school.room, Some(conversation), 4);
    let frame = shown(6).await;
    assert_eq!((&frame["kind"], &frame["n"], &frame["text"]), (&"unknown".into(), &2.into(), &serde_json::Value::Null));
}

/// Somebody may be put into a room between a node's start and its first look at the bell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bell_tells_of_all_that_came_after_it_was_begun() {
    let log = crate::node::log(&Ground::postgres().await).await;
    let mut bell = homeroom::log::bell::Bell::begin(log.db().clone()).await.unwrap();
    let school = School::open(&log).await;
    let told = bell.listen().await.unwrap().rung;
    assert!(told.iter().any(|rung| rung.room == school.room && rung.members && rung.head == 3), "{told:?}");
}
