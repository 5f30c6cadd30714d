//! The broker beside us, behind one trait in words of the domain. `grpc.rs` speaks the wire protocol;
//! `stream.rs` holds every export to the protocol's rules, whoever implements the trait.

mod convert;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod grpc;
mod stream;

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use error::{BrokerError, Refusal};
pub use grpc::{GrpcBroker, GrpcOptions};
pub use stream::{
    CheckedExport, ExportEnd, MAX_CHUNK_BYTES, MAX_PARTS, StreamViolation, check_export,
};

use crate::{
    policy::ReplicaFacts,
    raft::{ConfState, Lineage, LogId, TopicPartition},
};

/// Who the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// Kafka node id.
    pub broker_id: i32,
    /// New at every start of the broker.
    pub boot_id: String,
    /// Software version.
    pub version: String,
    /// Protocol versions that it speaks.
    pub protocol: RangeInclusive<u32>,
    /// State encodings the broker can install.
    pub accepted_state_codecs: Vec<String>,
    /// Some Raft log of the cluster was compacted, as far as the broker knows.
    pub any_log_compacted: bool,
    /// How long producers wait lately, by its 99th percentile; none = nobody produces, or the broker cannot tell.
    pub produce_p99: Option<Duration>,
}

impl Replica {
    /// Takes over that its log was cut, until the broker lists it again.
    pub fn cut(&mut self, first_log_index: u64, freed_bytes: u64) {
        self.facts.first_log_index = first_log_index;
        self.log_size_bytes = self.log_size_bytes.saturating_sub(freed_bytes);
    }
}

/// A replica on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The Raft group.
    pub partition: TopicPartition,
    /// Life of the topic.
    pub topic_id: String,
    /// The replica's current term; not that of an entry.
    pub term: u64,
    /// What decisions depend on.
    pub facts: ReplicaFacts,
    /// Bytes of log on disk, approximately.
    pub log_size_bytes: u64,
    /// Raw bytes an export would send now, approximately.
    pub state_size_bytes: u64,
    /// Why the log is held, for people.
    pub hold_reason: String,
}

/// What an export is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest {
    /// The Raft group.
    pub partition: TopicPartition,
    /// Its lineage.
    pub lineage: Lineage,
    /// Refuse unless the applied index is above this one; 0 = any.
    pub newer_than_index: u64,
    /// Ids of sealed parts whose bytes the store has: they may be listed without being sent. At most 4096.
    pub have_parts: BTreeSet<String>,
}

/// A part as the header announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHeader {
    /// Name, unique in the snapshot.
    pub part_id: String,
    /// Raw size in bytes, exact.
    pub size_bytes: u64,
    /// The bytes under this name never change.
    pub sealed: bool,
    /// Its bytes are not in the stream: they were named in `have_parts`.
    pub omitted: bool,
}

/// First message of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportHeader {
    /// Lineage of the state.
    pub lineage: Lineage,
    /// The Raft group.
    pub partition: TopicPartition,
    /// Last entry in the state (inclusive).
    pub last_included: LogId,
    /// Configuration applied there.
    pub conf_state: ConfState,
    /// Encoding of the state.
    pub state_codec: String,
    /// Parts, in the order of their bytes.
    pub parts: Vec<PartHeader>,
}

/// Digest of one part as the broker computed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentDigest {
    /// Position in the header's parts.
    pub part: u32,
    /// Raw bytes sent.
    pub size_bytes: u64,
    /// CRC-32 of them.
    pub crc32: u32,
    /// XXH3-128 of them.
    pub xxh3_128: u128,
}

/// Last message of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportTrailer {
    /// The header's position again.
    pub last_included: LogId,
    /// Raw bytes of all parts that were sent.
    pub total_size_bytes: u64,
    /// One digest for each part that was sent.
    pub digests: Vec<SentDigest>,
}

/// One message of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportMessage {
    /// First.
    Header(ExportHeader),
    /// A piece of a part.
    Chunk {
        /// Position in the header's parts.
        part: u32,
        /// Raw bytes.
        data: Bytes,
    },
    /// Last.
    Trailer(ExportTrailer),
}

/// The messages of one export as they arrive.
pub type ExportStream = BoxStream<'static, Result<ExportMessage, BrokerError>>;

/// What a compaction is asked for. See `CompactLogRequest` of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactRequest {
    /// The Raft group.
    pub partition: TopicPartition,
    /// Its lineage.
    pub lineage: Lineage,
    /// The broker's boot id when the decision was made.
    pub boot_id: String,
    /// Where the proven snapshot ends.
    pub snapshot_last_included: LogId,
    /// Highest index to drop (inclusive).
    pub through_index: u64,
    /// The proven snapshot.
    pub snapshot_id: String,
    /// Digest of its manifest, 32 hex digits.
    pub manifest_digest: String,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Lowest index still in the log.
    pub first_log_index: u64,
    /// Log bytes freed, approximately.
    pub freed_bytes: u64,
}

/// The broker beside us. Every call has a deadline; an error says nothing about the replica's state.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Who it is.
    async fn describe(&self) -> Result<BrokerInfo, BrokerError>;

    /// The replicas that run on it, all of them or only `only`.
    async fn list_replicas(
        &self,
        only: Option<&TopicPartition>,
    ) -> Result<Vec<Replica>, BrokerError>;

    /// Starts an export. The messages are raw: pass the stream through [`check_export`].
    async fn export(&self, request: &ExportRequest) -> Result<ExportStream, BrokerError>;

    /// Drops a prefix of a replica's log.
    async fn compact(&self, request: &CompactRequest) -> Result<Compacted, BrokerError>;
}
