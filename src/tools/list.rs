//! What the store holds, snapshot by snapshot.

use std::cmp::Reverse;

use serde::Serialize;

use super::{ToolError, Tools};
use crate::{
    catalog::{Folder, Snapshot},
    format::{Codec, Proof},
    policy::VerifyLevel,
    raft::{LogId, TopicPartition},
};

/// Which partitions are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All of a topic.
    Topic(String),
    /// One.
    Partition(TopicPartition),
}

/// Everything that was asked for.
#[derive(Debug, Default, Serialize)]
pub struct Listing {
    /// By partition; of each the last life of the cluster first, and in it the newest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// Manifests that cannot be read.
    pub unreadable: Vec<UnreadableInfo>,
}

/// One committed snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotInfo {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Its id.
    pub snapshot_id: String,
    /// Cluster.
    pub cluster_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// Life of the topic.
    pub topic_id: String,
    /// Last entry in it (inclusive).
    pub last_included: LogId,
    /// By the clock of its writer.
    pub created_at_unix_ms: i64,
    /// Raw bytes of its state.
    pub raw_bytes: u64,
    /// Stored bytes of its blocks, wherever they lie.
    pub stored_bytes: u64,
    /// Those of them that it added to the store.
    pub new_stored_bytes: u64,
    /// 0 = complete; n = the n-th after a complete one.
    pub increment: u32,
    /// How its blocks are stored.
    pub codec: Codec,
    /// The broker's name for the encoding of the state.
    pub state_codec: String,
    /// Parts of its state.
    pub parts: usize,
    /// The `.snap` files that it needs.
    pub files: Vec<String>,
    /// A proof says that it was read back; none = not proven.
    pub proven: Option<Verified>,
    /// Marked: must not be used.
    pub quarantined: bool,
    /// Marked: retention keeps it.
    pub pinned: bool,
}

/// What a proof says.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// `full` or `stored`.
    pub verify: &'static str,
    /// By the clock of its writer.
    pub verified_at_unix_ms: i64,
    /// Beside which broker.
    pub broker_id: i32,
}

/// A manifest that cannot be read.
#[derive(Debug, Clone, Serialize)]
pub struct UnreadableInfo {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Its snapshot, from the name.
    pub snapshot_id: String,
    /// Why not.
    pub problem: String,
}

impl Verified {
    fn of(proof: &Proof) -> Self {
        Self {
            verify: match proof.verify {
                VerifyLevel::Full => "full",
                VerifyLevel::Stored => "stored",
            },
            verified_at_unix_ms: proof.verified_at_unix_ms,
            broker_id: proof.verified_by.broker_id,
        }
    }
}

impl Listing {
    /// What is told of a folder.
    pub fn of(folder: &Folder) -> Self {
        let snapshots = in_order(folder).into_iter().map(SnapshotInfo::of);
        let unreadable = folder.unreadable.iter().map(|one| UnreadableInfo {
            topic: folder.partition.topic.clone(),
            partition: folder.partition.partition,
            snapshot_id: one.id.to_string(),
            problem: one.problem.clone(),
        });
        Self {
            snapshots: snapshots.collect(),
            unreadable: unreadable.collect(),
        }
    }
}

impl SnapshotInfo {
    /// What is told of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let manifest = &snapshot.manifest;
        let extents = manifest.file_extents();
        let own = extents.iter().filter(|extent| extent.own);
        let blocks = manifest.parts.iter().flat_map(|part| &part.blocks);
        Self {
            topic: manifest.partition.topic.clone(),
            partition: manifest.partition.partition,
            snapshot_id: snapshot.id.to_string(),
            cluster_id: manifest.lineage.cluster_id.clone(),
            incarnation: manifest.lineage.incarnation,
            topic_id: manifest.lineage.topic_id.clone(),
            last_included: manifest.last_included,
            created_at_unix_ms: manifest.created_at_unix_ms,
            raw_bytes: manifest.raw_bytes(),
            stored_bytes: blocks.map(|block| u64::from(block.stored_len_bytes)).sum(),
            new_stored_bytes: own.map(|extent| extent.end_bytes).sum(),
            increment: manifest.increment,
            codec: manifest.codec,
            state_codec: manifest.state_codec.clone(),
            parts: manifest.parts.len(),
            files: manifest.references.clone(),
            proven: snapshot.proof.as_deref().map(Verified::of),
            quarantined: snapshot.quarantined,
            pinned: snapshot.pinned,
        }
    }
}

impl Tools {
    /// The partitions that have a folder and are meant; a partition that is named and has none is not found.
    pub async fn partitions(
        &self,
        filter: Option<&Filter>,
    ) -> Result<Vec<TopicPartition>, ToolError> {
        if let Some(Filter::Partition(partition)) = filter {
            return Ok(vec![partition.clone()]);
        }
        let mut partitions = self.catalog.partitions().await?;
        if let Some(Filter::Topic(topic)) = filter {
            partitions.retain(|partition| partition.topic == *topic);
            if partitions.is_empty() {
                let partition = TopicPartition {
                    topic: topic.clone(),
                    partition: 0,
                };
                let prefix = self.catalog.keys().folder(&partition);
                return Err(ToolError::NoPartition { partition, prefix });
            }
        }
        Ok(partitions)
    }

    /// Lists snapshots. Complete, or an error.
    pub async fn list(&self, filter: Option<&Filter>) -> Result<Listing, ToolError> {
        let mut listing = Listing::default();
        for partition in self.partitions(filter).await? {
            let folder = match filter {
                Some(Filter::Partition(_)) => self.folder(&partition).await?,
                _ => self.catalog.look(&partition).await?,
            };
            let of_this = Listing::of(&folder);
            listing.snapshots.extend(of_this.snapshots);
            listing.unreadable.extend(of_this.unreadable);
        }
        Ok(listing)
    }
}

/// The snapshots of a folder, newest first: by incarnation, then by log position.
pub(super) fn in_order(folder: &Folder) -> Vec<&Snapshot> {
    let mut snapshots: Vec<_> = folder.snapshots.iter().collect();
    snapshots.sort_by_key(|it| Reverse((it.manifest.lineage.incarnation, it.id)));
    snapshots
}
