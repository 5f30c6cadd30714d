//! `SnapshotBrokerService`.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status};
use tracing::{debug, error, info, warn};

use super::refuse::{self, invalid, refuse};
use crate::{
    driver::{
        input::{CompactRefusal, CompactRequest, DriverHandle, Input},
        shared::{GroupShared, Shared},
    },
    proto::v1::{
        CompactLogRequest, CompactLogResponse, DescribeBrokerRequest, DescribeBrokerResponse,
        ErrorReason, ExportSnapshotRequest, ExportSnapshotResponse, Lineage, ListReplicasRequest,
        ListReplicasResponse, ReplicaStatus, TopicPartition, export_snapshot_response,
        snapshot_broker_service_server::SnapshotBrokerService,
    },
    raftlog::{LogPos, conf_to_proto},
    state::{
        META_CODEC, SEGMENTS_CODEC,
        pin::{PinError, PinItem},
    },
};

/// Version of the protocol that this broker speaks.
const PROTOCOL: u32 = 1;
/// Exports at one time.
const MAX_EXPORTS: usize = 8;
/// Messages of one export that wait for the network.
const EXPORT_QUEUE: usize = 4;
/// Names in `have_parts`.
const MAX_HAVE_PARTS: usize = 4096;
/// Deadline of a question to the driver.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a compaction waits for a checkpoint that it needs.
const PERSIST_WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks at the checkpoint.
const PERSIST_POLL: Duration = Duration::from_millis(100);

/// Who this broker is, for the sidecar.
#[derive(Debug, Clone)]
pub struct Who {
    /// Cluster.
    pub cluster_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// Broker id.
    pub broker_id: i32,
    /// This start.
    pub boot_id: String,
    /// True = this very start founds the cluster: it has no log yet that could have been compacted.
    pub founds_now: bool,
}

/// Makes the cluster remember that logs are compacted; an error says why it does not yet.
pub type NoteCompaction = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The service.
pub struct SnapshotServer {
    /// Who this broker is.
    pub who: Who,
    /// The groups.
    pub shared: Arc<Shared>,
    /// Set once the driver runs.
    pub driver: Arc<OnceLock<DriverHandle>>,
    /// Owns the exports.
    pub tracker: TaskTracker,
    /// Ends the exports.
    pub stop: CancellationToken,
    /// Asked before a compaction.
    pub note_compaction: NoteCompaction,
    exports: Arc<Semaphore>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl SnapshotServer {
    /// Around the broker.
    pub fn new(
        who: Who,
        shared: Arc<Shared>,
        driver: Arc<OnceLock<DriverHandle>>,
        tracker: TaskTracker,
        stop: CancellationToken,
        note_compaction: NoteCompaction,
    ) -> Self {
        Self {
            who,
            shared,
            driver,
            tracker,
            stop,
            note_compaction,
            exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
        }
    }

    fn driver(&self) -> Result<&DriverHandle, Status> {
        let starting = || refuse(ErrorReason::NotHosted, "no replica runs here yet");
        if self.stop.is_cancelled() {
            return Err(refuse(ErrorReason::ShuttingDown, "the broker is stopping"));
        }
        self.driver.get().ok_or_else(starting)
    }

    /// The replica, if it runs here and the caller believes in the right lineage.
    fn find(
        &self,
        partition: Option<&TopicPartition>,
        lineage: Option<&Lineage>,
    ) -> Result<Arc<GroupShared>, Status> {
        let partition = partition.ok_or_else(|| invalid("partition"))?;
        let lineage = lineage.ok_or_else(|| invalid("lineage"))?;
        let mismatch = |what: &str| {
            let message = format!("another {what} than this broker's");
            refuse(ErrorReason::LineageMismatch, message)
        };
        if lineage.cluster_id != self.who.cluster_id {
            return Err(mismatch("cluster"));
        }
        if lineage.incarnation != self.who.incarnation {
            return Err(mismatch("incarnation"));
        }
        let named = |group: &Arc<GroupShared>| {
            group.topic == partition.topic && group.partition == partition.partition
        };
        let group = self.shared.groups().into_iter().rev().find(named);
        let group =
            group.ok_or_else(|| refuse(ErrorReason::NotHosted, "no such replica runs here"))?;
        if lineage.topic_id != group.topic_id {
            return Err(mismatch("life of the topic"));
        }
        Ok(group)
    }

    fn replica_status(group: &GroupShared) -> ReplicaStatus {
        let status = group.status();
        let records = group.view.as_ref().map_or(0, |view| view.size_bytes());
        let mut voters = status.conf_state.voters.clone();
        voters.sort_unstable();
        let rank = voters.iter().position(|peer| *peer == status.peer_id);
        ReplicaStatus {
            partition: Some(TopicPartition {
                topic: group.topic.clone(),
                partition: group.partition,
            }),
            topic_id: group.topic_id.clone(),
            peer_id: status.peer_id,
            role: status.role.into(),
            term: status.term,
            commit_index: status.commit_index,
            applied_index: status.applied_index,
            first_log_index: status.first_log_index,
            last_log_index: status.last_log_index,
            log_size_bytes: status.log_bytes,
            state_size_bytes: records,
            conf_state: Some(conf_to_proto(&status.conf_state)),
            hold_index: status.hold_index,
            hold_reason: status.hold_reason,
            rank: u32::try_from(rank.unwrap_or(voters.len())).unwrap_or(u32::MAX),
        }
    }

    async fn compact(
        &self,
        request: CompactRequest,
    ) -> Result<Result<crate::driver::input::Compacted, CompactRefusal>, Status> {
        let asked = self.driver()?.ask(|reply| Input::Compact(request, reply));
        match tokio::time::timeout(DRIVER_TIMEOUT, asked).await {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(refuse(ErrorReason::ShuttingDown, "the broker is stopping")),
            Err(_) => Err(Status::deadline_exceeded("the broker is busy")),
        }
    }
}

#[tonic::async_trait]
impl SnapshotBrokerService for SnapshotServer {
    type ListReplicasStream = Responses<ListReplicasResponse>;
    type ExportSnapshotStream = Responses<ExportSnapshotResponse>;

    async fn describe_broker(
        &self,
        request: Request<DescribeBrokerRequest>,
    ) -> Result<Response<DescribeBrokerResponse>, Status> {
        let request = request.into_inner();
        if request.protocol_min > PROTOCOL || request.protocol_max < PROTOCOL {
            let message = format!("this broker speaks version {PROTOCOL}");
            return Err(refuse(ErrorReason::UnsupportedProtocol, message));
        }
        let groups = self.shared.groups();
        let compacted_here = groups
            .iter()
            .any(|group| group.status().first_log_index > 1);
        let meta = self.shared.meta();
        // Whoever does not know must not say no: an empty store would be claimed on that word.
        let unknown = !meta.is_formed() && !self.who.founds_now;
        Ok(Response::new(DescribeBrokerResponse {
            cluster_id: self.who.cluster_id.clone(),
            incarnation: self.who.incarnation,
            broker_id: self.who.broker_id,
            boot_id: self.who.boot_id.clone(),
            version: format!("refbroker {}", env!("CARGO_PKG_VERSION")),
            protocol_min: PROTOCOL,
            protocol_max: PROTOCOL,
            capabilities: vec!["have-parts".to_owned()],
            accepted_state_codecs: vec![SEGMENTS_CODEC.to_owned(), META_CODEC.to_owned()],
            any_log_compacted: compacted_here || unknown || meta.any_log_compacted,
            produce_p99_micros: self
                .shared
                .latency
                .p99()
                .map(|p99| u32::try_from(p99.as_micros()).unwrap_or(u32::MAX)),
        }))
    }

    async fn list_replicas(
        &self,
        request: Request<ListReplicasRequest>,
    ) -> Result<Response<Self::ListReplicasStream>, Status> {
        let only = request.into_inner().only;
        let groups = self.shared.groups();
        let replicas: Vec<_> = groups
            .iter()
            .filter(|group| !group.status().out_of_order)
            // One that has just been made known has no status yet.
            .filter(|group| group.status().peer_id != 0)
            .filter(|group| {
                let wanted = |only: &TopicPartition| {
                    only.topic == group.topic && only.partition == group.partition
                };
                only.as_ref().is_none_or(wanted)
            })
            .map(|group| {
                Ok(ListReplicasResponse {
                    replica: Some(Self::replica_status(group)),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(stream::iter(replicas))))
    }

    async fn export_snapshot(
        &self,
        request: Request<ExportSnapshotRequest>,
    ) -> Result<Response<Self::ExportSnapshotStream>, Status> {
        let request = request.into_inner();
        let group = self.find(
            request.partition.as_ref(),
            request.expected_lineage.as_ref(),
        )?;
        if request.have_parts.len() > MAX_HAVE_PARTS {
            return Err(invalid("have_parts"));
        }
        let permit = self.exports.clone().try_acquire_owned().map_err(|_| {
            refuse(
                ErrorReason::TooManyStreams,
                format!("{MAX_EXPORTS} exports run"),
            )
        })?;
        let group_id = group.group_id;
        let asked = self.driver()?.ask(|reply| Input::Export {
            group_id,
            newer_than_index: request.newer_than_index,
            reply,
        });
        let pin = match tokio::time::timeout(DRIVER_TIMEOUT, asked).await {
            Ok(Some(Ok(pin))) => pin,
            Ok(Some(Err(refusal))) => return Err(refuse::export(&refusal)),
            Ok(None) => return Err(refuse(ErrorReason::ShuttingDown, "the broker is stopping")),
            Err(_) => return Err(Status::deadline_exceeded("the broker is busy")),
        };
        let (to, from) = mpsc::channel(EXPORT_QUEUE);
        let failure: Arc<OnceLock<Status>> = Arc::default();
        let (stop, failed) = (self.stop.clone(), failure.clone());
        self.tracker.spawn(async move {
            let _permit = permit;
            let sending = pin.send(&request.have_parts, &to, |item| Ok(response(item)));
            let outcome = tokio::select! {
                () = stop.cancelled() => {
                    let _ = failed.set(refuse(ErrorReason::ShuttingDown, "the broker is stopping"));
                    return;
                }
                outcome = sending => outcome,
            };
            match outcome {
                Ok(bytes) => debug!(group_id, bytes, "exported"),
                Err(error) => {
                    warn!(%error, group_id, "export ended early");
                    let _ = failed.set(early_end(&error));
                }
            }
        });
        // The status is read when the queue is empty and closed, so it arrives even if the queue was full.
        let last = stream::once(async move { failure.get().cloned().map(Err) });
        let responses = ReceiverStream::new(from).chain(last.filter_map(futures::future::ready));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn compact_log(
        &self,
        request: Request<CompactLogRequest>,
    ) -> Result<Response<CompactLogResponse>, Status> {
        let request = request.into_inner();
        let group = self.find(request.partition.as_ref(), request.lineage.as_ref())?;
        if request.boot_id != self.who.boot_id {
            return Err(refuse(ErrorReason::BootIdMismatch, "the broker restarted"));
        }
        let snapshot = LogPos::from_proto(request.snapshot_last_included.as_ref());
        if snapshot.index == 0 || snapshot.term == 0 {
            return Err(invalid("snapshot_last_included"));
        }
        if request.through_index > snapshot.index {
            return Err(invalid("through_index"));
        }
        let compact = CompactRequest {
            group_id: group.group_id,
            snapshot,
            through_index: request.through_index,
        };
        // First, because an empty store may be claimed only while no log was ever compacted: nobody may find out later
        // that one was.
        let noted = (self.note_compaction)().await;
        noted.map_err(|cause| {
            let message = format!("the cluster cannot note that logs are compacted yet: {cause}");
            Status::unavailable(message)
        })?;
        let deadline = tokio::time::Instant::now() + PERSIST_WAIT;
        let outcome = loop {
            let outcome = self.compact(compact).await?;
            let may_wait = tokio::time::Instant::now() < deadline;
            if !may_wait || !matches!(outcome, Err(CompactRefusal::NotPersisted(_))) {
                break outcome;
            }
            self.driver()?.send(Input::Checkpoint(group.group_id)).await;
            tokio::time::sleep(PERSIST_POLL).await;
        };
        let (snapshot_id, digest) = (&request.snapshot_id, &request.manifest_digest);
        match outcome {
            Ok(done) => {
                info!(
                    topic = %group.topic, partition = group.partition, through = request.through_index,
                    snapshot_index = snapshot.index, %snapshot_id, manifest_digest = %digest,
                    first_log_index = done.first_log_index, freed_bytes = done.freed_bytes, "log compacted"
                );
                Ok(Response::new(CompactLogResponse {
                    first_log_index: done.first_log_index,
                    freed_bytes: done.freed_bytes,
                }))
            }
            Err(refusal) => {
                if matches!(refusal, CompactRefusal::TermMismatch(_)) {
                    error!(
                        topic = %group.topic, partition = group.partition, ?refusal, %snapshot_id,
                        snapshot_index = snapshot.index, snapshot_term = snapshot.term,
                        "DIVERGENCE: a proven snapshot is not on this replica's log"
                    );
                }
                Err(refuse::compaction(&refusal))
            }
        }
    }
}

fn response(item: PinItem) -> ExportSnapshotResponse {
    let message = match item {
        PinItem::Header(header) => export_snapshot_response::Message::Header(*header),
        PinItem::Chunk(chunk) => export_snapshot_response::Message::Chunk(chunk),
        PinItem::Trailer(trailer) => export_snapshot_response::Message::Trailer(trailer),
    };
    ExportSnapshotResponse {
        message: Some(message),
    }
}

fn early_end(error: &PinError) -> Status {
    match error {
        PinError::Expired | PinError::Io(_) => refuse(ErrorReason::PinExpired, error.to_string()),
        PinError::Damaged { .. } => Status::data_loss(error.to_string()),
        PinError::Closed | PinError::Reader(_) => Status::internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn claims_possible(founds_now: bool) -> bool {
        let who = Who {
            cluster_id: "c".to_owned(),
            incarnation: 1,
            broker_id: 1,
            boot_id: "b".to_owned(),
            founds_now,
        };
        let server = SnapshotServer::new(
            who,
            Arc::default(),
            Arc::default(),
            TaskTracker::new(),
            CancellationToken::new(),
            Arc::new(|| Box::pin(async { Ok(()) })),
        );
        let request = DescribeBrokerRequest {
            protocol_min: PROTOCOL,
            protocol_max: PROTOCOL,
        };
        let answer = server.describe_broker(Request::new(request)).await;
        !answer.unwrap().into_inner().any_log_compacted
    }

    /// Its sidecar would claim an empty store, which may well be the wrong one.
    #[tokio::test]
    async fn a_broker_that_knows_no_metadata_yet_does_not_say_that_no_log_was_compacted() {
        assert!(!claims_possible(false).await);
        assert!(claims_possible(true).await, "or no store is ever claimed");
    }
}
