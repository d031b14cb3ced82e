//! Starting where something is not there yet, or is not what it should be: who is named, what is shown, when it goes on.
//!
//! Owns: servers as processes, and all that they say. Refuses to know: what happens once they run.

use crate::node::{Ground, eventually, free_port, http};
use crate::proxy::Proxy;
use crate::redis::Redis;
use homeroom::db::Location;
use sqlx::{Connection, Executor, PgConnection};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A server that may not get far; killed when the test is over, however it went.
struct Server {
    process: Child,
    port: u16,
    said: Arc<Mutex<String>>,
}

impl Server {
    fn start(ground: &Ground, arguments: &[&str]) -> Self {
        let port = free_port();
        let mut process = Command::new(env!("CARGO_BIN_EXE_homeroom"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(ground.folder.path())
            .args(arguments)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, heard) = (BufReader::new(process.stderr.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { process, port, said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Status and words of a page; nothing while nobody listens.
    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = http().get(format!("http://127.0.0.1:{}{path}", self.port)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn becomes(&self, status: u16, words: &str) {
        let what = format!("/health/ready says {status} and {words:?}");
        eventually(&what, || async {
            self.get("/health/ready").await.is_some_and(|(is, body)| is == status && body.contains(words))
        })
        .await;
    }

    async fn repeats(&self, words: &str) {
        eventually(&format!("it says more than once: {words}"), || async { self.said().matches(words).count() > 1 })
            .await;
    }

    /// Asks it to leave; whether it did so as it should.
    fn leave(&mut self) -> bool {
        assert!(Command::new("kill").arg(self.process.id().to_string()).status().unwrap().success());
        self.process.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn url(ground: &Ground) -> &str {
    match &ground.location {
        Location::Postgres(url) => url,
        Location::Sqlite(_) => panic!("not a PostgreSQL"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_not_there_is_waited_for_and_the_node_lives_and_is_not_ready() {
    let ground = Ground::postgres().await;
    let port = free_port();
    let behind = Proxy::url_at(url(&ground), port).replace("://postgres@", "://postgres:geheim@");
    let mut server = Server::start(&ground, &["--database-url", &behind]);
    server.becomes(503, "the database does not answer").await;
    assert_eq!(server.get("/health/live").await.unwrap().0, 200, "restarting it would help nobody");
    assert_eq!(server.get("/ws").await.unwrap().0, 503);
    server.repeats("the database does not answer").await;
    assert!(server.said().contains(&format!("127.0.0.1:{port}")), "{}", server.said());
    assert!(!server.said().contains("geheim"), "{}", server.said());
    assert!(server.process.try_wait().unwrap().is_none(), "it does not end");
    let _proxy = Proxy::start_at(url(&ground), port).await;
    server.becomes(200, "true").await;
    assert!(server.leave());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_never_reached_keeps_the_node_from_being_ready_and_one_that_goes_later_does_not() {
    let ground = Ground::postgres().await;
    let mut redis = Redis::start().await;
    redis.kill();
    let address = redis.url().replace("redis://", "");
    let named = format!("redis://:geheim@{address}");
    let mut server = Server::start(&ground, &["--database-url", url(&ground), "--redis-urls", &named]);
    server.becomes(503, "Redis was not reached yet").await;
    assert_eq!(server.get("/health/live").await.unwrap().0, 200);
    server.repeats("Redis does not answer").await;
    assert!(server.said().contains(&address), "{}", server.said());
    redis.run().await;
    redis.ask(&["CONFIG", "SET", "requirepass", "geheim"]).await.unwrap();
    server.becomes(200, "true").await;
    eventually("it says that it is over", || async { server.said().contains("Redis answers again") }).await;
    redis.kill();
    eventually("it notices", || async { server.said().contains("the bus is not heard") }).await;
    assert_eq!(server.get("/health/ready").await.unwrap().0, 200, "it costs a quarter of a second, and nothing else");
    // It is tried many times a second, and said now and then.
    let deaf = tokio::net::TcpListener::bind(("127.0.0.1", redis.port)).await.unwrap();
    let lines = server.said().lines().count();
    for _ in 0..40 {
        drop(deaf.accept().await.unwrap());
    }
    let lines = server.said().lines().count() - lines;
    assert!(lines <= 12, "{lines} lines for 40 tries: {}", server.said());
    assert!(!server.said().contains("geheim"), "{}", server.said());
    assert!(server.leave());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_goes_away_in_the_middle_of_a_migration_is_waited_for() {
    let ground = Ground::postgres().await;
    ground.open().await.close().await;
    // As a release before the last migration left it; and somebody holds what that one needs.
    let mut on = PgConnection::connect(url(&ground)).await.unwrap();
    on.execute("DROP INDEX guardianship_by_lister; DELETE FROM _sqlx_migrations WHERE version = 6").await.unwrap();
    let mut holder = PgConnection::connect(url(&ground)).await.unwrap();
    holder.execute("BEGIN; LOCK TABLE guardianship IN EXCLUSIVE MODE").await.unwrap();
    let mut server = Server::start(&ground, &["--database-url", url(&ground)]);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%CREATE INDEX%'";
    for _ in 0..2 {
        eventually("the migration waits, and is ended", || async {
            let mut on = PgConnection::connect(url(&ground)).await.unwrap();
            on.execute(end).await.unwrap().rows_affected() > 0
        })
        .await;
        server.becomes(503, "the database does not answer").await;
        assert!(server.process.try_wait().unwrap().is_none(), "it does not end: {}", server.said());
    }
    holder.execute("ROLLBACK").await.unwrap();
    server.becomes(200, "true").await;
    let (there,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM pg_class WHERE relname = 'guardianship_by_lister'")
        .fetch_one(&mut on)
        .await
        .unwrap();
    assert_eq!(there, 1, "the migration was made");
    assert!(server.leave());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_too_new_is_refused_in_clear_words_on_both_engines() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let db = ground.open().await;
        homeroom::execute!(db.writes(), "UPDATE compatibility SET min_compatible_version = 1000000").unwrap();
        db.close().await;
        let arguments = match &ground.location {
            Location::Postgres(url) => vec!["--database-url", url],
            Location::Sqlite(_) => Vec::new(),
        };
        let mut server = Server::start(&ground, &arguments);
        let code = server.process.wait().unwrap().code();
        eventually("its last words are read", || async { server.said().contains("install a newer homeroom") }).await;
        assert!(server.said().contains("needs schema version 1000000 or newer"), "{}", server.said());
        assert_eq!(code, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_of_the_log_holds_a_password_however_much_is_logged() {
    let ground = Ground::postgres().await;
    let redis = Redis::start().await;
    redis.ask(&["CONFIG", "SET", "requirepass", "geheim"]).await.unwrap();
    let database = url(&ground).replace("://postgres@", "://postgres:geheim@");
    let right = redis.url().replace("://", "://:geheim@");
    let wrong = redis.url().replace("://", "://:geheim-too@");
    for (redis, says) in [(right, "the bus is arranged"), (wrong, "Redis does not answer")] {
        for format in ["text", "json"] {
            let arguments =
                ["--database-url", &database, "--redis-urls", &redis, "--log", "trace", "--log-format", format];
            let mut server = Server::start(&ground, &arguments);
            eventually(says, || async { server.said().contains(says) }).await;
            eventually("it listens", || async { server.get("/health/ready").await.is_some() }).await;
            assert!(server.leave());
            assert!(server.said().contains("SELECT"), "everything is logged");
            assert!(!server.said().contains("geheim"), "{}", server.said());
        }
    }
}
