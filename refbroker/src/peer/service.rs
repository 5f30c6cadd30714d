//! Answering other brokers.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    api::ApiError,
    crash,
    driver::{
        input::{Applied, DriverHandle, Input},
        shared::Shared,
    },
    identity::{Identity, Member},
    meta::{self, Command, Outcome},
    proto::{
        peer::{
            DescribeGroupsRequest, DescribeGroupsResponse, GroupInfo, JoinRequest, JoinResponse,
            PeerIdentity, ProposeMetaRequest, ProposeMetaResponse, RaftBatch, RaftSummary,
            SnapshotBegin, SnapshotTransfer, SnapshotTransferResult, WhoAmIRequest, WhoAmIResponse,
            peer_service_server::PeerService, snapshot_transfer,
        },
        v1::{Lineage, TopicPartition},
    },
    state::staging::{Expected, Staged, Staging},
};

/// Snapshots taken in at one time.
const MAX_RECEIVES: usize = 4;
/// A sender that is silent for so long is given up.
const SILENCE: Duration = Duration::from_mins(1);
/// Time for a command of `__meta`.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the service knows; it answers questions before the broker has an identity.
pub struct PeerState {
    /// This broker as it sees itself.
    pub me: Member,
    /// The restore that it wants to begin.
    pub restore_token: String,
    /// Set once it belongs to a cluster.
    pub identity: OnceLock<Identity>,
    /// Set once the driver runs.
    pub driver: OnceLock<DriverHandle>,
    /// The groups.
    pub shared: Arc<Shared>,
    /// Directories of the groups.
    pub groups_dir: PathBuf,
}

/// The service.
pub struct PeerServer {
    state: Arc<PeerState>,
    stop: CancellationToken,
    receives: Semaphore,
}

impl PeerServer {
    /// Around the state. `stop` ends open streams.
    pub fn new(state: Arc<PeerState>, stop: CancellationToken) -> Self {
        Self {
            state,
            stop,
            receives: Semaphore::new(MAX_RECEIVES),
        }
    }

    fn driver(&self) -> Result<&DriverHandle, Status> {
        let driver = self.state.driver.get();
        driver.ok_or_else(|| Status::unavailable("this broker is starting"))
    }

    fn check_cluster(&self, cluster_id: &str, incarnation: u64) -> Result<(), Status> {
        let identity = self.state.identity.get();
        let identity = identity.ok_or_else(|| Status::unavailable("this broker is starting"))?;
        if identity.cluster_id != cluster_id || identity.incarnation != incarnation {
            return Err(Status::permission_denied("another cluster or incarnation"));
        }
        Ok(())
    }

    fn check(&self, identity: Option<&PeerIdentity>) -> Result<i32, Status> {
        let identity = identity.ok_or_else(|| Status::invalid_argument("identity is missing"))?;
        self.check_cluster(&identity.cluster_id, identity.incarnation)?;
        if identity.to_broker != self.state.me.broker_id {
            return Err(Status::permission_denied("another broker was meant"));
        }
        Ok(identity.from_broker)
    }

    fn known_uuid(&self, identity: &Identity, asker: i32) -> Option<Uuid> {
        let meta = self.state.shared.meta();
        if meta.is_formed() {
            return meta.brokers.get(&asker).map(|known| known.replica_uuid);
        }
        let founders = identity.initial_members.iter();
        founders
            .filter(|member| member.broker_id == asker)
            .map(|member| member.replica_uuid)
            .next()
    }

    async fn messages(
        &self,
        mut stream: Streaming<RaftBatch>,
    ) -> Result<Response<RaftSummary>, Status> {
        let mut from_broker = None;
        while let Some(batch) = stream.message().await? {
            let from_broker = match from_broker {
                Some(known) => known,
                None => *from_broker.insert(self.check(batch.identity.as_ref())?),
            };
            let driver = self.driver()?;
            for envelope in batch.messages {
                let message = Message::parse_from_carllerche_bytes(&envelope.message)
                    .map_err(|_| Status::invalid_argument("message does not decode"))?;
                let input = Input::Raft {
                    from_broker,
                    group_id: envelope.group_id,
                    message: Box::new(message),
                };
                if !driver.send(input).await {
                    return Err(Status::unavailable("this broker is stopping"));
                }
            }
        }
        Ok(Response::new(RaftSummary {}))
    }

    async fn receive(
        &self,
        begin: SnapshotBegin,
        mut stream: Streaming<SnapshotTransfer>,
    ) -> Result<bool, Status> {
        let from_broker = self.check(begin.identity.as_ref())?;
        let driver = self.driver()?;
        let Some(group) = self.state.shared.group(begin.group_id) else {
            return Ok(false);
        };
        let message = Message::parse_from_carllerche_bytes(&begin.message)
            .map_err(|_| Status::invalid_argument("message does not decode"))?;
        let header = begin.header.unwrap_or_default();
        let metadata = message.get_snapshot().get_metadata();
        let position = crate::raftlog::LogPos::from_proto(header.last_included.as_ref());
        let same = metadata.index == position.index && metadata.term == position.term;
        if message.get_msg_type() != MessageType::MsgSnapshot || !same {
            return Err(Status::invalid_argument("message and header differ"));
        }
        let identity = begin.identity.unwrap_or_default();
        let expected = Expected {
            lineage: Lineage {
                cluster_id: identity.cluster_id,
                incarnation: identity.incarnation,
                topic_id: group.topic_id.clone(),
            },
            partition: TopicPartition {
                topic: group.topic.clone(),
                partition: group.partition,
            },
            seed_for_peer: None,
            restored: false,
        };
        let group_dir = self
            .state
            .groups_dir
            .join(format!("{:016}", begin.group_id));
        let mut staging = blocking(move || Staging::begin(&group_dir, header, &expected)).await?;
        let staged: Staged = loop {
            match next(&mut stream).await? {
                Some(snapshot_transfer::Message::Chunk(chunk)) => {
                    staging = blocking(move || {
                        staging.chunk(&chunk)?;
                        Ok(staging)
                    })
                    .await?;
                }
                Some(snapshot_transfer::Message::Trailer(trailer)) => {
                    break blocking(move || staging.finish(&trailer)).await?;
                }
                Some(snapshot_transfer::Message::Begin(_)) | None => {
                    return Err(Status::invalid_argument("chunk or trailer expected"));
                }
            }
        };
        info!(
            group_id = begin.group_id,
            from_broker,
            index = position.index,
            "snapshot received"
        );
        crash::point("snapshot.received");
        let accepted = driver.ask(|reply| Input::IncomingSnapshot {
            from_broker,
            group_id: begin.group_id,
            message: Box::new(message),
            staged: Box::new(staged),
            reply,
        });
        Ok(accepted.await.unwrap_or(false))
    }
}

async fn next(
    stream: &mut Streaming<SnapshotTransfer>,
) -> Result<Option<snapshot_transfer::Message>, Status> {
    let message = tokio::time::timeout(SILENCE, stream.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the sender is silent"))??;
    Ok(message.and_then(|message| message.message))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::state::staging::StageError> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Status::internal("the writer died"))?
        .map_err(|error| {
            warn!(%error, "snapshot not taken");
            Status::failed_precondition(error.to_string())
        })
}

/// Proposes a command to the `__meta` replica of this broker, which must lead.
pub async fn propose_here(
    driver: &DriverHandle,
    command: bytes::Bytes,
    timeout: Duration,
) -> Result<(u64, Outcome), ApiError> {
    let answer = driver.propose(meta::GROUP_ID, command)?;
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(Ok(Applied::Meta(index, outcome)))) => Ok((index, outcome)),
        Ok(Ok(Err(error))) => Err(error),
        Ok(Ok(Ok(Applied::Batch(_))) | Err(_)) => Err(ApiError::Storage),
        Err(_) => Err(ApiError::TimedOut),
    }
}

fn status_of(error: &ApiError) -> Status {
    match error {
        ApiError::NotLeader => Status::failed_precondition("this broker does not lead __meta"),
        ApiError::TimedOut => Status::deadline_exceeded("the outcome is unknown"),
        other => Status::internal(other.to_string()),
    }
}

#[tonic::async_trait]
impl PeerService for PeerServer {
    async fn raft(
        &self,
        request: Request<Streaming<RaftBatch>>,
    ) -> Result<Response<RaftSummary>, Status> {
        tokio::select! {
            () = self.stop.cancelled() => Err(Status::unavailable("this broker is stopping")),
            outcome = self.messages(request.into_inner()) => outcome,
        }
    }

    async fn send_snapshot(
        &self,
        request: Request<Streaming<SnapshotTransfer>>,
    ) -> Result<Response<SnapshotTransferResult>, Status> {
        let _permit = self
            .receives
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("too many snapshots are being received"))?;
        let mut stream = request.into_inner();
        let Some(snapshot_transfer::Message::Begin(begin)) = next(&mut stream).await? else {
            return Err(Status::invalid_argument("begin expected"));
        };
        let accepted = tokio::select! {
            () = self.stop.cancelled() => Err(Status::unavailable("this broker is stopping")),
            accepted = self.receive(begin, stream) => accepted,
        }?;
        Ok(Response::new(SnapshotTransferResult { accepted }))
    }

    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        let asker = request.into_inner().asker.unwrap_or_default();
        let mut answer = WhoAmIResponse {
            responder: Some(self.state.me.to_proto()),
            restore_token: self.state.restore_token.clone(),
            ..WhoAmIResponse::default()
        };
        // A broker that is joining itself does not speak for the cluster before it has metadata.
        let speaks =
            |identity: &&Identity| identity.is_founder() || self.state.shared.meta().is_formed();
        if let Some(identity) = self.state.identity.get().filter(speaks) {
            answer.formed = true;
            let meta_group = self.state.shared.group(meta::GROUP_ID);
            answer.authoritative = meta_group.is_some_and(|group| group.is_serving());
            answer.cluster_id.clone_from(&identity.cluster_id);
            answer.incarnation = identity.incarnation;
            answer.looked = identity.looked;
            let restored = identity.restore_uuid.map(|uuid| uuid.to_string());
            answer.restore_uuid = restored.unwrap_or_default();
            let known = self.known_uuid(identity, asker.broker_id);
            answer.known_replica_uuid = known.map(|uuid| uuid.to_string()).unwrap_or_default();
            let founders = identity.initial_members.iter();
            answer.initial_members = founders.map(Member::to_proto).collect();
        }
        Ok(Response::new(answer))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id, request.incarnation)?;
        let member = request.broker.and_then(Member::from_proto);
        let member = member.ok_or_else(|| Status::invalid_argument("broker is malformed"))?;
        let command = Command::Join { member }.encode();
        let (_, outcome) = propose_here(self.driver()?, command, PROPOSE_TIMEOUT)
            .await
            .map_err(|error| status_of(&error))?;
        let Outcome::Joined { meta_peer_id } = outcome else {
            return Err(Status::unavailable("the cluster is not formed yet"));
        };
        Ok(Response::new(JoinResponse {
            meta_peer_id,
            meta_initial_voters: self.state.shared.meta().meta_initial_voters.clone(),
        }))
    }

    async fn describe_groups(
        &self,
        request: Request<DescribeGroupsRequest>,
    ) -> Result<Response<DescribeGroupsResponse>, Status> {
        let wanted = request.into_inner().group_id;
        let groups = self.state.shared.groups();
        let groups = groups
            .iter()
            .filter(|group| wanted == 0 || group.group_id == wanted)
            .map(|group| {
                let status = group.status();
                GroupInfo {
                    group_id: group.group_id,
                    leader_peer_id: status.leader_peer_id,
                    truncated_index: status.first_log_index - 1,
                    applied_index: status.applied_index,
                }
            });
        Ok(Response::new(DescribeGroupsResponse {
            groups: groups.collect(),
        }))
    }

    async fn propose_meta(
        &self,
        request: Request<ProposeMetaRequest>,
    ) -> Result<Response<ProposeMetaResponse>, Status> {
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id, request.incarnation)?;
        let (index, outcome) = propose_here(self.driver()?, request.command, PROPOSE_TIMEOUT)
            .await
            .map_err(|error| status_of(&error))?;
        let outcome = serde_json::to_vec(&outcome).unwrap_or_default().into();
        Ok(Response::new(ProposeMetaResponse { index, outcome }))
    }
}
