//! What bounds the use of PostgreSQL: pools of their own for writing and reading, statements and transactions that take too long.
//!
//! Owns: occupying and outlasting it. Refuses to know: PostgreSQL that is gone or hangs (see `failures` and `outages`).

use crate::node::{Ground, School, guardian, log};
use homeroom::db::{Db, Engine, Location, Pool};
use homeroom::log::{Append, Log, What, read};
use homeroom_protocol::{Address, ClientId, Draft, Language};
use sqlx::{Connection, Executor, PgConnection};
use std::cell::Cell;
use std::time::{Duration, Instant};

fn pools(db: &Db) -> [&Pool; 2] {
    let (Engine::Postgres(writes), Engine::Postgres(reads)) = (db.writes(), db.reads()) else {
        panic!("not PostgreSQL")
    };
    [writes, reads]
}

fn code(outcome: Result<sqlx::postgres::PgQueryResult, sqlx::Error>) -> String {
    match outcome {
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        other => panic!("not cut: {other:?}"),
    }
}

fn announcement(school: &School) -> Append {
    let draft = Draft { language: Language::english(), text: "text".to_owned(), protected: Vec::new() };
    let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
    let what = What::Post { to: Address::Announcements, envelope, urgent: false };
    Append { room: school.room, author: school.teacher, client_id: ClientId::new(), what, turn: None }
}

/// Occupies every connection of a pool, and queues as many again.
async fn occupy(pool: &Pool, seconds: u32) -> tokio::task::JoinSet<()> {
    let mut sleepers = tokio::task::JoinSet::new();
    for _ in 0..2 * pool.most() {
        let pool = pool.clone();
        sleepers.spawn(async move {
            // Those that wait may give up; that is what the bound is for.
            let _gave_up = sqlx::query("SELECT pg_sleep($1)").bind(f64::from(seconds)).execute(&pool).await;
        });
    }
    crate::node::eventually("every connection is in use", || async { pool.free() == 0 }).await;
    sleepers
}

/// Somebody announces something, within so long.
async fn goes_on(log: &Log, school: &School, within: Duration) {
    let began = Instant::now();
    log.append(announcement(school)).await.unwrap();
    assert!(began.elapsed() < within, "a send waited {:?}", began.elapsed());
}

/// A statement is cut on both pools. A migration is not: building an index may take minutes, and so may waiting for another node
/// that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_cut_that_takes_too_long_and_a_migration_is_not() {
    let ground = Ground::postgres().await;
    let db = ground.open().await;
    let [writes, reads] = pools(&db);
    let Location::Postgres(url) = &ground.location else { panic!("not PostgreSQL") };
    let mut other = PgConnection::connect(url).await.unwrap();
    other.execute("BEGIN; LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let opened = Cell::new(false);
    // Another node, which waits in its migrations until the others were cut, and longer.
    let opening = async {
        Db::open(&ground.location).await.unwrap().close().await;
        opened.set(true);
    };
    let cut = async {
        let began = Instant::now();
        let sleep = async |pool: &Pool| code(pool.execute("SELECT pg_sleep(60)").await);
        assert_eq!(tokio::join!(sleep(writes), sleep(reads)), ("57014".to_owned(), "57014".to_owned()));
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        // The connections are good for others.
        for pool in [writes, reads] {
            pool.execute("SELECT 1").await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!opened.get(), "it waits");
        other.execute("COMMIT").await.unwrap();
    };
    tokio::join!(opening, cut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_in_which_nothing_happens_is_ended_and_its_locks_with_it() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let school = School::open(&log).await;
    let mut idle = log.db().begin().await.unwrap();
    homeroom::execute!(idle.on(), "UPDATE room SET title = title WHERE id = $1", school.room.0).unwrap();
    let began = Instant::now();
    homeroom::execute!(log.db().writes(), "UPDATE room SET title = 'free' WHERE id = $1", school.room.0).unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "the lock was held for {:?}", began.elapsed());
    assert!(idle.commit().await.is_err(), "what was idle is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_can_not_starve_each_other() {
    let ground = Ground::postgres().await;
    let log = log(&ground).await;
    let school = School::open(&log).await;
    log.append(announcement(&school)).await.unwrap();

    let [writes, _] = pools(log.db());
    let _writers = occupy(writes, 8).await;
    // The lanes have connections of their own.
    goes_on(&log, &school, Duration::from_secs(3)).await;
    let began = Instant::now();
    assert!(!read::after(log.db(), school.room, 0, 10).await.unwrap().is_empty());
    assert!(began.elapsed() < Duration::from_secs(3), "a page waited {:?}", began.elapsed());

    // Another node, none of whose connections is in use.
    let log = crate::node::log(&ground).await;
    let [_, reads] = pools(log.db());
    let _readers = occupy(reads, 8).await;
    goes_on(&log, &school, Duration::from_secs(3)).await;
    let began = Instant::now();
    let leaves = guardian(school.ana, school.anas_child, false);
    log.change_members(school.room, vec![leaves]).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "a change of membership waited {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_can_not_write() {
    let db = Ground::postgres().await.open().await;
    let [_, reads] = pools(&db);
    assert_eq!(code(reads.execute("UPDATE compatibility SET min_compatible_version = 7").await), "25006");
}
