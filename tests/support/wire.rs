//! Pieces of the broker's wire messages that every broker of the tests says alike.

use bytes::Bytes;
use chronik_snapshotd::{format::PartDigest, proto::v1};

pub fn conf_state() -> v1::ConfState {
    v1::ConfState {
        voters: vec![1, 2, 3],
        ..v1::ConfState::default()
    }
}

pub fn wire_digest(part: u32, digest: &PartDigest) -> v1::PartDigest {
    v1::PartDigest {
        part,
        size_bytes: digest.size_bytes,
        crc32: digest.crc32,
        xxh3_128: Bytes::copy_from_slice(&digest.xxh3_128.to_be_bytes()),
    }
}
