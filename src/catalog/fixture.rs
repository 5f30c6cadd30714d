//! Folders for tests that look at nothing but what was listed.

use std::sync::Arc;

use uuid::Uuid;

use super::{Folder, Snapshot};
use crate::{
    format::{
        BlockRef, CheckedObject, Codec, CreatedBy, FORMAT_VERSION, Manifest, ManifestDigest, Part,
        PartHasher, Proof, SnapName, SnapshotId,
    },
    policy::VerifyLevel,
    raft::{ConfState, Lineage, LogId, TopicPartition},
};

const BYTES: u32 = 100;

pub(crate) fn partition() -> TopicPartition {
    TopicPartition::new("orders", 0).unwrap()
}

pub(crate) fn lineage() -> Lineage {
    Lineage::new("c", 1, "t").unwrap()
}

fn by() -> CreatedBy {
    CreatedBy {
        broker_id: 1,
        version: "0".to_owned(),
    }
}

/// A part of 100 stored bytes, the `nth` of its file.
pub(crate) fn part(part_id: &str, sealed: bool, nth: u64) -> Part {
    let mut hasher = PartHasher::new();
    hasher.update(&[7; BYTES as usize]);
    Part {
        part_id: part_id.to_owned(),
        sealed,
        digest: hasher.finish(),
        blocks: vec![BlockRef {
            file: 0,
            offset_bytes: nth * u64::from(BYTES),
            stored_len_bytes: BYTES,
            raw_len_bytes: BYTES,
            crc32: 0,
        }],
    }
}

/// A complete snapshot without any part yet.
pub(crate) fn bare(index: u64) -> Manifest {
    let last_included = LogId::new(1, index);
    let snapshot_id = SnapshotId::new(last_included, &lineage(), Uuid::from_u128(index.into()));
    let own = SnapName {
        id: snapshot_id,
        number: 0,
    };
    Manifest {
        references: vec![own.to_string()],
        format_version: FORMAT_VERSION,
        snapshot_id,
        lineage: lineage(),
        partition: partition(),
        last_included,
        conf_state: ConfState {
            voters: vec![1],
            ..ConfState::default()
        },
        state_codec: "raw/1".to_owned(),
        created_at_unix_ms: 0,
        created_by: by(),
        codec: Codec::None,
        increment: 0,
        parts: Vec::new(),
    }
}

pub(crate) fn folder() -> Folder {
    Folder {
        partition: partition(),
        snapshots: Vec::new(),
        files: Vec::new(),
        flags: Vec::new(),
        unreadable: Vec::new(),
        stray_proofs: Vec::new(),
        stray_pins: Vec::new(),
    }
}

pub(crate) fn own_file(manifest: &Manifest) -> SnapName {
    manifest.references[0].parse().unwrap()
}

/// Adds a file, or gives it another size.
pub(crate) fn put(folder: &mut Folder, file: SnapName, size_bytes: u64) {
    folder.files.retain(|(name, _)| *name != file);
    folder.files.push((file, size_bytes));
    folder.files.sort_unstable();
}

/// Adds a proven snapshot and its file.
pub(crate) fn add(folder: &mut Folder, manifest: Manifest) {
    let (bytes, digest) = manifest.seal().unwrap();
    let extent = &manifest.file_extents()[0];
    put(folder, own_file(&manifest), extent.end_bytes);
    let proof = Proof {
        format_version: FORMAT_VERSION,
        snapshot_id: manifest.snapshot_id,
        manifest_digest: ManifestDigest::of(&bytes),
        verify: VerifyLevel::Full,
        verified_at_unix_ms: 0,
        verified_by: by(),
        objects: vec![CheckedObject {
            name: manifest.references[0].clone(),
            size_bytes: extent.end_bytes,
        }],
    };
    let snapshot = Snapshot {
        id: manifest.snapshot_id,
        manifest: Arc::new(manifest),
        digest,
        committed_at_unix_ms: 0,
        proof: Some(Arc::new(proof)),
        quarantined: false,
        pinned: false,
    };
    folder.snapshots.insert(0, snapshot);
}
