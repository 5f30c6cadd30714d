//! What the snapshots of a store are worth, read from its files without the daemon.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use chronik_harness::proto::ReplicaStatus;
use chronik_snapshotd::format::{BlockDecoder, Manifest, ManifestDigest, PartHasher, Proof};

/// Everything in a partition's folder, unfinished files among it, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Those whose names end so.
pub fn files_ending(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = files(folder);
    found.retain(|path| path.to_str().unwrap().ends_with(ending));
    found
}

/// Greatest index that a proven snapshot of this folder ends at which restores byte by byte; 0 = there is none.
pub fn covered(folder: &Path) -> u64 {
    loop {
        let mut greatest = 0;
        let mut retired = false;
        for proof in files_ending(folder, ".verified.json") {
            let stem = proof.to_str().unwrap().strip_suffix(".verified.json");
            let stem = stem.unwrap();
            match read_back(stem) {
                Some(index) => greatest = greatest.max(index),
                // Retired while it was read: what replaced it is in the next listing.
                None => retired |= !Path::new(&format!("{stem}.manifest.json")).exists(),
            }
        }
        if !retired {
            return greatest;
        }
    }
}

/// What is gone from a log is covered by a proven snapshot, or, in a replica that its leader has healed with a snapshot of
/// its own, by the log of another one. The replicas are those of before the look at the store.
pub fn check_covered<'a>(folder: &Path, replicas: impl IntoIterator<Item = &'a ReplicaStatus>) {
    let covered = covered(folder);
    let replicas: Vec<_> = replicas.into_iter().collect();
    for replica in &replicas {
        let gone = replica.first_log_index - 1;
        let has_the_rest = |other: &&ReplicaStatus| {
            other.first_log_index - 1 <= covered && other.last_log_index >= gone
        };
        assert!(
            gone <= covered || replicas.iter().copied().any(|it| has_the_rest(&it)),
            "snapshots cover up to {covered}, and there is {replicas:#?} beside {:#?}",
            files(folder)
        );
    }
}

/// Decodes a whole snapshot. `None` = it is not what its manifest and proof say.
fn read_back(stem: &str) -> Option<u64> {
    let bytes = fs::read(format!("{stem}.manifest.json")).ok()?;
    let manifest = Manifest::decode(&bytes).ok()?;
    let proof = Proof::decode(&fs::read(format!("{stem}.verified.json")).ok()?).ok()?;
    if !proof.covers(manifest.snapshot_id, ManifestDigest::of(&bytes)) {
        return None;
    }
    let folder = Path::new(stem).parent()?;
    let mut decoder = BlockDecoder::new(manifest.codec).ok()?;
    for part in &manifest.parts {
        let mut hasher = PartHasher::new();
        for block in &part.blocks {
            let file = manifest.references.get(usize::try_from(block.file).ok()?)?;
            let stored = fs::read(folder.join(file)).ok()?;
            let begin = usize::try_from(block.offset_bytes).ok()?;
            let end = begin + usize::try_from(block.stored_len_bytes).ok()?;
            let stored = Bytes::copy_from_slice(stored.get(begin..end)?);
            hasher.update(&decoder.decode(&stored, block).ok()?);
        }
        if hasher.finish() != part.digest {
            return None;
        }
    }
    Some(manifest.last_included.index)
}
