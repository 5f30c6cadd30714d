//! Which parts of the newest proven snapshot a new one may point into instead of storing them again. Pure: decided on
//! one listing of the folder.
//!
//! Offered to the broker is a sealed part all of whose blocks lie in files that
//! - are there, long enough, and under no deleter's flag;
//! - no quarantined snapshot points into: what damaged that one may have damaged more;
//! - still serve the newest snapshot with at least half of their bytes. What lives on in a mostly dead file is stored
//!   anew, so that the file dies with the last old snapshot that needs it, and nobody has to rewrite files.
//!
//! Nothing is offered after a change of the codec, nor every `full_every`-th time: such a snapshot is complete, needs
//! nothing older, and all of it is read back before its proof.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
};

use crate::{
    broker::{ExportHeader, PartHeader},
    catalog::Folder,
    format::{Codec, Manifest, Part, SnapName, SnapshotId},
    raft::Lineage,
};

/// Parts of an earlier snapshot that may be listed without being sent.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    base: Arc<Manifest>,
    /// Ids of the parts. Never empty.
    pub(super) parts: BTreeSet<String>,
}

/// What the next snapshot of `lineage` may point into; `full_every` = 1 makes every snapshot complete.
pub(super) fn offer(
    folder: &Folder,
    lineage: &Lineage,
    codec: Codec,
    full_every: NonZeroU32,
) -> Option<Offer> {
    let base = &folder.newest_proven(lineage)?.manifest;
    let full = base.increment.saturating_add(1) >= full_every.get();
    if full || base.codec != codec {
        return None;
    }
    let used = used_bytes(base);
    let files = base.file_extents().into_iter().zip(used);
    let worth: Vec<bool> = files
        .map(|(extent, used_bytes)| {
            let stored_bytes = usable(folder, &extent.name, extent.end_bytes).ok();
            stored_bytes.is_some_and(|stored_bytes| used_bytes.saturating_mul(2) >= stored_bytes)
        })
        .collect();
    let offered = |part: &&Part| {
        let mut blocks = part.blocks.iter();
        part.sealed && blocks.all(|block| worth.get(block.file as usize) == Some(&true))
    };
    let parts: BTreeSet<String> = base
        .parts
        .iter()
        .filter(offered)
        .map(|part| part.part_id.clone())
        .collect();
    (!parts.is_empty()).then(|| Offer {
        base: base.clone(),
        parts,
    })
}

/// The first file of an earlier snapshot that `manifest` should not point into any more, and why.
pub(super) fn undermined(folder: &Folder, manifest: &Manifest) -> Option<(String, &'static str)> {
    let earlier = manifest
        .file_extents()
        .into_iter()
        .filter(|extent| !extent.own);
    let mut problems = earlier.filter_map(|extent| {
        let state = usable(folder, &extent.name, extent.end_bytes).err()?;
        Some((extent.name, state))
    });
    problems.next()
}

impl Offer {
    /// True if what the header leaves out is what the earlier snapshot has.
    pub(super) fn fits(&self, header: &ExportHeader) -> bool {
        let same = |part: &PartHeader| {
            let known = self.find(&part.part_id);
            !part.omitted || known.is_some_and(|known| known.digest.size_bytes == part.size_bytes)
        };
        let omits = header.parts.iter().any(|part| part.omitted);
        let same_codec = !omits || header.state_codec == self.base.state_codec;
        same_codec && header.parts.iter().all(same)
    }

    /// Lets `manifest` point to a part of the earlier snapshot. None: there is no such part.
    pub(super) fn adopt_into(&self, manifest: &mut Manifest, part_id: &str) -> Option<()> {
        manifest.adopt(&self.base, self.find(part_id)?)
    }

    /// [`Manifest::increment`] of a snapshot that points into this one.
    pub(super) fn next_increment(&self) -> u32 {
        self.base.increment.saturating_add(1)
    }

    /// The snapshot that is pointed into.
    pub(super) fn base_id(&self) -> SnapshotId {
        self.base.snapshot_id
    }

    fn find(&self, part_id: &str) -> Option<&Part> {
        let mut parts = self.base.parts.iter();
        parts.find(|part| part.part_id == part_id)
    }
}

/// The size of a file that may be pointed into, or why it may not.
fn usable(folder: &Folder, file: &str, end_bytes: u64) -> Result<u64, &'static str> {
    let name: SnapName = file.parse().map_err(|_| "not the name of a file")?;
    let Some(stored_bytes) = folder.size_of(&name) else {
        return Err("gone");
    };
    if stored_bytes < end_bytes {
        return Err("of another size");
    }
    if folder.flags.iter().any(|flag| flag.snap == name) {
        return Err("flagged for deletion");
    }
    if folder.is_suspicious(file) {
        return Err("used by a snapshot that does not verify");
    }
    Ok(stored_bytes)
}

/// Stored bytes that the blocks of a manifest have in each of its files.
fn used_bytes(manifest: &Manifest) -> Vec<u64> {
    let mut used: BTreeMap<u32, u64> = BTreeMap::new();
    for block in manifest.parts.iter().flat_map(|part| &part.blocks) {
        *used.entry(block.file).or_default() += u64::from(block.stored_len_bytes);
    }
    let count = u32::try_from(manifest.references.len()).unwrap_or(u32::MAX);
    (0..count)
        .map(|file| used.get(&file).copied().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests;
