//! The outbox against a server: order, retries, lost acknowledgements, restarts.

use crate::fake::{self, Fake, draft, post, until};
use homeroom_client::*;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn after_a_retryable_error_the_failed_post_goes_first() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let (client, _updates) = Client::start(fake.options()).unwrap();
    let (mut peer, _) = fake.welcome(&[room]).await;
    let mut sendings = Vec::new();
    for text in ["one", "two", "three"] {
        sendings.push(client.post(post(room, text)).await.unwrap());
    }
    let ids: Vec<ClientId> = sendings.iter().map(Sending::client_id).collect();
    let mut refs = Vec::new();
    for id in &ids {
        let (reference, heard) = peer.hear_post().await;
        assert_eq!(heard, *id);
        refs.push(reference);
    }
    peer.ack(refs[0], EventId::new(), 1).await;
    peer.refuse(refs[1], Fault::new(ErrorCode::Unavailable, "Later.").after(20)).await;
    peer.refuse(refs[2], Fault::new(ErrorCode::OutOfTurn, "Wait for the earlier one.")).await;
    for (n, id) in [(2, ids[1]), (3, ids[2])] {
        let (reference, heard) = peer.hear_post().await;
        assert_eq!(heard, id);
        peer.ack(reference, EventId::new(), n).await;
    }
    for (place, sending) in sendings.into_iter().enumerate() {
        assert_eq!(sending.await.unwrap().n, place as u64 + 1);
    }
}

#[tokio::test]
async fn a_lost_acknowledgement_is_asked_for_again_with_the_same_client_id() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let (client, mut updates) = Client::start(fake.options()).unwrap();
    let (mut peer, _) = fake.welcome(&[room]).await;
    let first = client.post(post(room, "one")).await.unwrap();
    let second = client.post(post(room, "two")).await.unwrap();
    let expected = [first.client_id(), second.client_id()];
    for id in expected {
        assert_eq!(peer.hear_post().await.1, id);
    }
    drop(peer);

    let (mut peer, _) = fake.welcome(&[room]).await;
    let events = [EventId::new(), EventId::new()];
    for (place, id) in expected.into_iter().enumerate() {
        let (reference, heard) = peer.hear_post().await;
        assert_eq!(heard, id);
        peer.ack(reference, events[place], place as u64 + 1).await;
    }
    assert_eq!(first.await.unwrap().id, events[0]);
    assert_eq!(second.await.unwrap().id, events[1]);
    let acked = until(&mut updates, |update| match update {
        Update::Acked(receipt) => Some(receipt),
        Update::Anomaly(anomaly) => panic!("{anomaly}"),
        _ => None,
    });
    assert_eq!(acked.await.id, events[0]);
}

#[tokio::test]
async fn an_outbox_file_survives_the_program() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let folder = tempfile::tempdir().unwrap();
    let mut options = fake.options();
    options.outbox_file = Some(folder.path().join("outbox"));

    let (client, mut updates) = Client::start(options.clone()).unwrap();
    let posted = client.post(post(room, "written offline")).await.unwrap();
    let conversation = Address::Announcements.conversation(room);
    let edit = Edit { room, conversation, message: EventId::new(), draft: draft("better") };
    let edited = client.edit(edit).await.unwrap();
    let expected = [posted.client_id(), edited.client_id()];
    client.close().await;
    until(&mut updates, |update| matches!(update, Update::Stopped(Stop::Closed)).then_some(())).await;
    assert!(updates.recv().await.is_none());
    assert!(matches!(posted.await, Err(SendError::Stopped)));

    // The first program's task lets go of the file as it ends.
    let (client, _updates) = timeout(Duration::from_secs(10), async {
        loop {
            match Client::start(options.clone()) {
                Ok(started) => return started,
                Err(StartError::Outbox(JournalError::InUse(_))) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
    .unwrap();
    let unsent: Vec<ClientId> = client.unsent().await.unwrap().into_iter().map(|unsent| unsent.client_id).collect();
    assert_eq!(unsent, expected);
    // The first connection may have been accepted by the kernel for the first program.
    let mut peer = loop {
        let mut peer = fake.accept().await;
        if peer.try_hello(&[room]).await {
            break peer;
        }
    };
    let (reference, heard) = peer.hear_post().await;
    assert_eq!(heard, expected[0]);
    peer.ack(reference, EventId::new(), 1).await;
    let ClientFrame::Edit { reference, client_id, .. } = peer.hear().await else { panic!("the edit follows") };
    assert_eq!(client_id, expected[1]);
    peer.ack(reference, EventId::new(), 2).await;
    timeout(Duration::from_secs(10), async {
        while !client.unsent().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_refusal_for_good_is_the_answer() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let (client, _updates) = Client::start(fake.options()).unwrap();
    let (mut peer, _) = fake.welcome(&[room]).await;
    let sending = client.post(post(room, "one")).await.unwrap();
    let (reference, _) = peer.hear_post().await;
    let fault = Fault::new(ErrorCode::Forbidden, "Only staff may write here.");
    peer.refuse(reference, fault.clone()).await;
    assert!(matches!(sending.await, Err(SendError::Refused(refused)) if refused == fault));
}

#[tokio::test]
async fn marks_and_history_are_carried() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let conversation = Address::Announcements.conversation(room);
    let (client, mut updates) = Client::start(fake.options()).unwrap();
    let asked = client.history(room, conversation, None, Some(10)).await;
    assert!(matches!(asked, Err(HistoryError::NotConnected)));
    client.read(room, conversation, 3).await.unwrap();
    let (mut peer, _) = fake.welcome(&[room]).await;
    until(&mut updates, |update| matches!(update, Update::CaughtUp(_)).then_some(())).await;
    let heard = peer.hear().await;
    assert!(matches!(heard, ClientFrame::Read { n: 3, .. }), "{heard:?}");
    drop(peer);
    // Not acknowledged: it goes again.
    let (mut peer, _) = fake.welcome(&[room]).await;
    until(&mut updates, |update| matches!(update, Update::CaughtUp(_)).then_some(())).await;
    let ClientFrame::Read { reference, n: 3, .. } = peer.hear().await else { panic!("the mark comes again") };
    peer.say(&ServerFrame::Ack { reference, id: None, n: None }).await;
    let page = async { client.history(room, conversation, Some(9), None).await.unwrap() };
    let answer = async {
        let ClientFrame::History { reference, before: Some(9), .. } = peer.hear().await else { panic!("history") };
        peer.say(&ServerFrame::Page { reference, room, conversation, messages: Vec::new(), more: true }).await;
    };
    let (page, ()) = tokio::join!(page, answer);
    assert!(page.more);
}

#[tokio::test]
async fn who_was_out_of_a_room_may_be_given_lower_numbers_when_they_are_back() {
    let fake = Fake::start().await;
    let room = RoomId::new();
    let (client, mut updates) = Client::start(fake.options()).unwrap();
    let (mut peer, _) = fake.welcome(&[room]).await;
    let answered = async |peer: &mut fake::Peer, n| {
        let sending = client.post(post(room, "a word")).await.unwrap();
        let (reference, _) = peer.hear_post().await;
        peer.ack(reference, EventId::new(), n).await;
        sending.await.unwrap();
    };
    answered(&mut peer, 9).await;
    peer.say(&ServerFrame::Left { room }).await;
    // Meanwhile an older copy of the log was put back.
    let title = "Class 4B".to_owned();
    peer.say(&ServerFrame::Joined { room: RoomPosition { room, role: Role::Guardian, title, position: None } }).await;
    answered(&mut peer, 4).await;
    let second = until(&mut updates, |update| match update {
        Update::Anomaly(anomaly) => panic!("{anomaly}"),
        Update::Acked(receipt) => (receipt.n == 4).then_some(receipt),
        _ => None,
    });
    second.await;
}
