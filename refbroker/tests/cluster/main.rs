//! Clusters of brokers: in this process, and as processes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod chaos;
mod common;
mod elections;
mod process;
mod rejoin;
mod snapshot_service;
mod throughput;
