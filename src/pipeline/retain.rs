//! Retiring old snapshots: a pure plan, the kept ones looked at first, then manifest and proof of the others.
//! The `.snap` files are left to the sweep.

use super::{
    Pipeline, PipelineError, Stage,
    error::{Cause, Scope},
};
use crate::{
    broker::BrokerInfo,
    catalog::{CatalogError, Folder, SweepReport},
    mutation::{self, Mutation},
    policy::plan_retention,
    raft::Lineage,
    telemetry::{DeleteReason, Operation},
};

/// What retention did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionDone {
    /// Snapshots retired.
    pub retired: usize,
    /// What the sweep did.
    pub sweep: SweepReport,
}

impl Pipeline {
    /// Retires what the plan evicts, then sweeps unreferenced files. Lists the folder anew before each.
    pub(super) async fn retain(
        &self,
        info: &BrokerInfo,
        lineage: &Lineage,
        folder: &Folder,
    ) -> Result<RetentionDone, PipelineError> {
        let partition = &folder.partition;
        self.activity(partition, "retention");
        let scope = |stage| Scope::new(stage, partition);
        self.check_identity(info)
            .await
            .map_err(|cause| scope(Stage::Identity).error(cause))?;
        let retired = self.retire_old(info, lineage, folder).await?;
        let sweep = async {
            let swept = self.sweeper.sweep(&self.catalog, partition).await;
            swept.map_err(|error| scope(Stage::Sweep).error(error))
        };
        let sweep = self.measured(Operation::Sweep, sweep).await?;
        self.metrics.add_orphans_found(sweep.flagged as u64);
        self.metrics
            .add_deleted(DeleteReason::Orphan, sweep.deleted as u64);
        self.metrics
            .add_deleted(DeleteReason::Unfinished, sweep.unfinished as u64);
        Ok(RetentionDone { retired, sweep })
    }

    async fn retire_old(
        &self,
        info: &BrokerInfo,
        lineage: &Lineage,
        folder: &Folder,
    ) -> Result<usize, PipelineError> {
        let partition = &folder.partition;
        let scope = || Scope::new(Stage::Retention, partition);
        let count = self.options.policy.retention_count;
        let nothing_to_evict = |folder: &Folder| {
            plan_retention(&folder.retention_candidates(lineage), count)
                .evictions()
                .next()
                .is_none()
        };
        if nothing_to_evict(folder) && !folder.diverged(lineage) && folder.unreadable.is_empty() {
            return Ok(0);
        }
        // What is about to be destroyed is decided on what the store shows now.
        let folder = self.look(partition).await?;
        if let Some(unreadable) = folder.unreadable.first() {
            return Err(scope().error(CatalogError::DeletionBlocked {
                name: unreadable.name.clone(),
                problem: unreadable.problem.clone(),
            }));
        }
        let plan = plan_retention(&folder.retention_candidates(lineage), count);
        if plan.diverged {
            self.metrics.divergence();
            return Err(scope().error(Cause::Diverged));
        }
        let evictions: Vec<_> = plan
            .evictions()
            .map(|(candidate, reason)| (candidate.key, reason))
            .collect();
        for kept in plan
            .kept()
            .filter(|candidate| candidate.proven && !candidate.quarantined)
            .filter(|_| {
                !mutation::active(Mutation::RetireWithoutLooking)
                    && !mutation::active(Mutation::RetentionCountsUnproven)
            })
        {
            let Some(snapshot) = folder.find(kept.key) else {
                continue;
            };
            // Manifest, proof and mark past every cache, then the files.
            let whole = async {
                let reread = self.catalog.reread_proven(partition, kept.key).await?;
                self.catalog.head_files(&reread.manifest).await
            };
            if let Err(error) = whole.await {
                if matches!(error, CatalogError::Undermined { .. }) {
                    self.quarantine_if_still_corrupt(
                        &self.plane,
                        info,
                        &snapshot.manifest,
                        snapshot.digest,
                    )
                    .await?;
                }
                return Err(scope().snapshot(kept.key).error(error));
            }
        }
        let mut retired = 0;
        for (id, reason) in evictions {
            // An operator may have pinned it since the listing.
            let pinned = self.catalog.is_pinned(partition, id).await;
            let pinned = pinned.map_err(|error| scope().snapshot(id).error(error))?;
            if pinned && !mutation::active(Mutation::PinIgnored) {
                continue;
            }
            self.catalog
                .retire(partition, id)
                .await
                .map_err(|error| scope().snapshot(id).error(error))?;
            self.metrics.add_deleted(reason.into(), 1);
            tracing::info!(%partition, snapshot_id = %id, reason = reason.as_str(), "snapshot retired");
            retired += 1;
        }
        Ok(retired)
    }
}
