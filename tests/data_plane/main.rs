//! The data plane: raw parts into stored blocks and back.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod budget;
mod damage;
mod failures;
mod omitted;
mod reading;
mod rig;
mod round_trips;
mod stock_tools;
#[path = "../support/mod.rs"]
mod support;
