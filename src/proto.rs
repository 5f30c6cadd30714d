//! The generated wire types. Only `broker/` and `server/` may touch them: they convert at the edge.

#![allow(missing_docs, clippy::pedantic, reason = "generated code")]

pub mod v1 {
    tonic::include_proto!("chronik.snapshot.v1");
}

/// The encoded file descriptor set, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
