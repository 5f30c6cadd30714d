//! Drills: the newest proven snapshot of a partition is read as a restore reads it, and what comes out is thrown away.
//!
//! A drill takes the way of a restore (`try_one`) with a sink that discards. It asks nothing of the broker, waits for no
//! memory, gives way to every restore ([`DataPlane::lend_to_drill`]), and writes nothing but the mark of a snapshot that
//! failed two readings, which is what every other check does with one. What could not be looked at is not damage.
//!
//! Die at any step: nothing is left but, perhaps, a mark.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Answer, Pipeline, RestoreError, RestoreEvent, RestorePhase, RestoreSink, SinkClosed,
    plane::DataPlane, prove::Recheck, restore::Attempt,
};
use crate::{
    board::{Running, WorkKind},
    broker::BrokerInfo,
    catalog::{CatalogError, ClusterClaim, Folder, Snapshot},
    clock::unix_ms,
    error::{Kind, chain},
    format::SnapshotId,
    raft::{Lineage, TopicPartition},
};

/// What a drill is asked for.
#[derive(Debug, Clone)]
pub struct DrillRequest {
    /// Whose snapshots they are, and who marks what is damaged.
    pub info: BrokerInfo,
    /// The Raft group.
    pub partition: TopicPartition,
    /// Its lineage.
    pub lineage: Lineage,
}

/// How a drill ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrillOutcome {
    /// All of it was read, and all of it is right.
    Restored {
        /// Raw bytes.
        raw_bytes: u64,
    },
    /// It is not what its manifest says.
    Damaged {
        /// The first damage.
        problem: String,
    },
    /// It could not be looked at: nothing is known.
    Failed {
        /// What must be done about it.
        kind: Kind,
        /// Why.
        problem: String,
    },
    /// There is no proven snapshot, or it was retired or marked while it was read.
    Nothing,
    /// A restore wants the memory, or has it.
    Yielded,
    /// The process is stopping.
    Stopped,
}

/// What a drill found.
#[derive(Debug)]
pub struct DrillReport {
    /// What was read, once it was known.
    pub snapshot: Option<SnapshotId>,
    /// How it ended.
    pub outcome: DrillOutcome,
    /// How long it took.
    pub elapsed: Duration,
    /// The folder as listed after damage was found.
    pub folder: Option<Arc<Folder>>,
}

impl Pipeline {
    /// Reads the newest proven snapshot of a partition completely.
    pub async fn drill(&self, request: &DrillRequest) -> DrillReport {
        let started = self.clock.now();
        let mut report = DrillReport {
            snapshot: None,
            outcome: DrillOutcome::Yielded,
            elapsed: Duration::ZERO,
            folder: None,
        };
        let now = unix_ms(self.clock.wall());
        let mut shown = self.board.begin(WorkKind::Drill, &request.partition, now);
        if let Some(plane) = self.plane.lend_to_drill() {
            report.outcome = tokio::select! {
                biased;
                () = self.stop.cancelled() => DrillOutcome::Stopped,
                () = self.plane.restores.wait_any() => DrillOutcome::Yielded,
                outcome = self.run_drill(&plane, request, &mut report.snapshot, &mut shown) => outcome,
            };
        }
        if matches!(report.outcome, DrillOutcome::Damaged { .. }) {
            // What counts now is another snapshot. A listing that fails is the next visit's to tell.
            report.folder = self.catalog.look(&request.partition).await.ok();
        }
        report.elapsed = self.clock.now().saturating_duration_since(started);
        report
    }

    async fn run_drill(
        &self,
        plane: &DataPlane,
        request: &DrillRequest,
        reading: &mut Option<SnapshotId>,
        shown: &mut Running,
    ) -> DrillOutcome {
        let (info, partition) = (&request.info, &request.partition);
        let claim = ClusterClaim {
            cluster_id: info.cluster_id.clone(),
            incarnation: info.incarnation,
            any_log_compacted: info.any_log_compacted,
        };
        // Looked at, not claimed: a store that is nobody's holds nothing of this cluster.
        match self.catalog.compare_identity(&claim).await {
            Ok(true) => {}
            Ok(false) => return DrillOutcome::Nothing,
            Err(error) => return failed(error.kind(), chain(&error)),
        }
        let folder = match self.catalog.look(partition).await {
            Ok(folder) => folder,
            Err(error) => return failed(error.kind(), chain(&error)),
        };
        let Some(newest) = folder.newest_proven(&request.lineage) else {
            return DrillOutcome::Nothing;
        };
        *reading = Some(newest.id);
        match self.reread(partition, newest.id).await {
            Ok(snapshot) => self.read_all(plane, info, &snapshot, shown).await,
            Err(outcome) => outcome,
        }
    }

    /// Manifest, proof and mark past every cache: they rot like everything else. What reads wrong is read twice.
    async fn reread(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<Snapshot, DrillOutcome> {
        let mut read = self.catalog.reread_proven(partition, id).await;
        if read.as_ref().is_err_and(is_damage) {
            read = self.catalog.reread_proven(partition, id).await;
        }
        match read {
            Ok(snapshot) => Ok(snapshot),
            Err(CatalogError::Quarantined { .. }) => Err(DrillOutcome::Nothing),
            Err(CatalogError::Store(error)) if error.is_not_found() => Err(DrillOutcome::Nothing),
            Err(error) if is_damage(&error) => Err(DrillOutcome::Damaged {
                problem: chain(&error),
            }),
            Err(error) => Err(failed(error.kind(), chain(&error))),
        }
    }

    async fn read_all(
        &self,
        plane: &DataPlane,
        info: &BrokerInfo,
        snapshot: &Snapshot,
        shown: &mut Running,
    ) -> DrillOutcome {
        let mut sink = Discard {
            shown,
            raw_bytes: 0,
            complete: None,
        };
        match self.try_one(plane, info, snapshot, &mut sink).await {
            Ok(Attempt::Installed(_)) => DrillOutcome::Restored {
                raw_bytes: sink.raw_bytes,
            },
            Ok(Attempt::Damaged(problem, Recheck::Damaged)) => DrillOutcome::Damaged { problem },
            Ok(Attempt::Damaged(_, Recheck::Retired)) => DrillOutcome::Nothing,
            Ok(Attempt::Damaged(problem, Recheck::Sound)) => {
                let problem = format!("read wrong once and right the second time: {problem}");
                failed(Kind::Unavailable, problem)
            }
            Ok(Attempt::Damaged(problem, Recheck::Unknown)) => {
                let problem = format!("read wrong once, could not be read again: {problem}");
                failed(Kind::Unavailable, problem)
            }
            // A sink that discards rejects nothing.
            Ok(Attempt::Rejected(problem)) => failed(Kind::Internal, problem),
            Err(RestoreError::Pipeline(error)) if error.kind() == Kind::Cancelled => {
                DrillOutcome::Stopped
            }
            Err(error) => failed(error.kind(), chain(&error)),
        }
    }
}

const fn failed(kind: Kind, problem: String) -> DrillOutcome {
    DrillOutcome::Failed { kind, problem }
}

/// A manifest or proof that cannot be understood, of whatever size. The object is there and was read.
fn is_damage(error: &CatalogError) -> bool {
    let unreadable = matches!(error, CatalogError::Format { .. });
    unreadable || error.kind() == Kind::Corrupt
}

/// Takes everything and keeps nothing.
#[derive(Debug)]
struct Discard<'a> {
    shown: &'a mut Running,
    raw_bytes: u64,
    complete: Option<Answer>,
}

#[async_trait]
impl RestoreSink for Discard<'_> {
    fn progress(&mut self, phase: RestorePhase, sent_bytes: u64, total_bytes: u64) {
        let stage = match phase {
            RestorePhase::Choosing => "choosing a snapshot",
            RestorePhase::Sending | RestorePhase::Installing => "reading",
        };
        self.shown.at(stage, sent_bytes, total_bytes);
    }

    async fn send(&mut self, event: RestoreEvent) -> Result<(), SinkClosed> {
        match event {
            RestoreEvent::Chunk(_, data) => self.raw_bytes += data.len() as u64,
            RestoreEvent::End(manifest) => {
                self.complete = Some(Answer::Installed {
                    snapshot_id: manifest.snapshot_id.to_string(),
                    last_included: manifest.last_included,
                });
            }
            RestoreEvent::Begin(_) | RestoreEvent::Abandon(..) => {}
        }
        Ok(())
    }

    fn early_answer(&mut self) -> Option<Answer> {
        None
    }

    async fn answer(&mut self) -> Result<Answer, SinkClosed> {
        self.complete.take().ok_or(SinkClosed)
    }
}
