//! Back: seeding a replica of the local broker from the newest snapshot that verifies.
//!
//! Never "there is no snapshot" unless the store was read, is this cluster's, and shows none (invariant 21).
//! A snapshot that turns out damaged or vanished in mid-stream is abandoned for the next older one. Nothing is
//! remembered between calls: calling again is always safe.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use super::{
    Answer, LocalState, Pipeline, RejectReason, RestoreError, RestoreEvent, RestoreOutcome,
    RestorePhase, RestoreRequest, RestoreSink, SinkClosed, Stage,
    error::{Cause, Scope},
    plane::{self, DataPlane},
    prove::Recheck,
    spans,
};
use crate::{
    broker::BrokerInfo,
    catalog::{Folder, Snapshot},
    error::{Kind, chain},
    format::SnapshotId,
    raft::{LogId, TopicPartition},
};

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
            return Err(RestoreError::not_our_broker(field, &asked, &actual));
        }
        if request.lineage.incarnation != info.incarnation {
            let (asked, actual) = (&request.lineage.incarnation, &info.incarnation);
            return Err(RestoreError::not_our_broker("incarnation", asked, actual));
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
