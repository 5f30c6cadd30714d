//! The daemon's own services, called from the command line: status, snapshots, pauses, health. Wire types end here.
//!
//! Every call has a deadline. What is read is told in the words of the [board](crate::board), so a status looks the
//! same wherever it is read.

mod convert;
mod error;

use std::time::Duration;

use serde::Serialize;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

pub use error::AdminError;

use crate::{
    board::{DaemonStatus, PartitionStatus, Work},
    channel,
    config::{Callee, Endpoint},
    control::Triggered,
    proto::v1::{self, snapshot_admin_service_client::SnapshotAdminServiceClient},
    raft::TopicPartition,
};

/// A call that the daemon answers from what it knows.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// A health check, connecting included: shorter than the time that supervisors give a probe.
pub const HEALTH_DEADLINE: Duration = Duration::from_secs(2);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The most that the service gives out at a time.
const PAGE_SIZE: u32 = 1000;
/// Pages of a daemon that looks after as many replicas as one can.
const PAGES_MAX: usize = 1000;
/// A page of 1000 partitions, each with a long error.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// What the daemon knows and does.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The process.
    pub daemon: DaemonStatus,
    /// Its partitions, by topic and number.
    pub partitions: Vec<PartitionStatus>,
    /// What runs, the longest first.
    pub running: Vec<Work>,
}

/// What the health service says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Serving,
    /// It is starting or stopping.
    NotServing,
}

/// The daemon at an endpoint. Connects with the first call.
pub struct AdminClient {
    channel: Channel,
    endpoint: String,
}

impl AdminClient {
    /// A client; must be made inside a runtime.
    pub fn new(daemon: &Callee) -> Result<Self, AdminError> {
        let route = daemon.route()?;
        let endpoint = daemon.endpoint.to_string();
        let uri = match &daemon.endpoint {
            Endpoint::Tcp { .. } => endpoint.as_str(),
            // Required, and unused: the socket is what is connected to.
            Endpoint::Unix(_) => "http://daemon.local",
        };
        let tuned = channel::endpoint(uri, CONNECT_DEADLINE);
        let tuned = tuned.map_err(|source| AdminError::Connect {
            endpoint: endpoint.clone(),
            source,
        })?;
        Ok(Self {
            channel: channel::connect(&tuned, &route),
            endpoint,
        })
    }

    fn client(&self) -> SnapshotAdminServiceClient<Channel> {
        SnapshotAdminServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The process and its partitions, of one topic or all, every page.
    pub async fn status(&self, topic: Option<&str>) -> Result<Status, AdminError> {
        const CALL: &str = "GetStatus";
        let mut request = v1::GetStatusRequest {
            page_size: PAGE_SIZE,
            topic: topic.unwrap_or_default().to_owned(),
            ..v1::GetStatusRequest::default()
        };
        let mut partitions = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut client = self.client();
            let call = client.get_status(request.clone());
            let page = self.within(CALL, CALL_DEADLINE, call).await?;
            let read = page.partitions.into_iter().map(convert::partition_status);
            for status in read {
                partitions
                    .push(status.ok_or_else(|| self.broken(CALL, "a partition has no name"))?);
            }
            if page.next_page_token.is_empty() {
                let daemon = page.daemon.map(convert::daemon_status);
                let daemon = daemon.ok_or_else(|| self.broken(CALL, "daemon is missing"))?;
                let running = page.running.into_iter().map(convert::work);
                let running = running.collect::<Option<Vec<_>>>();
                let running = running.ok_or_else(|| self.broken(CALL, "work has no partition"))?;
                return Ok(Status {
                    daemon,
                    partitions,
                    running,
                });
            }
            request.page_token = page.next_page_token;
        }
        Err(self.broken(CALL, "the pages do not end"))
    }

    /// Takes a snapshot of one partition now; `deadline` bounds the wait for it.
    pub async fn trigger(
        &self,
        partition: &TopicPartition,
        wait: bool,
        deadline: Duration,
    ) -> Result<Triggered, AdminError> {
        const CALL: &str = "TriggerSnapshot";
        let request = v1::TriggerSnapshotRequest {
            partition: Some(partition.into()),
            wait,
        };
        let mut client = self.client();
        let call = client.trigger_snapshot(request);
        let answer = self.within(CALL, deadline, call).await?;
        if !wait {
            return Ok(Triggered::Queued);
        }
        let last_included = answer.last_included.map(convert::log_id);
        Ok(Triggered::Proven {
            snapshot_id: answer.snapshot_id,
            last_included: last_included
                .ok_or_else(|| self.broken(CALL, "last_included is missing"))?,
            already_covered: answer.already_covered,
        })
    }

    /// Pauses one partition; when that ends, milliseconds since the Unix epoch, if it ends by itself.
    pub async fn pause(
        &self,
        partition: &TopicPartition,
        ttl: Option<Duration>,
        reason: String,
    ) -> Result<Option<i64>, AdminError> {
        let ttl_ms = ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let request = v1::PausePartitionRequest {
            partition: Some(partition.into()),
            ttl_ms,
            reason,
        };
        let mut client = self.client();
        let call = client.pause_partition(request);
        let answer = self.within("PausePartition", CALL_DEADLINE, call).await?;
        Ok(Some(answer.until_unix_ms).filter(|until| *until != 0))
    }

    /// Ends a pause; was there one?
    pub async fn resume(&self, partition: &TopicPartition) -> Result<bool, AdminError> {
        let request = v1::ResumePartitionRequest {
            partition: Some(partition.into()),
        };
        let mut client = self.client();
        let call = client.resume_partition(request);
        let answer = self.within("ResumePartition", CALL_DEADLINE, call).await?;
        Ok(answer.was_paused)
    }

    /// Asks the standard health service about the whole process.
    pub async fn health(&self) -> Result<Health, AdminError> {
        let mut client = HealthClient::new(self.channel.clone());
        let call = client.check(HealthCheckRequest::default());
        let answer = self.within("health", HEALTH_DEADLINE, call).await?;
        Ok(if answer.status() == ServingStatus::Serving {
            Health::Serving
        } else {
            Health::NotServing
        })
    }

    fn broken(&self, call: &'static str, problem: &'static str) -> AdminError {
        AdminError::Broken {
            call,
            endpoint: self.endpoint.clone(),
            problem,
        }
    }

    /// Runs one call under its deadline.
    async fn within<T>(
        &self,
        call: &'static str,
        deadline: Duration,
        answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, AdminError> {
        let endpoint = self.endpoint.clone();
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(convert::status_error(call, endpoint, &status)),
            Err(_) => Err(AdminError::Deadline {
                call,
                endpoint,
                deadline,
            }),
        }
    }
}
