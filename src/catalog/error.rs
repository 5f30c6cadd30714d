//! What can go wrong with the catalog.

use thiserror::Error;

use crate::{error::Kind, format::FormatError, store::StoreError};

/// Errors of the catalog.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object's bytes break the format.
    #[error("{key}: {source}")]
    Format {
        /// The object.
        key: String,
        /// The broken rule.
        source: FormatError,
    },
    /// A manifest lies in another partition's folder.
    #[error(
        "{key} is the manifest of a snapshot of {partition}: it does not belong into this folder"
    )]
    WrongFolder {
        /// The object.
        key: String,
        /// Whose it is.
        partition: crate::raft::TopicPartition,
    },
    /// An object of ours could not be written as bytes.
    #[error("what is to be written breaks the format: {0}")]
    Encode(FormatError),
    /// No identity although logs were truncated: this is not the place the snapshots went to.
    #[error(
        "the store has no identity object below {prefix:?}, but logs of cluster {cluster_id} were truncated already: \
         check bucket and prefix; if the old snapshots are really gone, run `chronik-snapshotd init --adopt`"
    )]
    IdentityMissing {
        /// Where it was looked for.
        prefix: String,
        /// The broker's cluster.
        cluster_id: String,
    },
    /// The store belongs to another cluster or another life of it.
    #[error(
        "the store belongs to cluster {store_cluster_id} (incarnation {store_incarnation}), the broker to \
         {broker_cluster_id} (incarnation {broker_incarnation}): nothing is written or deleted; check bucket and prefix"
    )]
    IdentityMismatch {
        /// In the store.
        store_cluster_id: String,
        /// In the store.
        store_incarnation: u64,
        /// Of the broker.
        broker_cluster_id: String,
        /// Of the broker.
        broker_incarnation: u64,
    },
    /// Two identities with the highest incarnation: two restores ran at once.
    #[error(
        "the store has two identities of incarnation {incarnation}: two restores ran at once; an operator must \
         remove the wrong one below {prefix:?}"
    )]
    IdentityAmbiguous {
        /// The number.
        incarnation: u64,
        /// Where they are.
        prefix: String,
    },
    /// The identity written is not the identity read back.
    #[error("the identity object {key} was written but reads back differently")]
    IdentityLost {
        /// The object.
        key: String,
    },
    /// Another object is under a name that only we could have written.
    #[error("{key} exists already with other bytes")]
    Occupied {
        /// The object.
        key: String,
    },
    /// A plan under the name of another one.
    #[error("{key} is the plan of restore {restore_uuid}: it does not belong under this name")]
    WrongPlan {
        /// The object.
        key: String,
        /// Whose it is.
        restore_uuid: uuid::Uuid,
    },
    /// A file that the manifest points into is being deleted or is gone.
    #[error(
        "{file} is {state}: nothing may rest on the snapshot, and the next one does not point into this file"
    )]
    Undermined {
        /// The `.snap` file.
        file: String,
        /// "flagged for deletion", "gone", "of another size" or "used by a snapshot that does not verify".
        state: &'static str,
    },
    /// A manifest was listed and is gone.
    #[error("{name} was listed and is gone: the folder is changing, look again")]
    Vanished {
        /// The object.
        name: String,
    },
    /// The snapshot is marked.
    #[error("{snapshot_id} is quarantined: nothing may rest on it")]
    Quarantined {
        /// The snapshot.
        snapshot_id: String,
    },
    /// The manifest that a proof speaks of is another one.
    #[error("the proof of {snapshot_id} was written for another manifest")]
    ProofMismatch {
        /// The snapshot.
        snapshot_id: String,
    },
    /// Something in the folder cannot be understood, so nothing in it is deleted.
    #[error("nothing is deleted: {name} cannot be read ({problem})")]
    DeletionBlocked {
        /// The object.
        name: String,
        /// Why not.
        problem: String,
    },
}

impl CatalogError {
    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Format { source, .. } => source.kind(),
            Self::Encode(_) => Kind::Internal,
            Self::IdentityMissing { .. }
            | Self::IdentityMismatch { .. }
            | Self::IdentityAmbiguous { .. }
            | Self::DeletionBlocked { .. } => Kind::Invalid,
            Self::WrongFolder { .. }
            | Self::WrongPlan { .. }
            | Self::IdentityLost { .. }
            | Self::ProofMismatch { .. } => Kind::Corrupt,
            Self::Occupied { .. } | Self::Undermined { .. } | Self::Quarantined { .. } => {
                Kind::Conflict
            }
            Self::Vanished { .. } => Kind::Unavailable,
        }
    }

    /// True when the store is not (or not provably) this cluster's.
    pub fn is_identity(&self) -> bool {
        matches!(
            self,
            Self::IdentityMissing { .. }
                | Self::IdentityMismatch { .. }
                | Self::IdentityAmbiguous { .. }
                | Self::IdentityLost { .. }
        )
    }
}
