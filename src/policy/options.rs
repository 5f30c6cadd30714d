//! What the policies are told by the operator.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

/// Which replica's sidecar takes the snapshots of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploader {
    /// The leader's; another one steps in when the partition is overdue.
    Leader,
    /// Any replica's that finds the partition due.
    Any,
}

/// How much is read back before a snapshot counts as proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyLevel {
    /// Every new stored byte is read back and its CRC32 checked.
    Stored,
    /// As `Stored`, and every block is decompressed and the raw digests are checked.
    Full,
}

/// Options of the decision, compaction and retention policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Entries applied since the newest proven snapshot that make a partition due.
    pub log_threshold: NonZeroU64,
    /// Age of the newest proven snapshot that makes a partition due, if at least one entry was applied since.
    pub time_threshold: Duration,
    /// Least time between the starts of two snapshots of one partition.
    pub min_interval: Duration,
    /// Who uploads.
    pub uploader: Uploader,
    /// False = the log is never truncated.
    pub compact: bool,
    /// Entries at or below the newest proven snapshot that stay in the log for slow followers.
    pub trailing_entries: u64,
    /// False = nothing is ever deleted from the store.
    pub retention: bool,
    /// Proven snapshots kept of each lineage.
    pub retention_count: NonZeroUsize,
}
