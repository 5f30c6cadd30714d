//! Spans of `tracing` as spans of OpenTelemetry, and W3C trace context in the metadata of calls.

use opentelemetry::{
    KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{Status, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::metadata::{Ascii, MetadataKey, MetadataMap};
use tracing::{Level, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer as _, filter::Targets};

use super::{
    Layer,
    send::{self, Spans},
};

/// This crate's own spans: those of libraries come by the thousand.
const TARGET: &str = "chronik_snapshotd";

/// The layer that turns spans into what is sent, and the end at which they come out.
pub fn channel() -> (Layer, Spans) {
    let resource = Resource::builder()
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let (queue, spans) = send::queue(resource.clone());
    let provider = SdkTracerProvider::builder()
        // All of what begins here; of what a broker began, what the broker has chosen.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_resource(resource)
        .with_span_processor(queue)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(TARGET))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(TARGET, Level::INFO))
        .boxed();
    (layer, spans)
}

/// `span`, which nobody has entered yet, goes on with the trace that the caller's metadata name, if they name one.
pub fn accept(span: &Span, metadata: &MetadataMap) {
    let context = TraceContextPropagator::new().extract(&Carried(metadata));
    if context.span().span_context().is_valid() {
        // It fails only where no spans are sent.
        let _ = span.set_parent(context);
    }
    identify(span);
}

/// Writes the id of the trace into the field `trace_id` of `span`, for whoever goes from a log line to the trace.
pub fn identify(span: &Span) {
    let context = span.context();
    let id = context.span().span_context().trace_id();
    if context.span().span_context().is_valid() {
        span.record("trace_id", field::display(id));
    }
}

/// What `span` stands for has failed.
pub fn failed(span: &Span, reason: String) {
    span.set_status(Status::error(reason));
}

/// Adds the trace context of the current span. Outside of all spans there is none.
pub(super) fn inject(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Carrying(metadata));
}

struct Carried<'a>(&'a MetadataMap);

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let keys = ["traceparent", "tracestate"].into_iter();
        keys.filter(|key| self.0.contains_key(*key)).collect()
    }
}

struct Carrying<'a>(&'a mut MetadataMap);

impl Injector for Carrying<'_> {
    fn set(&mut self, key: &str, value: String) {
        // Both are ASCII in W3C trace context; what is not is left out.
        let key = key.parse::<MetadataKey<Ascii>>();
        if let (Ok(key), Ok(value)) = (key, value.parse()) {
            self.0.insert(key, value);
        }
    }
}
