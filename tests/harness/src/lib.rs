//! Starts real clusters of brokers and sidecars as processes on loopback, for the demo and the end-to-end tests.
//!
//! A [`Cluster`] owns its processes: dropping it, a panic, Ctrl-C and even a SIGKILL of the harness leave none behind
//! (see [`guardian`]). Every wait has a deadline; one that passes prints what was seen last and the ends of the logs.
//!
//! ```no_run
//! # use chronik_harness::{Cluster, ClusterOptions};
//! # use std::time::Duration;
//! # async fn example() -> Result<(), chronik_harness::HarnessError> {
//! let dir = std::path::Path::new("/tmp/cluster");
//! let mut cluster = Cluster::start(ClusterOptions::new(dir).sidecar_env("LOG_THRESHOLD", "100")).await?;
//! cluster.client().create_topic("orders", 3, 3, Duration::from_secs(20)).await?;
//! cluster.kill_broker(3)?;
//! cluster.wipe_broker(3)?;
//! cluster.start_broker(3)?;
//! cluster.stop().await
//! # }
//! ```

mod binaries;
mod cluster;
mod dir;
mod error;
pub mod fault;
pub mod guardian;
pub mod history;
mod http;
pub mod load;
mod node;
mod options;
mod ports;
mod process;
pub mod s3;
mod status;
mod wait;

pub use self::{
    binaries::Binaries,
    cluster::Cluster,
    dir::empty_own,
    error::HarnessError,
    http::get,
    node::{Node, Role},
    options::{Beginning, ClusterOptions, S3Settings, Store},
    ports::Port,
    process::Process,
    status::{DaemonStatus, LogId, Metrics, PartitionStatus, SidecarStatus},
    wait::{Poll, wait_until},
};
pub use refbroker::{client, proto::v1 as proto};
