//! The reference broker: the smallest honest Kafka-compatible Raft broker.

pub mod api;
pub mod cli;
pub mod client;
pub mod kafka;
pub mod proto;
