//! What must hold after every step. Written against the objects in the store and the logs of the brokers, with
//! nothing of the daemon but the format of its objects.

use std::collections::BTreeMap;

use bytes::Bytes;
use chronik_snapshotd::{
    format::{BlockDecoder, FileName, Manifest, ManifestDigest, Proof, SnapshotId},
    raft::Lineage,
};
use tokio::time::Instant;

use crate::{group::Group, world::State};

/// A snapshot as it lies in the store.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact"
)]
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) lineage: Lineage,
    pub(crate) index: u64,
    pub(crate) references: Vec<String>,
    pub(crate) proven: bool,
    /// Since when, if it is.
    pub(crate) proven_at: Instant,
    pub(crate) quarantined: bool,
    /// Since when an operator wants it kept.
    pub(crate) pinned_at: Option<Instant>,
    /// Restores to the very bytes of the state after its index.
    pub(crate) whole: bool,
    /// The world took its data away; not the daemon's doing.
    pub(crate) robbed: bool,
}

/// One partition's folder.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    pub(crate) found: BTreeMap<SnapshotId, Found>,
    /// Whose data the world took away.
    pub(crate) robbed: Vec<SnapshotId>,
}

impl Folders {
    /// Greatest index that a replica of this lineage can be restored to by a proven snapshot. A mark on bytes that
    /// are sound hides them from nobody who looks: it counts.
    pub(crate) fn covered(&self, lineage: &Lineage) -> u64 {
        let good = |found: &&Found| found.lineage == *lineage && found.proven && found.whole;
        let indexes = self.found.values().filter(good).map(|found| found.index);
        indexes.max().unwrap_or_default()
    }
}

pub(crate) fn folder(group: &Group) -> String {
    format!(
        "snapshots/{}/{}/",
        group.partition.topic, group.partition.partition
    )
}

impl State {
    /// The group and the name that a key belongs to.
    fn place(&self, key: &str) -> Option<(usize, FileName)> {
        let named = |(number, group): (usize, &Group)| {
            let name = key.strip_prefix(&folder(group))?;
            Some((number, name.parse().ok()?))
        };
        self.groups.iter().enumerate().find_map(named)
    }

    /// An object was written.
    pub(crate) fn after_write(&mut self, key: &str) {
        let Some((group, name)) = self.place(key) else {
            return;
        };
        let was_proven = self.is_proven(group, &name);
        self.refresh(group, &name);
        if !was_proven && self.is_proven(group, &name) {
            self.counts.proven += 1;
        }
        self.counts.quarantined += u64::from(matches!(name, FileName::Quarantine(_)));
        self.check_folder(group);
    }

    /// A sidecar has listed a folder. While its broker is being seeded two things list, so nothing is learnt.
    pub(crate) fn saw(&mut self, sidecar: usize, listed: &str, began: Instant) {
        let group = self.groups.iter().position(|group| folder(group) == listed);
        if let Some(group) = group.filter(|group| self.conversing[sidecar][*group] == 0) {
            self.listed_at[sidecar][group] = began;
        }
    }

    /// When a sidecar last began to list the folder of a key.
    pub(crate) fn seen(&self, sidecar: usize, key: &str) -> Instant {
        let place = self.place(key);
        place.map_or(self.origin, |(group, _)| self.listed_at[sidecar][group])
    }

    /// An object is about to be deleted, by somebody who looked when he began to list at `seen`.
    pub(crate) fn before_delete(&mut self, key: &str, seen: Instant) {
        let Some((group, name)) = self.place(key) else {
            return;
        };
        match name {
            FileName::Manifest(id) => self.check_retirement(group, id, seen),
            FileName::Snap(snap) => {
                self.counts.swept += 1;
                let name = snap.to_string();
                let user = self.folders[group]
                    .found
                    .iter()
                    .find(|(_, found)| found.proven && found.references.contains(&name));
                if let Some((id, _)) = user {
                    self.violate(format!("{name} is deleted, but the proven {id} needs it"));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn after_delete(&mut self, key: &str) {
        if let Some((group, name)) = self.place(key) {
            self.refresh(group, &name);
            self.check_folder(group);
        }
    }

    fn is_proven(&self, group: usize, name: &FileName) -> bool {
        let FileName::Proof(id) = name else {
            return true;
        };
        let found = self.folders[group].found.get(id);
        found.is_some_and(|found| found.proven)
    }

    fn refresh(&mut self, group: usize, name: &FileName) {
        match name {
            FileName::Manifest(id)
            | FileName::Proof(id)
            | FileName::Quarantine(id)
            | FileName::Pin(id) => {
                self.refresh_one(group, *id);
            }
            FileName::Snap(snap) => {
                let name = snap.to_string();
                let users: Vec<_> = self.folders[group]
                    .found
                    .iter()
                    .filter(|(_, found)| found.references.contains(&name))
                    .map(|(id, _)| *id)
                    .collect();
                for id in users {
                    self.refresh_one(group, id);
                }
            }
            FileName::Deleting { .. } => {}
        }
    }

    fn refresh_one(&mut self, group: usize, id: SnapshotId) {
        let mut found = self.find(group, id);
        let before = self.folders[group].found.get(&id);
        if let (Some(found), Some(before)) = (&mut found, before.filter(|before| before.proven)) {
            found.proven_at = before.proven_at;
        }
        let found_in = &mut self.folders[group].found;
        match found {
            Some(found) => found_in.insert(id, found),
            None => found_in.remove(&id),
        };
    }

    fn object(&self, group: usize, name: &str) -> Option<&Bytes> {
        self.bucket.get(&(folder(&self.groups[group]) + name))
    }

    fn find(&self, group: usize, id: SnapshotId) -> Option<Found> {
        let bytes = self.object(group, &FileName::Manifest(id).to_string())?;
        let manifest = Manifest::decode_named(bytes, id).ok()?;
        let digest = ManifestDigest::of(bytes);
        let proof = self.object(group, &FileName::Proof(id).to_string());
        let proof = proof.and_then(|bytes| Proof::decode(bytes).ok());
        let proven = proof.is_some_and(|proof| proof.covers(id, digest));
        let mark = self.object(group, &FileName::Quarantine(id).to_string());
        Some(Found {
            index: manifest.last_included.index,
            proven,
            proven_at: Instant::now(),
            quarantined: mark.is_some(),
            pinned_at: self.pinned_at(group, id),
            whole: self.is_whole(group, &manifest),
            robbed: self.folders[group].robbed.contains(&id),
            references: manifest.references,
            lineage: manifest.lineage,
        })
    }

    fn pinned_at(&self, group: usize, id: SnapshotId) -> Option<Instant> {
        let key = folder(&self.groups[group]) + &FileName::Pin(id).to_string();
        self.bucket.object(&key).map(|object| object.written_at)
    }

    fn is_whole(&self, group: usize, manifest: &Manifest) -> bool {
        let Some(life) = self.groups[group].life_of(&manifest.lineage) else {
            return false;
        };
        let index = manifest.last_included.index;
        let Some(expected) = life.parts(index) else {
            return false;
        };
        if life.at(index) != manifest.last_included || manifest.parts.len() != expected.len() {
            return false;
        }
        let mut decoder = BlockDecoder::new(manifest.codec).unwrap();
        manifest.parts.iter().zip(expected).all(|(part, expected)| {
            let mut raw = Vec::new();
            for block in &part.blocks {
                let file = &manifest.references[block.file as usize];
                let stored = self.object(group, file);
                let range = usize::try_from(block.offset_bytes).unwrap()
                    ..usize::try_from(block.end_bytes()).unwrap();
                let Some(stored) = stored.filter(|stored| stored.len() >= range.end) else {
                    return false;
                };
                match decoder.decode(&stored.slice(range), block) {
                    Ok(bytes) => raw.extend_from_slice(&bytes),
                    Err(_) => return false,
                }
            }
            part.part_id == expected.id && raw == expected.bytes
        })
    }

    /// Every proven snapshot restores to the very bytes.
    fn check_folder(&mut self, group: usize) {
        let broken =
            |found: &Found| found.proven && !found.quarantined && !found.whole && !found.robbed;
        let mut found = self.folders[group].found.iter();
        if let Some((id, _)) = found.find(|(_, found)| broken(found)) {
            self.violate(format!("{id} is proven and does not restore"));
        }
    }

    /// A manifest is deleted: never that of the greatest proven snapshot, nor of one of the newest N that were proven
    /// when the deleter looked. One that was proven behind its back is waste, not damage.
    fn check_retirement(&mut self, group: usize, id: SnapshotId, seen: Instant) {
        let found = &self.folders[group].found;
        let Some(retired) = found.get(&id).filter(|retired| retired.proven) else {
            return;
        };
        self.counts.retired += 1;
        let others = || {
            found
                .iter()
                .filter(|(other, found)| **other != id && found.lineage == retired.lineage)
                .map(|(_, found)| found)
                .filter(|found| found.proven)
        };
        let covers = |found: &Found| found.whole && found.index >= retired.index;
        let mut greater: Vec<u64> = others()
            .filter(|found| found.index > retired.index)
            .map(|found| found.index)
            .collect();
        greater.dedup();
        let duplicate = others().any(|found| found.index == retired.index);
        let count = self.profile.policy.retention_count.get();
        let problem = if retired.pinned_at.is_some_and(|at| at < seen) {
            "it is pinned"
        } else if !others().any(covers) {
            "nothing else that is proven reaches as far"
        } else if greater.len() < count && !duplicate && retired.proven_at < seen {
            "it is one of the newest that are to be kept"
        } else {
            return;
        };
        self.violate(format!("{id} is retired, but {problem}"));
    }

    /// Every log that a sidecar had truncated is covered by a proven snapshot of its lineage, and nothing was
    /// truncated that was not applied.
    pub(crate) fn check_logs(&mut self) {
        let uncovered = self.groups.iter().zip(&self.folders).find_map(|(group, folders)| {
            let covered = folders.covered(&group.life().lineage);
            let partition = &group.partition;
            group.replicas.iter().enumerate().find_map(|(broker, replica)| {
                if replica.compacted > covered {
                    return Some(format!(
                        "broker {broker} truncated {partition} through {}, but the proven snapshots end at {covered}",
                        replica.compacted
                    ));
                }
                (replica.first > replica.applied + 1).then(|| {
                    format!("broker {broker} truncated {partition} beyond what it has applied")
                })
            })
        });
        if let Some(problem) = uncovered {
            self.violate(problem);
        }
    }
}
