//! What a sidecar does, in a few lines: exports, compacts, and a bootstrap service with canned snapshots.

use std::sync::{Arc, Mutex};

use refbroker::proto::v1::{
    BootstrapBegin, BootstrapOutcome, BootstrapRequest, BootstrapResponse, BootstrapResult,
    BootstrapSnapshot, CompactLogRequest, CompactLogResponse, DescribeBrokerRequest,
    ExportSnapshotRequest, Lineage, ListReplicasRequest, ReplicaStatus, SnapshotChunk,
    SnapshotHeader, SnapshotTrailer, TopicPartition, bootstrap_request, bootstrap_response,
    export_snapshot_response,
    snapshot_bootstrap_service_server::{SnapshotBootstrapService, SnapshotBootstrapServiceServer},
    snapshot_broker_service_client::SnapshotBrokerServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use super::Cluster;

/// A whole snapshot in memory.
#[derive(Clone)]
pub struct Snapshot {
    pub header: SnapshotHeader,
    pub chunks: Vec<SnapshotChunk>,
    pub trailer: SnapshotTrailer,
}

pub type Client = SnapshotBrokerServiceClient<Channel>;

impl Cluster {
    /// Client of a broker's snapshot service.
    pub async fn sidecar(&self, id: i32) -> Client {
        let channel = tonic::transport::Endpoint::from_shared(self.snapshot_uri(id))
            .unwrap()
            .connect()
            .await
            .unwrap();
        Client::new(channel).max_decoding_message_size(4 << 20)
    }

    /// Lineage of a topic.
    pub fn lineage(&self, topic: &str) -> Lineage {
        let (_, any) = self.running.iter().next().unwrap();
        let meta = any.node().shared().meta();
        let (topic_id, _) = meta.group(topic, 0).unwrap();
        Lineage {
            cluster_id: meta.cluster_id.clone(),
            incarnation: meta.incarnation,
            topic_id,
        }
    }

    /// A well-formed request to compact.
    pub fn compact_request(
        &self,
        id: i32,
        topic: &str,
        snapshot: &Snapshot,
        through_index: u64,
    ) -> CompactLogRequest {
        CompactLogRequest {
            partition: Some(partition(topic)),
            lineage: Some(self.lineage(topic)),
            boot_id: self.running[&id].boot_id().to_owned(),
            snapshot_last_included: snapshot.header.last_included,
            through_index,
            snapshot_id: "test".to_owned(),
            manifest_digest: "0".repeat(32),
        }
    }

    /// Compacts as far as a snapshot goes.
    pub async fn compact(
        &self,
        id: i32,
        topic: &str,
        snapshot: &Snapshot,
    ) -> Result<CompactLogResponse, Status> {
        let through = snapshot.header.last_included.unwrap().index;
        let request = self.compact_request(id, topic, snapshot, through);
        let answer = self.sidecar(id).await.compact_log(request).await?;
        Ok(answer.into_inner())
    }

    /// Exports a replica.
    pub async fn export(&self, id: i32, topic: &str) -> Snapshot {
        self.try_export(id, topic).await.unwrap()
    }

    /// Exports a replica; one that has applied nothing has nothing to export.
    pub async fn try_export(&self, id: i32, topic: &str) -> Result<Snapshot, Status> {
        let request = ExportSnapshotRequest {
            partition: Some(partition(topic)),
            expected_lineage: Some(self.lineage(topic)),
            newer_than_index: 0,
            have_parts: Vec::new(),
        };
        self.export_with(id, request).await
    }

    /// Exports with any request.
    pub async fn export_with(
        &self,
        id: i32,
        request: ExportSnapshotRequest,
    ) -> Result<Snapshot, Status> {
        let mut client = self.sidecar(id).await;
        let mut stream = client.export_snapshot(request).await?.into_inner();
        let (mut header, mut trailer, mut chunks) = (None, None, Vec::new());
        while let Some(message) = stream.message().await? {
            match message.message.unwrap() {
                export_snapshot_response::Message::Header(found) => header = Some(found),
                export_snapshot_response::Message::Chunk(chunk) => chunks.push(chunk),
                export_snapshot_response::Message::Trailer(found) => trailer = Some(found),
            }
        }
        Ok(Snapshot {
            header: header.unwrap(),
            chunks,
            trailer: trailer.expect("a stream without a trailer is not a snapshot"),
        })
    }

    /// Waits until every running broker has applied everything that was acknowledged before the call.
    pub async fn until_equal(&self, topic: &str) {
        // A status is published a moment after the answers that it counts; an export is answered later than both.
        let leader = self.elected(topic).await;
        let acked = self.export(leader, topic).await.trailer.last_included;
        let acked = acked.unwrap().index;
        self.until("all replicas applied the same", |cluster| {
            let applied = |id: &i32| Some(cluster.status(*id, topic)?.applied_index);
            let mut all = cluster.running.keys().map(applied);
            let first = all.next().flatten();
            first >= Some(acked) && all.all(|other| other == first)
        })
        .await;
    }

    /// What the broker says of its replicas.
    pub async fn replica(&self, id: i32, topic: &str) -> ReplicaStatus {
        let mut client = self.sidecar(id).await;
        let stream = client.list_replicas(ListReplicasRequest::default()).await;
        let mut stream = stream.unwrap().into_inner();
        while let Some(message) = stream.message().await.unwrap() {
            let replica = message.replica.unwrap();
            if replica.partition == Some(partition(topic)) {
                return replica;
            }
        }
        panic!("{topic} is not hosted");
    }

    /// Whether the broker says that some log was compacted.
    pub async fn any_log_compacted(&self, id: i32) -> bool {
        let request = DescribeBrokerRequest {
            protocol_min: 1,
            protocol_max: 1,
        };
        let answer = self.sidecar(id).await.describe_broker(request).await;
        answer.unwrap().into_inner().any_log_compacted
    }
}

pub fn partition(topic: &str) -> TopicPartition {
    TopicPartition {
        topic: topic.to_owned(),
        partition: 0,
    }
}

/// What a canned bootstrap service saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Begin(Box<BootstrapBegin>),
    Installed(String),
    Rejected(String, i32),
}

/// Offers snapshots by topic, newest first.
#[derive(Clone, Default)]
pub struct FakeSidecar {
    pub offers: Arc<Mutex<Vec<(String, Snapshot)>>>,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl FakeSidecar {
    /// Serves on a free port; returns its endpoint.
    pub async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = SnapshotBootstrapServiceServer::new(self.clone());
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        format!("http://{address}")
    }

    async fn talk(
        self,
        mut requests: Streaming<BootstrapRequest>,
        to: mpsc::Sender<Result<BootstrapResponse, Status>>,
    ) {
        let say = async |message| {
            let message = Some(message);
            to.send(Ok(BootstrapResponse { message })).await.unwrap();
        };
        let hear = async |requests: &mut Streaming<BootstrapRequest>| {
            requests.message().await.unwrap().unwrap().message.unwrap()
        };
        let bootstrap_request::Message::Begin(begin) = hear(&mut requests).await else {
            panic!("begin expected");
        };
        let topic = begin.partition.clone().unwrap().topic;
        self.seen.lock().unwrap().push(Seen::Begin(Box::new(begin)));
        let offers: Vec<Snapshot> = {
            let offers = self.offers.lock().unwrap();
            let matching = offers.iter().filter(|(name, _)| *name == topic);
            matching.map(|(_, snapshot)| snapshot.clone()).collect()
        };
        let mut outcome = BootstrapOutcome {
            result: BootstrapResult::NoSnapshot.into(),
            ..BootstrapOutcome::default()
        };
        for (number, offer) in offers.into_iter().enumerate() {
            let snapshot_id = format!("{topic}-{number}");
            let last_included = offer.header.last_included;
            say(bootstrap_response::Message::Snapshot(BootstrapSnapshot {
                snapshot_id: snapshot_id.clone(),
                header: Some(offer.header),
                created_at_unix_ms: 0,
            }))
            .await;
            for chunk in offer.chunks {
                say(bootstrap_response::Message::Chunk(chunk)).await;
            }
            say(bootstrap_response::Message::Trailer(offer.trailer)).await;
            match hear(&mut requests).await {
                bootstrap_request::Message::Installed(installed) => {
                    assert_eq!(installed.last_included, last_included);
                    self.seen
                        .lock()
                        .unwrap()
                        .push(Seen::Installed(snapshot_id.clone()));
                    outcome.result = BootstrapResult::Installed.into();
                    outcome.snapshot_id = snapshot_id;
                    outcome.last_included = last_included;
                    break;
                }
                bootstrap_request::Message::Rejected(rejected) => {
                    let seen = Seen::Rejected(snapshot_id, rejected.reason);
                    self.seen.lock().unwrap().push(seen);
                }
                bootstrap_request::Message::Begin(_) => panic!("begin twice"),
            }
        }
        say(bootstrap_response::Message::Outcome(outcome)).await;
    }
}

#[tonic::async_trait]
impl SnapshotBootstrapService for FakeSidecar {
    type BootstrapStream = ReceiverStream<Result<BootstrapResponse, Status>>;

    async fn bootstrap(
        &self,
        request: Request<Streaming<BootstrapRequest>>,
    ) -> Result<Response<Self::BootstrapStream>, Status> {
        let (to, from) = mpsc::channel(4);
        tokio::spawn(self.clone().talk(request.into_inner(), to));
        Ok(Response::new(ReceiverStream::new(from)))
    }
}
