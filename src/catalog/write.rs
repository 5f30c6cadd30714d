//! The commit side: manifest, the check that nothing under it is being deleted, proof; and taking a commit back.

use bytes::Bytes;

use super::{Catalog, CatalogError};
use crate::{
    format::{
        CheckedObject, FileName, Manifest, ManifestDigest, Proof, QUARANTINE_MAX_BYTES, Quarantine,
        SnapName, SnapshotId,
    },
    mutation::{self, Mutation},
    raft::TopicPartition,
    store::{Key, PutNew, StoreError},
};

impl Catalog {
    /// Writes an object under a name that nobody else gives to other bytes.
    pub(super) async fn write_once(&self, key: &Key, bytes: Bytes) -> Result<(), CatalogError> {
        match self.store().put_new(key, bytes).await? {
            PutNew::Created | PutNew::SameBytes => Ok(()),
            PutNew::OtherBytes => Err(CatalogError::Occupied {
                key: key.to_string(),
            }),
        }
    }

    /// Writes the manifest: from here on the snapshot exists. Every unclear answer is settled by reading back.
    pub async fn commit(&self, manifest: &Manifest) -> Result<ManifestDigest, CatalogError> {
        let (bytes, digest) = manifest.seal().map_err(CatalogError::Encode)?;
        let key = self
            .keys()
            .manifest(&manifest.partition, manifest.snapshot_id)?;
        self.write_once(&key, bytes).await?;
        let (_, read_back) = self
            .read_manifest(&manifest.partition, manifest.snapshot_id)
            .await?;
        if read_back != digest {
            return Err(CatalogError::Occupied {
                key: key.to_string(),
            });
        }
        Ok(digest)
    }

    /// The committer's half of the deletion protocol, after the manifest is written and before it is proven:
    /// FIRST the flags of every file it points into, THEN that each file is there with its size. In this
    /// order a deleter either saw the manifest, or its flag is seen here, or its deletion is.
    pub async fn confirm_files(
        &self,
        manifest: &Manifest,
    ) -> Result<Vec<CheckedObject>, CatalogError> {
        let folder = self.keys().folder(&manifest.partition);
        for info in self.store().list(&folder).await? {
            let name = info.key.as_str().strip_prefix(&folder).unwrap_or_default();
            if let Ok(FileName::Deleting { snap, .. }) = name.parse()
                && manifest.references.contains(&snap.to_string())
            {
                let file = snap.to_string();
                let state = "flagged for deletion";
                return Err(CatalogError::Undermined { file, state });
            }
        }
        self.head_files(manifest).await
    }

    /// Checks that every file of a snapshot is there with the size that its manifest gives it.
    pub async fn head_files(
        &self,
        manifest: &Manifest,
    ) -> Result<Vec<CheckedObject>, CatalogError> {
        let mut checked = Vec::with_capacity(manifest.references.len());
        for extent in manifest.file_extents() {
            let key = self.keys().named(&manifest.partition, &extent.name)?;
            let undermined = |state| CatalogError::Undermined {
                file: extent.name.clone(),
                state,
            };
            let info = match self.store().head(&key).await {
                Ok(info) => info,
                Err(StoreError::NotFound { .. }) => return Err(undermined("gone")),
                Err(error) => return Err(error.into()),
            };
            let right = if extent.own {
                info.size_bytes == extent.end_bytes
            } else {
                info.size_bytes >= extent.end_bytes
            };
            if !right {
                return Err(undermined("of another size"));
            }
            checked.push(CheckedObject {
                name: extent.name,
                size_bytes: info.size_bytes,
            });
        }
        Ok(checked)
    }

    /// Writes the proof. Another sidecar's proof of the same manifest is as good as ours.
    pub async fn prove(
        &self,
        partition: &TopicPartition,
        proof: &Proof,
    ) -> Result<(), CatalogError> {
        let bytes = proof.encode();
        let key = self.keys().proof(partition, proof.snapshot_id)?;
        if self.store().put_new(&key, bytes.clone()).await? == PutNew::OtherBytes {
            if self
                .reread_proven(partition, proof.snapshot_id)
                .await
                .is_ok()
            {
                return Ok(());
            }
            // Damaged, or of a manifest that is not there: it proves nothing and may be replaced.
            self.store().put(&key, bytes).await?;
        }
        self.reread_proven(partition, proof.snapshot_id)
            .await
            .map(|_| ())
    }

    /// Takes a snapshot back, or evicts it: manifest first, then proof. Its files are left to the sweep.
    pub async fn retire(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<(), CatalogError> {
        if mutation::active(Mutation::DataBeforeManifest) {
            let snap = SnapName { id, number: 0 };
            let key = self.keys().object(partition, FileName::Snap(snap))?;
            self.store().delete(&key).await?;
        }
        self.store()
            .delete(&self.keys().manifest(partition, id)?)
            .await?;
        self.store()
            .delete(&self.keys().proof(partition, id)?)
            .await?;
        Ok(())
    }

    /// Marks a snapshot that does not verify. The mark is never removed by the daemon.
    pub async fn quarantine(
        &self,
        partition: &TopicPartition,
        mark: &Quarantine,
    ) -> Result<(), CatalogError> {
        let key = self
            .keys()
            .object(partition, FileName::Quarantine(mark.snapshot_id))?;
        let bytes = mark.encode();
        // Somebody else's mark is as good as ours.
        self.store().put_new(&key, bytes).await?;
        Ok(())
    }

    /// Reads that mark past every cache; none = there is no mark.
    pub async fn read_quarantine(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<Option<Quarantine>, CatalogError> {
        let key = self.keys().object(partition, FileName::Quarantine(id))?;
        let bytes = match self.store().get(&key, QUARANTINE_MAX_BYTES).await {
            Ok(object) => object.bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mark = Quarantine::decode(&bytes).map_err(|source| CatalogError::Format {
            key: key.to_string(),
            source,
        })?;
        Ok(Some(mark))
    }

    /// Marks a snapshot that retention must keep. The name alone is the mark.
    pub async fn pin(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<(), CatalogError> {
        let key = self.keys().object(partition, FileName::Pin(id))?;
        Ok(self.store().put(&key, Bytes::from_static(b"{}\n")).await?)
    }

    /// Takes that mark back.
    pub async fn unpin(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<(), CatalogError> {
        let key = self.keys().object(partition, FileName::Pin(id))?;
        Ok(self.store().delete(&key).await?)
    }

    /// Looks for that mark, past every cache.
    pub async fn is_pinned(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<bool, CatalogError> {
        let key = self.keys().object(partition, FileName::Pin(id))?;
        match self.store().head(&key).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a mark back, for an operator who has read the whole snapshot.
    pub async fn unquarantine(
        &self,
        partition: &TopicPartition,
        id: SnapshotId,
    ) -> Result<(), CatalogError> {
        let key = self.keys().object(partition, FileName::Quarantine(id))?;
        Ok(self.store().delete(&key).await?)
    }
}
