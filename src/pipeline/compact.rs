//! Truncating the local broker's log, on every replica: the last step, and the only one that cannot be undone.
//!
//! Before each cut this sidecar reads for itself, past every cache: the store's identity, the manifest and its
//! proof (of each other), that every file is there with its size, and one block of each. The broker checks
//! everything it can see once more.

use super::{
    Pipeline, PipelineError, Stage,
    error::{Cause, Scope},
    plane,
};
use crate::{
    broker::{BrokerInfo, CompactRequest, Refusal, Replica},
    catalog::{CatalogError, Folder, Snapshot},
    error::Kind,
    mutation::{self, Mutation},
    policy::{CompactionPlan, plan_compaction},
    raft::Lineage,
    telemetry::BlockReason,
};

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionDone {
    /// Lowest index still in the log.
    pub first_log_index: u64,
    /// Entries dropped.
    pub entries: u64,
    /// Log bytes freed, approximately.
    pub freed_bytes: u64,
}

impl Pipeline {
    /// Cuts the log of `replica` as far as the newest proven snapshot in `folder` allows. `None`: nothing to cut.
    pub(super) async fn compact(
        &self,
        info: &BrokerInfo,
        replica: &Replica,
        lineage: &Lineage,
        folder: &Folder,
    ) -> Result<Option<CompactionDone>, PipelineError> {
        let partition = &replica.partition;
        let facts = &replica.facts;
        let base =
            folder.compaction_base(lineage, facts.applied_index, &info.accepted_state_codecs);
        let plan = plan_compaction(
            facts,
            base.map(Snapshot::last_included),
            &self.options.policy,
        );
        let (base, through_index) = match (plan, base) {
            (CompactionPlan::Cut { through_index, .. }, Some(base)) => (base, through_index),
            (CompactionPlan::Keep(reason), _) => {
                if let Some(reason) = BlockReason::of_plan(reason) {
                    self.metrics.compaction_blocked(reason);
                }
                return Ok(None);
            }
            (CompactionPlan::Cut { .. }, None) => return Ok(None),
        };
        let scope = || Scope::new(Stage::Compact, partition).snapshot(base.id);
        if folder.diverged(lineage) {
            self.metrics.divergence();
            return Err(scope().error(Cause::Diverged));
        }
        self.activity(partition, "truncating the log");
        let proven = match self.recheck(info, folder, base).await {
            Ok(proven) => proven,
            Err(cause) => {
                self.metrics.compaction_blocked(unproven_reason(&cause));
                if cause.kind() == Kind::Corrupt
                    || matches!(cause, Cause::Catalog(CatalogError::Undermined { .. }))
                {
                    self.quarantine_if_still_corrupt(
                        &self.plane,
                        info,
                        &base.manifest,
                        base.digest,
                    )
                    .await?;
                }
                return Err(scope().error(cause));
            }
        };
        let request = CompactRequest {
            partition: partition.clone(),
            lineage: lineage.clone(),
            boot_id: info.boot_id.clone(),
            snapshot_last_included: proven.last_included(),
            through_index,
            snapshot_id: proven.id.to_string(),
            manifest_digest: proven.digest.to_string(),
        };
        let answer = match self.broker.compact(&request).await {
            Ok(answer) => answer,
            Err(error) => {
                self.metrics
                    .compaction_blocked(block_reason(error.refusal()));
                if error.refusal() == Some(Refusal::TermMismatch) {
                    self.metrics.divergence();
                }
                return Err(scope().error(error));
            }
        };
        let observed = self
            .broker
            .list_replicas(Some(partition))
            .await
            .map_err(|error| scope().error(error))?
            .first()
            .map_or(0, |replica| replica.facts.first_log_index);
        if answer.first_log_index <= through_index || observed < answer.first_log_index {
            return Err(scope().error(Cause::NotCompacted {
                answered: answer.first_log_index,
                observed,
            }));
        }
        let done = CompactionDone {
            first_log_index: answer.first_log_index,
            entries: answer.first_log_index.saturating_sub(facts.first_log_index),
            freed_bytes: answer.freed_bytes,
        };
        self.metrics.add_compacted_entries(done.entries);
        tracing::info!(
            %partition, snapshot_id = %proven.id, through_index, first_log_index = done.first_log_index,
            entries = done.entries, freed_bytes = done.freed_bytes, "log truncated"
        );
        Ok(Some(done))
    }

    /// Everything that must be true of the store right before a cut, read anew.
    async fn recheck(
        &self,
        info: &BrokerInfo,
        folder: &Folder,
        base: &Snapshot,
    ) -> Result<Snapshot, Cause> {
        if mutation::active(Mutation::TrustTheList)
            || mutation::active(Mutation::TruncateBeforeProof)
        {
            return Ok(base.clone());
        }
        self.check_identity(info).await?;
        let partition = &base.manifest.partition;
        let proven = self.catalog.reread_proven(partition, base.id).await?;
        self.catalog.head_files(&proven.manifest).await?;
        let place = self.plane_folder(partition);
        let mut files = proven.manifest.references.iter();
        if files.any(|file| folder.is_suspicious(file)) {
            // It shares a file with a damaged snapshot: one block of many proves nothing.
            let (manifest, all) = (&proven.manifest, plane::Scope::All);
            plane::verify_full(&self.plane, &place, manifest, all, &self.abort).await?;
            return Ok(proven);
        }
        // Another block each time: the tail of a random id is as good as a die.
        let pick =
            u64::from(self.clock.new_uuid().as_fields().1) ^ self.clock.new_uuid().as_u64_pair().1;
        plane::spot_check(&place, &proven.manifest, pick).await?;
        Ok(proven)
    }
}

const fn block_reason(refusal: Option<Refusal>) -> BlockReason {
    match refusal {
        Some(Refusal::Held) => BlockReason::Held,
        Some(Refusal::NotApplied | Refusal::NotPersisted) => BlockReason::NotApplied,
        Some(Refusal::TermMismatch) => BlockReason::TermMismatch,
        Some(Refusal::LineageMismatch | Refusal::BootIdMismatch | Refusal::NotHosted) => {
            BlockReason::Changed
        }
        _ => BlockReason::Broker,
    }
}

fn unproven_reason(cause: &Cause) -> BlockReason {
    match cause {
        Cause::Catalog(error) if error.is_identity() => BlockReason::Identity,
        cause if cause.kind() == Kind::Unavailable => BlockReason::StoreUnavailable,
        _ => BlockReason::Damaged,
    }
}
