//! The bus through Redis: pub/sub, on one server or on a cluster with sharded pub/sub.
//!
//! Owns: which endpoint carries which room, following a cluster as its slots move, and the queue between the bus and this node.
//! Refuses to know: what news mean, and the connections themselves (see `link`).
//!
//! Redis buys milliseconds; it never carries truth. Whatever it loses, repeats or reorders, the tails and the bell repair.
//!
//! A room's channel is `homeroom:{ROOM}`: the braces put it into one slot of a cluster, so a message stays in one shard. A
//! cluster's masters have one connection each for subscribing and one for publishing; so has a single server.

mod link;
mod topology;

use super::{Bus, Counts, HEARD, News, Waiting, wire};
use crate::outage::Outage;
use homeroom_protocol::RoomId;
use link::Link;
pub use link::without_secrets;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use topology::Topology;
use uuid::Uuid;

/// How often a cluster is asked where its slots are, unasked.
const LOOK: Duration = Duration::from_secs(10);
/// The shortest time between two looks: while a slot moves, every command says so.
const CALM: Duration = Duration::from_millis(100);

/// The shortest and the longest wait before servers that don't answer are asked again; jitter takes a part of it.
const BACKOFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// The slots of a cluster.
const SLOTS: u16 = 16_384;

/// One channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Channel {
    /// What concerns no room.
    Everybody,
    /// A room's news.
    Room(RoomId),
}

impl Channel {
    fn name(self) -> String {
        match self {
            Self::Everybody => "homeroom:{everybody}".to_owned(),
            Self::Room(room) => format!("homeroom:{{{}}}", room.0.simple()),
        }
    }

    /// The slot of a cluster that it is in: by what stands between the braces (Redis Cluster Specification, "Hash tags").
    fn slot(self) -> u16 {
        let name = self.name();
        let tag = name.split(['{', '}']).nth(1).unwrap_or(&name);
        crc16::State::<crc16::XMODEM>::calculate(tag.as_bytes()) % SLOTS
    }
}

/// A node's end of the bus.
pub struct Redis {
    shared: Arc<Shared>,
    following: AbortHandle,
}

struct Shared {
    node: Uuid,
    urls: Vec<String>,
    counts: Arc<Counts>,
    heard: mpsc::Sender<News>,
    table: Mutex<Table>,
    /// A slot was not where it was thought to be, or an endpoint is gone.
    moved: Notify,
}

/// Who carries what.
#[derive(Default)]
struct Table {
    channels: HashSet<Channel>,
    topology: Topology,
    /// By address, as the topology names it.
    links: HashMap<String, Link>,
}

impl Redis {
    /// Starts; gives this node's end, and what it hears of the others. Nothing has to answer yet.
    #[must_use]
    pub fn start(urls: &[String], counts: Arc<Counts>) -> (Self, mpsc::Receiver<News>) {
        let (news, heard) = mpsc::channel(HEARD);
        let shared = Arc::new(Shared {
            node: Uuid::now_v7(),
            urls: urls.to_vec(),
            counts,
            heard: news,
            table: Mutex::new(Table { channels: HashSet::from([Channel::Everybody]), ..Table::default() }),
            moved: Notify::new(),
        });
        let following = tokio::spawn(shared.clone().follow()).abort_handle();
        (Self { shared, following }, heard)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.following.abort();
        self.shared.table().links.clear();
    }
}

impl Bus for Redis {
    fn publish(&self, news: News) {
        match news {
            // Marks of several rooms go their ways.
            News::Moved(moved) => {
                for of_room in moved.chunk_by(|a, b| a.room == b.room) {
                    if let Some(first) = of_room.first() {
                        self.shared.publish(Channel::Room(first.room), &News::Moved(of_room.into()));
                    }
                }
            }
            News::Entries(room, _) | News::Typing(super::Typing { room, .. }) => {
                self.shared.publish(Channel::Room(room), &news);
            }
            News::SignedOut(_) => self.shared.publish(Channel::Everybody, &news),
        }
    }

    fn hold(&self, room: RoomId) {
        self.shared.want(Channel::Room(room), true);
    }

    fn release(&self, room: RoomId) {
        self.shared.want(Channel::Room(room), false);
    }

    fn waiting(&self) -> Waiting {
        let to_send = self.shared.table().links.values().map(Link::waiting).sum();
        Waiting { to_send, to_hear: self.shared.heard.max_capacity() - self.shared.heard.capacity() }
    }
}

impl Shared {
    fn publish(&self, channel: Channel, news: &News) {
        let Some(bytes) = wire::encode(self.node, news) else { return };
        let table = self.table();
        let taken = table.link(channel).is_some_and(|link| link.publish(channel, bytes));
        let count = if taken { &self.counts.published } else { &self.counts.publish_dropped };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn want(&self, channel: Channel, wanted: bool) {
        let mut table = self.table();
        let changed = if wanted { table.channels.insert(channel) } else { table.channels.remove(&channel) };
        if changed && let Some(link) = table.link(channel) {
            link.want(channel, wanted);
        }
    }

    /// Takes in what came over a subscription. Called by the connection's reader: it must not wait.
    fn hear(&self, bytes: &[u8]) {
        let taken = match wire::decode(self.node, bytes) {
            wire::Heard::Own => return,
            wire::Heard::News(news) => self.heard.try_send(news).is_ok(),
            wire::Heard::Unreadable => false,
        };
        let count = if taken { &self.counts.heard } else { &self.counts.hear_dropped };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Follows where the slots are: at the start, when something was not where it was thought to be, and now and then.
    async fn follow(self: Arc<Self>) {
        let mut backoff = BACKOFF[0];
        let mut outage = Outage::default();
        loop {
            let wait = match topology::look(&self.urls, &self.known_addresses()).await {
                Ok(topology) => {
                    self.arrange(topology);
                    if outage.is_over() {
                        tracing::info!(servers = %self.places(), "Redis answers again");
                    }
                    backoff = BACKOFF[0];
                    LOOK
                }
                Err(error) => {
                    // The links try again by themselves; what is missed the bell brings.
                    if outage.goes_on() {
                        tracing::warn!(servers = %self.places(), error = %without_secrets(&error), "Redis does not answer");
                    }
                    let wait = backoff.mul_f64(0.5 + fastrand::f64() / 2.0);
                    backoff = (backoff * 2).min(BACKOFF[1]);
                    wait
                }
            };
            tokio::time::sleep(CALM).await;
            // A time-out loses nothing: the notification stays for the next round.
            let _looked = tokio::time::timeout(wait, self.moved.notified()).await;
        }
    }

    /// The servers of the configuration, without their passwords.
    fn places(&self) -> String {
        let places = self.urls.iter().filter_map(|url| topology::info(url).ok()).map(|info| info.addr().to_string());
        places.collect::<Vec<String>>().join(", ")
    }

    fn known_addresses(&self) -> Vec<String> {
        self.table().links.keys().cloned().collect()
    }

    /// Makes the links that the topology asks for, ends the others, and gives each its channels.
    fn arrange(self: &Arc<Self>, topology: Topology) {
        let mut table = self.table();
        if table.topology == topology {
            return;
        }
        let endpoints = topology.endpoints();
        table.links.retain(|address, _| endpoints.contains_key(address));
        for (address, info) in endpoints {
            let start = || Link::start(address.clone(), info, topology.is_cluster(), self);
            table.links.entry(address.clone()).or_insert_with(start);
        }
        table.topology = topology;
        let mut wanted: HashMap<String, HashSet<Channel>> =
            table.links.keys().map(|address| (address.clone(), HashSet::new())).collect();
        for channel in &table.channels {
            if let Some(of_link) = table.topology.address(*channel).and_then(|address| wanted.get_mut(address)) {
                of_link.insert(*channel);
            }
        }
        for (address, channels) in wanted {
            if let Some(link) = table.links.get(&address) {
                link.want_just(channels);
            }
        }
        tracing::info!(endpoints = table.links.len(), cluster = table.topology.is_cluster(), "the bus is arranged");
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code under this lock panics half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn link(&self, channel: Channel) -> Option<&Link> {
        self.links.get(self.topology.address(channel)?)
    }
}
