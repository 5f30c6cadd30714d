//! Real processes on a machine that runs out of something: disks that are full, networks that come apart, memory that
//! is limited.
//!
//! Disks are small file systems in memory, networks are network namespaces: most of this needs root. Without it a test
//! says so and ends; `make test-machine` makes that a failure.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

#[path = "../support/world.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod world;

mod broker_disk;
mod load;
mod memory;
mod namespaces;
mod partition;
mod proven;
mod root;
mod store_disk;
mod tmpfs;
