//! Who gets in, who may do what, and what shows: a real daemon, certificates made for the test, sockets of this host.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod access;
mod broker;
mod commands;
mod encryption;
mod limits;
mod listen;
mod rig;
mod rotation;
mod secrets;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
