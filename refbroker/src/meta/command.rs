//! Commands for `__meta` and what comes of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::identity::Member;

/// A change of `__meta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first command of a life of the cluster. Later ones change nothing.
    Init {
        /// Cluster.
        cluster_id: String,
        /// Life of the cluster.
        incarnation: u64,
        /// Founders.
        members: Vec<Member>,
    },
    /// New addresses of a broker that the cluster knows by this disk.
    Register {
        /// The broker.
        member: Member,
    },
    /// A broker with a new disk.
    Join {
        /// The broker.
        member: Member,
    },
    /// A new topic.
    CreateTopic {
        /// Name.
        name: String,
        /// Identity.
        topic_id: Uuid,
        /// Number of partitions.
        partitions: u32,
        /// Replicas of each.
        replication_factor: u16,
    },
    /// The end of a topic.
    DeleteTopic {
        /// Name.
        name: String,
    },
    /// A block of producer ids.
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// Some log was compacted for the first time.
    NoteCompaction,
}

impl Command {
    /// As an entry.
    pub fn encode(&self) -> Bytes {
        // Structs of strings and numbers always serialize.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, or done before.
    Done,
    /// The broker is taken in.
    Joined {
        /// Its peer id in `__meta`.
        meta_peer_id: u64,
    },
    /// Ids `first` to `first + count - 1` are the caller's.
    ProducerIds {
        /// First id.
        first: i64,
        /// How many.
        count: u32,
    },
    /// Name taken.
    TopicExists,
    /// No such topic.
    UnknownTopic,
    /// So many brokers are registered.
    InvalidReplicationFactor(usize),
    /// The cluster knows this broker by another disk.
    Stranger,
    /// Nothing but `Init` is possible yet.
    NotFormed,
    /// Not a command.
    Malformed,
}
