//! What is appended keeps the order in which it was sent, whatever happens to some of it; and nobody asks for more than their share.

use crate::node::{Ground, Node, Socket, post};
use serde_json::{Value, json};
use std::time::Instant;
use uuid::Uuid;

/// A command without its ref, to be sent again under another.
fn plain(command: &Value) -> Value {
    let mut plain = command.clone();
    plain.as_object_mut().unwrap().remove("ref");
    plain
}

/// Sends posts with these texts to Ana's conversation, all at once, and gives them as they were sent.
async fn send_all(node: &Node, ana: &mut Socket, texts: &[&str]) -> Vec<Value> {
    let mut sent = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let mut command = post(node.school.room, node.school.with_ana(), text);
        command["ref"] = json!(number);
        sent.push(command.clone());
        ana.say(command).await;
    }
    sent
}

/// Their answers.
async fn answers(ana: &mut Socket, count: usize) -> Vec<Value> {
    let mut answers: Vec<Option<Value>> = vec![None; count];
    while answers.iter().any(Option::is_none) {
        let frame = ana.next().await.unwrap();
        if let Some(reference) = frame["ref"].as_u64() {
            answers[reference as usize] = Some(frame);
        }
    }
    answers.into_iter().flatten().collect()
}

/// The texts of Ana's conversation, oldest first.
async fn said(node: &Node, ana: &mut Socket) -> Vec<String> {
    let (room, conversation) = (node.school.room, node.school.with_ana().conversation(node.school.room));
    let page = ana.ask_patiently(json!({ "type": "history", "room": room, "conversation": conversation })).await;
    let messages = page["messages"].as_array().unwrap().iter().rev();
    messages.map(|message| message["envelope"]["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn too_many_commands_are_told_to_slow_down_and_keep_their_order() {
    let node = Node::start(Ground::sqlite()).await;
    let mut ana = node.session(node.school.ana).await;
    let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let sent = send_all(&node, &mut ana, &texts).await;
    let codes: Vec<Value> = answers(&mut ana, 100).await.iter().map(|answer| answer["code"].clone()).collect();
    let refused = codes.iter().position(|code| !code.is_null()).expect("some are too many");
    assert!(refused >= 60, "{refused}");
    assert_eq!(codes[refused], "rate_limited");
    assert!(codes[refused..].iter().all(|code| !code.is_null()), "what follows a refused one waits for it");
    // What was acknowledged has its answer for ever, also now; what failed can't be passed over.
    let again = ana.ask_patiently(plain(&sent[0])).await;
    assert_eq!((&again["type"], &again["n"]), (&json!("ack"), &json!(1)));
    assert_eq!(ana.ask_patiently(plain(&sent[refused])).await["type"], "ack");
    assert_eq!(ana.ask_patiently(plain(&sent[refused + 2])).await["code"], "out_of_turn");
    // Sent again in order, all end in the order in which they were written.
    for command in &sent[refused..] {
        assert_eq!(ana.ask_patiently(plain(command)).await["type"], "ack");
    }
    assert_eq!(said(&node, &mut ana).await, numbers);
    node.stop().await;
}

/// Lanes and readers are there for others, too.
#[tokio::test]
async fn who_opens_many_connections_may_ask_as_much_as_who_opens_one() {
    let node = Node::start(Ground::sqlite()).await;
    let school = &node.school;
    let mut ben = node.session(school.ben).await;
    let mut of_ana = Vec::new();
    for _ in 0..20 {
        of_ana.push(node.session(school.ana).await);
    }
    let begun = Instant::now();
    for socket in &mut of_ana {
        send_all(&node, socket, &["x"; 10]).await;
    }
    let mut allowed = 0;
    for socket in &mut of_ana {
        allowed += answers(socket, 10).await.iter().filter(|answer| answer["type"] == "ack").count();
    }
    let limits = homeroom_protocol::Limits::CURRENT;
    let regained = begun.elapsed().as_secs_f64() * f64::from(limits.commands_per_second);
    let most = f64::from(limits.command_burst) + regained + 1.0;
    assert!(allowed as f64 <= most && allowed >= limits.command_burst as usize / 2, "{allowed} of at most {most}");
    assert_eq!(ben.post(node.school.room, school.with_ben(), "nobody else's").await["type"], "ack");

    node.stop().await;
}

#[tokio::test]
async fn of_edits_that_are_too_many_the_last_one_sent_stands() {
    let node = Node::start(Ground::sqlite()).await;
    let mut ana = node.session(node.school.ana).await;
    let message = ana.ask(post(node.school.room, node.school.with_ana(), "first")).await["id"].clone();
    let edit = |number: usize| {
        json!({ "type": "edit", "ref": number, "room": node.school.room, "client_id": Uuid::now_v7(), "message": message,
                "draft": { "language": "en", "text": number.to_string() } })
    };
    let sent: Vec<Value> = (0..100).map(edit).collect();
    for command in &sent {
        ana.say(command.clone()).await;
    }
    let answers = answers(&mut ana, 100).await;
    let refused = answers.iter().position(|answer| answer["type"] == "error").expect("some are too many");
    assert!(
        answers[refused..].iter().all(|answer| answer["retryable"] == true),
        "what follows a refused one waits for it"
    );
    // A post, too, waits for the edit: it may be about a message of the same conversation.
    let after = post(node.school.room, node.school.with_ana(), "after");
    assert_eq!(ana.ask_patiently(plain(&after)).await["code"], "out_of_turn");
    for command in &sent[refused..] {
        assert_eq!(ana.ask_patiently(plain(command)).await["type"], "ack");
    }
    assert_eq!(ana.ask_patiently(plain(&after)).await["n"], 102);
    assert_eq!(said(&node, &mut ana).await, ["99", "after"]);
    node.stop().await;
}

#[tokio::test]
async fn a_post_that_is_refused_for_good_holds_nothing_back() {
    let node = Node::start(Ground::sqlite()).await;
    let mut ana = node.session(node.school.ana).await;
    // Nothing in it can be stored. The first of them that are too many is told to come again, and is refused for good then.
    let blank = vec![" "; 90];
    let sent = send_all(&node, &mut ana, &blank).await;
    let answers = answers(&mut ana, sent.len()).await;
    assert!(answers.iter().any(|answer| answer["code"] == "rate_limited"), "{answers:?}");
    for (command, answer) in sent.iter().zip(&answers).filter(|(_, answer)| answer["retryable"] == true) {
        assert_eq!(ana.ask_patiently(plain(command)).await["code"], "invalid", "after {answer}");
    }
    let next = ana.ask_patiently(post(node.school.room, node.school.with_ana(), "at last")).await;
    assert_eq!(next["n"], 1, "{next}");
    node.stop().await;
}

#[tokio::test]
async fn a_session_whose_order_is_lost_ends_and_begins_anew_with_the_first() {
    let node = Node::start(Ground::sqlite()).await;
    let mut ana = node.session(node.school.ana).await;
    let numbers: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = numbers.iter().map(String::as_str).collect();
    // The first has its answer before the order can be lost; of those that wait in the lane by then none goes any more.
    let mut sent = send_all(&node, &mut ana, &texts[..1]).await;
    assert_eq!(answers(&mut ana, 1).await[0]["n"], 1);
    sent.extend(send_all(&node, &mut ana, &texts[1..]).await);
    assert_eq!(ana.closed().await, 4509);
    let mut ana = node.session(node.school.ana).await;
    let before = said(&node, &mut ana).await;
    assert!(!before.is_empty() && before.len() < 100, "{before:?}");
    assert_eq!(before, numbers[..before.len()], "what was stored is what was sent first");
    // All that is left comes again from the first on; what was stored has its old answer.
    for (command, number) in sent[..before.len() + 5].iter().zip(1..) {
        assert_eq!(ana.ask_patiently(plain(command)).await["n"], json!(number));
    }
    node.stop().await;
}
