//! The generated wire types.

#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "generated code"
)]

pub mod chronik {
    pub mod snapshot {
        pub mod v1 {
            tonic::include_proto!("chronik.snapshot.v1");
        }
    }
}

pub mod refbroker {
    pub mod v1 {
        tonic::include_proto!("refbroker.v1");
    }
}

/// The contract with the sidecar.
pub use chronik::snapshot::v1;
/// Between brokers, and on disk.
pub use refbroker::v1 as peer;

/// The encoded file descriptor set, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
