//! Raft-safe snapshots, log truncation and re-seeding, as a sidecar. Start with docs/ARCHITECTURE.md.

pub mod admin;
pub mod app;
pub mod board;
pub mod broker;
pub mod catalog;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod error;
pub mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod mutation;
pub mod pipeline;
pub mod policy;
pub mod proto;
pub mod raft;
pub mod retry;
pub mod scheduler;
pub mod server;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod tools;
