//! Every object key below the prefix. File names inside a partition's folder are `format::FileName`'s.
//!
//! ```text
//! {prefix}@cluster/{incarnation:010}-{restore_uuid}.json        identity
//! {prefix}@holds/{restore_uuid}.json                            restore plan
//! {prefix}{topic}/{partition}/{id}.snap                         stored blocks ({id}.1.snap, ... when huge)
//! {prefix}{topic}/{partition}/{id}.manifest.json                the commit
//! {prefix}{topic}/{partition}/{id}.verified.json                the proof
//! {prefix}{topic}/{partition}/{id}.quarantined.json             the mark of a snapshot that does not verify
//! {prefix}{topic}/{partition}/{file}.snap.deleting-{uuid}       a deleter's flag on one .snap
//! ```
//!
//! In topic names every byte outside `[A-Za-z0-9._-]` is written `%XX`, and so are the dots of `.` and `..`:
//! no topic can collide with `@cluster` and `@holds`, or leave its folder.

use uuid::Uuid;

use crate::{
    format::{
        FileName, IDENTITY_FOLDER, Identity, PLAN_FOLDER, RestorePlan, SnapName, SnapshotId,
        encode_topic,
    },
    raft::TopicPartition,
    store::{Key, StoreError},
};

/// Builds the keys below one prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys below `prefix`, which is empty or ends in `/`.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// Where the identities are, with the closing slash.
    pub fn identity_folder(&self) -> String {
        format!("{}{IDENTITY_FOLDER}", self.prefix)
    }

    /// Everything that is ours, with the closing slash, or empty.
    pub fn root(&self) -> &str {
        &self.prefix
    }

    /// The plan of a restore.
    pub fn plan(&self, restore_uuid: Uuid) -> Result<Key, StoreError> {
        let name = RestorePlan::file_name(restore_uuid);
        Key::new(format!("{}{PLAN_FOLDER}{name}", self.prefix))
    }

    /// A partition's folder, with the closing slash.
    pub fn folder(&self, partition: &TopicPartition) -> String {
        let topic = encode_topic(&partition.topic);
        format!("{}{topic}/{}/", self.prefix, partition.partition)
    }

    /// An identity.
    pub fn identity(&self, identity: &Identity) -> Result<Key, StoreError> {
        self.identity_named(identity.incarnation, identity.restore_uuid)
    }

    /// An identity, by what its name says.
    pub fn identity_named(&self, incarnation: u64, restore_uuid: Uuid) -> Result<Key, StoreError> {
        let name = Identity::name(incarnation, restore_uuid);
        Key::new(format!("{}{name}", self.identity_folder()))
    }

    /// An object in a partition's folder.
    pub fn object(&self, partition: &TopicPartition, name: FileName) -> Result<Key, StoreError> {
        self.named(partition, &name.to_string())
    }

    /// An object in a partition's folder, by the name that a manifest gives it.
    pub fn named(&self, partition: &TopicPartition, name: &str) -> Result<Key, StoreError> {
        Key::new(format!("{}{name}", self.folder(partition)))
    }

    /// The manifest of a snapshot.
    pub fn manifest(&self, partition: &TopicPartition, id: SnapshotId) -> Result<Key, StoreError> {
        self.object(partition, FileName::Manifest(id))
    }

    /// The proof of a snapshot.
    pub fn proof(&self, partition: &TopicPartition, id: SnapshotId) -> Result<Key, StoreError> {
        self.object(partition, FileName::Proof(id))
    }

    /// A flag on a `.snap`.
    pub fn flag(
        &self,
        partition: &TopicPartition,
        snap: SnapName,
        flag: Uuid,
    ) -> Result<Key, StoreError> {
        self.object(partition, FileName::Deleting { snap, flag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::LogId;

    #[test]
    fn the_key_in_the_bucket_is_exactly_prefix_topic_partition_id() {
        let id = SnapshotId {
            last_included: LogId::new(3, 42),
            lineage_hash: 0xdead_beef,
            uuid: Uuid::from_u128(7),
        };
        let partition = TopicPartition::new("orders", 2).unwrap();
        let key = Keys::new("snapshots/")
            .object(&partition, FileName::Snap(SnapName { id, number: 0 }))
            .unwrap();
        assert_eq!(
            key.as_str(),
            "snapshots/orders/2/00000000000000000042-00000000000000000003-deadbeef-\
             00000000-0000-0000-0000-000000000007.snap"
        );
    }
}
