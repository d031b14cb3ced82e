//! One Redis server: a connection that listens, and one that publishes.
//!
//! Owns: subscriptions that follow what is wanted, each confirmed, all of them again after a reconnect; publishing in
//! pipelines; coming back with backoff and jitter. Refuses to know: other servers, and what is published.
//!
//! Redis closes a subscriber whose output buffer passes 32 MB, so what is read is handed over at once and never waited for.

use super::{Channel, Shared};
use crate::outage::Outage;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, Pipeline, PushInfo, PushKind, RedisError, Value};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

/// News that wait to be published. Full, what comes is dropped: a stuck Redis costs latency elsewhere and nothing here.
const OUTBOX: usize = 8_192;
/// Messages in one pipeline, and subscriptions in one.
const BATCH: usize = 256;
/// How long a server may take to answer before it is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a refused subscription waits before it is said again: meanwhile its slot may be found.
const AGAIN: Duration = Duration::from_millis(100);
/// How often a silent subscriber asks whether its server is still there.
const PING: Duration = Duration::from_secs(5);
/// The shortest and the longest wait before connecting again; jitter takes a part of it.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The way to one server. Dropping it ends its connections.
pub(super) struct Link {
    wants: Arc<Wants>,
    outbox: mpsc::Sender<(Channel, Vec<u8>)>,
    tasks: [AbortHandle; 2],
}

/// What the listening connection is to be subscribed to.
#[derive(Default)]
struct Wants {
    state: Mutex<Wanted>,
    wake: Notify,
}

#[derive(Default)]
struct Wanted {
    channels: HashSet<Channel>,
    /// Those that may differ from what is confirmed.
    changed: HashSet<Channel>,
}

impl Wants {
    fn state(&self) -> MutexGuard<'_, Wanted> {
        locked(&self.state)
    }

    /// What changed since the last call, and whether it is wanted now.
    fn take_changed(&self) -> Vec<(Channel, bool)> {
        let mut state = self.state();
        let Wanted { channels, changed } = &mut *state;
        changed.drain().map(|channel| (channel, channels.contains(&channel))).collect()
    }

    /// It may differ from what is confirmed.
    fn change(&self, channel: Channel) {
        self.state().changed.insert(channel);
    }

    /// A new connection knows nothing: all of it has to be said again.
    fn change_all(&self) {
        let mut state = self.state();
        let all: Vec<Channel> = state.channels.iter().copied().collect();
        state.changed.clear();
        state.changed.extend(all);
    }
}

/// What both connections of a link are made with.
struct Server {
    address: String,
    info: ConnectionInfo,
    /// Sharded pub/sub has commands of its own.
    cluster: bool,
    bus: Weak<Shared>,
}

impl Link {
    pub(super) fn start(address: String, info: ConnectionInfo, cluster: bool, bus: &Arc<Shared>) -> Self {
        let (outbox, news) = mpsc::channel(OUTBOX);
        let wants = Arc::new(Wants::default());
        let server = Arc::new(Server { address, info, cluster, bus: Arc::downgrade(bus) });
        let tasks = [
            tokio::spawn(listen(server.clone(), wants.clone())).abort_handle(),
            tokio::spawn(publish(server, news)).abort_handle(),
        ];
        Self { wants, outbox, tasks }
    }

    /// Whether the news will be tried to be sent.
    pub(super) fn publish(&self, channel: Channel, bytes: Vec<u8>) -> bool {
        self.outbox.try_send((channel, bytes)).is_ok()
    }

    /// How many news wait to be published.
    pub(super) fn waiting(&self) -> usize {
        self.outbox.max_capacity() - self.outbox.capacity()
    }

    pub(super) fn want(&self, channel: Channel, wanted: bool) {
        {
            let mut state = self.wants.state();
            if wanted {
                state.channels.insert(channel)
            } else {
                state.channels.remove(&channel)
            };
            state.changed.insert(channel);
        }
        self.wants.wake.notify_one();
    }

    /// Wants these and no others. Says them all again: a slot that went and came back has lost its subscriptions.
    pub(super) fn want_just(&self, channels: HashSet<Channel>) {
        {
            let mut state = self.wants.state();
            let before = std::mem::replace(&mut state.channels, channels);
            let now: Vec<Channel> = state.channels.iter().copied().collect();
            state.changed.extend(before.into_iter().chain(now));
        }
        self.wants.wake.notify_one();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Counts something while it lasts, also where a task is aborted.
struct Counted {
    bus: Weak<Shared>,
    subscribed: i64,
}

impl Counted {
    fn new(bus: &Weak<Shared>) -> Self {
        if let Some(bus) = bus.upgrade() {
            bus.counts.connected.fetch_add(1, Ordering::Relaxed);
            bus.counts.reached.store(true, Ordering::Release);
        }
        Self { bus: bus.clone(), subscribed: 0 }
    }

    fn subscribe(&mut self, more: i64) {
        self.subscribed += more;
        if let Some(bus) = self.bus.upgrade() {
            bus.counts.subscribed.fetch_add(more, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.counts.connected.fetch_sub(1, Ordering::Relaxed);
            bus.counts.subscribed.fetch_sub(self.subscribed, Ordering::Relaxed);
        }
    }
}

async fn listen(server: Arc<Server>, wants: Arc<Wants>) {
    let mut backoff = BACKOFF[0];
    let mut outage = Outage::default();
    loop {
        let began = tokio::time::Instant::now();
        if let Err(error) = listen_once(&server, &wants, &mut outage).await
            && outage.goes_on()
        {
            tracing::warn!(server = %server.address, error = %without_secrets(&error), "the bus is not heard");
        }
        server.doubt();
        backoff = pause(began, backoff).await;
    }
}

/// What the connection's reader tells the loop. Bounded by the subscriptions that there are.
#[derive(Default)]
struct Unasked {
    /// Subscriptions that ended; those that this node did not end went away with their slots.
    ended: Mutex<HashSet<Vec<u8>>>,
    lost: Mutex<bool>,
    wake: Notify,
}

/// Connects and follows what is wanted until the connection fails.
async fn listen_once(server: &Server, wants: &Wants, outage: &mut Outage) -> Result<(), RedisError> {
    let unasked = Arc::new(Unasked::default());
    let config = config().set_push_sender({
        let (bus, unasked) = (server.bus.clone(), unasked.clone());
        move |push: PushInfo| {
            unasked.take_in(&bus, push);
            Ok::<(), ()>(())
        }
    });
    let mut connection = connect(server, &config).await?;
    let mut counted = Counted::new(&server.bus);
    let mut confirmed: HashSet<Channel> = HashSet::new();
    wants.change_all();
    loop {
        let mut changed = wants.take_changed();
        changed.retain(|(channel, wanted)| *wanted || confirmed.contains(channel));
        let mut refused = false;
        for some in changed.chunks(BATCH) {
            let answers = subscribe(server, &mut connection, some).await?;
            for ((channel, wanted), answer) in some.iter().zip(answers) {
                match answer {
                    // The slot has moved, or the cluster is down: said again, here or where the slot is by then.
                    Value::ServerError(error) if server.cluster => {
                        tracing::debug!(server = %server.address, code = error.code(), "a subscription is refused");
                        wants.change(*channel);
                        refused = true;
                    }
                    Value::ServerError(error) => return Err(error.into()),
                    _ if *wanted => counted.subscribe(i64::from(confirmed.insert(*channel))),
                    _ => counted.subscribe(-i64::from(confirmed.remove(channel))),
                }
            }
        }
        if outage.is_over() {
            tracing::info!(server = %server.address, "the bus is heard again");
        }
        if refused {
            server.doubt();
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        // Dropping any of these loses nothing: what changed or ended is kept until it is taken.
        let asks = tokio::select! {
            () = wants.wake.notified() => false,
            () = unasked.wake.notified() => unasked.is_lost(),
            () = tokio::time::sleep(PING) => true,
        };
        let ended = unasked.take_ended();
        let gone: Vec<Channel> =
            confirmed.iter().copied().filter(|channel| ended.contains(channel.name().as_bytes())).collect();
        for channel in gone {
            confirmed.remove(&channel);
            counted.subscribe(-1);
            wants.change(channel);
            server.doubt();
        }
        if asks {
            redis::cmd("PING").query_async::<Value>(&mut connection).await?;
        }
    }
}

/// Subscribes and unsubscribes in one pipeline; each is answered by its confirmation.
async fn subscribe(
    server: &Server,
    connection: &mut MultiplexedConnection,
    changed: &[(Channel, bool)],
) -> Result<Vec<Value>, RedisError> {
    let mut pipeline = Pipeline::with_capacity(changed.len());
    for (channel, wanted) in changed {
        let command = match (server.cluster, wanted) {
            (false, true) => "SUBSCRIBE",
            (false, false) => "UNSUBSCRIBE",
            (true, true) => "SSUBSCRIBE",
            (true, false) => "SUNSUBSCRIBE",
        };
        pipeline.cmd(command).arg(channel.name());
    }
    connection.send_packed_commands(&pipeline, 0, changed.len()).await
}

impl Unasked {
    /// What the server says. Called by the connection's reader, so it must not wait.
    fn take_in(&self, bus: &Weak<Shared>, push: PushInfo) {
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                if let (Some(bus), Some(Value::BulkString(bytes))) = (bus.upgrade(), push.data.get(1)) {
                    bus.hear(bytes);
                }
                return;
            }
            PushKind::Disconnection => *locked(&self.lost) = true,
            PushKind::SUnsubscribe | PushKind::Unsubscribe => {
                if let Some(Value::BulkString(channel)) = push.data.first() {
                    locked(&self.ended).insert(channel.clone());
                }
            }
            _ => return,
        }
        self.wake.notify_one();
    }

    fn is_lost(&self) -> bool {
        *locked(&self.lost)
    }

    fn take_ended(&self) -> HashSet<Vec<u8>> {
        std::mem::take(&mut *locked(&self.ended))
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks panics half-way through a change.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn publish(server: Arc<Server>, mut outbox: mpsc::Receiver<(Channel, Vec<u8>)>) {
    let mut backoff = BACKOFF[0];
    let mut outage = Outage::default();
    loop {
        let began = tokio::time::Instant::now();
        match publish_until_failure(&server, &mut outbox, &mut outage).await {
            Ok(()) => return,
            Err(error) if outage.goes_on() => {
                tracing::warn!(server = %server.address, error = %without_secrets(&error), "the bus takes nothing");
            }
            Err(_) => {}
        }
        server.doubt();
        backoff = pause(began, backoff).await;
    }
}

async fn publish_until_failure(
    server: &Server,
    outbox: &mut mpsc::Receiver<(Channel, Vec<u8>)>,
    outage: &mut Outage,
) -> Result<(), RedisError> {
    let mut connection = connect(server, &config()).await?;
    if outage.is_over() {
        tracing::info!(server = %server.address, "the bus takes news again");
    }
    let command = if server.cluster { "SPUBLISH" } else { "PUBLISH" };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if outbox.recv_many(&mut batch, BATCH).await == 0 {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for (channel, bytes) in batch.drain(..) {
            pipeline.cmd(command).arg(channel.name()).arg(bytes);
        }
        let sent = pipeline.len();
        let answers = match connection.send_packed_commands(&pipeline, 0, sent).await {
            Ok(answers) => answers,
            Err(error) => {
                server.count_dropped(sent);
                return Err(error);
            }
        };
        let refused = answers.iter().filter(|answer| matches!(answer, Value::ServerError(_))).count();
        if refused > 0 {
            // Not sent again: the bell is faster than a slot.
            server.count_dropped(refused);
            server.doubt();
        }
    }
}

impl Server {
    /// Something was not as it was thought to be: the topology is looked at again.
    fn doubt(&self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.moved.notify_one();
        }
    }

    fn count_dropped(&self, how_many: usize) {
        if let Some(bus) = self.bus.upgrade() {
            bus.counts.publish_dropped.fetch_add(how_many as u64, Ordering::Relaxed);
        }
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE))
}

async fn connect(server: &Server, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, RedisError> {
    Client::open(server.info.clone())?.get_multiplexed_async_connection_with_config(config).await
}

/// Waits before the next try: from the shortest time, doubled each time, with half of it left to chance.
async fn pause(began: tokio::time::Instant, backoff: Duration) -> Duration {
    // Who held for a while begins anew.
    let backoff = if began.elapsed() > 10 * BACKOFF[1] { BACKOFF[0] } else { backoff };
    tokio::time::sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    (backoff * 2).min(BACKOFF[1])
}

/// The error's kind and code. Its words may repeat what was sent.
#[must_use]
pub fn without_secrets(error: &RedisError) -> String {
    format!("{}{}", error.category(), error.code().map(|code| format!(" ({code})")).unwrap_or_default())
}
