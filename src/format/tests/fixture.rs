//! The example snapshot of docs/FORMAT.md, and arbitrary ones.

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::super::*;
use crate::{
    policy::VerifyLevel,
    raft::{ConfState, Lineage, LogId, TopicPartition},
};

/// Raw bytes of the parts of the example.
pub(in crate::format) const EXAMPLE_PARTS: [(&str, bool, &[u8]); 2] = [
    ("state", false, b"offsets 0..2\norders: 2 records\n"),
    ("seg-0", true, b""),
];

pub(in crate::format) fn by() -> CreatedBy {
    CreatedBy {
        broker_id: 1,
        version: "0.1.0".to_owned(),
    }
}

/// A manifest and the bytes of its only file.
pub(in crate::format) fn snapshot(
    codec: Codec,
    parts: &[(&str, bool, &[u8])],
) -> (Manifest, Bytes) {
    let lineage = Lineage::new("prod-eu", 1, "tq3Xk9").unwrap();
    let last_included = LogId::new(3, 10_000);
    let uuid = Uuid::parse_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();
    let snapshot_id = SnapshotId::new(last_included, &lineage, uuid);
    let mut manifest = Manifest {
        references: vec![
            SnapName {
                id: snapshot_id,
                number: 0,
            }
            .to_string(),
        ],
        format_version: FORMAT_VERSION,
        snapshot_id,
        lineage,
        partition: TopicPartition::new("orders", 7).unwrap(),
        last_included,
        conf_state: ConfState {
            voters: vec![1, 2, 3],
            ..ConfState::default()
        },
        state_codec: "refbroker-segments/1".to_owned(),
        created_at_unix_ms: 1_795_000_000_000,
        created_by: by(),
        codec,
        increment: 0,
        parts: Vec::new(),
    };
    let mut encoder = BlockEncoder::new(Compression::new(codec, None).unwrap()).unwrap();
    let mut snap = BytesMut::new();
    for (part_id, sealed, raw) in parts {
        let mut hasher = PartHasher::new();
        let mut blocks = Vec::new();
        for piece in pieces(raw) {
            hasher.update(piece);
            let block = encoder.encode(&Bytes::copy_from_slice(piece)).unwrap();
            blocks.push(BlockRef {
                file: 0,
                offset_bytes: snap.len() as u64,
                stored_len_bytes: u32::try_from(block.stored.len()).unwrap(),
                raw_len_bytes: block.raw_len_bytes,
                crc32: block.crc32,
            });
            snap.extend_from_slice(&block.stored);
        }
        manifest.parts.push(Part {
            part_id: (*part_id).to_owned(),
            sealed: *sealed,
            digest: hasher.finish(),
            blocks,
        });
    }
    (manifest, snap.freeze())
}

/// Block-sized pieces; one empty piece of nothing.
fn pieces(raw: &[u8]) -> Vec<&[u8]> {
    if raw.is_empty() {
        return vec![raw];
    }
    raw.chunks(BLOCK_MAX_BYTES as usize).collect()
}

pub(in crate::format) fn example() -> (Manifest, Bytes) {
    snapshot(Codec::Gzip, &EXAMPLE_PARTS)
}

pub(in crate::format) fn proof_of(manifest: &Manifest, snap: &[u8]) -> Proof {
    Proof {
        format_version: FORMAT_VERSION,
        snapshot_id: manifest.snapshot_id,
        manifest_digest: ManifestDigest::of(&manifest.encode()),
        verify: VerifyLevel::Full,
        verified_at_unix_ms: 1_795_000_003_000,
        verified_by: by(),
        objects: vec![CheckedObject {
            name: manifest.references[0].clone(),
            size_bytes: snap.len() as u64,
        }],
    }
}

/// The restore of a cluster that had one partition, into its second incarnation.
pub(super) fn plan_of(manifest: &Manifest) -> RestorePlan {
    RestorePlan {
        format_version: FORMAT_VERSION,
        cluster_id: manifest.lineage.cluster_id.clone(),
        incarnation: manifest.lineage.incarnation + 1,
        restore_uuid: Uuid::parse_str("67e55044-10b1-426f-9247-bb680e5fe0c8").unwrap(),
        created_at_unix_ms: 1_795_000_060_000,
        partitions: vec![PlannedPartition {
            partition: manifest.partition.clone(),
            topic_id: manifest.lineage.topic_id.clone(),
            from_incarnation: manifest.lineage.incarnation,
            snapshot_id: manifest.snapshot_id,
            manifest_digest: ManifestDigest::of(&manifest.encode()),
        }],
    }
}

pub(in crate::format) fn quarantine_of(manifest: &Manifest) -> Quarantine {
    Quarantine::new(
        manifest.snapshot_id,
        ManifestDigest::of(&manifest.encode()),
        "the .snap has 12 bytes, its manifest needs 71",
        1_795_000_009_000,
        by(),
    )
}
