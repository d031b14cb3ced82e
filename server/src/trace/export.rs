//! Sending steps to a collector: OTLP, as protobuf over HTTP.
//!
//! Owns: the bounded queue before the collector, and the requests to it. Refuses to know: what is traced.
//!
//! A thread of its own sends what was gathered. A collector that is slow or away costs the steps that do not fit in the queue, and
//! nothing else.

use super::{On, Traces};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Steps that wait for the collector. Full, what comes is dropped.
const QUEUE: usize = 2_048;
/// Steps in one request.
const BATCH: usize = 512;
/// How long steps are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER: u64 = 64 * 1024;

/// Where traces go, and which share of the commands is traced.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// The collector, such as `http://127.0.0.1:4318`. Its path may hold a secret: never log it.
    pub endpoint: String,
    /// From 0 to 1.
    pub ratio: f64,
}

/// Why traces can't be sent.
#[derive(Debug, thiserror::Error)]
#[error("traces can't be sent there")]
pub struct NotTraced(#[from] ExporterBuildError);

impl Export {
    /// Starts the thread that sends.
    ///
    /// # Errors
    /// [`NotTraced`] when the address makes no sense. That nobody answers there is no error.
    pub fn start(&self) -> Result<Traces, NotTraced> {
        let lost = Arc::new(AtomicU64::new(0));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(lost.clone()))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", self.endpoint.trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .build()?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(GATHER)
            .build();
        let resource = Resource::builder_empty().with_service_name("homeroom").with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
        ]);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(config).build())
            .with_resource(resource.build())
            // What another node has begun to trace is traced to its end.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(self.ratio))))
            .build();
        let tracer = provider.tracer("homeroom");
        Ok(Traces(Some(Arc::new(On { tracer, provider, lost }))))
    }
}

/// Sends one request after the other.
#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
    lost: Arc<AtomicU64>,
    /// Said once, not for each request.
    complained: AtomicBool,
}

impl Client {
    fn new(lost: Arc<AtomicU64>) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("homeroom/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().new_agent(), lost, complained: AtomicBool::new(false) }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let (parts, mut answer) = self.agent.run(Request::from_parts(parts, &*body))?.into_parts();
        let body = answer.with_config().limit(ANSWER).read_to_vec()?;
        Ok(Response::from_parts(parts, body.into()))
    }
}

impl HttpClient for Client {
    // What `async fn` means to the crate that made the trait. It blocks: its caller is a thread that does nothing else.
    fn send_bytes<'client, 'sending>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'client: 'sending,
        Self: 'sending,
    {
        let outcome = self.send(request);
        let taken = outcome.as_ref().is_ok_and(|answer| answer.status().is_success());
        if taken {
            self.complained.store(false, Ordering::Relaxed);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            if !self.complained.swap(true, Ordering::Relaxed) {
                let status = outcome.as_ref().ok().map(|answer| answer.status().as_u16());
                tracing::warn!(status, "the collector does not take traces; what it does not take is lost");
            }
        }
        Box::pin(std::future::ready(outcome))
    }
}
