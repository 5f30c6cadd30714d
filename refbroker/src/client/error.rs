//! What can go wrong for a client.

use std::{io, time::Duration};

use kafka_protocol::ResponseError;

/// Why a client call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No address to ask.
    #[error("no bootstrap address was given")]
    NoBootstrap,
    /// The broker cannot be reached, or the connection broke.
    #[error("broker {address} cannot be reached")]
    Unreachable {
        /// HOST:PORT.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The broker did not answer in time. Whether it did what was asked is not known.
    #[error("broker {address} did not answer {what} within {after:?}")]
    TimedOut {
        /// HOST:PORT.
        address: String,
        /// What was asked.
        what: &'static str,
        /// The time it had.
        after: Duration,
    },
    /// The broker's bytes make no sense.
    #[error("broker {address} sent what cannot be understood")]
    Malformed {
        /// HOST:PORT.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A request cannot be encoded.
    #[error("the request cannot be encoded")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The broker refused.
    #[error("{what} was refused: {code}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Kafka's code.
        code: ResponseError,
    },
    /// Nobody leads the partition, as far as the asked broker knows.
    #[error("{topic}/{partition} has no known leader")]
    NoLeader {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// Tried again and again until the deadline.
    #[error("gave up after {attempts} attempts: {last}")]
    GaveUp {
        /// Attempts in a row that failed.
        attempts: u32,
        /// The last failure.
        #[source]
        last: Box<ClientError>,
    },
    /// A record could not be delivered within its time; it may or may not be in the log.
    #[error("a record for {topic}/{partition} was not acknowledged within {after:?}: {last}")]
    Undelivered {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The time it had.
        after: Duration,
        /// The last failure.
        #[source]
        last: Box<ClientError>,
    },
    /// The writers have stopped, because one of them failed.
    #[error("the producer has stopped")]
    Stopped,
    /// The gRPC endpoint is not a URI.
    #[error("{endpoint} is not an endpoint")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// A gRPC call failed.
    #[error("{what} at {endpoint} failed: {source}")]
    Grpc {
        /// The call.
        what: &'static str,
        /// Where.
        endpoint: String,
        /// Why.
        #[source]
        source: Box<tonic::Status>,
    },
}

impl ClientError {
    /// A refusal for an error code; `Ok` for 0.
    pub(super) fn check(what: &'static str, code: i16) -> Result<(), Self> {
        match ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(code) => Err(Self::Refused { what, code }),
        }
    }

    /// May the same request succeed later, perhaps at another broker?
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::NoLeader { .. } => true,
            // Kafka's own table, and two that pass once a leader has settled: an unknown producer or topic on a
            // broker that has just started, a gap that is filled when the whole window is sent again.
            Self::Refused { code, .. } => {
                code.is_retriable()
                    || matches!(
                        code,
                        ResponseError::OutOfOrderSequenceNumber
                            | ResponseError::UnknownTopicOrPartition
                    )
            }
            _ => false,
        }
    }
}
