//! How many durable posts a second the lanes take, without sockets, on either engine: into thousands of quiet rooms, and into one hot one.
//!
//! Owns: a crowd that always has so many posts under way, the ratio to a bare writer measured in turn, and the sweep by which the number of
//! lanes and the largest batch were chosen. Refuses to know: sockets.
//! `cargo bench -p homeroom --bench append -- postgres quiet` stops by itself after about half a minute; with `sweep`, which takes all numbers
//! of lanes and sizes of batches in turn, after about five.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement stops where something is not as it must be")]
#![allow(unused_imports, reason = "tests in files of the load test are not run here")]
#![allow(dead_code, reason = "of what the tests and the load test stand on, only a part is needed here")]

#[path = "../../loadtest/src/bare/postgres.rs"]
mod bare_postgres;
#[path = "../../loadtest/src/bare/sqlite.rs"]
mod bare_sqlite;
#[path = "../../loadtest/src/bare/messages.rs"]
mod messages;
#[path = "../tests/it/node.rs"]
mod node;
#[path = "../tests/it/postgres.rs"]
mod postgres;
#[path = "../../loadtest/src/process.rs"]
mod process;

use futures_util::future::join_all;
use homeroom::db::{Db, Location};
use homeroom::log::{Append, AppendError, Lanes, Listeners, Log, What};
use homeroom::{execute, fetch_all};
use homeroom_protocol::{Address, ClientId, Draft, Language, PersonId, RoomId};
use node::{Ground, School};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Quiet rooms, each with a teacher.
const ROOMS: usize = 4_000;
/// A window of measuring.
const WINDOW: Duration = Duration::from_secs(4);
/// Windows of each.
const ROUNDS: usize = 3;

/// Makes rooms with a teacher each.
async fn rooms(db: &Db, count: usize) -> Vec<(RoomId, PersonId)> {
    let now = chrono::Utc::now();
    let mut made = Vec::new();
    let mut tx = db.begin().await.unwrap();
    for number in 0..count as i64 {
        let (class, room, person) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        execute!(tx.on(), "INSERT INTO class (id, district_id, source_id, source_digest, title, kind, course_id, school_id)
            SELECT $1, district_id, 'bench-' || $2, source_digest, 'Class', kind, course_id, school_id FROM class WHERE source_id = 'k'", class, number).unwrap();
        execute!(
            tx.on(),
            "INSERT INTO room (id, district_id, kind, school_id, class_id, title)
            SELECT $1, district_id, 'class', school_id, id, title FROM class WHERE id = $2",
            room,
            class
        )
        .unwrap();
        execute!(
            tx.on(),
            "INSERT INTO person (id, district_id, source_id, source_digest, username, given_name, family_name)
            SELECT $1, district_id, 'bench-' || $2, source_digest, 'bench-' || $2, 'T', 'B' FROM class WHERE id = $3",
            person,
            number,
            class
        )
        .unwrap();
        execute!(
            tx.on(),
            "INSERT INTO membership (room_id, person_id, student_id, role, joined_seq, sees_after_seq, joined_at)
            VALUES ($1, $2, $3, 'staff', 0, 0, $4)",
            room,
            person,
            Uuid::nil(),
            now
        )
        .unwrap();
        made.push((RoomId(room), PersonId(person)));
    }
    tx.commit().await.unwrap();
    made
}

fn post(place: (RoomId, PersonId)) -> Append {
    let text = "The trip to the museum is on Friday. Bring a packed lunch and a coat. ".repeat(3);
    let draft = Draft { language: Language::english(), text, protected: Vec::new() };
    let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
    let what = What::Post { to: Address::Announcements, envelope, urgent: false };
    Append { room: place.0, author: place.1, client_id: ClientId::new(), what, turn: None }
}

/// So many posts under way for as long; posts a second.
async fn window(log: &Log, places: &[(RoomId, PersonId)], under_way: usize, length: Duration) -> f64 {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let done = join_all((0..under_way).map(|_| async {
        let mut done = 0_u64;
        while began.elapsed() < length {
            let place = places[next.fetch_add(1, Ordering::Relaxed) as usize % places.len()];
            log.append(post(place)).await.unwrap();
            done += 1;
        }
        done
    }))
    .await;
    done.iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64()
}

/// Posts at a rate for as long, and how long the slowest in a hundred took, in milliseconds; nothing when more came than the lanes took.
async fn hundredth(log: &Log, places: &[(RoomId, PersonId)], rate: f64, length: Duration) -> Option<f64> {
    let began = Instant::now();
    let mut clock = tokio::time::interval(Duration::from_millis(1));
    let (mut posts, mut sent) = (tokio::task::JoinSet::new(), 0_usize);
    while began.elapsed() < length {
        clock.tick().await;
        while (sent as f64) < began.elapsed().as_secs_f64() * rate {
            let (log, append, begun) = (log.clone(), post(places[sent % places.len()]), Instant::now());
            sent += 1;
            posts.spawn(async move {
                match log.append(append).await {
                    Ok(_) => Some(begun.elapsed()),
                    Err(AppendError::Busy) => None,
                    Err(error) => panic!("{error}"),
                }
            });
        }
    }
    let mut times: Vec<Duration> = posts.join_all().await.into_iter().collect::<Option<_>>()?;
    times.sort_unstable();
    times.get(times.len() * 99 / 100).map(|time| time.as_secs_f64() * 1e3)
}

/// What this process, and PostgreSQL's for this database, have used, in microseconds.
async fn used(db: &Db) -> (f64, f64) {
    let micros = |process| process::Cpu::of(process).map_or(0.0, |cpu| cpu.total().as_secs_f64() * 1e6);
    let asked =
        "SELECT pid FROM pg_stat_activity WHERE backend_type <> 'client backend' OR datname = current_database()";
    let processes: Vec<i32> = match db.reads() {
        homeroom::db::Engine::Postgres(pool) => sqlx::query_scalar(asked).fetch_all(pool).await.unwrap(),
        homeroom::db::Engine::Sqlite(_) => Vec::new(),
    };
    (micros(std::process::id()), processes.into_iter().map(|process| micros(process as u32)).sum())
}

/// Every number of lanes with every largest batch: a line of the table in docs/decisions/0021-known-rooms.md for each.
async fn sweep(db: &Db, places: &[(RoomId, PersonId)], under_way: usize, rounds: usize) {
    println!("| lanes | largest batch | posts a second | CPU of each, own + PostgreSQL, µs | p99 at half load, ms |");
    println!("|---|---|---|---|---|");
    let lanes = match db.writes() {
        homeroom::db::Engine::Postgres(_) => 1..=4,
        homeroom::db::Engine::Sqlite(_) => 1..=1,
    };
    for number in lanes {
        for batch in [32, 100, 200, 500] {
            let log = Log::start_with(db, Lanes { number, batch }, Listeners::none());
            window(&log, places, under_way, WINDOW / 4).await;
            let (mut rates, mut own, mut database, mut slowest) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                let before = used(db).await;
                let rate = window(&log, places, under_way, WINDOW / 2).await;
                let (after, posts) = (used(db).await, rate * (WINDOW / 2).as_secs_f64());
                own.push((after.0 - before.0) / posts);
                database.push((after.1 - before.1) / posts);
                slowest.push(hundredth(&log, places, rate / 2.0, WINDOW / 2).await.unwrap_or(f64::INFINITY));
                rates.push(rate);
            }
            println!(
                "| {number} | {batch} | {:.0} | {:.0} + {:.0} | {:.1} |",
                median(rates),
                median(own),
                median(database),
                median(slowest)
            );
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

enum Bare {
    Postgres(bare_postgres::Bare),
    Sqlite(bare_sqlite::Bare),
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let number =
        |name: &str, or: usize| words.iter().find_map(|word| word.strip_prefix(name)?.parse().ok()).unwrap_or(or);
    let spread = !has("hot");
    let under_way = number("under-way=", 800);
    let server;
    let ground = if has("sqlite") {
        Ground::sqlite()
    } else {
        server = postgres::Server::start("-c max_connections=200 -c max_wal_size=4GB");
        Ground { folder: tempfile::tempdir().unwrap(), location: Location::Postgres(server.database().await) }
    };
    let (batches, batched) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let micros = Arc::new(AtomicU64::new(0));
    let db = ground.open().await;
    let counts = (batches.clone(), batched.clone(), micros.clone());
    let batch = Arc::new(move |size: usize, took: Duration| {
        counts.0.fetch_add(1, Ordering::Relaxed);
        counts.1.fetch_add(size as u64, Ordering::Relaxed);
        counts.2.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    });
    let usual = Lanes::of(&db);
    let lanes = Lanes { number: number("lanes=", usual.number), batch: number("batch=", usual.batch) };
    let log = Log::start_with(&db, lanes, Listeners { batch, ..Listeners::none() });
    School::found(&db).await;
    let places = rooms(&db, if spread { ROOMS } else { 1 }).await;
    let mut bare = match &ground.location {
        Location::Postgres(url) => Bare::Postgres(bare_postgres::Bare::open(url, 2, 2, ROOMS).await.unwrap()),
        Location::Sqlite(_) => {
            Bare::Sqlite(bare_sqlite::Bare::open(&ground.folder.path().join("bare.db"), ROOMS).await.unwrap())
        }
    };
    if let Location::Postgres(_) = &ground.location {
        // As autovacuum would have by tomorrow.
        if !has("fresh") {
            execute!(db.writes(), "ANALYZE").unwrap();
        }
    }
    window(&log, &places, under_way, WINDOW).await;
    if has("sweep") {
        return sweep(&db, &places, under_way, number("rounds=", ROUNDS)).await;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    batches.store(0, Ordering::Relaxed);
    batched.store(0, Ordering::Relaxed);
    micros.store(0, Ordering::Relaxed);
    let mut spent = (0.0, 0.0);
    for _ in 0..number("rounds=", ROUNDS) {
        if !has("alone") {
            theirs.push(match &mut bare {
                Bare::Postgres(bare) => bare.store(2, 100, spread, WINDOW).await.unwrap().per_second(),
                Bare::Sqlite(bare) => bare.store(100, spread, WINDOW).await.unwrap().per_second(),
            });
        }
        let before = used(&db).await;
        ours.push(window(&log, &places, under_way, WINDOW).await);
        let after = used(&db).await;
        spent = (spent.0 + after.0 - before.0, spent.1 + after.1 - before.1);
    }
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    let size = batched.load(Ordering::Relaxed) as f64 / batches.load(Ordering::Relaxed) as f64;
    let took = micros.load(Ordering::Relaxed) as f64 / batches.load(Ordering::Relaxed) as f64 / 1e3;
    let posts = batched.load(Ordering::Relaxed) as f64;
    println!(
        "ours {:.0}/s, batches of {size:.0} in {took:.2} ms; CPU of each {:.1} µs, of PostgreSQL {:.1} µs",
        median(ours.clone()),
        spent.0 / posts,
        spent.1 / posts
    );
    if !theirs.is_empty() {
        println!("bare {:.0}/s; ratio {:.2}  {ratios:.2?}", median(theirs.clone()), median(ratios.clone()));
    }
    if has("plans") {
        let rows: Vec<(String, i64, f64)> = fetch_all!(db.reads(), (String, i64, f64), "SELECT left(query, 80), calls, total_exec_time / calls FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 20").unwrap_or_default();
        for row in rows {
            println!("{row:?}");
        }
    }
}
