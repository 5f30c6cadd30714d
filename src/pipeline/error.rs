//! Errors of the pipeline: what failed, at which stage, for which partition and snapshot. Wrapped once, here.

use std::fmt;

use thiserror::Error;

use super::plane::{ReadError, WriteError};
use crate::{
    broker::{BrokerError, Refusal},
    catalog::CatalogError,
    error::Kind,
    format::SnapshotId,
    raft::TopicPartition,
};

/// Where in a visit or restore something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Checking whose store it is.
    Identity,
    /// Listing the partition's folder.
    Look,
    /// Asking the broker for the state.
    Export,
    /// Compressing and uploading it.
    Upload,
    /// Writing the manifest.
    Commit,
    /// Reading back and writing the proof.
    Verify,
    /// Truncating the broker's log.
    Compact,
    /// Planning and retiring old snapshots.
    Retention,
    /// Deleting unreferenced files.
    Sweep,
    /// Sending a snapshot to the broker.
    Restore,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Look => "look",
            Self::Export => "export",
            Self::Upload => "upload",
            Self::Commit => "commit",
            Self::Verify => "verify",
            Self::Compact => "compact",
            Self::Retention => "retention",
            Self::Sweep => "sweep",
            Self::Restore => "restore",
        })
    }
}

/// A failure of the pipeline.
#[derive(Debug, Error)]
#[error("{stage} of {partition}{} failed: {cause}", snapshot_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default())]
pub struct PipelineError {
    /// Where.
    pub stage: Stage,
    /// For which partition.
    pub partition: TopicPartition,
    /// For which snapshot, once it has a name.
    pub snapshot_id: Option<String>,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// Why a stage failed.
#[derive(Debug, Error)]
pub enum Cause {
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Writing blocks.
    #[error(transparent)]
    Write(#[from] WriteError<BrokerError>),
    /// Reading blocks.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What arrived is not what the broker says it sent.
    #[error(
        "part {part_id:?}: the bytes that arrived have another {what} than the broker's trailer says"
    )]
    DigestMismatch {
        /// The part.
        part_id: String,
        /// "size", "CRC32" or "XXH3-128".
        what: &'static str,
    },
    /// The broker said it truncated, and did not.
    #[error(
        "the broker answered that its log starts at {answered}, but it still starts at {observed}"
    )]
    NotCompacted {
        /// From the answer.
        answered: u64,
        /// From `ListReplicas` afterwards.
        observed: u64,
    },
    /// The local replica's term at the snapshot's index is another one.
    #[error(
        "the logs of this partition have diverged; nothing is truncated or deleted until an operator has looked"
    )]
    Diverged,
    /// The leader's log ends before a snapshot of its own lineage.
    #[error(
        "the leader's log ends at {last_log_index} and {snapshot_id} is of this life of the topic: the brokers went back to \
         an earlier state; snapshots beyond are set aside and kept, and hold what is gone from the brokers"
    )]
    WentBack {
        /// Where the log ends.
        last_log_index: u64,
        /// The snapshot that ends beyond.
        snapshot_id: SnapshotId,
    },
    /// The process is stopping.
    #[error("cancelled: the process is stopping")]
    Cancelled,
}

impl Cause {
    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Broker(error) => error.kind(),
            Self::Catalog(error) => error.kind(),
            Self::Write(error) => error.kind(BrokerError::kind),
            Self::Read(error) => error.kind(),
            Self::DigestMismatch { .. } | Self::Diverged | Self::WentBack { .. } => Kind::Corrupt,
            Self::NotCompacted { .. } => Kind::Invalid,
            Self::Cancelled => Kind::Cancelled,
        }
    }
}

impl PipelineError {
    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        self.cause.kind()
    }

    /// The snapshot at whose end the broker's own term is another one, if that is what failed.
    pub fn refused_base(&self) -> Option<SnapshotId> {
        let term_mismatch = matches!(&self.cause, Cause::Broker(error) if error.refusal() == Some(Refusal::TermMismatch));
        let id = self.snapshot_id.as_ref().filter(|_| term_mismatch)?;
        id.parse().ok()
    }

    /// True when the store, not the broker, is what failed.
    pub fn is_store(&self) -> bool {
        match &self.cause {
            Cause::Catalog(_) | Cause::Read(_) => true,
            Cause::Write(error) => matches!(error, WriteError::Store(_)),
            _ => false,
        }
    }
}

/// Names the stage, partition and snapshot of whatever fails in them.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) stage: Stage,
    pub(super) partition: TopicPartition,
    pub(super) snapshot_id: Option<String>,
}

impl Scope {
    pub(super) fn new(stage: Stage, partition: &TopicPartition) -> Self {
        Self {
            stage,
            partition: partition.clone(),
            snapshot_id: None,
        }
    }

    pub(super) fn snapshot(mut self, id: impl fmt::Display) -> Self {
        self.snapshot_id = Some(id.to_string());
        self
    }

    pub(super) fn error(self, cause: impl Into<Cause>) -> PipelineError {
        PipelineError {
            stage: self.stage,
            partition: self.partition,
            snapshot_id: self.snapshot_id,
            cause: cause.into(),
        }
    }
}
