//! Raft-safe snapshots, log truncation and re-seeding, as a sidecar. Start with docs/ARCHITECTURE.md.

pub mod clock;
pub mod config;
pub mod error;
pub mod format;
pub mod pipeline;
pub mod policy;
pub mod proto;
pub mod raft;
pub mod store;
