//! HTTP: signing in and its attacks, snapshots and what they must not show, the documents.

use crate::node::{Ground, Node, http, post, token};
use crate::on_both_engines;
use homeroom::identity;
use homeroom_protocol::{About, Address};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

on_both_engines! {
    a_link_works_once_and_only_by_a_post
    a_code_has_five_tries
    snapshots_show_each_their_own
    who_teaches_their_own_child_is_staff_there_only
    reach_counts_who_was_there
}

async fn a_link_works_once_and_only_by_a_post(ground: Ground) {
    let node = Node::start(ground).await;
    let client = http();
    let db = node.log().db();
    let invitation = identity::invite(db, node.school.ana).await.unwrap().unwrap();
    let secret = invitation.secret.reveal().to_owned();
    for _ in 0..3 {
        client.get(node.url(&format!("/i/{secret}"))).send().await.unwrap();
    }
    let use_up = || client.post(node.url("/api/v1/sign-in/link")).json(&json!({ "secret": secret })).send();
    let first = use_up().await.unwrap();
    assert_eq!(first.status(), StatusCode::OK, "a mail scanner's GET has not used it up");
    let cookie = first.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"), "{cookie}");
    assert!(cookie.starts_with("homeroom_login="), "a browser refuses the other name over plain http: {cookie}");
    assert_eq!(first.json::<Value>().await.unwrap()["token"], Value::Null, "a browser's script never sees it");
    assert_eq!(use_up().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let value = cookie.split(';').next().unwrap();
    let me = client.get(node.url("/api/v1/me")).header("cookie", value).send().await.unwrap();
    assert_eq!(me.json::<Value>().await.unwrap()["name"], "Ana Silva");
    // Another site's page must not use the cookie.
    let foreign =
        client.post(node.url("/api/v1/sign-out")).header("cookie", value).header("origin", "http://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    // What is stored opens nothing.
    let token = value.split_once('=').unwrap().1;
    let stored = homeroom::fetch_all!(db.reads(), (Vec<u8>,), "SELECT token_hash FROM login").unwrap();
    assert!(stored.iter().all(|(hash,)| hash != token.as_bytes()));
    // Run out.
    let late = identity::invite(db, node.school.ana).await.unwrap().unwrap();
    homeroom::execute!(
        db.writes(),
        "UPDATE invitation SET expires_at = $1 WHERE used_at IS NULL",
        chrono::Utc::now() - chrono::Duration::seconds(1)
    )
    .unwrap();
    assert!(identity::sign_in_with_link(db, late.secret.reveal()).await.unwrap().is_none());
    node.stop().await;
}

async fn a_code_has_five_tries(ground: Ground) {
    let db = ground.open().await;
    let school = crate::node::School::found(&db).await;
    let invitation = identity::invite(&db, school.ana).await.unwrap().unwrap();
    let code = invitation.code.reveal();
    assert!(identity::sign_in_with_code(&db, "nobody", code).await.unwrap().is_none());
    for _ in 0..4 {
        assert!(identity::sign_in_with_code(&db, "ana.silva", "BBBBBBBB").await.unwrap().is_none());
    }
    let typed = format!(" {}-{} ", code[..4].to_lowercase(), &code[4..]);
    let login =
        identity::sign_in_with_code(&db, "ana.silva", &typed).await.unwrap().expect("the fifth try is the right one");
    assert!(identity::who(&db, login.token.reveal()).await.unwrap().is_some());
    assert!(identity::sign_in_with_code(&db, "ana.silva", code).await.unwrap().is_none(), "used up");
    let other = identity::invite(&db, school.ana).await.unwrap().unwrap();
    for _ in 0..5 {
        assert!(identity::sign_in_with_code(&db, "ana.silva", "BBBBBBBB").await.unwrap().is_none());
    }
    assert!(
        identity::sign_in_with_code(&db, "ana.silva", other.code.reveal()).await.unwrap().is_none(),
        "the sixth is too late"
    );
    assert!(identity::sign_in_with_link(&db, other.secret.reveal()).await.unwrap().is_some(), "the link still works");
    assert_eq!(identity::sign_out_everywhere(&db, school.ana).await.unwrap().len(), 2);
    assert!(identity::who(&db, login.token.reveal()).await.unwrap().is_none());
    homeroom::execute!(db.writes(), "UPDATE person SET enabled = FALSE WHERE id = $1", school.ben.0).unwrap();
    assert!(identity::invite(&db, school.ben).await.unwrap().is_none());
}

async fn get(node: &Node, who: homeroom_protocol::PersonId, path: &str) -> (StatusCode, Value) {
    let answer = http().get(node.url(path)).bearer_auth(node.token(who)).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or(Value::Null))
}

/// Staff see all of a class, and nobody can write to them as a guardian there: so they are not shown as one.
async fn who_teaches_their_own_child_is_staff_there_only(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let names = async || {
        let (_, detail) = get(&node, school.teacher, &format!("/api/v1/rooms/{room}")).await;
        let families = detail["families"].as_array().unwrap().clone();
        let guardians = families.iter().flat_map(|family| family["guardians"].as_array().unwrap().clone());
        guardians.map(|guardian| guardian["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = names().await;
    let also_guardian = crate::node::guardian(school.teacher, school.anas_child, true);
    node.log().change_members(room, vec![also_guardian]).await.unwrap();
    assert_eq!(names().await, before);
    let about = About { guardian: school.teacher, student: school.anas_child };
    let mut teacher = node.session(school.teacher).await;
    assert_eq!(teacher.ask(post(room, Address::Private(about), "to myself")).await["code"], "forbidden");
    node.stop().await;
}

async fn snapshots_show_each_their_own(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    teacher.post(room, Address::Announcements, "to all").await;
    teacher.post(room, school.with_ana(), "to Ana").await;
    teacher.post(room, school.with_ben(), "to Ben").await;

    let (_, home) = get(&node, school.ana, "/api/v1/home").await;
    assert_eq!(home["rooms"][0]["students"][0]["name"], "Maria Silva");
    let conversations = home["rooms"][0]["conversations"].as_array().unwrap();
    assert_eq!(conversations.len(), 2);
    assert!(conversations.iter().all(|conversation| conversation["unread"] == 1));
    let (_, detail) = get(&node, school.ana, &format!("/api/v1/rooms/{room}")).await;
    assert_eq!(detail["families"], json!([]));
    assert_eq!(detail["staff"][0]["name"], "Tea Cher");
    for shown in [&home, &detail] {
        let text = shown.to_string();
        assert!(
            !text.contains("Okafor") && !text.contains("to Ben") && !text.contains(&school.ben.to_string()),
            "{text}"
        );
    }
    let page = |conversation: Address| {
        format!("/api/v1/rooms/{room}/conversations/{}/messages", conversation.conversation(room))
    };
    assert_eq!(get(&node, school.ana, &page(school.with_ana())).await.1["messages"][0]["envelope"]["text"], "to Ana");
    assert_eq!(get(&node, school.ana, &page(school.with_ben())).await.0, StatusCode::NOT_FOUND);
    // Somebody who is in no room sees none, and can't open this one.
    let child = token(node.log().db(), school.anas_child).await;
    let client = http();
    let home: Value =
        client.get(node.url("/api/v1/home")).bearer_auth(&child).send().await.unwrap().json().await.unwrap();
    assert_eq!(home["rooms"], json!([]));
    let opened = client.get(node.url(&format!("/api/v1/rooms/{room}"))).bearer_auth(&child).send().await.unwrap();
    assert_eq!(opened.status(), StatusCode::NOT_FOUND);

    let (_, detail) = get(&node, school.teacher, &format!("/api/v1/rooms/{room}")).await;
    let families = detail["families"].as_array().unwrap();
    assert_eq!(families.len(), 2);
    assert_eq!(families[0]["guardians"].as_array().unwrap().len(), 1);
    let text = "UPDATE enrollment SET ends_on = '2020-01-31' WHERE person_id = $1";
    homeroom::execute!(node.log().db().writes(), text, school.bens_child.0).unwrap();
    let (_, later) = get(&node, school.teacher, &format!("/api/v1/rooms/{room}")).await;
    let children: Vec<&Value> =
        later["families"].as_array().unwrap().iter().map(|family| &family["student"]["name"]).collect();
    assert_eq!(children, ["Maria Silva"], "an enrolment that has ended is no family of the class");
    assert_eq!(detail["summary"]["conversations"].as_array().unwrap().len(), 3);
    assert_eq!(
        get(&node, school.teacher, &format!("/api/v1/rooms/{}", uuid::Uuid::now_v7())).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(get(&node, school.teacher, "/api/v1/rooms/nonsense").await.0, StatusCode::NOT_FOUND);
    node.stop().await;
}

async fn reach_counts_who_was_there(ground: Ground) {
    let node = Node::start(ground).await;
    let (room, school) = (node.school.room, &node.school);
    let mut teacher = node.session(school.teacher).await;
    let said = teacher.post(room, Address::Announcements, "to all").await;
    let id = said["id"].as_str().unwrap();
    // Somebody who came later is not counted, somebody who left is.
    node.log()
        .change_members(
            room,
            vec![
                crate::node::guardian(school.ben, school.bens_child, false),
                crate::node::guardian(school.ana, school.bens_child, true),
            ],
        )
        .await
        .unwrap();
    let mut ana = node.session(school.ana).await;
    let read =
        json!({ "type": "read", "room": room, "conversation": Address::Announcements.conversation(room), "n": 1 });
    assert_eq!(ana.ask(read).await["type"], "ack");
    let (status, reach) = get(&node, school.teacher, &format!("/api/v1/rooms/{room}/messages/{id}/reach")).await;
    assert_eq!(status, StatusCode::OK);
    let lines: Vec<(String, bool)> = reach["guardians"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["guardian_name"].as_str().unwrap().to_owned(), line["read"].as_bool().unwrap()))
        .collect();
    assert_eq!(lines, [("Ben Okafor".to_owned(), false), ("Ana Silva".to_owned(), true)]);
    assert_eq!(
        get(&node, school.ana, &format!("/api/v1/rooms/{room}/messages/{id}/reach")).await.0,
        StatusCode::NOT_FOUND
    );
    node.stop().await;
}

#[tokio::test]
async fn every_documented_route_is_there_and_nothing_answers_without_signing_in() {
    let node = Node::start(Ground::sqlite()).await;
    let client = http();
    let document: Value = client.get(node.url("/api/v1/openapi.json")).send().await.unwrap().json().await.unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 10, "{paths:?}");
    for (scheme, kind) in [("cookie", "apiKey"), ("bearer", "http")] {
        assert_eq!(document["components"]["securitySchemes"][scheme]["type"], kind);
    }
    assert_eq!(document["security"], json!([{ "cookie": [] }, { "bearer": [] }]));
    let language = &document["components"]["schemas"]["Language"];
    assert!(language["pattern"].is_string() && language["maxLength"] == 35, "{language}");
    for (path, methods) in paths {
        for operation in methods.as_object().unwrap().values() {
            let open = path.contains("/sign-in/") || path.starts_with("/health/");
            assert_eq!(operation.get("security") == Some(&json!([])), open, "{path}");
            assert!(path.starts_with("/health/") || operation["responses"]["503"].is_object(), "{path}");
            // Whatever takes a body changes something, and is refused to other sites' pages.
            assert!(operation.get("requestBody").is_none() || operation["responses"]["403"].is_object(), "{path}");
        }
        if path.starts_with("/health/") {
            continue;
        }
        let id = uuid::Uuid::now_v7().to_string();
        let address = path.replace("{room}", &id).replace("{conversation}", &id).replace("{message}", &id);
        for method in methods.as_object().unwrap().keys() {
            let method: reqwest::Method = method.to_uppercase().parse().unwrap();
            let answer = client.request(method.clone(), node.url(&address)).json(&json!({})).send().await.unwrap();
            let status = answer.status();
            assert!(
                status != StatusCode::NOT_FOUND && !status.is_server_error() && !status.is_success(),
                "{method} {path}: {status}"
            );
            let fault: Value = answer.json().await.unwrap();
            assert!(fault["code"].is_string() && fault["message"].is_string(), "{method} {path}: {fault}");
        }
    }
    let schema: Value = client.get(node.url("/api/v1/schema.json")).send().await.unwrap().json().await.unwrap();
    assert!(schema["client"].to_string().contains("positions") && schema["server"].to_string().contains("caught_up"));
    let page = client.get(node.url("/")).send().await.unwrap();
    if let Some(tag) = page.headers().get("etag") {
        let again = client.get(node.url("/")).header("if-none-match", tag).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "what a browser has is not sent again");
    } else {
        assert_eq!(page.status(), StatusCode::NOT_FOUND, "only a homeroom without its web app has no page");
    }
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["referrer-policy"], "no-referrer");
    let me = client.get(node.url("/api/v1/me")).send().await.unwrap();
    assert_eq!(me.headers()["cache-control"], "no-store");
    assert_eq!(client.get(node.url("/health/live")).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(client.get(node.url("/health/ready")).send().await.unwrap().status(), StatusCode::OK);
    let mut session = node.session(node.school.ana).await;
    session.hear("caught_up").await;
    let metrics = format!("http://{}/metrics", node.running.metrics_address.unwrap());
    let text = client.get(metrics).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("homeroom_seats_live 1") && text.contains("homeroom_seats_behind 0"), "{text}");
    assert!(text.contains("homeroom_connections") && text.contains("homeroom_batch_commands_bucket"), "{text}");
    node.stop().await;
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let node = Node::start(Ground::sqlite()).await;
    let client = http();
    let mut refused = None;
    for _ in 0..20 {
        let guess = json!({ "name": "ana.silva", "code": "BBBBBBBB" });
        let answer = client.post(node.url("/api/v1/sign-in/code")).json(&guess).send().await.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let refused = refused.expect("the limit is reached");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "rate_limited");
    node.stop().await;
}

#[tokio::test]
async fn a_wrong_method_and_a_request_that_is_no_handshake_are_told_what_they_are() {
    let node = Node::start(Ground::sqlite()).await;
    let client = http();
    let plain = client.get(node.url("/ws")).send().await.unwrap();
    assert_eq!(
        (plain.status(), plain.headers()["upgrade"].to_str().unwrap()),
        (StatusCode::UPGRADE_REQUIRED, "websocket")
    );
    assert!(plain.text().await.unwrap().contains("homeroom.v1"));
    for (method, path, allowed) in [
        ("POST", "/ws", "GET"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/api/v1/home", "GET"),
        ("GET", "/api/v1/sign-out", "POST"),
        ("PUT", "/api/v1/me", "GET, PATCH"),
        ("DELETE", "/api/v1/rooms/0193a1b2-2222-7000-8000-00000000000b", "GET"),
        ("POST", "/health/live", "GET"),
    ] {
        let answer = client.request(method.parse().unwrap(), node.url(path)).send().await.unwrap();
        let allow = answer.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned());
        assert_eq!(
            (answer.status(), allow.as_deref()),
            (StatusCode::METHOD_NOT_ALLOWED, Some(allowed)),
            "{method} {path}"
        );
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "not_found");
    }
    for method in ["GET", "POST"] {
        let answer = client.request(method.parse().unwrap(), node.url("/api/v1/nothing")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method}");
    }
    node.stop().await;
}

/// A thousandth of what it is once it is unpacked, and without signing in.
#[tokio::test]
async fn a_packed_body_is_refused_unread() {
    let node = Node::start(Ground::sqlite()).await;
    let client = http();
    let much = vec![b'0'; 14_000_000];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&much).unwrap();
    zlib.write_all(&much).unwrap();
    for (encoding, body) in [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap())] {
        assert!(body.len() < 16 * 1024, "{encoding} is let through by its length");
        for path in ["/api/v1/sign-in/link", "/api/v1/sign-in/code", "/api/v1/nothing"] {
            let asked = client.post(node.url(path)).header("content-type", "application/json");
            let answer = asked.header("content-encoding", encoding).body(body.clone()).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encoding} {path}");
            assert_eq!(answer.json::<Value>().await.unwrap()["code"], "malformed");
        }
    }
    let guess = json!({ "name": "ana.silva", "code": "BBBBBBBB" });
    let plain = client.post(node.url("/api/v1/sign-in/code")).header("content-encoding", "identity").json(&guess);
    assert_eq!(plain.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "as it is");
    node.stop().await;
}

/// Without signing in: half a request, one byte of a second one, and answers that are not read, each on a connection that would else be
/// kept for ever. Who asks and reads now and then is let be.
#[tokio::test]
async fn who_keeps_a_connection_and_is_not_answered_is_left() {
    let node = Node::start(Ground::sqlite()).await;
    let address = node.running.address;
    let connect = async || tokio::net::TcpStream::connect(address).await.unwrap();
    let live = b"GET /health/live HTTP/1.1\r\nHost: homeroom\r\n\r\n";
    let begun = Instant::now();
    let half_a_request = async {
        let mut socket = connect().await;
        let head = b"POST /api/v1/sign-in/link HTTP/1.1\r\nHost: homeroom\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n";
        socket.write_all(head).await.unwrap();
        // It goes on, and is never whole; at last there is nobody to write to.
        while socket.write_all(b" ").await.is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(60), "half a request");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let half_and_no_more = async {
        let mut socket = connect().await;
        socket.write_all(b"POST /api/v1/sign-in/link HTTP/1.1\r\nHost: homeroom\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{").await.unwrap();
        let mut answer = Vec::new();
        let _ended =
            tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await.expect("half");
        assert!(answer.starts_with(b"HTTP/1.1 408"), "it is told why");
    };
    let a_byte_more = async {
        let mut socket = connect().await;
        socket.write_all(live).await.unwrap();
        socket.write_all(b"G").await.unwrap();
        let mut answer = Vec::new();
        // Until the end, or a reset.
        let _ended =
            tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await.expect("a byte");
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    };
    let unread = async {
        let mut socket = connect().await;
        let page = b"GET /api/v1/schema.json HTTP/1.1\r\nHost: homeroom\r\n\r\n".repeat(100);
        // Once what is between the two is full, it takes nothing more; at last there is nobody to write to.
        while !matches!(tokio::time::timeout(Duration::from_secs(1), socket.write_all(&page)).await, Ok(Err(_))) {
            assert!(begun.elapsed() < Duration::from_secs(60), "unread answers");
        }
    };
    let answered = async {
        let mut socket = connect().await;
        while begun.elapsed() < Duration::from_secs(33) {
            socket.write_all(live).await.unwrap();
            let mut answer = [0; 4_096];
            assert!(socket.read(&mut answer).await.unwrap() > 0, "who is answered is let be");
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    tokio::join!(half_a_request, half_and_no_more, a_byte_more, unread, answered);
    node.stop().await;
}
