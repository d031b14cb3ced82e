//! Traces: what became of one message, step by step and across nodes, for a collector of OpenTelemetry.
//!
//! Owns: which messages are traced, their steps, and how a trace travels with an entry. Refuses to know: what the steps do.
//!
//! Off unless configured, and then only for a share of the commands; where nothing is traced, a step costs one look at a pointer. No step
//! names a person or a room, or says a word of what was said: it has the event's id and numbers.
//!
//! Steps are made by hand and not from the call stack: a message goes through queues, in which it is gathered with others.

mod export;

use crate::log::Entry;
pub use export::{Export, NotTraced};
use opentelemetry::trace::{Span, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, Tracer};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long the last steps have to reach the collector when the node stops.
const LAST: Duration = Duration::from_secs(1);

/// One node's traces. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<On>>);

struct On {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    /// Lots of steps that the collector did not take.
    lost: Arc<AtomicU64>,
}

/// A step of a trace, as those that follow it know it. Travels between nodes in the form of W3C Trace Context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Context {
    trace: TraceId,
    step: SpanId,
}

/// A step under way; it ends when it is dropped.
pub struct Step(opentelemetry_sdk::trace::Span);

impl Traces {
    /// Nothing is traced.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Begins a trace, if this is one of those that are traced.
    #[must_use]
    pub fn begin(&self, name: &'static str) -> Option<Step> {
        let on = self.0.as_ref()?;
        let span = on.tracer.start_with_context(name, &opentelemetry::Context::new());
        span.is_recording().then_some(Step(span))
    }

    /// The step after another one, which may have been on another node.
    #[must_use]
    pub fn follow(&self, name: &'static str, before: Option<&Context>) -> Option<Step> {
        let (on, before) = (self.0.as_ref()?, before?);
        let parent = SpanContext::new(before.trace, before.step, TraceFlags::SAMPLED, true, Default::default());
        let parent = opentelemetry::Context::new().with_remote_span_context(parent);
        Some(Step(on.tracer.start_with_context(name, &parent)))
    }

    /// The same for each of these entries that is traced.
    #[must_use]
    pub fn follow_each(&self, name: &'static str, entries: &[Arc<Entry>]) -> Vec<Step> {
        if self.0.is_none() {
            return Vec::new();
        }
        let step = |entry: &Arc<Entry>| {
            let mut step = self.follow(name, entry.trace.as_deref())?;
            step.note("homeroom.event", entry.event.id.to_string());
            Some(step)
        };
        entries.iter().filter_map(step).collect()
    }

    /// The same, and the entries as they go on from this step.
    #[must_use]
    pub fn pass_on(&self, name: &'static str, entries: &[Arc<Entry>]) -> (Arc<[Arc<Entry>]>, Vec<Step>) {
        let steps = self.follow_each(name, entries);
        if steps.is_empty() {
            return (entries.into(), steps);
        }
        let mut contexts = steps.iter().map(Step::context);
        let entries = entries.iter().map(|entry| match &entry.trace {
            Some(_) => contexts.next().map_or_else(|| entry.clone(), |context| Arc::new(entry.traced(context))),
            None => entry.clone(),
        });
        (entries.collect(), steps)
    }

    /// Lots of steps that the collector did not take; `None` where nothing is traced.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.0.as_ref().map(|on| on.lost.load(Ordering::Relaxed))
    }

    /// Sends the last steps, within a second.
    pub async fn finish(&self) {
        let Some(on) = self.0.clone() else { return };
        // The SDK blocks. What is not sent by then is lost.
        let _lost = tokio::task::spawn_blocking(move || on.provider.shutdown_with_timeout(LAST)).await;
    }
}

impl Step {
    /// What follows it needs to know this.
    #[must_use]
    pub fn context(&self) -> Context {
        let context = self.0.span_context();
        Context { trace: context.trace_id(), step: context.span_id() }
    }

    /// Notes a number, an id, or the name of an outcome. Never a word that somebody said, nor who.
    pub fn note(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(KeyValue::new(name, value));
    }
}

impl From<Context> for String {
    fn from(Context { trace, step }: Context) -> Self {
        format!("00-{trace}-{step}-01")
    }
}

/// What came is the context of no trace.
#[derive(Debug, thiserror::Error)]
#[error("this is no trace context")]
pub struct NoContext;

impl TryFrom<String> for Context {
    type Error = NoContext;

    fn try_from(text: String) -> Result<Self, NoContext> {
        let mut parts = text.split('-');
        let (Some("00"), Some(trace), Some(step), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoContext);
        };
        if trace.len() != 32 || step.len() != 16 {
            return Err(NoContext);
        }
        let trace = TraceId::from_hex(trace).map_err(|_| NoContext)?;
        let step = SpanId::from_hex(step).map_err(|_| NoContext)?;
        let known = trace != TraceId::INVALID && step != SpanId::INVALID;
        if known { Ok(Self { trace, step }) } else { Err(NoContext) }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Traces(on)" } else { "Traces(off)" })
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Step").field(&self.context()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_travels_as_text_and_nothing_else_is_taken_for_one() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = Context::try_from(text.to_owned()).unwrap();
        assert_eq!(String::from(context), text);
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473z-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(Context::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn where_nothing_is_traced_nothing_is_made() {
        let traces = Traces::off();
        assert!(traces.begin("post").is_none() && traces.lost().is_none());
        let context = Context { trace: TraceId::from_bytes([1; 16]), step: SpanId::from_bytes([1; 8]) };
        assert!(traces.follow("commit", Some(&context)).is_none());
    }
}
