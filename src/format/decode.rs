//! Decompression of blocks, bounded by what the manifest promises.
//!
//! gzip is decoded by flate2 on zlib-rs, which shares no code with the encoder (libdeflate): reading a new
//! snapshot back in full therefore checks the encoder too, before any log is cut. zstd has one library both
//! ways; what an encoder's fault would do to the raw bytes is caught by the part digests all the same.

use std::{fmt, io::Read};

use bytes::Bytes;

use super::{BLOCK_MAX_BYTES, BlockRef, Codec, FormatError, rules::Object};

/// Decompresses blocks one by one.
pub struct BlockDecoder {
    codec: Codec,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

/// Checks the stored bytes of a block against its manifest entry: length, then CRC-32. Decompresses nothing.
pub fn check_stored(stored: &[u8], block: &BlockRef) -> Result<(), FormatError> {
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
        if block.raw_len_bytes > BLOCK_MAX_BYTES {
            return Err(FormatError::TooLarge {
                object: Object::Block,
                len_bytes: u64::from(block.raw_len_bytes),
                max_bytes: u64::from(BLOCK_MAX_BYTES),
            });
        }
        check_stored(stored, block)?;
        let raw = match self.codec {
            Codec::None => stored.clone(),
            Codec::Gzip => gunzip(stored, block.raw_len_bytes)?,
            Codec::Zstd => self.unzstd(stored, block.raw_len_bytes)?,
        };
        if raw.len() != block.raw_len_bytes as usize {
            return Err(FormatError::BlockRawLength {
                expected_bytes: block.raw_len_bytes,
            });
        }
        Ok(raw)
    }

    fn unzstd(&mut self, stored: &[u8], raw_len_bytes: u32) -> Result<Bytes, FormatError> {
        let undecodable = FormatError::BlockUndecodable { codec: Codec::Zstd };
        let frame_len = zstd::zstd_safe::find_frame_compressed_size(stored);
        if frame_len != Ok(stored.len()) {
            return Err(undecodable);
        }
        let Some(decompressor) = &mut self.zstd else {
            return Err(undecodable);
        };
        // The capacity is the bound: a frame that holds more fails without writing past it.
        let mut raw = Vec::with_capacity(raw_len_bytes as usize);
        match decompressor.decompress_to_buffer(stored, &mut raw) {
            Ok(_) => Ok(Bytes::from(raw)),
            Err(_) => Err(undecodable),
        }
    }
}

fn gunzip(stored: &[u8], raw_len_bytes: u32) -> Result<Bytes, FormatError> {
    let undecodable = || FormatError::BlockUndecodable { codec: Codec::Gzip };
    let mut raw = vec![0; raw_len_bytes as usize];
    let mut decoder = flate2::bufread::GzDecoder::new(stored);
    decoder.read_exact(&mut raw).map_err(|_| undecodable())?;
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
    Ok(Bytes::from(raw))
}

impl fmt::Debug for BlockDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockDecoder")
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
