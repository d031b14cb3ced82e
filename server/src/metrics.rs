//! What is counted, in Prometheus' text format.
//!
//! Owns: names and meanings of the metrics, and the page that shows them. Refuses to know: who counts.
//! Nothing here names a person, a room or a word that was said.

use crate::bus::{self, News};
use crate::log::Entry;
use crate::log::entry::kind;
use crate::tls::Tls;
use crate::web::Api;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::{App, HttpResponse, web};
use chrono::Utc;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is measured as it happens; all else is read when somebody asks.
#[derive(Debug, Clone)]
pub struct Measured {
    batch_commands: Histogram,
    batch_seconds: Histogram,
    appended: Family<[(&'static str, &'static str); 1], Counter>,
    bus_lag: Histogram,
}

impl Default for Measured {
    fn default() -> Self {
        let seconds = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
        let appended = Family::default();
        for kind in kind::ALL {
            // So that it is there before the first one, too.
            drop(appended.get_or_create(&[("kind", kind)]));
        }
        Self {
            batch_commands: Histogram::new([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]),
            batch_seconds: Histogram::new(seconds),
            appended,
            bus_lag: Histogram::new(seconds),
        }
    }
}

impl Measured {
    /// Notes a batch: its commands, and how long its transaction took.
    pub fn batch(&self, size: usize, took: Duration) {
        self.batch_commands.observe(size as f64);
        self.batch_seconds.observe(took.as_secs_f64());
    }

    /// Notes what this node has committed.
    pub fn appended(&self, entries: &[Arc<Entry>]) {
        for entry in entries {
            self.appended.get_or_create(&[("kind", entry.kind())]).inc();
        }
    }

    /// Notes how long news were on their way. The clocks of two nodes differ: what seems to come from the future counts as at once.
    pub fn heard(&self, news: &News) {
        if let News::Entries(_, entries) = news
            && let Some(last) = entries.last()
        {
            let lag = Utc::now() - last.event.at.as_datetime();
            self.bus_lag.observe(lag.to_std().unwrap_or_default().as_secs_f64());
        }
    }
}

struct OfNode(Arc<Api>, Arc<bus::Counts>, Option<Arc<Tls>>);

impl fmt::Debug for OfNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfNode")
    }
}

impl Collector for OfNode {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (node, bus) = (&self.0.node, &self.1);
        let of_gauge = |gauge: &std::sync::atomic::AtomicI64| gauge.load(Ordering::Relaxed);
        let waiting = node.bus.waiting();
        let gauges: [(&str, &str, i64); 11] = [
            ("homeroom_connections", "Open WebSockets.", of_gauge(&node.counts.connections)),
            (
                "homeroom_seats_live",
                "Places in rooms, of open sessions, that get each event as it comes.",
                of_gauge(&node.counts.live),
            ),
            (
                "homeroom_seats_behind",
                "Places in rooms, of open sessions, that read what they missed.",
                of_gauge(&node.counts.behind),
            ),
            (
                "homeroom_rooms_held",
                "Rooms whose news this node takes in.",
                i64::try_from(node.tails.held()).unwrap_or(i64::MAX),
            ),
            ("homeroom_bus_subscribed", "Channels of the bus that are confirmed.", of_gauge(&bus.subscribed)),
            ("homeroom_bus_connected", "Servers of the bus that are listened to.", of_gauge(&bus.connected)),
            ("homeroom_bus_publish_waiting", "News that wait to be sent over the bus.", waiting.to_send as i64),
            ("homeroom_bus_hear_waiting", "News of other nodes that wait to be taken in.", waiting.to_hear as i64),
            (
                "homeroom_pages_bytes",
                "Bytes of pages kept in memory, as estimated.",
                i64::try_from(node.tails.pages().bytes()).unwrap_or(i64::MAX),
            ),
            (
                "homeroom_commands_waiting",
                "Commands that wait for a batch.",
                node.log.waiting().into_iter().map(|waiting| waiting as i64).sum(),
            ),
            ("homeroom_draining", "1 while the node says good-bye.", i64::from(node.draining.load(Ordering::Relaxed))),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let bell_lag = ConstGauge::new(node.tails.bell_lag().as_secs_f64());
        let help = "How long ago the bell was asked last that answered";
        let unit = Some(&Unit::Seconds);
        bell_lag.encode(encoder.encode_descriptor("homeroom_bell_lag", help, unit, bell_lag.metric_type())?)?;
        let waiting = |waiting: Vec<usize>| numbered(waiting.into_iter().map(|waiting| waiting as i64));
        let lanes = ("homeroom_lane_waiting", "Commands that wait in a lane.", "lane");
        each(&mut encoder, lanes, waiting(node.log.waiting()), ConstGauge::new)?;
        let workers = ("homeroom_worker_waiting", "News that wait for a worker.", "worker");
        each(&mut encoder, workers, waiting(node.tails.waiting()), ConstGauge::new)?;
        let ended = ("homeroom_sessions_ended", "Sessions that ended.", "reason");
        let by_reason = node.counts.ended.each().map(|(reason, count)| (reason.to_owned(), count));
        each(&mut encoder, ended, by_reason, ConstCounter::new)?;
        if let Some(tls) = &self.2 {
            let (name, help) = ("homeroom_tls_certificate_ends", "When the certificate ends");
            let gauge = ConstGauge::new(of_gauge(&tls.counts.ends));
            gauge.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), gauge.metric_type())?)?;
            let counter = ConstCounter::new(tls.counts.refused.load(Ordering::Relaxed));
            let (name, help) = ("homeroom_tls_refused", "Connections that did not get through the handshake.");
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        if let Some(lost) = node.traces.lost() {
            let (counter, name) = (ConstCounter::new(lost), "homeroom_traces_lost");
            let help = "Requests with steps of traces that the collector did not take.";
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters: [(&str, &str, u64); 16] = [
            ("homeroom_delivered", "Events handed to sockets.", of(&node.counts.delivered)),
            ("homeroom_commands", "Commands of clients.", of(&node.counts.commands)),
            ("homeroom_pages_read", "Pages of the log read for catching up.", node.tails.pages().reads()),
            ("homeroom_pages_hit", "Pages of the log that were in memory.", node.tails.pages().hits()),
            ("homeroom_fell_behind", "Times that a session's socket took no more.", of(&node.counts.fell_behind)),
            ("homeroom_protocol_errors", "Sessions that broke the protocol.", of(&node.counts.protocol_errors)),
            ("homeroom_bus_published", "News handed to the bus.", of(&bus.published)),
            ("homeroom_bus_publish_dropped", "News that the bus did not take.", of(&bus.publish_dropped)),
            ("homeroom_bus_heard", "News of other nodes that were taken in.", of(&bus.heard)),
            (
                "homeroom_bus_hear_dropped",
                "News of other nodes that did not fit or could not be read.",
                of(&bus.hear_dropped),
            ),
            (
                "homeroom_holes_filled",
                "Stretches of a room's log that came from the database instead of the bus.",
                of(&node.tails.counts().filled),
            ),
            (
                "homeroom_rooms_rewritten",
                "Rooms whose log was not the one that was known.",
                of(&node.tails.counts().rewritten),
            ),
            ("homeroom_holes", "Holes in a room's tail that were found.", of(&node.tails.counts().holes)),
            (
                "homeroom_database_given_up",
                "Statements that PostgreSQL did not answer in time; their connections were closed.",
                node.log.db().given_up(),
            ),
            ("homeroom_sign_ins", "Links and codes that were right.", of(&self.0.counts.sign_ins)),
            ("homeroom_sign_ins_refused", "Links and codes that were not.", of(&self.0.counts.sign_ins_refused)),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// One metric with a label: each of its values, and what it counts.
fn each<M: EncodeMetric, V>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, label): (&str, &str, &str),
    values: impl Iterator<Item = (String, V)>,
    metric: impl Fn(V) -> M,
) -> Result<(), fmt::Error> {
    let mut values = values.map(|(value, count)| (value, metric(count))).peekable();
    let Some((_, first)) = values.peek() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for (value, metric) in values {
        metric.encode(family.encode_family(&[(label, value.as_str())])?)?;
    }
    Ok(())
}

fn numbered<V>(values: impl Iterator<Item = V>) -> impl Iterator<Item = (String, V)> {
    values.enumerate().map(|(number, value)| (number.to_string(), value))
}

/// All metrics of a node.
#[must_use]
pub fn registry(api: Arc<Api>, bus: Arc<bus::Counts>, measured: &Measured, tls: Option<Arc<Tls>>) -> Registry {
    let Measured { batch_commands, batch_seconds, appended, bus_lag } = measured.clone();
    let mut registry = Registry::default();
    registry.register("homeroom_batch_commands", "Commands in a batch", batch_commands);
    registry.register("homeroom_batch_seconds", "Seconds that a batch took, its commit included", batch_seconds);
    registry.register("homeroom_appended", "Events that this node has committed", appended);
    registry.register("homeroom_bus_lag_seconds", "Seconds from an event to hearing of it from another node", bus_lag);
    registry.register_collector(Box::new(OfNode(api, bus, tls)));
    registry
}

/// The page that shows them.
pub fn app(
    registry: Arc<Registry>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    App::new().route(
        "/metrics",
        web::get().to(move || {
            let registry = registry.clone();
            async move {
                let mut text = String::new();
                match prometheus_client::encoding::text::encode(&mut text, &registry) {
                    Ok(()) => HttpResponse::Ok()
                        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
                        .body(text),
                    Err(_) => HttpResponse::InternalServerError().finish(),
                }
            }
        }),
    )
}
