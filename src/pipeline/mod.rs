//! The only place that sees broker and store together: forward (`snapshot.rs`), back (`restore.rs`, and `drill.rs` without
//! a broker), and what follows a snapshot (`compact.rs`, `retain.rs`). [`Pipeline::visit`] strings them together for one partition.
//!
//! Data, then commit record, then destruction. The crash table of a visit:
//!
//! | die after | what is left | who goes on |
//! |---|---|---|
//! | export begun | the broker's pinned view | the broker, after 60 s |
//! | upload begun | parts of a multipart upload | our abort; after kill -9 the bucket's lifecycle rule, or in a directory the sweep |
//! | upload complete | a `.snap` without a manifest | the sweep |
//! | manifest written | a committed, unproven snapshot | the next visit adopts it: verifies, proves |
//! | proof written | a proven snapshot, the log still long | the next visit compacts |
//! | log compacted | snapshots beyond the count | the next visit retires them |
//! | manifest deleted | a proof and a `.snap` without a manifest | the sweep |
//! | `.snap` flagged | flags | the next sweep |

mod compact;
mod conversation;
mod drill;
mod error;
mod give_way;
pub mod plane;
mod planned;
mod prove;
pub mod recovery;
mod restore;
mod retain;
mod reuse;
mod snapshot;
mod spans;
mod visit;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub use compact::CompactionDone;
pub use conversation::{
    Answer, LocalState, RejectReason, RestoreError, RestoreEvent, RestoreOutcome, RestorePhase,
    RestoreRequest, RestoreSink, SinkClosed,
};
pub use drill::{DrillOutcome, DrillReport, DrillRequest};
pub use error::{PipelineError, Stage};
pub use retain::RetentionDone;
pub use visit::{AgeOf, VisitReport, VisitRequest};

use crate::{
    board::Board,
    broker::Broker,
    catalog::{Catalog, Sweeper},
    clock::SharedClock,
    format::{Compression, CreatedBy},
    policy::{Options, VerifyLevel},
    raft::TopicPartition,
    telemetry::Metrics,
};
use plane::DataPlane;

/// What the pipeline is told by the operator.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Options of the policies.
    pub policy: Options,
    /// How much is read back.
    pub verify: VerifyLevel,
    /// How new blocks are stored.
    pub compression: Compression,
    /// Every so many snapshots of a partition one is complete; 1 = all of them.
    pub full_every: NonZeroU32,
    /// An export that brings no message for this long is given up.
    pub progress_timeout: Duration,
    /// Longest time for which a leader that was deposed goes on believing that it leads.
    pub deposed_leader_max: Duration,
}

/// Everything a visit or a restore works with. Shared by all of them.
pub struct Pipeline {
    /// The broker beside us.
    pub broker: Arc<dyn Broker>,
    /// What the store holds.
    pub catalog: Arc<Catalog>,
    /// The one deleter of `.snap` objects.
    pub sweeper: Sweeper,
    /// Time and unique ids.
    pub clock: SharedClock,
    /// Counters.
    pub metrics: Metrics,
    /// What people see.
    pub board: Arc<Board>,
    /// Options.
    pub options: PipelineOptions,
    /// Memory, threads and bandwidth of all snapshots and restores together.
    pub plane: DataPlane,
    /// No export begins any more: the first step of a shutdown.
    pub stop: CancellationToken,
    /// Ends every upload and restore: the last step of a shutdown.
    pub abort: CancellationToken,
}

impl Pipeline {
    /// A partition's folder, as the data plane sees it.
    fn plane_folder(&self, partition: &TopicPartition) -> plane::Folder {
        plane::Folder {
            store: self.catalog.store().clone(),
            prefix: self.catalog.keys().folder(partition),
        }
    }

    fn created_by(broker_id: i32) -> CreatedBy {
        CreatedBy {
            broker_id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
