//! The metrics of the process, on a registry of their own. What each family means is in [`families`](super::families).

use std::{fmt, num::NonZeroU64, sync::Arc, time::Duration};

use prometheus::{Gauge, Histogram, IntCounter, IntGauge, Registry, TextEncoder};
use thiserror::Error;

use super::{
    families as f,
    labels::{
        BlockReason, BootstrapResult, DebtReason, DeleteReason, DrillResult, Operation, Outcome,
        StoreCode, StoreMethod,
    },
    partitions::{PartitionSample, PartitionSeries},
    security::SecuritySeries,
    series::{self, By},
};
use crate::{error::Kind, policy::Trigger, raft::TopicPartition};

/// Upper bounds for operations, in seconds: from a small compaction to an export of an hour.
const OPERATION_BUCKETS: [f64; 14] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0,
];

/// Upper bounds for requests to the store, in seconds.
const REQUEST_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0,
];

/// The metrics could not be set up: a defect of the table of families.
#[derive(Debug, Error)]
#[error("metric could not be registered")]
pub struct MetricsError(#[from] prometheus::Error);

impl MetricsError {
    /// Always a defect.
    pub fn kind(&self) -> Kind {
        Kind::Internal
    }
}

/// Handle to the metrics; clones share them.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    loop_running: IntGauge,
    loop_last_tick: Gauge,
    broker_connected: IntGauge,
    store_available: IntGauge,
    identity_problem: IntGauge,
    operations: By<Operation, By<Outcome, IntCounter>>,
    operation_duration: By<Operation, Histogram>,
    failures: By<Operation, By<Kind, IntCounter>>,
    in_flight: By<Operation, IntGauge>,
    queue_depth: IntGauge,
    due_partitions: By<Trigger, IntGauge>,
    partitions: PartitionSeries,
    raw_bytes: IntCounter,
    stored_bytes: IntCounter,
    reused_bytes: IntCounter,
    export_pace: IntGauge,
    compacted_entries: IntCounter,
    compaction_blocked: By<BlockReason, IntCounter>,
    debt_partitions: By<DebtReason, IntGauge>,
    deleted: By<DeleteReason, IntCounter>,
    deletion_blocked: IntGauge,
    orphans_found: IntCounter,
    multipart_aborted: IntCounter,
    quarantined: IntCounter,
    divergence: IntCounter,
    bootstrap_requests: By<BootstrapResult, IntCounter>,
    bootstrap_duration: Histogram,
    drills: By<DrillResult, IntCounter>,
    drill_duration: Histogram,
    drill_interval: IntGauge,
    store_requests: By<StoreMethod, By<StoreCode, IntCounter>>,
    store_request_duration: By<StoreMethod, Histogram>,
    security: SecuritySeries,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers every family on a new registry, with the process's own figures on Linux.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let r = &registry;
        build_info(r)?;
        #[cfg(target_os = "linux")]
        r.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        let inner = Inner {
            loop_running: series::gauge(r, &f::LOOP_RUNNING)?,
            loop_last_tick: series::float_gauge(r, &f::LOOP_LAST_TICK)?,
            broker_connected: series::gauge(r, &f::BROKER_CONNECTED)?,
            store_available: series::gauge(r, &f::STORE_AVAILABLE)?,
            identity_problem: series::gauge(r, &f::IDENTITY_PROBLEM)?,
            operations: series::counters_by_two(r, &f::OPERATIONS)?,
            operation_duration: series::histograms_by(
                r,
                &f::OPERATION_DURATION,
                &OPERATION_BUCKETS,
            )?,
            failures: series::counters_by_two(r, &f::FAILURES)?,
            in_flight: series::gauges_by(r, &f::IN_FLIGHT)?,
            queue_depth: series::gauge(r, &f::QUEUE_DEPTH)?,
            due_partitions: series::gauges_by(r, &f::DUE_PARTITIONS)?,
            partitions: PartitionSeries::new(r)?,
            raw_bytes: series::counter(r, &f::RAW_BYTES)?,
            stored_bytes: series::counter(r, &f::STORED_BYTES)?,
            reused_bytes: series::counter(r, &f::REUSED_BYTES)?,
            export_pace: series::gauge(r, &f::EXPORT_PACE)?,
            compacted_entries: series::counter(r, &f::COMPACTED_ENTRIES)?,
            compaction_blocked: series::counters_by(r, &f::COMPACTION_BLOCKED)?,
            debt_partitions: series::gauges_by(r, &f::TRUNCATION_DEBT_PARTITIONS)?,
            deleted: series::counters_by(r, &f::DELETED)?,
            deletion_blocked: series::gauge(r, &f::DELETION_BLOCKED)?,
            orphans_found: series::counter(r, &f::ORPHANS_FOUND)?,
            multipart_aborted: series::counter(r, &f::MULTIPART_ABORTED)?,
            quarantined: series::counter(r, &f::QUARANTINED)?,
            divergence: series::counter(r, &f::DIVERGENCE)?,
            bootstrap_requests: series::counters_by(r, &f::BOOTSTRAP_REQUESTS)?,
            bootstrap_duration: series::histogram(r, &f::BOOTSTRAP_DURATION, &OPERATION_BUCKETS)?,
            drills: series::counters_by(r, &f::DRILLS)?,
            drill_duration: series::histogram(r, &f::DRILL_DURATION, &OPERATION_BUCKETS)?,
            drill_interval: series::gauge(r, &f::DRILL_INTERVAL)?,
            store_requests: series::counters_by_two(r, &f::STORE_REQUESTS)?,
            store_request_duration: series::histograms_by(
                r,
                &f::STORE_REQUEST_DURATION,
                &REQUEST_BUCKETS,
            )?,
            security: SecuritySeries::new(r)?,
            registry,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Connections, refusals and certificates.
    pub fn security(&self) -> &SecuritySeries {
        &self.inner.security
    }

    /// The page to serve, and its content type.
    pub fn render(&self) -> (&'static str, String) {
        let mut page = String::new();
        let families = self.inner.registry.gather();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut page) {
            tracing::error!(%error, "metrics are incomplete");
        }
        (prometheus::TEXT_FORMAT, page)
    }

    /// The loop started or stopped.
    pub fn set_loop_running(&self, running: bool) {
        self.inner.loop_running.set(i64::from(running));
    }

    /// A tick ended at this wall time since the Unix epoch.
    pub fn set_last_tick(&self, wall: Duration) {
        self.inner.loop_last_tick.set(wall.as_secs_f64());
    }

    /// The last call to the broker succeeded or failed.
    pub fn set_broker_connected(&self, connected: bool) {
        self.inner.broker_connected.set(i64::from(connected));
    }

    /// The last request to the store was answered or not.
    pub fn set_store_available(&self, available: bool) {
        self.inner.store_available.set(i64::from(available));
    }

    /// The store is or is not this cluster's.
    pub fn set_identity_problem(&self, problem: bool) {
        self.inner.identity_problem.set(i64::from(problem));
    }

    /// An operation starts; it counts as running until the guard is dropped.
    #[must_use = "the operation counts as running while the guard lives"]
    pub fn operation_started(&self, operation: Operation) -> InFlight {
        if let Some(gauge) = self.inner.in_flight.get(operation) {
            gauge.inc();
        }
        InFlight {
            metrics: self.clone(),
            operation,
        }
    }

    /// An operation ended without an error. For failures use [`Metrics::operation_failed`].
    pub fn operation_ended(&self, operation: Operation, outcome: Outcome, elapsed: Duration) {
        let counters = self.inner.operations.get(operation);
        if let Some(counter) = counters.and_then(|by| by.get(outcome)) {
            counter.inc();
        }
        if let Some(histogram) = self.inner.operation_duration.get(operation) {
            histogram.observe(elapsed.as_secs_f64());
        }
    }

    /// An operation ended with an error of this kind. Cancellation counts as cancelled, not as a failure.
    pub fn operation_failed(&self, operation: Operation, kind: Kind, elapsed: Duration) {
        if kind == Kind::Cancelled {
            return self.operation_ended(operation, Outcome::Cancelled, elapsed);
        }
        self.operation_ended(operation, Outcome::Failure, elapsed);
        let counters = self.inner.failures.get(operation);
        if let Some(counter) = counters.and_then(|by| by.get(kind)) {
            counter.inc();
        }
    }

    /// Partitions that wait for a slot.
    pub fn set_queue_depth(&self, partitions: usize) {
        self.inner.queue_depth.set(saturating(partitions));
    }

    /// Partitions that are due for this reason.
    pub fn set_due_partitions(&self, trigger: Trigger, partitions: usize) {
        if let Some(gauge) = self.inner.due_partitions.get(trigger) {
            gauge.set(saturating(partitions));
        }
    }

    /// What is known of one partition. Ignored and counted when too many partitions have series already.
    pub fn set_partition(&self, partition: &TopicPartition, sample: &PartitionSample) {
        self.inner.partitions.set(partition, sample);
    }

    /// Removes the series of partitions that are not hosted any more.
    pub fn retain_partitions(&self, is_hosted: impl Fn(&TopicPartition) -> bool) {
        self.inner.partitions.retain(is_hosted);
    }

    /// A snapshot is about to be committed: state that was received, the same as it is stored, and stored bytes of
    /// earlier snapshots that it points to.
    pub fn add_snapshot_bytes(&self, raw_bytes: u64, stored_bytes: u64, reused_bytes: u64) {
        self.inner.raw_bytes.inc_by(raw_bytes);
        self.inner.stored_bytes.inc_by(stored_bytes);
        self.inner.reused_bytes.inc_by(reused_bytes);
    }

    /// The broker dropped this many entries.
    pub fn add_compacted_entries(&self, entries: u64) {
        self.inner.compacted_entries.inc_by(entries);
    }

    /// Exports are slowed to this many bytes a second, or not.
    pub fn set_export_pace(&self, bytes_per_sec: Option<NonZeroU64>) {
        let bytes_per_sec = bytes_per_sec.map_or(0, NonZeroU64::get);
        let value = i64::try_from(bytes_per_sec).unwrap_or(i64::MAX);
        self.inner.export_pace.set(value);
    }

    /// A truncation was due and did not happen.
    pub fn compaction_blocked(&self, reason: BlockReason) {
        if let Some(counter) = self.inner.compaction_blocked.get(reason) {
            counter.inc();
        }
    }

    /// Partitions whose covered log is still there for this reason.
    pub fn set_debt_partitions(&self, reason: DebtReason, partitions: usize) {
        if let Some(gauge) = self.inner.debt_partitions.get(reason) {
            gauge.set(saturating(partitions));
        }
    }

    /// Snapshots or data objects were deleted.
    pub fn add_deleted(&self, reason: DeleteReason, count: u64) {
        if let Some(counter) = self.inner.deleted.get(reason) {
            counter.inc_by(count);
        }
    }

    /// Partitions in whose folder nothing is deleted.
    pub fn set_deletion_blocked(&self, partitions: usize) {
        self.inner.deletion_blocked.set(saturating(partitions));
    }

    /// Data objects were found that no manifest names.
    pub fn add_orphans_found(&self, objects: u64) {
        self.inner.orphans_found.inc_by(objects);
    }

    /// A multipart upload was aborted.
    pub fn multipart_aborted(&self) {
        self.inner.multipart_aborted.inc();
    }

    /// A snapshot was set aside.
    pub fn quarantined(&self) {
        self.inner.quarantined.inc();
    }

    /// One index was seen with two terms.
    pub fn divergence(&self) {
        self.inner.divergence.inc();
    }

    /// A Bootstrap call ended.
    pub fn bootstrap_ended(&self, result: BootstrapResult, elapsed: Duration) {
        if let Some(counter) = self.inner.bootstrap_requests.get(result) {
            counter.inc();
        }
        self.inner.bootstrap_duration.observe(elapsed.as_secs_f64());
    }

    /// A drill ended.
    pub fn drill_ended(&self, result: DrillResult, elapsed: Duration) {
        if let Some(counter) = self.inner.drills.get(result) {
            counter.inc();
        }
        if result == DrillResult::Success {
            self.inner.drill_duration.observe(elapsed.as_secs_f64());
        }
    }

    /// Between two drills; none = there are none.
    pub fn set_drill_interval(&self, interval: Option<Duration>) {
        let secs = interval.map_or(0, |interval| interval.as_secs());
        let value = i64::try_from(secs).unwrap_or(i64::MAX);
        self.inner.drill_interval.set(value);
    }

    /// The store answered a request, or failed to.
    pub fn store_request(&self, method: StoreMethod, code: StoreCode, elapsed: Duration) {
        let counters = self.inner.store_requests.get(method);
        if let Some(counter) = counters.and_then(|by| by.get(code)) {
            counter.inc();
        }
        if let Some(histogram) = self.inner.store_request_duration.get(method) {
            histogram.observe(elapsed.as_secs_f64());
        }
    }
}

/// An operation that runs.
#[derive(Debug)]
pub struct InFlight {
    metrics: Metrics,
    operation: Operation,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(gauge) = self.metrics.inner.in_flight.get(self.operation) {
            gauge.dec();
        }
    }
}

fn build_info(registry: &Registry) -> Result<(), MetricsError> {
    let info = series::int_gauges(registry, &f::BUILD_INFO)?;
    let series = info.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?;
    series.set(1);
    Ok(())
}

fn saturating(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Label as _, PARTITION_SERIES_MAX};

    fn page(metrics: &Metrics) -> String {
        metrics.render().1
    }

    fn orders(partition: u32) -> TopicPartition {
        TopicPartition::new("orders", partition).unwrap()
    }

    #[test]
    fn every_series_of_an_enum_exists_from_the_start() {
        let page = page(&Metrics::new().unwrap());
        for operation in Operation::ALL {
            for outcome in Outcome::ALL {
                let series = format!(
                    "chronik_snapshot_operations_total{{operation=\"{}\",result=\"{}\"}} 0",
                    operation.as_str(),
                    outcome.as_str()
                );
                assert!(page.contains(&series), "{series} is missing");
            }
        }
        assert!(page.contains("chronik_snapshot_loop_last_tick_timestamp_seconds 0"));
        assert!(
            page.contains("chronik_snapshot_bootstrap_requests_total{outcome=\"not_covered\"} 0")
        );
    }

    #[test]
    fn an_operation_counts_as_running_until_its_guard_is_dropped() {
        let metrics = Metrics::new().unwrap();
        let running = "chronik_snapshot_in_flight{operation=\"snapshot\"} 1";
        let guard = metrics.operation_started(Operation::Snapshot);
        assert!(page(&metrics).contains(running));
        drop(guard);
        assert!(!page(&metrics).contains(running));
    }

    #[test]
    fn cancelled_operations_are_not_failures() {
        let metrics = Metrics::new().unwrap();
        let elapsed = Duration::from_secs(1);
        metrics.operation_failed(Operation::Compact, Kind::Cancelled, elapsed);
        metrics.operation_failed(Operation::Compact, Kind::Corrupt, elapsed);
        let page = page(&metrics);
        let operations = "chronik_snapshot_operations_total{operation=\"compact\"";
        assert!(page.contains(&format!("{operations},result=\"cancelled\"}} 1")));
        assert!(page.contains(&format!("{operations},result=\"failure\"}} 1")));
        let failures = "chronik_snapshot_failures_total{operation=\"compact\"";
        assert!(page.contains(&format!("{failures},reason=\"cancelled\"}} 0")));
        assert!(page.contains(&format!("{failures},reason=\"corrupt\"}} 1")));
    }

    #[test]
    fn partitions_that_left_lose_their_series() {
        let metrics = Metrics::new().unwrap();
        let sample = PartitionSample {
            last_included_index: 42,
            ..PartitionSample::default()
        };
        metrics.set_partition(&orders(0), &sample);
        metrics.set_partition(&orders(1), &sample);
        metrics.retain_partitions(|partition| partition.partition == 1);
        let page = page(&metrics);
        assert!(page.contains("last_included_index{partition=\"1\",topic=\"orders\"} 42"));
        assert!(!page.contains("partition=\"0\""));
    }

    #[test]
    fn the_number_of_partitions_with_series_is_bounded() {
        let metrics = Metrics::new().unwrap();
        let excess = 7;
        for partition in 0..PARTITION_SERIES_MAX + excess {
            let partition = orders(u32::try_from(partition).unwrap());
            metrics.set_partition(&partition, &PartitionSample::default());
        }
        let count = page(&metrics)
            .matches("chronik_snapshot_unprotected{")
            .count();
        assert_eq!(count, PARTITION_SERIES_MAX);
        assert!(page(&metrics).contains("partition_series_dropped_total 7"));
        metrics.retain_partitions(|partition| partition.partition > 0);
        metrics.set_partition(&orders(1_000_000), &PartitionSample::default());
        assert!(page(&metrics).contains("unprotected{partition=\"1000000\""));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_reports_its_own_figures() {
        assert!(page(&Metrics::new().unwrap()).contains("process_resident_memory_bytes"));
    }
}
