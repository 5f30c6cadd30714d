//! What the sidecar calls: `SnapshotBrokerService`, health and reflection.

pub mod refuse;
pub mod server;
pub mod snapshot;
