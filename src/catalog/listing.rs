//! Listing a partition's folder: one complete LIST, then the manifests and proofs that are not known yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Catalog, CatalogError, Flag, Folder, Snapshot, Unreadable};
use crate::{
    format::{
        FileName, MANIFEST_MAX_BYTES, Manifest, ManifestDigest, PROOF_MAX_BYTES, Proof, SnapName,
        SnapshotId,
    },
    mutation::{self, Mutation},
    raft::TopicPartition,
    store::{Object, ObjectInfo, StoreError},
};

/// Listings in a row that may find a manifest gone before it could be read.
const LOOKS: usize = 3;

/// Names found in a folder, sorted by what they are.
#[derive(Default)]
struct Names {
    files: Vec<(SnapName, u64)>,
    manifests: BTreeMap<SnapshotId, ObjectInfo>,
    proofs: BTreeSet<SnapshotId>,
    quarantined: BTreeSet<SnapshotId>,
    pinned: BTreeSet<SnapshotId>,
    flags: Vec<Flag>,
}

impl Catalog {
    /// Lists the folder anew and remembers the result. Fails rather than return a partial folder: a folder
    /// that could not be read is never reported as empty.
    ///
    /// A manifest that was listed and is gone when it is read was retired in between, and what replaced it is not
    /// in this listing: the folder is listed again.
    pub async fn look(&self, partition: &TopicPartition) -> Result<Arc<Folder>, CatalogError> {
        for _ in 1..LOOKS {
            match self.look_once(partition).await {
                Err(CatalogError::Vanished { .. }) => {}
                looked => return looked,
            }
        }
        self.look_once(partition).await
    }

    async fn look_once(&self, partition: &TopicPartition) -> Result<Arc<Folder>, CatalogError> {
        let names = self.list_names(partition).await?;
        let known = self.known(partition);
        let mut folder = Folder {
            partition: partition.clone(),
            snapshots: Vec::with_capacity(names.manifests.len()),
            files: names.files,
            flags: names.flags,
            unreadable: Vec::new(),
            stray_proofs: Vec::new(),
            stray_pins: Vec::new(),
        };
        for (id, info) in &names.manifests {
            let known = known.as_deref().and_then(|folder| folder.find(*id));
            let (manifest, digest) = match known {
                Some(snapshot) => (snapshot.manifest.clone(), snapshot.digest),
                None => match self.read_manifest(partition, *id).await {
                    Ok((manifest, digest)) => (Arc::new(manifest), digest),
                    Err(CatalogError::Store(StoreError::NotFound { .. })) => {
                        if mutation::active(Mutation::VanishedSkipped) {
                            continue;
                        }
                        let name = FileName::Manifest(*id).to_string();
                        return Err(CatalogError::Vanished { name });
                    }
                    Err(
                        error @ (CatalogError::Format { .. }
                        | CatalogError::WrongFolder { .. }
                        | CatalogError::Store(StoreError::TooLarge { .. })),
                    ) => {
                        if !mutation::active(Mutation::UnreadableIgnored) {
                            folder.unreadable.push(Unreadable {
                                id: *id,
                                name: FileName::Manifest(*id).to_string(),
                                problem: error.to_string(),
                            });
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            let proof = match known.and_then(|snapshot| snapshot.proof.clone()) {
                Some(proof) if names.proofs.contains(id) => Some(proof),
                _ if names.proofs.contains(id) => self.read_proof(partition, *id, digest).await?,
                _ => None,
            };
            folder.snapshots.push(Snapshot {
                id: *id,
                manifest,
                digest,
                committed_at_unix_ms: info.last_modified_unix_ms,
                proof,
                quarantined: names.quarantined.contains(id),
                pinned: names.pinned.contains(id),
            });
        }
        folder
            .snapshots
            .sort_by_key(|snapshot| std::cmp::Reverse(snapshot.id));
        let manifests = &names.manifests;
        let stray = |ids: BTreeSet<SnapshotId>| {
            let stray = ids.into_iter().filter(|id| !manifests.contains_key(id));
            stray.collect()
        };
        folder.stray_proofs = stray(names.proofs);
        folder.stray_pins = stray(names.pinned);
        let folder = Arc::new(folder);
        self.cache().insert(partition.clone(), folder.clone());
        Ok(folder)
    }

    async fn list_names(&self, partition: &TopicPartition) -> Result<Names, CatalogError> {
        let prefix = self.keys().folder(partition);
        let mut names = Names::default();
        let listed = match self.store().list(&prefix).await {
            Err(_) if mutation::active(Mutation::StoreErrorIsEmpty) => Vec::new(),
            listed => listed?,
        };
        for info in listed {
            let Some(name) = info.key.as_str().strip_prefix(&prefix) else {
                continue;
            };
            match name.parse() {
                Ok(FileName::Snap(snap)) => {
                    names.files.push((snap, info.size_bytes));
                }
                Ok(FileName::Manifest(id)) => {
                    names.manifests.insert(id, info);
                }
                Ok(FileName::Proof(id)) => {
                    names.proofs.insert(id);
                }
                Ok(FileName::Quarantine(id)) => {
                    names.quarantined.insert(id);
                }
                Ok(FileName::Pin(id)) => {
                    names.pinned.insert(id);
                }
                Ok(FileName::Deleting { snap, flag }) => names.flags.push(Flag { snap, flag }),
                // Nothing of ours: never read, never deleted.
                Err(_) => {}
            }
        }
        names.files.sort_unstable();
        names.files.shrink_to_fit();
        Ok(names)
    }

    /// Reads and checks a manifest, past every cache. Its id and partition must be those of its name.
    pub async fn read_manifest(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<(Manifest, ManifestDigest), CatalogError> {
        let key = self.keys().manifest(partition, id)?;
        let Object { bytes, .. } = self.store().get(&key, MANIFEST_MAX_BYTES).await?;
        let named = |source| CatalogError::Format {
            key: key.to_string(),
            source,
        };
        let manifest = Manifest::decode_named(&bytes, id).map_err(named)?;
        if manifest.partition != *partition {
            return Err(CatalogError::WrongFolder {
                key: key.to_string(),
                partition: manifest.partition,
            });
        }
        Ok((manifest, ManifestDigest::of(&bytes)))
    }

    /// Reads a proof. One that is damaged or speaks of another manifest proves nothing: `None`.
    async fn read_proof(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
        digest: ManifestDigest,
    ) -> Result<Option<Arc<Proof>>, CatalogError> {
        let key = self.keys().proof(partition, id)?;
        let bytes = match self.store().get(&key, PROOF_MAX_BYTES).await {
            Ok(object) => object.bytes,
            Err(StoreError::NotFound { .. } | StoreError::TooLarge { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let proof = Proof::decode(&bytes).ok();
        Ok(proof.filter(|proof| proof.covers(id, digest)).map(Arc::new))
    }

    /// Reads manifest and proof of a snapshot past every cache; both must be there, whole and of each other, and no
    /// mark may say that the snapshot does not verify.
    pub async fn reread_proven(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<Snapshot, CatalogError> {
        let (manifest, digest) = self.read_manifest(partition, id).await?;
        let proof = self.read_proof(partition, id, digest).await?;
        let Some(proof) = proof else {
            return Err(CatalogError::ProofMismatch {
                snapshot_id: id.to_string(),
            });
        };
        let mark = self.keys().object(partition, FileName::Quarantine(id))?;
        match self.store().head(&mark).await {
            Err(StoreError::NotFound { .. }) => {}
            Ok(_) => {
                return Err(CatalogError::Quarantined {
                    snapshot_id: id.to_string(),
                });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Snapshot {
            id,
            manifest: Arc::new(manifest),
            digest,
            committed_at_unix_ms: 0,
            proof: Some(proof),
            quarantined: false,
            pinned: false,
        })
    }
}
