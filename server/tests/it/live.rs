//! Sessions on a real node: signing in, resuming, rights that change, peers that are slow, broken or hostile.

use crate::node::{Ground, Node, Socket, connect, eventually, guardian, http, staff};
use crate::on_both_engines;
use crate::raw::Raw;
use futures_util::SinkExt;
use homeroom_protocol::{Address, RoomId};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

on_both_engines! {
    an_announcement_reaches_the_class_and_a_private_word_only_its_two
    a_session_goes_on_from_its_position
    who_missed_more_than_memory_holds_reads_it_from_the_log
    an_unknown_position_is_reset
    who_leaves_hears_nothing_more_and_who_joins_hears_from_then_on
    who_is_out_and_back_at_once_is_told_both
    who_was_away_while_one_of_their_children_left_starts_anew
    who_left_before_anything_was_said_and_is_back_starts_anew
    whose_rights_change_twice_at_once_starts_anew_once
    marks_reach_those_who_may_know
    who_may_not_write_may_not_type
    what_a_session_types_is_passed_on_once_in_two_seconds
    a_drain_says_when_to_come_back
}

fn texts(frames: &[Value]) -> Vec<String> {
    let text = |frame: &Value| frame["message"]["envelope"]["text"].as_str().map(str::to_owned);
    frames.iter().filter(|frame| frame["type"] == "event").filter_map(text).collect()
}

async fn an_announcement_reaches_the_class_and_a_private_word_only_its_two(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let mut ana = node.session(school.ana).await;
    let mut ben = node.session(school.ben).await;
    for socket in [&mut teacher, &mut ana, &mut ben] {
        socket.hear("caught_up").await;
    }
    assert_eq!(ana.post(room, school.with_ana(), "only you").await["n"], 1);
    assert_eq!(teacher.post(room, Address::Announcements, "all of you").await["n"], 1);
    assert_eq!(texts(&[teacher.hear("event").await]), ["only you"]);
    assert_eq!(texts(&[ana.hear("event").await]), ["only you"], "the author's own devices too");
    assert_eq!(texts(&[ana.hear("event").await]), ["all of you"]);
    let first = ben.hear("event").await;
    assert_eq!(texts(std::slice::from_ref(&first)), ["all of you"], "not that the other was said");
    assert!(!first.to_string().contains(&school.ana.to_string()));
    node.stop().await;
}

async fn a_session_goes_on_from_its_position(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    teacher.post(room, Address::Announcements, "one").await;
    let mut ana = node.resume(school.ana, json!({ room.to_string(): null })).await;
    let missed = ana.until("caught_up").await;
    assert_eq!(texts(&missed), ["one"], "null: everything since joining");
    let position = missed[0]["id"].clone();
    drop(ana);
    for text in ["two", "three"] {
        teacher.post(room, Address::Announcements, text).await;
    }
    teacher.post(room, school.with_ben(), "not hers").await;
    let mut ana = node.resume(school.ana, json!({ room.to_string(): position })).await;
    assert_eq!(ana.welcome["rooms"][0]["position"], position);
    let missed = ana.until("caught_up").await;
    assert_eq!(texts(&missed), ["two", "three"]);
    assert_eq!(missed.iter().map(|frame| frame["n"].clone()).collect::<Vec<_>>()[..2], [json!(2), json!(3)]);
    teacher.post(room, Address::Announcements, "four").await;
    assert_eq!(texts(&[ana.hear("event").await]), ["four"]);
    node.stop().await;
}

async fn who_missed_more_than_memory_holds_reads_it_from_the_log(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut said = Vec::new();
    for number in 0..400 {
        let to = if number % 2 == 0 { Address::Announcements } else { school.with_ben() };
        let append = homeroom::log::Append {
            room,
            author: school.teacher,
            client_id: homeroom_protocol::ClientId::new(),
            what: homeroom::log::What::Post {
                to,
                envelope: Box::new(
                    homeroom_protocol::Draft {
                        language: homeroom_protocol::Language::english(),
                        text: number.to_string(),
                        protected: Vec::new(),
                    }
                    .into_envelope(|_| Vec::new())
                    .unwrap(),
                ),
                urgent: false,
            },
            turn: None,
        };
        said.push(node.log().submit(append).unwrap());
    }
    for said in said {
        said.done().await.unwrap();
    }
    let expected = |step: usize| (0..400).step_by(step).map(|number| number.to_string()).collect::<Vec<_>>();
    let mut ana = node.resume(school.ana, json!({ room.to_string(): null })).await;
    assert_eq!(texts(&ana.until("caught_up").await), expected(2));
    let mut teacher = node.resume(school.teacher, json!({ room.to_string(): null })).await;
    assert_eq!(texts(&teacher.until("caught_up").await), expected(1));
    assert!(node.running.node.tails.pages().reads() > 0);
    node.stop().await;
}

async fn an_unknown_position_is_reset(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let said = teacher.post(room, Address::Announcements, "one").await;
    let mut ana = node.resume(school.ana, json!({ room.to_string(): Uuid::now_v7() })).await;
    let reset = ana.hear("reset").await;
    assert_eq!((&reset["reason"], &reset["position"]), (&json!("unknown_position"), &said["id"]));
    teacher.post(room, Address::Announcements, "two").await;
    assert_eq!(texts(&[ana.hear("event").await]), ["two"]);
    node.stop().await;
}

async fn who_leaves_hears_nothing_more_and_who_joins_hears_from_then_on(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let mut ana = node.session(school.ana).await;
    ana.hear("caught_up").await;
    teacher.hear("caught_up").await;
    node.log().change_members(room, vec![guardian(school.ana, school.anas_child, false)]).await.unwrap();
    assert_eq!(ana.hear("left").await["room"], json!(room));
    assert_eq!(teacher.hear("event").await["kind"], "member_left");
    teacher.post(room, Address::Announcements, "while she is gone").await;
    assert_eq!(ana.post(room, school.with_ana(), "hello?").await["code"], "forbidden");
    node.log().change_members(room, vec![guardian(school.ana, school.anas_child, true)]).await.unwrap();
    let joined = ana.hear("joined").await;
    // What was said before is none of hers: she starts from her own coming.
    let came = teacher.until("event").await.pop().unwrap();
    let came = if came["kind"] == "member_joined" { came } else { teacher.hear("event").await };
    assert_eq!((&came["kind"], &joined["room"]["position"]), (&json!("member_joined"), &came["id"]));
    ana.hear("caught_up").await;
    teacher.post(room, Address::Announcements, "welcome back").await;
    let heard = ana.hear("event").await;
    assert_eq!(texts(std::slice::from_ref(&heard)), ["welcome back"]);
    // A second place in the same room: what she may see changes, so she starts anew.
    node.log().change_members(room, vec![guardian(school.ana, school.bens_child, true)]).await.unwrap();
    assert_eq!(ana.hear("reset").await["reason"], "rights_changed");
    // Staff lose their sight too.
    node.log().change_members(room, vec![staff(school.teacher, false)]).await.unwrap();
    teacher.hear("left").await;
    node.stop().await;
}

async fn who_is_out_and_back_at_once_is_told_both(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let mut ana = node.session(school.ana).await;
    ana.hear("caught_up").await;
    // One transaction: the worker hears of the joining before it takes the leaving in.
    let place = |joins| guardian(school.ana, school.anas_child, joins);
    node.log().change_members(room, vec![place(false), place(true)]).await.unwrap();
    assert_eq!(ana.hear("left").await["room"], json!(room));
    assert_eq!(ana.hear("joined").await["room"]["room"], json!(room));
    ana.hear("caught_up").await;
    teacher.post(room, Address::Announcements, "welcome back").await;
    assert_eq!(texts(&[ana.hear("event").await]), ["welcome back"]);
    node.stop().await;
}

async fn who_was_away_while_one_of_their_children_left_starts_anew(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let second_child = |joins| vec![guardian(school.ana, school.bens_child, joins)];
    node.log().change_members(room, second_child(true)).await.unwrap();
    let mut teacher = node.session(school.teacher).await;
    teacher.post(room, Address::Announcements, "one").await;
    let mut ana = node.resume(school.ana, json!({ room.to_string(): null })).await;
    let position = ana.until("caught_up").await[0]["id"].clone();
    drop(ana);
    let mut ana = node.resume(school.ana, json!({ room.to_string(): position })).await;
    assert_eq!(ana.until("caught_up").await.len(), 1, "nothing has changed");
    drop(ana);
    node.log().change_members(room, second_child(false)).await.unwrap();
    let mut ana = node.resume(school.ana, json!({ room.to_string(): position })).await;
    let reset = ana.hear("reset").await;
    assert_eq!(reset["reason"], "rights_changed");
    assert_ne!(reset["position"], position, "from there they could not go on");
    drop(ana);
    let snapshot = http().get(node.url(&format!("/api/v1/rooms/{room}"))).bearer_auth(node.token(school.ana));
    let snapshot: Value = snapshot.send().await.unwrap().json().await.unwrap();
    assert_eq!(snapshot["summary"]["position"], reset["position"]);
    let mut ana = node.resume(school.ana, json!({ room.to_string(): reset["position"] })).await;
    assert_eq!(ana.until("caught_up").await.len(), 1, "once, and not each time they come");
    node.stop().await;
}

/// They hold nothing of the room, and may see what was said in both of their stays.
async fn who_left_before_anything_was_said_and_is_back_starts_anew(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    teacher.post(room, Address::Announcements, "in the first stay").await;
    for joins in [false, true] {
        node.log().change_members(room, vec![guardian(school.ana, school.anas_child, joins)]).await.unwrap();
    }
    let mut ana = node.resume(school.ana, json!({ room.to_string(): null })).await;
    let reset = ana.hear("reset").await;
    assert_eq!(reset["reason"], "rights_changed");
    drop(ana);
    let mut ana = node.resume(school.ana, json!({ room.to_string(): reset["position"] })).await;
    assert_eq!(ana.until("caught_up").await.len(), 1, "once");
    teacher.post(room, Address::Announcements, "in the second").await;
    assert_eq!(texts(&[ana.hear("event").await]), ["in the second"]);
    node.stop().await;
}

async fn whose_rights_change_twice_at_once_starts_anew_once(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let mut ana = node.session(school.ana).await;
    ana.hear("caught_up").await;
    let second_child = |joins| guardian(school.ana, school.bens_child, joins);
    node.log().change_members(room, vec![second_child(true), second_child(false), second_child(true)]).await.unwrap();
    // A second reset could come after events that belong behind it, and they would be lost to its reader.
    for number in 0..20 {
        teacher.post(room, Address::Announcements, &format!("{number}")).await;
    }
    let (mut resets, mut heard) = (0, Vec::new());
    while heard.last().is_none_or(|text| text != "19") {
        let frame = ana.next().await.unwrap();
        resets += usize::from(frame["type"] == "reset");
        heard.extend(texts(&[frame]));
    }
    assert_eq!((resets, heard.len()), (1, 20));
    node.stop().await;
}

async fn marks_reach_those_who_may_know(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let mut ana = node.session(school.ana).await;
    let mut ben = node.session(school.ben).await;
    for socket in [&mut teacher, &mut ana, &mut ben] {
        socket.hear("caught_up").await;
    }
    teacher.post(room, Address::Announcements, "all").await;
    teacher.post(room, school.with_ben(), "ben").await;
    let announcements = Address::Announcements.conversation(room);
    let read = |conversation| json!({ "type": "read", "room": room, "conversation": conversation, "n": 1 });
    assert_eq!(ana.ask(read(announcements)).await["type"], "ack");
    assert_eq!(ana.ask(read(school.with_ben().conversation(room))).await["code"], "not_found");
    let mark = teacher.hear("mark").await;
    assert_eq!((&mark["person"], &mark["read"]), (&json!(school.ana), &json!(1)));
    assert_eq!(ben.ask(read(school.with_ben().conversation(room))).await["type"], "ack");
    assert_eq!(teacher.hear("mark").await["person"], json!(school.ben));
    assert_eq!(teacher.ask(read(school.with_ben().conversation(room))).await["type"], "ack");
    // Ben has heard of his own mark and the teacher's, not of Ana's.
    assert_eq!(ben.hear("mark").await["person"], json!(school.ben));
    assert_eq!(ben.hear("mark").await["person"], json!(school.teacher));
    node.stop().await;
}

async fn who_may_not_write_may_not_type(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let school_room = RoomId::new();
    homeroom::execute!(
        node.log().db().writes(),
        "INSERT INTO room (id, district_id, kind, school_id, class_id, title)
         SELECT $1, district_id, 'school', school_id, NULL, 'S' FROM room WHERE id = $2",
        school_room.0,
        room.0
    )
    .unwrap();
    let members = vec![staff(school.teacher, true), guardian(school.ana, school.anas_child, true)];
    node.log().change_members(school_room, members).await.unwrap();
    let mut teacher = node.session(school.teacher).await;
    let mut ana = node.session(school.ana).await;
    for socket in [&mut teacher, &mut ana] {
        socket.hear("caught_up").await;
        socket.hear("caught_up").await;
    }
    let typing = |room, to| json!({ "type": "typing", "room": room, "to": to });
    for (room, to) in [
        (school_room, school.with_ana()),
        (school_room, Address::Announcements),
        (room, Address::Announcements),
        (room, school.with_ben()),
        (RoomId::new(), Address::Announcements),
    ] {
        assert_eq!(ana.ask(typing(room, to)).await["code"], "forbidden", "{to:?}");
        assert_eq!(ana.post(room, to, "x").await["code"], "forbidden", "{to:?}: one rule for both");
    }
    assert_eq!(teacher.ask(typing(school_room, school.with_ana())).await["code"], "forbidden");
    assert_eq!(teacher.post(school_room, school.with_ana(), "x").await["code"], "forbidden");
    // Nothing of that was passed on: what is heard first is what was allowed.
    assert_eq!(ana.ask(typing(room, school.with_ana())).await["type"], "ack");
    assert_eq!(teacher.hear("typing").await["conversation"], json!(school.with_ana().conversation(room)));
    assert_eq!(teacher.ask(typing(school_room, Address::Announcements)).await["type"], "ack");
    let announcements = Address::Announcements.conversation(school_room);
    assert_eq!(ana.hear("typing").await["conversation"], json!(announcements));
    node.stop().await;
}

async fn what_a_session_types_is_passed_on_once_in_two_seconds(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let mut ana = node.session(school.ana).await;
    for socket in [&mut teacher, &mut ana] {
        socket.hear("caught_up").await;
    }
    let began = Instant::now();
    let types = async {
        let mut pause = tokio::time::interval(Duration::from_millis(100));
        for to in [school.with_ana(), Address::Announcements].into_iter().cycle() {
            pause.tick().await;
            let typing = json!({ "type": "typing", "room": room, "to": to });
            assert_eq!(teacher.ask(typing).await["type"], "ack", "all are acknowledged");
        }
    };
    let hears = async {
        ana.hear("typing").await;
        ana.hear("typing").await
    };
    tokio::select! {
        () = types => {}
        _ = hears => assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed()),
    }
    node.stop().await;
}

async fn a_drain_says_when_to_come_back(ground: Ground) {
    let node = Node::start(ground).await;
    let school = &node.school;
    let mut ana = node.session(school.ana).await;
    let stopping = tokio::spawn(node.running.stop());
    let bye = ana.hear("bye").await;
    assert_eq!(bye["reason"], "draining");
    assert!(bye["reconnect_after_ms"].as_u64().unwrap() <= 1_000);
    assert_eq!(ana.closed().await, 1012);
    stopping.await.unwrap();
}

#[tokio::test]
async fn without_hello_a_session_ends_with_1008() {
    let node = Node::start(Ground::sqlite()).await;
    let mut silent = node.connect().await;
    let mut rude = node.connect().await;
    rude.say(json!({ "type": "typing", "ref": 1, "room": node.school.room, "to": { "kind": "announcements" } })).await;
    assert_eq!(rude.closed().await, 1008);
    // Ten seconds and the wheel's turn: the test's own patience is per frame, so it waits for the close as such.
    let closed = tokio::time::timeout(Duration::from_secs(20), async {
        use futures_util::StreamExt;
        loop {
            match silent.stream.next().await {
                Some(Ok(Message::Close(close))) => return close.map_or(0, |close| close.code.into()),
                Some(Ok(_)) => {}
                _ => return 0,
            }
        }
    });
    assert_eq!(closed.await.unwrap(), 1008);
    node.stop().await;
}

#[tokio::test]
async fn a_wrong_token_ends_with_4401_and_signing_out_ends_live_sessions() {
    let node = Node::start(Ground::sqlite()).await;
    let mut socket = node.connect().await;
    socket.say(json!({ "type": "hello", "token": "guess" })).await;
    assert_eq!(socket.hear("error").await["code"], "unauthenticated");
    assert_eq!(socket.closed().await, 4401);
    let mut ana = node.session(node.school.ana).await;
    let signed_out =
        http().post(node.url("/api/v1/sign-out")).bearer_auth(node.token(node.school.ana)).send().await.unwrap();
    assert_eq!(signed_out.status(), 204);
    assert_eq!(ana.hear("bye").await["reason"], "signed_out");
    assert_eq!(ana.closed().await, 4401);
    node.stop().await;
}

#[tokio::test]
async fn bad_commands_get_a_coded_error_and_the_session_lives() {
    let node = Node::start(Ground::sqlite()).await;
    let (room, school) = (node.school.room, &node.school);
    let mut ana = node.session(school.ana).await;
    ana.hear("caught_up").await;
    for (text, code) in [
        ("", "malformed"),
        ("[]", "malformed"),
        ("{}", "malformed"),
        (r#"{"type":"dance","ref":1}"#, "unknown_type"),
        (r#"{"type":"post","ref":1}"#, "malformed"),
        (r#"{"type":"hello"}"#, "invalid"),
    ] {
        ana.stream.send(Message::Text(text.into())).await.unwrap();
        assert_eq!(ana.hear("error").await["code"], code, "{text}");
    }
    ana.stream.send(Message::Binary(vec![1, 2, 3].into())).await.unwrap();
    assert_eq!(ana.hear("error").await["code"], "malformed");
    let long = "x".repeat(8_001);
    for (text, code) in [("", "invalid"), (" \n ", "invalid"), ("a\0b", "invalid"), (long.as_str(), "too_long")] {
        assert_eq!(ana.post(room, school.with_ana(), text).await["code"], code);
    }
    let elsewhere = json!({ "type": "history", "room": Uuid::now_v7(), "conversation": Uuid::now_v7() });
    assert_eq!(ana.ask(elsewhere).await["code"], "not_found");
    assert_eq!(ana.post(room, school.with_ana(), "still here").await["n"], 1);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_delays_nobody_and_catches_up_later() {
    let node = Node::start(Ground::sqlite()).await;
    let (room, school) = (node.school.room, &node.school);
    let mut stuck = Raw::connect(node.running.address).await;
    stuck.say(&json!({ "type": "hello", "token": node.token(school.ana), "positions": {} })).await;
    let counts = &node.running.node.counts;
    eventually("it is connected", || async { counts.connections.load(Ordering::Relaxed) == 1 }).await;
    let mut ben = node.session(school.ben).await;
    ben.hear("caught_up").await;
    // 12 MB of announcements: far beyond what the kernel's buffers take for somebody who reads nothing.
    let text = "x".repeat(8_000);
    let log = node.log().clone();
    let (teacher, count) = (school.teacher, 1_500_u64);
    let speaking = tokio::spawn(async move {
        for _ in 0..count {
            let draft = homeroom_protocol::Draft {
                language: homeroom_protocol::Language::english(),
                text: text.clone(),
                protected: Vec::new(),
            };
            log.append(homeroom::log::Append {
                room,
                author: teacher,
                client_id: homeroom_protocol::ClientId::new(),
                what: homeroom::log::What::Post {
                    to: Address::Announcements,
                    envelope: Box::new(draft.into_envelope(|_| Vec::new()).unwrap()),
                    urgent: false,
                },
                turn: None,
            })
            .await
            .unwrap();
        }
    });
    for n in 1..=count {
        assert_eq!(ben.hear("event").await["n"], json!(n), "a neighbour hears everything meanwhile");
    }
    speaking.await.unwrap();
    assert!(counts.fell_behind.load(Ordering::Relaxed) > 0);
    // It reads again: everything is there, in order.
    for n in 1..=count {
        assert_eq!(stuck.reader.hear("event").await["n"], json!(n));
    }
    node.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_may_not_connect() {
    let node = Node::start(Ground::sqlite()).await;
    let address = node.running.address;
    for (origin, status) in [("http://evil.example", "403"), (format!("http://{address}").as_str(), "101")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nOrigin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: homeroom.v1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[9..12], status.as_bytes(), "{origin}");
    }
    node.stop().await;
}

/// Two nodes of one process on one PostgreSQL, with the bus and without: what one commits the other's sessions hear.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_hear_each_other_by_the_bus_and_by_the_bell() {
    for shared in [true, false] {
        let ground = Ground::postgres().await;
        let exchange = homeroom::bus::local::Exchange::default();
        let other_config = homeroom::config::Config { listen: "127.0.0.1:0".parse().unwrap(), ..ground.config() };
        let node = Node::start_on(ground, &exchange).await;
        let elsewhere = if shared { exchange } else { homeroom::bus::local::Exchange::default() };
        let other = homeroom::app::start_on(&other_config, &elsewhere).await.unwrap();
        let (room, school) = (node.school.room, &node.school);
        let mut there: Socket = connect(other.address).await;
        there.say(json!({ "type": "hello", "token": node.token(school.ana) })).await;
        there.hear("caught_up").await;
        let mut here = node.session(school.teacher).await;
        here.hear("caught_up").await;
        for n in 1..=20 {
            here.post(room, Address::Announcements, "x").await;
            assert_eq!(there.hear("event").await["n"], json!(n), "shared: {shared}");
        }
        // Rights go the same way.
        node.log().change_members(room, vec![guardian(school.ana, school.anas_child, false)]).await.unwrap();
        there.hear("left").await;
        // A sign-out ends the sessions on every node.
        if shared {
            let who = homeroom::identity::who(node.log().db(), node.token(school.ana)).await.unwrap().unwrap();
            node.running.node.signed_out(who.login);
            assert_eq!(there.hear("bye").await["reason"], "signed_out");
            assert_eq!(there.closed().await, 4401);
        }
        other.stop().await;
        node.stop().await;
    }
}

#[tokio::test]
async fn a_hello_that_can_not_be_read_is_told_what_is_wrong_with_it() {
    let node = Node::start(Ground::sqlite()).await;
    let mut ana = node.connect().await;
    ana.say(json!({ "type": "hello", "token": node.token(node.school.ana), "positions": { "no room": null } })).await;
    assert_eq!(ana.hear("error").await["code"], "malformed");
    assert_eq!(ana.closed().await, 1008);
    node.stop().await;
}
