//! The plan of a restore of a whole lost cluster: which snapshot each partition of the new incarnation starts from.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    FORMAT_VERSION, FormatError, Identity, ManifestDigest, PLAN_MAX_BYTES, PLAN_PARTITIONS_MAX,
    SnapshotId, envelope, names,
    proof::check_version,
    rules::{Object, Rule},
    validate::require,
};
use crate::{
    error::InvalidName,
    raft::{Lineage, TopicPartition},
};

/// Folder of the plans under the store's prefix. No topic's folder: topics encode the `@`.
pub const PLAN_FOLDER: &str = "@holds/";

/// What restore-cluster decided, once for all brokers. The snapshots that it names are never deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestorePlan {
    /// Always [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Identity of the cluster.
    pub cluster_id: String,
    /// The incarnation that begins with this plan.
    pub incarnation: u64,
    /// That of the identity which the plan belongs to, and of the plan's own name.
    pub restore_uuid: Uuid,
    /// When, for people.
    pub created_at_unix_ms: i64,
    /// What each partition starts from, ascending by partition, then topic id.
    pub partitions: Vec<PlannedPartition>,
}

/// One life of a partition in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedPartition {
    /// The Raft group.
    pub partition: TopicPartition,
    /// Life of the topic; it goes on in the new incarnation.
    pub topic_id: String,
    /// Incarnation that the snapshot was made in.
    pub from_incarnation: u64,
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// Its manifest.
    pub manifest_digest: ManifestDigest,
}

impl PlannedPartition {
    fn key(&self) -> (&TopicPartition, &str) {
        (&self.partition, &self.topic_id)
    }

    /// The lineage of a topic in some life of the cluster.
    pub fn lineage(
        cluster_id: &str,
        incarnation: u64,
        topic_id: &str,
    ) -> Result<Lineage, FormatError> {
        Lineage::new(cluster_id, incarnation, topic_id).map_err(domain)
    }
}

impl RestorePlan {
    /// The object's bytes.
    pub fn encode(&self) -> Result<Bytes, FormatError> {
        self.validate()?;
        let bytes = envelope::seal(self);
        let len_bytes = bytes.len() as u64;
        if len_bytes > PLAN_MAX_BYTES {
            return Err(FormatError::TooLarge {
                object: Object::Plan,
                len_bytes,
                max_bytes: PLAN_MAX_BYTES,
            });
        }
        Ok(bytes)
    }

    /// Reads a plan; strict like [`super::Manifest::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let plan: Self = envelope::open(Object::Plan, bytes, PLAN_MAX_BYTES)?;
        plan.validate()?;
        Ok(plan)
    }

    /// Its name inside [`PLAN_FOLDER`]: `{restore_uuid}.json`.
    pub fn file_name(restore_uuid: Uuid) -> String {
        format!("{restore_uuid}.json")
    }

    /// The identity of the incarnation that begins with this plan.
    pub fn identity(&self) -> Result<Identity, FormatError> {
        Identity::restored(&self.cluster_id, self.incarnation, self.restore_uuid)
    }

    /// What one life of a partition starts from; `None` = nothing of it is restored.
    pub fn find(&self, partition: &TopicPartition, topic_id: &str) -> Option<&PlannedPartition> {
        let found = self
            .partitions
            .binary_search_by(|planned| planned.key().cmp(&(partition, topic_id)));
        self.partitions.get(found.ok()?)
    }

    fn validate(&self) -> Result<(), FormatError> {
        check_version(Object::Plan, self.format_version)?;
        self.identity()?;
        let broken = |rule| FormatError::Rule {
            object: Object::Plan,
            rule,
        };
        require(self.created_at_unix_ms >= 0, Rule::NegativeTime).map_err(broken)?;
        require(self.partitions.len() <= PLAN_PARTITIONS_MAX, Rule::PlanSize).map_err(broken)?;
        let ascending = self
            .partitions
            .windows(2)
            .all(|pair| pair[0].key() < pair[1].key());
        require(ascending, Rule::PlanOrder).map_err(broken)?;
        for (position, planned) in self.partitions.iter().enumerate() {
            let TopicPartition { topic, partition } = &planned.partition;
            TopicPartition::new(topic.as_str(), *partition).map_err(domain)?;
            let source = PlannedPartition::lineage(
                &self.cluster_id,
                planned.from_incarnation,
                &planned.topic_id,
            )?;
            let of_lineage = planned.snapshot_id.lineage_hash == source.short_hash();
            require(of_lineage, Rule::PlanLineage { position }).map_err(broken)?;
            let former = planned.from_incarnation < self.incarnation;
            require(former, Rule::PlanIncarnation { position }).map_err(broken)?;
        }
        Ok(())
    }
}

fn domain(source: InvalidName) -> FormatError {
    FormatError::Domain {
        object: Object::Plan,
        source,
    }
}

/// What an operator hands to every broker of a restored cluster: `{incarnation}.{restore_uuid}.{cluster_id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreToken(pub Identity);

impl std::fmt::Display for RestoreToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Identity {
            cluster_id,
            incarnation,
            restore_uuid,
            ..
        } = &self.0;
        write!(f, "{incarnation}.{restore_uuid}.{cluster_id}")
    }
}

impl std::str::FromStr for RestoreToken {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let parts = text.split_once('.').and_then(|(incarnation, rest)| {
            let (uuid, cluster_id) = rest.split_once('.')?;
            Some((
                incarnation.parse().ok()?,
                Uuid::try_parse(uuid).ok()?,
                cluster_id,
            ))
        });
        let (incarnation, uuid, cluster_id) = parts.ok_or_else(|| names::illegal(text))?;
        let token = Self(Identity::restored(cluster_id, incarnation, uuid)?);
        if token.to_string() == text && token.0.format_version == FORMAT_VERSION {
            return Ok(token);
        }
        Err(names::illegal(text))
    }
}
