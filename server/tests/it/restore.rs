//! A PostgreSQL that is copied with its own tools and put back, as docs/operations.md says it: what clients see afterwards.
//!
//! Owns: pg_dump, pg_restore, and clients that had come further than the copy. Refuses to know: a database that is put back under
//! running nodes (see `bus`), and SQLite's copies (see `cli`).

use crate::node::{Ground, Node, connect, http, post};
use crate::postgres;
use homeroom::app;
use homeroom::db::Location;
use homeroom_protocol::Address;
use serde_json::{Value, json};
use std::process::Command;

fn tool(name: &str, arguments: &[&str]) {
    let done = Command::new(format!("/usr/lib/postgresql/15/bin/{name}")).args(arguments).output().unwrap();
    assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_had_come_further_than_a_restored_dump_are_reset_and_all_go_on() {
    let ground = Ground::postgres().await;
    let Location::Postgres(url) = ground.location.clone() else { panic!() };
    let file = ground.folder.path().join("school.dump");
    let file = file.to_str().unwrap().to_owned();
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let mut ben = node.session(school.ben).await;
    ben.hear("caught_up").await;
    let mut last = Value::Null;
    for number in 1..=3 {
        assert_eq!(teacher.post(room, Address::Announcements, "before the copy").await["n"], number);
        last = ben.hear("event").await["id"].clone();
    }
    let bens_position = json!({ room.to_string(): last });
    drop(ben);
    tool("pg_dump", &["--format=custom", &format!("--file={file}"), &format!("--dbname={url}")]);

    let mut ana = node.session(school.ana).await;
    ana.hear("caught_up").await;
    let lost = post(room, Address::Announcements, "after the copy");
    assert_eq!(teacher.ask(lost.clone()).await["n"], 4);
    let anas_position = json!({ room.to_string(): ana.hear("event").await["id"] });
    let tokens = [school.teacher, school.ana, school.ben].map(|person| node.token(person).to_owned());
    let Node { running, .. } = node;
    running.stop().await;

    // On another machine, whose transactions are counted from the beginning.
    let elsewhere = postgres::Server::start("");
    let restored = elsewhere.database().await;
    tool("pg_restore", &["--exit-on-error", &format!("--dbname={restored}"), &file]);
    let folder = tempfile::tempdir().unwrap();
    let ground = Ground { folder, location: Location::Postgres(restored) };
    let running = app::start(&ground.config()).await.unwrap();
    let resume = async |token: &str, positions: &Value| {
        let mut socket = connect(running.address).await;
        socket.say(json!({ "type": "hello", "token": token, "positions": positions })).await;
        socket
    };
    let mut ana = resume(&tokens[1], &anas_position).await;
    assert_eq!(ana.hear("reset").await["reason"], "unknown_position");
    ana.hear("caught_up").await;
    let history = format!("http://{}/api/v1/rooms/{room}", running.address);
    let snapshot = http().get(history).bearer_auth(&tokens[1]).send().await.unwrap().text().await.unwrap();
    assert!(snapshot.contains("before the copy") && !snapshot.contains("after the copy"), "{snapshot}");
    let mut ben = resume(&tokens[2], &bens_position).await;
    let quiet = ben.until("caught_up").await;
    assert!(quiet.iter().all(|frame| frame["type"] != "reset" && frame["type"] != "event"), "{quiet:?}");

    // What the copy lacked is sent again by a device that still has it, once.
    let mut teacher = resume(&tokens[0], &json!({})).await;
    teacher.hear("caught_up").await;
    let again = teacher.ask(lost.clone()).await;
    assert_eq!((&again["type"], &again["n"]), (&json!("ack"), &json!(4)));
    assert_eq!(teacher.ask(lost).await, json!({ "type": "ack", "ref": 2, "id": again["id"], "n": 4 }));
    for socket in [&mut ana, &mut ben] {
        assert_eq!(socket.hear("event").await["message"]["envelope"]["text"], "after the copy");
    }
    running.stop().await;
}
