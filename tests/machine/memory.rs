//! A sidecar whose memory is limited, beside a partition that is several times as large.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use chronik_harness::{Beginning, Binaries};

use crate::{
    proven::covered,
    world::{PATIENCE, TOPIC, World},
};

/// `RLIMIT_DATA` of the daemon in MiB: everything that it may write to and that is its own, which is heap and stacks. The
/// address space says less: allocators reserve much more than they use. Around 95 MiB are needed; the rest is for
/// machines that are busy otherwise.
const LIMIT_MIB: u64 = 192;
/// Size of the state: this many times the limit.
const TIMES: u64 = 4;
const VALUE_BYTES: usize = 512 << 10;

/// A program that runs the daemon with the limit, and with as many threads on every machine.
fn limited(dir: &Path) -> PathBuf {
    let path = dir.join("limited-snapshotd");
    let daemon = Binaries::find().sidecar;
    let bytes = LIMIT_MIB << 20;
    let script = format!(
        "#!/bin/sh\nexport TOKIO_WORKER_THREADS=2\nexec prlimit --data={bytes} {} \"$@\"\n",
        daemon.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// `restore-cluster` without a word between showing and confirming; returns the token.
fn restore(store: &Path) -> String {
    let command = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_chronik-snapshotd"))
            .arg("restore-cluster")
            .args(arguments)
            .env("OBJECT_STORE_BACKEND", "local")
            .env("LOCAL_STORAGE_PATH", store)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let plan = command(&[]);
    let code = plan.split_once("--confirm ").unwrap().1;
    let code = code.split_whitespace().next().unwrap();
    command(&["--confirm", code]).trim().to_owned()
}

/// If it failed: a partition that is larger than the sidecar's memory is never snapshotted, or never comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_several_times_the_memory_is_snapshotted_and_restored() {
    let tools = tempfile::tempdir().unwrap();
    let program = limited(tools.path());
    let records = TIMES * (LIMIT_MIB << 20) / VALUE_BYTES as u64;
    let mut world = World::start(1, |mut options| {
        options.binaries.sidecar = program;
        options
            .sidecar_env("COMPRESSION_THREADS", "2")
            .sidecar_env("TRAILING_ENTRIES", "0")
            .sidecar_env("TIME_THRESHOLD_SECS", "1")
    })
    .await;
    // One snapshot of everything, not many on the way.
    world.cluster.kill_sidecar(1).unwrap();
    world.produce(records, VALUE_BYTES).await;
    world.cluster.start_sidecar(1).unwrap();
    let applied = world.replicas().await[&1].applied_index;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while world.replicas().await[&1].first_log_index <= applied {
        world.cluster.check().unwrap();
        let in_time = tokio::time::Instant::now() < deadline;
        assert!(in_time, "no snapshot:\n{}", world.cluster.log_tails());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let store = world.dir.path().join("store");
    let folder = store.join("snapshots").join(TOPIC).join("0");
    assert!(covered(&folder) >= applied);

    world.cluster.kill_sidecar(1).unwrap();
    world.cluster.kill_broker(1).unwrap();
    world.cluster.wipe_broker(1).unwrap();
    let token = restore(&store);
    world.cluster.begin_with(&Beginning::Restore(token));
    world.cluster.start_sidecar(1).unwrap();
    world.cluster.start_broker(1).unwrap();
    world.cluster.wait_formed().await.unwrap();
    world.wait_whole(TOPIC).await;
    world.check_every_record().await;
    world.cluster.check().unwrap();
    println!("EVIDENCE faults_injected 1");
}
