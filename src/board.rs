//! What the process knows and does, for people: filled by the scheduler, the pipeline and the server, read by
//! `GetStatus` and `/status`. Nothing is ever decided by what stands here.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

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
}

impl PartitionStatus {
    fn new(partition: &TopicPartition) -> Self {
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
        }
    }
}

/// One page of the board.
#[derive(Debug, Clone, Serialize)]
pub struct Page {
    /// The process.
    pub daemon: DaemonStatus,
    /// Partitions, ordered by topic and number.
    pub partitions: Vec<PartitionStatus>,
    /// Where the next page starts: the last partition of this one. `None` = this was the last page.
    pub next_after: Option<TopicPartition>,
}

#[derive(Debug, Default)]
struct Inner {
    daemon: DaemonStatus,
    /// Boxed: a map that grows in order is half empty.
    partitions: BTreeMap<TopicPartition, Box<PartitionStatus>>,
}

/// The board. Every method takes its lock for a few assignments only.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Inner>,
}

impl Board {
    /// An empty board.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes what is said about the process.
    pub fn daemon(&self, change: impl FnOnce(&mut DaemonStatus)) {
        change(&mut self.lock().daemon);
    }

    /// Changes what is said about a partition.
    pub fn partition(&self, partition: &TopicPartition, change: impl FnOnce(&mut PartitionStatus)) {
        let mut inner = self.lock();
        let status = inner
            .partitions
            .entry(partition.clone())
            .or_insert_with(|| Box::new(PartitionStatus::new(partition)));
        change(status);
    }

    /// Removes partitions that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&TopicPartition) -> bool) {
        self.lock()
            .partitions
            .retain(|partition, _| keep(partition));
    }

    /// What is said about the process.
    pub fn daemon_status(&self) -> DaemonStatus {
        self.lock().daemon.clone()
    }

    /// At most `size` partitions after `after`, of one topic or of all.
    pub fn page(&self, after: Option<&TopicPartition>, size: usize, topic: Option<&str>) -> Page {
        let inner = self.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut wanted = inner
            .partitions
            .range((start, Bound::Unbounded))
            .filter(|(partition, _)| topic.is_none_or(|topic| topic == partition.topic));
        let page: Vec<_> = wanted.by_ref().take(size).collect();
        let more = wanted.next().is_some();
        let last = page.last().map(|(partition, _)| (*partition).clone());
        Page {
            daemon: inner.daemon.clone(),
            partitions: page
                .into_iter()
                .map(|(_, status)| status.as_ref().clone())
                .collect(),
            next_after: last.filter(|_| more),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_every_partition_once_in_order() {
        let board = Board::new();
        for number in (0..25).rev() {
            board.partition(&TopicPartition::new("t", number).unwrap(), |_| {});
        }
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = board.page(after.as_ref(), 10, Some("t"));
            seen.extend(page.partitions.iter().map(|status| status.partition));
            after = page.next_after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..25).collect::<Vec<_>>());
    }
}
