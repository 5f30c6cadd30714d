//! Generated state: as long as one wants, with no more memory than one buffer.

use std::{fs::File, io::Write as _, path::Path, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use chronik_snapshotd::format::{PartDigest, PartHasher};

use crate::records::{Random, json_records};

/// Length of a message, and the unit in which buffers repeat.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Bytes of one part. A buffer is repeated from its beginning: blocks are compressed alone, so what repeats at a
/// distance of more than a block costs the same as what does not.
#[derive(Debug, Clone)]
pub struct Content {
    buffer: Bytes,
    len_bytes: u64,
    digest: Arc<PartDigest>,
}

/// JSON records that compress four to six times.
pub fn json(seed: u64, len_bytes: usize) -> Bytes {
    Bytes::from(json_records(seed, len_bytes))
}

/// Records that hardly compress: three bytes of four are random.
pub fn dense(seed: u64, len_bytes: usize) -> Bytes {
    let mut random = Random::new(seed);
    let mut bytes = BytesMut::with_capacity(len_bytes + 8);
    while bytes.len() < len_bytes {
        bytes.put_u64_le(random.next() >> 16);
    }
    bytes.truncate(len_bytes);
    bytes.freeze()
}

impl Content {
    /// `len_bytes` of `buffer`, repeated as often as that takes.
    pub fn new(buffer: Bytes, len_bytes: u64) -> Self {
        let mut hasher = PartHasher::new();
        for chunk in chunks(&buffer, len_bytes) {
            hasher.update(&chunk);
        }
        Self {
            buffer,
            len_bytes,
            digest: Arc::new(hasher.finish()),
        }
    }

    /// All of `buffer`, once.
    pub fn once(buffer: Bytes) -> Self {
        let len_bytes = buffer.len() as u64;
        Self::new(buffer, len_bytes)
    }

    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub fn digest(&self) -> &PartDigest {
        &self.digest
    }

    /// The bytes in pieces of at most [`CHUNK_BYTES`], none copied.
    pub fn chunks(&self) -> impl Iterator<Item = Bytes> + Send + use<> {
        chunks(&self.buffer, self.len_bytes)
    }

    pub fn write_to(&self, path: &Path) {
        let mut file = File::create(path).unwrap();
        for chunk in self.chunks() {
            file.write_all(&chunk).unwrap();
        }
    }
}

fn chunks(buffer: &Bytes, len_bytes: u64) -> impl Iterator<Item = Bytes> + Send + use<> {
    let buffer = buffer.clone();
    let mut left = len_bytes;
    let mut start = 0;
    std::iter::from_fn(move || {
        let room = usize::try_from(left).unwrap_or(usize::MAX);
        let len = CHUNK_BYTES.min(room).min(buffer.len() - start);
        let chunk = (len > 0).then(|| buffer.slice(start..start + len))?;
        left -= len as u64;
        start = (start + len) % buffer.len();
        Some(chunk)
    })
}
