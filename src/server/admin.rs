//! The Admin service: status by pages, manual snapshots, pauses.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Request, Response, Status};

use super::{Access, convert};
use crate::{
    board::{Board, DaemonStatus, PartitionStatus, Selection, Start, Work},
    clock::{SharedClock, unix_ms},
    control::{Control, ControlError, Triggered},
    error::{InvalidName, Kind},
    proto::v1::{self, snapshot_admin_service_server},
    telemetry::Service,
};

const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;
const MAX_PAUSE: Duration = Duration::from_hours(7 * 24);

/// The service.
#[derive(Clone)]
pub struct AdminService {
    board: Arc<Board>,
    control: Control,
    clock: SharedClock,
    access: Access,
}

impl AdminService {
    /// A service that reads `board` and commands through `control`.
    pub fn new(board: Arc<Board>, control: Control, clock: SharedClock) -> Self {
        Self {
            board,
            control,
            clock,
            access: Access::open(Service::Admin),
        }
    }

    /// The same, changing something for some only. Whoever can connect may read.
    #[must_use]
    pub fn guarded(self, access: Access) -> Self {
        Self { access, ..self }
    }
}

#[tonic::async_trait]
impl snapshot_admin_service_server::SnapshotAdminService for AdminService {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let request = request.into_inner();
        let size = match request.page_size as usize {
            0 => DEFAULT_PAGE,
            size if size <= MAX_PAGE => size,
            _ => return Err(convert::invalid("page_size", "is above 1000")),
        };
        let start = match request.page_token.as_str() {
            "" => Start::Skip(0),
            token => Start::After(token.parse().map_err(|error| invalid_token(&error))?),
        };
        let page = self.board.select(&Selection {
            topic: Some(request.topic).filter(|topic| !topic.is_empty()),
            start,
            size,
            ..Selection::default()
        });
        Ok(Response::new(v1::GetStatusResponse {
            daemon: Some(wire_daemon(page.daemon)),
            partitions: page.partitions.into_iter().map(wire_status).collect(),
            next_page_token: page
                .next_after
                .map(|partition| partition.to_string())
                .unwrap_or_default(),
            running: page.running.into_iter().map(wire_work).collect(),
        }))
    }

    async fn trigger_snapshot(
        &self,
        request: Request<v1::TriggerSnapshotRequest>,
    ) -> Result<Response<v1::TriggerSnapshotResponse>, Status> {
        self.access.check("TriggerSnapshot", &request)?;
        let request = request.into_inner();
        let partition = convert::partition(request.partition)?;
        let triggered = self
            .control
            .trigger(partition, request.wait)
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(match triggered {
            Triggered::Queued => v1::TriggerSnapshotResponse::default(),
            Triggered::Proven {
                snapshot_id,
                last_included,
                already_covered,
            } => v1::TriggerSnapshotResponse {
                snapshot_id,
                last_included: Some(convert::wire_log_id(last_included)),
                already_covered,
            },
        }))
    }

    async fn pause_partition(
        &self,
        request: Request<v1::PausePartitionRequest>,
    ) -> Result<Response<v1::PausePartitionResponse>, Status> {
        self.access.check("PausePartition", &request)?;
        let request = request.into_inner();
        let partition = convert::partition(request.partition)?;
        let ttl = Duration::from_millis(request.ttl_ms);
        if ttl > MAX_PAUSE {
            return Err(convert::invalid("ttl_ms", "is above 7 days (604800000)"));
        }
        let ttl = Some(ttl).filter(|ttl| !ttl.is_zero());
        self.control
            .pause(partition, ttl, request.reason)
            .await
            .map_err(|error| status(&error))?;
        let until = ttl.map_or(0, |ttl| unix_ms(self.clock.wall() + ttl));
        Ok(Response::new(v1::PausePartitionResponse {
            until_unix_ms: until,
        }))
    }

    async fn resume_partition(
        &self,
        request: Request<v1::ResumePartitionRequest>,
    ) -> Result<Response<v1::ResumePartitionResponse>, Status> {
        self.access.check("ResumePartition", &request)?;
        let partition = convert::partition(request.into_inner().partition)?;
        let was_paused = self
            .control
            .resume(partition)
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(v1::ResumePartitionResponse { was_paused }))
    }
}

fn status(error: &ControlError) -> Status {
    let (code, reason) = match error {
        ControlError::NotHosted(_) => (Code::NotFound, v1::ErrorReason::NotHosted),
        ControlError::Paused(_) => (Code::FailedPrecondition, v1::ErrorReason::Paused),
        ControlError::Disabled => (Code::FailedPrecondition, v1::ErrorReason::Unspecified),
        ControlError::Failed {
            kind: Kind::Unavailable,
            ..
        } => (Code::Unavailable, v1::ErrorReason::StoreUnavailable),
        ControlError::Failed { kind, .. } => {
            (convert::code_of(*kind), v1::ErrorReason::Unspecified)
        }
        ControlError::Unavailable => (Code::Unavailable, v1::ErrorReason::ShuttingDown),
    };
    convert::refusal(code, reason, error.to_string())
}

fn invalid_token(error: &InvalidName) -> Status {
    convert::invalid(
        "page_token",
        &format!("is not one that this service gave out: {error}"),
    )
}

fn wire_daemon(daemon: DaemonStatus) -> v1::DaemonStatus {
    v1::DaemonStatus {
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

fn wire_work(work: Work) -> v1::RunningWork {
    v1::RunningWork {
        kind: work.kind.into_owned(),
        partition: Some(v1::TopicPartition {
            topic: work.topic,
            partition: i32::try_from(work.partition).unwrap_or(i32::MAX),
        }),
        stage: work.stage.into_owned(),
        began_at_unix_ms: work.began_at_unix_ms,
        done_bytes: work.done.bytes(),
        total_bytes: work.total_bytes,
    }
}

fn wire_status(status: PartitionStatus) -> v1::PartitionStatus {
    v1::PartitionStatus {
        partition: Some(v1::TopicPartition {
            topic: status.topic,
            partition: i32::try_from(status.partition).unwrap_or(i32::MAX),
        }),
        topic_id: status.topic_id,
        role: status.role.into_owned(),
        applied_index: status.applied_index,
        first_log_index: status.first_log_index,
        last_log_index: status.last_log_index,
        newest_snapshot_id: status.newest_snapshot_id,
        newest_last_included: status.newest_last_included.map(convert::wire_log_id),
        entries_since_snapshot: status.entries_since_snapshot,
        activity: status.activity.into_owned(),
        decision: status.decision,
        last_error: status.last_error,
        consecutive_failures: status.consecutive_failures,
        unprotected: status.unprotected,
        deletion_blocked: status.deletion_blocked,
        paused: status.paused,
        truncation_debt_entries: status.truncation_debt_entries,
        truncation_debt_bytes: status.truncation_debt_bytes,
        truncation_held_by: status.truncation_held_by.into_owned(),
        restore_estimate_secs: status.restore_estimate_secs,
        last_drill_outcome: status.last_drill_outcome.into_owned(),
        last_drill_at_unix_ms: status.last_drill_at_unix_ms,
        last_drill_snapshot_id: status.last_drill_snapshot_id,
        last_drill_problem: status.last_drill_problem,
        last_drill_success_at_unix_ms: status.last_drill_success_at_unix_ms,
        last_drill_success_ms: status.last_drill_success_ms,
        log_size_bytes: status.log_size_bytes,
        newest_snapshot_at_unix_ms: status.newest_snapshot_at_unix_ms,
    }
}
