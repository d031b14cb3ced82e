//! What a client has taken in, and what it asks for when it comes back.

use crate::fake::{Fake, event, next_event, until, welcome};
use homeroom_client::*;

#[tokio::test]
async fn after_a_cut_it_resumes_from_the_last_event_it_took_in() {
    let fake = Fake::start().await;
    let (room, quiet) = (RoomId::new(), RoomId::new());
    let (_client, mut updates) = Client::start(fake.options()).unwrap();

    let (mut peer, positions) = fake.welcome(&[room, quiet]).await;
    assert!(positions.is_empty(), "a fresh client starts at the end");
    let first = event(room, 5);
    peer.say(&ServerFrame::Event(first.clone())).await;
    assert_eq!(next_event(&mut updates).await, first);
    drop(peer);

    let (mut peer, positions) = fake.welcome(&[room, quiet]).await;
    assert_eq!(positions, [(room, Some(first.id)), (quiet, None)].into());
    let second = event(room, 6);
    peer.say(&ServerFrame::Event(second.clone())).await;
    assert_eq!(next_event(&mut updates).await, second);
    assert_eq!(updates.progress().rooms[&room].position, Some(second.id));

    // Another program, started with what this one kept, goes on from there.
    let mut options = fake.options();
    options.progress = updates.progress().clone();
    drop(updates);
    let (_client, mut updates) = Client::start(options).unwrap();
    let (mut peer, positions) = fake.welcome(&[room, quiet]).await;
    assert_eq!(positions[&room], Some(second.id));
    peer.say(&ServerFrame::Event(event(room, 8))).await;
    let anomaly = until(&mut updates, |update| match update {
        Update::Anomaly(anomaly) => Some(anomaly),
        _ => None,
    })
    .await;
    assert!(matches!(anomaly, Anomaly::Hole { expected: 7, found: 8, .. }), "{anomaly}");
}

#[tokio::test]
async fn a_hole_and_a_double_are_said_and_handed_over() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let (_client, mut updates) = Client::start(fake.options()).unwrap();
    let (mut peer, _) = fake.welcome(&[room]).await;
    let events = [event(room, 1), event(room, 3), event(room, 3), event(room, 4)];
    for event in &events {
        peer.say(&ServerFrame::Event(event.clone())).await;
    }
    let mut heard = Vec::new();
    while heard.len() < 6 {
        heard.push(
            until(&mut updates, |update| match update {
                Update::Event(event) => Some(format!("event {}", event.n.unwrap())),
                Update::Anomaly(Anomaly::Hole { expected, found, .. }) => Some(format!("hole {expected} {found}")),
                Update::Anomaly(Anomaly::Doubled { n, .. }) => Some(format!("doubled {}", n.unwrap())),
                _ => None,
            })
            .await,
        );
    }
    assert_eq!(heard, ["event 1", "hole 2 3", "event 3", "doubled 3", "event 3", "event 4"]);
}

#[tokio::test]
async fn what_a_newer_server_says_is_survived() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let (_client, mut updates) = Client::start(fake.options()).unwrap();
    let (mut peer, _) = fake.welcome(&[room]).await;
    peer.say_text(r#"{"type":"fireworks","loud":true}"#).await;
    let mut newer = serde_json::to_value(ServerFrame::Event(event(room, 1))).unwrap();
    newer["kind"] = "rang_the_bell".into();
    newer["loud"] = true.into();
    peer.say_text(&newer.to_string()).await;
    let known = next_event(&mut updates).await;
    assert_eq!(known.body, EventBody::Unknown);
    peer.say_text("no JSON").await;
    peer.say(&ServerFrame::Event(event(room, 2))).await;
    let heard = until(&mut updates, |update| match update {
        Update::Anomaly(Anomaly::Unreadable(_)) => Some(()),
        _ => None,
    });
    heard.await;
    assert_eq!(next_event(&mut updates).await.n, Some(2), "an event of an unknown kind counts");
}

#[tokio::test]
async fn a_reset_moves_the_position_and_rooms_left_meanwhile_are_said() {
    let fake = Fake::start().await;
    let (room, left) = (RoomId::new(), RoomId::new());
    let (_client, mut updates) = Client::start(fake.options()).unwrap();
    let (mut peer, _) = fake.welcome(&[room, left]).await;
    peer.say(&ServerFrame::Event(event(room, 1))).await;
    next_event(&mut updates).await;
    let position = Some(EventId::new());
    peer.say(&ServerFrame::Reset { room, position, reason: ResetReason::TooFarBehind }).await;
    peer.say(&ServerFrame::Event(event(room, 9))).await;
    let after = next_event(&mut updates).await;
    assert_eq!(after.n, Some(9), "after a reset numbers start anew");
    drop(peer);

    let mut peer = fake.accept().await;
    assert!(matches!(peer.hear().await, ClientFrame::Hello { positions, .. } if positions[&room] == Some(after.id)));
    peer.say(&welcome(&[room])).await;
    let gone = until(&mut updates, |update| match update {
        Update::Left(room) => Some(room),
        _ => None,
    });
    assert_eq!(gone.await, left);
}

#[tokio::test]
async fn an_application_that_is_behind_loses_nothing() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let mut options = fake.options();
    options.updates = 2;
    let (client, mut updates) = Client::start(options).unwrap();
    let (mut peer, _) = fake.welcome(&[room]).await;
    for n in 1..=100 {
        peer.say(&ServerFrame::Event(event(room, n))).await;
    }
    // Nothing was taken yet, and calls are still heard.
    assert!(client.unsent().await.unwrap().is_empty());
    for n in 1..=100 {
        assert_eq!(next_event(&mut updates).await.n, Some(n));
    }
}
