//! The loss of the database's machine, where a synchronous standby is configured: nothing is acknowledged that the standby does not
//! have, and nothing that was acknowledged is lost.
//!
//! Owns: a primary that is killed while it is written to, and the standby that takes its place. Refuses to know: the loss of anything
//! else (see `failures`, and the load test's checker).

use crate::doctor;
use crate::failures::announcement;
use crate::node::{School, eventually};
use crate::postgres::{Server, Stopped};
use homeroom::db::{Db, Location};
use homeroom::log::{Append, Appended, Listeners, Log, read};
use sqlx::{Connection, Executor};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// People who write, each one message after the other.
const WRITERS: usize = 8;
/// What is acknowledged before the primary is killed.
const BEFORE: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_on_the_synchronous_standby_when_the_primary_is_gone() {
    let primary = Server::start("");
    let url = primary.database().await;
    let standby = primary.standby();
    let of_standby = standby.url_of(&url);
    let mut on = sqlx::PgConnection::connect(&url).await.unwrap();
    on.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'").await.unwrap();
    on.execute("SELECT pg_reload_conf()").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let look = |url: &str| doctor::examine(folder.path(), &[("HOMEROOM_DATABASE_URL", url)]);
    eventually("the standby counts", || async {
        look(&url).of("database.standby").1.contains("the loss of either machine")
    })
    .await;
    assert!(look(&of_standby).of("database.keeping").1.contains("takes no writes"));

    let log = Log::start(&Db::open(&Location::Postgres(url)).await.unwrap(), Listeners::none());
    let school = School::open(&log).await;
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (log, acknowledged) = (log.clone(), acknowledged.clone());
            let (room, teacher) = (school.room, school.teacher);
            tokio::spawn(async move {
                let mut said: Vec<(Append, Appended)> = Vec::new();
                loop {
                    let command = announcement(room, teacher, &format!("writer {writer}"));
                    match log.append(command.clone()).await {
                        Ok(appended) => said.push((command, appended)),
                        // Whether it was committed nobody knows: its author says it again, with the same client id.
                        Err(_) => return (said, command),
                    }
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    eventually("enough is acknowledged", || async { acknowledged.load(Ordering::Relaxed) >= BEFORE }).await;
    // What is written from here on the standby does not get.
    let (sender,): (i32,) = sqlx::query_as("SELECT pid FROM pg_stat_replication").fetch_one(&mut on).await.unwrap();
    let sender = Stopped::new(sender);
    let count = || acknowledged.load(Ordering::Relaxed);
    // At most what it had got before is still acknowledged.
    eventually("nothing is acknowledged any more", || async {
        let before = count();
        tokio::time::sleep(Duration::from_millis(300)).await;
        before == count()
    })
    .await;
    primary.kill();
    sender.kill();
    let mut said = Vec::new();
    let mut unsure = Vec::new();
    for writer in writers {
        let (of_writer, open) = writer.await.unwrap();
        said.extend(of_writer);
        unsure.push(open);
    }

    let mut on = sqlx::PgConnection::connect(&of_standby).await.unwrap();
    on.execute("SELECT pg_promote()").await.unwrap();
    let db = Db::open(&Location::Postgres(of_standby)).await.unwrap();
    let log = Log::start(&db, Listeners::none());
    for command in unsure {
        let appended = log.append(command.clone()).await.unwrap();
        said.push((command, appended));
    }
    let entries = read::after(&db, school.room, 0, 100_000).await.unwrap();
    let numbers: HashMap<_, _> =
        entries.iter().filter_map(|entry| Some((entry.event.id, entry.event.n? as i64))).collect();
    for (command, appended) in &said {
        assert_eq!(numbers.get(&appended.id), Some(&appended.n), "{appended:?} was acknowledged, and is gone");
        assert_eq!(log.append(command.clone()).await.unwrap(), *appended, "and has the same answer");
    }
    let seqs: Vec<i64> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>(), "without a hole");
    assert_eq!(numbers.len(), said.len(), "and nothing is there twice");
}
