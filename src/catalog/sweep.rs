//! Deletes `.snap` objects that no manifest points into. The only code that deletes one.
//!
//! No clock of another machine and no conditional write is relied on, only that a list shows what was written
//! before it. For an unreferenced file X:
//!
//! | step | die here: what is left | who cleans it |
//! |---|---|---|
//! | 1 PUT `X.deleting-{uuid}` | a flag; X stays | the next sweep flags X again; flags of X go once X is gone |
//! | 2 list the manifests again; X referenced: remove our flag, keep X | as 1 | as 1 |
//! | 3 wait the grace (for restores that still read X) | as 1 | as 1 |
//! | 4 list the manifests again; X referenced: as 2 | as 1 | as 1 |
//! | 5 DELETE X, HEAD says gone | flags without a file | any sweep |
//! | 6 remove the flags of X | some of them | any sweep |
//!
//! A committer writes its manifest, then lists the flags, then looks for the files (`write.rs`). So either step 4
//! sees its manifest, or it sees the flag or the missing file and writes no proof: nothing rests on that snapshot.
//! A flag is removed only by its owner while no DELETE was sent, or by anyone once X is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Catalog, CatalogError, Folder};
use crate::{
    clock::SharedClock,
    format::{FileName, SnapName},
    mutation::{self, Mutation},
    raft::TopicPartition,
    store::{Key, StoreError},
};

/// A file that does not go away at once is not asked again sooner.
const NEXT_DUE_FLOOR: Duration = Duration::from_secs(1);

/// Older than any upload: what nobody has written to for this long, its process has left behind. By wall time, the only
/// one that a file has; a clock that is wrong costs an upload that runs, never a snapshot.
const UNFINISHED_AGE: Duration = Duration::from_hours(24);

/// A file under a flag of ours.
#[derive(Debug, Clone, Copy)]
struct Pending {
    flag: Uuid,
    since: Instant,
    /// The DELETE may be on its way: the flag must outlive the file.
    delete_sent: bool,
}

/// What a sweep did in one folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Files that no manifest points into.
    pub orphans: usize,
    /// Of these, newly flagged now.
    pub flagged: usize,
    /// Of these, deleted now.
    pub deleted: usize,
    /// Files of unfinished uploads removed now; in a local directory only.
    pub unfinished: usize,
    /// When the next flagged file may be deleted, if one waits.
    pub next_due: Option<Duration>,
}

/// Remembers, for as long as the process lives, which files it flagged and since when.
pub struct Sweeper {
    clock: SharedClock,
    grace: Duration,
    pending: Mutex<BTreeMap<(TopicPartition, SnapName), Pending>>,
}

impl Sweeper {
    /// A sweeper that leaves a flagged file alone for `grace`.
    pub fn new(clock: SharedClock, grace: Duration) -> Self {
        Self {
            clock,
            grace,
            pending: Mutex::new(BTreeMap::new()),
        }
    }

    /// One pass over a partition's folder. The caller has just checked the store's identity.
    pub async fn sweep(
        &self,
        catalog: &Catalog,
        partition: &TopicPartition,
    ) -> Result<SweepReport, CatalogError> {
        let folder = catalog.look(partition).await?;
        refuse_if_blocked(&folder)?;
        self.remove_garbage(catalog, &folder).await?;
        let orphans = folder.unreferenced_files();
        let mut report = SweepReport {
            orphans: orphans.len(),
            unfinished: self.remove_unfinished(catalog, partition).await?,
            ..SweepReport::default()
        };
        self.unflag_referenced(catalog, partition, &orphans).await?;
        let mut ripe = Vec::new();
        for file in orphans {
            match self.pending_of(partition, file) {
                None if mutation::active(Mutation::SweepWithoutFlag) => ripe.push(file),
                None => {
                    self.flag(catalog, partition, file).await?;
                    report.flagged += 1;
                    if mutation::active(Mutation::ManifestsBeforeFlag) {
                        ripe.push(file);
                    }
                }
                Some(pending) if self.waited(pending) >= self.grace => ripe.push(file),
                Some(_) => {}
            }
        }
        if report.flagged > 0 && !mutation::active(Mutation::ManifestsBeforeFlag) {
            // Step 2: a commit that our listing missed shows now.
            let folder = catalog.look(partition).await?;
            self.unflag_referenced(catalog, partition, &folder.unreferenced_files())
                .await?;
        }
        if !ripe.is_empty() {
            report.deleted = self.delete_ripe(catalog, partition, &folder, ripe).await?;
        }
        report.next_due = self.next_due(partition);
        Ok(report)
    }

    async fn remove_unfinished(
        &self,
        catalog: &Catalog,
        partition: &TopicPartition,
    ) -> Result<usize, CatalogError> {
        let folder = catalog.keys().folder(partition);
        let now = UNIX_EPOCH + self.clock.wall();
        let removed = catalog
            .store()
            .remove_abandoned(&folder, UNFINISHED_AGE, now);
        Ok(removed.await?)
    }

    fn waited(&self, pending: Pending) -> Duration {
        self.clock.now().saturating_duration_since(pending.since)
    }

    async fn flag(
        &self,
        catalog: &Catalog,
        partition: &TopicPartition,
        file: SnapName,
    ) -> Result<(), CatalogError> {
        let flag = self.clock.new_uuid();
        let key = catalog.keys().flag(partition, file, flag)?;
        catalog
            .store()
            .put(&key, Bytes::from_static(b"{}\n"))
            .await?;
        let since = self.clock.now();
        let pending = Pending {
            flag,
            since,
            delete_sent: false,
        };
        self.lock().insert((partition.clone(), file), pending);
        Ok(())
    }

    /// Removes our flags from files that are referenced after all (or gone).
    async fn unflag_referenced(
        &self,
        catalog: &Catalog,
        partition: &TopicPartition,
        orphans: &BTreeSet<SnapName>,
    ) -> Result<(), CatalogError> {
        let wrong: Vec<(SnapName, Pending)> = self
            .lock()
            .iter()
            .filter(|((owner, file), _)| owner == partition && !orphans.contains(file))
            .map(|((_, file), pending)| (*file, *pending))
            .collect();
        for (file, pending) in wrong {
            if pending.delete_sent
                && !gone(
                    catalog,
                    &catalog.keys().object(partition, FileName::Snap(file))?,
                )
                .await?
            {
                continue;
            }
            let key = catalog.keys().flag(partition, file, pending.flag)?;
            catalog.store().delete(&key).await?;
            self.lock().remove(&(partition.clone(), file));
        }
        Ok(())
    }

    /// Steps 4 to 6 for files whose grace is over.
    async fn delete_ripe(
        &self,
        catalog: &Catalog,
        partition: &TopicPartition,
        seen: &Arc<Folder>,
        ripe: Vec<SnapName>,
    ) -> Result<usize, CatalogError> {
        let folder: Arc<Folder> = if mutation::active(Mutation::ManifestsBeforeFlag) {
            seen.clone()
        } else {
            catalog.look(partition).await?
        };
        refuse_if_blocked(&folder)?;
        let unreferenced = folder.unreferenced_files();
        let mut deleted = 0;
        for file in ripe {
            if !unreferenced.contains(&file) {
                continue;
            }
            let key = catalog.keys().object(partition, FileName::Snap(file))?;
            if mutation::active(Mutation::FlagRemovedFirst) {
                self.unflag(catalog, &folder, file).await?;
            }
            if let Some(pending) = self.lock().get_mut(&(partition.clone(), file)) {
                pending.delete_sent = true;
            }
            catalog.store().delete(&key).await?;
            match catalog.store().head(&key).await {
                Err(StoreError::NotFound { .. }) => {}
                // Still there: the flag stays, the next pass sends the DELETE again.
                Ok(_) => continue,
                Err(error) => return Err(error.into()),
            }
            deleted += 1;
            self.unflag(catalog, &folder, file).await?;
            self.lock().remove(&(partition.clone(), file));
        }
        Ok(deleted)
    }

    /// Removes the flags of a file, whoever's they are.
    async fn unflag(
        &self,
        catalog: &Catalog,
        folder: &Folder,
        file: SnapName,
    ) -> Result<(), CatalogError> {
        for flag in folder.flags.iter().filter(|flag| flag.snap == file) {
            let key = catalog.keys().flag(&folder.partition, file, flag.flag)?;
            catalog.store().delete(&key).await?;
        }
        Ok(())
    }

    /// Flags whose file is gone; proofs and pins whose manifest is gone.
    async fn remove_garbage(&self, catalog: &Catalog, folder: &Folder) -> Result<(), CatalogError> {
        let partition = &folder.partition;
        for flag in folder
            .flags
            .iter()
            .filter(|flag| folder.size_of(&flag.snap).is_none())
        {
            if gone(
                catalog,
                &catalog
                    .keys()
                    .object(partition, FileName::Snap(flag.snap))?,
            )
            .await?
            {
                let key = catalog.keys().flag(partition, flag.snap, flag.flag)?;
                catalog.store().delete(&key).await?;
            }
        }
        for id in &folder.stray_proofs {
            // The listing may have passed the manifest's place before it was written.
            if gone(catalog, &catalog.keys().manifest(partition, *id)?).await? {
                let key = catalog.keys().proof(partition, *id)?;
                catalog.store().delete(&key).await?;
            }
        }
        for id in &folder.stray_pins {
            if gone(catalog, &catalog.keys().manifest(partition, *id)?).await? {
                catalog.unpin(partition, *id).await?;
            }
        }
        Ok(())
    }

    fn pending_of(&self, partition: &TopicPartition, file: SnapName) -> Option<Pending> {
        self.lock().get(&(partition.clone(), file)).copied()
    }

    fn next_due(&self, partition: &TopicPartition) -> Option<Duration> {
        let pending = self.lock();
        let mine = pending.iter().filter(|((owner, _), _)| owner == partition);
        mine.map(|(_, pending)| self.grace.saturating_sub(self.waited(*pending)))
            .min()
            .map(|wait| wait.max(NEXT_DUE_FLOOR))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TopicPartition, SnapName), Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn gone(catalog: &Catalog, key: &Key) -> Result<bool, CatalogError> {
    match catalog.store().head(key).await {
        Ok(_) => Ok(false),
        Err(StoreError::NotFound { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn refuse_if_blocked(folder: &Folder) -> Result<(), CatalogError> {
    match folder.unreadable.first() {
        None => Ok(()),
        Some(unreadable) => Err(CatalogError::DeletionBlocked {
            name: unreadable.name.clone(),
            problem: unreadable.problem.clone(),
        }),
    }
}
