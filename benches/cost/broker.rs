//! A broker that serves generated state of as many partitions as one wants, and does nothing else.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
};

use chronik_snapshotd::proto::v1::{
    self, export_snapshot_response::Message, snapshot_broker_service_server as server,
};
use futures::{Stream, StreamExt as _, stream};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use crate::{
    state::Content,
    wire::{conf_state, wire_digest},
};

pub const CLUSTER: &str = "bench";
pub const BOOT_ID: &str = "boot-1";
pub const CODEC: &str = "bench/1";
const TERM: u64 = 1;

/// One replica, a leader.
#[derive(Debug, Clone)]
pub struct Replica {
    pub applied_index: u64,
    pub first_log_index: u64,
    pub log_size_bytes: u64,
    /// Not empty = exports of it fail, with this message.
    pub refusal: String,
    pub parts: Vec<Part>,
}

/// A part of its state.
#[derive(Debug, Clone)]
pub struct Part {
    pub id: String,
    pub sealed: bool,
    pub content: Content,
}

type Replicas = BTreeMap<(String, i32), Replica>;

/// Serves until it is dropped.
pub struct SyntheticBroker {
    replicas: Arc<Mutex<Replicas>>,
    listings: Arc<AtomicU32>,
    /// The Unix socket that it serves on.
    pub socket: PathBuf,
    _dir: TempDir,
    _stop: DropGuard,
}

/// The life of a topic, which is the same for all.
pub fn lineage() -> v1::Lineage {
    v1::Lineage {
        cluster_id: CLUSTER.to_owned(),
        incarnation: 1,
        topic_id: "life-1".to_owned(),
    }
}

pub fn partition(topic: &str, number: i32) -> v1::TopicPartition {
    v1::TopicPartition {
        topic: topic.to_owned(),
        partition: number,
    }
}

impl Replica {
    /// A replica with one part that is not sealed.
    pub fn of(content: Content) -> Self {
        let part = Part {
            id: "state".to_owned(),
            sealed: false,
            content,
        };
        Self {
            applied_index: 1,
            first_log_index: 1,
            log_size_bytes: 1000,
            refusal: String::new(),
            parts: vec![part],
        }
    }
}

impl SyntheticBroker {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("broker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        let replicas = Arc::new(Mutex::new(Replicas::new()));
        let listings = Arc::new(AtomicU32::new(0));
        let service = server::SnapshotBrokerServiceServer::new(Service {
            replicas: Arc::clone(&replicas),
            listings: Arc::clone(&listings),
        });
        let incoming = UnixListenerStream::new(listener);
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        tokio::spawn(serve);
        Self {
            replicas,
            listings,
            socket,
            _dir: dir,
            _stop: stop.drop_guard(),
        }
    }

    pub fn put(&self, topic: &str, number: i32, replica: Replica) {
        lock(&self.replicas).insert((topic.to_owned(), number), replica);
    }

    /// How often all replicas were listed.
    pub fn listings(&self) -> u32 {
        self.listings.load(Ordering::Relaxed)
    }

    /// Appends and applies one entry to a replica, and changes what else is to be changed.
    pub fn grow(&self, topic: &str, number: i32, change: impl FnOnce(&mut Replica)) {
        let mut replicas = lock(&self.replicas);
        let replica = replicas.get_mut(&(topic.to_owned(), number)).unwrap();
        replica.applied_index += 1;
        change(replica);
    }
}

fn lock(replicas: &Mutex<Replicas>) -> MutexGuard<'_, Replicas> {
    replicas.lock().unwrap()
}

struct Service {
    replicas: Arc<Mutex<Replicas>>,
    listings: Arc<AtomicU32>,
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
        Ok(Response::new(v1::DescribeBrokerResponse {
            cluster_id: CLUSTER.to_owned(),
            incarnation: 1,
            broker_id: 1,
            boot_id: BOOT_ID.to_owned(),
            version: "synthetic".to_owned(),
            protocol_min: 1,
            protocol_max: 1,
            capabilities: Vec::new(),
            accepted_state_codecs: vec![CODEC.to_owned()],
            any_log_compacted: false,
            produce_p99_micros: None,
        }))
    }

    async fn list_replicas(
        &self,
        request: Request<v1::ListReplicasRequest>,
    ) -> Result<Response<Self::ListReplicasStream>, Status> {
        let only = request.into_inner().only;
        if only.is_none() {
            self.listings.fetch_add(1, Ordering::Relaxed);
        }
        let replicas = lock(&self.replicas);
        let wanted = replicas.iter().filter(|((topic, number), _)| {
            let this =
                |only: &v1::TopicPartition| only.topic == *topic && only.partition == *number;
            only.as_ref().is_none_or(this)
        });
        let listed: Vec<_> = wanted
            .map(|((topic, number), replica)| Ok(status(partition(topic, *number), replica)))
            .collect();
        Ok(Response::new(stream::iter(listed).boxed()))
    }

    async fn export_snapshot(
        &self,
        request: Request<v1::ExportSnapshotRequest>,
    ) -> Result<Response<Self::ExportSnapshotStream>, Status> {
        let request = request.into_inner();
        let partition = request.partition.unwrap_or_default();
        let key = (partition.topic.clone(), partition.partition);
        let replica = lock(&self.replicas).get(&key).cloned();
        let replica = replica.ok_or_else(|| Status::not_found("no such replica"))?;
        if !replica.refusal.is_empty() {
            return Err(Status::internal(replica.refusal));
        }
        Ok(Response::new(export(
            partition,
            &replica,
            &request.have_parts,
        )))
    }

    async fn compact_log(
        &self,
        request: Request<v1::CompactLogRequest>,
    ) -> Result<Response<v1::CompactLogResponse>, Status> {
        let request = request.into_inner();
        let partition = request.partition.unwrap_or_default();
        let mut replicas = lock(&self.replicas);
        let replica = replicas
            .get_mut(&(partition.topic, partition.partition))
            .ok_or_else(|| Status::not_found("no such replica"))?;
        replica.first_log_index = request.through_index + 1;
        Ok(Response::new(v1::CompactLogResponse {
            first_log_index: replica.first_log_index,
            freed_bytes: 1,
        }))
    }
}

fn status(partition: v1::TopicPartition, replica: &Replica) -> v1::ListReplicasResponse {
    let sizes = replica.parts.iter().map(|part| part.content.len_bytes());
    v1::ListReplicasResponse {
        replica: Some(v1::ReplicaStatus {
            partition: Some(partition),
            topic_id: lineage().topic_id,
            peer_id: 1,
            role: v1::ReplicaRole::Leader.into(),
            term: TERM,
            commit_index: replica.applied_index,
            applied_index: replica.applied_index,
            first_log_index: replica.first_log_index,
            last_log_index: replica.applied_index,
            log_size_bytes: replica.log_size_bytes,
            state_size_bytes: sizes.sum(),
            conf_state: Some(conf_state()),
            hold_index: 0,
            hold_reason: String::new(),
            rank: 0,
        }),
    }
}

fn export(
    partition: v1::TopicPartition,
    replica: &Replica,
    have_parts: &[String],
) -> Answers<v1::ExportSnapshotResponse> {
    let last_included = v1::LogId {
        term: TERM,
        index: replica.applied_index,
    };
    let descriptors = replica.parts.iter().map(|part| v1::PartDescriptor {
        part_id: part.id.clone(),
        size_bytes: part.content.len_bytes(),
        sealed: part.sealed,
        omitted: part.sealed && have_parts.contains(&part.id),
    });
    let header = v1::SnapshotHeader {
        lineage: Some(lineage()),
        partition: Some(partition),
        last_included: Some(last_included),
        conf_state: Some(conf_state()),
        state_codec: CODEC.to_owned(),
        parts: descriptors.collect(),
    };
    let sent: Vec<(u32, Content)> = (0..)
        .zip(&replica.parts)
        .zip(&header.parts)
        .filter(|(_, descriptor)| !descriptor.omitted)
        .map(|((number, part), _)| (number, part.content.clone()))
        .collect();
    let trailer = v1::SnapshotTrailer {
        last_included: Some(last_included),
        total_size_bytes: sent.iter().map(|(_, content)| content.len_bytes()).sum(),
        digests: sent
            .iter()
            .map(|(part, content)| wire_digest(*part, content.digest()))
            .collect(),
    };
    let chunks = sent.into_iter().flat_map(|(part, content)| {
        let chunk = move |data| Message::Chunk(v1::SnapshotChunk { part, data });
        content.chunks().map(chunk)
    });
    let messages = std::iter::once(Message::Header(header))
        .chain(chunks)
        .chain([Message::Trailer(trailer)]);
    let wrap = |message| {
        Ok(v1::ExportSnapshotResponse {
            message: Some(message),
        })
    };
    stream::iter(messages.map(wrap)).boxed()
}
