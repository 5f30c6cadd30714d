//! Block-sized buffers that are used again.
//!
//! The allocator keeps what was freed for a while, for every thread that ever allocated. With a fresh buffer for each
//! block, made by whichever worker decodes it, peak memory grows with threads and time instead of with the blocks in
//! flight. So buffers are made by the task that hands out the work, and go back when their bytes are consumed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The idle buffers of one run. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers {
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// A buffer with room for `capacity_bytes` and whatever it held before.
    pub(super) fn take(&self, capacity_bytes: usize) -> Buffer {
        let mut bytes = self.idle().pop().unwrap_or_default();
        bytes.reserve_exact(capacity_bytes.saturating_sub(bytes.len()));
        Buffer {
            bytes,
            home: self.clone(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that goes back when it is dropped, also as [`Bytes`] with its last clone.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    home: Buffers,
}

impl Buffer {
    /// The content, shared from now on.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.idle().push(bytes);
    }
}
