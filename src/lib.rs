//! Raft-safe snapshots, log truncation and re-seeding, as a sidecar. Start with docs/ARCHITECTURE.md.

pub mod proto;
