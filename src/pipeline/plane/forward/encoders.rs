//! Block encoders, made when a worker needs one and kept for the next block.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::format::{BlockEncoder, Compression, EncodedBlock, FormatError};

/// The encoders of one snapshot; never more than workers that are busy with it at once.
#[derive(Debug, Clone)]
pub(super) struct Encoders {
    compression: Compression,
    idle: Arc<Mutex<Vec<BlockEncoder>>>,
}

impl Encoders {
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            idle: Arc::default(),
        }
    }

    /// Compresses one block on the calling thread.
    pub(super) fn encode(&self, raw: &Bytes) -> Result<EncodedBlock, FormatError> {
        let idle = self.idle().pop();
        let mut encoder = match idle {
            Some(encoder) => encoder,
            None => BlockEncoder::new(self.compression)?,
        };
        let block = encoder.encode(raw)?;
        self.idle().push(encoder);
        Ok(block)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<BlockEncoder>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
