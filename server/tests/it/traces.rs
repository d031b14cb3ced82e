//! A trace of one message across two nodes, as a collector of OpenTelemetry gets it; and one that is not there.

use crate::node::{Ground, Node, connect, eventually, http, staff, token};
use crate::redis::Redis;
use homeroom::bus::local::Exchange;
use homeroom::config::Config;
use homeroom::trace::Export;
use homeroom_protocol::{Address, PersonId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use prost::Message;
use serde_json::json;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A step as the collector reads it.
#[derive(Debug, Clone)]
struct Seen {
    node: String,
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    took: Duration,
}

/// The smallest collector: takes requests of OTLP, and keeps what they say.
struct Collector {
    endpoint: String,
    steps: Arc<Mutex<Vec<Seen>>>,
    /// All bytes that came, as they came.
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let steps: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let collector = Self { endpoint, steps: steps.clone(), bytes: bytes.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(BufReader::new(stream), steps.clone(), bytes.clone()));
            }
        });
        collector
    }

    fn steps(&self) -> Vec<Seen> {
        self.steps.lock().unwrap().clone()
    }
}

async fn take(mut stream: BufReader<TcpStream>, steps: Arc<Mutex<Vec<Seen>>>, bytes: Arc<Mutex<Vec<u8>>>) {
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        bytes.lock().unwrap().extend_from_slice(&body);
        steps.lock().unwrap().extend(read(&body));
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn read(body: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for of_node in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let attributes = of_node.resource.unwrap().attributes;
        let text = |name: &str| {
            let value = attributes.iter().find(|of| of.key == name).unwrap().value.clone().unwrap().value.unwrap();
            let AnyValue::StringValue(text) = value else { panic!("{name} is no text") };
            text
        };
        assert_eq!(text("service.name"), "homeroom");
        for span in of_node.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            seen.push(Seen {
                node: text("service.instance.id"),
                name: span.name,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
                took: Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano),
            });
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_is_one_trace_across_two_nodes_and_says_nothing_of_people() {
    let (redis, collector) = (Redis::start().await, Collector::start().await);
    let ground = Ground::postgres().await;
    let traces = Some(Export { endpoint: collector.endpoint.clone(), ratio: 1.0 });
    let config = Config { redis_urls: vec![redis.url()], traces, ..ground.config() };
    let node = Node::start_as(ground, &config, &Exchange::default()).await;
    let other = homeroom::app::start_on(&config, &Exchange::default()).await.unwrap();
    let (room, school) = (node.school.room, &node.school);
    let mut there = connect(other.address).await;
    there.say(json!({ "type": "hello", "token": node.token(school.ana) })).await;
    there.hear("caught_up").await;
    let mut here = node.session(school.teacher).await;
    here.hear("caught_up").await;
    for counts in [&other.bus, &node.running.bus] {
        eventually("both hear of the room", || async { counts.subscribed.load(Ordering::Relaxed) == 2 }).await;
    }
    assert_eq!(here.post(room, Address::Announcements, "swordfish").await["type"], "ack");
    let event = there.hear("event").await;

    let names = |steps: &[Seen]| -> Vec<String> { steps.iter().map(|step| step.name.clone()).collect() };
    let mut expected = ["post", "commit", "publish", "hand over", "deliver", "hear", "hand over", "deliver"];
    expected.sort_unstable();
    eventually("all steps are there", || async {
        let mut names = names(&collector.steps());
        names.sort_unstable();
        names == expected
    })
    .await;
    let steps = collector.steps();
    assert_eq!(steps.iter().map(|step| &step.trace).collect::<HashSet<_>>().len(), 1, "{steps:#?}");
    let named = |name: &str, node: &str| {
        steps.iter().find(|step| step.name == name && step.node == node).unwrap_or_else(|| panic!("{name} on {node}"))
    };
    let home = &steps.iter().find(|step| step.name == "post").unwrap().node;
    let away = &steps.iter().find(|step| step.name == "hear").unwrap().node;
    assert_ne!(home, away);
    assert!(named("post", home).parent.is_empty(), "it begins there");
    for (name, node, before, node_before) in [
        ("commit", home, "post", home),
        ("publish", home, "commit", home),
        ("hand over", home, "commit", home),
        ("deliver", home, "commit", home),
        ("hear", away, "publish", home),
        ("hand over", away, "hear", away),
        ("deliver", away, "hear", away),
    ] {
        assert_eq!(named(name, node).parent, named(before, node_before).id, "{name} follows {before}");
    }
    assert!(named("post", home).took >= named("commit", home).took, "whoever waits for it waits longer");

    // To clients goes nothing of it, and to the collector nothing of them.
    let trace: String = steps[0].trace.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!event.to_string().contains("trace") && !event.to_string().contains(&trace), "{event}");
    let sent = String::from_utf8_lossy(&collector.bytes.lock().unwrap()).into_owned();
    assert!(sent.contains(event["id"].as_str().unwrap()), "the event's id is there");
    let people = [school.teacher.to_string(), school.ana.to_string(), room.to_string()];
    let secrets = ["swordfish", "Class 4B", "Tea", node.token(school.teacher), node.token(school.ana)];
    for word in people.iter().map(String::as_str).chain(secrets) {
        assert!(!sent.contains(word), "{word} was told to the collector");
    }
    other.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_its_traces_and_nothing_else() {
    let ground = Ground::sqlite();
    // A port that somebody had, and nobody has now.
    let endpoint = format!("http://{}", TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap());
    let config = Config { traces: Some(Export { endpoint, ratio: 1.0 }), ..ground.config() };
    let node = Node::start_as(ground, &config, &Exchange::default()).await;
    let mut teacher = node.session(node.school.teacher).await;
    assert_eq!(teacher.post(node.school.room, Address::Announcements, "one").await["n"], 1);
    let metrics = format!("http://{}/metrics", node.running.metrics_address.unwrap());
    eventually("it is counted", || async {
        let text = http().get(&metrics).send().await.unwrap().text().await.unwrap();
        text.contains("homeroom_traces_lost_total") && !text.contains("homeroom_traces_lost_total 0")
    })
    .await;
    assert_eq!(teacher.post(node.school.room, Address::Announcements, "two").await["n"], 2);
    let began = Instant::now();
    node.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for it: {:?}", began.elapsed());
}

/// It takes connections and all that is sent, and says nothing: more steps come than wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_is_noticed_by_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counts.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    });
    let ground = Ground::sqlite();
    let config = Config { traces: Some(Export { endpoint, ratio: 1.0 }), ..ground.config() };
    let node = Node::start_as(ground, &config, &Exchange::default()).await;
    let (room, school) = (node.school.room, &node.school);
    let mut ana = node.session(school.ana).await;
    ana.hear("caught_up").await;
    let mut n = 0;
    let mut slowest = Duration::ZERO;
    // Five steps each, over what waits for the collector.
    for _ in 0..12 {
        // Nobody may say so much at once.
        let (teacher, text) = (
            PersonId::new(),
            "INSERT INTO person (id, district_id, source_id, source_digest, username, given_name, family_name)
             SELECT $1, district_id, $2, source_digest, $2, 'Tea', 'Cher' FROM person WHERE id = $3",
        );
        homeroom::execute!(node.log().db().writes(), text, teacher.0, teacher.to_string(), school.teacher.0).unwrap();
        node.log().change_members(room, vec![staff(teacher, true)]).await.unwrap();
        let token = token(node.log().db(), teacher).await;
        let mut teacher = node.connect().await;
        teacher.say(json!({ "type": "hello", "token": token })).await;
        teacher.hear("caught_up").await;
        for _ in 0..50 {
            n += 1;
            let began = Instant::now();
            assert_eq!(teacher.post(room, Address::Announcements, "x").await["n"], n);
            assert_eq!(ana.hear("event").await["n"], n);
            slowest = slowest.max(began.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(1), "a delivery waited {slowest:?}");
    eventually("the collector is asked", || async { asked.load(Ordering::Relaxed) > 0 }).await;
    let began = Instant::now();
    node.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for it: {:?}", began.elapsed());
}

#[test]
fn only_the_share_that_was_asked_for_is_traced() {
    let begun = |ratio| {
        let traces = Export { endpoint: "http://127.0.0.1:9".to_owned(), ratio }.start().unwrap();
        (0..1_000).filter(|_| traces.begin("post").is_some()).count()
    };
    assert_eq!(begun(0.0), 0);
    assert_eq!(begun(1.0), 1_000);
    let some = begun(0.2);
    assert!((100..300).contains(&some), "{some}");
    assert!(Export { endpoint: "no address".to_owned(), ratio: 1.0 }.start().is_err());
}
