//! Checks of the record batch that a client wants to append. Records inside stay compressed and opaque.

use kafka_protocol::ResponseError;

use super::MAX_BATCH_BYTES;

const HEADER_BYTES: usize = 61;
/// Bytes before what the length field counts.
const LENGTH_PREFIX_BYTES: usize = 12;
const MAGIC: u8 = 2;
/// What the CRC covers begins here.
const CRC_FROM: usize = 21;
const ATTRIBUTE_COMPRESSION: u16 = 0x07;
const ATTRIBUTE_TRANSACTIONAL: u16 = 0x10;
const ATTRIBUTE_CONTROL: u16 = 0x20;
const MAX_COMPRESSION: u16 = 4;

fn field<const N: usize>(batch: &[u8], at: usize) -> Result<[u8; N], ResponseError> {
    batch
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(ResponseError::CorruptMessage)
}

/// Checks that the bytes are exactly one sound v2 batch with at least one record, neither of a transaction nor of
/// control.
pub(super) fn check(batch: &[u8]) -> Result<(), ResponseError> {
    if batch.len() > MAX_BATCH_BYTES {
        return Err(ResponseError::MessageTooLarge);
    }
    if batch.len() < HEADER_BYTES || batch[16] != MAGIC {
        return Err(ResponseError::CorruptMessage);
    }
    let length = i32::from_be_bytes(field(batch, 8)?);
    if usize::try_from(length).ok() != Some(batch.len() - LENGTH_PREFIX_BYTES) {
        return Err(ResponseError::CorruptMessage);
    }
    let crc = u32::from_be_bytes(field(batch, 17)?);
    if crc != crc32c::crc32c(&batch[CRC_FROM..]) {
        return Err(ResponseError::CorruptMessage);
    }
    check_header(batch)
}

/// What the CRC vouches for, but a client may have meant wrongly.
fn check_header(batch: &[u8]) -> Result<(), ResponseError> {
    let attributes = u16::from_be_bytes(field(batch, 21)?);
    if attributes & ATTRIBUTE_COMPRESSION > MAX_COMPRESSION {
        return Err(ResponseError::UnsupportedCompressionType);
    }
    if attributes & (ATTRIBUTE_TRANSACTIONAL | ATTRIBUTE_CONTROL) != 0 {
        return Err(ResponseError::InvalidRecord);
    }
    let last_offset_delta = i32::from_be_bytes(field(batch, 23)?);
    let records = i32::from_be_bytes(field(batch, 57)?);
    if records < 1 || last_offset_delta != records - 1 {
        return Err(ResponseError::InvalidRecord);
    }
    let producer_id = i64::from_be_bytes(field(batch, 43)?);
    let producer_epoch = i16::from_be_bytes(field(batch, 51)?);
    let base_sequence = i32::from_be_bytes(field(batch, 53)?);
    let idempotent = producer_id >= 0;
    if idempotent && (producer_epoch < 0 || base_sequence < 0) {
        return Err(ResponseError::InvalidRecord);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::batch_of, *};

    #[test]
    fn a_batch_of_a_client_is_accepted() {
        assert_eq!(check(&batch_of(&["a", "b"], 7, 0)), Ok(()));
        assert_eq!(check(&batch_of(&["a"], -1, -1)), Ok(()));
    }

    #[test]
    fn a_flipped_byte_is_corrupt_wherever_the_checks_reach() {
        let sound = batch_of(&["value"], 7, 3);
        for at in (8..12).chain(16..sound.len()) {
            let mut batch = sound.clone();
            batch[at] ^= 0x40;
            assert_eq!(
                check(&batch),
                Err(ResponseError::CorruptMessage),
                "byte {at}"
            );
        }
    }

    #[test]
    fn cut_doubled_and_old_batches_are_corrupt() {
        let sound = batch_of(&["value"], -1, -1);
        assert!(check(&sound[..sound.len() - 1]).is_err());
        assert!(check(&[sound.clone(), sound.clone()].concat()).is_err());
        assert!(check(&sound[..20]).is_err());
        assert!(check(&[]).is_err());
        let mut old = sound;
        old[16] = 1;
        assert!(check(&old).is_err());
    }

    #[test]
    fn what_only_a_coordinator_may_write_is_refused() {
        for attribute in [ATTRIBUTE_TRANSACTIONAL, ATTRIBUTE_CONTROL] {
            let mut batch = batch_of(&["value"], 7, 0);
            batch[21..23].copy_from_slice(&attribute.to_be_bytes());
            let crc = crc32c::crc32c(&batch[CRC_FROM..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
            assert_eq!(check(&batch), Err(ResponseError::InvalidRecord));
        }
    }

    #[test]
    fn a_batch_above_the_limit_is_too_large() {
        let value = "x".repeat(MAX_BATCH_BYTES);
        assert_eq!(
            check(&batch_of(&[&value], -1, -1)),
            Err(ResponseError::MessageTooLarge)
        );
    }
}
