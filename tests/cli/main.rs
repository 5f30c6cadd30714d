//! The program on the command line.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod copy;
mod daemon;
mod doctor;
mod drill;
mod program;
mod store;
#[path = "../support/mod.rs"]
mod support;
