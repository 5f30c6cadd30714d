//! Real processes under faults: kills at every step, stores that fail, lie and forget, links that break, full disks.
//!
//! What must hold afterwards is always the same, see [`rig::Rig::check_safety`]: a log that was cut is covered by a
//! proven snapshot that restores byte by byte.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod broker_link;
mod kills;
mod neighbours;
mod rig;
mod rot;
mod store;
