//! A collector that keeps what it is sent.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{self as wire, status::StatusCode},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use crate::support::daemon::PATIENCE;

pub type Attributes = BTreeMap<String, String>;

/// A span as it arrived; ids in hexadecimal.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub kind: wire::span::SpanKind,
    pub trace_id: String,
    pub id: String,
    /// Empty = it begins its trace.
    pub parent: String,
    pub attributes: Attributes,
    /// Names of its events: what was logged in it.
    pub events: Vec<String>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    pub resource: Attributes,
    pub begun_ns: u64,
    pub ended_ns: u64,
}

pub struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    pub address: SocketAddr,
    _stop: DropGuard,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let service = TraceServiceServer::new(Service(spans.clone()));
        let routes = tonic::transport::Server::builder().add_service(service);
        let incoming = TcpListenerStream::new(listener);
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(routes.serve_with_incoming_shutdown(incoming, stopped));
        Self {
            spans,
            address,
            _stop: stop.drop_guard(),
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// The first span that is wanted, once it has arrived.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if let Some(span) = spans.iter().find(|span| wanted(span)) {
                return span.clone();
            }
            assert!(Instant::now() < deadline, "{what} is not in {spans:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All spans of a trace, by name. A batch may bring a span before its children.
    pub fn trace(&self, trace_id: &str) -> BTreeMap<String, Vec<Span>> {
        let mut by_name = BTreeMap::<_, Vec<_>>::new();
        let spans = self.spans();
        for span in spans.iter().filter(|span| span.trace_id == trace_id) {
            let name = span.name.clone();
            by_name.entry(name).or_default().push(span.clone());
        }
        by_name
    }
}

struct Service(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap();
        for of_resource in request.into_inner().resource_spans {
            let resource = attributes_of(of_resource.resource);
            let arrived = of_resource.scope_spans.into_iter();
            let arrived = arrived.flat_map(|of_scope| of_scope.spans);
            spans.extend(arrived.map(|span| read(span, &resource)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attributes_of(resource: Option<Resource>) -> Attributes {
    attributes(resource.unwrap_or_default().attributes)
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = pairs.into_iter();
    pairs.map(|pair| (pair.key, text(pair.value))).collect()
}

fn read(span: wire::Span, resource: &Attributes) -> Span {
    let status = span.status.clone().unwrap_or_default();
    let failed = status.code() == StatusCode::Error;
    Span {
        kind: span.kind(),
        trace_id: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(|event| event.name).collect(),
        failure: failed.then_some(status.message),
        resource: resource.clone(),
        begun_ns: span.start_time_unix_nano,
        ended_ns: span.end_time_unix_nano,
        name: span.name,
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
