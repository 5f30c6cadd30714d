//! A broker that does what a test tells it, wrong things included. It serves one partition, orders/0 unless told otherwise.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use chronik_snapshotd::{
    format::PartHasher,
    proto::v1::{
        self, export_snapshot_response::Message, snapshot_broker_service_server as server,
    },
};
use futures::{Stream, StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::wire::{conf_state, wire_digest};

/// What the broker does wrong in an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// The stream ends after the chunks.
    NoTrailer,
    /// The stream fails in the middle.
    BreaksOff,
    /// The header says an index below what was applied.
    IndexBack,
    /// The header says an index that was never applied.
    IndexAhead,
    /// The header names another life of the topic.
    OtherLineage,
    /// The header has no voters.
    NoVoters,
    /// The trailer's CRC is another one.
    OtherCrc,
    /// The trailer's XXH3 is another one.
    OtherXxh3,
    /// The trailer names another position.
    OtherPosition,
    /// Fewer bytes come than announced.
    ShortPart,
    /// More bytes come than announced.
    LongPart,
    /// A part is left out that nobody has.
    Omits,
}

/// What the broker says of itself and how it behaves.
pub struct Script {
    pub cluster_id: String,
    pub incarnation: u64,
    pub boot_id: String,
    pub any_log_compacted: bool,
    /// How long producers wait; none = it does not say.
    pub produce_p99_micros: Option<u32>,
    /// The broker restarts each time it has listed its replicas.
    pub restart_after_list: bool,
    /// Another leader is elected each time it has listed its replicas.
    pub elected_after_list: bool,
    pub topic: String,
    pub topic_id: String,
    pub role: v1::ReplicaRole,
    pub term: u64,
    pub applied_index: u64,
    pub first_log_index: u64,
    /// Lowest index that must stay in the log; 0 = nothing holds it.
    pub hold_index: u64,
    pub state: Bytes,
    /// Content of a sealed part `seg-a` in front of the state; empty = there is none.
    pub sealed: Bytes,
    pub lie: Lie,
    /// Pause before each MiB of an export, to be caught in the act.
    pub slow_ms: u64,
    /// An export goes silent after its header and first MiB.
    pub stall: bool,
    /// No replica is listed.
    pub hidden: bool,
    pub refuse_compaction: Option<v1::ErrorReason>,
    /// Answer compactions without doing anything.
    pub pretend_compaction: bool,
    pub exports: usize,
    /// How often it was asked who it is.
    pub describes: usize,
    /// How often it listed its replicas.
    pub listings: usize,
    /// The `traceparent` of each call, in their order; none = the call had none.
    pub traceparents: Vec<Option<String>>,
    pub compactions: Vec<v1::CompactLogRequest>,
}

#[derive(Clone)]
pub struct ScriptedBroker {
    script: Arc<Mutex<Script>>,
    pub address: SocketAddr,
    _stop: Arc<DropGuard>,
}

/// JSON-like, compresses well, and is not the same twice in 4 MiB.
pub fn sample_state(len_bytes: usize) -> Bytes {
    let mut state = Vec::with_capacity(len_bytes + 64);
    let mut n = 0_u64;
    while state.len() < len_bytes {
        n = n
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.extend_from_slice(format!("{{\"order\":{n},\"state\":\"paid\"}}\n").as_bytes());
    }
    state.truncate(len_bytes);
    Bytes::from(state)
}

impl ScriptedBroker {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener)
    }

    pub fn start_on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let script = Script {
            cluster_id: "test-cluster".to_owned(),
            incarnation: 1,
            boot_id: "boot-1".to_owned(),
            any_log_compacted: false,
            produce_p99_micros: None,
            restart_after_list: false,
            elected_after_list: false,
            topic: "orders".to_owned(),
            topic_id: "topic-a".to_owned(),
            role: v1::ReplicaRole::Leader,
            term: 3,
            applied_index: 0,
            first_log_index: 1,
            hold_index: 0,
            sealed: Bytes::new(),
            state: sample_state(100_000),
            lie: Lie::None,
            slow_ms: 0,
            stall: false,
            hidden: false,
            refuse_compaction: None,
            pretend_compaction: false,
            exports: 0,
            describes: 0,
            listings: 0,
            traceparents: Vec::new(),
            compactions: Vec::new(),
        };
        let broker = Self {
            script: Arc::new(Mutex::new(script)),
            address,
            _stop: Arc::new(stop.clone().drop_guard()),
        };
        let script = broker.script.clone();
        let note_trace = move |request: Request<()>| {
            let traceparent = request.metadata().get("traceparent");
            let traceparent = traceparent.map(|value| value.to_str().unwrap().to_owned());
            script.lock().unwrap().traceparents.push(traceparent);
            Ok(request)
        };
        let script = broker.script.clone();
        let service = Service { script };
        let service = server::SnapshotBrokerServiceServer::with_interceptor(service, note_trace);
        let routes = tonic::transport::Server::builder().add_service(service);
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(routes.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()));
        broker
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Appends and applies `entries`.
    pub fn grow(&self, entries: u64) -> u64 {
        let mut script = self.script();
        script.applied_index += entries;
        script.applied_index
    }
}

struct Service {
    script: Arc<Mutex<Script>>,
}

fn partition(script: &Script) -> v1::TopicPartition {
    v1::TopicPartition {
        topic: script.topic.clone(),
        partition: 0,
    }
}

fn refuse(code: Code, reason: v1::ErrorReason) -> Status {
    let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
    let info = ErrorDetails::with_error_info(
        name,
        "chronik.snapshot.v1",
        std::collections::HashMap::new(),
    );
    Status::with_error_details(code, "scripted refusal", info)
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl server::SnapshotBrokerService for Service {
    type ListReplicasStream = Answers<v1::ListReplicasResponse>;
    type ExportSnapshotStream = Answers<v1::ExportSnapshotResponse>;

    async fn describe_broker(
        &self,
        _: Request<v1::DescribeBrokerRequest>,
    ) -> Result<Response<v1::DescribeBrokerResponse>, Status> {
        let mut script = self.script.lock().unwrap();
        script.describes += 1;
        Ok(Response::new(v1::DescribeBrokerResponse {
            cluster_id: script.cluster_id.clone(),
            incarnation: script.incarnation,
            broker_id: 1,
            boot_id: script.boot_id.clone(),
            version: "scripted".to_owned(),
            protocol_min: 1,
            protocol_max: 1,
            capabilities: Vec::new(),
            accepted_state_codecs: vec!["raw/1".to_owned()],
            any_log_compacted: script.any_log_compacted,
            produce_p99_micros: script.produce_p99_micros,
        }))
    }

    async fn list_replicas(
        &self,
        _: Request<v1::ListReplicasRequest>,
    ) -> Result<Response<Self::ListReplicasStream>, Status> {
        let mut script = self.script.lock().unwrap();
        script.listings += 1;
        let replica = v1::ReplicaStatus {
            partition: Some(partition(&script)),
            topic_id: script.topic_id.clone(),
            peer_id: 1,
            role: script.role.into(),
            term: script.term,
            commit_index: script.applied_index,
            applied_index: script.applied_index,
            first_log_index: script.first_log_index,
            last_log_index: script.applied_index,
            log_size_bytes: 1000,
            state_size_bytes: script.state.len() as u64,
            conf_state: Some(conf_state()),
            hold_index: script.hold_index,
            hold_reason: String::new(),
            rank: 0,
        };
        if script.restart_after_list {
            script.boot_id.push('x');
        }
        script.term += u64::from(script.elected_after_list);
        let listed = (!script.hidden).then_some(Ok(v1::ListReplicasResponse {
            replica: Some(replica),
        }));
        Ok(Response::new(stream::iter(listed).boxed()))
    }

    async fn export_snapshot(
        &self,
        request: Request<v1::ExportSnapshotRequest>,
    ) -> Result<Response<Self::ExportSnapshotStream>, Status> {
        let mut script = self.script.lock().unwrap();
        script.exports += 1;
        let request = request.into_inner();
        if request.newer_than_index >= script.applied_index {
            return Err(refuse(
                Code::FailedPrecondition,
                v1::ErrorReason::NothingNewer,
            ));
        }
        let pause = std::time::Duration::from_millis(script.slow_ms);
        let messages =
            stream::iter(export(&script, &request.have_parts)).then(move |message| async move {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                message
            });
        if script.stall {
            let silent = messages.take(2).chain(stream::pending());
            return Ok(Response::new(silent.boxed()));
        }
        Ok(Response::new(messages.boxed()))
    }

    async fn compact_log(
        &self,
        request: Request<v1::CompactLogRequest>,
    ) -> Result<Response<v1::CompactLogResponse>, Status> {
        let request = request.into_inner();
        let mut script = self.script.lock().unwrap();
        if request.boot_id != script.boot_id {
            return Err(refuse(Code::Aborted, v1::ErrorReason::BootIdMismatch));
        }
        if let Some(reason) = script.refuse_compaction {
            script.compactions.push(request);
            return Err(refuse(Code::FailedPrecondition, reason));
        }
        let first_log_index = request.through_index + 1;
        if !script.pretend_compaction {
            script.first_log_index = first_log_index;
            script.any_log_compacted = true;
        }
        script.compactions.push(request);
        Ok(Response::new(v1::CompactLogResponse {
            first_log_index,
            freed_bytes: 1,
        }))
    }
}

fn header(script: &Script, have_parts: &[String]) -> v1::SnapshotHeader {
    let lie = script.lie;
    let mut claimed = v1::LogId {
        term: script.term,
        index: script.applied_index,
    };
    match lie {
        Lie::IndexBack => claimed.index -= 1,
        Lie::IndexAhead => claimed.index += 1_000_000,
        _ => {}
    }
    let size_bytes = script.state.len() as u64;
    let seg_a = v1::PartDescriptor {
        part_id: "seg-a".to_owned(),
        size_bytes: script.sealed.len() as u64,
        sealed: true,
        omitted: have_parts.iter().any(|part| part == "seg-a"),
    };
    let state = v1::PartDescriptor {
        part_id: "state".to_owned(),
        size_bytes: match lie {
            Lie::ShortPart => size_bytes + 1,
            Lie::LongPart => size_bytes - 1,
            _ => size_bytes,
        },
        sealed: false,
        omitted: lie == Lie::Omits,
    };
    let seg_a = (!script.sealed.is_empty()).then_some(seg_a);
    let topic_id = if lie == Lie::OtherLineage {
        "topic-b".to_owned()
    } else {
        script.topic_id.clone()
    };
    v1::SnapshotHeader {
        lineage: Some(v1::Lineage {
            cluster_id: script.cluster_id.clone(),
            incarnation: script.incarnation,
            topic_id,
        }),
        partition: Some(partition(script)),
        last_included: Some(claimed),
        conf_state: Some(if lie == Lie::NoVoters {
            v1::ConfState::default()
        } else {
            conf_state()
        }),
        state_codec: "raw/1".to_owned(),
        parts: seg_a.into_iter().chain([state]).collect(),
    }
}

fn export(
    script: &Script,
    have_parts: &[String],
) -> Vec<Result<v1::ExportSnapshotResponse, Status>> {
    let wrap = |message| {
        Ok(v1::ExportSnapshotResponse {
            message: Some(message),
        })
    };
    let lie = script.lie;
    let header = header(script, have_parts);
    let mut claimed = header.last_included.unwrap();
    let sends_sealed = header.parts.len() > 1 && !header.parts[0].omitted;
    let state_number = u32::try_from(header.parts.len() - 1).unwrap();
    let announced = header.parts.last().unwrap().size_bytes;
    let mut messages = vec![wrap(Message::Header(header))];
    let mut digests = Vec::new();
    if sends_sealed {
        for chunk in script.sealed.chunks(1024 * 1024) {
            let data = script.sealed.slice_ref(chunk);
            messages.push(wrap(Message::Chunk(v1::SnapshotChunk { part: 0, data })));
        }
        let mut hasher = PartHasher::new();
        hasher.update(&script.sealed);
        digests.push(wire_digest(0, &hasher.finish()));
    }
    for chunk in script.state.chunks(1024 * 1024) {
        let data = script.state.slice_ref(chunk);
        let part = state_number;
        messages.push(wrap(Message::Chunk(v1::SnapshotChunk { part, data })));
    }
    match lie {
        Lie::NoTrailer => return messages,
        Lie::BreaksOff => {
            messages.push(Err(Status::unavailable("scripted break")));
            return messages;
        }
        _ => {}
    }
    let mut hasher = PartHasher::new();
    hasher.update(&script.state);
    let mut digest = hasher.finish();
    match lie {
        Lie::OtherCrc => digest.crc32 ^= 1,
        Lie::OtherXxh3 => digest.xxh3_128 ^= 1,
        Lie::OtherPosition => claimed.index += 1,
        _ => {}
    }
    digests.push(wire_digest(state_number, &digest));
    let sealed_bytes = if sends_sealed {
        script.sealed.len() as u64
    } else {
        0
    };
    messages.push(wrap(Message::Trailer(v1::SnapshotTrailer {
        last_included: Some(claimed),
        total_size_bytes: sealed_bytes + announced,
        digests,
    })));
    messages
}
