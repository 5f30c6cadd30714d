//! The seam between the Kafka front (`kafka/`) and the replicated node (`node/`, `meta/`, `raft/`, `state/`).
//!
//! The front speaks Kafka and validates what clients send; the node replicates. Neither reaches past this file.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

/// A broker as clients may be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerView {
    /// Kafka node id.
    pub id: i32,
    /// Host of the Kafka listener.
    pub host: String,
    /// Port of the Kafka listener.
    pub port: u16,
}

/// The cluster as this broker sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// This broker.
    pub this_broker: i32,
    /// Broker that leads `__meta`, if known.
    pub controller: Option<i32>,
    /// Every registered broker.
    pub brokers: Vec<BrokerView>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Name.
    pub name: String,
    /// Identity of this life of the topic.
    pub topic_id: Uuid,
    /// Partitions, position = number.
    pub partitions: Vec<PartitionView>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Broker that leads it, if known.
    pub leader: Option<i32>,
    /// Raft term of that leadership, as Kafka's leader epoch.
    pub leader_epoch: i32,
    /// Brokers that hold a replica.
    pub replicas: Vec<i32>,
    /// Of these, the ones believed to be caught up.
    pub in_sync: Vec<i32>,
}

/// What `create_topic` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Name, checked by the front against Kafka's rules.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// Replicas of each, 1 to the number of brokers.
    pub replication_factor: u16,
}

/// Where a batch went. For a duplicate of an idempotent producer: where the original went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record of the batch.
    pub base_offset: i64,
    /// Lowest offset of the partition.
    pub log_start_offset: i64,
}

/// What `read` returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Whole Kafka v2 record batches, the first of which contains the asked offset; empty at the end.
    pub batches: Bytes,
    /// Offset after the last committed record (exclusive).
    pub high_watermark: i64,
    /// Lowest offset of the partition.
    pub log_start_offset: i64,
}

/// Offsets of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// Lowest offset.
    pub log_start_offset: i64,
    /// Offset after the last committed record (exclusive).
    pub high_watermark: i64,
}

/// Why the node refused. The front maps each onto one Kafka error code.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    #[error("no such topic or partition")]
    UnknownTopicOrPartition,
    /// `NOT_LEADER_OR_FOLLOWER`: the client refreshes its metadata.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// `NOT_CONTROLLER` or `COORDINATOR_NOT_AVAILABLE`: retry.
    #[error("no controller is known yet")]
    NoController,
    /// `REQUEST_TIMED_OUT`: the outcome is unknown.
    #[error("the request timed out; it may or may not take effect")]
    TimedOut,
    /// `TOPIC_ALREADY_EXISTS`.
    #[error("the topic exists already")]
    TopicExists,
    /// `INVALID_REPLICATION_FACTOR`.
    #[error("the replication factor is not possible: {0} brokers are registered")]
    InvalidReplicationFactor(usize),
    /// `OFFSET_OUT_OF_RANGE`.
    #[error("the offset is outside of the log")]
    OffsetOutOfRange,
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error("the producer's sequence number is out of order")]
    OutOfOrderSequence,
    /// `INVALID_PRODUCER_EPOCH`.
    #[error("the producer's epoch is fenced")]
    InvalidProducerEpoch,
    /// `CORRUPT_MESSAGE`.
    #[error("the record batch is malformed")]
    CorruptBatch,
    /// `KAFKA_STORAGE_ERROR`.
    #[error("the broker's storage failed")]
    Storage,
}

/// What the Kafka front asks of the node.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// The cluster now. Never blocks.
    fn cluster(&self) -> ClusterView;

    /// All topics now, `__meta` not among them. Never blocks.
    fn topics(&self) -> Vec<TopicView>;

    /// Creates a topic through the `__meta` leader (forwarded if it is another broker) and returns once this
    /// broker has applied it.
    async fn create_topic(&self, topic: NewTopic, timeout: Duration)
    -> Result<TopicView, ApiError>;

    /// Deletes a topic in the same way.
    async fn delete_topic(&self, name: &str, timeout: Duration) -> Result<(), ApiError>;

    /// Replicates one Kafka v2 record batch (magic 2, CRC checked by the front) as one Raft entry and returns
    /// once it is committed and applied here (acks=all).
    ///
    /// Appends to one partition take effect in the order in which their futures are FIRST POLLED: the front polls
    /// each once, in order of arrival and outside of tokio's cooperative budget, then lets them run side by side.
    async fn append(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        timeout: Duration,
    ) -> Result<Appended, ApiError>;

    /// Reads whole committed batches from `offset` on, at most about `max_bytes` but at least one batch.
    /// Only the leader answers.
    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_bytes: usize,
    ) -> Result<Fetched, ApiError>;

    /// Returns when the high watermark is above `offset`, or after `timeout`, whichever is first.
    async fn wait_beyond(&self, topic: &str, partition: i32, offset: i64, timeout: Duration);

    /// Offsets of a partition. Only the leader answers.
    fn offsets(&self, topic: &str, partition: i32) -> Result<Offsets, ApiError>;

    /// Lowest offset of a record whose timestamp is at or after `timestamp_ms`, with that timestamp.
    async fn offset_for_time(
        &self,
        topic: &str,
        partition: i32,
        timestamp_ms: i64,
    ) -> Result<Option<(i64, i64)>, ApiError>;

    /// A producer id that was never given out before, from the replicated allocator.
    async fn allocate_producer_id(&self, timeout: Duration) -> Result<i64, ApiError>;
}
