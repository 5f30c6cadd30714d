//! Whose store this is: the identity objects, and the claim of an empty store.
//!
//! Identities are append-only and their bytes are deterministic: any number of sidecars may claim a new store at
//! once and write the same thing. The highest incarnation wins; two different ones of the highest: all refuse.

use uuid::Uuid;

use super::{Catalog, CatalogError};
use crate::format::{IDENTITY_MAX_BYTES, Identity};

/// What the broker says about its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterClaim {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// Some log was truncated: a store without identity cannot be this cluster's.
    pub any_log_compacted: bool,
}

impl Catalog {
    /// Reads the identity past every cache and compares it with the broker's; claims an unclaimed store if no
    /// log was ever truncated. Called before every commit and every batch of deletions.
    pub async fn check_identity(&self, claim: &ClusterClaim) -> Result<(), CatalogError> {
        if self.compare_identity(claim).await? {
            return Ok(());
        }
        self.claim(claim).await
    }

    /// The same without writing anything: true = the store is the broker's cluster's, false = it may be claimed.
    pub async fn compare_identity(&self, claim: &ClusterClaim) -> Result<bool, CatalogError> {
        if let Some(identity) = self.read_identity().await? {
            return compare(&identity, claim).map(|()| true);
        }
        if claim.any_log_compacted {
            return Err(CatalogError::IdentityMissing {
                prefix: self.keys().identity_folder(),
                cluster_id: claim.cluster_id.clone(),
            });
        }
        Ok(false)
    }

    /// Reads the identity, if there is one.
    pub async fn read_identity(&self) -> Result<Option<Identity>, CatalogError> {
        let lives = self.lives().await?;
        let Some((incarnation, uuid)) = lives.first() else {
            return Ok(None);
        };
        if lives
            .get(1)
            .is_some_and(|(second, _)| second == incarnation)
        {
            return Err(CatalogError::IdentityAmbiguous {
                incarnation: *incarnation,
                prefix: self.keys().identity_folder(),
            });
        }
        let key = self.keys().identity_named(*incarnation, *uuid)?;
        let object = self.store().get(&key, IDENTITY_MAX_BYTES).await?;
        let identity = Identity::decode(&object.bytes).map_err(|source| CatalogError::Format {
            key: key.to_string(),
            source,
        })?;
        Ok(Some(identity))
    }

    /// Every life of the cluster that the store's names tell of, the last one first: incarnation and restore uuid.
    pub async fn lives(&self) -> Result<Vec<(u64, Uuid)>, CatalogError> {
        let folder = self.keys().identity_folder();
        let listed = self.store().list(&folder).await?;
        let named = listed.iter().filter_map(|info| {
            let name = info.key.as_str().strip_prefix(&folder)?;
            Identity::parse_file_name(name).ok()
        });
        let mut lives: Vec<_> = named.collect();
        lives.sort_by(|a, b| b.cmp(a));
        Ok(lives)
    }

    /// Writes an identity, create-only, and reads back that it is the one that counts.
    pub async fn write_identity(&self, identity: &Identity) -> Result<(), CatalogError> {
        let key = self.keys().identity(identity)?;
        self.write_once(&key, identity.encode()).await?;
        match self.read_identity().await? {
            Some(read) if read == *identity => Ok(()),
            _ => Err(CatalogError::IdentityLost {
                key: key.to_string(),
            }),
        }
    }

    /// Writes the identity of a cluster into a store that has none, and reads it back.
    pub async fn claim(&self, claim: &ClusterClaim) -> Result<(), CatalogError> {
        let identity =
            Identity::first(&claim.cluster_id, claim.incarnation).map_err(CatalogError::Encode)?;
        let key = self.keys().identity(&identity)?;
        self.write_once(&key, identity.encode()).await?;
        match self.read_identity().await? {
            Some(read) => compare(&read, claim),
            None => Err(CatalogError::IdentityLost {
                key: key.to_string(),
            }),
        }
    }
}

fn compare(identity: &Identity, claim: &ClusterClaim) -> Result<(), CatalogError> {
    if identity.cluster_id == claim.cluster_id && identity.incarnation == claim.incarnation {
        return Ok(());
    }
    Err(CatalogError::IdentityMismatch {
        store_cluster_id: identity.cluster_id.clone(),
        store_incarnation: identity.incarnation,
        broker_cluster_id: claim.cluster_id.clone(),
        broker_incarnation: claim.incarnation,
    })
}
