//! What a look at the bell costs a node that holds few rooms, and one that holds many, while the same ten rooms change.
//!
//! Owns: the two nodes' tails in one process, asked in turn about the same changes, and the ratio of the medians.
//! Refuses to know: sockets. `cargo bench -p homeroom --bench bell`; it stops by itself after about two minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement stops where something is not as it must be")]
#![allow(dead_code, reason = "of what the tests stand on, only the database and the school are needed here")]

#[path = "../tests/it/node.rs"]
mod node;
#[path = "../tests/it/postgres.rs"]
mod postgres;

use futures_util::{StreamExt, stream};
use homeroom::bus::local::Exchange;
use homeroom::db::{Db, Engine};
use homeroom::live::tail::Tails;
use homeroom::log::bell::Bell;
use homeroom::log::{Append, Listeners, Log, What};
use homeroom::trace::Traces;
use homeroom_protocol::{Address, ClientId, Draft, Language, RoomId};
use node::{Ground, School, staff};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Rooms that the second node holds; the first one holds a hundred of them.
const MANY: i64 = 100_000;
const FEW: usize = 100;
/// Rooms that change between two looks.
const CHANGING: usize = 10;
/// Looks of each node.
const ROUNDS: usize = 200;

/// A node's end of the bell.
struct Listening {
    tails: Tails,
    bell: Bell,
}

impl Listening {
    async fn holding(db: &Db, rooms: &[RoomId]) -> Self {
        // Nobody else is on its bus: the bell alone tells.
        let (silent, _) = Exchange::default().join(Arc::default());
        let tails = Tails::new(db.clone(), Arc::new(silent), true, Traces::off());
        let hold = |room: &RoomId| {
            let (tails, room) = (tails.clone(), *room);
            async move { tails.hold(room, 0).await.map(drop) }
        };
        stream::iter(rooms).map(hold).buffer_unordered(8).for_each(|held| async { held.unwrap() }).await;
        assert_eq!(tails.held(), rooms.len());
        Self { tails, bell: Bell::begin(db.clone()).await.unwrap() }
    }

    /// Listens once, and takes in what was told.
    async fn look(&mut self) -> Duration {
        let began = Instant::now();
        let told = self.bell.listen().await.unwrap();
        self.tails.rung(&told.rung, false).await.unwrap();
        began.elapsed()
    }

    /// Waits until the rooms' heads are where the log's are: the reading of what was told is no part of a look.
    async fn until_known(&self, heads: &[(RoomId, i64)]) {
        for (room, head) in heads {
            while self.tails.head(*room).is_none_or(|known| known.seq < *head) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// Makes as many classes with a room each.
async fn rooms(db: &Db) -> Vec<RoomId> {
    let Engine::Postgres(pool) = db.writes() else { unreachable!("it is a PostgreSQL") };
    for text in [
        "INSERT INTO class (id, district_id, source_id, source_digest, title, kind, course_id, school_id)
         SELECT gen_random_uuid(), district_id, 'bench-' || number, source_digest, 'Class', kind, course_id, school_id
         FROM class, generate_series(1, $1) number",
        "INSERT INTO room (id, district_id, kind, school_id, class_id, title)
         SELECT gen_random_uuid(), district_id, 'class', school_id, id, title FROM class
         WHERE source_id LIKE 'bench-%' ORDER BY id LIMIT $1",
    ] {
        sqlx::query(text).bind(MANY).execute(pool).await.unwrap();
    }
    let of_bench =
        "SELECT room.id FROM room JOIN class ON class.id = room.class_id WHERE class.source_id LIKE 'bench-%'";
    let ids: Vec<Uuid> = sqlx::query_scalar(of_bench).fetch_all(pool).await.unwrap();
    ids.into_iter().map(RoomId).collect()
}

fn median(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took[took.len() / 2].as_secs_f64() * 1e3
}

#[tokio::main]
async fn main() {
    let ground = Ground::postgres().await;
    let log = Log::start(&ground.open().await, Listeners::none());
    let school = School::open(&log).await;
    let all = rooms(log.db()).await;
    for room in &all[..CHANGING] {
        log.change_members(*room, vec![staff(school.teacher, true)]).await.unwrap();
    }
    let db = ground.open().await;
    println!("holding {FEW} and {MANY} rooms …");
    let mut few = Listening::holding(&db, &all[..FEW]).await;
    let mut many = Listening::holding(&db, &all).await;
    let (mut of_few, mut of_many) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut heads = Vec::new();
        for room in &all[..CHANGING] {
            let draft = Draft { language: Language::english(), text: format!("round {round}"), protected: Vec::new() };
            let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
            let what = What::Post { to: Address::Announcements, envelope, urgent: false };
            let command = Append { room: *room, author: school.teacher, client_id: ClientId::new(), what, turn: None };
            log.append(command).await.unwrap();
            heads.push((*room, homeroom::log::read::head(&db, *room).await.unwrap().unwrap().0));
        }
        // In turn, so that neither is always the first to ask.
        let first_is_few = round % 2 == 0;
        for few_now in [first_is_few, !first_is_few] {
            let (node, took) = if few_now { (&mut few, &mut of_few) } else { (&mut many, &mut of_many) };
            took.push(node.look().await);
            node.until_known(&heads).await;
        }
    }
    let (of_few, of_many) = (median(of_few), median(of_many));
    println!(
        "a look at the bell, {CHANGING} rooms changed, medians of {ROUNDS}: {of_few:.2} ms holding {FEW} rooms, {of_many:.2} ms \
         holding {MANY}; ratio {:.2}",
        of_many / of_few
    );
}
