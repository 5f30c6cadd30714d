//! A cluster of brokers in this process, each with its own directory and ports.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "test support: a panic is the answer, and each test binary uses another part of it"
)]

pub mod sidecar;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chronik_harness::Port;
use refbroker::{
    api::{ApiError, Appended, NewTopic, Node as _},
    broker::Broker,
    config::{InitialCluster, Listen, LogFormat, Peers, ServeArgs},
    driver::shared::GroupStatus,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine with two cores.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A Kafka v2 record batch with one record of `payload`.
pub fn batch(payload: &[u8]) -> Bytes {
    producer_batch(-1, -1, -1, payload)
}

/// A batch of an idempotent producer.
pub fn producer_batch(producer_id: i64, epoch: i16, sequence: i32, payload: &[u8]) -> Bytes {
    let mut batch = vec![0; 61];
    batch.extend_from_slice(payload);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[35..43].copy_from_slice(&1_000_i64.to_be_bytes());
    batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    batch[57..61].copy_from_slice(&1_i32.to_be_bytes());
    batch.into()
}

/// Brokers 1 to n.
pub struct Cluster {
    dir: TempDir,
    args: BTreeMap<i32, ServeArgs>,
    pub running: BTreeMap<i32, Broker>,
    /// Of the peers' and the Kafka listeners, also while a broker is down.
    _ports: BTreeMap<i32, [Port; 2]>,
}

impl Cluster {
    /// Starts `n` brokers and waits until all of them know all of them.
    pub async fn start(n: i32) -> Self {
        Self::start_with(n, |_| {}).await
    }

    /// The same, with other arguments.
    pub async fn start_with(n: i32, change: impl Fn(&mut ServeArgs)) -> Self {
        if std::env::var_os("TEST_LOG").is_some() {
            let _ = tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::new("info"))
                .with_writer(std::io::stderr)
                .try_init();
        }
        let dir = tempfile::tempdir().unwrap();
        let ports = (1..=n).map(|id| (id, [(); 2].map(|()| Port::reserve().unwrap())));
        let ports: BTreeMap<i32, [Port; 2]> = ports.collect();
        let addresses = ports.iter().map(|(id, [peer, _])| (*id, peer.address()));
        let peers: BTreeMap<i32, String> = addresses.collect();
        let args = (1..=n).map(|id| {
            let mut args = ServeArgs {
                broker_id: id,
                data_dir: dir.path().join(format!("broker-{id}")),
                kafka_listen: ports[&id][1].socket_addr(),
                peer_listen: ports[&id][0].socket_addr(),
                snapshot_listen: Listen::Unix(dir.path().join(format!("broker-{id}.sock"))),
                sidecar_endpoint: None,
                peers: Peers(peers.clone()),
                cluster_id: Some("test".to_owned()),
                initial_cluster: Some(InitialCluster::New),
                restore_token: None,
                segment_bytes: 65_536.try_into().unwrap(),
                hold_entries: 200,
                log: LogFormat::Text,
            };
            change(&mut args);
            (id, args)
        });
        let mut cluster = Self {
            args: args.collect(),
            dir,
            running: BTreeMap::new(),
            _ports: ports,
        };
        let stop = CancellationToken::new();
        let starts = cluster.args.clone();
        let starts = starts.into_values().map(|args| Broker::start(args, &stop));
        let started = futures::future::join_all(starts).await;
        for (id, broker) in (1..).zip(started) {
            cluster.running.insert(id, broker.unwrap());
        }
        let brokers = usize::try_from(n).unwrap();
        cluster
            .until("all brokers are registered", |cluster| {
                let mut nodes = cluster.running.values();
                nodes.all(|broker| {
                    let view = broker.node().cluster();
                    view.brokers.len() == brokers && view.controller.is_some()
                })
            })
            .await;
        cluster
    }

    /// Starts a broker again.
    pub async fn restart(&mut self, id: i32) {
        let stop = CancellationToken::new();
        let broker = Broker::start(self.args[&id].clone(), &stop).await.unwrap();
        self.running.insert(id, broker);
    }

    /// Changes what a broker is started with next.
    pub fn args(&mut self, id: i32) -> &mut ServeArgs {
        self.args.get_mut(&id).unwrap()
    }

    /// As a crash.
    pub async fn kill(&mut self, id: i32) {
        self.running.remove(&id).unwrap().kill().await.unwrap();
    }

    /// Gracefully.
    pub async fn stop(&mut self, id: i32) {
        self.running.remove(&id).unwrap().stop().await.unwrap();
    }

    /// The disk is gone.
    pub fn wipe(&self, id: i32) {
        std::fs::remove_dir_all(self.data_dir(id)).unwrap();
    }

    /// Everything a broker keeps.
    pub fn data_dir(&self, id: i32) -> PathBuf {
        self.args[&id].data_dir.clone()
    }

    /// URI of a broker's snapshot service.
    pub fn snapshot_uri(&self, id: i32) -> String {
        match &self.args[&id].snapshot_listen {
            Listen::Unix(path) => format!("unix:{}", path.display()),
            Listen::Tcp(address) => format!("http://{address}"),
        }
    }

    /// Waits for something to become true.
    pub async fn until(&self, what: &str, mut is_true: impl FnMut(&Self) -> bool) {
        let since = Instant::now();
        while !is_true(self) {
            assert!(since.elapsed() < PATIENCE, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Creates a topic with one partition on all brokers.
    pub async fn topic(&self, name: &str) {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: 1,
            replication_factor: u16::try_from(self.args.len()).unwrap(),
        };
        let (_, any) = self.running.iter().next().unwrap();
        any.node().create_topic(topic, PATIENCE).await.unwrap();
    }

    /// State of a broker's replica.
    pub fn status(&self, id: i32, topic: &str) -> Option<GroupStatus> {
        let node = self.running.get(&id)?.node();
        Some(node.shared().find(topic, 0)?.status())
    }

    /// The broker that leads.
    pub fn leader(&self, topic: &str) -> Option<i32> {
        let mut ids = self.running.keys().copied();
        ids.find(|id| self.status(*id, topic).is_some_and(|status| status.serving))
    }

    /// Waits for a leader.
    pub async fn elected(&self, topic: &str) -> i32 {
        self.until("a leader", |cluster| cluster.leader(topic).is_some())
            .await;
        self.leader(topic).unwrap()
    }

    /// Appends, trying again as a client would after a certain refusal.
    pub async fn append(&self, topic: &str, batch: Bytes) -> Appended {
        let since = Instant::now();
        loop {
            let leader = self.elected(topic).await;
            let node = self.running[&leader].node();
            match node.append(topic, 0, batch.clone(), PATIENCE).await {
                Ok(appended) => return appended,
                Err(ApiError::NotLeader) if since.elapsed() < PATIENCE => {}
                Err(error) => panic!("append: {error}"),
            }
        }
    }

    /// Appends `count` records with numbered payloads, many at a time.
    pub async fn fill(&self, topic: &str, from: usize, count: usize) {
        for start in (from..from + count).step_by(256) {
            let end = (start + 256).min(from + count);
            let appends =
                (start..end).map(|number| self.append(topic, batch(number.to_string().as_bytes())));
            futures::future::join_all(appends).await;
        }
    }

    /// Payloads of all committed records, in order, with the offsets checked to be without a gap.
    pub async fn read_all(&self, topic: &str) -> Vec<String> {
        let leader = self.elected(topic).await;
        let node = self.running[&leader].node();
        let (mut offset, mut payloads) = (0_i64, Vec::new());
        loop {
            let fetched = node.read(topic, 0, offset, 1 << 20).await.unwrap();
            if fetched.batches.is_empty() {
                return payloads;
            }
            let mut rest = &fetched.batches[..];
            while !rest.is_empty() {
                assert_eq!(i64::from_be_bytes(rest[..8].try_into().unwrap()), offset);
                let length = i32::from_be_bytes(rest[8..12].try_into().unwrap());
                let end = 12 + usize::try_from(length).unwrap();
                payloads.push(String::from_utf8(rest[61..end].to_vec()).unwrap());
                rest = &rest[end..];
                offset += 1;
            }
        }
    }
}
