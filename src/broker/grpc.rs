//! The broker over gRPC. Connects lazily and reconnects by itself; every call has a deadline.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use tracing::{Instrument as _, Span, info_span};

use super::{
    Broker, BrokerError, BrokerInfo, CompactRequest, Compacted, ExportRequest, ExportStream,
    Refusal, Replica, convert,
};
use crate::{
    channel::{self, Route},
    error::chain,
    proto::v1::{self, snapshot_broker_service_client::SnapshotBrokerServiceClient},
    raft::TopicPartition,
    telemetry::traces::{self, Inject},
};

/// The protocol version of `proto/chronik/snapshot/v1`.
const PROTOCOL_VERSION: u32 = 1;
/// Most replicas one sidecar looks after.
const MAX_REPLICAS: usize = 1_000_000;
/// Largest message: 1 MiB of data, or a header of 4096 parts, with room to spare.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// The receiver announces it: large frames cost a third of the time of small ones.
const MAX_FRAME_BYTES: u32 = 1024 * 1024;

/// Deadlines of the calls.
#[derive(Debug, Clone, Copy)]
pub struct GrpcOptions {
    /// For a connection.
    pub connect: Duration,
    /// For a call that answers at once, and for the first message of a stream.
    pub call: Duration,
    /// For the whole of `ListReplicas`.
    pub list: Duration,
    /// For a compaction: the broker flushes its log.
    pub compact: Duration,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(10),
            list: Duration::from_mins(1),
            compact: Duration::from_mins(1),
        }
    }
}

/// The broker at an endpoint.
#[derive(Debug, Clone)]
pub struct GrpcBroker {
    channel: Channel,
    /// Exports have connections of their own: their unread bytes must not keep other answers waiting.
    exports: Channel,
    options: GrpcOptions,
}

impl GrpcBroker {
    /// A client of `http://host:port`. Does not connect yet.
    pub fn tcp(uri: &str, options: GrpcOptions) -> Result<Self, BrokerError> {
        Self::new(uri, &Route::Tcp, options)
    }

    /// A client of `uri`, connected by `route`. Does not connect yet.
    pub fn new(uri: &str, route: &Route, options: GrpcOptions) -> Result<Self, BrokerError> {
        // For a socket a URI is required and not used.
        let uri = match route {
            Route::Unix { .. } => "http://broker.local",
            _ => uri,
        };
        let endpoint = tune(uri, options)?;
        Ok(Self {
            channel: channel::connect(&endpoint, route),
            exports: channel::connect(&endpoint, route),
            options,
        })
    }

    fn client(&self) -> Client {
        client(&self.channel)
    }
}

/// Calls carry the trace that they belong to.
type Client = SnapshotBrokerServiceClient<InterceptedService<Channel, Inject>>;

fn client(channel: &Channel) -> Client {
    SnapshotBrokerServiceClient::with_interceptor(channel.clone(), Inject)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
}

fn tune(uri: &str, options: GrpcOptions) -> Result<Endpoint, BrokerError> {
    let endpoint =
        channel::endpoint(uri, options.connect).map_err(|source| BrokerError::Connect {
            endpoint: uri.to_owned(),
            source,
        })?;
    Ok(endpoint
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES))
}

/// Runs one call under its deadline.
async fn within<T>(
    call: &'static str,
    deadline: Duration,
    answer: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, BrokerError> {
    let span = span(call);
    let answer = tokio::time::timeout(deadline, answer);
    let result = match answer.instrument(span.clone()).await {
        Ok(answer) => answer.map_err(|status| convert::status_error(call, status)),
        Err(_) => Err(BrokerError::Deadline { call, deadline }),
    };
    if let Err(error) = &result {
        traces::failed(&span, chain(error));
    }
    result
}

/// The span of a call inside of a visit or a conversation. Calls of ticks come too often to be a trace each.
fn span(call: &'static str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    info_span!(
        "call",
        otel.name = call,
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = "chronik.snapshot.v1.SnapshotBrokerService",
        rpc.method = call,
    )
}

#[async_trait]
impl Broker for GrpcBroker {
    async fn describe(&self) -> Result<BrokerInfo, BrokerError> {
        const CALL: &str = "DescribeBroker";
        let mut client = self.client();
        let request = v1::DescribeBrokerRequest {
            protocol_min: PROTOCOL_VERSION,
            protocol_max: PROTOCOL_VERSION,
        };
        let answer = within(CALL, self.options.call, client.describe_broker(request))
            .await?
            .into_inner();
        if answer.protocol_min > PROTOCOL_VERSION || answer.protocol_max < PROTOCOL_VERSION {
            return Err(BrokerError::Refused {
                call: CALL,
                refusal: Refusal::UnsupportedProtocol,
                message: format!(
                    "the broker speaks protocol {} to {}, this sidecar {PROTOCOL_VERSION}",
                    answer.protocol_min, answer.protocol_max
                ),
            });
        }
        convert::broker_info(CALL, answer)
    }

    async fn list_replicas(
        &self,
        only: Option<&TopicPartition>,
    ) -> Result<Vec<Replica>, BrokerError> {
        const CALL: &str = "ListReplicas";
        let mut client = self.client();
        let request = v1::ListReplicasRequest {
            only: only.map(Into::into),
        };
        let listing = async {
            let mut stream = client.list_replicas(request).await?.into_inner();
            let mut statuses = Vec::new();
            while let Some(answer) = stream.message().await? {
                if statuses.len() >= MAX_REPLICAS {
                    return Ok(None);
                }
                statuses.extend(answer.replica);
            }
            Ok(Some(statuses))
        };
        let statuses = within(CALL, self.options.list, listing)
            .await?
            .ok_or(BrokerError::TooManyReplicas { max: MAX_REPLICAS })?;
        let replicas = statuses
            .into_iter()
            .map(|status| convert::replica(CALL, status));
        let mut replicas = replicas.collect::<Result<Vec<_>, _>>()?;
        // A broker that does not know the filter lists everything.
        replicas.retain(|replica| only.is_none_or(|only| *only == replica.partition));
        Ok(replicas)
    }

    async fn export(&self, request: &ExportRequest) -> Result<ExportStream, BrokerError> {
        const CALL: &str = "ExportSnapshot";
        let mut client = client(&self.exports);
        let request = v1::ExportSnapshotRequest {
            partition: Some((&request.partition).into()),
            expected_lineage: Some(convert::wire_lineage(&request.lineage)),
            newer_than_index: request.newer_than_index,
            have_parts: request.have_parts.iter().cloned().collect(),
        };
        let stream = within(CALL, self.options.call, client.export_snapshot(request))
            .await?
            .into_inner();
        Ok(stream
            .map(|answer| match answer {
                Ok(answer) => convert::export_message(CALL, answer),
                Err(status) => Err(convert::status_error(CALL, status)),
            })
            .boxed())
    }

    async fn compact(&self, request: &CompactRequest) -> Result<Compacted, BrokerError> {
        const CALL: &str = "CompactLog";
        let mut client = self.client();
        let request = v1::CompactLogRequest {
            partition: Some((&request.partition).into()),
            lineage: Some(convert::wire_lineage(&request.lineage)),
            boot_id: request.boot_id.clone(),
            snapshot_last_included: Some(v1::LogId {
                term: request.snapshot_last_included.term,
                index: request.snapshot_last_included.index,
            }),
            through_index: request.through_index,
            snapshot_id: request.snapshot_id.clone(),
            manifest_digest: request.manifest_digest.clone(),
        };
        let answer = within(CALL, self.options.compact, client.compact_log(request))
            .await?
            .into_inner();
        Ok(Compacted {
            first_log_index: answer.first_log_index,
            freed_bytes: answer.freed_bytes,
        })
    }
}
