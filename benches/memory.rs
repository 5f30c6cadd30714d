//! Peak memory of the daemon while it snapshots and restores a large partition: `make memory`.
//!
//! Not a timing: it prints `VmHWM` of the process and fails above the limit. `MIB=n` sets the size of the state.

#![expect(
    clippy::expect_used,
    reason = "a measurement stops at the first surprise"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;

use chronik_snapshotd::proto::v1;
use support::{
    daemon::{Daemon, Setup},
    scripted_broker::{ScriptedBroker, sample_state},
    seeding::{lost, seed},
};

/// The promise.
const LIMIT_MIB: u64 = 128;

fn peak_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("Linux says VmHWM");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .expect("a number");
    kib / 1024
}

#[tokio::main]
async fn main() {
    let mib: usize = std::env::var("MIB").map_or(1024, |mib| mib.parse().expect("MIB is a number"));
    println!("state: {mib} MiB");
    for compression in ["gzip", "zstd", "none"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let broker = ScriptedBroker::start().await;
        broker.script().state = sample_state(mib << 20);
        broker.grow(100);
        let daemon = Daemon::start(&Setup {
            broker: broker.address,
            dir: dir.path(),
            env: &[("CHRONIK_SNAPSHOT_COMPRESSION", compression)],
        });
        daemon.wait_proven(100);
        let forward = peak_mib(daemon.pid());
        let seeded = seed(daemon.listen, lost(0)).await.expect("a restore");
        assert_eq!(seeded.result(), v1::BootstrapResult::Installed);
        assert!(
            seeded.bytes == broker.script().state,
            "the restored bytes differ"
        );
        let both = peak_mib(daemon.pid());
        println!(
            "{compression}: peak {forward} MiB after the snapshot, {both} MiB after the restore"
        );
        assert!(both <= LIMIT_MIB, "above {LIMIT_MIB} MiB");
    }
}
