//! A replica that this broker lost: seeded by the sidecar, or started as an empty learner, never as a voter.
//!
//! The first voters of a restored cluster start from what the plan of the restore names; they wait for it for as long
//! as it takes, and start empty only if the plan names nothing.
//!
//! Any end of the conversation without a commit leaves nothing behind: dropping the staged bytes removes them.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Status, Streaming, transport::Endpoint};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    config::SidecarEndpoint,
    driver::{
        input::{DriverHandle, Input, NewReplica, StartRefusal},
        shared::Shared,
    },
    meta,
    peer::{CONNECTION_WINDOW_BYTES, MAX_FRAME_BYTES, STREAM_WINDOW_BYTES, client::Clients},
    proto::{
        peer::DescribeGroupsRequest,
        v1::{
            BootstrapBegin, BootstrapInstalled, BootstrapOutcome, BootstrapRejected,
            BootstrapRequest, BootstrapResponse, BootstrapResult, Lineage, LocalState, LogId,
            RejectReason, SnapshotChunk, SnapshotHeader, SnapshotTrailer, TopicPartition,
            bootstrap_request, bootstrap_response,
            snapshot_bootstrap_service_client::SnapshotBootstrapServiceClient,
        },
    },
    state::{
        META_CODEC, SEGMENTS_CODEC,
        staging::{Expected, StageError, Staging},
    },
};

/// How long a lost replica waits for a sidecar that cannot help now.
const GRACE: Duration = Duration::from_secs(15);
/// First pause between two tries; doubles.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Longest pause between two tries.
const LAST_RETRY: Duration = Duration::from_secs(4);
/// A sidecar that is silent for so long is given up.
const SILENCE: Duration = Duration::from_mins(1);
/// Deadline of a connection attempt, and of a question to a peer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that the sidecar has to take note of a success.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// Replicas that are seeded at one time.
const MAX_SEEDS: usize = 4;
/// Replicas that wait for a seed; the driver offers again what finds no place.
pub const LOST_QUEUE: usize = 1024;

/// What seeding needs to know.
pub struct Seeder {
    /// Places for conversations.
    pub slots: Semaphore,
    /// What the cluster wants.
    pub shared: Arc<Shared>,
    /// The restore that this life of the cluster began with.
    pub restore_uuid: Option<Uuid>,
    /// The sidecar.
    pub sidecar: Option<SidecarEndpoint>,
    /// The other brokers.
    pub clients: Arc<Clients>,
    /// The driver.
    pub driver: DriverHandle,
    /// Directories of the groups.
    pub groups_dir: PathBuf,
    /// Cluster.
    pub cluster_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// This start of this broker.
    pub boot_id: String,
}

/// What a conversation is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// The state of a lost replica, or of a first voter of a restored cluster.
    Seed,
    /// Only to know whether there is any.
    Look,
}

enum Conversation {
    /// The replica runs from a snapshot.
    Started,
    /// There is a snapshot; it was only looked for.
    Offered(String),
    /// The store was read: there is nothing, or the plan of the restore names nothing.
    Nothing(String),
    /// The sidecar does not seed.
    Disabled(String),
    /// There is nothing that could be had.
    NoSeed(String),
    /// Perhaps later.
    Later(String),
}

impl Seeder {
    /// Seeds what the driver reports as lost.
    pub async fn run(
        self: Arc<Self>,
        mut lost: mpsc::Receiver<NewReplica>,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) {
        while let Some(replica) = lost.recv().await {
            let (seeder, stop) = (self.clone(), stop.clone());
            tracker.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = seeder.seed(replica) => {}
                }
            });
        }
    }

    /// Places for conversations: nobody holds one while it waits for better times.
    pub fn slots() -> Semaphore {
        Semaphore::new(MAX_SEEDS)
    }

    /// Returns once the replica runs, or is not wanted any more.
    pub async fn seed(&self, replica: NewReplica) {
        if replica.restored {
            return self.restore(replica).await;
        }
        let since = Instant::now();
        let mut pause = FIRST_RETRY;
        let mut settled = self.sidecar.is_none();
        let (group_id, topic) = (replica.group_id, replica.topic.as_str());
        while self.is_wanted(&replica) {
            if !settled {
                match self.try_once(&replica, Wish::Seed).await {
                    Conversation::Started => return,
                    Conversation::NoSeed(reason)
                    | Conversation::Nothing(reason)
                    | Conversation::Disabled(reason) => {
                        info!(group_id, topic, %reason, "no seed");
                        settled = true;
                    }
                    Conversation::Offered(reason) | Conversation::Later(reason) => {
                        info!(group_id, topic, %reason, "no seed yet");
                    }
                }
            }
            let may_start_empty = settled || since.elapsed() >= GRACE;
            if may_start_empty && self.group_info(group_id).await.1 {
                warn!(
                    group_id,
                    topic,
                    peer_id = replica.peer_id,
                    "starting as an empty learner"
                );
                self.start_empty(replica).await;
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
    }

    /// Asks the sidecar whether the life of the cluster that is to begin has begun before. Waits until it is known:
    /// nothing is created empty because nobody could look. True = it was looked, and there is nothing; false = there is
    /// nobody to ask. The error tells what there is.
    pub async fn ask_whether_new(&self, meta: &NewReplica) -> Result<bool, String> {
        let mut pause = FIRST_RETRY;
        loop {
            match self.try_once(meta, Wish::Look).await {
                Conversation::Nothing(_) | Conversation::Started => return Ok(true),
                Conversation::Disabled(reason) => {
                    warn!(%reason, "nobody looks whether this cluster is new");
                    return Ok(false);
                }
                Conversation::Offered(reason) | Conversation::NoSeed(reason) => return Err(reason),
                Conversation::Later(reason) => {
                    warn!(%reason, "not known yet whether this cluster is new");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
    }

    /// A first voter of a restored cluster.
    async fn restore(&self, replica: NewReplica) {
        let mut pause = FIRST_RETRY;
        let (group_id, topic) = (replica.group_id, replica.topic.as_str());
        while self.is_wanted(&replica) {
            match self.try_once(&replica, Wish::Seed).await {
                Conversation::Started => return,
                // Only a plan that was read can say so, never a store that was asked without one.
                Conversation::Nothing(reason) if self.restore_uuid.is_some() => {
                    warn!(group_id, topic, %reason, "nothing is restored here: starting empty");
                    return self.start_empty(replica).await;
                }
                Conversation::Nothing(reason)
                | Conversation::NoSeed(reason)
                | Conversation::Disabled(reason)
                | Conversation::Offered(reason)
                | Conversation::Later(reason) => {
                    warn!(group_id, topic, %reason, "not restored yet");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
    }

    /// False once the topic is deleted.
    fn is_wanted(&self, replica: &NewReplica) -> bool {
        let meta = self.shared.meta();
        let group_id = meta.group_id(&replica.topic, replica.partition);
        replica.group_id == meta::GROUP_ID || group_id == Some(replica.group_id)
    }

    async fn try_once(&self, replica: &NewReplica, wish: Wish) -> Conversation {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        self.converse(replica, wish).await
    }

    async fn start_empty(&self, replica: NewReplica) {
        let started = self.driver.ask(|reply| Input::Start {
            replica: Box::new(replica),
            seed: None,
            reply,
        });
        if let Some(Err(refusal)) = started.await {
            warn!(%refusal, "empty replica not started");
        }
    }

    /// Greatest truncated index of the group anywhere, and whether it has a leader.
    async fn group_info(&self, group_id: u64) -> (u64, bool) {
        let brokers: Vec<i32> = self.clients.configured().collect();
        let asked = brokers.into_iter().map(|broker| async move {
            let mut client = self.clients.get(broker)?;
            let question = client.describe_groups(DescribeGroupsRequest { group_id });
            let answer = tokio::time::timeout(ASK_TIMEOUT, question).await;
            Some(answer.ok()?.ok()?.into_inner().groups)
        });
        let answers = futures::future::join_all(asked).await;
        let infos = answers.into_iter().flatten().flatten();
        infos.fold((0, false), |(truncated, led), info| {
            (
                truncated.max(info.truncated_index),
                led || info.leader_peer_id != 0,
            )
        })
    }

    async fn converse(&self, replica: &NewReplica, wish: Wish) -> Conversation {
        let Some(sidecar) = &self.sidecar else {
            return Conversation::Disabled("no sidecar is configured".to_owned());
        };
        let endpoint = match Endpoint::from_shared(sidecar.uri().to_owned()) {
            Ok(endpoint) => endpoint
                .connect_timeout(ASK_TIMEOUT)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_frame_size(MAX_FRAME_BYTES)
                .http2_keep_alive_interval(Duration::from_secs(10))
                .keep_alive_timeout(Duration::from_secs(10)),
            Err(error) => return Conversation::NoSeed(error.to_string()),
        };
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => return Conversation::Later(error.to_string()),
        };
        let mut client = SnapshotBootstrapServiceClient::new(channel)
            .max_decoding_message_size(2 * MAX_FRAME_BYTES as usize);
        let (to, from) = mpsc::channel(4);
        let begin = self.begin(replica, wish).await;
        if to
            .send(request(bootstrap_request::Message::Begin(begin)))
            .await
            .is_err()
        {
            return Conversation::Later("the stream closed".to_owned());
        }
        let opened = tokio::time::timeout(SILENCE, client.bootstrap(ReceiverStream::new(from)));
        let stream = match opened.await {
            Ok(Ok(stream)) => stream.into_inner(),
            Ok(Err(status)) => return refused(&status),
            Err(_) => return Conversation::Later("the sidecar is silent".to_owned()),
        };
        self.listen(replica, wish, stream, &to).await
    }

    async fn begin(&self, replica: &NewReplica, wish: Wish) -> BootstrapBegin {
        // Whoever only looks wants to know what there is, not whether it is enough.
        let min_index = match wish {
            Wish::Seed => self.group_info(replica.group_id).await.0,
            Wish::Look => 0,
        };
        BootstrapBegin {
            partition: Some(partition_of(replica)),
            lineage: Some(self.lineage_of(replica)),
            boot_id: self.boot_id.clone(),
            local_state: match wish {
                Wish::Seed => LocalState::Lost.into(),
                Wish::Look => LocalState::Absent.into(),
            },
            local_log: None,
            min_index,
            accepted_state_codecs: vec![codec_of(replica).to_owned()],
            restore_uuid: self.restore_of(replica, wish),
        }
    }

    /// Whoever only looks asks for what this life of the cluster has written itself, not for what it begins with.
    fn restore_of(&self, replica: &NewReplica, wish: Wish) -> String {
        let planned = replica.restored && wish == Wish::Seed;
        let restore = self.restore_uuid.filter(|_| planned);
        restore.map(|uuid| uuid.to_string()).unwrap_or_default()
    }

    fn lineage_of(&self, replica: &NewReplica) -> Lineage {
        Lineage {
            cluster_id: self.cluster_id.clone(),
            incarnation: self.incarnation,
            topic_id: replica.topic_id.clone(),
        }
    }

    async fn listen(
        &self,
        replica: &NewReplica,
        wish: Wish,
        mut stream: Streaming<BootstrapResponse>,
        to: &mpsc::Sender<BootstrapRequest>,
    ) -> Conversation {
        let mut offer = Offer::default();
        loop {
            let message = match tokio::time::timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(message))) => message.message,
                Ok(Ok(None)) => return Conversation::Later("the stream ended".to_owned()),
                Ok(Err(status)) => return refused(&status),
                Err(_) => return Conversation::Later("the sidecar is silent".to_owned()),
            };
            let step = match message {
                Some(bootstrap_response::Message::Snapshot(snapshot)) if wish == Wish::Look => {
                    return Conversation::Offered(format!("snapshot {}", snapshot.snapshot_id));
                }
                Some(bootstrap_response::Message::Snapshot(snapshot)) => {
                    let header = snapshot.header.unwrap_or_default();
                    offer = Offer {
                        snapshot_id: snapshot.snapshot_id,
                        last_included: header.last_included,
                        staging: None,
                    };
                    let staging = self.stage(replica, header).await;
                    staging.map(|staging| offer.staging = Some(staging))
                }
                Some(bootstrap_response::Message::Chunk(chunk)) => offer.chunk(chunk).await,
                Some(bootstrap_response::Message::Trailer(trailer)) => {
                    match offer.staging.take() {
                        // Rejected before; the sidecar goes on to the next one.
                        None => Ok(()),
                        Some(staging) => match self.install(replica, staging, trailer).await {
                            Ok(()) => {
                                offer.tell_installed(replica, to, &mut stream).await;
                                return Conversation::Started;
                            }
                            Err(error) => Err(error),
                        },
                    }
                }
                Some(bootstrap_response::Message::Abandon(abandon)) => {
                    info!(snapshot_id = %abandon.snapshot_id, detail = %abandon.detail, "snapshot abandoned");
                    offer = Offer::default();
                    Ok(())
                }
                Some(bootstrap_response::Message::Outcome(outcome)) => {
                    return settled(&outcome);
                }
                Some(bootstrap_response::Message::Progress(_)) | None => Ok(()),
            };
            if let Err(error) = step {
                offer.tell_rejected(replica, to, &error).await;
            }
        }
    }

    async fn stage(
        &self,
        replica: &NewReplica,
        header: SnapshotHeader,
    ) -> Result<Staging, StageError> {
        let expected = Expected {
            lineage: self.lineage_of(replica),
            partition: partition_of(replica),
            seed_for_peer: Some(replica.peer_id),
            restored: replica.restored,
        };
        let group_dir = self.groups_dir.join(format!("{:016}", replica.group_id));
        blocking(move || Staging::begin(&group_dir, header, &expected)).await
    }

    /// Verifies, flushes, commits and starts the replica.
    async fn install(
        &self,
        replica: &NewReplica,
        staging: Staging,
        trailer: SnapshotTrailer,
    ) -> Result<(), StageError> {
        let staged = blocking(move || staging.finish(&trailer)).await?;
        let started = self.driver.ask(|reply| Input::Start {
            replica: Box::new(replica.clone()),
            seed: Some(Box::new(staged)),
            reply,
        });
        let (reason, detail) = match started.await {
            Some(Ok(())) => return Ok(()),
            Some(Err(refusal @ StartRefusal::Running)) => {
                (RejectReason::NotEmpty, refusal.to_string())
            }
            _ => (RejectReason::Io, StartRefusal::Stopped.to_string()),
        };
        Err(StageError::Rejected { reason, detail })
    }
}

/// The snapshot that the sidecar is sending.
#[derive(Default)]
struct Offer {
    snapshot_id: String,
    last_included: Option<LogId>,
    staging: Option<Staging>,
}

impl Offer {
    async fn chunk(&mut self, chunk: SnapshotChunk) -> Result<(), StageError> {
        let Some(mut staging) = self.staging.take() else {
            return Ok(());
        };
        let write = move || staging.chunk(&chunk).map(|()| staging);
        self.staging = Some(blocking(write).await?);
        Ok(())
    }

    /// The commit is done; that the sidecar hears of it is a courtesy.
    async fn tell_installed(
        &self,
        replica: &NewReplica,
        to: &mpsc::Sender<BootstrapRequest>,
        stream: &mut Streaming<BootstrapResponse>,
    ) {
        let snapshot_id = self.snapshot_id.clone();
        info!(group_id = replica.group_id, topic = %replica.topic, %snapshot_id, "seeded");
        let message = bootstrap_request::Message::Installed(BootstrapInstalled {
            snapshot_id,
            last_included: self.last_included,
        });
        let courtesy = async {
            let _ = to.send(request(message)).await;
            while let Ok(Some(message)) = stream.message().await {
                if matches!(
                    message.message,
                    Some(bootstrap_response::Message::Outcome(_))
                ) {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(OUTCOME_TIMEOUT, courtesy).await;
    }

    async fn tell_rejected(
        &mut self,
        replica: &NewReplica,
        to: &mpsc::Sender<BootstrapRequest>,
        error: &StageError,
    ) {
        self.staging = None;
        let snapshot_id = self.snapshot_id.clone();
        warn!(group_id = replica.group_id, topic = %replica.topic, %snapshot_id, %error, "snapshot rejected");
        let message = bootstrap_request::Message::Rejected(BootstrapRejected {
            snapshot_id,
            reason: error.reason().into(),
            detail: error.to_string(),
        });
        let _ = to.send(request(message)).await;
    }
}

fn settled(outcome: &BootstrapOutcome) -> Conversation {
    let detail = format!("{}: {}", outcome.result().as_str_name(), outcome.detail);
    match outcome.result() {
        BootstrapResult::NoSnapshot => Conversation::Nothing(detail),
        BootstrapResult::Disabled => Conversation::Disabled(detail),
        BootstrapResult::NotCovered => Conversation::NoSeed(detail),
        _ => Conversation::Later(detail),
    }
}

fn refused(status: &Status) -> Conversation {
    let detail = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        // Snapshots exist and none verifies: waiting does not change that.
        Code::DataLoss | Code::Unimplemented => Conversation::NoSeed(detail),
        _ => Conversation::Later(detail),
    }
}

fn request(message: bootstrap_request::Message) -> BootstrapRequest {
    BootstrapRequest {
        message: Some(message),
    }
}

fn partition_of(replica: &NewReplica) -> TopicPartition {
    TopicPartition {
        topic: replica.topic.clone(),
        partition: replica.partition,
    }
}

fn codec_of(replica: &NewReplica) -> &'static str {
    if replica.group_id == meta::GROUP_ID {
        META_CODEC
    } else {
        SEGMENTS_CODEC
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StageError> + Send + 'static,
) -> Result<T, StageError> {
    let died = |_| StageError::Rejected {
        reason: RejectReason::Io,
        detail: "the writer died".to_owned(),
    };
    tokio::task::spawn_blocking(work).await.map_err(died)?
}
