//! A way between two parts that can be cut, slowed, hung, and turned to another part.
//!
//! Owns: passing bytes on, each direction through one buffer, or not. Refuses to know: what they mean, and what is at the ends.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// Bytes of one direction of a connection that are on their way. Full, the sender waits, as on any line.
const BUFFER: usize = 16 * 1024;

/// How a way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Open,
    /// Everything passes, so much later in each direction.
    Slow(Duration),
    /// A black hole: connections are taken, and nothing passes. What was on its way goes on when it ends.
    Hung,
    /// Connections are reset, new ones too.
    Cut,
}

/// A way from wherever to a port of the loopback. It ends when its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Proxy {
    port: u16,
    way: Arc<Way>,
    _listening: Arc<Listening>,
}

#[derive(Debug)]
struct Way {
    target: AtomicU16,
    state: watch::Sender<State>,
    /// Counts up when what is connected is reset.
    resets: watch::Sender<usize>,
    /// From which ports the target is reached.
    ports: Mutex<BTreeSet<u16>>,
}

#[derive(Debug)]
struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Proxy {
    /// An open way to a port.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn start(target: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let way = Arc::new(Way {
            target: AtomicU16::new(target),
            state: watch::Sender::new(State::Open),
            resets: watch::Sender::new(0),
            ports: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, way.clone())).abort_handle();
        Ok(Self { port, way, _listening: Arc::new(Listening(listening)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes how it is.
    pub fn set(&self, state: State) {
        self.way.state.send_replace(state);
    }

    /// Leads somewhere else from now on; what is connected is reset.
    pub fn turn_to(&self, target: u16) {
        self.way.target.store(target, Ordering::Release);
        self.way.resets.send_modify(|resets| *resets += 1);
    }

    /// The ports from which the target is being reached: whose connection is whose.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.way.ports().iter().copied().collect()
    }
}

impl Way {
    fn ports(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        // No code under this lock panics half-way through a change.
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(listener: TcpListener, way: Arc<Way>) {
    loop {
        match listener.accept().await {
            // Ends with the connection.
            Ok((from, _)) => drop(tokio::spawn(connect(from, way.clone()))),
            // Out of descriptors, mostly: others end in a moment.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connect(mut from: TcpStream, way: Arc<Way>) {
    let mut to = None;
    let (mut state, mut resets) = (way.state.subscribe(), way.resets.subscribe());
    resets.mark_unchanged();
    let passing = async {
        until_passing(&mut way.state.subscribe()).await;
        let to = to.insert(TcpStream::connect((Ipv4Addr::LOCALHOST, way.target.load(Ordering::Acquire))).await?);
        pass(&mut from, to, &way).await
    };
    let ended_by_itself = tokio::select! {
        passed = passing => passed.is_ok(),
        _ = state.wait_for(|state| *state == State::Cut) => false,
        _ = resets.changed() => false,
    };
    if !ended_by_itself {
        for end in [Some(from), to].into_iter().flatten() {
            // Where it can't be set the other end hears a plain close.
            let _set = end.set_zero_linger();
        }
    }
}

/// Passes bytes on in both directions until both have ended, or one breaks.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, way: &Way) -> io::Result<()> {
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let _port = Port::new(to.local_addr()?.port(), way);
    let ((from_reads, from_writes), (to_reads, to_writes)) = (from.split(), to.split());
    tokio::try_join!(pump(from_reads, to_writes, way), pump(to_reads, from_writes, way))?;
    Ok(())
}

async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: &Way) -> io::Result<()> {
    let mut state = way.state.subscribe();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        until_passing(&mut state).await;
        match &buffer[..read] {
            [] => return to.shutdown().await,
            bytes => to.write_all(bytes).await?,
        }
    }
}

/// Waits for as long as the way holds things up. A way that is cut never lets pass: whoever waits here is dropped.
async fn until_passing(state: &mut watch::Receiver<State>) {
    let now = *state.borrow_and_update();
    if let State::Slow(by) = now {
        sleep(by).await;
    }
    // The sender lives as long as the way.
    let _passes = state.wait_for(|state| matches!(state, State::Open | State::Slow(_))).await;
}

/// A port in the list while a connection uses it.
struct Port<'a>(u16, &'a Way);

impl<'a> Port<'a> {
    fn new(port: u16, way: &'a Way) -> Self {
        way.ports().insert(port);
        Self(port, way)
    }
}

impl Drop for Port<'_> {
    fn drop(&mut self) {
        self.1.ports().remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    /// Sends every byte back.
    async fn echo(mark: u8) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).await.is_ok() {
                        stream.write_all(&[byte[0] + mark]).await.unwrap();
                    }
                });
            }
        });
        port
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(&[1]).await?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await.map(|_| answer[0])
    }

    async fn dial(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap()
    }

    #[tokio::test]
    async fn a_way_is_open_slow_hung_and_cut() {
        let proxy = Proxy::start(echo(1).await).await.unwrap();
        let mut stream = dial(&proxy).await;
        assert_eq!(ask(&mut stream).await.unwrap(), 2);
        assert_eq!(proxy.ports().len(), 1);

        proxy.set(State::Slow(Duration::from_millis(100)));
        let began = Instant::now();
        assert_eq!(ask(&mut stream).await.unwrap(), 2);
        assert!(began.elapsed() >= Duration::from_millis(200), "once in each direction");

        proxy.set(State::Hung);
        let mut second = dial(&proxy).await;
        assert!(timeout(Duration::from_millis(200), ask(&mut stream)).await.is_err());
        assert!(timeout(Duration::from_millis(200), ask(&mut second)).await.is_err(), "it is taken, and that is all");
        proxy.set(State::Open);
        let mut answer = [0];
        for stream in [&mut stream, &mut second] {
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [2], "what was on its way has arrived");
        }

        proxy.set(State::Cut);
        assert_eq!(ask(&mut stream).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(ask(&mut dial(&proxy).await).await.is_err(), "new ones too");
        assert!(proxy.ports().is_empty());
        proxy.set(State::Open);
        assert_eq!(ask(&mut dial(&proxy).await).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_way_turns_to_another_end_and_closes_as_its_ends_do() {
        let proxy = Proxy::start(echo(1).await).await.unwrap();
        let mut stream = dial(&proxy).await;
        assert_eq!(ask(&mut stream).await.unwrap(), 2);
        proxy.turn_to(echo(4).await);
        assert!(ask(&mut stream).await.is_err());
        let mut stream = dial(&proxy).await;
        assert_eq!(ask(&mut stream).await.unwrap(), 5);
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "a plain close is passed on as one");
        drop(proxy);
    }
}
