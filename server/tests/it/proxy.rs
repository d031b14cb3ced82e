//! A way to PostgreSQL or Redis that can be cut, held up, and torn at the worst moment.
//!
//! Owns: passing bytes on, or not. Refuses to know: what they mean, but for the word COMMIT.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// What happens at the next COMMIT; after it they pass again.
#[derive(Clone, Copy, PartialEq)]
pub enum Commit {
    /// The line is cut before it arrives.
    IsLost = 1,
    /// It arrives, and the line is cut before its answer does.
    IsNotAnswered = 2,
}

/// Which lines fall silent.
#[derive(Clone, Copy, PartialEq)]
pub enum Silence {
    OfAll,
    /// Those over which something was asked that is not answered yet.
    OfWaiting,
}

#[derive(Clone)]
enum Server {
    Socket(PathBuf),
    Port(u16),
}

/// A proxy before a server.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

struct State {
    at_commit: AtomicU8,
    torn: AtomicUsize,
    /// No question passes while this is true.
    held: watch::Sender<bool>,
    /// No answer passes while this is true.
    answers_held: watch::Sender<bool>,
    /// Counts up when all lines are cut.
    cuts: watch::Sender<usize>,
    lines: Mutex<Vec<Weak<Line>>>,
}

impl Proxy {
    /// Before the PostgreSQL of this URL.
    pub async fn start(url: &str) -> Self {
        Self::start_at(url, 0).await
    }

    /// The same, at a port.
    pub async fn start_at(url: &str, port: u16) -> Self {
        let (_, folder) = url.split_once("?host=").unwrap();
        Self::before(Server::Socket(PathBuf::from(folder).join(".s.PGSQL.5432")), port).await
    }

    /// Before a server on this port.
    pub async fn before_port(port: u16) -> Self {
        Self::before(Server::Port(port), 0).await
    }

    async fn before(server: Server, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            at_commit: AtomicU8::new(0),
            torn: AtomicUsize::new(0),
            held: watch::channel(false).0,
            answers_held: watch::channel(false).0,
            cuts: watch::channel(0).0,
            lines: Mutex::default(),
        });
        let of_listener = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, state) = (server.clone(), of_listener.clone());
                tokio::spawn(async move {
                    match server {
                        Server::Socket(path) => pass(client, UnixStream::connect(path).await, state).await,
                        Server::Port(port) => pass(client, TcpStream::connect(("127.0.0.1", port)).await, state).await,
                    }
                });
            }
        });
        Self { port, state }
    }

    /// The same database, through here.
    pub fn url(&self, url: &str) -> String {
        Self::url_at(url, self.port)
    }

    /// The same database, through a proxy at that port.
    pub fn url_at(url: &str, port: u16) -> String {
        let (before, _) = url.split_once("?host=").unwrap();
        before.replace("@localhost/", &format!("@127.0.0.1:{port}/")) + "?sslmode=disable"
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn at_next_commit(&self, commit: Commit) {
        self.state.at_commit.store(commit as u8, Ordering::SeqCst);
    }

    /// How many commits were torn so far.
    pub fn torn(&self) -> usize {
        self.state.torn.load(Ordering::SeqCst)
    }

    /// Holds everything up, as a network does that loses all packets.
    pub fn hold(&self, held: bool) {
        self.state.held.send_replace(held);
        self.hold_answers(held);
    }

    /// Holds up what the server says; what it is asked arrives.
    pub fn hold_answers(&self, held: bool) {
        self.state.answers_held.send_replace(held);
    }

    /// Lines that there are fall silent for ever, as when a firewall on the way has forgotten them; new ones work.
    pub fn silence(&self, which: Silence) {
        for line in self.state.lines.lock().unwrap().iter().filter_map(Weak::upgrade) {
            if which == Silence::OfAll || line.waits.load(Ordering::SeqCst) {
                line.is_silent.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Cuts all lines.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// One connection.
#[derive(Default)]
struct Line {
    /// Something was asked that is not answered yet.
    waits: AtomicBool,
    /// Nothing passes any more.
    is_silent: AtomicBool,
}

async fn pass<S: AsyncRead + AsyncWrite>(client: TcpStream, server: std::io::Result<S>, state: Arc<State>) {
    let Ok(server) = server else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let torn = watch::channel(false).0;
    let (of_answers, mut held, mut cuts) = (torn.clone(), state.held.subscribe(), state.cuts.subscribe());
    let mut answers_held = state.answers_held.subscribe();
    let line = Arc::<Line>::default();
    state.lines.lock().unwrap().push(Arc::downgrade(&line));
    let asks = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            drop(held.wait_for(|held| !held).await);
            if line.is_silent.load(Ordering::SeqCst) {
                continue;
            }
            let bytes = &buffer[..read];
            if bytes.windows(6).any(|word| word == b"COMMIT") {
                let at_commit = state.at_commit.swap(0, Ordering::SeqCst);
                if at_commit != 0 {
                    state.torn.fetch_add(1, Ordering::SeqCst);
                }
                if at_commit == Commit::IsLost as u8 {
                    return;
                }
                torn.send_replace(at_commit == Commit::IsNotAnswered as u8);
            }
            line.waits.store(true, Ordering::SeqCst);
            if to_server.write_all(bytes).await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            drop(answers_held.wait_for(|held| !held).await);
            if line.is_silent.load(Ordering::SeqCst) {
                continue;
            }
            line.waits.store(false, Ordering::SeqCst);
            // Its answer: the commit has happened.
            if *of_answers.borrow() || to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
        if line.is_silent.load(Ordering::SeqCst) {
            std::future::pending().await
        }
    };
    tokio::select! {
        // A silent line stays until the client gives it up.
        () = asks => {}
        () = answers => {}
        _ = cuts.changed() => {}
    }
}
