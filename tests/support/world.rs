//! A real cluster of broker and sidecar processes with one topic, and the checks that every story ends with.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use chronik_harness::{
    Cluster, ClusterOptions, HarnessError, Poll,
    client::{Pool, PoolOptions, Record},
    proto::ReplicaStatus,
};
use chronik_snapshotd::proto::v1::{
    self, snapshot_admin_service_client::SnapshotAdminServiceClient,
};

pub const TOPIC: &str = "orders";
/// Every wait of a story ends here.
pub const PATIENCE: Duration = Duration::from_mins(2);

pub struct World {
    pub cluster: Cluster,
    pub dir: tempfile::TempDir,
    /// Acknowledged records: (partition, offset) -> key.
    acked: BTreeMap<(i32, i64), Bytes>,
    produced: u64,
}

/// Sidecar options that make things happen soon.
pub fn quick(options: ClusterOptions) -> ClusterOptions {
    options
        .sidecar_env("CHECK_INTERVAL_SECS", "1")
        .sidecar_env("MIN_INTERVAL_SECS", "0")
        .sidecar_env("DELETE_GRACE_SECS", "1")
        .sidecar_env("LOG_FORMAT", "text")
}

impl World {
    /// A cluster of `brokers` with the topic `orders` of one partition on all of them.
    pub async fn start(
        brokers: i32,
        change: impl FnOnce(ClusterOptions) -> ClusterOptions,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = change(quick(ClusterOptions::new(dir.path()).brokers(brokers)));
        let cluster = Cluster::start(options).await.unwrap();
        let replicas = u16::try_from(brokers).unwrap();
        cluster
            .client()
            .create_topic(TOPIC, 1, replicas, PATIENCE)
            .await
            .unwrap();
        Self {
            cluster,
            dir,
            acked: BTreeMap::new(),
            produced: 0,
        }
    }

    /// Produces `count` records of `value_bytes` with acks=all, one Raft entry each.
    pub async fn produce(&mut self, count: u64, value_bytes: usize) {
        let client = self.cluster.client().clone();
        let mut pool = Pool::start(&client, TOPIC, PoolOptions::default())
            .await
            .unwrap();
        for _ in 0..count {
            let number = self.produced;
            self.produced += 1;
            let mut value = format!("{{\"order\":{number},\"state\":\"paid\"}} ").into_bytes();
            value.resize(value_bytes.max(value.len()), b'.');
            let record = Record {
                key: Bytes::from(number.to_string()),
                value: Bytes::from(value),
                timestamp_ms: 1,
            };
            pool.send(record).await.unwrap();
        }
        for acked in pool.finish().await.unwrap() {
            self.acked
                .insert((acked.partition, acked.offset), acked.key);
        }
    }

    /// Drops what was acknowledged at or after `offset` of partition 0: it is known to be lost.
    pub fn forget_from(&mut self, offset: i64) {
        self.acked.retain(|(_, at), _| *at < offset);
    }

    /// Consumes from offset 0: every acknowledged record is there, once, at its offset, and nothing else.
    pub async fn check_every_record(&self) {
        let client = self.cluster.client();
        let mut read = BTreeMap::new();
        let keep = |record: chronik_harness::client::Consumed| {
            let before = read.insert((record.partition, record.offset), record.key.unwrap());
            assert!(before.is_none(), "an offset was read twice");
        };
        client.consume(TOPIC, 0, 0, PATIENCE, keep).await.unwrap();
        assert!(self.acked.len() as u64 <= self.produced);
        assert!(
            read == self.acked,
            "read {} records, {} were acknowledged",
            read.len(),
            self.acked.len()
        );
    }

    pub async fn wait<T>(
        &mut self,
        what: &str,
        look: impl AsyncFnMut() -> Result<Poll<T>, HarnessError>,
    ) -> T {
        match self.cluster.wait_until(what, PATIENCE, look).await {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }

    /// The replicas of `orders`, by broker.
    pub async fn replicas(&mut self) -> HashMap<i32, ReplicaStatus> {
        self.cluster.replicas_of(TOPIC).await.into_iter().collect()
    }

    /// Waits until `fits` holds for the replica of every broker of `brokers`.
    pub async fn wait_replicas(
        &mut self,
        what: &str,
        brokers: &[i32],
        fits: impl Fn(&ReplicaStatus) -> bool,
    ) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let replicas = self.replicas().await;
            let good = |id: &i32| replicas.get(id).is_some_and(&fits);
            if brokers.iter().all(good) {
                return;
            }
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(
                in_time,
                "waited in vain for {what}: {replicas:#?}\n{}",
                self.cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until no broker has a replica of `orders` any more.
    pub async fn wait_gone(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.replicas().await.is_empty() {
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "the topic stays\n{}", self.cluster.log_tails());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until every broker's replica of `topic` votes in a plain configuration of as many voters as brokers.
    pub async fn wait_whole(&mut self, topic: &str) {
        let wanted = self.cluster.nodes().len();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let replicas = self.cluster.replicas_of(topic).await;
            let whole = |replica: &ReplicaStatus| {
                replica.conf_state.as_ref().is_some_and(|conf| {
                    conf.voters.len() == wanted
                        && conf.voters_outgoing.is_empty()
                        && conf.voters.contains(&replica.peer_id)
                })
            };
            if replicas.len() == wanted && replicas.iter().all(|(_, replica)| whole(replica)) {
                return;
            }
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(
                in_time,
                "{topic} is not whole: {replicas:#?}\n{}",
                self.cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asserts that a snapshot was installed on this broker since its sidecar started.
    pub async fn check_seeded(&self, id: i32) {
        let node = self.cluster.node(id).unwrap();
        let seeded = node.metrics().await.unwrap().sum(
            "chronik_snapshot_bootstrap_requests_total",
            &[("outcome", "installed")],
        );
        assert!(seeded >= 1.0, "broker {id} came back without a snapshot");
    }

    /// Waits until broker 1's sidecar has ticked `count` times more.
    pub async fn wait_ticks(&self, count: usize) {
        let (mut last, mut seen) = (0, 0);
        let address = self.cluster.node(1).unwrap().sidecar_grpc_address();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while seen <= count {
            assert!(tokio::time::Instant::now() < deadline, "no ticks");
            if let Ok(body) = chronik_harness::get(&address, "/status").await {
                let status: serde_json::Value = serde_json::from_str(&body).unwrap();
                let tick = status["daemon"]["last_tick_at_unix_ms"].as_i64().unwrap();
                if tick != last && tick != 0 {
                    (last, seen) = (tick, seen + 1);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Takes a snapshot through the Admin service of broker 1's sidecar and waits for its proof.
    pub async fn trigger(&self) -> v1::TriggerSnapshotResponse {
        self.trigger_on(1, TOPIC).await
    }

    /// The same of any broker's sidecar and any topic.
    pub async fn trigger_on(&self, id: i32, topic: &str) -> v1::TriggerSnapshotResponse {
        let endpoint = self.cluster.node(id).unwrap().sidecar_endpoint();
        let mut admin = SnapshotAdminServiceClient::connect(endpoint).await.unwrap();
        let request = v1::TriggerSnapshotRequest {
            partition: Some(v1::TopicPartition {
                topic: topic.to_owned(),
                partition: 0,
            }),
            wait: true,
        };
        admin.trigger_snapshot(request).await.unwrap().into_inner()
    }

    /// Files of `orders` 0 in the store whose names end in `ending`, sorted.
    pub fn stored(&self, ending: &str) -> Vec<PathBuf> {
        stored(self.dir.path(), ending)
    }

    pub async fn wait_stored(&mut self, ending: &str, count: usize) -> Vec<PathBuf> {
        let dir = self.dir.path().to_owned();
        self.wait(&format!("{count} files *{ending}"), async || {
            let found = stored(&dir, ending);
            Ok(if found.len() == count {
                Poll::Done(found)
            } else {
                Poll::NotYet(format!("{found:?}"))
            })
        })
        .await
    }
}

fn stored(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir.join("store/snapshots").join(TOPIC).join("0")) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    found.sort();
    found
}
