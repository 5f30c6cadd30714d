//! Digests of raw parts and of manifests.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::hex::{u32_hex, u128_hex};

/// Size and digests of one part's raw bytes. They find damage, they do not prove who wrote the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartDigest {
    /// Raw bytes.
    pub size_bytes: u64,
    /// CRC-32 (ISO-HDLC, the one of gzip).
    #[serde(with = "u32_hex")]
    pub crc32: u32,
    /// XXH3-128, seed 0.
    #[serde(with = "u128_hex")]
    pub xxh3_128: u128,
}

impl fmt::Display for PartDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            size_bytes,
            crc32,
            xxh3_128,
        } = self;
        write!(
            f,
            "{size_bytes} bytes, CRC32 {crc32:08x}, XXH3-128 {xxh3_128:032x}"
        )
    }
}

/// Computes a [`PartDigest`] over pieces in order.
#[derive(Clone)]
pub struct PartHasher {
    size_bytes: u64,
    crc32: crc32fast::Hasher,
    xxh3: Box<Xxh3>,
}

impl PartHasher {
    /// The digest of nothing yet.
    pub fn new() -> Self {
        Self {
            size_bytes: 0,
            crc32: crc32fast::Hasher::new(),
            xxh3: Box::new(Xxh3::new()),
        }
    }

    /// Adds the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.size_bytes += piece.len() as u64;
        self.crc32.update(piece);
        self.xxh3.update(piece);
    }

    /// The digest of all pieces so far.
    pub fn finish(&self) -> PartDigest {
        PartDigest {
            size_bytes: self.size_bytes,
            crc32: self.crc32.clone().finalize(),
            xxh3_128: self.xxh3.digest128(),
        }
    }
}

impl Default for PartHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PartHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartHasher")
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// XXH3-128 (seed 0) of all bytes of a manifest object, both lines and newlines. Shown as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ManifestDigest(#[serde(with = "u128_hex")] pub u128);

impl ManifestDigest {
    /// The digest of a manifest object.
    pub fn of(object: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(object))
    }
}

impl fmt::Display for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
