//! Wire types of the Admin service to words of the domain.

use tonic::{Code, Status};

use super::AdminError;
use crate::{
    board::{DaemonStatus, PartitionStatus, Progress, Work},
    error::chain,
    proto::v1,
    raft::LogId,
};

pub(super) const fn log_id(id: v1::LogId) -> LogId {
    LogId::new(id.term, id.index)
}

pub(super) fn status_error(call: &'static str, endpoint: String, status: &Status) -> AdminError {
    // What the daemon says has no cause here. What has one is a connection that broke, whatever the library calls it, and
    // has no message of its own but that of its cause.
    if let Some(source) = std::error::Error::source(status) {
        return AdminError::Unavailable {
            call,
            endpoint,
            message: chain(source),
        };
    }
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::DeadlineExceeded => AdminError::Unavailable {
            call,
            endpoint,
            message: status.message().to_owned(),
        },
        Code::Unimplemented => AdminError::NotServed { call, endpoint },
        code => AdminError::Refused {
            call,
            code,
            message: status.message().to_owned(),
        },
    }
}

pub(super) fn daemon_status(daemon: v1::DaemonStatus) -> DaemonStatus {
    DaemonStatus {
        version: daemon.version,
        started_at_unix_ms: daemon.started_at_unix_ms,
        broker_connected: daemon.broker_connected,
        cluster_id: daemon.cluster_id,
        incarnation: daemon.incarnation,
        broker_id: daemon.broker_id,
        store_available: daemon.store_available,
        identity_problem: daemon.identity_problem,
        last_tick_at_unix_ms: daemon.last_tick_at_unix_ms,
        in_flight: daemon.in_flight,
        queued: daemon.queued,
        drill_interval_secs: daemon.drill_interval_secs,
        drilling: daemon.drilling,
        snapshots_enabled: daemon.snapshots_enabled,
        log_threshold_entries: daemon.log_threshold_entries,
        time_threshold_secs: daemon.time_threshold_secs,
    }
}

/// None without a name.
pub(super) fn work(work: v1::RunningWork) -> Option<Work> {
    let partition = work.partition?;
    let done = Progress::default();
    done.set(work.done_bytes);
    Some(Work {
        kind: work.kind.into(),
        topic: partition.topic,
        partition: u32::try_from(partition.partition).ok()?,
        stage: work.stage.into(),
        began_at_unix_ms: work.began_at_unix_ms,
        done,
        total_bytes: work.total_bytes,
    })
}

/// None without a name.
pub(super) fn partition_status(status: v1::PartitionStatus) -> Option<PartitionStatus> {
    let partition = status.partition?;
    Some(PartitionStatus {
        topic: partition.topic,
        partition: u32::try_from(partition.partition).ok()?,
        topic_id: status.topic_id,
        role: status.role.into(),
        applied_index: status.applied_index,
        first_log_index: status.first_log_index,
        last_log_index: status.last_log_index,
        newest_snapshot_id: status.newest_snapshot_id,
        newest_last_included: status.newest_last_included.map(log_id),
        entries_since_snapshot: status.entries_since_snapshot,
        activity: status.activity.into(),
        decision: status.decision,
        last_error: status.last_error,
        consecutive_failures: status.consecutive_failures,
        unprotected: status.unprotected,
        deletion_blocked: status.deletion_blocked,
        paused: status.paused,
        truncation_debt_entries: status.truncation_debt_entries,
        truncation_debt_bytes: status.truncation_debt_bytes,
        truncation_held_by: status.truncation_held_by.into(),
        restore_estimate_secs: status.restore_estimate_secs,
        last_drill_outcome: status.last_drill_outcome.into(),
        last_drill_at_unix_ms: status.last_drill_at_unix_ms,
        last_drill_snapshot_id: status.last_drill_snapshot_id,
        last_drill_problem: status.last_drill_problem,
        last_drill_success_at_unix_ms: status.last_drill_success_at_unix_ms,
        last_drill_success_ms: status.last_drill_success_ms,
        log_size_bytes: status.log_size_bytes,
        newest_snapshot_at_unix_ms: status.newest_snapshot_at_unix_ms,
    })
}
