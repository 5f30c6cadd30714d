//! Marks by hand: a snapshot that must not be used, and one that may be again; a snapshot that retention must keep.

use std::time::Duration;

use super::{Found, ToolError, Tools, Which, verify::Check};
use crate::{
    catalog::{CatalogError, Snapshot},
    clock::unix_ms,
    format::{CreatedBy, Quarantine, SnapshotId},
    raft::{LogId, TopicPartition},
};

/// Beyond the time that one request of a deleter can take, retries included.
const LOOK_AGAIN_MARGIN: Duration = Duration::from_secs(2);

/// Stands for the broker id of what an operator wrote.
pub const BY_HAND: i32 = -1;

/// What marking a snapshot, or taking the mark back, would change.
pub struct MarkPlan {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The newest good one of its lineage now.
    pub newest_before: Option<LogId>,
    /// The newest good one of its lineage after that.
    pub newest_after: Option<LogId>,
}

impl Tools {
    /// What a mark on this snapshot would change, or its removal.
    pub async fn plan_mark(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
        quarantined: bool,
    ) -> Result<MarkPlan, ToolError> {
        let Found { folder, snapshot } = self.find_own(partition, id).await?;
        let lineage = &snapshot.manifest.lineage;
        let good_after = |it: &&Snapshot| {
            if it.id == id {
                it.proof.is_some() && !quarantined
            } else {
                it.is_good()
            }
        };
        let newest_after = folder.of_lineage(lineage).find(good_after);
        Ok(MarkPlan {
            newest_before: folder.newest_proven(lineage).map(Snapshot::last_included),
            newest_after: newest_after.map(Snapshot::last_included),
            snapshot,
        })
    }

    /// A snapshot of the cluster whose store this is.
    async fn find_own(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<Found, ToolError> {
        let identity = self.identity().await?;
        let found = self.find(partition, Which::Id(id)).await?;
        let cluster_id = &found.snapshot.manifest.lineage.cluster_id;
        if *cluster_id != identity.cluster_id {
            return Err(ToolError::Stranger {
                id,
                cluster_id: cluster_id.clone(),
                store_cluster_id: identity.cluster_id,
            });
        }
        Ok(found)
    }

    /// Marks a snapshot that retention must keep; false = it was marked already. Looks twice that it is still there: a
    /// daemon may have been about to evict it.
    pub async fn pin(&self, partition: &TopicPartition, id: SnapshotId) -> Result<bool, ToolError> {
        let found = self.find_own(partition, id).await?;
        if found.snapshot.pinned {
            return Ok(false);
        }
        self.catalog.pin(partition, id).await?;
        for wait in [Duration::ZERO, self.deleters_have_ended()] {
            tokio::time::sleep(wait).await;
            match self.catalog.read_manifest(partition, id).await {
                Err(CatalogError::Store(error)) if error.is_not_found() => {
                    self.catalog.unpin(partition, id).await?;
                    return Err(ToolError::EvictedMeanwhile { id });
                }
                read => drop(read?),
            }
        }
        Ok(true)
    }

    /// A deleter that looked for pins before one was written has had its answer, or has given up, by then.
    fn deleters_have_ended(&self) -> Duration {
        self.catalog.store().options().metadata_timeout + LOOK_AGAIN_MARGIN
    }

    /// Takes that mark back; false = there was none.
    pub async fn unpin(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<bool, ToolError> {
        let found = self.find_own(partition, id).await?;
        self.catalog.unpin(partition, id).await?;
        Ok(found.snapshot.pinned)
    }

    async fn check_by_hand(&self, snapshot: &Snapshot) -> Result<(), ToolError> {
        let partition = &snapshot.manifest.partition;
        let mark = self.catalog.read_quarantine(partition, snapshot.id).await?;
        match mark.filter(|mark| mark.by.broker_id != BY_HAND) {
            None => Ok(()),
            Some(mark) => Err(ToolError::MarkedBySidecar {
                id: snapshot.id,
                broker_id: mark.by.broker_id,
                reason: mark.reason,
            }),
        }
    }

    /// Marks a snapshot: nothing rests on it any more, and it is never deleted.
    pub async fn quarantine(&self, snapshot: &Snapshot, reason: &str) -> Result<(), ToolError> {
        let by = CreatedBy {
            broker_id: BY_HAND,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let at = unix_ms(self.clock.wall());
        let mark = Quarantine::new(snapshot.id, snapshot.digest, reason, at, by);
        let partition = &snapshot.manifest.partition;
        Ok(self.catalog.quarantine(partition, &mark).await?)
    }

    /// Takes a mark back, after all of the snapshot was read and found right. A sidecar also marks what is whole and of a
    /// history that is gone, which no reading shows: its marks go only with `force`, and so does one that cannot be read.
    pub async fn unquarantine(&self, snapshot: &Snapshot, force: bool) -> Result<(), ToolError> {
        if !force {
            self.check_by_hand(snapshot).await?;
        }
        if let Some(problem) = self.problem(snapshot, Check::Deep).await? {
            return Err(ToolError::StillDamaged {
                id: snapshot.id,
                problem,
            });
        }
        let partition = &snapshot.manifest.partition;
        Ok(self.catalog.unquarantine(partition, snapshot.id).await?)
    }
}
