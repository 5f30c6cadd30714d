//! What operators do by hand with the snapshots of a store: list, verify, read, restore, copy, mark; and what the daemon
//! would do, without doing it. Returns data and prints nothing; the command line is in front of it.
//!
//! Nothing here deletes a snapshot: that is the daemon's, whose rules need the broker.

mod copy;
mod cut;
mod doctor;
mod drill;
mod error;
mod explain;
mod list;
mod mark;
mod read;
mod retention;
mod verify;

use std::{fmt, str::FromStr, sync::Arc};

use tokio_util::sync::CancellationToken;

pub use copy::{Copied, Copier, CopyWork, Damaged, check_places};
pub use cut::CutReport;
pub use doctor::{Diagnosis, Doctor, Finding, Level};
pub use drill::{DrillState, DrillWork, Drilled, PartitionDrill};
pub use error::ToolError;
pub use explain::{Explanation, Subject};
pub use list::{Filter, Listing, SnapshotInfo, UnreadableInfo, Verified};
pub use mark::{BY_HAND, MarkPlan};
pub use read::Restored;
pub use retention::{PartitionRetention, RetentionReport, SnapshotRetention, UnusedFile};
pub use verify::{Check, State, Subjects, Verdict, Verification, Work};

use crate::{
    catalog::{Catalog, Folder, Snapshot},
    clock::SharedClock,
    error::InvalidName,
    format::{Identity, SnapshotId},
    pipeline::plane::{self, DataPlane},
    raft::TopicPartition,
};

/// A store, and what it takes to work with it.
pub struct Tools {
    /// What the store holds.
    pub catalog: Catalog,
    /// Memory and threads.
    pub plane: DataPlane,
    /// Time and unique ids.
    pub clock: SharedClock,
    /// Ends whatever runs.
    pub abort: CancellationToken,
}

/// Which snapshot of a partition is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest proven one that is not quarantined.
    Latest,
    /// This one.
    Id(SnapshotId),
}

impl FromStr for Which {
    type Err = InvalidWhich;

    fn from_str(text: &str) -> Result<Self, InvalidWhich> {
        match text {
            "latest" => Ok(Self::Latest),
            id => id.parse().map(Self::Id).map_err(|_| InvalidWhich),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// Neither `latest` nor an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither `latest` nor a snapshot id; `chronik-snapshotd list` shows the ids, 87 characters each"
)]
pub struct InvalidWhich;

/// A partition's folder and one snapshot in it.
pub struct Found {
    /// The folder as just listed.
    pub folder: Arc<Folder>,
    /// The snapshot.
    pub snapshot: Snapshot,
}

impl Tools {
    /// A partition's folder. One that holds nothing at all is not found.
    pub async fn folder(&self, partition: &TopicPartition) -> Result<Arc<Folder>, ToolError> {
        let folder = self.catalog.look(partition).await?;
        if folder.is_empty() {
            return Err(ToolError::NoPartition {
                partition: partition.clone(),
                prefix: self.catalog.keys().folder(partition),
            });
        }
        Ok(folder)
    }

    /// The snapshot that is meant.
    pub async fn find(&self, partition: &TopicPartition, which: Which) -> Result<Found, ToolError> {
        let folder = self.folder(partition).await?;
        let snapshot = match which {
            Which::Latest => latest(&folder)?,
            Which::Id(id) => by_id(&folder, id)?,
        };
        Ok(Found {
            snapshot: snapshot.clone(),
            folder,
        })
    }

    /// Whose the store is, and a partition's folder, which may be empty.
    pub async fn folder_of_identity(
        &self,
        partition: &TopicPartition,
    ) -> Result<(Identity, Arc<Folder>), ToolError> {
        let identity = self.identity().await?;
        Ok((identity, self.catalog.look(partition).await?))
    }

    /// A partition's folder, as the data plane sees it.
    pub(crate) fn place(&self, partition: &TopicPartition) -> plane::Folder {
        plane::Folder {
            store: self.catalog.store().clone(),
            prefix: self.catalog.keys().folder(partition),
        }
    }

    /// Whose the store is; one without identity is refused.
    pub(crate) async fn identity(&self) -> Result<Identity, ToolError> {
        let identity = self.catalog.read_identity().await?;
        identity.ok_or_else(|| ToolError::Unclaimed {
            prefix: self.catalog.keys().identity_folder(),
        })
    }
}

/// The newest good snapshot of the last life of the cluster. Two lives of the topic in it cannot be told apart by age
/// here: nothing is guessed.
fn latest(folder: &Folder) -> Result<&Snapshot, ToolError> {
    let lineages = || folder.snapshots.iter().map(|it| &it.manifest.lineage);
    let last = lineages().map(|lineage| lineage.incarnation).max();
    let of_last = |it: &&Snapshot| Some(it.manifest.lineage.incarnation) == last;
    let mut good = folder
        .snapshots
        .iter()
        .filter(of_last)
        .filter(|it| it.is_good());
    let partition = folder.partition.clone();
    let Some(newest) = good.next() else {
        return Err(ToolError::NoneProven {
            partition,
            unproven: folder.snapshots.len(),
            unreadable: folder.unreadable.len(),
        });
    };
    let topic_id = &newest.manifest.lineage.topic_id;
    match good.find(|it| it.manifest.lineage.topic_id != *topic_id) {
        None => Ok(newest),
        Some(other) => Err(ToolError::Ambiguous {
            partition,
            first: topic_id.clone(),
            second: other.manifest.lineage.topic_id.clone(),
        }),
    }
}

fn by_id(folder: &Folder, id: SnapshotId) -> Result<&Snapshot, ToolError> {
    if let Some(snapshot) = folder.find(id) {
        return Ok(snapshot);
    }
    if let Some(unreadable) = folder.unreadable.iter().find(|one| one.id == id) {
        return Err(ToolError::Unreadable {
            name: unreadable.name.clone(),
            problem: unreadable.problem.clone(),
        });
    }
    Err(ToolError::NoSnapshot {
        partition: folder.partition.clone(),
        id,
    })
}

/// A topic, or one partition of it.
impl FromStr for Filter {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains('/') {
            return text.parse().map(Self::Partition);
        }
        // Checks the name as a partition's would be.
        TopicPartition::new(text, 0).map(|it| Self::Topic(it.topic))
    }
}
