//! The reference cluster as it is measured: three brokers and their sidecars.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use chronik_harness::{
    Cluster, ClusterOptions, Store,
    client::{Pool, PoolOptions, Record},
    proto::ReplicaStatus,
};

use crate::{PATIENCE, shares::Shares};

/// Starts an empty cluster with one topic, replicated to all three.
pub async fn start(
    dir: &Path,
    store: &Path,
    topic: &str,
    partitions: u32,
    shares: Option<&Shares>,
    env: &[(&str, impl AsRef<str>)],
) -> Cluster {
    let mut options = ClusterOptions::new(dir).store(Store::Local(store.to_owned()));
    for (key, value) in env {
        options = options.sidecar_env(key, value.as_ref());
    }
    if let Some(shares) = shares {
        shares.apply(&mut options.binaries);
    }
    let cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client();
    client
        .create_topic(topic, partitions, 3, Duration::from_secs(60))
        .await
        .unwrap();
    cluster
}

/// A record of `len_bytes`, cut from generated ones.
pub fn record(json: &Bytes, number: u64, len_bytes: usize) -> Record {
    let slots = json.len() / len_bytes;
    let start = usize::try_from(number).unwrap() % slots * len_bytes;
    Record {
        key: Bytes::from(number.to_string()),
        value: json.slice(start..start + len_bytes),
        timestamp_ms: 1,
    }
}

/// Produces `count` records with acks=all, one Raft entry each.
pub async fn fill(cluster: &Cluster, topic: &str, json: &Bytes, count: u64, len_bytes: usize) {
    let options = PoolOptions::default();
    let mut pool = Pool::start(cluster.client(), topic, options).await.unwrap();
    for number in 0..count {
        pool.send(record(json, number, len_bytes)).await.unwrap();
    }
    pool.finish().await.unwrap();
}

/// Starts a sidecar anew with these options changed, and waits until it has asked its broker.
pub async fn restart_sidecar(cluster: &mut Cluster, id: i32, env: &[(&str, impl AsRef<str>)]) {
    cluster.kill_sidecar(id).unwrap();
    for (key, value) in env {
        let sidecar = cluster.sidecar_mut(id).unwrap();
        sidecar.set_env(format!("CHRONIK_SNAPSHOT_{key}"), value.as_ref());
    }
    cluster.start_sidecar(id).unwrap();
    until_ticked(cluster).await;
}

/// Waits until every sidecar has asked its broker.
async fn until_ticked(cluster: &Cluster) {
    for node in cluster.nodes() {
        let last_tick = "chronik_snapshot_loop_last_tick_timestamp_seconds";
        while !node
            .metrics()
            .await
            .is_ok_and(|metrics| metrics.sum(last_tick, &[]) > 0.0)
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Waits until the replica of every broker fits.
pub async fn wait_replicas(
    cluster: &mut Cluster,
    topic: &str,
    fits: impl Fn(i32, &ReplicaStatus) -> bool,
) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let replicas = cluster.replicas_of(topic).await;
        if replicas.len() >= 3 && replicas.iter().all(|(id, replica)| fits(*id, replica)) {
            return;
        }
        let in_time = std::time::Instant::now() < deadline;
        assert!(in_time, "{replicas:#?}\n{}", cluster.log_tails());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
