//! What the daemon would ask its broker to truncate, and what holds the rest. Nothing is asked.

use serde::Serialize;

use super::{ToolError, Tools};
use crate::{
    broker::Broker,
    catalog::{ClusterClaim, Snapshot},
    policy::{CompactionPlan, NoCut, Options, plan_compaction, truncation_debt},
    raft::{Lineage, LogId, TopicPartition},
};

/// How far a log would be cut.
#[derive(Debug, Serialize)]
pub struct CutReport {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Role of the broker's replica.
    pub role: &'static str,
    /// Highest applied index (inclusive).
    pub applied_index: u64,
    /// Lowest index in the log.
    pub first_log_index: u64,
    /// Highest index in the log (inclusive).
    pub last_log_index: u64,
    /// Lowest index that the broker holds; 0 = none.
    pub hold_index: u64,
    /// Why, in the broker's words.
    pub hold_reason: String,
    /// `TRAILING_ENTRIES`.
    pub trailing_entries: u64,
    /// The proven snapshot that covers the cut; empty = none.
    pub base_snapshot_id: String,
    /// Where it ends.
    pub base: Option<LogId>,
    /// Highest index that would be dropped (inclusive); none = nothing would be.
    pub through_index: Option<u64>,
    /// Entries that would be dropped.
    pub entries: u64,
    /// Entries that the snapshot covers beyond the trailing ones, dropped or not.
    pub covered_entries: u64,
    /// What holds what is not dropped: `held`, `disabled`, `no_base`, `already_cut` or `diverged`; none = nothing does.
    pub held_by: Option<&'static str>,
}

impl Tools {
    /// Asks the broker for its replica and the store for its snapshots, and plans as the daemon does.
    pub async fn cut(
        &self,
        broker: &dyn Broker,
        partition: &TopicPartition,
        policy: &Options,
    ) -> Result<CutReport, ToolError> {
        let info = broker.describe().await?;
        let claim = ClusterClaim {
            cluster_id: info.cluster_id.clone(),
            incarnation: info.incarnation,
            any_log_compacted: info.any_log_compacted,
        };
        self.catalog.compare_identity(&claim).await?;
        let replicas = broker.list_replicas(Some(partition)).await?;
        let Some(replica) = replicas.into_iter().next() else {
            let partition = partition.clone();
            return Err(ToolError::NotHosted { partition });
        };
        let lineage = Lineage {
            cluster_id: info.cluster_id,
            incarnation: info.incarnation,
            topic_id: replica.topic_id,
        };
        let folder = self.catalog.look(partition).await?;
        let facts = &replica.facts;
        let codecs = &info.accepted_state_codecs;
        let base = folder.compaction_base(&lineage, facts.applied_index, codecs);
        let end = base.map(Snapshot::last_included);
        let debt = truncation_debt(facts, end, policy);
        let (through_index, held_by) = match plan_compaction(facts, end, policy) {
            CompactionPlan::Cut { .. } if folder.diverged(&lineage) => (None, Some("diverged")),
            CompactionPlan::Cut { through_index, .. } => {
                let held_by = debt.and_then(|debt| debt.held_by);
                (Some(through_index), held_by.map(NoCut::as_str))
            }
            CompactionPlan::Keep(reason) => (None, Some(reason.as_str())),
        };
        let entries = through_index.map_or(0, |through| through + 1 - facts.first_log_index);
        Ok(CutReport {
            topic: partition.topic.clone(),
            partition: partition.partition,
            role: facts.role.as_str(),
            applied_index: facts.applied_index,
            first_log_index: facts.first_log_index,
            last_log_index: facts.last_log_index,
            hold_index: facts.hold_index,
            hold_reason: replica.hold_reason,
            trailing_entries: policy.trailing_entries,
            base_snapshot_id: base.map(|base| base.id.to_string()).unwrap_or_default(),
            base: end,
            through_index,
            entries,
            covered_entries: debt.map_or(0, |debt| debt.entries),
            held_by,
        })
    }
}
