//! Real brokers and sidecars, all of them processes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod drills;
mod export_pinned;
mod incremental;
mod laggards;
mod one_bad_partition;
mod plan;
mod store_away;
#[path = "../support/mod.rs"]
mod support;
mod whole_cluster_loss;
