//! The generated wire types. Only `admin/`, `broker/` and `server/` may touch them: they convert at the edge.

#![allow(missing_docs, clippy::pedantic, reason = "generated code")]

use crate::raft::TopicPartition;

pub mod v1 {
    tonic::include_proto!("chronik.snapshot.v1");
}

impl From<&TopicPartition> for v1::TopicPartition {
    fn from(partition: &TopicPartition) -> Self {
        Self {
            topic: partition.topic.clone(),
            // TopicPartition::new keeps the number within i32.
            partition: i32::try_from(partition.partition).unwrap_or(i32::MAX),
        }
    }
}

/// The encoded file descriptor set, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
