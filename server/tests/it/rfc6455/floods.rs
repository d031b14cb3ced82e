//! Floods of frames that are each allowed: the server's memory stays flat, and the neighbours hear what is said meanwhile.
//!
//! Owns: the floods and how much memory they may cost. Refuses to know: what is allowed.

use super::{LIMIT, Scene};
use crate::node::eventually;
use crate::raw::{Raw, announced, masked};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

/// What a server's memory may grow by during a flood. A debug build's heap breathes by one or two megabytes.
const FLAT: u64 = 8 * 1024 * 1024;
/// Connections that do the same at once, where one alone would not be seen.
const MANY: usize = 200;

/// Looks at the memory and lets neighbours talk until the flood is over; gives what it was handed.
async fn meanwhile<T>(scene: &mut Scene, what: &str, flood: JoinHandle<T>) -> T {
    let before = scene.server.resident();
    let mut most = before;
    while !flood.is_finished() {
        scene.neighbours_hear(what).await;
        most = most.max(scene.server.resident());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let flood = flood.await.unwrap();
    most = most.max(scene.server.resident());
    assert!(most - before < FLAT, "{what}: {} KB more", (most - before) / 1_024);
    flood
}

/// A server whose heap has seen what it does every day.
async fn warm() -> Scene {
    let mut scene = Scene::set().await;
    let devices: Vec<Raw> = {
        let mut devices = Vec::new();
        for _ in 0..MANY {
            devices.push(scene.device().await);
        }
        devices
    };
    scene.neighbours_hear("before").await;
    drop(devices);
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_empty_fragments_cost_nothing_and_the_message_is_whole() {
    let mut scene = warm().await;
    let mut raw = Raw::connect(scene.server.address).await;
    raw.say(&json!({ "type": "hello", "token": scene.demo.teachers })).await;
    raw.reader.hear("caught_up").await;
    let post = scene.post(1, "what was between them").to_string();
    let flood = tokio::spawn(async move {
        let (start, end) = post.as_bytes().split_at(post.len() / 2);
        raw.send(&masked(0x01, start)).await;
        let thousand = masked(0x00, b"").repeat(1_000);
        for _ in 0..1_000 {
            raw.send(&thousand).await;
        }
        raw.send(&masked(0x80, end)).await;
        raw.reader.hear("ack").await
    });
    assert_eq!(meanwhile(&mut scene, "a million empty fragments", flood).await["ref"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_unread_pongs_wait_in_the_network_and_not_in_the_server() {
    const PINGS: u32 = 200_000;
    let mut scene = warm().await;
    let Raw { mut reader, mut writer } = scene.device().await;
    let numbered = |number: u32| [&number.to_be_bytes()[..], &[7; 121]].concat();
    let before = scene.server.resident();
    let sent = Arc::new(AtomicU32::new(0));
    // 26 MB. Once the pongs fill the network, the server reads no more, and this waits until somebody reads them.
    let counting = sent.clone();
    let flood = tokio::spawn(async move {
        for number in 0..PINGS {
            writer.write_all(&masked(0x89, &numbered(number))).await.unwrap();
            counting.store(number + 1, Ordering::Relaxed);
        }
        writer
    });
    eventually("the first are sent", || async { sent.load(Ordering::Relaxed) > 0 }).await;
    let mut seen = 0;
    while seen < sent.load(Ordering::Relaxed) {
        seen = sent.load(Ordering::Relaxed);
        for _ in 0..5 {
            scene.neighbours_hear("pongs that nobody reads").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let grown = scene.server.resident().saturating_sub(before);
        assert!(grown < FLAT, "{seen} pongs that nobody reads: {} KB more", grown / 1_024);
    }
    assert!(seen < PINGS, "so many pongs are in nobody's buffers");
    let reading = tokio::spawn(async move {
        for number in 0..PINGS {
            assert_eq!(reader.pong().await, numbered(number));
        }
    });
    meanwhile(&mut scene, "pongs that are read at last", reading).await;
    drop(flood.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_with_the_smallest_frames_leaves_nothing_behind_in_the_server() {
    let mut scene = warm().await;
    let mut devices = Vec::new();
    for _ in 0..MANY / 4 {
        devices.push(scene.device().await);
    }
    // As many as the server reads at once: each connection's share of what it makes of them must go when they are answered.
    let pings = masked(0x89, b"").repeat(LIMIT / 6);
    let flood = tokio::spawn(async move {
        for device in &mut devices {
            device.send(&pings).await;
            for _ in 0..LIMIT / 6 {
                assert_eq!(device.reader.pong().await, b"");
            }
        }
        devices
    });
    drop(meanwhile(&mut scene, "the smallest frames", flood).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_announced_and_never_comes_costs_nothing() {
    let mut scene = warm().await;
    let mut devices = Vec::new();
    for _ in 0..MANY {
        devices.push(scene.device().await);
    }
    let flood = tokio::spawn(async move {
        let begun = [announced(0x81, 126, 65_535), vec![1, 2, 3, 4, b'{']].concat();
        for device in &mut devices {
            device.send(&begun).await;
        }
        // An empty ping inside a frame would be its payload; so nothing can be asked, and a while must do.
        tokio::time::sleep(Duration::from_millis(500)).await;
        devices
    });
    drop(meanwhile(&mut scene, "half a million announced", flood).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_and_never_reads_the_answers_is_not_read_any_further() {
    let mut scene = warm().await;
    let mut devices = Vec::new();
    for _ in 0..MANY / 10 {
        devices.push(scene.sign_in(Raw::connect_narrow(scene.server.address).await).await);
    }
    // Each is refused, in twenty times as many bytes as it has.
    let nonsense = masked(0x81, b"").repeat(LIMIT / 6);
    let flood = tokio::spawn(async move {
        for device in &mut devices {
            // What the server does not read waits on this side.
            let _more = tokio::time::timeout(Duration::from_millis(200), device.send(&nonsense.repeat(8))).await;
        }
        devices
    });
    drop(meanwhile(&mut scene, "answers that nobody reads", flood).await);
}

/// One worker has both: what came in one piece is taken in by turns, and the neighbour has theirs in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_much_at_once_takes_turns_with_their_neighbours() {
    let scene = Scene::set_with(&["--workers", "1"]).await;
    let (mut flooder, mut neighbour) = (scene.device().await, scene.device().await);
    // Each of the texts is refused; the ping is answered last.
    let much = [masked(0x81, b"").repeat(LIMIT / 6), masked(0x89, b"")].concat();
    flooder.send(&much).await;
    assert_eq!(flooder.reader.hear("error").await["code"], "malformed");
    let answers = tokio::spawn(async move { flooder.reader.skip_until(&[0x8A, 0]).await });
    let mut turns = 0;
    while !answers.is_finished() {
        neighbour.send(&masked(0x89, b"")).await;
        neighbour.reader.pong().await;
        turns += 1;
    }
    answers.await.unwrap();
    assert!(turns >= 10, "the neighbour was answered {turns} times between the first refusal and the last");
}
