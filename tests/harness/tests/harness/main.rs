//! What the harness promises its users: clusters that start, die and come back, and Kafka clients that are served.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod brokers;
mod kafka_clients;
mod sidecars;
