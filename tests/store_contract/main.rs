//! The contract of the store, held against every backend.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod ambiguous;
mod listings;
mod objects;
mod rig;
#[path = "../support/mod.rs"]
mod support;
mod unavailable;
mod uploads;
