//! Why a connection ends, and which Kafka error code says what the node said.

use std::io;

use kafka_protocol::ResponseError;

use crate::api::ApiError;

/// Why a connection was closed. There is no way to answer these.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[from] io::Error),
    /// The length prefix is negative, too small or above the limit.
    #[error("a frame of {0} bytes is not acceptable")]
    FrameSize(i32),
    /// The client was too slow, or silent for too long.
    #[error("timed out while {0}")]
    TimedOut(&'static str),
    /// The bytes are not the request that the header announces.
    #[error("the request cannot be decoded")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An API or version that was never offered.
    #[error("API key {key} version {version} is not served")]
    Unsupported {
        /// Kafka API key.
        key: i16,
        /// Version of the request.
        version: i16,
    },
    /// An answer does not fit the negotiated version: a fault of this program.
    #[error("the answer cannot be encoded")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// No error.
pub(super) const NONE: i16 = 0;

/// The Kafka error code for the node's refusal.
pub(super) fn code(error: &ApiError) -> i16 {
    match error {
        ApiError::UnknownTopicOrPartition => ResponseError::UnknownTopicOrPartition,
        ApiError::NotLeader => ResponseError::NotLeaderOrFollower,
        ApiError::NoController => ResponseError::NotController,
        ApiError::TimedOut => ResponseError::RequestTimedOut,
        ApiError::TopicExists => ResponseError::TopicAlreadyExists,
        ApiError::InvalidReplicationFactor(_) => ResponseError::InvalidReplicationFactor,
        ApiError::OffsetOutOfRange => ResponseError::OffsetOutOfRange,
        ApiError::OutOfOrderSequence => ResponseError::OutOfOrderSequenceNumber,
        ApiError::InvalidProducerEpoch => ResponseError::InvalidProducerEpoch,
        ApiError::CorruptBatch => ResponseError::CorruptMessage,
        ApiError::Storage => ResponseError::KafkaStorageError,
    }
    .code()
}
