//! The whole thing at its smallest: logs shrink, a sidecar dies, a disk is lost, everything stops when asked.

use std::time::Duration;

use bytes::Bytes;
use chronik_harness::{
    Cluster, ClusterOptions, Poll, Role,
    client::{Client, Pool, PoolOptions, Record},
};

const TOPIC: &str = "orders";
const SOON: Duration = Duration::from_secs(30);
const TRAILING: u64 = 20;

async fn produce(client: &std::sync::Arc<Client>, count: u64) {
    let mut pool = Pool::start(client, TOPIC, PoolOptions::default())
        .await
        .unwrap();
    for number in 0..count {
        let record = Record {
            key: Bytes::from(number.to_string()),
            value: Bytes::from_static(b"value"),
            timestamp_ms: 1,
        };
        pool.send(record).await.unwrap();
    }
    assert_eq!(pool.finish().await.unwrap().len() as u64, count);
}

/// Every replica on every broker has dropped the log up to `index` at least.
async fn wait_truncated(cluster: &Cluster, index: u64) {
    let look = async || {
        let mut behind = Vec::new();
        for node in cluster.nodes() {
            for replica in node.replicas().await? {
                let name = replica.partition.clone().unwrap_or_default();
                if name.topic == TOPIC && replica.first_log_index <= index {
                    behind.push((node.id(), name.partition, replica.first_log_index));
                }
            }
        }
        Ok(if behind.is_empty() {
            Poll::Done(())
        } else {
            Poll::NotYet(format!("broker, partition, first index: {behind:?}"))
        })
    };
    cluster
        .wait_until("truncation everywhere", SOON, look)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_shrink_a_sidecar_dies_a_disk_is_lost_and_everything_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let options = ClusterOptions::new(dir.path())
        .sidecar_env("LOG_THRESHOLD", "100")
        .sidecar_env("CHECK_INTERVAL_SECS", "1")
        .sidecar_env("MIN_INTERVAL_SECS", "0")
        .sidecar_env("TRAILING_ENTRIES", &TRAILING.to_string());
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().clone();
    client.create_topic(TOPIC, 2, 3, SOON).await.unwrap();
    produce(&client, 500).await;
    wait_truncated(&cluster, 100 - TRAILING).await;

    cluster.kill_sidecar(1).unwrap();
    cluster.start_sidecar(1).unwrap();
    produce(&client, 500).await;
    wait_truncated(&cluster, 200 - TRAILING).await;
    let status = cluster.node(1).unwrap().status().await.unwrap();
    assert!(status.daemon.broker_connected && status.daemon.identity_problem.is_empty());

    cluster.kill_broker(2).unwrap();
    cluster.wipe_broker(2).unwrap();
    cluster.start_broker(2).unwrap();
    let look = async || {
        let replicas = cluster.node(2)?.replicas().await?;
        let of_topic = replicas.iter().filter(|replica| {
            replica
                .partition
                .as_ref()
                .is_some_and(|name| name.topic == TOPIC)
        });
        let voters = of_topic.filter(|replica| {
            let voters = replica.conf_state.clone().unwrap_or_default().voters;
            replica.role() != Role::Learner && voters.contains(&replica.peer_id)
        });
        Ok(match voters.count() {
            2 => Poll::Done(()),
            count => Poll::NotYet(format!("{count} of 2 voters")),
        })
    };
    cluster
        .wait_until("broker 2 voting again", SOON, look)
        .await
        .unwrap();
    let metrics = cluster.node(2).unwrap().metrics().await.unwrap();
    let installed = metrics.sum(
        "chronik_snapshot_bootstrap_requests_total",
        &[("outcome", "installed")],
    );
    assert!(installed >= 2.0, "{installed} snapshots installed");

    let mut read = 0;
    for partition in 0..2 {
        client
            .consume(TOPIC, partition, 0, SOON, |_| read += 1)
            .await
            .unwrap();
    }
    assert_eq!(read, 1000);
    cluster.stop().await.unwrap();
}
