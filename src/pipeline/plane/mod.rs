//! The data plane: raw parts into stored blocks and back, in bounded memory.

mod ahead;
mod backward;
mod buffers;
mod busy;
mod drill;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod limits;
mod rate;
mod speed;
mod verify;
mod workers;

pub use backward::{ReadError, read_blocks, read_parts};
pub use drill::{DRILL_BUDGET_BYTES, DrillShare, RestoreUnderWay, Restores};
pub use forward::{PartPlan, WriteError, Written, expected_bytes, write_blocks};
pub use limits::{DataPlane, MemoryBudget, RESTORE_BUDGET_BYTES, Rates, Reservation};
pub use rate::RateLimit;
pub use speed::Speed;
pub use verify::{Scope, raw_bytes_in, spot_check, verify_full, verify_stored};
pub use workers::Workers;

use bytes::Bytes;

use crate::{
    format::SnapshotId,
    store::{Key, Store, StoreError},
};

/// A piece of one part's raw bytes, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawChunk {
    /// Position of the part in the snapshot's header, 0-based.
    pub part: u32,
    /// Raw bytes; at most [`CHUNK_MAX_BYTES`] when it comes from [`read_blocks`].
    pub data: Bytes,
}

/// Most bytes of one chunk that [`read_blocks`] delivers.
pub const CHUNK_MAX_BYTES: usize = 1 << 20;

/// One partition's folder in a store.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The store.
    pub store: Store,
    /// Keys of its objects up to and including the last `/`.
    pub prefix: String,
}

impl Folder {
    /// The key of a file in this folder.
    pub fn key(&self, file: &str) -> Result<Key, StoreError> {
        Key::new(format!("{}{file}", self.prefix))
    }
}

/// Where a new snapshot's blocks go.
#[derive(Debug, Clone)]
pub struct Target {
    /// The partition's folder.
    pub folder: Folder,
    /// Names the files.
    pub snapshot_id: SnapshotId,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::format::{Compression, Manifest};

    fn sendable<T: Send>(future: T) -> T {
        future
    }

    /// Compiles or not: the futures of the data plane run inside spawned tasks.
    #[expect(dead_code, reason = "only its types matter")]
    fn futures_can_be_spawned(
        plane: &DataPlane,
        target: Target,
        manifest: &Arc<Manifest>,
        deliver: mpsc::Sender<RawChunk>,
        cancel: &CancellationToken,
    ) {
        let folder = target.folder.clone();
        let frames = futures::stream::empty::<Result<_, std::io::Error>>();
        let compression = Compression::default();
        drop(sendable(write_blocks(
            plane,
            target,
            compression,
            &[],
            frames,
            cancel,
        )));
        drop(sendable(read_blocks(
            plane, &folder, manifest, deliver, cancel,
        )));
        drop(sendable(verify_full(
            plane,
            &folder,
            manifest,
            Scope::New,
            cancel,
        )));
        drop(sendable(spot_check(&folder, manifest, 0)));
    }
}
