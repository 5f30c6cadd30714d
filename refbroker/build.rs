//! Generates the gRPC types of `../proto` (the wire contract) and `proto` (between brokers, and the state that
//! this broker keeps on disk) without protoc.

use std::{env, error::Error, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 6] = [
    "chronik/snapshot/v1/common.proto",
    "chronik/snapshot/v1/broker.proto",
    "chronik/snapshot/v1/bootstrap.proto",
    "chronik/snapshot/v1/admin.proto",
    "refbroker/v1/peer.proto",
    "refbroker/v1/state.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../proto");
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["../proto", "proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
