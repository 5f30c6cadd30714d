//! A broker that lost its disk: from a snapshot, against the replay of the whole log.

use std::time::{Duration, Instant};

use chronik_harness::{Cluster, Role};

use crate::{
    bed::{Bed, tree_bytes},
    cluster::{fill, start, wait_replicas},
    report::{Row, median},
};

const TOPIC: &str = "orders";
const ENTRIES: u64 = 100_000;
const ENTRY_BYTES: usize = 10_000;
/// Each way is measured so often.
const TIMES: usize = 3;
/// Where the reference broker keeps its Raft logs.
const LOG_DIR: &str = "log";
/// Longer than a broker lets obsolete log files lie.
const SETTLE: Duration = Duration::from_secs(12);
/// The broker whose disk is lost.
const LOST: i32 = 3;

pub async fn run(bed: &Bed) -> Vec<Row> {
    let off = [("ENABLED", "false"), ("BOOTSTRAP_ENABLED", "false")];
    let mut cluster = start(
        &bed.path("reseed"),
        &bed.path("reseed-store"),
        TOPIC,
        1,
        &off,
    )
    .await;
    fill(&cluster, TOPIC, &bed.json, ENTRIES, ENTRY_BYTES).await;
    let mut replays = Vec::new();
    for _ in 0..TIMES {
        replays.push(lose_and_return(&mut cluster).await);
    }
    let before = log_bytes(&cluster);

    for id in 1..=3 {
        cluster.kill_sidecar(id).unwrap();
        let sidecar = cluster.sidecar_mut(id).unwrap();
        for (key, _) in off {
            sidecar.unset_env(&format!("CHRONIK_SNAPSHOT_{key}"));
        }
        sidecar.set_env("CHRONIK_SNAPSHOT_CHECK_INTERVAL_SECS", "1");
        cluster.start_sidecar(id).unwrap();
    }
    wait_replicas(&mut cluster, TOPIC, |_, replica| {
        replica.first_log_index > ENTRIES / 2
    })
    .await;
    let after = settled_log_bytes(&cluster).await;
    let mut seeds = Vec::new();
    for _ in 0..TIMES {
        seeds.push(lose_and_return(&mut cluster).await);
    }
    cluster.stop().await.unwrap();

    let times = median(&replays) / median(&seeds);
    let saved = 100.0 * (1.0 - after / before);
    vec![
        Row::one(
            "reseed_vs_replay",
            "100,000 entries of 10 KB until it votes again, against replaying them",
            "x",
            times,
        )
        .at_least(6.0),
        Row::median("reseed_s", "from the newest snapshot", "s", seeds),
        Row::median("replay_s", "from the whole log of the leader", "s", replays),
        Row::one(
            "log_bytes_saved_percent",
            "of the log on disk, on all replicas",
            "%",
            saved,
        )
        .at_least(90.0),
    ]
}

/// Seconds from the start without a disk until the broker has everything and votes.
async fn lose_and_return(cluster: &mut Cluster) -> f64 {
    let replicas = cluster.replicas_of(TOPIC).await;
    let last = replicas
        .iter()
        .map(|(_, replica)| replica.last_log_index)
        .max()
        .unwrap();
    let former = replicas
        .iter()
        .find(|(id, _)| *id == LOST)
        .unwrap()
        .1
        .peer_id;
    cluster.kill_broker(LOST).unwrap();
    cluster.wipe_broker(LOST).unwrap();
    let begun = Instant::now();
    cluster.start_broker(LOST).unwrap();
    wait_replicas(cluster, TOPIC, |id, replica| {
        id != LOST
            || (replica.peer_id != former
                && replica.role != i32::from(Role::Learner)
                && replica.applied_index >= last)
    })
    .await;
    begun.elapsed().as_secs_f64()
}

/// Bytes of the files of the Raft logs of all brokers.
fn log_bytes(cluster: &Cluster) -> f64 {
    let dirs = cluster
        .nodes()
        .iter()
        .map(|node| node.data_dir().join(LOG_DIR));
    dirs.map(|dir| tree_bytes(&dir)).sum()
}

/// The same once nothing is deleted any more: brokers delete log files in the background.
async fn settled_log_bytes(cluster: &Cluster) -> f64 {
    let mut bytes = log_bytes(cluster);
    loop {
        tokio::time::sleep(SETTLE).await;
        let now = log_bytes(cluster);
        if now >= bytes {
            return now;
        }
        bytes = now;
    }
}
