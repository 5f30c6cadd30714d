//! What retention would keep and what it would evict. The daemon decides again on what the store shows then.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
};

use serde::Serialize;

use super::{Filter, ToolError, Tools};
use crate::{
    catalog::Folder,
    config::TopicFilter,
    format::{Identity, SnapName, SnapshotId},
    policy::{Candidate, Options, Verdict, plan_retention},
    raft::{Lineage, LogId, TopicPartition},
};

/// What retention would do in each folder.
#[derive(Debug, Serialize)]
pub struct RetentionReport {
    /// Partitions, sorted.
    pub partitions: Vec<PartitionRetention>,
}

/// What retention would do in one folder.
#[derive(Debug, Serialize)]
pub struct PartitionRetention {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Why nothing at all is deleted here; none = that is decided for each snapshot.
    pub blocked: Option<String>,
    /// The present incarnation has snapshots of more than one life of the topic: the daemon evicts only those of the life
    /// that its broker hosts.
    pub several_lives: bool,
    /// Snapshots, newest first.
    pub snapshots: Vec<SnapshotRetention>,
    /// `.snap` files that nothing kept points into: they go `DELETE_GRACE_SECS` later.
    pub files: Vec<UnusedFile>,
}

/// What becomes of one snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotRetention {
    /// Its id.
    pub snapshot_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// Life of the topic.
    pub topic_id: String,
    /// Where it ends.
    pub last_included: LogId,
    /// True = it goes.
    pub evict: bool,
    /// Why.
    pub reason: &'static str,
}

/// A file that would not be needed any more.
#[derive(Debug, Clone, Serialize)]
pub struct UnusedFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
}

/// What the plan depends on beside the folder.
pub struct RetentionRules<'a> {
    /// Whose the store is.
    pub identity: &'a Identity,
    /// `RETENTION` and `RETENTION_COUNT`.
    pub policy: &'a Options,
    /// Topics that are looked after.
    pub topics: &'a TopicFilter,
}

impl Tools {
    /// What retention would do, by the plan that the daemon makes.
    pub async fn retention(
        &self,
        filter: Option<&Filter>,
        policy: &Options,
        topics: &TopicFilter,
    ) -> Result<RetentionReport, ToolError> {
        let identity = self.identity().await?;
        let rules = RetentionRules {
            identity: &identity,
            policy,
            topics,
        };
        let mut partitions = Vec::new();
        for partition in self.partitions(filter).await? {
            let folder = match filter {
                Some(Filter::Partition(_)) => self.folder(&partition).await?,
                _ => self.catalog.look(&partition).await?,
            };
            partitions.push(rules.of_folder(&folder));
        }
        Ok(RetentionReport { partitions })
    }
}

impl RetentionRules<'_> {
    /// What becomes of each snapshot in a folder, and which files that frees.
    pub fn of_folder(&self, folder: &Folder) -> PartitionRetention {
        let TopicPartition { topic, partition } = folder.partition.clone();
        let present: BTreeSet<&Lineage> = folder
            .snapshots
            .iter()
            .map(|it| &it.manifest.lineage)
            .filter(|lineage| self.is_present(lineage))
            .collect();
        let blocked = self.blocked(folder);
        let verdicts: BTreeMap<SnapshotId, Verdict> = present
            .iter()
            .flat_map(|lineage| verdicts(folder, lineage, self.policy.retention_count))
            .collect();
        let judge = |id| match (&blocked, verdicts.get(&id)) {
            (_, None) => (false, "other_life"),
            (Some(_), Some(Verdict::Evict(_))) => (false, "blocked"),
            (_, Some(Verdict::Keep(reason))) => (false, reason.as_str()),
            (None, Some(Verdict::Evict(reason))) => (true, reason.as_str()),
        };
        let snapshots: Vec<_> = super::list::in_order(folder)
            .into_iter()
            .map(|it| {
                let (evict, reason) = judge(it.id);
                SnapshotRetention {
                    snapshot_id: it.id.to_string(),
                    incarnation: it.manifest.lineage.incarnation,
                    topic_id: it.manifest.lineage.topic_id.clone(),
                    last_included: it.last_included(),
                    evict,
                    reason,
                }
            })
            .collect();
        let goes = |id: SnapshotId| judge(id).0;
        PartitionRetention {
            files: match blocked {
                Some(_) => Vec::new(),
                None => unused(folder, goes),
            },
            topic,
            partition,
            several_lives: present.len() > 1,
            snapshots,
            blocked,
        }
    }

    fn is_present(&self, lineage: &Lineage) -> bool {
        lineage.cluster_id == self.identity.cluster_id
            && lineage.incarnation == self.identity.incarnation
    }

    fn blocked(&self, folder: &Folder) -> Option<String> {
        if let Some(unreadable) = folder.unreadable.first() {
            let (name, problem) = (&unreadable.name, &unreadable.problem);
            return Some(format!("{name} cannot be read: {problem}"));
        }
        if !self.policy.retention {
            return Some("RETENTION is false".to_owned());
        }
        let topic = &folder.partition.topic;
        (!self.topics.matches(topic))
            .then(|| format!("TOPICS_INCLUDE and TOPICS_EXCLUDE leave {topic} out"))
    }
}

fn verdicts(folder: &Folder, lineage: &Lineage, count: NonZeroUsize) -> Vec<(SnapshotId, Verdict)> {
    let plan = plan_retention(&folder.retention_candidates(lineage), count);
    let verdicts = plan.verdicts.into_iter();
    verdicts
        .map(|(candidate, verdict)| (candidate.key, verdict))
        .collect()
}

/// What goes as soon as one more snapshot of the lineage is proven, oldest first.
pub(super) fn evicted_next(
    folder: &Folder,
    lineage: &Lineage,
    count: NonZeroUsize,
) -> Vec<SnapshotId> {
    let mut candidates = folder.retention_candidates(lineage);
    let newest = candidates.iter().map(|it| it.last_included).max();
    let LogId { term, index } = newest.unwrap_or_default();
    candidates.push(Candidate {
        key: SnapshotId::MAX,
        last_included: LogId::new(term, index.saturating_add(1)),
        proven: true,
        quarantined: false,
        pinned: false,
    });
    let plan = plan_retention(&candidates, count);
    plan.evictions()
        .map(|(candidate, _)| candidate.key)
        .collect()
}

/// Files that no manifest would point into.
fn unused(folder: &Folder, goes: impl Fn(SnapshotId) -> bool) -> Vec<UnusedFile> {
    let kept = folder.snapshots.iter().filter(|it| !goes(it.id));
    let needed: BTreeSet<SnapName> = kept
        .flat_map(|it| it.manifest.references.iter())
        .filter_map(|name| name.parse().ok())
        .collect();
    let files = folder.files.iter();
    files
        .filter(|(name, _)| !needed.contains(name))
        .map(|(name, size_bytes)| UnusedFile {
            name: name.to_string(),
            size_bytes: *size_bytes,
        })
        .collect()
}
