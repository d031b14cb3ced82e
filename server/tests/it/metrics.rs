//! `/metrics`: all that the documentation names and nothing else, and that it moves when it should.

use crate::node::{Ground, Node, eventually, http, repository};
use homeroom::bus::local::Exchange;
use homeroom::config::Config;
use homeroom::trace::Export;
use homeroom_protocol::Address;
use serde_json::json;
use std::collections::BTreeMap;

async fn metrics(node: &homeroom::app::Running) -> String {
    let address = format!("http://{}/metrics", node.metrics_address.unwrap());
    http().get(address).send().await.unwrap().text().await.unwrap()
}

/// The value of one line, by all that stands before it.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

/// Name and type of each metric in the documentation's table.
fn documented() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let (_, section) = page.split_once("\n## Metrics\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut names = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `homeroom_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for name in cells[1].split(',') {
            let name = name.trim().trim_matches('`').to_owned();
            assert!(names.insert(name.clone(), cells[2].to_owned()).is_none(), "{name} stands there twice");
        }
    }
    names
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_one_is_there() {
    let ground = Ground::sqlite();
    // Some are there with TLS only, one with traces.
    let (files, _) = crate::tls::certify(ground.folder.path(), 2_200);
    let traces = Some(Export { endpoint: "http://127.0.0.1:9".to_owned(), ratio: 0.0 });
    let config = Config { tls: Some(files), traces, ..ground.config() };
    let node = Node::start_as(ground, &config, &Exchange::default()).await;
    let text = metrics(&node.running).await;
    let mut shown = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(text.lines().any(|line| line.starts_with(&name)), "{name} has no value");
        shown.insert(name, kind.to_owned());
    }
    assert!(shown.len() > 30, "{shown:?}");
    assert_eq!(shown, documented());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_on_two_nodes_is_counted() {
    let ground = Ground::postgres().await;
    let exchange = Exchange::default();
    let other_config = Config { ..ground.config() };
    let node = Node::start_on(ground, &exchange).await;
    let other = homeroom::app::start_on(&other_config, &exchange).await.unwrap();
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let mut there = crate::node::connect(other.address).await;
    there.say(json!({ "type": "hello", "token": node.token(school.ana) })).await;
    there.hear("caught_up").await;
    let said = teacher.post(room, Address::Announcements, "one").await;
    teacher.post(room, Address::Announcements, "two").await;
    let retract = json!({ "type": "retract", "room": room, "client_id": uuid::Uuid::now_v7(), "message": said["id"] });
    assert_eq!(teacher.ask(retract).await["type"], "ack");
    while there.hear("event").await["kind"] != "retracted" {}

    let here = metrics(&node.running).await;
    for (kind, count) in [("posted", 2.0), ("retracted", 1.0), ("edited", 0.0), ("member_joined", 3.0)] {
        assert_eq!(value(&here, &format!("homeroom_appended_total{{kind=\"{kind}\"}}")), count, "{kind}");
    }
    assert_eq!(value(&here, "homeroom_draining"), 0.0);
    assert_eq!(value(&here, "homeroom_lane_waiting{lane=\"1\"}"), 0.0);
    let elsewhere = metrics(&other).await;
    assert_eq!(value(&elsewhere, "homeroom_appended_total{kind=\"posted\"}"), 0.0);
    assert!(value(&elsewhere, "homeroom_bus_lag_seconds_count") >= 2.0);
    assert!(value(&elsewhere, "homeroom_bus_lag_seconds_sum") < 10.0, "one clock: no lag of hours");
    let lag = value(&elsewhere, "homeroom_bell_lag_seconds");
    assert!(lag > 0.0 && lag < 5.0, "{lag}");

    drop(there);
    teacher.stream.close(None).await.unwrap();
    eventually("both have left", || async {
        let ended = |text: &str| value(text, "homeroom_sessions_ended_total{reason=\"dropped\"}");
        ended(&metrics(&other).await) == 1.0 && ended(&metrics(&node.running).await) == 1.0
    })
    .await;
    other.node.draining.store(true, std::sync::atomic::Ordering::Release);
    assert_eq!(value(&metrics(&other).await, "homeroom_draining"), 1.0);
    other.stop().await;
    node.stop().await;
}

/// A guardian who comes back to a node that knows nothing yet has no page read of what was said to others; who was spoken to has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coming_back_to_a_cold_node_reads_no_page_of_what_was_said_to_others() {
    let ground = Ground::postgres().await;
    let cold = ground.config();
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let position = teacher.post(room, Address::Announcements, "for all").await["id"].clone();
    for _ in 0..3 {
        assert_eq!(teacher.post(room, school.with_ben(), "for Ben").await["type"], "ack");
    }
    let cold = homeroom::app::start_on(&cold, &Exchange::default()).await.unwrap();
    for (person, events, pages) in [(school.ana, 0, 0.0), (school.ben, 3, 1.0)] {
        let mut socket = crate::node::connect(cold.address).await;
        let positions = json!({ room.to_string(): position });
        socket.say(json!({ "type": "hello", "token": node.token(person), "positions": positions })).await;
        let heard = socket.until("caught_up").await;
        assert_eq!(heard.iter().filter(|frame| frame["type"] == "event").count(), events);
        assert_eq!(value(&metrics(&cold).await, "homeroom_pages_read_total"), pages);
    }
    cold.stop().await;
    node.stop().await;
}
