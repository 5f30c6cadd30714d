//! A broker that lost its disk: from a snapshot, against the replay of the whole log.

use std::time::{Duration, Instant};

use chronik_harness::{Cluster, Role};
use chronik_snapshotd::proto::v1::{
    self, snapshot_admin_service_client::SnapshotAdminServiceClient,
};

use crate::{
    bed::{Bed, tree_bytes},
    broker::partition,
    cluster::{fill, restart_sidecar, start, wait_replicas},
    report::Row,
};

const TOPIC: &str = "orders";
const ENTRIES: u64 = 100_000;
const ENTRY_BYTES: usize = 10_000;
/// Where the reference broker keeps its Raft logs.
const LOG_DIR: &str = "log";
/// Longer than a broker lets obsolete log files lie: the metadata's few entries in the oldest of them are moved by the
/// tenth look, one every five seconds.
const SETTLE: Duration = Duration::from_secs(65);
/// The broker whose disk is lost.
const LOST: i32 = 3;

pub async fn run(bed: &Bed) -> Vec<Row> {
    // Logs stay whole until the end: then there is something to replay and something to seed from at one time.
    let env = [("COMPACT", "false"), ("CHECK_INTERVAL_SECS", "1")];
    let (dir, store) = (bed.path("reseed"), bed.path("reseed-store"));
    let mut cluster = start(&dir, &store, TOPIC, 1, None, &env).await;
    fill(&cluster, TOPIC, &bed.json, ENTRIES, ENTRY_BYTES).await;
    snapshot(&cluster).await;
    let before = log_bytes(&cluster);
    let (mut replays, mut seeds) = (Vec::new(), Vec::new());
    // The first pair does not count.
    for pair in 0..=bed.pairs {
        for seeded in [pair % 2 == 1, pair % 2 == 0] {
            let bootstrap = if seeded { "true" } else { "false" };
            let env = [("BOOTSTRAP_ENABLED", bootstrap)];
            restart_sidecar(&mut cluster, LOST, &env).await;
            let seconds = lose_and_return(&mut cluster).await;
            let times = if seeded { &mut seeds } else { &mut replays };
            if pair > 0 {
                times.push(seconds);
            }
        }
    }
    for id in 1..=3 {
        restart_sidecar(&mut cluster, id, &[("COMPACT", "true")]).await;
    }
    wait_replicas(&mut cluster, TOPIC, |_, replica| {
        replica.first_log_index > ENTRIES / 2
    })
    .await;
    let after = settled_log_bytes(&cluster).await;
    cluster.stop().await.unwrap();

    let pairs = replays.iter().zip(&seeds);
    let ratios = pairs.map(|(replay, seed)| replay / seed).collect();
    let saved = 100.0 * (1.0 - after / before);
    vec![
        Row::median(
            "reseed_vs_replay",
            "100,000 entries of 10 KB until it votes again, against replaying them",
            "x",
            ratios,
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

/// A proven snapshot of everything.
async fn snapshot(cluster: &Cluster) {
    let endpoint = cluster.nodes()[0].sidecar_endpoint();
    let mut admin = SnapshotAdminServiceClient::connect(endpoint).await.unwrap();
    let request = v1::TriggerSnapshotRequest {
        partition: Some(partition(TOPIC, 0)),
        wait: true,
    };
    admin.trigger_snapshot(request).await.unwrap();
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
    flush().await;
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

/// What earlier rounds wrote goes to disk now, and not while something is measured.
async fn flush() {
    let status = tokio::process::Command::new("sync").status().await;
    assert!(status.unwrap().success(), "sync");
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
