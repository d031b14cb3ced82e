//! Batches that a lane plans by what it knows of its rooms: whatever somebody else has done to them meanwhile, the answer is as if it had asked.
//!
//! Owns: logs that write to one database in turn. Refuses to know: how a lane remembers.

use crate::node::{Ground, School, guardian, log, staff};
use crate::on_both_engines;
use homeroom::db::{Db, Engine};
use homeroom::log::{Append, AppendError, Log, What, read};
use homeroom_protocol::{Address, ClientId, Draft, ErrorCode, Language, PersonId};
use sqlx::Executor;

on_both_engines! {
    who_is_put_out_of_a_known_room_is_refused_and_who_is_back_is_taken
    what_was_answered_once_is_answered_in_a_known_room_and_its_neighbours_are_taken
}

fn post(school: &School, author: PersonId, to: Address) -> Append {
    let draft = Draft { language: Language::english(), text: "text".to_owned(), protected: Vec::new() };
    let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
    let what = What::Post { to, envelope, urgent: false };
    Append { room: school.room, author, client_id: ClientId::new(), what, turn: None }
}

async fn seqs(db: &Db, school: &School) -> Vec<i64> {
    read::after(db, school.room, 0, 10_000).await.unwrap().iter().map(|entry| entry.seq).collect()
}

fn code(outcome: Result<homeroom::log::Appended, AppendError>) -> ErrorCode {
    match outcome {
        Err(AppendError::Refused(fault)) => fault.code,
        other => panic!("not refused: {other:?}"),
    }
}

async fn who_is_put_out_of_a_known_room_is_refused_and_who_is_back_is_taken(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    for n in 1..=3 {
        assert_eq!(log.append(post(&school, school.ana, school.with_ana())).await.unwrap().n, n);
    }
    log.change_members(school.room, vec![guardian(school.ana, school.anas_child, false)]).await.unwrap();
    assert_eq!(code(log.append(post(&school, school.ana, school.with_ana())).await), ErrorCode::Forbidden);
    assert_eq!(code(log.append(post(&school, school.teacher, school.with_ana())).await), ErrorCode::Forbidden);
    assert_eq!(log.append(post(&school, school.teacher, Address::Announcements)).await.unwrap().n, 1);
    log.change_members(school.room, vec![guardian(school.ana, school.anas_child, true)]).await.unwrap();
    for (author, n) in [(school.ana, 4), (school.teacher, 5), (school.ana, 6)] {
        assert_eq!(log.append(post(&school, author, school.with_ana())).await.unwrap().n, n);
    }
    assert_eq!(seqs(log.db(), &school).await, (1..=12).collect::<Vec<i64>>());
}

async fn what_was_answered_once_is_answered_in_a_known_room_and_its_neighbours_are_taken(ground: Ground) {
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let said = post(&school, school.teacher, Address::Announcements);
    let first = log.append(said.clone()).await.unwrap();
    for n in [2, 3] {
        assert_eq!(log.append(post(&school, school.teacher, Address::Announcements)).await.unwrap().n, n);
    }
    // In one batch: whatever it is planned by, the one that comes again finds its answer, and the new ones theirs.
    let new = || post(&school, school.teacher, Address::Announcements);
    let batch: Vec<_> = [new(), said, new()].into_iter().map(|append| log.submit(append).unwrap()).collect();
    let mut answers = Vec::new();
    for submitted in batch {
        answers.push(submitted.done().await.unwrap());
    }
    assert_eq!((answers[0].n, answers[1], answers[2].n), (4, first, 5));
    assert_eq!(seqs(log.db(), &school).await, (1..=8).collect::<Vec<i64>>());
}

/// Two nodes that write to one room by turns, of which each knows what it has left there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_did_to_a_known_room_is_noticed() {
    let ground = Ground::postgres().await;
    let (one, other) = (log(&ground).await, log(&ground).await);
    let school = School::open(&one).await;
    for n in 1..=12 {
        let log: &Log = if n % 3 == 0 { &other } else { &one };
        assert_eq!(log.append(post(&school, school.ana, school.with_ana())).await.unwrap().n, n);
    }
    // Who is put out by one node is refused by the other, which knew them as a member.
    other.change_members(school.room, vec![guardian(school.ana, school.anas_child, false)]).await.unwrap();
    assert_eq!(code(one.append(post(&school, school.ana, school.with_ana())).await), ErrorCode::Forbidden);
    // A refusal is not given by what is known: who was out is taken once the other has let them in again.
    let colleague = school.bens_child;
    other.change_members(school.room, vec![staff(colleague, true), staff(school.teacher, false)]).await.unwrap();
    assert_eq!(one.append(post(&school, colleague, Address::Announcements)).await.unwrap().n, 1);
    assert_eq!(code(one.append(post(&school, school.teacher, Address::Announcements)).await), ErrorCode::Forbidden);
    other.change_members(school.room, vec![staff(school.teacher, true)]).await.unwrap();
    assert_eq!(one.append(post(&school, school.teacher, Address::Announcements)).await.unwrap().n, 2);
    assert_eq!(seqs(one.db(), &school).await, (1..=21).collect::<Vec<i64>>());
}

/// Its numbers would go on where those of the log that is gone were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_a_log_that_was_put_back_is_not_built_on() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let school = School::open(&log).await;
    for n in 1..=4 {
        assert_eq!(log.append(post(&school, school.teacher, Address::Announcements)).await.unwrap().n, n);
    }
    let Engine::Postgres(pool) = log.db().writes() else { panic!("not PostgreSQL") };
    // As the room was two posts ago.
    let put_back = "
        DELETE FROM client_command WHERE event_id IN (SELECT id FROM event WHERE seq > 5);
        DELETE FROM event WHERE seq > 5;
        UPDATE conversation SET last_n = 2, last_seq = 5;
        UPDATE room SET last_seq = 5, last_event_id = (SELECT id FROM event WHERE seq = 5)";
    pool.execute(put_back).await.unwrap();
    assert_eq!(log.append(post(&school, school.teacher, Address::Announcements)).await.unwrap().n, 3);
    assert_eq!(seqs(log.db(), &school).await, (1..=6).collect::<Vec<i64>>());
}

/// PostgreSQL answers a statement before it commits what the statement did, and the commit may fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_in_a_known_room_before_it_is_committed() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let school = School::open(&log).await;
    for n in [1, 2] {
        assert_eq!(log.append(post(&school, school.teacher, Address::Announcements)).await.unwrap().n, n);
    }
    let Engine::Postgres(pool) = log.db().writes() else { panic!("not PostgreSQL") };
    pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not this''; END';
         CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON event DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await
    .unwrap();
    let refused = post(&school, school.teacher, Address::Announcements);
    assert!(matches!(log.append(refused.clone()).await, Err(AppendError::Unavailable(_))));
    assert_eq!(seqs(log.db(), &school).await, (1..=5).collect::<Vec<i64>>());
    pool.execute("DROP TRIGGER refuse ON event").await.unwrap();
    assert_eq!(log.append(refused).await.unwrap().n, 3);
}

/// A room that somebody holds: those of the same batch that nobody holds do not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_room_that_is_held_is_passed_over() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let school = School::open(&log).await;
    for n in [1, 2] {
        assert_eq!(log.append(post(&school, school.teacher, Address::Announcements)).await.unwrap().n, n);
    }
    let mut holder = log.db().begin().await.unwrap();
    homeroom::execute!(holder.on(), "SELECT 1 FROM room WHERE id = $1 FOR UPDATE", school.room.0).unwrap();
    let waiting = log.submit(post(&school, school.teacher, Address::Announcements)).unwrap();
    let again = log.submit(post(&school, school.teacher, Address::Announcements)).unwrap();
    let done = async { (waiting.done().await.unwrap().n, again.done().await.unwrap().n) };
    let (numbers, ()) = tokio::join!(done, async {
        // Longer than a batch of known rooms waits for a lock.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        drop(holder);
    });
    assert_eq!(numbers, (3, 4));
    assert_eq!(seqs(log.db(), &school).await, (1..=7).collect::<Vec<i64>>());
}
