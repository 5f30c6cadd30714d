//! What the integration tests share: stores that misbehave, a scripted broker, the daemon as a process, and
//! small clients.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::format_push_string,
    clippy::struct_excessive_bools,
    clippy::must_use_candidate,
    missing_docs,
    reason = "helpers of tests stop at the first surprise"
)]

pub mod bench;
pub mod certificates;
pub mod cli;
pub mod daemon;
pub mod faults;
pub mod http;
pub mod records;
pub mod s3;
pub mod scripted_broker;
pub mod seeding;
pub mod stores;
pub mod tls;
pub mod wire;
pub mod world;
