//! The reference broker: the smallest honest Kafka-compatible Raft broker.

pub mod api;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod crash;
pub mod disk;
pub mod driver;
pub mod identity;
pub mod join;
pub mod kafka;
pub mod latency;
pub mod meta;
pub mod node;
pub mod peer;
pub mod proto;
pub mod raftlog;
pub mod seed;
pub mod serve;
pub mod service;
pub mod state;
