//! Marks by hand: a snapshot that must not be used, and one that may be again.

use super::{Found, ToolError, Tools, Which, verify::Check};
use crate::{
    catalog::Snapshot,
    clock::unix_ms,
    format::{CreatedBy, Quarantine, SnapshotId},
    raft::{LogId, TopicPartition},
};

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
        let identity = self.identity().await?;
        let Found { folder, snapshot } = self.find(partition, Which::Id(id)).await?;
        let lineage = &snapshot.manifest.lineage;
        if lineage.cluster_id != identity.cluster_id {
            return Err(ToolError::Stranger {
                id,
                cluster_id: lineage.cluster_id.clone(),
                store_cluster_id: identity.cluster_id,
            });
        }
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

    /// Takes a mark back, after all of the snapshot was read and found right.
    pub async fn unquarantine(&self, snapshot: &Snapshot) -> Result<(), ToolError> {
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
