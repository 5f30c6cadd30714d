//! Back: seeding a replica of the local broker from the newest snapshot that verifies.
//!
//! Never "there is no snapshot" unless the store was read, is this cluster's, and shows none (invariant 21).
//! A snapshot that turns out damaged or vanished in mid-stream is abandoned for the next older one. Nothing is
//! remembered between calls: calling again is always safe.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Pipeline, PipelineError, Stage,
    error::{Cause, Scope},
    plane::{self, DataPlane},
    prove::Recheck,
    spans,
};
use crate::{
    broker::BrokerInfo,
    catalog::{Folder, Snapshot},
    error::{Kind, chain},
    format::{Manifest, SnapshotId},
    raft::{Lineage, LogId, TopicPartition},
};

/// What the broker found on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalState {
    /// Nothing, and the cluster expects nothing.
    Absent,
    /// Log, term and vote.
    Intact,
    /// Nothing, but the cluster knows of a replica.
    Lost,
}

/// What a restore is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// The Raft group.
    pub partition: TopicPartition,
    /// Its lineage.
    pub lineage: Lineage,
    /// What is on the disk.
    pub local_state: LocalState,
    /// Greatest index known to be truncated anywhere (inclusive); 0 = none.
    pub min_index: u64,
    /// State encodings the broker can install.
    pub accepted_state_codecs: Vec<String>,
    /// The broker's boot id.
    pub boot_id: String,
    /// The restore that the broker takes part in as one of the first voters of the new incarnation.
    pub restore_uuid: Option<Uuid>,
}

/// Phases of a restore, for progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestorePhase {
    /// Reading identity and manifests.
    Choosing,
    /// Sending.
    Sending,
    /// Waiting for the broker's answer.
    Installing,
}

/// What the sidecar sends.
#[derive(Debug, Clone)]
pub enum RestoreEvent {
    /// A snapshot begins.
    Begin(Arc<Manifest>),
    /// A piece of it: part and raw bytes.
    Chunk(u32, Bytes),
    /// It is complete.
    End(Arc<Manifest>),
    /// It is damaged: drop it.
    Abandon(SnapshotId, String),
}

/// Why the broker did not take a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// Bytes or digests.
    Corrupt,
    /// Its configuration.
    ConfState,
    /// Its encoding.
    Codec,
    /// Its lineage.
    Lineage,
    /// The broker's disk.
    Io,
    /// The replica has state by now.
    NotEmpty,
}

/// The broker's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Durable on its disk.
    Installed {
        /// Which snapshot.
        snapshot_id: String,
        /// Where it ends.
        last_included: LogId,
    },
    /// Not taken.
    Rejected {
        /// Why.
        reason: RejectReason,
        /// Its words.
        detail: String,
    },
}

/// The other end is gone, or broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the broker closed the conversation")]
pub struct SinkClosed;

/// The broker's side of one conversation. Implementations bound what they buffer: `send` waits.
#[async_trait]
pub trait RestoreSink: Send {
    /// Tells the phase and the progress; never waits.
    fn progress(&mut self, phase: RestorePhase, sent_bytes: u64, total_bytes: u64);

    /// Sends one event.
    async fn send(&mut self, event: RestoreEvent) -> Result<(), SinkClosed>;

    /// An answer that has already arrived, without waiting.
    fn early_answer(&mut self) -> Option<Answer>;

    /// Waits for the answer to a complete snapshot.
    async fn answer(&mut self) -> Result<Answer, SinkClosed>;
}

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// Seeded.
    Installed {
        /// From which snapshot.
        id: SnapshotId,
        /// Where it ends.
        last_included: LogId,
    },
    /// The local state is intact.
    UseLocal,
    /// The store holds nothing of this lineage and nothing was promised.
    NoSnapshot,
    /// Nothing at or above `min_index` is usable.
    NotCovered {
        /// Why.
        detail: String,
    },
}

impl RestoreOutcome {
    /// Label for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Installed { .. } => "installed",
            Self::UseLocal => "use_local",
            Self::NoSnapshot => "no_snapshot",
            Self::NotCovered { .. } => "not_covered",
        }
    }
}

/// Why a restore failed.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A stage failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The lineage is of another cluster than the broker beside us says it is. What it says is for the log: the caller may be
    /// somebody who looks for it.
    #[error(
        "{field} {asked:?} is not that of the broker beside this sidecar; its log says what is"
    )]
    NotOurBroker {
        /// Which.
        field: &'static str,
        /// In the request.
        asked: String,
    },
    /// Snapshots of this lineage exist and none of them verifies.
    #[error(
        "snapshots of {partition} exist and none of them verifies; the last problem: {last_problem}"
    )]
    NoneVerifies {
        /// Which partition.
        partition: TopicPartition,
        /// What was wrong with the last.
        last_problem: String,
    },
    /// The broker cannot take any.
    #[error("the broker gave up: {0}")]
    BrokerGaveUp(String),
    /// The conversation ended.
    #[error(transparent)]
    Closed(#[from] SinkClosed),
}

impl RestoreError {
    /// Tells the log what the caller is not told.
    pub(super) fn not_our_broker(field: &'static str, asked: &str, actual: &str) -> Self {
        tracing::warn!(
            field,
            asked,
            actual,
            "a bootstrap that is not of the broker beside"
        );
        let asked = asked.to_owned();
        Self::NotOurBroker { field, asked }
    }

    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Pipeline(error) => error.kind(),
            Self::NotOurBroker { .. } => Kind::Conflict,
            Self::NoneVerifies { .. } => Kind::Corrupt,
            Self::BrokerGaveUp(_) | Self::Closed(_) => Kind::Cancelled,
        }
    }
}

/// Chunks between reading and sending.
const CHUNKS_AHEAD: usize = 2;

/// How one candidate ended.
pub(super) enum Attempt {
    Installed(LogId),
    /// Damaged or gone; another one may be whole. What a second reading says.
    Damaged(String, Recheck),
    /// Whole, but not for this broker.
    Rejected(String),
}

/// Why nothing could be installed.
#[derive(Default)]
struct Unusable {
    damaged: Vec<String>,
    rejected: Vec<String>,
}

impl Unusable {
    /// Damage is a loss of data; a whole snapshot that the broker cannot take only does not cover.
    fn verdict(self, partition: &TopicPartition) -> Result<RestoreOutcome, RestoreError> {
        if let Some(detail) = self.rejected.into_iter().last() {
            return Ok(RestoreOutcome::NotCovered { detail });
        }
        Err(RestoreError::NoneVerifies {
            partition: partition.clone(),
            last_problem: self.damaged.into_iter().last().unwrap_or_default(),
        })
    }
}

/// Listings of one conversation.
const LISTINGS: usize = 3;

impl Pipeline {
    /// Runs one conversation.
    pub async fn restore(
        &self,
        request: &RestoreRequest,
        sink: &mut dyn RestoreSink,
    ) -> Result<RestoreOutcome, RestoreError> {
        if request.local_state == LocalState::Intact {
            // A store that is away must not stop a rolling restart: nothing is asked of it here.
            return Ok(RestoreOutcome::UseLocal);
        }
        let partition = &request.partition;
        // Drills leave.
        let _under_way = self.plane.restores.begin();
        sink.progress(RestorePhase::Choosing, 0, 0);
        let info = self.ask_broker(request).await?;
        let identity = self.check_identity(&info).await;
        identity.map_err(|cause| Scope::new(Stage::Identity, partition).error(cause))?;
        if let Some(restore_uuid) = request.restore_uuid {
            return self
                .restore_planned(&info, request, restore_uuid, sink)
                .await;
        }
        let mut tried = BTreeSet::new();
        let mut unusable = Unusable::default();
        // Retention may replace what is being sent; what it left is in the next listing.
        for _ in 0..LISTINGS {
            let looked = self.catalog.look(partition).await;
            let folder = looked.map_err(|error| Scope::new(Stage::Look, partition).error(error))?;
            let candidates = match choose(&folder, request) {
                Choice::Outcome(outcome) => return Ok(outcome),
                Choice::Try(candidates, damaged) => {
                    unusable.damaged.extend(damaged);
                    candidates
                }
            };
            let fresh: Vec<&Snapshot> = candidates
                .into_iter()
                .filter(|snapshot| tried.insert(snapshot.id))
                .collect();
            if fresh.is_empty() {
                break;
            }
            for snapshot in fresh {
                let attempt = self.try_one(&self.plane, &info, snapshot, sink);
                match spans::install(snapshot.id, attempt).await? {
                    Attempt::Installed(last_included) => {
                        let id = snapshot.id;
                        tracing::info!(%partition, snapshot_id = %id, %last_included, "broker seeded");
                        return Ok(RestoreOutcome::Installed { id, last_included });
                    }
                    Attempt::Damaged(problem, _) => {
                        tracing::warn!(%partition, snapshot_id = %snapshot.id, problem, "trying another snapshot");
                        unusable.damaged.push(problem);
                    }
                    Attempt::Rejected(problem) => {
                        tracing::warn!(%partition, snapshot_id = %snapshot.id, problem, "trying another snapshot");
                        unusable.rejected.push(problem);
                    }
                }
            }
        }
        unusable.verdict(partition)
    }

    /// The broker that asks must be the one beside us, in this life.
    pub async fn ask_broker(&self, request: &RestoreRequest) -> Result<BrokerInfo, RestoreError> {
        let info = self.broker.describe().await;
        let info =
            info.map_err(|error| Scope::new(Stage::Identity, &request.partition).error(error))?;
        tracing::Span::current().record("broker_id", info.broker_id);
        let checks: [(&'static str, &str, &str); 2] = [
            ("cluster_id", &request.lineage.cluster_id, &info.cluster_id),
            ("boot_id", &request.boot_id, &info.boot_id),
        ];
        if let Some((field, asked, actual)) = checks
            .into_iter()
            .find(|(_, asked, actual)| asked != actual)
        {
            return Err(RestoreError::not_our_broker(field, asked, actual));
        }
        if request.lineage.incarnation != info.incarnation {
            let (asked, actual) = (
                request.lineage.incarnation.to_string(),
                info.incarnation.to_string(),
            );
            return Err(RestoreError::not_our_broker("incarnation", &asked, &actual));
        }
        // Truncated somewhere, as the asking broker knows: an empty store is not ours to claim.
        let any_log_compacted = info.any_log_compacted || request.min_index > 0;
        Ok(BrokerInfo {
            any_log_compacted,
            ..info
        })
    }

    /// Sends one snapshot and waits for the answer; reads it with the memory, threads and bandwidth of `plane`.
    pub(super) async fn try_one(
        &self,
        plane: &DataPlane,
        info: &BrokerInfo,
        snapshot: &Snapshot,
        sink: &mut dyn RestoreSink,
    ) -> Result<Attempt, RestoreError> {
        let manifest = &snapshot.manifest;
        let total_bytes = manifest.raw_bytes();
        sink.send(RestoreEvent::Begin(manifest.clone())).await?;
        let folder = self.plane_folder(&manifest.partition);
        let (deliver, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let read = plane::read_blocks(plane, &folder, manifest, deliver, &self.abort);
        let (read, sent) = tokio::join!(read, send_chunks(chunks, total_bytes, sink));
        if let Some(answer) = sent? {
            return judge(answer, snapshot);
        }
        if let Err(error) = read {
            if error.kind() != Kind::Corrupt {
                let scope = Scope::new(Stage::Restore, &manifest.partition).snapshot(snapshot.id);
                return Err(scope.error(Cause::Read(error)).into());
            }
            let problem = chain(&error);
            sink.send(RestoreEvent::Abandon(snapshot.id, problem.clone()))
                .await?;
            let rechecked =
                self.quarantine_if_still_corrupt(plane, info, manifest, snapshot.digest);
            // A mark that cannot be written keeps nobody from the next older snapshot.
            let recheck = rechecked.await.unwrap_or_else(|error| {
                tracing::warn!(error = chain(&error), snapshot_id = %snapshot.id, "the mark could not be written");
                Recheck::Damaged
            });
            return Ok(Attempt::Damaged(problem, recheck));
        }
        sink.send(RestoreEvent::End(manifest.clone())).await?;
        sink.progress(RestorePhase::Installing, total_bytes, total_bytes);
        judge(sink.answer().await?, snapshot)
    }
}

/// Passes chunks on until they end, or until the broker answers early: it will not take this snapshot.
async fn send_chunks(
    mut chunks: mpsc::Receiver<plane::RawChunk>,
    total_bytes: u64,
    sink: &mut dyn RestoreSink,
) -> Result<Option<Answer>, SinkClosed> {
    let mut sent_bytes = 0;
    while let Some(chunk) = chunks.recv().await {
        sent_bytes += chunk.data.len() as u64;
        sink.send(RestoreEvent::Chunk(chunk.part, chunk.data))
            .await?;
        sink.progress(RestorePhase::Sending, sent_bytes, total_bytes);
        if let Some(answer) = sink.early_answer() {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

fn judge(answer: Answer, snapshot: &Snapshot) -> Result<Attempt, RestoreError> {
    match answer {
        Answer::Installed {
            snapshot_id,
            last_included,
        } => {
            if snapshot_id != snapshot.id.to_string() || last_included != snapshot.last_included() {
                let claim = format!(
                    "it says it installed {snapshot_id} at {last_included}, sent was {}",
                    snapshot.id
                );
                return Err(RestoreError::BrokerGaveUp(claim));
            }
            Ok(Attempt::Installed(last_included))
        }
        Answer::Rejected {
            reason: RejectReason::Io | RejectReason::NotEmpty,
            detail,
        } => Err(RestoreError::BrokerGaveUp(detail)),
        Answer::Rejected {
            reason: RejectReason::Corrupt,
            detail,
        } => {
            let problem = format!("corrupt on arrival: {detail}");
            Ok(Attempt::Damaged(problem, Recheck::Unknown))
        }
        Answer::Rejected { reason, detail } => Ok(Attempt::Rejected(format!(
            "rejected by the broker ({reason:?}): {detail}"
        ))),
    }
}

enum Choice<'a> {
    Outcome(RestoreOutcome),
    /// Candidates, newest first, and what is wrong with others that would have covered.
    Try(Vec<&'a Snapshot>, Vec<String>),
}

/// The candidates, or what to answer without any. While a damaged snapshot would have covered, nothing is ever
/// "no snapshot" or "not covered".
fn choose<'a>(folder: &'a Folder, request: &'a RestoreRequest) -> Choice<'a> {
    let covers = |id: SnapshotId| id.last_included.index >= request.min_index;
    let lineage_hash = request.lineage.short_hash();
    let of_lineage: Vec<&Snapshot> = folder.of_lineage(&request.lineage).collect();
    let unreadable = folder
        .unreadable
        .iter()
        .filter(|one| one.id.lineage_hash == lineage_hash);
    let any_unreadable = unreadable.clone().next().is_some();
    if of_lineage.is_empty() && !any_unreadable {
        return Choice::Outcome(match request.min_index {
            0 => RestoreOutcome::NoSnapshot,
            min_index => RestoreOutcome::NotCovered {
                detail: format!(
                    "no snapshot of this lineage exists, but the log was truncated through {min_index}"
                ),
            },
        });
    }
    let accepted = |snapshot: &&&Snapshot| {
        request
            .accepted_state_codecs
            .contains(&snapshot.manifest.state_codec)
    };
    let covering = of_lineage
        .iter()
        .filter(accepted)
        .filter(|snapshot| covers(snapshot.id));
    let (marked, whole): (Vec<&Snapshot>, Vec<&Snapshot>) =
        covering.partition(|snapshot| snapshot.quarantined);
    let mut damaged: Vec<String> = unreadable
        .filter(|one| covers(one.id))
        .map(|one| format!("{}: {}", one.name, one.problem))
        .collect();
    damaged.extend(
        marked
            .iter()
            .map(|snapshot| format!("{} is quarantined", snapshot.id)),
    );
    if whole.is_empty() && damaged.is_empty() {
        let other_encoding = of_lineage.len() - of_lineage.iter().filter(accepted).count();
        return Choice::Outcome(RestoreOutcome::NotCovered {
            detail: format!(
                "of {} snapshots none ends at or above index {} in an accepted encoding ({other_encoding} have \
                 another encoding)",
                of_lineage.len(),
                request.min_index
            ),
        });
    }
    Choice::Try(whole, damaged)
}
