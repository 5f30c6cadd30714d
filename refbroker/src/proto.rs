//! The generated wire types.

#![allow(missing_docs, clippy::pedantic, reason = "generated code")]

pub mod v1 {
    tonic::include_proto!("chronik.snapshot.v1");
}

/// The encoded file descriptor set, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
