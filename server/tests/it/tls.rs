//! TLS in the server itself: pages, sessions, slow readers, a drain, renewal, and peers that speak something else.

use crate::node::{Ground, Node, Socket, eventually, http};
use futures_util::SinkExt;
use homeroom::config::{Config, Layers};
use homeroom::tls::Files;
use homeroom_client::{Client, Http, Options, Post, ServerAddress, Trust, Update};
use homeroom_protocol::{Address, Draft, Language, PersonId};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

/// Makes a certificate for this machine, writes it with its key, and gives it: it is its own root.
pub fn certify(folder: &Path, until_year: i32) -> (Files, String) {
    let files = Files { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    let certificate = parameters.self_signed(&key).unwrap().pem();
    std::fs::write(&files.certificate, &certificate).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    (files, certificate)
}

/// A node that speaks TLS, and the root that leads to it.
async fn node() -> (Node, Files, String) {
    let ground = Ground::sqlite();
    let (files, root) = certify(ground.folder.path(), 2_200);
    let config = Config { tls: Some(files.clone()), ..ground.config() };
    (Node::start_as(ground, &config, &Default::default()).await, files, root)
}

fn trusting(root: &str) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

async fn connect(address: SocketAddr, root: &str) -> Result<Socket, Box<dyn std::error::Error>> {
    connect_with(address, root, "").await
}

async fn connect_with(address: SocketAddr, root: &str, cookies: &str) -> Result<Socket, Box<dyn std::error::Error>> {
    let mut request = format!("wss://{address}/ws").into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", "homeroom.v1".parse()?);
    request.headers_mut().insert("cookie", cookies.parse()?);
    let connector = Connector::Rustls(trusting(root));
    let (stream, _) = connect_async_tls_with_config(request, None, true, Some(connector)).await?;
    Ok(Socket::new(stream))
}

fn browser(root: &str) -> reqwest::Client {
    let _provider = http();
    let trusted = reqwest::Certificate::from_pem(root.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap()
}

/// The cookies that an answer gives, in the order of their names.
fn given(answer: &reqwest::Response) -> Vec<String> {
    let mut given: Vec<_> =
        answer.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
    given.sort();
    given
}

async fn session(node: &Node, root: &str, person: PersonId) -> Socket {
    let mut socket = connect(node.running.address, root).await.unwrap();
    socket.say(json!({ "type": "hello", "token": node.token(person), "positions": {} })).await;
    socket.hear("caught_up").await;
    socket
}

#[tokio::test]
async fn pages_and_sessions_are_served_in_tls() {
    let (node, _, root) = node().await;
    let (room, school, address) = (node.school.room, &node.school, node.running.address);
    assert_eq!(node.running.url(), format!("https://{address}"));
    let mut teacher = session(&node, &root, school.teacher).await;
    let mut ana = session(&node, &root, school.ana).await;
    assert_eq!(teacher.post(room, Address::Announcements, "one").await["n"], 1);
    assert_eq!(ana.hear("event").await["message"]["envelope"]["text"], "one");
    // A frame that is longer than a record.
    let mut long = crate::node::post(room, Address::Announcements, &"x".repeat(8_000));
    long["ref"] = json!(8);
    teacher.stream.send(Message::text(format!("{}{long}", " ".repeat(40_000)))).await.unwrap();
    assert_eq!(ana.hear("event").await["n"], 2);

    // What HTTP says of it.
    let browser = browser(&root);
    let page = browser.get(format!("https://{address}/health/ready")).send().await.unwrap();
    assert_eq!(page.version(), reqwest::Version::HTTP_11);
    assert_eq!(page.headers()["strict-transport-security"], "max-age=31536000");
    let metrics = format!("http://{}/metrics", node.running.metrics_address.unwrap());
    let metrics = http().get(metrics).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("homeroom_tls_certificate_ends_seconds 7258118400"), "{metrics}");
    node.stop().await;
}

#[tokio::test]
async fn a_cookie_that_another_site_of_the_domain_has_set_does_not_make_anybody_write_as_somebody_else() {
    let (node, _, root) = node().await;
    let (school, url, browser) = (&node.school, node.running.url(), browser(&root));
    let invitation = homeroom::identity::invite(node.log().db(), school.ana).await.unwrap().unwrap();
    let secret = json!({ "secret": invitation.secret.reveal(), "keep": "cookie" });
    let signed_in = browser.post(format!("{url}/api/v1/sign-in/link")).json(&secret).send().await.unwrap();
    let first = given(&signed_in);
    // The other is for nodes of the version before.
    let [cookie, plain] = &first[..] else { panic!("{first:?}") };
    assert_eq!(format!("__Host-{plain}"), *cookie);
    // What a browser asks of this prefix.
    assert!(cookie.starts_with("__Host-homeroom_login=") && !cookie.contains("Domain"), "{cookie}");
    assert!(cookie.contains("; Secure") && cookie.contains("; Path=/;") && cookie.contains("; HttpOnly"), "{cookie}");

    // The other one is first in the header: its path may be longer.
    let both = format!("homeroom_login={}; {}", node.token(school.ben), cookie.split(';').next().unwrap());
    let get = async |path: &str| browser.get(format!("{url}{path}")).header("cookie", &both).send().await.unwrap();
    assert_eq!(get("/api/v1/me").await.json::<Value>().await.unwrap()["name"], "Ana Silva");
    let home = get("/api/v1/home").await;
    assert_eq!(given(&home), first, "given again as it was");
    let mut socket = connect_with(node.running.address, &root, &both).await.unwrap();
    socket.say(json!({ "type": "hello", "positions": {} })).await;
    assert_eq!(socket.hear("welcome").await["you"]["name"], "Ana Silva");

    let sign_out = browser.post(format!("{url}/api/v1/sign-out")).header("cookie", &both).send().await.unwrap();
    let gone = given(&sign_out);
    assert_eq!(gone.len(), 2, "{gone:?}");
    assert!(gone[0].starts_with("__Host-homeroom_login=;") && gone[1].starts_with("homeroom_login=;"), "{gone:?}");
    // A browser takes even the end of such a cookie only as it took the cookie.
    assert!(gone.iter().all(|cookie| cookie.contains("Max-Age=0") && cookie.contains("; Secure")), "{gone:?}");
    assert_eq!(socket.closed().await, 4401);
    node.stop().await;
}

#[tokio::test]
async fn who_signed_in_before_cookies_were_bound_to_their_host_stays_signed_in() {
    let (node, _, root) = node().await;
    let (school, url, browser) = (&node.school, node.running.url(), browser(&root));
    let before = format!("homeroom_login={}", node.token(school.ben));
    let home = browser.get(format!("{url}/api/v1/home")).header("cookie", &before).send().await.unwrap();
    // The earlier one stays: a node of the version before may be asked next.
    let cookies = given(&home);
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    assert!(cookies[0].starts_with(&format!("__Host-{before};")), "{cookies:?}");
    assert!(cookies[1].starts_with(&format!("{before};")), "{cookies:?}");
    assert_eq!(home.json::<Value>().await.unwrap()["you"]["name"], "Ben Okafor");
    let mut socket = connect_with(node.running.address, &root, &before).await.unwrap();
    socket.say(json!({ "type": "hello", "positions": {} })).await;
    assert_eq!(socket.hear("welcome").await["you"]["name"], "Ben Okafor");
    // Unless somebody else signs in.
    let token_of = |cookie: &str| cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    let invitation = homeroom::identity::invite(node.log().db(), school.ana).await.unwrap().unwrap();
    let secret = json!({ "secret": invitation.secret.reveal(), "keep": "cookie" });
    let sign_in = browser.post(format!("{url}/api/v1/sign-in/link")).header("cookie", &before).json(&secret);
    let cookies = given(&sign_in.send().await.unwrap());
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    assert_eq!(token_of(&cookies[0]), token_of(&cookies[1]), "the earlier one is replaced");
    assert_ne!(token_of(&cookies[0]), node.token(school.ben));
    node.stop().await;
}

#[tokio::test]
async fn the_rust_client_trusts_the_roots_that_it_is_given_and_no_others() {
    let (node, _, root) = node().await;
    let server = ServerAddress::parse(&node.running.url()).unwrap();
    let trust = Trust::only(root.as_bytes()).unwrap();
    let stranger = certify(tempfile::tempdir().unwrap().path(), 2_200).1;
    let strange = Http::trusting(server.clone(), &Trust::only(stranger.as_bytes()).unwrap()).unwrap();
    assert!(strange.with_token(node.token(node.school.ana)).me().await.is_err());
    let me =
        Http::trusting(server.clone(), &trust).unwrap().with_token(node.token(node.school.ana)).me().await.unwrap();
    assert_eq!(me.person, node.school.ana);

    let mut options = Options::new(server.clone(), node.token(node.school.ana));
    options.trust = trust;
    let (client, mut updates) = Client::start(options).unwrap();
    let draft = Draft { language: Language::english(), text: "in TLS".to_owned(), protected: Vec::new() };
    let post = Post { room: node.school.room, to: node.school.with_ana(), draft, urgent: false };
    assert_eq!(client.post(post).await.unwrap().await.unwrap().n, 1);
    loop {
        if let Update::Event(event) = updates.recv().await.expect("it goes on") {
            assert_eq!(event.n, Some(1));
            break;
        }
    }
    client.close().await;
    let mut options = Options::new(server, node.token(node.school.ana));
    options.trust = Trust::only(stranger.as_bytes()).unwrap();
    let (_stranger, mut updates) = Client::start(options).unwrap();
    let first = updates.recv().await.unwrap();
    assert!(matches!(first, Update::Disconnected { .. }), "{first:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_in_tls_that_stops_delays_nobody_and_catches_up_later() {
    let (node, _, root) = node().await;
    let (room, school) = (node.school.room, &node.school);
    let mut ana = session(&node, &root, school.ana).await;
    let mut ben = session(&node, &root, school.ben).await;
    let (log, teacher, count) = (node.log().clone(), school.teacher, 1_500_u64);
    let text = "x".repeat(8_000);
    let speaking = tokio::spawn(async move {
        for _ in 0..count {
            let draft = Draft { language: Language::english(), text: text.clone(), protected: Vec::new() };
            let envelope = Box::new(draft.into_envelope(|_| Vec::new()).unwrap());
            let what = homeroom::log::What::Post { to: Address::Announcements, envelope, urgent: false };
            let client_id = homeroom_protocol::ClientId::new();
            log.append(homeroom::log::Append { room, author: teacher, client_id, what, turn: None }).await.unwrap();
        }
    });
    for n in 1..=count {
        assert_eq!(ben.hear("event").await["n"], json!(n), "a neighbour hears everything meanwhile");
    }
    speaking.await.unwrap();
    assert!(node.running.node.counts.fell_behind.load(Ordering::Relaxed) > 0);
    for n in 1..=count {
        assert_eq!(ana.hear("event").await["n"], json!(n), "what it missed comes in order, each once");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_drain_in_tls_ends_with_a_goodbye_of_tls() {
    let (node, _, root) = node().await;
    let mut ana = session(&node, &root, node.school.ana).await;
    let stopping = tokio::spawn(node.running.stop());
    assert_eq!(ana.hear("bye").await["reason"], "draining");
    assert_eq!(ana.closed().await, 1012);
    // Without the goodbye this would be an error: the connection might have been cut by somebody else.
    let rest = ana.stream.get_mut().read(&mut [0; 16]).await;
    assert_eq!(rest.unwrap(), 0);
    stopping.await.unwrap();
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_so_and_who_never_ends_the_handshake_is_dropped() {
    let (node, _, root) = node().await;
    let address = node.running.address;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    // The head of a handshake that announces more than ever comes.
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    let began = Instant::now();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // What it had sent and nobody read may reset the connection behind the answer.
    let _reset = plain.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with("Write https:// before it.\r\n"), "{answer:?}");
    let agreed = http_version(address, &root).await;
    assert_eq!(agreed.as_deref(), Some(&b"http/1.1"[..]), "h2 is not spoken here");
    for socket in [&mut silent, &mut half] {
        let ended = tokio::time::timeout(Duration::from_secs(15), socket.read(&mut [0; 64])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "it is closed");
    }
    assert!(began.elapsed() > Duration::from_secs(5), "slow networks have their time");
    assert!(connect(address, &root).await.is_ok(), "others are served");
    node.stop().await;
}

/// Which protocol of HTTP both agree on.
async fn http_version(address: SocketAddr, root: &str) -> Option<Vec<u8>> {
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = tokio_rustls::TlsConnector::from(trusting(root)).connect(name, socket).await.unwrap();
    stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_who_comes_and_who_is_there_stays() {
    let (node, files, root) = node().await;
    let mut ana = session(&node, &root, node.school.ana).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (renewed, new_root) = certify(elsewhere.path(), 2_201);
    // Half of a renewal: the old one stays.
    std::fs::copy(&renewed.certificate, &files.certificate).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(connect(node.running.address, &root).await.is_ok());
    assert!(connect(node.running.address, &new_root).await.is_err());
    std::fs::copy(&renewed.key, &files.key).unwrap();
    eventually("the new one is shown", || async { connect(node.running.address, &new_root).await.is_ok() }).await;
    assert!(connect(node.running.address, &root).await.is_err());
    assert_eq!(ana.post(node.school.room, node.school.with_ana(), "still here").await["n"], 1);
    node.stop().await;
}

#[test]
fn files_that_make_no_sense_are_said_at_once_and_an_expired_certificate_is_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let (files, _) = certify(folder.path(), 2_200);
    let (others, _) = certify(other.path(), 2_001);
    let read = |certificate: &Path, key: &Path| {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut flags = BTreeMap::new();
        for (name, path) in [("tls_certificate", certificate), ("tls_key", key)] {
            if !path.as_os_str().is_empty() {
                flags.insert(name.to_owned(), text(path));
            }
        }
        Layers { flags, ..Layers::default() }.read().map(|config| config.tls).map_err(|mistakes| mistakes.0)
    };
    assert_eq!(read(&files.certificate, &files.key).unwrap(), Some(files.clone()));
    assert_eq!(read(&others.certificate, &others.key).unwrap(), Some(others.clone()), "expired is a warning");
    let missing = folder.path().join("nothing.pem");
    for (certificate, key, expected) in [
        (&missing, &missing, vec!["tls-certificate", "No such file", "tls-key", "No such file"]),
        (&files.certificate, &others.key, vec!["tls-key", "does not fit"]),
        (&files.key, &files.certificate, vec!["tls-certificate", "no certificate", "tls-key", "none in PEM"]),
        (&files.certificate, &"".into(), vec!["tls-certificate", "needs `tls_key`"]),
        (&"".into(), &missing, vec!["tls-key", "needs `tls_certificate`", "tls-key", "No such file"]),
    ] {
        let mistakes = read(certificate, key).unwrap_err();
        assert_eq!(mistakes.len() * 2, expected.len(), "{mistakes:?}");
        for (mistake, parts) in mistakes.iter().zip(expected.chunks(2)) {
            assert!(parts.iter().all(|part| mistake.contains(part)), "{parts:?} is not in {mistake}");
        }
    }
}
