//! Decompression of blocks, bounded by what the manifest promises.
//!
//! gzip is decoded by flate2 on zlib-rs, which shares no code with the encoder (libdeflate): reading a new
//! snapshot back in full therefore checks the encoder too, before any log is cut. zstd has one library both
//! ways; what an encoder's fault would do to the raw bytes is caught by the part digests all the same.

use std::{fmt, io::Read};

use bytes::Bytes;

use super::{BLOCK_MAX_BYTES, BlockRef, Codec, FormatError, rules::Object};
use crate::mutation::{self, Mutation};

/// Decompresses blocks one by one.
pub struct BlockDecoder {
    codec: Codec,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

/// Checks the stored bytes of a block against its manifest entry: length, then CRC-32. Decompresses nothing.
pub fn check_stored(stored: &[u8], block: &BlockRef) -> Result<(), FormatError> {
    if mutation::active(Mutation::ReadWithoutDigests) {
        return Ok(());
    }
    if stored.len() != block.stored_len_bytes as usize {
        return Err(FormatError::BlockLength {
            expected_bytes: block.stored_len_bytes,
            found_bytes: stored.len(),
        });
    }
    let found = crc32fast::hash(stored);
    if found != block.crc32 {
        return Err(FormatError::BlockCrc {
            expected: block.crc32,
            found,
        });
    }
    Ok(())
}

impl BlockDecoder {
    /// A decoder for the blocks of one manifest.
    pub fn new(codec: Codec) -> Result<Self, FormatError> {
        let zstd = match codec {
            Codec::Zstd => Some(
                zstd::bulk::Decompressor::new()
                    .map_err(|_| FormatError::BlockUndecodable { codec })?,
            ),
            Codec::None | Codec::Gzip => None,
        };
        Ok(Self { codec, zstd })
    }

    /// Checks the stored bytes, then decompresses them to exactly `block.raw_len_bytes`.
    ///
    /// Never allocates more than `raw_len_bytes` for the output, and refuses a `raw_len_bytes` above
    /// [`BLOCK_MAX_BYTES`] before it allocates anything. With codec none the bytes are shared, not copied.
    pub fn decode(&mut self, stored: &Bytes, block: &BlockRef) -> Result<Bytes, FormatError> {
        let mut raw = Vec::new();
        match self.decode_into(stored, block, &mut raw)? {
            Decoded::InPlace => Ok(stored.clone()),
            Decoded::InBuffer => Ok(Bytes::from(raw)),
        }
    }

    /// As [`BlockDecoder::decode`], into a buffer that may have served before; what it held is replaced.
    pub fn decode_into(
        &mut self,
        stored: &[u8],
        block: &BlockRef,
        raw: &mut Vec<u8>,
    ) -> Result<Decoded, FormatError> {
        let expected_bytes = block.raw_len_bytes;
        if expected_bytes > BLOCK_MAX_BYTES {
            return Err(FormatError::TooLarge {
                object: Object::Block,
                len_bytes: u64::from(expected_bytes),
                max_bytes: u64::from(BLOCK_MAX_BYTES),
            });
        }
        check_stored(stored, block)?;
        let found_bytes = match self.codec {
            Codec::None => stored.len(),
            Codec::Gzip => gunzip(stored, expected_bytes, raw)?,
            Codec::Zstd => self.unzstd(stored, expected_bytes, raw)?,
        };
        if found_bytes != expected_bytes as usize {
            return Err(FormatError::BlockRawLength { expected_bytes });
        }
        Ok(match self.codec {
            Codec::None => Decoded::InPlace,
            Codec::Gzip | Codec::Zstd => Decoded::InBuffer,
        })
    }

    fn unzstd(
        &mut self,
        stored: &[u8],
        raw_len_bytes: u32,
        raw: &mut Vec<u8>,
    ) -> Result<usize, FormatError> {
        let undecodable = FormatError::BlockUndecodable { codec: Codec::Zstd };
        let frame_len = zstd::zstd_safe::find_frame_compressed_size(stored);
        if frame_len != Ok(stored.len()) {
            return Err(undecodable);
        }
        let Some(decompressor) = &mut self.zstd else {
            return Err(undecodable);
        };
        // The length is the bound: a frame that holds more fails without writing past it.
        raw.resize(raw_len_bytes as usize, 0);
        let into = raw.as_mut_slice();
        decompressor
            .decompress_to_buffer(stored, into)
            .map_err(|_| undecodable)
    }
}

/// Where the raw bytes of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// They are the stored bytes.
    InPlace,
    /// In the buffer.
    InBuffer,
}

fn gunzip(stored: &[u8], raw_len_bytes: u32, raw: &mut Vec<u8>) -> Result<usize, FormatError> {
    let undecodable = || FormatError::BlockUndecodable { codec: Codec::Gzip };
    raw.resize(raw_len_bytes as usize, 0);
    let mut decoder = flate2::bufread::GzDecoder::new(stored);
    decoder.read_exact(raw).map_err(|_| undecodable())?;
    // Reading to the end makes the decoder check the member's own CRC and length.
    let beyond = decoder.read(&mut [0]).map_err(|_| undecodable())?;
    if beyond != 0 {
        return Err(FormatError::BlockRawLength {
            expected_bytes: raw_len_bytes,
        });
    }
    if !decoder.into_inner().is_empty() {
        return Err(undecodable());
    }
    Ok(raw.len())
}

impl fmt::Debug for BlockDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockDecoder")
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
