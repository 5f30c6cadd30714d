"""What the dashboard shows, row by row."""

from layout import GREEN, RED, YELLOW

# What a query is about: the sidecars that were chosen, or the partitions of the topics that were.
SIDECAR = 'cluster=~"$cluster", instance=~"$instance"'
PARTITION = 'cluster=~"$cluster", topic=~"$topic"'
REPLICA = f'{SIDECAR}, topic=~"$topic"'
WINDOW = "[$__rate_interval]"


def metric(name, matchers="", selection=SIDECAR):
    """A family of ours with the selection and more matchers."""
    return f"chronik_snapshot_{name}{{{', '.join(filter(None, [selection, matchers]))}}}"


def rate(name, by, matchers=""):
    return f"sum by ({by}) (rate({metric(name, matchers)}{WINDOW}))"


def quantile(q, name, by, matchers=""):
    return f"histogram_quantile({q}, sum by ({by}, le) (rate({metric(name + '_bucket', matchers)}{WINDOW})))"


def newest(name, operation):
    """A recorded value of a partition over all its replicas."""
    return f"cluster_topic_partition:chronik_snapshot_{name}:{operation}{{{PARTITION}}}"


def health(d):
    d.row("Health")
    d.stat(
        "Sidecars", "Sidecars that are scraped.", f"count({metric('build_info')})", steps=((RED, None), (GREEN, 1))
    )
    d.stat(
        "Loops not running",
        "ENABLED=false, or stopping.",
        f"count({metric('loop_running')} == 0)",
        steps=((GREEN, None), (YELLOW, 1)),
    )
    d.stat(
        "Brokers away",
        "Sidecars whose last call to their broker failed.",
        f"count({metric('broker_connected')} == 0)",
    )
    d.stat(
        "Store unavailable", "Sidecars whose last visit found no store.", f"count({metric('store_available')} == 0)"
    )
    d.stat("Identity problems", "The store is another cluster's.", f"sum({metric('identity_problem')})")
    d.stat("Divergences, 1 day", "Two histories of one group.", f"sum(increase({metric('divergence_total')}[1d]))")
    d.stat(
        "Unprotected partitions",
        "Truncated log that no proven snapshot covers, on some replica.",
        f"count(max by (cluster, topic, partition) ({metric('unprotected', selection=PARTITION)}) == 1)",
    )
    d.stat(
        "Failing partitions",
        "Three or more failures in a row.",
        f"count({metric('consecutive_failures', selection=REPLICA)} >= 3)",
        steps=((GREEN, None), (YELLOW, 1)),
    )
    d.stat(
        "Overdue partitions",
        "Newest snapshot older than twice TIME_THRESHOLD_SECS, and entries since.",
        f"count(time() - ({newest('last_success_timestamp_seconds', 'max')} > 0)"
        " > 2 * scalar(chronik_snapshot:setting_time_threshold_seconds)"
        f" and on (cluster, topic, partition) {newest('log_entries_since_snapshot', 'newest')} > 0)",
        steps=((GREEN, None), (YELLOW, 1)),
    )
    d.stat("Quarantined, 1 day", "Snapshots set aside.", f"sum(increase({metric('quarantined_total')}[1d]))")
    d.stat(
        "Deletion blocked",
        "Partitions in whose folder nothing is deleted.",
        f"sum({metric('deletion_blocked_partitions')})",
        steps=((GREEN, None), (YELLOW, 1)),
    )
    d.stat(
        "Series dropped, 1 hour",
        "Updates of partitions beyond the 2000 that have series.",
        f"sum(increase({metric('partition_series_dropped_total')}[1h]))",
        steps=((GREEN, None), (YELLOW, 1)),
    )
    d.table(
        "Alerts that fire",
        "docs/RUNBOOKS.md has a section for each.",
        'ALERTS{alertname=~"ChronikSnapshot.+", alertstate="firing", cluster=~"$cluster|"}',
        hidden=("alertstate",),
    )
    d.lines(
        "Age of the last tick",
        "At most CHECK_INTERVAL_SECS in good health.",
        [(f"time() - ({metric('loop_last_tick_timestamp_seconds')} > 0)", "{{instance}}")],
        "s",
        12,
    )


def snapshots(d):
    d.row("Snapshots")
    d.lines(
        "Age of the newest snapshot, oldest partitions",
        "Over all replicas. An idle partition grows old and needs no snapshot.",
        [
            (
                f"topk($top, time() - ({newest('last_success_timestamp_seconds', 'max')} > 0))",
                "{{topic}}/{{partition}}",
            )
        ],
        "s",
        12,
    )
    d.lines(
        "Entries since the newest snapshot",
        "Over all replicas. LOG_THRESHOLD makes a partition due.",
        [(f"topk($top, {newest('log_entries_since_snapshot', 'newest')})", "{{topic}}/{{partition}}")],
        "short",
        12,
    )
    d.lines(
        "Snapshots",
        "Ended, by result.",
        [(rate("operations_total", "result", 'operation="snapshot"'), "{{result}}")],
        "ops",
        stacked=True,
    )
    d.lines(
        "Duration of snapshots",
        "With verification.",
        [
            (
                quantile(q, "operation_duration_seconds", "cluster", 'operation="snapshot"'),
                f"{{{{cluster}}}} p{int(q * 100)}",
            )
            for q in (0.5, 0.9, 0.99)
        ],
        "s",
    )
    succeeded = metric("operations_total", 'operation="snapshot", result="success"')
    successes = f"sum by (cluster) (increase({succeeded}[1h]))"
    d.lines(
        "Size of a snapshot, mean of an hour",
        "What was received, what is stored of it, and what is pointed to.",
        [
            (f"sum by (cluster) (increase({metric(name)}[1h])) / {successes}", f"{{{{cluster}}}} {text}")
            for name, text in (
                ("raw_bytes_total", "raw"),
                ("stored_bytes_total", "stored"),
                ("reused_bytes_total", "reused"),
            )
        ],
        "bytes",
    )
    d.lines(
        "Compression ratio",
        "Raw bytes for each stored byte, mean of an hour.",
        [
            (
                f"sum by (cluster) (increase({metric('raw_bytes_total')}[1h]))"
                f" / sum by (cluster) (increase({metric('stored_bytes_total')}[1h]))",
                "{{cluster}}",
            )
        ],
    )
    reused = f"sum by (cluster) (increase({metric('reused_bytes_total')}[6h]))"
    d.lines(
        "Reused share",
        "Stored bytes that snapshots of six hours point to instead of storing them again.",
        [(f"{reused} / ({reused} + sum by (cluster) (increase({metric('stored_bytes_total')}[6h])))", "{{cluster}}")],
        "percentunit",
    )
    d.lines(
        "Throughput",
        "State exported, and what of it went to the store.",
        [
            (rate("raw_bytes_total", "instance"), "{{instance}} raw"),
            (rate("stored_bytes_total", "instance"), "{{instance}} stored"),
        ],
        "Bps",
    )
    running = metric("in_flight", 'operation="snapshot"')
    d.lines(
        "Queue",
        "Partitions that wait for a slot, and snapshots that run.",
        [
            (metric("queue_depth"), "{{instance}} waiting"),
            (running, "{{instance}} running"),
        ],
        "short",
    )
    d.lines(
        "Due partitions",
        "At the last tick, by trigger.",
        [(f"sum by (trigger) ({metric('due_partitions')})", "{{trigger}}")],
        "short",
        stacked=True,
    )
    d.lines(
        "Export limit for the producers' sake",
        "0 = none.",
        [(metric("export_pace_bytes_per_second"), "{{instance}}")],
        "Bps",
    )
    d.lines(
        "Failures",
        "By operation and reason.",
        [(rate("failures_total", "operation, reason"), "{{operation}} {{reason}}")],
        "ops",
        12,
        True,
    )
    d.table(
        "Failing partitions",
        "Failures in a row.",
        f"topk($top, {metric('consecutive_failures', selection=REPLICA)} > 0)",
    )


def logs(d):
    d.row("Logs and truncation")
    d.lines(
        "Size of logs",
        "On disk, as the broker says.",
        [(f"topk($top, {metric('log_size_bytes', selection=REPLICA)})", "{{instance}} {{topic}}/{{partition}}")],
        "bytes",
        12,
    )
    d.lines(
        "Size of all logs",
        "Of each broker.",
        [(f"instance:chronik_snapshot_log_size_bytes:sum{{{SIDECAR}}}", "{{instance}}")],
        "bytes",
        12,
    )
    d.lines(
        "Truncation debt by reason",
        "Partitions whose log a snapshot covers and that is still there.",
        [(f"sum by (reason) ({metric('truncation_debt_partitions')})", "{{reason}}")],
        "short",
        stacked=True,
    )
    d.lines(
        "Truncation debt",
        "Bytes of log that could go.",
        [
            (
                f"topk($top, {metric('truncation_debt_bytes', selection=REPLICA)} > 0)",
                "{{instance}} {{topic}}/{{partition}}",
            )
        ],
        "bytes",
    )
    d.lines(
        "Truncation debt in entries",
        "The same in entries.",
        [
            (
                f"topk($top, {metric('truncation_debt_entries', selection=REPLICA)} > 0)",
                "{{instance}} {{topic}}/{{partition}}",
            )
        ],
        "short",
    )
    d.lines(
        "Entries truncated",
        "Log entries that brokers dropped.",
        [(rate("compacted_entries_total", "instance"), "{{instance}}")],
        "ops",
        12,
    )
    d.lines(
        "Truncations that did not happen",
        "By reason.",
        [(rate("compaction_blocked_total", "reason"), "{{reason}}")],
        "ops",
        12,
        True,
    )


def store(d):
    d.row("Object store")
    d.lines(
        "Calls by answer",
        "Retries inside a call are not counted.",
        [(rate("store_requests_total", "code"), "{{code}}")],
        "reqps",
        stacked=True,
    )
    d.lines(
        "Calls that failed",
        "All but ok, not_found and exists.",
        [
            (
                rate("store_requests_total", "instance, method, code", 'code!~"ok|not_found|exists"') + " > 0",
                "{{instance}} {{method}} {{code}}",
            )
        ],
        "reqps",
    )
    d.lines(
        "Latency p99",
        "Retries included.",
        [(quantile(0.99, "store_request_duration_seconds", "method"), "{{method}}")],
        "s",
    )
    d.lines(
        "Latency p50",
        "Retries included.",
        [(quantile(0.5, "store_request_duration_seconds", "method"), "{{method}}")],
        "s",
    )
    d.lines(
        "Deleted",
        "Snapshots and data objects, by reason.",
        [(rate("deleted_total", "reason"), "{{reason}}")],
        "ops",
        stacked=True,
    )
    d.lines(
        "Left-overs",
        "Data objects without a manifest (those of retired snapshots too), uploads given up.",
        [
            (rate("orphans_found_total", "instance"), "{{instance}} found"),
            (rate("multipart_aborted_total", "instance"), "{{instance}} aborted"),
        ],
        "ops",
    )


def restore(d):
    d.row("Bootstrap and restore")
    d.lines(
        "Bootstrap outcomes",
        "Calls of brokers that start, within an hour.",
        [(f"sum by (outcome) (increase({metric('bootstrap_requests_total')}[1h])) > 0", "{{outcome}}")],
        "short",
        stacked=True,
    )
    d.lines(
        "Duration of Bootstrap",
        "From the call to its outcome, waiting included; of a day.",
        [
            (
                f"histogram_quantile({q}, sum by (cluster, le)"
                f" (increase({metric('bootstrap_duration_seconds_bucket')}[1d])))",
                f"{{{{cluster}}}} p{int(q * 100)}",
            )
            for q in (0.5, 0.99)
        ],
        "s",
    )
    d.lines(
        "Restore estimate, slowest partitions",
        "At the speed measured lately.",
        [
            (
                "topk($top, max by (cluster, topic, partition)"
                f" ({metric('restore_estimate_seconds', selection=PARTITION)}) > 0)",
                "{{topic}}/{{partition}}",
            )
        ],
        "s",
    )
    d.lines(
        "Drills",
        "Restores for practice by outcome, within a day.",
        [(f"sum by (outcome) (increase({metric('drills_total')}[1d])) > 0", "{{outcome}}")],
        "short",
        stacked=True,
    )
    d.lines(
        "Time since the last drill that succeeded",
        "Where drills are on.",
        [
            (
                "time() - (max by (cluster, instance)"
                f" ({metric('last_drill_success_timestamp_seconds', selection=REPLICA)}) > 0)"
                f" and on (cluster, instance) {metric('drill_interval_seconds')} > 0",
                "{{instance}}",
            )
        ],
        "s",
    )
    d.lines(
        "Duration of drills",
        "Of those that succeeded, within a week.",
        [
            (
                f"histogram_quantile({q}, sum by (cluster, le)"
                f" (increase({metric('drill_duration_seconds_bucket')}[1w])))",
                f"{{{{cluster}}}} p{int(q * 100)}",
            )
            for q in (0.5, 0.99)
        ],
        "s",
    )


def process(d):
    ours = f" and on (cluster, job, instance) {metric('build_info')}"
    usual = f"{{{SIDECAR}}}"
    d.row("Process")
    d.lines("Memory", "Resident.", [(f"process_resident_memory_bytes{usual}{ours}", "{{instance}}")], "bytes")
    d.lines("CPU", "Cores.", [(f"rate(process_cpu_seconds_total{usual}{WINDOW}){ours}", "{{instance}}")], "short")
    d.lines("Open files", "Of each sidecar.", [(f"process_open_fds{usual}{ours}", "{{instance}}")], "short")
    d.table("Versions", "Of each sidecar.", metric("build_info"), hidden=("Value",))
    d.table("Running for", "Since the process started.", f"time() - process_start_time_seconds{usual}{ours}", "s")


PARTS = (health, snapshots, logs, store, restore, process)
