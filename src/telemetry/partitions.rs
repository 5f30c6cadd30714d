//! The series that carry topic and partition: a bounded number of them, removed when their partition leaves.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus::{GaugeVec, IntCounter, IntGaugeVec, Registry};

use super::{MetricsError, families as f, series};
use crate::raft::TopicPartition;

/// Partitions that get series; each has one series in each family.
pub const PARTITION_SERIES_MAX: usize = 2000;

/// What is known of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionSample {
    /// Wall time since the Unix epoch at which a new proven snapshot was last seen; none = not yet.
    pub last_success: Option<Duration>,
    /// Where the newest proven snapshot ends (inclusive); 0 = none.
    pub last_included_index: u64,
    /// Entries applied since.
    pub log_entries_since_snapshot: u64,
    /// Size of the log.
    pub log_size_bytes: u64,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Log entries are gone that no proven snapshot covers.
    pub unprotected: bool,
    /// Entries that could go from the log and are there.
    pub debt_entries: u64,
    /// Their part of the log's size.
    pub debt_bytes: u64,
    /// Seconds to restore the newest proven snapshot; 0 = not known.
    pub restore_estimate_secs: u64,
    /// Wall time since the Unix epoch at which a drill last succeeded; none = not yet.
    pub last_drill_success: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct PartitionSeries {
    /// What each partition's series say.
    known: Mutex<HashMap<TopicPartition, PartitionSample>>,
    dropped: IntCounter,
    last_success: GaugeVec,
    last_included_index: IntGaugeVec,
    log_entries_since_snapshot: IntGaugeVec,
    log_size_bytes: IntGaugeVec,
    consecutive_failures: IntGaugeVec,
    unprotected: IntGaugeVec,
    debt_entries: IntGaugeVec,
    debt_bytes: IntGaugeVec,
    restore_estimate: IntGaugeVec,
    last_drill_success: GaugeVec,
}

impl PartitionSeries {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            known: Mutex::default(),
            dropped: series::counter(registry, &f::PARTITION_SERIES_DROPPED)?,
            last_success: series::float_gauges(registry, &f::LAST_SUCCESS)?,
            last_included_index: series::int_gauges(registry, &f::LAST_INCLUDED_INDEX)?,
            log_entries_since_snapshot: series::int_gauges(
                registry,
                &f::LOG_ENTRIES_SINCE_SNAPSHOT,
            )?,
            log_size_bytes: series::int_gauges(registry, &f::LOG_SIZE)?,
            consecutive_failures: series::int_gauges(registry, &f::CONSECUTIVE_FAILURES)?,
            unprotected: series::int_gauges(registry, &f::UNPROTECTED)?,
            debt_entries: series::int_gauges(registry, &f::TRUNCATION_DEBT_ENTRIES)?,
            debt_bytes: series::int_gauges(registry, &f::TRUNCATION_DEBT_BYTES)?,
            restore_estimate: series::int_gauges(registry, &f::RESTORE_ESTIMATE)?,
            last_drill_success: series::float_gauges(registry, &f::LAST_DRILL_SUCCESS)?,
        })
    }

    pub(super) fn set(&self, partition: &TopicPartition, sample: &PartitionSample) {
        // The lock is held while the series are written, so that `retain` cannot remove them in between.
        let mut known = self.known();
        match known.get_mut(partition) {
            // Nearly every partition of an idle tick.
            Some(before) if before == sample => return,
            Some(before) => *before = *sample,
            None => {
                if known.len() >= PARTITION_SERIES_MAX {
                    self.dropped.inc();
                    return;
                }
                known.insert(partition.clone(), *sample);
            }
        }
        let number = partition.partition.to_string();
        let labels = [partition.topic.as_str(), number.as_str()];
        let seconds = sample.last_success.unwrap_or_default().as_secs_f64();
        set_float(&self.last_success, labels, seconds);
        set_int(
            &self.last_included_index,
            labels,
            sample.last_included_index,
        );
        let entries = sample.log_entries_since_snapshot;
        set_int(&self.log_entries_since_snapshot, labels, entries);
        set_int(&self.log_size_bytes, labels, sample.log_size_bytes);
        let failures = u64::from(sample.consecutive_failures);
        set_int(&self.consecutive_failures, labels, failures);
        set_int(&self.unprotected, labels, u64::from(sample.unprotected));
        set_int(&self.debt_entries, labels, sample.debt_entries);
        set_int(&self.debt_bytes, labels, sample.debt_bytes);
        let estimate = sample.restore_estimate_secs;
        set_int(&self.restore_estimate, labels, estimate);
        let seconds = sample.last_drill_success.unwrap_or_default().as_secs_f64();
        set_float(&self.last_drill_success, labels, seconds);
    }

    pub(super) fn retain(&self, is_hosted: impl Fn(&TopicPartition) -> bool) {
        self.known().retain(|partition, _| {
            let stays = is_hosted(partition);
            if !stays {
                self.remove(partition);
            }
            stays
        });
    }

    fn remove(&self, partition: &TopicPartition) {
        let number = partition.partition.to_string();
        let labels = [partition.topic.as_str(), number.as_str()];
        // An error means that the series is gone already.
        for vec in [&self.last_success, &self.last_drill_success] {
            let _ = vec.remove_label_values(&labels);
        }
        for vec in [
            &self.last_included_index,
            &self.log_entries_since_snapshot,
            &self.log_size_bytes,
            &self.consecutive_failures,
            &self.unprotected,
            &self.debt_entries,
            &self.debt_bytes,
            &self.restore_estimate,
        ] {
            let _ = vec.remove_label_values(&labels);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<TopicPartition, PartitionSample>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The labels are the family's own, so the series can always be had.
fn set_float(vec: &GaugeVec, labels: [&str; 2], value: f64) {
    if let Ok(series) = vec.get_metric_with_label_values(&labels) {
        series.set(value);
    }
}

/// As [`set_float`]; saturates at `i64::MAX`.
fn set_int(vec: &IntGaugeVec, labels: [&str; 2], value: u64) {
    if let Ok(series) = vec.get_metric_with_label_values(&labels) {
        series.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}
