//! Between brokers: Raft messages, snapshots, and questions about the cluster.

pub mod client;
pub mod link;
pub mod service;

use std::time::Duration;

/// Largest message between brokers. A `MsgAppend` holds at least one entry, however large.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Deadline of a connection attempt.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// HTTP/2 stream window.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// HTTP/2 connection window.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// HTTP/2 frame size that a receiver announces.
pub const MAX_FRAME_BYTES: u32 = 1 << 20;
