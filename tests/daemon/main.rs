//! The daemon as a process, beside a broker that follows a script.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod broker_that_lies;
mod by_hand;
mod drills;
mod give_way;
mod logs;
mod operators;
mod restarts;
mod seeding;
mod stalls;
mod status_page;
mod supervisor;
#[path = "../support/mod.rs"]
mod support;
