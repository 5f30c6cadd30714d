//! The manifest: the small object whose existence commits a snapshot.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Codec, FormatError, MANIFEST_MAX_BYTES, ManifestDigest, PartDigest, SnapName, SnapshotId,
    envelope,
    hex::u32_hex,
    rules::{Object, Rule},
};
use crate::raft::{ConfState, Lineage, LogId, TopicPartition};

/// Everything needed to find, check and restore one snapshot. JSON fields are in the order of this struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Names of the `.snap` files that blocks lie in: this snapshot's own first, then those of earlier ones.
    pub references: Vec<String>,
    /// Always [`FORMAT_VERSION`](super::FORMAT_VERSION).
    pub format_version: u32,
    /// The id in the object's name.
    pub snapshot_id: SnapshotId,
    /// The life of the topic that the state belongs to.
    pub lineage: Lineage,
    /// The Raft group that the state belongs to.
    pub partition: TopicPartition,
    /// Last log entry whose effect is in the state, inclusive.
    pub last_included: LogId,
    /// Configuration as applied at `last_included`.
    pub conf_state: ConfState,
    /// Name and version of the encoding of the state; the broker's word, opaque here.
    pub state_codec: String,
    /// When it was written, for people and for ages; never orders anything.
    pub created_at_unix_ms: i64,
    /// Who wrote it.
    pub created_by: CreatedBy,
    /// How every block of this manifest is stored, also those in files of earlier snapshots.
    pub codec: Codec,
    /// 0 = complete: every block lies in a file of this snapshot. n = the n-th snapshot after a complete one, each of
    /// which points into files of earlier ones.
    pub increment: u32,
    /// The parts in the order of the broker's header.
    pub parts: Vec<Part>,
}

/// The writer of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreatedBy {
    /// Broker beside which the sidecar runs.
    pub broker_id: i32,
    /// Version of the sidecar.
    pub version: String,
}

/// One part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Unique in the snapshot; for a sealed part it changes whenever the bytes would.
    pub part_id: String,
    /// The bytes under this `part_id` never change again.
    pub sealed: bool,
    /// Size and digests of the raw bytes.
    pub digest: PartDigest,
    /// Its blocks in order; at least one.
    pub blocks: Vec<BlockRef>,
}

/// Where one block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRef {
    /// Position in [`Manifest::references`], 0-based.
    pub file: u32,
    /// First byte in that file.
    pub offset_bytes: u64,
    /// Stored bytes.
    pub stored_len_bytes: u32,
    /// Bytes after decompression.
    pub raw_len_bytes: u32,
    /// CRC-32 of the stored bytes.
    #[serde(with = "u32_hex")]
    pub crc32: u32,
}

impl BlockRef {
    /// First byte after the block in its file, saturating.
    pub const fn end_bytes(&self) -> u64 {
        self.offset_bytes
            .saturating_add(self.stored_len_bytes as u64)
    }
}

/// How much of one `.snap` file a manifest uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileExtent {
    /// Name of the file.
    pub name: String,
    /// End of the last block that this manifest has in it.
    pub end_bytes: u64,
    /// True = this snapshot wrote the file, so `end_bytes` is its exact size; false = a lower bound.
    pub own: bool,
}

impl Manifest {
    /// The object's bytes; the same content gives the same bytes. Does not validate: see [`Manifest::seal`].
    pub fn encode(&self) -> Bytes {
        envelope::seal(self)
    }

    /// What a committer writes: validates, encodes, checks the size limit.
    pub fn seal(&self) -> Result<(Bytes, ManifestDigest), FormatError> {
        self.validate()?;
        let bytes = self.encode();
        if bytes.len() as u64 > MANIFEST_MAX_BYTES {
            return Err(FormatError::TooLarge {
                object: Object::Manifest,
                len_bytes: bytes.len() as u64,
                max_bytes: MANIFEST_MAX_BYTES,
            });
        }
        let digest = ManifestDigest::of(&bytes);
        Ok((bytes, digest))
    }

    /// Reads a manifest object: size limit, checksum, version, shape, canonical form, every rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut manifest: Self = envelope::open(Object::Manifest, bytes, MANIFEST_MAX_BYTES)?;
        manifest.validate()?;
        manifest.shrink();
        Ok(manifest)
    }

    /// As [`Manifest::decode`], and the manifest must be the one of `id`, the id in the object's name.
    pub fn decode_named(bytes: &[u8], id: SnapshotId) -> Result<Self, FormatError> {
        let manifest = Self::decode(bytes)?;
        if manifest.snapshot_id != id {
            return Err(FormatError::Rule {
                object: Object::Manifest,
                rule: Rule::IdMatchesName,
            });
        }
        Ok(manifest)
    }

    /// Gives back what its lists did not need: manifests are kept for as long as their snapshots.
    fn shrink(&mut self) {
        self.references.shrink_to_fit();
        for part in &mut self.parts {
            part.blocks.shrink_to_fit();
        }
        self.parts.shrink_to_fit();
    }

    /// Raw bytes of all parts.
    pub fn raw_bytes(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(part.digest.size_bytes))
    }

    /// What this manifest uses of each file, in the order of [`Manifest::references`].
    pub fn file_extents(&self) -> Vec<FileExtent> {
        let mut extents: Vec<_> = self
            .references
            .iter()
            .map(|name| FileExtent {
                name: name.clone(),
                end_bytes: 0,
                own: self.is_own(name),
            })
            .collect();
        for block in self.parts.iter().flat_map(|part| &part.blocks) {
            if let Some(extent) = extents.get_mut(block.file as usize) {
                extent.end_bytes = extent.end_bytes.max(block.end_bytes());
            }
        }
        extents
    }

    /// Adds the sealed `part` of the earlier manifest `from`, whose blocks stay where they are.
    ///
    /// Refused (None) when the codecs differ or the part is not sealed.
    pub fn adopt(&mut self, from: &Self, part: &Part) -> Option<()> {
        if self.codec != from.codec || !part.sealed {
            return None;
        }
        let mut blocks = Vec::with_capacity(part.blocks.len());
        for block in &part.blocks {
            let name = from.references.get(block.file as usize)?;
            let file = self.intern(name)?;
            blocks.push(BlockRef { file, ..*block });
        }
        self.parts.push(Part {
            blocks,
            ..part.clone()
        });
        Some(())
    }

    /// The position of `name` in the references, added if it is new.
    fn intern(&mut self, name: &str) -> Option<u32> {
        let known = self.references.iter().position(|known| known == name);
        let position = known.unwrap_or_else(|| {
            self.references.push(name.to_owned());
            self.references.len() - 1
        });
        u32::try_from(position).ok()
    }

    /// True for a file that this snapshot wrote itself.
    pub(super) fn is_own(&self, name: &str) -> bool {
        name.parse::<SnapName>()
            .is_ok_and(|name| name.id == self.snapshot_id)
    }
}
