//! Copies snapshots to another prefix or bucket: whose they are, then data, manifest, pin, proof, as a snapshot is made.
//!
//! Nothing in the target is replaced. What is there already is kept if it is the same, and everything is read back in
//! the target before its manifest is written there. So a copy that broke off is gone on with by the same command.
//!
//! | die after | what is left in the target |
//! |---|---|
//! | plans are written | plans without an identity: they mean nothing |
//! | the identities are written | a store of the same cluster, without snapshots |
//! | a `.snap` is written | a `.snap` without a manifest; the next copy keeps it if it reads back right |
//! | a manifest is written | a committed snapshot without proof; the next copy writes it |

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{Filter, ToolError, Tools};
use crate::{
    catalog::{Catalog, CatalogError, Folder, Snapshot},
    config::object_store::{Backend, ObjectStoreConfig},
    error::{Kind, chain},
    format::{IDENTITY_MAX_BYTES, Identity},
    pipeline::plane::{self, ReadError, Scope},
    raft::TopicPartition,
    store::{Key, PutNew, StoreError},
};

/// What is read and written at a time.
const PIECE_BYTES: u64 = 8 << 20;

/// From where to where.
pub struct Copier<'a> {
    /// Read only.
    pub from: &'a Tools,
    /// Written.
    pub to: &'a Tools,
    /// Stored bytes that were looked at or copied so far.
    pub done_bytes: &'a Cell<u64>,
}

/// What is to be copied.
pub struct CopyWork {
    identity: Identity,
    folders: Vec<Arc<Folder>>,
}

impl CopyWork {
    /// Bytes of all files that it needs.
    pub fn stored_bytes(&self) -> u64 {
        let needed = self.folders.iter().flat_map(|folder| {
            let needed = folder.referenced_files();
            folder
                .files
                .iter()
                .filter(move |(name, _)| needed.contains(name))
        });
        needed.map(|(_, size_bytes)| size_bytes).sum()
    }
}

/// What a copy did.
#[derive(Debug, Default)]
pub struct Copied {
    /// Snapshots that are new in the target.
    pub snapshots: usize,
    /// Snapshots that were there already.
    pub kept: usize,
    /// Files that were written.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots that were left out because they are marked.
    pub quarantined: usize,
    /// Those of them that were there, not marked, and are marked there now.
    pub marked: usize,
    /// Snapshots that could not be copied because they are damaged, or cannot be understood.
    pub damaged: Vec<Damaged>,
}

/// A snapshot that does not verify.
#[derive(Debug)]
pub struct Damaged {
    /// Whose.
    pub partition: TopicPartition,
    /// Its id.
    pub snapshot_id: String,
    /// The first damage.
    pub problem: String,
}

/// Refuses places that overlap: a copy would be listed as if it were a topic, or would be the original.
pub fn check_places(from: &ObjectStoreConfig, to: &ObjectStoreConfig) -> Result<(), ToolError> {
    let overlap = from.prefix.starts_with(&to.prefix) || to.prefix.starts_with(&from.prefix);
    if !overlap || !same_bucket(&from.backend, &to.backend) {
        return Ok(());
    }
    Err(ToolError::SamePlace {
        from: from.prefix.clone(),
        to: to.prefix.clone(),
    })
}

fn same_bucket(a: &Backend, b: &Backend) -> bool {
    match (a, b) {
        (Backend::S3(a), Backend::S3(b)) => a.bucket == b.bucket && a.endpoint == b.endpoint,
        (Backend::Gcs { bucket: a }, Backend::Gcs { bucket: b })
        | (Backend::Azure { container: a }, Backend::Azure { container: b }) => a == b,
        (Backend::Local { root: a }, Backend::Local { root: b }) => {
            let real = |path: &std::path::Path| std::fs::canonicalize(path).ok();
            a == b || (real(a).is_some() && real(a) == real(b))
        }
        (Backend::Memory, Backend::Memory) => true,
        _ => false,
    }
}

impl Copier<'_> {
    /// Finds what is to be copied. A source without identity is refused.
    pub async fn work(&self, filter: Option<&Filter>) -> Result<CopyWork, ToolError> {
        let identity = self.from.identity().await?;
        let mut folders = Vec::new();
        for partition in self.from.partitions(filter).await? {
            folders.push(match filter {
                Some(Filter::Partition(_)) => self.from.folder(&partition).await?,
                _ => self.from.catalog.look(&partition).await?,
            });
        }
        Ok(CopyWork { identity, folders })
    }

    /// Copies all of it. Fails when a store fails, or something else is where the copy goes.
    pub async fn copy(&self, work: CopyWork) -> Result<Copied, ToolError> {
        self.claim(&work.identity).await?;
        let mut copied = Copied::default();
        for folder in &work.folders {
            self.copy_folder(folder, &mut copied).await?;
        }
        Ok(copied)
    }

    /// The target must be of the same life of the same cluster, or empty; then it becomes that.
    async fn claim(&self, identity: &Identity) -> Result<(), ToolError> {
        let (from, to) = (&self.from.catalog, &self.to.catalog);
        let lives = from.lives().await?;
        let mut plans = BTreeMap::new();
        for (_, restore_uuid) in &lives {
            match from.plan(*restore_uuid).await {
                Ok(plan) => plans.insert(to.keys().plan(*restore_uuid)?, plan),
                // A life that was not restored from another one.
                Err(CatalogError::Store(error)) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            };
        }
        match to.read_identity().await? {
            Some(found) if found == *identity => {}
            Some(found) => {
                return Err(ToolError::TargetOfAnother {
                    cluster_id: found.cluster_id,
                    incarnation: found.incarnation,
                    source_cluster_id: identity.cluster_id.clone(),
                    source_incarnation: identity.incarnation,
                });
            }
            None => refuse_if_used(to, |key| plans.contains_key(key)).await?,
        }
        for (key, plan) in &plans {
            let bytes = plan.encode()?;
            put_same(to, key, bytes).await?;
        }
        // The last life first: from its object on the target is this cluster's.
        for (incarnation, restore_uuid) in lives {
            let named =
                |catalog: &Catalog| catalog.keys().identity_named(incarnation, restore_uuid);
            let object = from.store().get(&named(from)?, IDENTITY_MAX_BYTES).await?;
            put_same(to, &named(to)?, object.bytes).await?;
        }
        Ok(())
    }

    async fn copy_folder(&self, folder: &Folder, copied: &mut Copied) -> Result<(), ToolError> {
        let partition = &folder.partition;
        let damaged = |id: String, problem: String| Damaged {
            partition: partition.clone(),
            snapshot_id: id,
            problem,
        };
        let unreadable = folder.unreadable.iter();
        let unreadable = unreadable.map(|one| damaged(one.id.to_string(), one.problem.clone()));
        copied.damaged.extend(unreadable);
        let there = self.to.catalog.look(partition).await?;
        // Files whose every block was read back in the target.
        let mut proven = BTreeSet::new();
        // The oldest first: it wrote the files that later ones point into.
        for snapshot in folder.snapshots.iter().rev() {
            if self.from.abort.is_cancelled() {
                return Err(ToolError::Cancelled);
            }
            if snapshot.quarantined {
                copied.quarantined += 1;
                if there.find(snapshot.id).is_some_and(Snapshot::is_good) {
                    self.copy_mark(snapshot).await?;
                    copied.marked += 1;
                }
                continue;
            }
            if self.is_there(&there, snapshot).await? {
                copied.kept += 1;
                continue;
            }
            match self.copy_snapshot(snapshot, &mut proven, copied).await? {
                None => copied.snapshots += 1,
                Some(problem) => copied
                    .damaged
                    .push(damaged(snapshot.id.to_string(), problem)),
            }
        }
        Ok(())
    }

    /// What was marked after it was copied is marked in the target, too.
    async fn copy_mark(&self, snapshot: &Snapshot) -> Result<(), ToolError> {
        let partition = &snapshot.manifest.partition;
        let mark = self.from.catalog.read_quarantine(partition, snapshot.id);
        if let Some(mark) = mark.await? {
            self.to.catalog.quarantine(partition, &mark).await?;
        }
        Ok(())
    }

    /// The very manifest, as proven as in the source, and every file with its size.
    async fn is_there(&self, there: &Folder, snapshot: &Snapshot) -> Result<bool, ToolError> {
        let Some(found) = there.find(snapshot.id) else {
            return Ok(false);
        };
        if found.digest != snapshot.digest {
            return Err(ToolError::Different {
                key: self
                    .to
                    .catalog
                    .keys()
                    .manifest(&there.partition, snapshot.id)?
                    .to_string(),
            });
        }
        if found.proof.is_none() && snapshot.proof.is_some() {
            return Ok(false);
        }
        if snapshot.pinned && !found.pinned {
            self.to.catalog.pin(&there.partition, snapshot.id).await?;
        }
        match self.to.catalog.head_files(&found.manifest).await {
            Ok(_) => Ok(true),
            Err(CatalogError::Undermined { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Data, manifest, proof. What is wrong with the snapshot, if something is.
    async fn copy_snapshot(
        &self,
        snapshot: &Snapshot,
        proven: &mut BTreeSet<String>,
        copied: &mut Copied,
    ) -> Result<Option<String>, ToolError> {
        let manifest = &snapshot.manifest;
        let partition = &manifest.partition;
        let mut written = Vec::new();
        for extent in manifest.file_extents() {
            let key = |catalog: &Catalog| catalog.keys().named(partition, &extent.name);
            let (from, to) = (key(&self.from.catalog)?, key(&self.to.catalog)?);
            let size_bytes = match self.from.catalog.store().head(&from).await {
                Ok(info) => info.size_bytes,
                Err(error) if error.is_not_found() => {
                    return Ok(Some(format!("{} does not exist", extent.name)));
                }
                Err(error) => return Err(error.into()),
            };
            match self.to.catalog.store().head(&to).await {
                Ok(info) if info.size_bytes == size_bytes => {}
                Ok(_) => {
                    return Err(ToolError::Different {
                        key: to.to_string(),
                    });
                }
                Err(error) if error.is_not_found() => {
                    self.copy_file(&from, &to, size_bytes).await?;
                    copied.files += 1;
                    copied.bytes += size_bytes;
                    written.push((extent.name, to));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Read twice: one wrong reading is no reason to take anything away.
        let mut problem = self.read_back(snapshot, proven).await?;
        if problem.is_some() {
            problem = self.read_back(snapshot, proven).await?;
        }
        if let Some(problem) = problem {
            if written.is_empty() {
                return Ok(Some(format!("in the target: {problem}")));
            }
            // Nothing pointed into them when this copy began, and nothing but a second copy could by now.
            let there = self.to.catalog.look(partition).await?;
            let needed = there.referenced_files();
            for (name, key) in &written {
                if !name.parse().is_ok_and(|name| needed.contains(&name)) {
                    self.to.catalog.store().delete(key).await?;
                }
            }
            return Ok(Some(problem));
        }
        self.to.catalog.commit(manifest).await?;
        if snapshot.pinned {
            self.to.catalog.pin(partition, snapshot.id).await?;
        }
        self.to.catalog.confirm_files(manifest).await?;
        if let Some(proof) = &snapshot.proof {
            self.to.catalog.prove(partition, proof).await?;
        }
        Ok(None)
    }

    async fn copy_file(&self, from: &Key, to: &Key, size_bytes: u64) -> Result<(), ToolError> {
        let mut upload = self.to.catalog.store().upload(to, size_bytes);
        let work = async {
            let mut at = 0;
            while at < size_bytes {
                let end = size_bytes.min(at + PIECE_BYTES);
                let piece = self.from.catalog.store().get_range(from, at..end).await?;
                upload.write(piece).await?;
                self.done_bytes.set(self.done_bytes.get() + (end - at));
                at = end;
            }
            upload.finish().await.map(drop)
        };
        let result: Option<Result<(), StoreError>> = tokio::select! {
            () = self.to.abort.cancelled() => None,
            result = work => Some(result),
        };
        if let Some(Ok(())) = result {
            return Ok(());
        }
        // What cannot be taken back is the bucket's lifecycle rule's.
        let _ = upload.abort().await;
        match result {
            Some(Err(error)) => Err(error.into()),
            _ => Err(ToolError::Cancelled),
        }
    }

    /// Reads the snapshot in the target: all of it, unless the files of earlier ones were read with these.
    async fn read_back(
        &self,
        snapshot: &Snapshot,
        proven: &mut BTreeSet<String>,
    ) -> Result<Option<String>, ToolError> {
        let manifest = &snapshot.manifest;
        let extents = manifest.file_extents();
        let mut others = extents.iter().filter(|extent| !extent.own);
        let scope = if others.all(|extent| proven.contains(&extent.name)) {
            Scope::New
        } else {
            Scope::All
        };
        let place = self.to.place(&manifest.partition);
        let (plane, abort) = (&self.to.plane, &self.to.abort);
        match plane::verify_stored(plane, &place, manifest, scope, abort).await {
            Ok(_) => {
                let own = extents.into_iter().filter(|extent| extent.own);
                proven.extend(own.map(|extent| extent.name));
                Ok(None)
            }
            Err(ReadError::Cancelled) => Err(ToolError::Cancelled),
            Err(error) if error.kind() == Kind::Corrupt => Ok(Some(chain(&error))),
            Err(source) => Err(ToolError::Read {
                partition: manifest.partition.clone(),
                id: snapshot.id,
                source,
            }),
        }
    }
}

/// Writes an object that may be there already, but not with other bytes.
async fn put_same(to: &Catalog, key: &Key, bytes: Bytes) -> Result<(), ToolError> {
    match to.store().put_new(key, bytes).await? {
        PutNew::Created | PutNew::SameBytes => Ok(()),
        PutNew::OtherBytes => Err(ToolError::Different {
            key: key.to_string(),
        }),
    }
}

async fn refuse_if_used(to: &Catalog, ours: impl Fn(&Key) -> bool) -> Result<(), ToolError> {
    let root = to.keys().root();
    let listed = to.store().list(root).await?;
    match listed.into_iter().find(|info| !ours(&info.key)) {
        None => Ok(()),
        Some(info) => Err(ToolError::TargetInUse {
            key: info.key.to_string(),
        }),
    }
}
