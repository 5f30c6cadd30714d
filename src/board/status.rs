//! What is said about the process and about each partition.

use std::borrow::Cow;

use serde::Serialize;

use crate::raft::{LogId, TopicPartition};

/// The process.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DaemonStatus {
    /// Software version.
    pub version: String,
    /// Process start, milliseconds since the Unix epoch.
    pub started_at_unix_ms: i64,
    /// The last call to the broker succeeded.
    pub broker_connected: bool,
    /// The broker's cluster; empty before its first answer.
    pub cluster_id: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its id.
    pub broker_id: i32,
    /// The last look into the store succeeded.
    pub store_available: bool,
    /// Empty = the store is this cluster's; else why nothing is written or deleted.
    pub identity_problem: String,
    /// Last complete tick, milliseconds since the Unix epoch; 0 = never.
    pub last_tick_at_unix_ms: i64,
    /// Operations that run.
    pub in_flight: u32,
    /// Operations that wait.
    pub queued: u32,
    /// Between two drills; 0 = there are none.
    pub drill_interval_secs: u64,
    /// The partition that is being drilled; empty = none.
    pub drilling: String,
    /// False = nothing is snapshotted, truncated or deleted.
    pub snapshots_enabled: bool,
    /// Entries since the newest proven snapshot at which a partition is due.
    pub log_threshold_entries: u64,
    /// Age of the newest proven snapshot at which a partition is due, if anything was applied since.
    pub time_threshold_secs: u64,
}

/// One partition as this sidecar sees it.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionStatus {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Life of the topic.
    pub topic_id: String,
    /// Role of the local replica.
    pub role: Cow<'static, str>,
    /// Highest applied index (inclusive).
    pub applied_index: u64,
    /// Lowest index in the log.
    pub first_log_index: u64,
    /// Highest index in the log (inclusive).
    pub last_log_index: u64,
    /// Newest proven snapshot; empty = none known.
    pub newest_snapshot_id: String,
    /// Where it ends.
    pub newest_last_included: Option<LogId>,
    /// Entries applied since.
    pub entries_since_snapshot: u64,
    /// What is going on.
    pub activity: Cow<'static, str>,
    /// Why the last decision was what it was.
    pub decision: String,
    /// Last failure; empty = none since the last success.
    pub last_error: String,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// The log was truncated and no proven snapshot covers it.
    pub unprotected: bool,
    /// Not empty = nothing in the folder is deleted, and why.
    pub deletion_blocked: String,
    /// Paused by an operator.
    pub paused: bool,
    /// Entries that the newest proven snapshot covers, the trailing ones left out, and that are still in the log.
    pub truncation_debt_entries: u64,
    /// Their part of the log's size.
    pub truncation_debt_bytes: u64,
    /// What holds them; empty = nothing to hold.
    pub truncation_held_by: Cow<'static, str>,
    /// Predicted time to restore the newest proven snapshot; 0 = not known.
    pub restore_estimate_secs: u64,
    /// How its last drill ended: `success`, `damaged` or `failed`; empty = none since the process started.
    pub last_drill_outcome: Cow<'static, str>,
    /// When, milliseconds since the Unix epoch; 0 = none.
    pub last_drill_at_unix_ms: i64,
    /// Which snapshot was read; empty = it was not known.
    pub last_drill_snapshot_id: String,
    /// Why it did not succeed; empty = it did.
    pub last_drill_problem: String,
    /// When a drill last succeeded, milliseconds since the Unix epoch; 0 = none.
    pub last_drill_success_at_unix_ms: i64,
    /// How long that one took, milliseconds.
    pub last_drill_success_ms: u64,
    /// The log's size on the broker's disk.
    pub log_size_bytes: u64,
    /// When the newest proven snapshot was made, by the clock of its maker, milliseconds since the Unix epoch; 0 = none known.
    pub newest_snapshot_at_unix_ms: i64,
}

impl PartitionStatus {
    pub(super) fn new(partition: &TopicPartition) -> Self {
        Self {
            topic: partition.topic.clone(),
            partition: partition.partition,
            topic_id: String::new(),
            role: Cow::Borrowed("unknown"),
            applied_index: 0,
            first_log_index: 0,
            last_log_index: 0,
            newest_snapshot_id: String::new(),
            newest_last_included: None,
            entries_since_snapshot: 0,
            activity: Cow::Borrowed("idle"),
            decision: String::new(),
            last_error: String::new(),
            consecutive_failures: 0,
            unprotected: false,
            deletion_blocked: String::new(),
            paused: false,
            truncation_debt_entries: 0,
            truncation_debt_bytes: 0,
            truncation_held_by: Cow::Borrowed(""),
            restore_estimate_secs: 0,
            last_drill_outcome: Cow::Borrowed(""),
            last_drill_at_unix_ms: 0,
            last_drill_snapshot_id: String::new(),
            last_drill_problem: String::new(),
            last_drill_success_at_unix_ms: 0,
            last_drill_success_ms: 0,
            log_size_bytes: 0,
            newest_snapshot_at_unix_ms: 0,
        }
    }

    /// The last visit failed.
    pub fn is_failing(&self) -> bool {
        self.consecutive_failures > 0
    }

    /// A visit works on it.
    pub fn is_visited(&self) -> bool {
        !matches!(&*self.activity, "idle" | "queued")
    }

    /// Something is wrong that an operator has to look at. A pause is not: somebody meant it.
    pub fn needs_attention(&self) -> bool {
        self.unprotected
            || self.is_failing()
            || !self.deletion_blocked.is_empty()
            || !self.last_drill_problem.is_empty()
    }
}
