//! A node, put together from its parts and started.
//!
//! Owns: the order in which parts start and stop, and the background tasks of a node.
//! Refuses to know: what the parts do.

mod waiting;

use crate::bus::local::Exchange;
use crate::bus::redis::Redis;
use crate::bus::{self, Bus, News};
use crate::config::Config;
use crate::db::{Db, Engine, OpenError};
use crate::live::listening::Listening;
use crate::live::socket::Upgrades;
use crate::live::tail::Tails;
use crate::live::{Counts, Node};
use crate::log::bell::{self, Bell};
use crate::log::{Listeners, Log, Moved};
use crate::metrics::{self, Measured};
use crate::tls::{self, Tls, TlsError};
use crate::trace::{Export, NotTraced, Traces};
use crate::web::{self, Api};
use actix_http::HttpService;
use actix_server::{Server, ServerHandle};
use actix_service::{ServiceFactoryExt, fn_factory, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::web::Data;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
pub use waiting::Waiting;

/// Connections that wait to be accepted: a herd that comes back after a restart.
const BACKLOG: i32 = 4_096;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The certificate, or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Traces can't be sent.
    #[error(transparent)]
    Traces(#[from] NotTraced),
    /// An address can't be listened on.
    #[error(
        "can't listen on {address}: {source}; is another homeroom running there? Choose another address with --listen"
    )]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A node that runs.
pub struct Running {
    /// Where it serves.
    pub address: SocketAddr,
    /// Whether it speaks TLS there.
    pub is_encrypted: bool,
    /// Where it serves metrics, if it does.
    pub metrics_address: Option<SocketAddr>,
    /// Its live part.
    pub node: Arc<Node>,
    /// What its end of the bus counts.
    pub bus: Arc<bus::Counts>,
    server: ServerHandle,
    drain: Duration,
    tasks: JoinSet<()>,
}

/// Starts a node.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: &Config) -> Result<Running, StartError> {
    start_on(config, &Exchange::default()).await
}

/// Starts a node that meets others of this process at `exchange`.
///
/// # Errors
/// [`StartError`].
pub async fn start_on(config: &Config, exchange: &Exchange) -> Result<Running, StartError> {
    let tls = config.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new);
    let traces = config.traces.as_ref().map_or_else(|| Ok(Traces::off()), Export::start)?;
    let db = Db::open(&config.database).await?;
    let needs_bell = matches!(db.writes(), Engine::Postgres(_));
    let bus_counts = Arc::new(bus::Counts::default());
    let (bus, heard): (Arc<dyn Bus>, _) = if config.redis_urls.is_empty() {
        let (bus, heard) = exchange.join(bus_counts.clone());
        (Arc::new(bus), heard)
    } else {
        let (bus, heard) = Redis::start(&config.redis_urls, bus_counts.clone());
        (Arc::new(bus), heard)
    };
    // Before anybody is served: a change that came between somebody's sign-in and the bell's beginning would be told to nobody.
    let bell = Bell::begin(db.clone()).await.map_err(OpenError::from)?;
    let tails = Tails::new(db.clone(), bus.clone(), needs_bell, traces.clone());
    let measured = Measured::default();
    let log = Log::start(&db, listeners(&tails, &bus, &measured, &traces));
    let node = Arc::new(Node {
        log,
        tails: tails.clone(),
        bus,
        public_origin: config.public_url.clone(),
        traces: traces.clone(),
        draining: AtomicBool::new(false),
        allowances: Default::default(),
        counts: Counts::default(),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(hear(heard, node.log.clone(), tails.clone(), measured.clone(), traces));
    if needs_bell {
        tasks.spawn(Listening::new(bell, tails.clone()).run());
        tasks.spawn(sweep_bell(db.clone()));
    }
    tasks.spawn(sweep(node.clone()));
    tasks.spawn(forget(db.clone()));
    if let Some(tls) = &tls {
        tasks.spawn(tls.clone().follow());
    }

    let has_https = config.public_url.as_deref().is_some_and(|url| url.starts_with("https://"));
    let api = Data::new(Api {
        node: node.clone(),
        bus: bus_counts.clone(),
        is_encrypted: tls.is_some() || has_https,
        sign_in_limits: Default::default(),
        trusted_proxies: config.trusted_proxies.clone(),
        counts: Default::default(),
    });
    let listener = listen(config.listen)?;
    let address = listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
    let mut server = Server::build().workers(config.workers).disable_signals().shutdown_timeout(5);
    let metrics_address = match config.metrics_listen {
        None => None,
        Some(wanted) => {
            let listener = listen(wanted)?;
            let address = listener.local_addr().map_err(|source| StartError::Listen { address: wanted, source })?;
            let registry =
                Arc::new(metrics::registry(api.clone().into_inner(), bus_counts.clone(), &measured, tls.clone()));
            server = server
                .listen("metrics", listener, move || {
                    let app = metrics::app(registry.clone());
                    HttpService::build().finish(map_config(app, |_| AppConfig::default())).tcp()
                })
                .map_err(|source| StartError::Listen { address: wanted, source })?;
            Some(address)
        }
    };
    let for_workers = node.clone();
    let is_encrypted = tls.is_some();
    let server = server
        .listen("homeroom", listener, move || {
            let node = for_workers.clone();
            let http = HttpService::build()
                .client_request_timeout(Duration::from_secs(10))
                .client_disconnect_timeout(Duration::from_secs(2))
                .upgrade(fn_factory(move || {
                    let node = node.clone();
                    async move {
                        let upgrades = Upgrades::start(node);
                        Ok::<_, ()>(fn_service(move |(request, framed)| {
                            let upgrades = upgrades.clone();
                            async move {
                                upgrades.upgrade(request, framed).await;
                                Ok::<(), std::convert::Infallible>(())
                            }
                        }))
                    }
                }))
                .finish(map_config(web::app(api.clone()), |_| AppConfig::default()));
            tls::accepting(tls.clone()).and_then(http)
        })
        .map_err(|source| StartError::Listen { address: config.listen, source })?
        .run();
    let handle = server.handle();
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the server stopped");
        }
    });
    let drain = config.drain;
    Ok(Running { address, is_encrypted, metrics_address, node, bus: bus_counts, server: handle, drain, tasks })
}

impl Running {
    /// Where it serves, as an origin.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_encrypted { "https" } else { "http" }, self.address)
    }

    /// Leaves, within the drain window: no new sessions, what was accepted is finished, clients are told when to come back, then all
    /// is closed. Whoever has not left by then is left.
    pub async fn stop(mut self) {
        let deadline = tokio::time::Instant::now() + self.drain;
        // The rest is for requests over HTTP that are under way.
        self.node.drain(self.drain, self.drain * 3 / 4).await;
        let node = self.node.clone();
        let orderly = async {
            self.server.stop(true).await;
            self.tasks.shutdown().await;
            node.log.db().close().await;
            node.traces.finish().await;
        };
        if tokio::time::timeout_at(deadline, orderly).await.is_err() {
            tracing::warn!("the drain window is over: what is not finished is left");
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| StartError::Listen { address, source })
}

/// What this node's lanes commit goes to its own tails first, then to the others.
fn listeners(tails: &Tails, bus: &Arc<dyn Bus>, measured: &Measured, traces: &Traces) -> Listeners {
    let committed = {
        let (tails, bus, measured, traces) = (tails.clone(), bus.clone(), measured.clone(), traces.clone());
        move |entries: &[Arc<crate::log::Entry>]| {
            tails.accept(entries);
            measured.appended(entries);
            for of_room in entries.chunk_by(|a, b| a.event.room == b.event.room) {
                if let Some(first) = of_room.first() {
                    let (entries, _steps) = traces.pass_on("publish", of_room);
                    bus.publish(News::Entries(first.event.room, entries));
                }
            }
        }
    };
    let moved = {
        let (tails, bus) = (tails.clone(), bus.clone());
        move |moved: &[Moved]| {
            let moved: Arc<[Moved]> = moved.into();
            tails.moved(&moved);
            bus.publish(News::Moved(moved));
        }
    };
    let measured = measured.clone();
    Listeners {
        committed: Arc::new(committed),
        moved: Arc::new(moved),
        batch: Arc::new(move |size, took| measured.batch(size, took)),
        traces: traces.clone(),
    }
}

/// Takes in what other nodes tell.
async fn hear(mut heard: mpsc::Receiver<News>, log: Log, tails: Tails, measured: Measured, traces: Traces) {
    while let Some(news) = heard.recv().await {
        measured.heard(&news);
        match news {
            News::Entries(room, entries) => {
                log.heard(room);
                let (entries, _steps) = traces.pass_on("hear", &entries);
                tails.hear(News::Entries(room, entries));
            }
            other => tails.hear(other),
        }
    }
}

/// Apart from listening, which must not wait for it.
async fn sweep_bell(db: Db) {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        if let Err(error) = bell::sweep(&db).await {
            tracing::warn!(%error, "old rows of the bell can't be swept away");
        }
    }
}

async fn sweep(node: Arc<Node>) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        node.tails.sweep();
        node.allowances.forget();
    }
}

/// Forgets sign-ins and invitations that are worth nothing any more.
async fn forget(db: Db) {
    loop {
        if let Err(error) = crate::identity::sweep(&db).await {
            tracing::warn!(%error, "old sign-ins can't be deleted; tried again in an hour");
        }
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
}
