//! What the store holds: identity, and for each partition its manifests, proofs, `.snap` files and deletion flags.
//!
//! The one home of object names ([`keys`]), of the commit order (data, manifest, proof) and of the deletion
//! order (manifest, proof, and the `.snap` last, under a flag: [`sweep`]).
//!
//! Consistency: only list-after-write and read-after-write of the store are relied on. Conditional writes are
//! asked for and never trusted: names are unique, and every unclear answer is settled by reading back.
//! Manifests and proofs never change under their name, so they are cached; what exists is listed anew before
//! every decision that destroys something.

mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod folder;
mod identity;
pub mod keys;
mod listing;
mod plans;
mod sweep;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use error::CatalogError;
pub use folder::{Flag, Folder, Snapshot, Unreadable};
pub use identity::ClusterClaim;
pub use sweep::{SweepReport, Sweeper};

use uuid::Uuid;

use crate::{catalog::keys::Keys, format::RestorePlan, raft::TopicPartition, store::Store};

/// The snapshots in a store, below one prefix.
pub struct Catalog {
    store: Store,
    keys: Keys,
    folders: Mutex<HashMap<TopicPartition, Arc<Folder>>>,
    /// The plan that was read last.
    plan: Mutex<Option<Arc<RestorePlan>>>,
}

impl Catalog {
    /// The catalog of everything below `prefix` (empty, or ending in `/`).
    pub fn new(store: Store, prefix: &str) -> Self {
        Self {
            store,
            keys: Keys::new(prefix),
            folders: Mutex::new(HashMap::new()),
            plan: Mutex::new(None),
        }
    }

    /// The store itself, for the bytes of `.snap` files.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The names in it.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What was known of a partition when it was last listed. Makes no request.
    pub fn known(&self, partition: &TopicPartition) -> Option<Arc<Folder>> {
        self.cache().get(partition).cloned()
    }

    /// Drops what is known of partitions that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&TopicPartition) -> bool) {
        self.cache().retain(|partition, _| keep(partition));
    }

    fn known_plan(&self, restore_uuid: Uuid) -> Option<Arc<RestorePlan>> {
        let known = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .clone()
            .filter(|plan| plan.restore_uuid == restore_uuid)
    }

    fn remember_plan(&self, plan: Arc<RestorePlan>) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<TopicPartition, Arc<Folder>>> {
        // The map is replaced entry by entry: a panic elsewhere leaves it whole.
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
