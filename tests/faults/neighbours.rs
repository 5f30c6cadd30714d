//! What else may be beside a sidecar: a second one for the same broker, and more objects than one listing page.

use std::fs;

use chronik_harness::{Process, Store};
use chronik_snapshotd::format::{Manifest, SnapName, SnapshotId};

use crate::rig::{Rig, THRESHOLD, TRAILING};

/// Another sidecar process for the same broker and store, as a deployment that was rolled out twice has it.
fn twin(rig: &Rig) -> Process {
    let node = rig.cluster.node(1).unwrap();
    let log = rig.folder().join("../../../../../logs/twin.log");
    let binaries = &rig.cluster.options().binaries;
    let mut twin = Process::new("twin", &binaries.sidecar, &log);
    twin.set_args(["run"]);
    let Store::S3(settings) = &rig.cluster.options().store else {
        panic!("the rig has an S3 server");
    };
    for (name, value) in &settings.variables {
        twin.set_env(name, value);
    }
    twin.set_env("OBJECT_STORE_BACKEND", "s3");
    let options = [
        ("BROKER_ENDPOINT", node.snapshot_endpoint()),
        ("LISTEN", "127.0.0.1:0".to_owned()),
        ("METRICS_LISTEN", "127.0.0.1:0".to_owned()),
        ("LOG_THRESHOLD", THRESHOLD.to_string()),
        ("TRAILING_ENTRIES", TRAILING.to_string()),
        ("CHECK_INTERVAL_SECS", "1".to_owned()),
        ("MIN_INTERVAL_SECS", "0".to_owned()),
        ("RETENTION_COUNT", "1".to_owned()),
        ("DELETE_GRACE_SECS", "1".to_owned()),
    ];
    for (key, value) in options {
        twin.set_env(format!("CHRONIK_SNAPSHOT_{key}"), value);
    }
    twin
}

/// Both snapshot, truncate, retire and sweep the same partition, while the broker dies between what they hear and do.
#[tokio::test(flavor = "multi_thread")]
async fn two_sidecars_on_one_broker_leave_one_whole_snapshot_and_a_covered_log() {
    const ROUNDS: u64 = 6;
    let mut rig = Rig::start(|options| options).await;
    let mut twin = twin(&rig);
    rig.cluster.start_sidecar(1).unwrap();
    twin.start().unwrap();
    for _ in 0..ROUNDS {
        rig.produce_enough().await;
        rig.wait_cut().await;
        rig.check_safety().await;
        rig.produce_enough().await;
        rig.cluster.kill_broker(1).unwrap();
        rig.cluster.start_broker(1).unwrap();
        rig.cluster.wait_formed().await.unwrap();
        rig.wait_led().await;
        rig.check_safety().await;
    }
    twin.check().unwrap();
    rig.wait_cut().await;
    rig.wait_clean().await;
    rig.check_safety().await;
    rig.check_records().await;
    twin.kill().unwrap();
    println!("EVIDENCE kills {ROUNDS}");
}

/// An S3 listing has pages of 1,000: what is on the second one is retired, swept and kept like the rest.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_thousand_objects_in_a_folder_hide_nothing() {
    const STRANGERS: usize = 1_050;
    const ORPHANS: u64 = 40;
    let mut rig = Rig::start(|options| options).await;
    rig.produce_enough().await;
    rig.cluster.start_sidecar(1).unwrap();
    rig.wait_cut().await;
    rig.cluster.kill_sidecar(1).unwrap();
    let manifest = rig.stored(".manifest.json").remove(0);
    let manifest = Manifest::decode(&fs::read(manifest).unwrap()).unwrap();
    for number in 0..STRANGERS {
        // Before every name of ours.
        fs::write(rig.folder().join(format!("!stranger-{number:04}")), "mine").unwrap();
    }
    for index in 1..=ORPHANS {
        // Uploads that nobody committed, all on the second page.
        let id = SnapshotId {
            last_included: chronik_snapshotd::raft::LogId::new(1, index),
            ..manifest.snapshot_id
        };
        let name = SnapName { id, number: 0 }.to_string();
        fs::write(rig.folder().join(name), "left behind").unwrap();
    }
    rig.produce_enough().await;
    rig.cluster.start_sidecar(1).unwrap();
    rig.wait_cut().await;
    rig.wait_files([1, 1, 1, 3 + STRANGERS]).await;
    rig.check_safety().await;
    rig.check_records().await;
    println!("EVIDENCE faults_injected {}", ORPHANS + 1);
}
