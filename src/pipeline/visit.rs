//! One visit of one partition: look, snapshot or adopt if due, truncate, retire. The same order every time; each
//! step decides on what the store shows now, so a visit that follows a crash at any step simply goes on.

use std::{sync::Arc, time::Duration};

use tracing::Instrument as _;

use super::{
    CompactionDone, Pipeline, PipelineError, RetentionDone, Stage,
    error::{Cause, Scope},
    spans,
};
use crate::{
    board::{Progress, WorkKind},
    broker::{BrokerInfo, Replica},
    catalog::{Folder, Snapshot},
    clock::unix_ms,
    error::Kind,
    format::SnapshotId,
    policy::{Decision, Facts, Role, Trigger, decide},
    raft::{Lineage, LogId, TopicPartition},
    telemetry::{Operation, Outcome},
};

/// What a visit is asked for.
#[derive(Debug, Clone)]
pub struct VisitRequest {
    /// Who the broker is.
    pub info: BrokerInfo,
    /// The local replica.
    pub replica: Replica,
    /// Its lineage.
    pub lineage: Lineage,
    /// Take a snapshot if it is due; false = this visit has no slot for one.
    pub may_snapshot: bool,
    /// Take one whatever the thresholds say.
    pub manual: bool,
    /// The snapshot at whose end the broker has another term: the log is not truncated on it, and while it is what
    /// there is, nothing is deleted.
    pub refused_base: Option<SnapshotId>,
    /// Retire and sweep.
    pub may_delete: bool,
    /// How old the snapshot that ends at a position is, on the scheduler's clock.
    pub age_of: AgeOf,
    /// How long the partition has been due.
    pub due_for: Duration,
    /// Time since the last snapshot of it was started.
    pub since_last_start: Option<Duration>,
}

/// Ages of snapshots, as the scheduler knows them.
#[derive(Debug, Clone, Copy, Default)]
pub struct AgeOf {
    /// The newest proven snapshot that the scheduler knew.
    pub known: Option<LogId>,
    /// Its age.
    pub age: Duration,
}

/// What a visit found and did.
#[derive(Debug)]
pub struct VisitReport {
    /// The folder as last listed; none when it could not be listed.
    pub folder: Option<Arc<Folder>>,
    /// The decision on the fresh folder.
    pub decision: Option<Decision>,
    /// The snapshot taken or adopted.
    pub snapshot: Option<SnapshotId>,
    /// A snapshot was started.
    pub started: bool,
    /// The truncation.
    pub compaction: Option<CompactionDone>,
    /// The snapshot whose term the broker refused. Told apart from `error`, which may be an earlier one.
    pub refused_base: Option<SnapshotId>,
    /// Retention and sweep.
    pub retention: Option<RetentionDone>,
    /// The first failure.
    pub error: Option<PipelineError>,
}

impl Pipeline {
    /// Visits one partition. Never fails as a whole: the report carries the first failure.
    pub async fn visit(&self, request: &VisitRequest) -> VisitReport {
        let partition = &request.replica.partition;
        let now = unix_ms(self.clock.wall());
        let _shown = self.board.begin(WorkKind::Visit, partition, now);
        let span = spans::visit(request);
        let report = self.visit_steps(request).instrument(span.clone()).await;
        spans::visited(&span, &report);
        report
    }

    async fn visit_steps(&self, request: &VisitRequest) -> VisitReport {
        let mut report = VisitReport {
            folder: None,
            decision: None,
            snapshot: None,
            started: false,
            compaction: None,
            refused_base: None,
            retention: None,
            error: None,
        };
        if let Err(error) = Box::pin(self.run_visit(request, &mut report)).await {
            report.error.get_or_insert(error);
        }
        self.activity(&request.replica.partition, "idle");
        report
    }

    async fn run_visit(
        &self,
        request: &VisitRequest,
        report: &mut VisitReport,
    ) -> Result<(), PipelineError> {
        let partition = &request.replica.partition;
        self.activity(partition, "looking into the store");
        let identity = self.check_identity(&request.info).await;
        identity.map_err(|cause| Scope::new(Stage::Identity, partition).error(cause))?;
        let mut folder = self.look(partition).await?;
        report.folder = Some(folder.clone());
        self.check_history(request, &folder).await?;

        let decision = self.decision(request, &folder);
        report.decision = Some(decision);
        let trigger = match decision {
            Decision::Take(trigger) => Some(trigger),
            _ => None,
        };
        if let Some(trigger) = trigger.filter(|_| request.may_snapshot) {
            report.started = true;
            let result = self
                .measured(
                    Operation::Snapshot,
                    Box::pin(self.cover(request, &folder, trigger)),
                )
                .await;
            // A snapshot that failed does not keep the log from being cut on an older proven one.
            match result {
                Ok(snapshot) => report.snapshot = snapshot,
                Err(error) => report.error = Some(error),
            }
            folder = self.look(partition).await?;
            report.folder = Some(folder.clone());
        }
        let base = folder.compaction_base(
            &request.lineage,
            request.replica.facts.applied_index,
            &request.info.accepted_state_codecs,
        );
        let refused = base.is_some_and(|base| Some(base.id) == request.refused_base);
        if !refused {
            let compaction =
                self.compact(&request.info, &request.replica, &request.lineage, &folder);
            let compaction = self.measured(Operation::Compact, compaction).await;
            report.refused_base = compaction
                .as_ref()
                .err()
                .and_then(PipelineError::refused_base);
            report.compaction = compaction?;
        }
        // A refused term is a divergence: nothing is deleted until an operator has looked.
        if request.may_delete && !refused && self.options.policy.retention {
            let retention = self.retain(&request.info, &request.lineage, &folder);
            report.retention = Some(self.measured(Operation::Retention, retention).await?);
            report.folder = self.catalog.known(partition).or(report.folder.take());
        }
        Ok(())
    }

    /// A leader has every entry that a snapshot of its lineage can hold. One whose log ends before went back in time, as
    /// all replicas do that are put back to an older copy of their disks: the snapshots beyond are of a history that is
    /// gone. They are set aside, so that no log is cut and no replica seeded on them, and kept for an operator.
    ///
    /// What counts is listed after the folder, and was said by a leader that still leads in the same term when a deposed
    /// one would know that it is one.
    async fn check_history(
        &self,
        request: &VisitRequest,
        folder: &Folder,
    ) -> Result<(), PipelineError> {
        if beyond(folder, &request.lineage, &request.replica).is_empty() {
            return Ok(());
        }
        let partition = &request.replica.partition;
        let Some(leader) = self.listed(request).await? else {
            return Ok(());
        };
        let lost = beyond(folder, &request.lineage, &leader);
        let Some(newest) = lost.first() else {
            return Ok(());
        };
        tokio::time::sleep(self.options.deposed_leader_max).await;
        let still = self.listed(request).await?;
        if still.is_none_or(|still| still.facts.role != Role::Leader || still.term != leader.term) {
            return Ok(());
        }
        self.metrics.divergence();
        let last_log_index = leader.facts.last_log_index;
        for snapshot in &lost {
            let reason =
                format!("it ends beyond the log of its leader, which ended at {last_log_index}");
            let marked = self.set_aside(&request.info, &snapshot.manifest, snapshot.digest, reason);
            marked.await?;
        }
        let snapshot_id = newest.id;
        let scope = Scope::new(Stage::Look, partition).snapshot(snapshot_id);
        Err(scope.error(Cause::WentBack {
            last_log_index,
            snapshot_id,
        }))
    }

    /// The replica as the broker has it now, if it is of the same life of the topic.
    async fn listed(&self, request: &VisitRequest) -> Result<Option<Replica>, PipelineError> {
        let partition = &request.replica.partition;
        let listed = self.broker.list_replicas(Some(partition)).await;
        let listed = listed.map_err(|error| Scope::new(Stage::Look, partition).error(error))?;
        let same_life = |replica: &Replica| replica.topic_id == request.lineage.topic_id;
        Ok(listed.into_iter().next().filter(same_life))
    }

    pub(super) async fn look(
        &self,
        partition: &TopicPartition,
    ) -> Result<Arc<Folder>, PipelineError> {
        let looked = self.catalog.look(partition).await;
        looked.map_err(|error| Scope::new(Stage::Look, partition).error(error))
    }

    fn decision(&self, request: &VisitRequest, folder: &Folder) -> Decision {
        if request.manual {
            return Decision::Take(Trigger::Manual);
        }
        let newest_proven = folder
            .newest_proven(&request.lineage)
            .map(Snapshot::last_included);
        // A snapshot that the scheduler has not seen yet is new.
        let age = if newest_proven == request.age_of.known {
            request.age_of.age
        } else {
            Duration::ZERO
        };
        let facts = Facts {
            replica: request.replica.facts,
            metadata: request.replica.partition.is_metadata(),
            newest_proven,
            age,
            due_for: request.due_for,
            since_last_start: request.since_last_start,
        };
        decide(&facts, &self.options.policy)
    }

    /// Adopts a committed snapshot whose maker died before the proof, or takes a new one.
    async fn cover(
        &self,
        request: &VisitRequest,
        folder: &Arc<Folder>,
        trigger: Trigger,
    ) -> Result<Option<SnapshotId>, PipelineError> {
        let partition = &request.replica.partition;
        let mut folder = folder.clone();
        if let Some(orphan) = folder.adoptable(&request.lineage) {
            tracing::info!(%partition, snapshot_id = %orphan.id, "adopting a snapshot without a proof");
            let (id, manifest, digest) = (orphan.id, orphan.manifest.clone(), orphan.digest);
            match self.prove(&request.info, &manifest, digest).await {
                Ok(()) => return Ok(Some(id)),
                Err(error) if matches!(error.kind(), Kind::Cancelled | Kind::Unavailable) => {
                    return Err(error);
                }
                // A snapshot that cannot be proven is no reason not to take another one.
                Err(error) => {
                    tracing::warn!(%partition, %error, "adoption failed");
                    // It may bear a mark now.
                    folder = self.look(partition).await?;
                }
            }
        }
        if self.stop.is_cancelled() {
            return Err(Scope::new(Stage::Export, partition).error(Cause::Cancelled));
        }
        tracing::info!(%partition, trigger = trigger.as_str(), "taking a snapshot");
        self.take_snapshot(&request.info, &request.replica, &request.lineage, &folder)
            .await
    }

    /// Counts and times one operation.
    pub(super) async fn measured<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, PipelineError>>,
    ) -> Result<T, PipelineError> {
        let started = self.clock.now();
        let running = self.metrics.operation_started(operation);
        let result = spans::within(spans::operation(operation), work).await;
        drop(running);
        let elapsed = self.clock.now().saturating_duration_since(started);
        match &result {
            Ok(_) => self
                .metrics
                .operation_ended(operation, Outcome::Success, elapsed),
            Err(error) => self
                .metrics
                .operation_failed(operation, error.kind(), elapsed),
        }
        result
    }

    /// Says what a visit does now.
    pub(super) fn activity(&self, partition: &TopicPartition, activity: &'static str) {
        self.moving(partition, activity, 0);
    }

    /// Says what a visit does now, and of how many bytes; what it has moved is counted in what is returned.
    pub(super) fn moving(
        &self,
        partition: &TopicPartition,
        activity: &'static str,
        total_bytes: u64,
    ) -> Progress {
        self.board.visit_stage(partition, activity, total_bytes)
    }
}

/// Snapshots of the lineage, newest first, that end beyond the log of this leader and are not set aside.
fn beyond<'a>(folder: &'a Folder, lineage: &Lineage, replica: &Replica) -> Vec<&'a Snapshot> {
    let leads = replica.facts.role == Role::Leader;
    let snapshots = folder.of_lineage(lineage);
    let lost = snapshots.filter(|snapshot| {
        let end = snapshot.last_included().index;
        leads && !snapshot.quarantined && end > replica.facts.last_log_index
    });
    lost.collect()
}
