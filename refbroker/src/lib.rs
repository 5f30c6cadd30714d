//! The reference broker: the smallest honest Kafka-compatible Raft broker.

pub mod api;
pub mod proto;
