//! Several nodes on one PostgreSQL, with Redis between them: what it buys, and that nothing but time is lost without it.

use crate::node::{Ground, Node, Socket, connect, eventually, guardian, post};
use crate::redis::{Cluster, Redis};
use homeroom::app::{self, Running};
use homeroom::bus::local::Exchange;
use homeroom::config::Config;
use homeroom_protocol::Address;
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Two nodes, with a teacher on one and a guardian on the other.
struct Pair {
    node: Node,
    other: Running,
    here: Socket,
    there: Socket,
    n: u64,
}

impl Pair {
    async fn start(redis_urls: Vec<String>) -> Self {
        let ground = Ground::postgres().await;
        let other_config = Config { redis_urls: redis_urls.clone(), ..ground.config() };
        let node = Box::pin(Node::start_with(ground, redis_urls)).await;
        let other = Box::pin(app::start_on(&other_config, &Exchange::default())).await.unwrap();
        let mut there = connect(other.address).await;
        there.say(json!({ "type": "hello", "token": node.token(node.school.ana) })).await;
        there.hear("caught_up").await;
        let mut here = node.session(node.school.teacher).await;
        here.hear("caught_up").await;
        Self { node, other, here, there, n: 0 }
    }

    /// Waits until both nodes are confirmed to hear of the room and of what concerns everybody.
    async fn until_subscribed(&self) {
        for counts in [&self.other.bus, &self.node.running.bus] {
            eventually("both channels are confirmed", || async { counts.subscribed.load(Relaxed) == 2 }).await;
        }
    }

    /// Announces; gives how long it took to be acknowledged, and to arrive on the other node.
    async fn announce(&mut self) -> (Duration, Duration) {
        self.n += 1;
        let began = Instant::now();
        let ack = self.here.post(self.node.school.room, Address::Announcements, &format!("text {}", self.n)).await;
        assert_eq!((&ack["type"], &ack["n"]), (&json!("ack"), &json!(self.n)));
        let acknowledged = began.elapsed();
        assert_eq!(self.there.hear("event").await["n"], json!(self.n), "nothing is lost, doubled or out of order");
        (acknowledged, began.elapsed())
    }

    fn heard(&self) -> u64 {
        self.other.bus.heard.load(Relaxed)
    }

    async fn stop(self) {
        self.other.stop().await;
        self.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_commits_the_other_hears_through_redis_and_not_by_the_bell() {
    let redis = Redis::start().await;
    let mut pair = Pair::start(vec![redis.url()]).await;
    pair.until_subscribed().await;
    let mut took = Vec::new();
    for _ in 0..40 {
        took.push(pair.announce().await.1);
    }
    took.sort_unstable();
    eventually("Redis brings each of them", || async { pair.heard() == 40 }).await;
    // The bell may be first where this process had to wait for a core just then; by the bell alone all 40 were read.
    let filled = pair.other.node.tails.counts().filled.load(Relaxed);
    assert!(filled < 20, "the log was asked {filled} times");
    assert!(took[20] < Duration::from_millis(200), "the bell alone takes about that: {took:?}");
    // What concerns no room, and what is typed, go the same way.
    let (room, to) = (pair.node.school.room, Address::Announcements);
    let conversation = pair.node.school.with_ana();
    assert_eq!(pair.here.ask(json!({ "type": "typing", "room": room, "to": conversation })).await["type"], "ack");
    assert_eq!(pair.there.hear("typing").await["person"], json!(pair.node.school.teacher));
    let read = json!({ "type": "read", "room": room, "conversation": to.conversation(room), "n": 40 });
    assert_eq!(pair.there.ask(read).await["type"], "ack");
    assert_eq!(pair.here.hear("mark").await["read"], 40);
    let who = homeroom::identity::who(pair.node.log().db(), pair.node.token(pair.node.school.ana)).await.unwrap();
    pair.node.running.node.signed_out(who.unwrap().login);
    assert_eq!(pair.there.closed().await, 4401);
    // Rooms that nobody is in any more are not listened to.
    eventually("the room is let go of", || async {
        pair.other.node.tails.sweep();
        pair.other.node.tails.held() == 1
    })
    .await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_dies_restarts_hangs_or_is_flushed_costs_time_only() {
    let mut redis = Redis::start().await;
    let mut pair = Pair::start(vec![redis.url()]).await;
    pair.until_subscribed().await;
    pair.announce().await;

    redis.kill();
    for _ in 0..5 {
        let (acknowledged, arrived) = pair.announce().await;
        assert!(
            acknowledged < Duration::from_secs(1) && arrived < Duration::from_secs(2),
            "{acknowledged:?} {arrived:?}"
        );
    }
    redis.run().await;
    pair.until_subscribed().await;
    let heard = pair.heard();
    eventually("news come through Redis again", || async { pair.other.bus.connected.load(Relaxed) == 1 }).await;
    let mut rounds = 0;
    while pair.heard() == heard {
        pair.announce().await;
        rounds += 1;
        assert!(rounds < 200, "Redis is back and nothing comes through it");
    }

    redis.pause(true);
    for _ in 0..5 {
        let (acknowledged, _) = pair.announce().await;
        assert!(acknowledged < Duration::from_secs(1), "a stuck Redis never holds up an acknowledgement");
    }
    let bus = pair.node.running.node.bus.clone();
    let mut rounds = 0;
    while bus.waiting().to_send == 0 {
        pair.announce().await;
        rounds += 1;
        assert!(rounds < 50, "Redis takes nothing, and nothing waits for it");
    }
    redis.pause(false);
    eventually("it takes what waited", || async { bus.waiting().to_send == 0 }).await;
    redis.ask(&["FLUSHALL"]).await.unwrap();
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    for _ in 0..5 {
        pair.announce().await;
    }
    pair.until_subscribed().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_repeats_the_past_or_speaks_nonsense_changes_nothing() {
    let redis = Redis::start().await;
    let mut pair = Pair::start(vec![redis.url()]).await;
    pair.until_subscribed().await;
    // Somebody else listens, and says everything again, backwards, as a broker that fails over might.
    let channel = format!("homeroom:{{{}}}", pair.node.school.room.0.simple());
    let client = redis::Client::open(redis.url()).unwrap();
    let mut spy = client.get_async_pubsub().await.unwrap();
    spy.subscribe(&channel).await.unwrap();
    let mut said: Vec<Vec<u8>> = Vec::new();
    for _ in 0..10 {
        pair.announce().await;
    }
    {
        use futures_util::StreamExt;
        let mut messages = spy.on_message();
        while said.len() < 10 {
            said.push(messages.next().await.unwrap().get_payload().unwrap());
        }
    }
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for bytes in said.iter().rev().chain(&said) {
        let () = redis::cmd("PUBLISH").arg(&channel).arg(bytes).query_async(&mut connection).await.unwrap();
    }
    for nonsense in [&b""[..], b"H1", b"H1aaaaaaaaaaaaaaaa{}", b"\xff\xfe", &[b'x'; 100_000]] {
        let () = redis::cmd("PUBLISH").arg(&channel).arg(nonsense).query_async(&mut connection).await.unwrap();
    }
    eventually("nonsense is counted", || async { pair.other.bus.hear_dropped.load(Relaxed) == 5 }).await;
    for _ in 0..10 {
        pair.announce().await;
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_followed_as_its_slots_move_and_its_masters_die() {
    let mut cluster = Cluster::start().await;
    let mut pair = Pair::start(cluster.urls()).await;
    pair.until_subscribed().await;
    for _ in 0..5 {
        pair.announce().await;
    }
    assert_eq!(pair.heard(), 5, "sharded pub/sub carries it");
    assert_eq!(pair.other.bus.connected.load(Relaxed), 3);

    let channel = format!("homeroom:{{{}}}", pair.node.school.room.0.simple());
    let Ok(redis::Value::Int(slot)) = cluster.0[0].ask(&["CLUSTER", "KEYSLOT", &channel]).await else {
        panic!("no slot")
    };
    let slot = u16::try_from(slot).unwrap();
    let owner = [5_460, 10_922, 16_383].iter().position(|last| slot <= *last).unwrap();
    let next = (owner + 1) % 3;
    cluster.move_slot(slot, next).await;
    let mut rounds = 0;
    let mut heard = pair.heard();
    // Found by what is refused, or by looking; meanwhile the bell brings everything.
    loop {
        pair.announce().await;
        rounds += 1;
        assert!(rounds < 200, "the slot moved and nobody followed");
        if pair.heard() > heard {
            break;
        }
        heard = pair.heard();
    }

    cluster.0[next].kill();
    for _ in 0..5 {
        let (acknowledged, _) = pair.announce().await;
        assert!(acknowledged < Duration::from_secs(1));
    }
    cluster.0[next].run().await;
    cluster.until_whole().await;
    pair.until_subscribed().await;
    let heard = pair.heard();
    let mut rounds = 0;
    while pair.heard() == heard {
        pair.announce().await;
        rounds += 1;
        assert!(rounds < 200, "the master is back and nothing comes through it");
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_added_to_a_room_that_their_node_does_not_hold_is_told() {
    let ground = Ground::postgres().await;
    let other_config = ground.config();
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    node.log().change_members(room, vec![guardian(school.ana, school.anas_child, false)]).await.unwrap();
    let other = app::start_on(&other_config, &Exchange::default()).await.unwrap();
    let mut there = connect(other.address).await;
    there.say(json!({ "type": "hello", "token": node.token(school.ana) })).await;
    assert_eq!(there.hear("welcome").await["rooms"], json!([]));
    assert_eq!(other.node.tails.held(), 0);
    node.log().change_members(room, vec![guardian(school.ana, school.anas_child, true)]).await.unwrap();
    assert_eq!(there.hear("joined").await["room"]["room"], json!(room));
    let mut here = node.session(school.teacher).await;
    here.ask(post(room, Address::Announcements, "welcome")).await;
    assert_eq!(there.hear("event").await["kind"], "posted");
    other.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_put_back_to_an_earlier_state_is_noticed_and_everybody_begins_anew() {
    let mut pair = Pair::start(Vec::new()).await;
    for _ in 0..5 {
        pair.announce().await;
    }
    let room = pair.node.school.room;
    // Yesterday's state: the last three announcements never were.
    let db = pair.node.log().db();
    for text in [
        // It knows nothing of what was rung since. With a row that says more, a bell that looks back far enough tells the greater head.
        "DELETE FROM bell WHERE room_id = $1",
        "DELETE FROM client_command WHERE event_id IN (SELECT id FROM event WHERE room_id = $1 AND n > 2)",
        "DELETE FROM event WHERE room_id = $1 AND n > 2",
        "UPDATE conversation SET last_n = 2, last_seq = 5 WHERE room_id = $1",
        "UPDATE room SET last_seq = 5, last_event_id = (SELECT id FROM event WHERE room_id = $1 AND seq = 5) WHERE id = $1",
    ] {
        homeroom::execute!(db.writes(), text, room.0).unwrap();
    }
    // The next post follows another event than the tails know.
    let position = pair.there.welcome.clone();
    assert_eq!(position, Value::Null);
    let ack = pair.here.post(room, Address::Announcements, "after the restore").await;
    assert_eq!(ack["n"], 3);
    assert!(pair.here.closed().await >= 4500 && pair.there.closed().await >= 4500, "come back, with backoff");
    let mut back = connect(pair.other.address).await;
    let gone = homeroom_protocol::EventId::new();
    back.say(json!({ "type": "hello", "token": pair.node.token(pair.node.school.ana), "positions": { room.to_string(): gone } })).await;
    assert_eq!(back.hear("reset").await["reason"], "unknown_position");
    let ack = {
        let mut teacher = pair.node.session(pair.node.school.teacher).await;
        teacher.post(room, Address::Announcements, "and on").await
    };
    assert_eq!(ack["n"], 4);
    assert_eq!(back.hear("event").await["n"], 4);
    assert!(pair.node.running.node.tails.counts().rewritten.load(Relaxed) >= 1);
    pair.stop().await;
}
