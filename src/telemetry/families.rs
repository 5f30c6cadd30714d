//! The table of metric families: names, labels and meaning. docs/METRICS.md is compared with it.

/// Prefix of every family.
pub const PREFIX: &str = "chronik_snapshot_";

/// One family.
#[derive(Debug)]
pub struct Family {
    /// Name without prefix.
    pub name: &'static str,
    /// Type.
    pub kind: FamilyKind,
    /// Label names.
    pub labels: &'static [&'static str],
    /// Unit; empty = none.
    pub unit: &'static str,
    /// What it counts or shows.
    pub meaning: &'static str,
    /// When an operator should look closer; empty = never by itself.
    pub worry: &'static str,
}

/// Prometheus types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution.
    Histogram,
}

impl FamilyKind {
    /// As Prometheus spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Declares the families and the list of all of them, so that none can be forgotten.
macro_rules! families {
    ($($ident:ident: $kind:ident $name:literal [$($label:literal),*] $unit:literal, $meaning:literal, $worry:literal;)+) => {
        $(
            #[doc = $meaning]
            pub static $ident: Family = Family {
                name: $name,
                kind: FamilyKind::$kind,
                labels: &[$($label),*],
                unit: $unit,
                meaning: $meaning,
                worry: $worry,
            };
        )+

        /// Every family, in the order of the documentation.
        pub static FAMILIES: &[&Family] = &[$(&$ident,)+];
    };
}

families! {
    BUILD_INFO: Gauge "build_info" ["version"] "",
        "Always 1; the label carries the version.", "";
    LOOP_RUNNING: Gauge "loop_running" [] "",
        "1 while the loop runs, 0 when it is switched off or stopping.", "0 for more than a few minutes.";
    LOOP_LAST_TICK: Gauge "loop_last_tick_timestamp_seconds" [] "seconds since the Unix epoch",
        "End of the last tick; 0 = none yet.", "Older than three times CHECK_INTERVAL_SECS.";
    BROKER_CONNECTED: Gauge "broker_connected" [] "",
        "1 = the last call to the broker succeeded.", "0 for longer than a broker restart takes.";
    STORE_AVAILABLE: Gauge "store_available" [] "",
        "1 = the last request to the object store was answered.", "0 for longer than TIME_THRESHOLD_SECS: logs grow meanwhile.";
    IDENTITY_PROBLEM: Gauge "identity_problem" [] "",
        "1 = the store belongs to another cluster or incarnation, or cannot be claimed: nothing is written or deleted.", "1, at once.";
    OPERATIONS: Counter "operations_total" ["operation", "result"] "operations",
        "Operations that ended.", "See failures_total.";
    OPERATION_DURATION: Histogram "operation_duration_seconds" ["operation"] "seconds",
        "Time that operations took, however they ended.", "Snapshots that take longer than half of DELETE_GRACE_SECS.";
    FAILURES: Counter "failures_total" ["operation", "reason"] "operations",
        "Operations that failed, by the kind of the error.", "Any `corrupt` or `internal`; a steady rate of the others.";
    IN_FLIGHT: Gauge "in_flight" ["operation"] "operations",
        "Operations that run now.", "";
    QUEUE_DEPTH: Gauge "queue_depth" [] "partitions",
        "Partitions that wait for a slot.", "Growing over hours: raise MAX_CONCURRENT.";
    DUE_PARTITIONS: Gauge "due_partitions" ["trigger"] "partitions",
        "Partitions that were due at the last tick, by trigger.", "`unprotected` above 0.";
    LAST_SUCCESS: Gauge "last_success_timestamp_seconds" ["topic", "partition"] "seconds since the Unix epoch",
        "When this process last saw a new proven snapshot of the partition; 0 = not yet.", "Older than twice TIME_THRESHOLD_SECS while the log grows.";
    LAST_INCLUDED_INDEX: Gauge "last_included_index" ["topic", "partition"] "log index",
        "Where the newest proven snapshot ends (inclusive); 0 = none.", "Falls.";
    LOG_ENTRIES_SINCE_SNAPSHOT: Gauge "log_entries_since_snapshot" ["topic", "partition"] "entries",
        "Entries applied since the newest proven snapshot.", "Several times LOG_THRESHOLD.";
    LOG_SIZE: Gauge "log_size_bytes" ["topic", "partition"] "bytes",
        "Size of the replica's log on disk, as the broker says.", "Grows without bound.";
    CONSECUTIVE_FAILURES: Gauge "consecutive_failures" ["topic", "partition"] "operations",
        "Failures of the partition in a row.", "3 or more.";
    UNPROTECTED: Gauge "unprotected" ["topic", "partition"] "",
        "1 = log entries were truncated and no proven snapshot covers them.", "1: the cluster has one copy less than you think.";
    TRUNCATION_DEBT_ENTRIES: Gauge "truncation_debt_entries" ["topic", "partition"] "entries",
        "Entries that the newest proven snapshot covers, `TRAILING_ENTRIES` left out, and that are still in the log.", "Above 0 for more than two CHECK_INTERVAL_SECS; truncation_debt_partitions says why.";
    TRUNCATION_DEBT_BYTES: Gauge "truncation_debt_bytes" ["topic", "partition"] "bytes",
        "Their part of the log's size on disk.", "Your disk fills up with it.";
    RESTORE_ESTIMATE: Gauge "restore_estimate_seconds" ["topic", "partition"] "seconds",
        "Time to restore the newest proven snapshot at the speed measured lately: of restores, for want of them of drills, and then of reading back for proofs. 0 = no snapshot, or nothing measured yet.", "Longer than you want to wait for a broker, or than half of DELETE_GRACE_SECS.";
    LAST_DRILL_SUCCESS: Gauge "last_drill_success_timestamp_seconds" ["topic", "partition"] "seconds since the Unix epoch",
        "When this process last drilled the partition with success; 0 = not yet.", "None of a sidecar is younger than a few DRILL_INTERVAL_SECS.";
    PARTITION_SERIES_DROPPED: Counter "partition_series_dropped_total" [] "updates",
        "Updates of partitions that got no series because 2000 partitions have one.", "Grows: use the status of the admin service instead.";
    RAW_BYTES: Counter "raw_bytes_total" [] "bytes",
        "State received from the broker and committed in snapshots, before compression.", "";
    STORED_BYTES: Counter "stored_bytes_total" [] "bytes",
        "The same after compression.", "";
    REUSED_BYTES: Counter "reused_bytes_total" [] "bytes",
        "Stored bytes of earlier snapshots that new ones point to instead of storing them again.", "Does not grow although INCREMENTAL is on and partitions are large.";
    EXPORT_PACE: Gauge "export_pace_bytes_per_second" [] "bytes per second",
        "Limit that exports keep to because producers waited longer than before; 0 = none.", "Low for hours: snapshots take longer; raise the interval between them, or move them to another time.";
    COMPACTED_ENTRIES: Counter "compacted_entries_total" [] "entries",
        "Log entries that the broker dropped on request.", "Does not grow while snapshots succeed.";
    COMPACTION_BLOCKED: Counter "compaction_blocked_total" ["reason"] "attempts",
        "Truncations that were due and did not happen.", "Any `term_mismatch` or `damaged`; a steady rate of the others.";
    TRUNCATION_DEBT_PARTITIONS: Gauge "truncation_debt_partitions" ["reason"] "partitions",
        "Partitions with a truncation debt at the last tick, by what holds the log.", "Any `term_mismatch`; `held` or `failing` for hours.";
    DELETED: Counter "deleted_total" ["reason"] "snapshots",
        "Snapshots deleted from the store, and data objects that no manifest named.", "";
    DELETION_BLOCKED: Gauge "deletion_blocked_partitions" [] "partitions",
        "Partitions in whose folder nothing is deleted, because something there cannot be understood or read.", "Above 0.";
    ORPHANS_FOUND: Counter "orphans_found_total" [] "objects",
        "Data objects found that no manifest names any more, and marked for deletion: those of retired snapshots, and what crashes left.", "More than `deleted_total` with other reasons than `orphan`: snapshots keep dying.";
    MULTIPART_ABORTED: Counter "multipart_aborted_total" [] "uploads",
        "Multipart uploads that were aborted.", "A steady rate.";
    QUARANTINED: Counter "quarantined_total" [] "snapshots",
        "Snapshots set aside because their data is damaged or gone.", "Any.";
    DIVERGENCE: Counter "divergence_total" [] "findings",
        "One log index seen with two terms, or a leader whose log ends before a snapshot of its own life: there are two histories of one group.", "Any, at once.";
    BOOTSTRAP_REQUESTS: Counter "bootstrap_requests_total" ["outcome"] "calls",
        "Bootstrap calls that ended.", "`not_covered`, `none_verifies` or `identity`; `store_unavailable` that lasts.";
    BOOTSTRAP_DURATION: Histogram "bootstrap_duration_seconds" [] "seconds",
        "Time from the call to its outcome.", "Longer than DELETE_GRACE_SECS.";
    DRILLS: Counter "drills_total" ["outcome"] "drills",
        "Drills that ended. `nothing`: no proven snapshot, or it was retired while it was read. `yielded`: left or was put off for a Bootstrap.", "Any `damaged`; `failed` again and again; `yielded` without `success`.";
    DRILL_DURATION: Histogram "drill_duration_seconds" [] "seconds",
        "Time that successful drills took.", "";
    DRILL_INTERVAL: Gauge "drill_interval_seconds" [] "seconds",
        "Seconds between two drills, before jitter; 0 = drills are off.", "";
    STORE_REQUESTS: Counter "store_requests_total" ["method", "code"] "calls",
        "Calls to the object store, by answer. Retries inside one call are not counted.", "`denied`, `full` or `bad_length`; a steady rate of `unavailable` or `timeout`.";
    STORE_REQUEST_DURATION: Histogram "store_request_duration_seconds" ["method"] "seconds",
        "Time that calls took, retries included.", "";
    CONNECTIONS: Gauge "connections" ["listener"] "connections",
        "Connections that are open now.", "";
    CONNECTIONS_REFUSED: Counter "connections_refused_total" ["reason"] "connections",
        "Connections that were closed before anything was answered on them.", "Any `limit`.";
    DENIED: Counter "denied_total" ["service"] "calls",
        "Calls refused because of who called; the log names who.", "Any.";
    CERTIFICATE_EXPIRY: Gauge "tls_certificate_expiry_timestamp_seconds" ["certificate"] "seconds since the Unix epoch",
        "End of the certificate in use; 0 = none.", "Not 0, and less than a day from now: its renewal has failed.";
    CERTIFICATE_FILES_UNUSABLE: Gauge "tls_files_unusable" ["certificate"] "",
        "1 = certificate, key or authorities have changed on disk and cannot be used; what was in use stays.", "1 for longer than a rotation takes.";
}
