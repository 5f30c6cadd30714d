//! The identity of the cluster that a store belongs to.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    FORMAT_VERSION, FormatError, IDENTITY_MAX_BYTES, envelope, names, proof::check_version,
    rules::Object,
};
use crate::{error::InvalidName, raft};

/// Folder of the identity objects under the store's prefix. No topic's folder: topics encode the `@`.
pub const IDENTITY_FOLDER: &str = "@cluster/";

/// One life of a cluster, as the store remembers it. Append-only; the highest incarnation wins, and two
/// `restore_uuid` under the highest one mean that everybody refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Always [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Identity of the cluster.
    pub cluster_id: String,
    /// Life of the cluster, starting at 1.
    pub incarnation: u64,
    /// Tells two restores apart that picked the same incarnation. See [`Identity::first`].
    pub restore_uuid: Uuid,
}

impl Identity {
    /// The identity that a sidecar writes into a store that has none.
    ///
    /// Its `restore_uuid` is derived from the content, so every sidecar of one cluster writes the same bytes to
    /// the same key, and two clusters that share a prefix by mistake write two keys: both stay visible, also in a
    /// store that ignores conditional writes, and both clusters refuse.
    pub fn first(cluster_id: &str, incarnation: u64) -> Result<Self, FormatError> {
        Self::restored(
            cluster_id,
            incarnation,
            derived_uuid(cluster_id, incarnation),
        )
    }

    /// The identity that restore-cluster writes: a new incarnation under a fresh uuid.
    pub fn restored(
        cluster_id: &str,
        incarnation: u64,
        restore_uuid: Uuid,
    ) -> Result<Self, FormatError> {
        let identity = Self {
            format_version: FORMAT_VERSION,
            cluster_id: cluster_id.to_owned(),
            incarnation,
            restore_uuid,
        };
        identity.validate()?;
        Ok(identity)
    }

    /// The object's bytes: the same identity gives the same bytes.
    pub fn encode(&self) -> Bytes {
        envelope::seal(self)
    }

    /// Reads an identity object; strict like [`super::Manifest::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let identity: Self = envelope::open(Object::Identity, bytes, IDENTITY_MAX_BYTES)?;
        identity.validate()?;
        Ok(identity)
    }

    /// Its name inside [`IDENTITY_FOLDER`]: `{incarnation:010}-{restore_uuid}.json`.
    pub fn file_name(&self) -> String {
        Self::name(self.incarnation, self.restore_uuid)
    }

    /// The name of an identity by its parts.
    pub fn name(incarnation: u64, restore_uuid: Uuid) -> String {
        format!("{incarnation:010}-{restore_uuid}.json")
    }

    /// The incarnation and uuid of a name inside [`IDENTITY_FOLDER`].
    pub fn parse_file_name(name: &str) -> Result<(u64, Uuid), FormatError> {
        let parsed = name.strip_suffix(".json").and_then(|stem| {
            let (incarnation, uuid) = stem.split_once('-')?;
            Some((incarnation.parse().ok()?, Uuid::try_parse(uuid).ok()?))
        });
        parsed
            .filter(|(incarnation, uuid): &(u64, Uuid)| name == Self::name(*incarnation, *uuid))
            .ok_or_else(|| names::illegal(name))
    }

    fn validate(&self) -> Result<(), FormatError> {
        let object = Object::Identity;
        check_version(object, self.format_version)?;
        let domain = |source| FormatError::Domain { object, source };
        raft::check_id("cluster_id", &self.cluster_id).map_err(domain)?;
        if self.incarnation == 0 {
            return Err(domain(InvalidName::Incarnation));
        }
        Ok(())
    }
}

/// A version-8 UUID from the XXH3-128 of `chronik-snapshot identity\n{cluster_id}\n{incarnation}`.
fn derived_uuid(cluster_id: &str, incarnation: u64) -> Uuid {
    let text = format!("chronik-snapshot identity\n{cluster_id}\n{incarnation}");
    let hash = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}
