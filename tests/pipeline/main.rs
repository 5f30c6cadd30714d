//! Visits, restores and drills in this process, against stores that err or change under them.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod drill_outcomes;
mod pins;
mod recovery;
mod restores;
mod shared_files;
#[path = "../support/mod.rs"]
mod support;
mod visits;
mod wrong_clock;
