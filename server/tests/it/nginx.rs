//! nginx before two nodes, by the very file that `deploy/` offers: signing in, a WebSocket, limits by address, a node that drains, TLS,
//! and what it must not log.
//!
//! Owns: starting nginx with that file on free ports, and a certificate for it. Refuses to know: HAProxy (see the load test's cluster).

use crate::node::{Ground, School, connect, eventually, free_port, http, repository};
use homeroom::app::{self, Running};
use homeroom::bus::local::Exchange;
use homeroom::config::Config;
use homeroom::identity;
use homeroom_protocol::Address;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// An nginx; killed when the test is over, however it went.
struct Nginx {
    process: Child,
    /// Where it speaks TLS, and where it sends those who don't.
    tls: u16,
    unsafe_port: u16,
    /// The same server as that of TLS, without it.
    plain: SocketAddr,
}

impl Nginx {
    fn start(folder: &Path, nodes: &[SocketAddr]) -> Self {
        let (tls, unsafe_port, plain) = (free_port(), free_port(), free_port());
        certificate(folder);
        let mut ours = std::fs::read_to_string(repository().join("deploy/nginx.conf")).unwrap();
        let servers: String =
            nodes.iter().map(|node| format!("server {node} max_fails=2 fail_timeout=2s;\n")).collect();
        let tls_lines = format!("listen 127.0.0.1:{tls} ssl http2;\nlisten 127.0.0.1:{plain};");
        for (theirs, here) in [
            ("listen 80;", format!("listen 127.0.0.1:{unsafe_port};")),
            ("listen 443 ssl http2;", tls_lines),
            ("/etc/nginx/tls", folder.display().to_string()),
            ("server 10.0.0.11:8080 max_fails=2 fail_timeout=2s;", servers),
            ("server 10.0.0.12:8080 max_fails=2 fail_timeout=2s;", String::new()),
            ("server 10.0.0.13:8080 max_fails=2 fail_timeout=2s;", String::new()),
        ] {
            assert!(ours.contains(theirs), "{theirs} is not in deploy/nginx.conf any more");
            ours = ours.replace(theirs, &here);
        }
        std::fs::write(folder.join("homeroom.conf"), ours).unwrap();
        // What Debian's own nginx.conf says around it, as far as it matters. One process, so that none outlives the test.
        let around = "daemon off; master_process off; user root; pid nginx.pid; error_log error.log;
            events { worker_connections 512; }
            http {
                access_log access.log;
                client_body_temp_path body; proxy_temp_path proxy;
                fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                include homeroom.conf;
            }";
        std::fs::write(folder.join("nginx.conf"), around).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "/usr/sbin/nginx", "-e", "stderr", "-c"]).arg(folder.join("nginx.conf"));
        let process = command.arg("-p").arg(folder).stdin(Stdio::null()).spawn().unwrap();
        let nginx = Self { process, tls, unsafe_port, plain: SocketAddr::from(([127, 0, 0, 1], plain)) };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(nginx.plain).is_err() {
            assert!(Instant::now() < deadline, "nginx did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.plain)
    }

    /// What curl is answered over TLS, headers too, by a certificate that it trusts.
    fn over_tls(&self, folder: &Path, path: &str, more: &[&str]) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-sSi", "--max-time", "3", "--resolve", &format!("homeroom.example:{}:127.0.0.1", self.tls)]);
        curl.arg("--cacert").arg(folder.join("homeroom.crt")).args(more);
        let said = curl.arg(format!("https://homeroom.example:{}{path}", self.tls)).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// A key and a certificate of its own for homeroom.example.
fn certificate(folder: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=homeroom.example", "-addext", "subjectAltName=DNS:homeroom.example"]);
    openssl.arg("-keyout").arg(folder.join("homeroom.key")).arg("-out").arg(folder.join("homeroom.crt"));
    assert!(openssl.stderr(Stdio::null()).status().unwrap().success());
}

/// Two nodes that believe nginx, on one database, with a school in it.
async fn two_nodes(ground: &Ground) -> ([Running; 2], School) {
    let config = Config {
        trusted_proxies: vec![IpAddr::V4(Ipv4Addr::LOCALHOST).into()],
        public_url: Some("https://homeroom.example".to_owned()),
        ..ground.config()
    };
    let exchange = Exchange::default();
    let one = app::start_on(&config, &exchange).await.unwrap();
    let other = app::start_on(&config, &exchange).await.unwrap();
    let school = School::open(&one.node.log).await;
    ([one, other], school)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_sign_in_and_talk_across_two_nodes_through_nginx() {
    let ground = Ground::postgres().await;
    let ([one, other], school) = two_nodes(&ground).await;
    let nginx = Nginx::start(ground.folder.path(), &[one.address, other.address]);
    let mut sockets = Vec::new();
    for person in [school.teacher, school.ana] {
        let invitation = identity::invite(one.node.log.db(), person).await.unwrap().unwrap();
        let link = json!({ "secret": invitation.secret.reveal(), "keep": "token" });
        let signed_in = http().post(nginx.url("/api/v1/sign-in/link")).json(&link).send().await.unwrap();
        let token = signed_in.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned();
        let mut socket = connect(nginx.plain).await;
        socket.say(json!({ "type": "hello", "token": token })).await;
        socket.hear("caught_up").await;
        sockets.push(socket);
    }
    let on = |node: &Running| node.node.counts.connections.load(Ordering::Relaxed);
    assert_eq!((on(&one), on(&other)), (1, 1), "the fewest connections get the next one");
    let [teacher, ana] = &mut sockets[..] else { unreachable!() };
    let posted = teacher.post(school.room, Address::Announcements, "from one node to the other").await;
    assert_eq!(posted["type"], "ack", "{posted}");
    assert_eq!(ana.hear("event").await["message"]["envelope"]["text"], "from one node to the other");

    // A node that drains is passed by.
    one.node.draining.store(true, Ordering::Release);
    for _ in 0..4 {
        let mut socket = connect(nginx.plain).await;
        socket.say(json!({ "type": "hello", "token": "wrong" })).await;
        assert_eq!(socket.closed().await, 4401);
    }
    drop(nginx);
    one.stop().await;
    other.stop().await;
}

/// Both nodes count by themselves: the thirty-first wrong link of a minute on each is one too many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_each_family_has_its_own_limit_and_can_not_lie_about_who_it_is() {
    let ground = Ground::postgres().await;
    let ([one, other], _) = two_nodes(&ground).await;
    let nginx = Nginx::start(ground.folder.path(), &[one.address, other.address]);
    let from = |host: u8| {
        let _before = http();
        reqwest::Client::builder().local_address(IpAddr::from([127, 0, 0, host])).build().unwrap()
    };
    let (guesser, family) = (from(2), from(3));
    let guess = async |client: &reqwest::Client, claims: &str| {
        let request = client.post(nginx.url("/api/v1/sign-in/link")).header("x-forwarded-for", claims);
        request.json(&json!({ "secret": "no such link" })).send().await.unwrap().status()
    };
    let mut tries = 0;
    let mut refused = 0;
    // Whichever node is asked: in the end both refuse.
    while refused < 4 {
        let status = guess(&guesser, &format!("198.51.100.{tries}")).await;
        refused = if status == StatusCode::TOO_MANY_REQUESTS { refused + 1 } else { 0 };
        tries += 1;
        assert!(tries < 100, "who invents addresses guesses for ever");
    }
    assert!(tries > 30, "{tries}");
    assert_eq!(guess(&family, "127.0.0.2").await, StatusCode::UNAUTHORIZED, "another family may try");
    drop(nginx);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_speaks_tls_and_keeps_the_host_by_which_pages_are_believed() {
    let ground = Ground::postgres().await;
    let ([one, other], _) = two_nodes(&ground).await;
    let folder = ground.folder.path();
    let nginx = Nginx::start(folder, &[one.address, other.address]);
    let ready = nginx.over_tls(folder, "/health/ready", &[]);
    assert!(ready.starts_with("HTTP/2 200") && ready.contains(r#"{"ready":true"#), "{ready}");
    assert_eq!(ready.matches("strict-transport-security: max-age=").count(), 1, "{ready}");
    let plain = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let sent = plain.get(format!("http://127.0.0.1:{}/i/x", nginx.unsafe_port)).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(sent.headers()["location"], "https://127.0.0.1/i/x");
    let upgraded = |origin: &str| {
        let origin = format!("origin: {origin}");
        let handshake = ["--http1.1", "-Hupgrade: websocket", "-Hconnection: upgrade", "-Hsec-websocket-version: 13"];
        let rest =
            ["-Hsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==", "-Hsec-websocket-protocol: homeroom.v1", "-H", &origin];
        nginx.over_tls(folder, "/ws", &[&handshake[..], &rest[..]].concat())
    };
    let own = upgraded(&format!("https://homeroom.example:{}", nginx.tls));
    assert!(own.starts_with("HTTP/1.1 101") && own.contains("homeroom.v1"), "{own}");
    let foreign = upgraded("https://evil.example");
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    // The page of an invitation comes from a node like all others, though nginx treats it differently.
    let page = nginx.over_tls(folder, "/i/x", &[]);
    let any = nginx.over_tls(folder, "/", &[]);
    assert_eq!((page.lines().next(), page.lines().last()), (any.lines().next(), any.lines().last()));
    assert_eq!(page.matches("referrer-policy: no-referrer").count(), 1, "{page}");
    drop(nginx);
    one.stop().await;
    other.stop().await;
}

/// Behind it is nobody: then nginx has something to say in both of its logs, and answers by itself.
#[tokio::test]
async fn neither_log_of_nginx_holds_an_invitation() {
    let folder = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(folder.path(), &[SocketAddr::from(([127, 0, 0, 1], free_port()))]);
    let _before = http();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let unsafe_port = nginx.unsafe_port;
    for path in ["/i/SECRET", "/i/SECRET?more", "/logged"] {
        let redirected = client.get(format!("http://127.0.0.1:{unsafe_port}{path}")).send().await.unwrap();
        assert_eq!(redirected.status(), StatusCode::MOVED_PERMANENTLY);
        let answer = client.get(nginx.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        // Or the browser names the page to whatever it asks for next, if only its icon.
        let referrers = answer.headers().get_all("referrer-policy").iter().collect::<Vec<_>>();
        assert_eq!(referrers, if path == "/logged" { vec![] } else { vec!["no-referrer"] }, "{path}");
    }
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    for name in ["access.log", "error.log"] {
        eventually(name, async || read(name).contains("/logged")).await;
        let said = read(name);
        assert!(!said.contains("SECRET"), "{name}: {said}");
    }
    drop(nginx);
}

#[test]
fn no_quiet_connection_is_closed_before_75_seconds() {
    let text = std::fs::read_to_string(repository().join("deploy/nginx.conf")).unwrap();
    let of_socket = text.split("location = /ws {").nth(1).unwrap().split('}').next().unwrap();
    for setting in ["proxy_read_timeout", "proxy_send_timeout"] {
        let value = of_socket.split(setting).nth(1).unwrap().split(';').next().unwrap();
        let seconds: u32 = value.trim().trim_end_matches('s').parse().unwrap();
        assert!(seconds >= 75, "{setting} {seconds}");
    }
}
