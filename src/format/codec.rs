//! Compression of blocks.
//!
//! A gzip block is one whole gzip member written by libdeflate, a zstd block one whole frame with its content
//! size, written by the bulk API: so a `.snap` of one part is a plain `.gz` or `.zst` file for the stock tools.

use std::{fmt, ops::RangeInclusive};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{BLOCK_MAX_BYTES, BLOCK_STORED_MAX_BYTES, FormatError, rules::Object};

/// How blocks are stored, as the manifest records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Raw bytes.
    None,
    /// One gzip member (RFC 1952) a block.
    Gzip,
    /// One zstd frame (RFC 8878) a block.
    Zstd,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// The word in manifests and options.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Legal compression levels.
    pub const fn levels(self) -> RangeInclusive<i32> {
        match self {
            Self::None => 0..=0,
            Self::Gzip => 1..=12,
            Self::Zstd => 1..=19,
        }
    }

    /// Level used when the operator names none; docs/adr/0007-block-codecs.md says why.
    pub const fn default_level(self) -> i32 {
        match self {
            Self::None => 0,
            Self::Gzip | Self::Zstd => 1,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How blocks are to be compressed, as the operator chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    codec: Codec,
    level: i32,
}

impl Compression {
    /// Checks the level: none 0, gzip 1 to 12, zstd 1 to 19. No level = [`Codec::default_level`].
    pub fn new(codec: Codec, level: Option<i32>) -> Result<Self, FormatError> {
        let level = level.unwrap_or(codec.default_level());
        let levels = codec.levels();
        if !levels.contains(&level) {
            return Err(FormatError::Level {
                codec,
                level,
                min: *levels.start(),
                max: *levels.end(),
            });
        }
        Ok(Self { codec, level })
    }

    /// Its codec.
    pub const fn codec(self) -> Codec {
        self.codec
    }

    /// Its level.
    pub const fn level(self) -> i32 {
        self.level
    }
}

impl Default for Compression {
    /// gzip at its default level.
    fn default() -> Self {
        Self {
            codec: Codec::Gzip,
            level: Codec::Gzip.default_level(),
        }
    }
}

/// One block as it will lie in the `.snap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBlock {
    /// The stored bytes, at most [`BLOCK_STORED_MAX_BYTES`].
    pub stored: Bytes,
    /// Length before compression, at most [`BLOCK_MAX_BYTES`].
    pub raw_len_bytes: u32,
    /// CRC-32 of the stored bytes.
    pub crc32: u32,
}

/// Compresses blocks one by one; keeps its tables and one output buffer (4 MiB) between them.
pub struct BlockEncoder {
    backend: Backend,
    codec: Codec,
    scratch: Vec<u8>,
}

enum Backend {
    None,
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl BlockEncoder {
    /// An encoder for `compression`.
    pub fn new(compression: Compression) -> Result<Self, FormatError> {
        let Compression { codec, level } = compression;
        let failed = || FormatError::Compress {
            codec,
            raw_len_bytes: 0,
        };
        let backend = match codec {
            Codec::None => Backend::None,
            Codec::Gzip => {
                let level = libdeflater::CompressionLvl::new(level).map_err(|_| failed())?;
                Backend::Gzip(libdeflater::Compressor::new(level))
            }
            Codec::Zstd => Backend::Zstd(zstd::bulk::Compressor::new(level).map_err(|_| failed())?),
        };
        Ok(Self {
            backend,
            codec,
            scratch: Vec::new(),
        })
    }

    /// Compresses one block of at most [`BLOCK_MAX_BYTES`]. With codec none the bytes are shared, not copied.
    pub fn encode(&mut self, raw: &Bytes) -> Result<EncodedBlock, FormatError> {
        let raw_len_bytes = match u32::try_from(raw.len()) {
            Ok(len_bytes) if len_bytes <= BLOCK_MAX_BYTES => len_bytes,
            _ => {
                return Err(FormatError::TooLarge {
                    object: Object::Block,
                    len_bytes: raw.len() as u64,
                    max_bytes: u64::from(BLOCK_MAX_BYTES),
                });
            }
        };
        let failed = FormatError::Compress {
            codec: self.codec,
            raw_len_bytes: raw.len(),
        };
        let stored = match &mut self.backend {
            Backend::None => raw.clone(),
            Backend::Gzip(compressor) => {
                self.scratch
                    .resize(compressor.gzip_compress_bound(raw.len()), 0);
                match compressor.gzip_compress(raw, &mut self.scratch) {
                    Ok(len) => Bytes::copy_from_slice(&self.scratch[..len]),
                    Err(_) => return Err(failed),
                }
            }
            Backend::Zstd(compressor) => {
                self.scratch.clear();
                self.scratch.reserve(zstd::compress_bound(raw.len()));
                match compressor.compress_to_buffer(&raw[..], &mut self.scratch) {
                    Ok(len) => Bytes::copy_from_slice(&self.scratch[..len]),
                    Err(_) => return Err(failed),
                }
            }
        };
        if stored.len() > BLOCK_STORED_MAX_BYTES as usize {
            return Err(failed);
        }
        Ok(EncodedBlock {
            crc32: crc32fast::hash(&stored),
            stored,
            raw_len_bytes,
        })
    }
}

impl fmt::Debug for BlockEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockEncoder")
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
