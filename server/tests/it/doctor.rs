//! `homeroom doctor`, as a process: beside servers that are well, and where something is broken, each thing by itself.
//!
//! Owns: breaking things one at a time. Refuses to know: how they are looked at.

use crate::node::{Ground, eventually, free_port, repository};
use crate::postgres;
use crate::redis::{Cluster, Redis};
use serde_json::Value;
use sqlx::{Connection, Executor};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What it said.
pub struct Report {
    code: i32,
    verdict: String,
    findings: Vec<Value>,
}

impl Report {
    /// The worst state of a check, and what was found and advised.
    pub fn of(&self, check: &str) -> (&str, String) {
        let of_it = self.findings.iter().filter(|finding| finding["check"] == check);
        let rank = |finding: &&Value| ["ok", "attention", "broken"].iter().position(|state| finding["state"] == *state);
        let worst = of_it.max_by_key(rank).unwrap_or_else(|| panic!("{check} was not looked at: {:?}", self.findings));
        (worst["state"].as_str().unwrap(), format!("{} → {}", worst["found"], worst["advice"]))
    }

    fn assert_broken(&self, check: &str, says: &str) {
        let (state, words) = self.of(check);
        assert!(state == "broken" && words.contains(says), "{check} is {state}: {words}");
        assert!(!words.ends_with("null"), "it says what to do: {words}");
        assert_eq!((self.code, &*self.verdict), (1, "broken"));
    }

    fn assert_well(&self) {
        let sick: Vec<&Value> = self.findings.iter().filter(|finding| finding["state"] != "ok").collect();
        assert!(sick.is_empty(), "{sick:#?}");
        assert_eq!((self.code, &*self.verdict), (0, "ok"));
    }
}

fn homeroom(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homeroom"));
    command.env_clear().env("HOMEROOM_DATA_DIR", data).env("HOMEROOM_LISTEN", "127.0.0.1:0");
    command
}

fn report(mut command: Command) -> Report {
    let output = command.args(["doctor", "--json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("geheim"), "{text}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let findings = said["findings"].as_array().unwrap().clone();
    Report { code: output.status.code().unwrap(), verdict: said["verdict"].as_str().unwrap().to_owned(), findings }
}

pub fn examine(data: &Path, settings: &[(&str, &str)]) -> Report {
    let mut command = homeroom(data);
    command.envs(settings.iter().copied());
    report(command)
}

/// A server process; killed when the test is over, however it went.
struct Server(Child);

impl Server {
    /// Waits until it listens, where it is expected to.
    fn start(data: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = homeroom(data);
        command.arg("serve").envs(settings.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("listening on")), "the server says where it listens");
        Self(process)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// A folder with the demo school in it.
fn school(settings: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = homeroom(folder.path());
    command.args(["import", "demo/school"]).envs(settings.iter().copied()).current_dir(repository());
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    folder
}

#[test]
fn a_school_on_sqlite_is_well_with_and_without_its_server() {
    let folder = school(&[]);
    let (listen, metrics) = (free_address(), free_address());
    let settings = [("HOMEROOM_LISTEN", &*listen), ("HOMEROOM_METRICS_LISTEN", &*metrics)];
    examine(folder.path(), &settings).assert_well();
    let server = Server::start(folder.path(), &settings);
    let beside = examine(folder.path(), &settings);
    beside.assert_well();
    assert!(beside.of("server").1.contains(&server.0.id().to_string()));
    assert!(beside.of("listen").1.contains("is ready") && beside.of("metrics").1.contains("answers"));
    let for_people = homeroom(folder.path()).arg("doctor").envs(settings).output().unwrap();
    let text = String::from_utf8(for_people.stdout).unwrap();
    assert!(for_people.status.success() && text.ends_with("0 for attention, 0 broken\n"), "{text}");
}

#[test]
fn what_is_not_there_yet_needs_attention_and_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("new");
    let before = examine(&data, &[]);
    assert_eq!((before.code, &*before.verdict, before.of("data.folder").0), (0, "attention", "attention"));
    assert!(!data.exists());
}

#[test]
fn a_folder_that_is_of_no_use_is_broken() {
    // Nobody can write there, not even root.
    let nowhere = examine(Path::new("/proc/self"), &[]);
    for check in ["data.folder", "data.room", "database.commit"] {
        nowhere.assert_broken(check, "");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    examine(&file, &[]).assert_broken("data.folder", "is no folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    examine(folder.path(), &[]).assert_broken("data.permissions", "chmod 700");
}

#[test]
fn an_sqlite_file_that_is_none_or_of_another_time_is_broken() {
    let folder = school(&[]);
    let database = folder.path().join("homeroom.db");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(7_200);
    std::fs::File::options().write(true).open(&database).unwrap().set_modified(later).unwrap();
    examine(folder.path(), &[]).assert_broken("clock", "gone back");
    std::fs::write(&database, "these are only words, and many of them: ".repeat(100)).unwrap();
    examine(folder.path(), &[]).assert_broken("database", "not a database");
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_broken_on_both_engines() {
    for ground in [Ground::sqlite(), Ground::postgres().await] {
        let db = ground.open().await;
        let of_postgres = match &ground.location {
            homeroom::db::Location::Postgres(url) => url.clone(),
            homeroom::db::Location::Sqlite(_) => String::new(),
        };
        let look = || examine(ground.folder.path(), &[("HOMEROOM_DATABASE_URL", &of_postgres)]);
        let (state, words) = (look().of("database.migrations").0.to_owned(), look().of("database.migrations").1);
        assert!(state == "ok" && words.contains("nothing pending"), "{words}");
        let newest = "(SELECT MAX(version) FROM _sqlx_migrations)";
        let forget = format!("UPDATE _sqlx_migrations SET success = FALSE WHERE version = {newest}");
        homeroom::execute!(db.writes(), sqlx::AssertSqlSafe(forget)).unwrap();
        look().assert_broken("database.migrations", "did not end");
        let other = format!("UPDATE _sqlx_migrations SET success = TRUE, checksum = $1 WHERE version = {newest}");
        homeroom::execute!(db.writes(), sqlx::AssertSqlSafe(other), vec![1_u8]).unwrap();
        look().assert_broken("database.migrations", "another one");
        let remove = format!("DELETE FROM _sqlx_migrations WHERE version = {newest}");
        homeroom::execute!(db.writes(), sqlx::AssertSqlSafe(remove)).unwrap();
        assert_eq!(look().of("database.migrations").0, "attention", "one is pending");
        homeroom::execute!(db.writes(), "UPDATE compatibility SET min_compatible_version = 1000000").unwrap();
        look().assert_broken("database.migrations", "needs version 1000000");
        db.close().await;
    }
}

#[test]
fn a_server_that_does_not_answer_or_is_open_to_others_is_broken() {
    let folder = school(&[]);
    let lock = std::fs::File::create(folder.path().join("homeroom.lock")).unwrap();
    lock.try_lock().unwrap();
    let held = examine(folder.path(), &[]);
    held.assert_broken("server", &std::process::id().to_string());
    drop(lock);
    let listen = free_address();
    let server = Server::start(folder.path(), &[("HOMEROOM_LISTEN", &listen)]);
    let socket = folder.path().join("control.sock");
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    examine(folder.path(), &[("HOMEROOM_LISTEN", &listen)]).assert_broken("server.control", "chmod 600");
    // Where nobody is, and where somebody else is.
    let (nobody, other) = (free_address(), listen);
    let elsewhere = [("HOMEROOM_LISTEN", &*nobody), ("HOMEROOM_METRICS_LISTEN", &*other)];
    let elsewhere = examine(folder.path(), &elsewhere);
    elsewhere.assert_broken("listen", "does not answer");
    elsewhere.assert_broken("metrics", "something else");
    drop(server);
}

#[test]
fn addresses_limits_and_settings_that_do_not_fit_are_broken() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = [
        ("HOMEROOM_LISTEN", &*address),
        ("HOMEROOM_METRICS_LISTEN", &*address),
        ("HOMEROOM_PUBLIC_URL", "http://homeroom.example"),
        ("HOMEROOM_TRUSTED_PROXIES", "0.0.0.0/0"),
    ];
    let all = examine(folder.path(), &settings);
    for check in ["listen", "metrics", "public_url", "trusted_proxies"] {
        all.assert_broken(check, "");
    }
    drop(taken);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_homeroom")]);
    limited.env("HOMEROOM_DATA_DIR", folder.path());
    report(limited).assert_broken("limits.files", "LimitNOFILE");
    let mistaken = [("HOMEROOM_LISTEN", "x"), ("HOMEROOM_DATABASE_URL", "mysql://a:geheim@b/c")];
    examine(folder.path(), &mistaken).assert_broken("configuration", "2 mistakes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_district_is_well_and_each_thing_that_its_postgres_can_lack_is_broken() {
    let own = postgres::Server::start("");
    let (url, redis) = (own.database().await, Redis::start().await);
    let (listen, of_redis) = (free_address(), redis.url());
    let settings =
        [("HOMEROOM_DATABASE_URL", &*url), ("HOMEROOM_REDIS_URLS", &*of_redis), ("HOMEROOM_LISTEN", &*listen)];
    let folder = school(&settings);
    examine(folder.path(), &settings).assert_well();
    let server = Server::start(folder.path(), &settings);
    let well = examine(folder.path(), &settings);
    well.assert_well();
    drop(server);
    for check in ["database.version", "database.keeping", "database.connections", "database.standby", "database.commit"]
    {
        assert_eq!(well.of(check).0, "ok");
    }
    let mut on = sqlx::PgConnection::connect(&url).await.unwrap();
    let name = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    let change = async |on: &mut sqlx::PgConnection, text: &str| {
        on.execute(sqlx::AssertSqlSafe(text.replace("THIS", &format!("DATABASE {name}")))).await.unwrap();
    };
    let look = || examine(folder.path(), &settings[..1]);
    change(&mut on, "ALTER THIS SET synchronous_commit = off").await;
    look().assert_broken("database.keeping", "synchronous_commit off");
    change(&mut on, "ALTER THIS RESET synchronous_commit").await;
    change(&mut on, "ALTER THIS SET default_transaction_read_only = on").await;
    look().assert_broken("database.keeping", "takes no writes");
    on.execute("SET default_transaction_read_only = off").await.unwrap();
    change(&mut on, "ALTER THIS RESET default_transaction_read_only").await;
    change(&mut on, "ALTER THIS CONNECTION LIMIT 10").await;
    look().assert_broken("database.connections", "10 connections are enough for 0 nodes");
    change(&mut on, "ALTER THIS CONNECTION LIMIT -1").await;
    // A server that tells another time, and takes no commit.
    change(&mut on, "CREATE SCHEMA shim").await;
    change(&mut on, "CREATE FUNCTION shim.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT now() - interval ''1 hour'''").await;
    let refuse = "CREATE FUNCTION shim.pg_logical_emit_message(bool, text, text) RETURNS pg_lsn LANGUAGE plpgsql
                  AS 'BEGIN RAISE ''no space left on device''; END'";
    change(&mut on, refuse).await;
    change(&mut on, "ALTER THIS SET search_path = shim, pg_catalog, public").await;
    let shimmed = look();
    shimmed.assert_broken("clock", "apart");
    shimmed.assert_broken("database.commit", "no space left");
    change(&mut on, "ALTER THIS RESET search_path").await;
    change(&mut on, "ALTER SYSTEM SET synchronous_standby_names = 'somebody'").await;
    change(&mut on, "SELECT pg_reload_conf()").await;
    eventually("the setting is taken up", || async { look().of("database.standby").0 == "broken" }).await;
    look().assert_broken("database.standby", "none is there");
    let missing = url.replace(&name, "nowhere");
    examine(folder.path(), &[("HOMEROOM_DATABASE_URL", &missing)]).assert_broken("database", "createdb");
    // The tests' shared server, whose disk does not keep what it is given.
    let careless = postgres::database().await;
    examine(folder.path(), &[("HOMEROOM_DATABASE_URL", &careless)]).assert_broken("database.keeping", "fsync off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_thing_that_a_redis_can_lack_is_broken() {
    let ground = Ground::postgres().await;
    let homeroom::db::Location::Postgres(url) = &ground.location else { panic!() };
    let look =
        |redis: &str| examine(ground.folder.path(), &[("HOMEROOM_DATABASE_URL", url), ("HOMEROOM_REDIS_URLS", redis)]);
    let redis = Redis::start().await;
    let well = look(&redis.url());
    for check in ["redis", "redis.version", "redis.buffer", "redis.news"] {
        assert_eq!(well.of(check).0, "ok", "{}", well.of(check).1);
    }
    look(&format!("redis://{}", free_address())).assert_broken("redis", "is it running");
    let other = Redis::start().await;
    look(&format!("{},{}", redis.url(), other.url())).assert_broken("redis.cluster", "not all are of a cluster");
    other.ask(&["REPLICAOF", "127.0.0.1", &redis.port.to_string()]).await.unwrap();
    look(&other.url()).assert_broken("redis.role", "replica");
    redis.ask(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 4096 4096 60"]).await.unwrap();
    look(&redis.url()).assert_broken("redis.buffer", "32mb");
    redis.ask(&["ACL", "SETUSER", "mute", "on", ">geheim", "+@all", "~*", "resetchannels"]).await.unwrap();
    look(&redis.url().replace("://", "://mute:geheim@")).assert_broken("redis.news", "ACL");
    look(&redis.url().replace("://", "://mute:geheim2@")).assert_broken("redis", "authentication failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_is_well_and_broken_without_one_of_its_masters() {
    let ground = Ground::postgres().await;
    let homeroom::db::Location::Postgres(url) = &ground.location else { panic!() };
    let mut cluster = Cluster::start().await;
    let redis = cluster.urls().join(",");
    let look = || examine(ground.folder.path(), &[("HOMEROOM_DATABASE_URL", url), ("HOMEROOM_REDIS_URLS", &redis)]);
    let well = look();
    for check in ["redis", "redis.cluster", "redis.news"] {
        assert_eq!(well.of(check).0, "ok", "{}", well.of(check).1);
    }
    cluster.0[2].kill();
    eventually("the others notice", || async {
        cluster.0[0].text(&["CLUSTER", "INFO"]).await.contains("cluster_state:fail")
    })
    .await;
    let torn = look();
    torn.assert_broken("redis", "is it running");
    torn.assert_broken("redis.cluster", "cluster that is fail");
}

#[test]
fn a_certificate_is_well_while_it_lasts_and_a_server_that_speaks_tls_too() {
    let folder = school(&[]);
    let with = |until_year| {
        let (files, _) = crate::tls::certify(folder.path(), until_year);
        let [certificate, key] = [files.certificate, files.key].map(|file| file.to_str().unwrap().to_owned());
        [("HOMEROOM_TLS_CERTIFICATE", certificate), ("HOMEROOM_TLS_KEY", key)]
    };
    let look = |settings: &[(&str, String)], listen: &str| {
        let mut command = homeroom(folder.path());
        command.env("HOMEROOM_LISTEN", listen).env("HOMEROOM_PUBLIC_URL", "https://homeroom.example");
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        report(command)
    };
    look(&with(2_001), "127.0.0.1:0").assert_broken("tls", "browsers refuse it");
    let (settings, listen) = (with(2_200), free_address());
    look(&settings, &listen).assert_well();
    let mut of_server: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    of_server.push(("HOMEROOM_LISTEN", &listen));
    let server = Server::start(folder.path(), &of_server);
    let beside = look(&settings, &listen);
    beside.assert_well();
    assert!(beside.of("listen").1.contains("speaks TLS"));
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let nobody: SocketAddr = free_address().parse().unwrap();
    let urls = [
        format!("postgres://ana:geheim@{nobody}/school"),
        format!("postgres://ana:ge/heim@{nobody}/school"),
        format!("postgres://ana:geheim@{nobody}:x/school"),
        format!("postgres://{nobody}/school?user=ana&password=geheim"),
        format!("postgres://{nobody}/school?password=geheim@x&sslmode=geheim"),
    ];
    for url in &urls {
        let redis = format!("redis://ana:geheim@{nobody}");
        for json in [&["doctor", "--json"][..], &["doctor"]] {
            let settings = [("HOMEROOM_DATABASE_URL", url.as_str()), ("HOMEROOM_REDIS_URLS", &redis)];
            let said = homeroom(folder.path()).args(json).envs(settings).output().unwrap();
            let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
            assert!(said.status.code() == Some(1) && !text.contains("heim"), "{url}: {text}");
        }
    }
}
