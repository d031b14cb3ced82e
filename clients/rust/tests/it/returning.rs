//! When a client comes back, and when it does not.

use crate::fake::{Fake, until};
use homeroom_client::*;
use std::time::{Duration, Instant};

async fn lost(updates: &mut Updates) -> (Loss, Duration) {
    until(updates, |update| match update {
        Update::Disconnected { loss, will_retry_in } => Some((loss, will_retry_in)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_bye_says_when_to_come_back() {
    let fake = Fake::start().await;
    let (_client, mut updates) = Client::start(fake.options()).unwrap();
    let (mut peer, _) = fake.welcome(&[]).await;
    peer.say(&ServerFrame::Bye { reason: ByeReason::Draining, reconnect_after_ms: 300 }).await;
    peer.close(CloseCode::Restart.number(), "draining").await;
    let (loss, wait) = lost(&mut updates).await;
    assert!(matches!(loss, Loss::Closed { code: 1012, .. }), "{loss:?}");
    assert_eq!(wait, Duration::from_millis(300));
    let waited_from = Instant::now();
    fake.welcome(&[]).await;
    assert!(waited_from.elapsed() >= Duration::from_millis(250), "it came too early");
}

#[tokio::test]
async fn a_44xx_is_for_good() {
    for (code, expected) in
        [(4401, Stop::SignedOut), (4499, Stop::TurnedAway { code: 4499, reason: "not as you are".into() })]
    {
        let fake = Fake::start().await;
        let room = RoomId::new();
        let (client, mut updates) = Client::start(fake.options()).unwrap();
        let (peer, _) = fake.welcome(&[room]).await;
        peer.close(code, "not as you are").await;
        let stop = until(&mut updates, |update| match update {
            Update::Stopped(stop) => Some(stop),
            Update::Disconnected { .. } => panic!("it wants to come back"),
            _ => None,
        });
        assert_eq!(stop.await, expected);
        assert!(updates.recv().await.is_none());
        assert!(matches!(client.post(crate::fake::post(room, "x")).await, Err(SendError::Stopped)));
    }
}

#[tokio::test]
async fn every_other_end_is_come_back_from() {
    let fake = Fake::start().await;
    let (_client, mut updates) = Client::start(fake.options()).unwrap();
    for code in [1000, 1008, 1011, 1012, 4500, 4503, 4504] {
        let (peer, _) = fake.welcome(&[]).await;
        peer.close(code, "").await;
        let (loss, _) = lost(&mut updates).await;
        assert_eq!(loss, Loss::Closed { code, reason: String::new() });
    }
    fake.welcome(&[]).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_gone() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    options.silence = Duration::from_secs(1);
    let (_client, mut updates) = Client::start(options).unwrap();
    let (_peer, _) = fake.welcome(&[]).await;
    assert_eq!(lost(&mut updates).await.0, Loss::Silent);
    fake.welcome(&[]).await;
}

#[tokio::test]
async fn a_server_that_leaves_a_command_unanswered_is_left() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let mut options = fake.options();
    options.answer_within = Duration::from_secs(1);
    let (client, mut updates) = Client::start(options).unwrap();
    let (mut peer, _) = fake.welcome(&[room]).await;
    let sending = client.post(crate::fake::post(room, "x")).await.unwrap();
    peer.hear_post().await;
    assert_eq!(lost(&mut updates).await.0, Loss::Unanswered);
    let (mut peer, _) = fake.welcome(&[room]).await;
    let (reference, again) = peer.hear_post().await;
    assert_eq!(again, sending.client_id());
    peer.ack(reference, EventId::new(), 1).await;
    assert_eq!(sending.await.unwrap().n, 1);
}

#[tokio::test]
async fn the_next_server_is_tried_when_one_is_gone() {
    let (first, second) = (Fake::start().await, Fake::start().await);
    let mut options = first.options();
    options.servers.push(second.address());
    let (_client, mut updates) = Client::start(options).unwrap();
    let (peer, _) = first.welcome(&[]).await;
    drop((peer, first));
    second.welcome(&[]).await;
    lost(&mut updates).await;
}

#[tokio::test]
#[cfg(feature = "tls")]
async fn a_server_without_tls_is_unreachable_by_https() {
    let fake = Fake::start().await;
    let mut options = fake.options();
    let address = fake.address().to_string().replace("http://", "https://");
    options.servers = vec![ServerAddress::parse(&address).unwrap()];
    let (_client, mut updates) = Client::start(options).unwrap();
    let accept = async {
        // What comes is the beginning of TLS; a plain server answers in its own words.
        fake.answer_plainly().await;
    };
    let (_, (loss, _)) = tokio::join!(accept, lost(&mut updates));
    assert!(matches!(loss, Loss::Unreachable(_)), "{loss:?}");
}
