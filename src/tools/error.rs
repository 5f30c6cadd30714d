//! What can go wrong with an operator's tool.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    broker::BrokerError,
    catalog::CatalogError,
    error::Kind,
    format::{FormatError, SnapshotId},
    pipeline::plane::ReadError,
    raft::TopicPartition,
    store::StoreError,
};

/// Errors of the tools.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The store could not be read, or is not what it must be.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// An object breaks the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A snapshot could not be read, or is damaged.
    #[error("{partition}: {id} could not be read")]
    Read {
        /// Whose.
        partition: TopicPartition,
        /// Which.
        id: SnapshotId,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// No folder.
    #[error(
        "the store was read and holds nothing of {partition} (below {prefix}); `chronik-snapshotd list` shows what it holds"
    )]
    NoPartition {
        /// Which.
        partition: TopicPartition,
        /// Where it was looked for.
        prefix: String,
    },
    /// No such snapshot.
    #[error(
        "the store was read and holds no snapshot {id} of {partition}; `chronik-snapshotd list {partition}` shows what it holds"
    )]
    NoSnapshot {
        /// Whose.
        partition: TopicPartition,
        /// Which.
        id: SnapshotId,
    },
    /// Nothing that `latest` could mean.
    #[error(
        "{partition} has no proven snapshot of the cluster's last life that is not quarantined; there are {unproven} others, and \
         {unreadable} that cannot be read: name one by its id"
    )]
    NoneProven {
        /// Whose.
        partition: TopicPartition,
        /// Committed ones of every kind.
        unproven: usize,
        /// Those whose manifest cannot be read.
        unreadable: usize,
    },
    /// `latest` could mean two.
    #[error(
        "{partition} has snapshots of two lives of the topic ({first} and {second}), and only the broker knows which one is the \
         present one: name a snapshot by its id"
    )]
    Ambiguous {
        /// Whose.
        partition: TopicPartition,
        /// One life.
        first: String,
        /// Another.
        second: String,
    },
    /// A manifest that cannot be understood.
    #[error("{name} cannot be read: {problem}")]
    Unreadable {
        /// The object.
        name: String,
        /// Why not.
        problem: String,
    },
    /// No identity.
    #[error(
        "the store has no identity below {prefix:?}: check bucket and prefix, or claim it with `chronik-snapshotd init`"
    )]
    Unclaimed {
        /// Where it was looked for.
        prefix: String,
    },
    /// The broker hosts no such replica.
    #[error("the broker has no replica of {partition}")]
    NotHosted {
        /// Which.
        partition: TopicPartition,
    },
    /// A copy onto itself, or into itself.
    #[error(
        "source (prefix {from:?}) and target (prefix {to:?}) are in one bucket and one lies inside the other: choose a prefix beside          the first"
    )]
    SamePlace {
        /// Prefix of the source.
        from: String,
        /// Prefix of the target.
        to: String,
    },
    /// A target that is not the same cluster's.
    #[error(
        "the target belongs to cluster {cluster_id} (incarnation {incarnation}), the source to {source_cluster_id} (incarnation          {source_incarnation}): nothing was copied"
    )]
    TargetOfAnother {
        /// Of the target.
        cluster_id: String,
        /// Of the target.
        incarnation: u64,
        /// Of the source.
        source_cluster_id: String,
        /// Of the source.
        source_incarnation: u64,
    },
    /// A target that is nobody's and not empty.
    #[error(
        "the target belongs to no cluster and is not empty ({key} is there): nothing was copied; choose an empty prefix"
    )]
    TargetInUse {
        /// Something that is there.
        key: String,
    },
    /// Something else is there.
    #[error(
        "the target has something else at {key}: nothing there is replaced; choose another target, or look at that object"
    )]
    Different {
        /// The object.
        key: String,
    },
    /// A snapshot of another cluster.
    #[error(
        "{id} is a snapshot of cluster {cluster_id}, the store belongs to {store_cluster_id}: it is left alone"
    )]
    Stranger {
        /// Which.
        id: SnapshotId,
        /// Whose.
        cluster_id: String,
        /// Whose the store is.
        store_cluster_id: String,
    },
    /// Retention was faster.
    #[error("{id} was evicted while it was pinned: pin a newer one, or raise RETENTION_COUNT")]
    EvictedMeanwhile {
        /// Which.
        id: SnapshotId,
    },
    /// A mark that a sidecar set, which nobody has said may go.
    #[error(
        "{id} was marked by broker {broker_id}'s sidecar ({reason}): its bytes may be right and its history lost; \
         with --force the mark goes all the same"
    )]
    MarkedBySidecar {
        /// Which.
        id: SnapshotId,
        /// Whose sidecar.
        broker_id: i32,
        /// What the mark says.
        reason: String,
    },
    /// A mark that is still deserved.
    #[error("{id} does not verify ({problem}): its mark stays")]
    StillDamaged {
        /// Which.
        id: SnapshotId,
        /// The first damage.
        problem: String,
    },
    /// What arrived is not the part.
    #[error("part {part_id} does not have the digest of its manifest")]
    PartDamaged {
        /// The part.
        part_id: String,
    },
    /// The local file system failed.
    #[error("{}: {what}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something else is where the result would go.
    #[error("{} {problem}", path.display())]
    Occupied {
        /// The file or directory.
        path: PathBuf,
        /// What is in the way, and what to do.
        problem: String,
    },
    /// A local file could not be written to its end.
    #[error("the output was closed")]
    OutputClosed(#[source] io::Error),
    /// The command was ended by a signal.
    #[error("cancelled")]
    Cancelled,
}

impl ToolError {
    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Broker(error) => error.kind(),
            Self::Format(error) => error.kind(),
            Self::Read { source, .. } => source.kind(),
            Self::Unreadable { .. } | Self::StillDamaged { .. } | Self::PartDamaged { .. } => {
                Kind::Corrupt
            }
            Self::NoPartition { .. }
            | Self::NoSnapshot { .. }
            | Self::NoneProven { .. }
            | Self::NotHosted { .. }
            | Self::EvictedMeanwhile { .. }
            | Self::Unclaimed { .. }
            | Self::MarkedBySidecar { .. }
            | Self::Stranger { .. }
            | Self::SamePlace { .. }
            | Self::TargetOfAnother { .. }
            | Self::TargetInUse { .. }
            | Self::Different { .. }
            | Self::Ambiguous { .. }
            | Self::Occupied { .. }
            | Self::File { .. } => Kind::Invalid,
            Self::OutputClosed(_) | Self::Cancelled => Kind::Cancelled,
        }
    }

    /// True when everything could be read and what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::NoPartition { .. }
                | Self::NoSnapshot { .. }
                | Self::NoneProven { .. }
                | Self::NotHosted { .. }
                | Self::EvictedMeanwhile { .. }
        )
    }

    pub(super) fn file(
        path: impl Into<PathBuf>,
        what: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, what, source }
    }
}
