//! Decisions as pure functions: what is due, how far the log may be cut, what may be deleted, each with its reason.

mod options;

pub use options::{Options, Uploader, VerifyLevel};
