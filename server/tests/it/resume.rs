//! Coming back to a room in which others talked meanwhile.
//!
//! Owns: what of it reaches whoever comes back, and what is not read for it. Refuses to know: resets for other reasons (see `live`).

use crate::node::{Ground, Node, connect, guardian, staff};
use crate::on_both_engines;
use homeroom::app;
use homeroom::bus::local::Exchange;
use homeroom::log::append::Submitted;
use homeroom::log::{Append, What};
use homeroom_protocol::{Address, ClientId, Draft, Language, RoomId};
use serde_json::{Value, json};
use std::collections::BTreeMap;

on_both_engines! {
    who_comes_back_hears_what_is_theirs_of_all_that_was_said
    who_missed_nothing_of_very_much_goes_on_and_who_missed_too_much_starts_anew
    who_comes_back_to_many_rooms_of_a_node_just_started_reads_only_where_they_were_spoken_to
}

/// Neither a node's memory of a room nor a page holds as many.
const MUCH: usize = 150;
/// More than anybody is made to read.
const TOO_MUCH: usize = 2_001;
/// More than are asked for in one query, twice.
const ROOMS: usize = 130;

/// Says something, as the teacher.
fn submit(node: &Node, room: RoomId, to: Address, what: &str) -> Submitted {
    let draft = Draft { language: Language::english(), text: what.to_owned(), protected: Vec::new() };
    let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
    let what = What::Post { to, envelope, urgent: false };
    let append = Append { room, author: node.school.teacher, client_id: ClientId::new(), what, turn: None };
    node.log().submit(append).unwrap()
}

/// Says so many things, and waits until all are stored.
async fn say(node: &Node, to: Address, what: &str, times: usize) {
    let mut left = times;
    while left > 0 {
        let some = left.min(500);
        let submitted: Vec<_> = (0..some).map(|_| submit(node, node.school.room, to, what)).collect();
        for submitted in submitted {
            submitted.done().await.unwrap();
        }
        left -= some;
    }
}

/// What comes from a position until nothing is missing; `null` is the beginning.
async fn missed(node: &Node, position: &Value) -> Vec<Value> {
    let positions = json!({ node.school.room.to_string(): position });
    let mut frames = node.resume(node.school.ana, positions).await.until("caught_up").await;
    frames.pop();
    frames
}

fn texts(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["message"]["envelope"]["text"].as_str().unwrap_or("not an event")).collect()
}

async fn who_comes_back_hears_what_is_theirs_of_all_that_was_said(ground: Ground) {
    let node = Node::start(ground).await;
    let school = &node.school;
    // Somebody is there, so the node holds the room all the time; and has read what there was to read before reads are counted.
    let mut teacher = node.session(school.teacher).await;
    teacher.until("caught_up").await;
    say(&node, Address::Announcements, "to all", 1).await;
    let frames = missed(&node, &Value::Null).await;
    assert_eq!(texts(&frames), ["to all"]);
    let mut position = frames[0]["id"].clone();
    for round in 0..3 {
        say(&node, school.with_ben(), "not hers", MUCH).await;
        let reads = node.running.node.tails.pages().reads();
        assert_eq!(missed(&node, &position).await, Vec::<Value>::new(), "round {round}");
        assert_eq!(node.running.node.tails.pages().reads(), reads, "nothing is read to find nothing");
        say(&node, school.with_ana(), "hers", 1).await;
        say(&node, school.with_ben(), "not hers", MUCH).await;
        say(&node, Address::Announcements, "to all", 1).await;
        let frames = missed(&node, &position).await;
        assert_eq!(texts(&frames), ["hers", "to all"], "round {round}");
        position = frames[1]["id"].clone();
    }
    node.stop().await;
}

async fn who_missed_nothing_of_very_much_goes_on_and_who_missed_too_much_starts_anew(ground: Ground) {
    let node = Node::start(ground).await;
    let school = &node.school;
    say(&node, Address::Announcements, "to all", 1).await;
    let position = missed(&node, &Value::Null).await.remove(0)["id"].clone();
    say(&node, school.with_ben(), "not hers", TOO_MUCH).await;
    assert_eq!(missed(&node, &position).await, Vec::<Value>::new());
    say(&node, school.with_ana(), "hers", 1).await;
    assert_eq!(texts(&missed(&node, &position).await), ["hers"], "far from the head, and yet little");
    say(&node, Address::Announcements, "to all", TOO_MUCH).await;
    let frames = missed(&node, &position).await;
    let [reset] = &frames[..] else { panic!("{} frames", frames.len()) };
    assert_eq!((&reset["type"], &reset["reason"]), (&json!("reset"), &json!("too_far_behind")));
    node.stop().await;
}

async fn who_comes_back_to_many_rooms_of_a_node_just_started_reads_only_where_they_were_spoken_to(ground: Ground) {
    let config = ground.config();
    let node = Node::start(ground).await;
    let (log, school) = (node.log(), &node.school);
    let members = [
        staff(school.teacher, true),
        guardian(school.ana, school.anas_child, true),
        guardian(school.ben, school.bens_child, true),
    ];
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let room = RoomId::new();
        let text = "INSERT INTO room (id, district_id, kind, school_id, title)
                    SELECT $1, district_id, kind, school_id, title FROM room WHERE id = $2";
        homeroom::execute!(log.db().writes(), text, room.0, school.room.0).unwrap();
        log.change_members(room, members.to_vec()).await.unwrap();
        rooms.push(room);
    }
    let mut positions = BTreeMap::new();
    for room in &rooms {
        let seen = submit(&node, *room, Address::Announcements, "to all").done().await.unwrap();
        positions.insert(*room, seen.id);
    }
    // In each of them the others were spoken to since; she was in three, wherever they come in the queries.
    let hers = [rooms[0], rooms[ROOMS / 2], rooms[ROOMS - 1]];
    for room in &rooms {
        submit(&node, *room, school.with_ben(), "not hers").done().await.unwrap();
        if hers.contains(room) {
            submit(&node, *room, school.with_ana(), "hers").done().await.unwrap();
        }
    }
    let other = app::start_on(&config, &Exchange::default()).await.unwrap();
    let mut ana = connect(other.address).await;
    ana.say(json!({ "type": "hello", "token": node.token(school.ana), "positions": positions })).await;
    let mut heard = Vec::new();
    // And the class itself, at whose end she starts.
    for _ in 0..=ROOMS {
        heard.extend(ana.until("caught_up").await);
    }
    assert!(heard.iter().all(|frame| frame["type"] != "reset"), "{heard:?}");
    let events: Vec<Value> = heard.into_iter().filter(|frame| frame["type"] == "event").collect();
    assert_eq!(texts(&events), ["hers"; 3]);
    assert_eq!(other.node.tails.pages().reads(), 3, "a page of each room in which she was spoken to");
    other.stop().await;
    node.stop().await;
}
