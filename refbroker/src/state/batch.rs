//! The header of a Kafka v2 record batch, read at fixed offsets. Records inside stay opaque.
//!
//! The batch's CRC covers what follows its own field, so base offset and leader epoch may be written here.

/// Bytes of the header.
pub const HEADER_BYTES: usize = 61;
/// Bytes before the field that `batch_length` counts from.
const LENGTH_PREFIX_BYTES: usize = 12;
const MAGIC: u8 = 2;

/// What the state machine needs to know of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch.
    pub size_bytes: usize,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// Largest timestamp of its records, milliseconds.
    pub max_timestamp_ms: i64,
    /// Producer, -1 = not idempotent.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl BatchHeader {
    /// Reads a header; `None` if the bytes cannot be one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.get(16) != Some(&MAGIC) || bytes.len() < HEADER_BYTES {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(array(bytes, 8)?)).ok()?;
        let last_offset_delta = i32::from_be_bytes(array(bytes, 23)?);
        let size_bytes = length + LENGTH_PREFIX_BYTES;
        if size_bytes < HEADER_BYTES || last_offset_delta < 0 {
            return None;
        }
        Some(Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)?),
            size_bytes,
            last_offset_delta,
            max_timestamp_ms: i64::from_be_bytes(array(bytes, 35)?),
            producer_id: i64::from_be_bytes(array(bytes, 43)?),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)?),
            base_sequence: i32::from_be_bytes(array(bytes, 53)?),
        })
    }

    /// Reads the header of bytes that are exactly one batch.
    pub fn read_whole(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes).filter(|header| header.size_bytes == bytes.len())
    }

    /// Sequence number of the last record; sequence numbers wrap to 0.
    pub fn last_sequence(&self) -> i32 {
        wrap_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// The sequence number `delta` after `sequence`.
pub fn wrap_sequence(sequence: i32, delta: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(delta);
    let wrapped = sum % (i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).unwrap_or(0)
}

/// Writes the offset and the epoch that the batch gets from its place in the log.
pub fn place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    if batch.len() >= HEADER_BYTES {
        batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
        batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    }
}

/// A batch for tests: `records` records with `payload` bytes after the header, and a valid CRC-32C left out on purpose.
#[cfg(test)]
pub fn test_batch(
    producer_id: i64,
    epoch: i16,
    sequence: i32,
    records: i32,
    payload: &[u8],
) -> bytes::Bytes {
    let mut batch = vec![0; HEADER_BYTES];
    batch.extend_from_slice(payload);
    let length = i32::try_from(batch.len() - LENGTH_PREFIX_BYTES).unwrap_or(0);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = MAGIC;
    batch[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    batch[35..43].copy_from_slice(&1_000_i64.to_be_bytes());
    batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    batch[57..61].copy_from_slice(&records.to_be_bytes());
    batch.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_placed() {
        let mut batch = test_batch(7, 1, 5, 3, b"abc").to_vec();
        place(&mut batch, 42, 9);
        let header = BatchHeader::read_whole(&batch).unwrap();
        assert_eq!(header.base_offset, 42);
        assert_eq!(header.last_offset_delta, 2);
        assert_eq!((header.producer_id, header.producer_epoch), (7, 1));
        assert_eq!(header.last_sequence(), 7);
        assert_eq!(&batch[12..16], &9_i32.to_be_bytes());
    }

    #[test]
    fn what_is_not_exactly_one_batch_is_refused() {
        let batch = test_batch(-1, -1, -1, 1, b"abc");
        assert!(BatchHeader::read_whole(&batch[..batch.len() - 1]).is_none());
        assert!(BatchHeader::read_whole(&[0; HEADER_BYTES]).is_none());
        assert!(BatchHeader::read_whole(b"").is_none());
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        assert_eq!(wrap_sequence(i32::MAX, 1), 0);
        assert_eq!(wrap_sequence(i32::MAX - 1, 3), 1);
    }
}
