//! Words of the domain: positions, lineages, partitions, configurations. Plain data, no behaviour beyond its own rules.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::InvalidName;

/// A position in a Raft log: the index of an entry and the term of that entry.
///
/// Ordered by index first: in one lineage a greater index is a later state whatever the clocks said.
/// Two positions with one index and two terms are a divergence, see [`LogId::diverges_from`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct LogId {
    /// Term of the entry at `index`.
    pub term: u64,
    /// Index of the entry, 1-based; 0 = before the first entry.
    pub index: u64,
}

impl LogId {
    /// The position of entry `index`, written in `term`.
    pub const fn new(term: u64, index: u64) -> Self {
        Self { term, index }
    }

    /// True when the two name one index but two different entries: the logs have diverged.
    pub fn diverges_from(self, other: Self) -> bool {
        self.index == other.index && self.term != other.term
    }
}

impl PartialOrd for LogId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LogId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.term).cmp(&(other.index, other.term))
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// The name of one Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    /// Topic name, 1 to 249 bytes.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
}

/// The topic whose one partition is the cluster's metadata: without it nobody knows what the others are.
pub const METADATA_TOPIC: &str = "__meta";

/// Longest topic name, in bytes; Kafka's own limit.
pub const TOPIC_NAME_MAX_BYTES: usize = 249;

impl TopicPartition {
    /// Checks and builds a name.
    pub fn new(topic: impl Into<String>, partition: u32) -> Result<Self, InvalidName> {
        let topic = topic.into();
        if topic.is_empty() || topic.len() > TOPIC_NAME_MAX_BYTES {
            return Err(InvalidName::TopicLength {
                len_bytes: topic.len(),
            });
        }
        if i32::try_from(partition).is_err() {
            return Err(InvalidName::PartitionNumber { partition });
        }
        Ok(Self { topic, partition })
    }

    /// True for the cluster's metadata.
    pub fn is_metadata(&self) -> bool {
        self.topic == METADATA_TOPIC
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl FromStr for TopicPartition {
    type Err = InvalidName;

    /// Reads what `Display` wrote: `topic/number`.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let malformed = || InvalidName::Partition {
            value: text.chars().take(300).collect(),
        };
        let (topic, number) = text.rsplit_once('/').ok_or_else(malformed)?;
        Self::new(topic, number.parse().map_err(|_| malformed())?)
    }
}

/// Checks an opaque identifier: 1 to 64 bytes of `[A-Za-z0-9_-]`.
pub fn check_id(field: &'static str, value: &str) -> Result<(), InvalidName> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if value.is_empty() || value.len() > 64 || !value.bytes().all(legal) {
        return Err(InvalidName::Id {
            field,
            value: value.chars().take(80).collect(),
        });
    }
    Ok(())
}

/// One life of one topic in one cluster. Snapshots belong together if and only if their lineages are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lineage {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// Life of the cluster, starting at 1.
    pub incarnation: u64,
    /// Identity of this life of the topic.
    pub topic_id: String,
}

impl Lineage {
    /// Checks and builds a lineage.
    pub fn new(
        cluster_id: impl Into<String>,
        incarnation: u64,
        topic_id: impl Into<String>,
    ) -> Result<Self, InvalidName> {
        let lineage = Self {
            cluster_id: cluster_id.into(),
            incarnation,
            topic_id: topic_id.into(),
        };
        check_id("cluster_id", &lineage.cluster_id)?;
        check_id("topic_id", &lineage.topic_id)?;
        if incarnation == 0 {
            return Err(InvalidName::Incarnation);
        }
        Ok(lineage)
    }

    /// Eight hex digits for object names: a filter, never a proof of equality.
    pub fn short_hash(&self) -> u32 {
        let text = format!(
            "{}\n{}\n{}",
            self.cluster_id, self.incarnation, self.topic_id
        );
        crc32fast::hash(text.as_bytes())
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}#{}/{}",
            self.cluster_id, self.incarnation, self.topic_id
        )
    }
}

/// An applied Raft configuration, all five fields. Ids are Raft peer ids.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfState {
    /// Voters of the incoming (or only) configuration.
    pub voters: Vec<u64>,
    /// Learners.
    pub learners: Vec<u64>,
    /// Voters of the outgoing configuration; not empty = joint.
    pub voters_outgoing: Vec<u64>,
    /// Voters that become learners when the joint configuration is left.
    pub learners_next: Vec<u64>,
    /// The leader leaves the joint configuration by itself.
    pub auto_leave: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ids_order_by_index_before_term() {
        assert!(LogId::new(9, 9_999) < LogId::new(1, 10_000));
        assert!(LogId::new(1, 7) < LogId::new(2, 7));
    }

    #[test]
    fn one_index_with_two_terms_is_a_divergence() {
        assert!(LogId::new(1, 7).diverges_from(LogId::new(2, 7)));
        assert!(!LogId::new(1, 7).diverges_from(LogId::new(1, 7)));
        assert!(!LogId::new(1, 7).diverges_from(LogId::new(2, 8)));
    }

    #[test]
    fn lineages_refuse_what_could_not_be_told_apart() {
        assert!(Lineage::new("c", 1, "t").is_ok());
        assert!(Lineage::new("c", 0, "t").is_err());
        assert!(Lineage::new("", 1, "t").is_err());
        assert!(Lineage::new("c\n1", 1, "t").is_err());
    }
}
