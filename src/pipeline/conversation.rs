//! The words of a restore: what is asked for, what the two sides tell each other, how it ends.

use std::{fmt::Display, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;
use uuid::Uuid;

use super::PipelineError;
use crate::{
    error::Kind,
    format::{Manifest, SnapshotId},
    raft::{Lineage, LogId, TopicPartition},
};

/// What the broker found on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalState {
    /// Nothing, and the cluster expects nothing.
    Absent,
    /// Log, term and vote.
    Intact,
    /// Nothing, but the cluster knows of a replica.
    Lost,
}

/// What a restore is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// The Raft group.
    pub partition: TopicPartition,
    /// Its lineage.
    pub lineage: Lineage,
    /// What is on the disk.
    pub local_state: LocalState,
    /// Greatest index known to be truncated anywhere (inclusive); 0 = none.
    pub min_index: u64,
    /// State encodings the broker can install.
    pub accepted_state_codecs: Vec<String>,
    /// The broker's boot id.
    pub boot_id: String,
    /// The restore that the broker takes part in as one of the first voters of the new incarnation.
    pub restore_uuid: Option<Uuid>,
}

/// Phases of a restore, for progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestorePhase {
    /// Reading identity and manifests.
    Choosing,
    /// Sending.
    Sending,
    /// Waiting for the broker's answer.
    Installing,
}

/// What the sidecar sends.
#[derive(Debug, Clone)]
pub enum RestoreEvent {
    /// A snapshot begins.
    Begin(Arc<Manifest>),
    /// A piece of it: part and raw bytes.
    Chunk(u32, Bytes),
    /// It is complete.
    End(Arc<Manifest>),
    /// It is damaged: drop it.
    Abandon(SnapshotId, String),
}

/// Why the broker did not take a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// Bytes or digests.
    Corrupt,
    /// Its configuration.
    ConfState,
    /// Its encoding.
    Codec,
    /// Its lineage.
    Lineage,
    /// The broker's disk.
    Io,
    /// The replica has state by now.
    NotEmpty,
}

/// The broker's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Durable on its disk.
    Installed {
        /// Which snapshot.
        snapshot_id: String,
        /// Where it ends.
        last_included: LogId,
    },
    /// Not taken.
    Rejected {
        /// Why.
        reason: RejectReason,
        /// Its words.
        detail: String,
    },
}

/// The other end is gone, or broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the broker closed the conversation")]
pub struct SinkClosed;

/// The broker's side of one conversation. Implementations bound what they buffer: `send` waits.
#[async_trait]
pub trait RestoreSink: Send {
    /// Tells the phase and the progress; never waits.
    fn progress(&mut self, phase: RestorePhase, sent_bytes: u64, total_bytes: u64);

    /// Sends one event.
    async fn send(&mut self, event: RestoreEvent) -> Result<(), SinkClosed>;

    /// An answer that has already arrived, without waiting.
    fn early_answer(&mut self) -> Option<Answer>;

    /// Waits for the answer to a complete snapshot.
    async fn answer(&mut self) -> Result<Answer, SinkClosed>;
}

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// Seeded.
    Installed {
        /// From which snapshot.
        id: SnapshotId,
        /// Where it ends.
        last_included: LogId,
    },
    /// The local state is intact.
    UseLocal,
    /// The store holds nothing of this lineage and nothing was promised.
    NoSnapshot,
    /// Nothing at or above `min_index` is usable.
    NotCovered {
        /// Why.
        detail: String,
    },
}

impl RestoreOutcome {
    /// Label for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Installed { .. } => "installed",
            Self::UseLocal => "use_local",
            Self::NoSnapshot => "no_snapshot",
            Self::NotCovered { .. } => "not_covered",
        }
    }
}

/// Why a restore failed.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A stage failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The lineage is of another cluster than the broker beside us says it is. What it says is for the log: the caller may be
    /// somebody who looks for it.
    #[error(
        "{field} {asked:?} is not that of the broker beside this sidecar; its log says what is"
    )]
    NotOurBroker {
        /// Which.
        field: &'static str,
        /// In the request.
        asked: String,
    },
    /// Snapshots of this lineage exist and none of them verifies.
    #[error(
        "snapshots of {partition} exist and none of them verifies; the last problem: {last_problem}"
    )]
    NoneVerifies {
        /// Which partition.
        partition: TopicPartition,
        /// What was wrong with the last.
        last_problem: String,
    },
    /// The broker cannot take any.
    #[error("the broker gave up: {0}")]
    BrokerGaveUp(String),
    /// The conversation ended.
    #[error(transparent)]
    Closed(#[from] SinkClosed),
}

impl RestoreError {
    /// Tells the log what the caller is not told.
    pub(super) fn not_our_broker(
        field: &'static str,
        asked: &dyn Display,
        actual: &dyn Display,
    ) -> Self {
        tracing::warn!(field, %asked, %actual, "a bootstrap that is not of the broker beside");
        let asked = asked.to_string();
        Self::NotOurBroker { field, asked }
    }

    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Pipeline(error) => error.kind(),
            Self::NotOurBroker { .. } => Kind::Conflict,
            Self::NoneVerifies { .. } => Kind::Corrupt,
            Self::BrokerGaveUp(_) | Self::Closed(_) => Kind::Cancelled,
        }
    }
}
