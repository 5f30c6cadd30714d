//! The driver: one thread that owns every Raft group of this broker.
//!
//! It takes what came in, steps the groups, writes what all of them have to persist in ONE log write with ONE flush,
//! sends, applies, and starts over. So proposals and groups share the flush, and everything that must happen at
//! one point in time (an export, a configuration, a compaction) simply happens between two steps.

pub mod apply;
mod checkpoints;
pub mod compact;
pub mod disk_thread;
pub mod group;
pub mod input;
pub mod lifecycle;
mod messages;
pub mod proposals;
mod ready;
pub mod reconcile;
pub mod run;
pub mod shared;
pub mod slog_bridge;
mod snapshots;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::{raftlog::engine::LogError, state::StateError};

/// Length of a tick.
pub const TICK: Duration = Duration::from_millis(100);
/// Ticks between heartbeats.
pub const HEARTBEAT_TICKS: usize = 2;
/// Ticks without a leader before an election, at least; at most twice as many.
pub const ELECTION_TICKS: usize = 10;
/// Inputs that wait for the driver.
pub const INPUT_QUEUE: usize = 4096;
/// Inputs taken before the groups get to write.
pub const INPUTS_PER_ROUND: usize = 2048;
/// Limit of one `MsgAppend`.
pub const APPEND_BYTES: u64 = 1 << 20;
/// `MsgAppend`s on the way to one peer.
pub const INFLIGHT_APPENDS: usize = 256;
/// Uncommitted bytes of one group; proposals beyond are refused.
pub const UNCOMMITTED_BYTES: u64 = 64 << 20;
/// Committed bytes that are applied in one go.
pub const APPLY_BYTES: u64 = 16 << 20;
/// Ticks between checkpoints of a group that has something new.
pub const CHECKPOINT_TICKS: u64 = 20;
/// Applied entries after which a checkpoint does not wait for that.
pub const CHECKPOINT_ENTRIES: u64 = 20_000;

/// Why the driver stopped. The process ends with it: a replica that cannot persist must not go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The log failed.
    #[error("raft log")]
    Log(#[from] LogError),
    /// The state failed.
    #[error("replica state")]
    State(#[from] StateError),
    /// Raft refused its own storage.
    #[error("raft")]
    Raft(#[from] raft::Error),
    /// A state part of `__meta` does not decode.
    #[error("state of __meta")]
    Meta(#[from] serde_json::Error),
    /// The log engine.
    #[error("raft log engine")]
    Engine(#[from] raft_engine::Error),
}
