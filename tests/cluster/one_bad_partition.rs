//! A partition whose every snapshot hangs and fails takes nothing from the others but its turn.

use bytes::Bytes;
use chronik_harness::{
    Cluster, ClusterOptions, Metrics, Poll,
    client::{self, Pool, PoolOptions, Record},
    fault::{HttpFault, HttpProxy, Seen},
    get,
    s3::S3Process,
};

use crate::support::world::{PATIENCE, quick};

const THRESHOLD: u64 = 50;
const BAD: &str = "bad";
/// Of a record: a snapshot is uploaded in parts.
const BAD_BYTES: usize = 60_000;
const GOOD: [&str; 3] = ["good-a", "good-b", "good-c"];
const ROUNDS: usize = 2;

async fn produce(cluster: &Cluster, topic: &str, value_bytes: usize) {
    let client = cluster.client().clone();
    let mut pool = Pool::start(&client, topic, PoolOptions::default())
        .await
        .unwrap();
    for number in 0..=THRESHOLD {
        let record = Record {
            key: Bytes::from(number.to_string()),
            value: Bytes::from(vec![b'v'; value_bytes]),
            timestamp_ms: 1,
        };
        pool.send(record).await.unwrap();
    }
    pool.finish().await.unwrap();
}

/// Waits until the logs of these topics are cut behind everything that is produced.
async fn wait_cut(cluster: &mut Cluster, topics: &[&str]) {
    let endpoint = cluster.node(1).unwrap().snapshot_endpoint();
    let look = async || {
        let replicas = client::snapshot::list_replicas(&endpoint).await?;
        let kept = |topic: &str| {
            let of_topic = replicas
                .iter()
                .find(|it| it.partition.as_ref().is_some_and(|it| it.topic == topic));
            of_topic.map(|it| it.last_log_index + 1 - it.first_log_index)
        };
        let long: Vec<_> = topics
            .iter()
            .filter(|topic| kept(topic).is_none_or(|kept| kept >= THRESHOLD))
            .collect();
        Ok(if long.is_empty() {
            Poll::Done(())
        } else {
            Poll::NotYet(format!("long logs: {long:?}"))
        })
    };
    if let Err(error) = cluster.wait_until("short logs", PATIENCE, look).await {
        panic!("{error}");
    }
}

async fn failures_of_bad(cluster: &Cluster) -> f64 {
    let address = cluster.node(1).unwrap().sidecar_http_address();
    let metrics = Metrics(get(&address, "/metrics").await.unwrap());
    metrics.sum("chronik_snapshot_consecutive_failures", &[("topic", BAD)])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_partition_starves_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let options = quick(ClusterOptions::new(dir.path()).brokers(1))
        .sidecar_env("LOG_THRESHOLD", &THRESHOLD.to_string())
        .sidecar_env("TRAILING_ENTRIES", "5")
        .sidecar_env("MAX_CONCURRENT", "1")
        .sidecar_env("PROGRESS_TIMEOUT_SECS", "1")
        .sidecar_env("COMPRESSION", "none")
        .sidecar_env("RETENTION_COUNT", "1");
    let store = S3Process::start(&options.binaries, dir.path())
        .await
        .unwrap();
    let proxy = HttpProxy::start(&store.address()).await.unwrap();
    // No part of a file of the bad partition is stored or answered.
    proxy.script(|seen: &Seen| {
        let swallowed = seen.target.contains("/bad/0/") && seen.target.contains("partNumber=");
        swallowed.then_some(HttpFault::StopBefore)
    });
    let bucket = store.store_through(&proxy.address());
    let mut cluster = Cluster::start(options.store(bucket)).await.unwrap();
    for topic in [BAD].into_iter().chain(GOOD) {
        let created = cluster.client().create_topic(topic, 1, 1, PATIENCE).await;
        created.unwrap();
    }
    // Most overdue from the beginning, and more so every round.
    for _ in 0..4 {
        produce(&cluster, BAD, BAD_BYTES).await;
    }
    for _ in 0..ROUNDS {
        for topic in GOOD {
            produce(&cluster, topic, 5).await;
        }
        wait_cut(&mut cluster, &GOOD).await;
    }
    let failures = failures_of_bad(&cluster).await;
    assert!(failures >= 1.0, "the bad partition was never tried");
    proxy.heal();
    wait_cut(&mut cluster, &[BAD]).await;
    cluster.stop().await.unwrap();
}
