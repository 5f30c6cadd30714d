//! The harness with real brokers and no sidecars: processes, signals, clients that survive.
//!
//! Needs `refbroker` beside the test program (`cargo build -p refbroker`) or in `HARNESS_REFBROKER`; a missing one
//! is a failure.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use chronik_harness::{
    Cluster, ClusterOptions,
    client::{Consumed, Pool, PoolOptions, Record},
};

const TOPIC: &str = "orders";
const SOON: Duration = Duration::from_secs(30);

fn record(number: u64) -> Record {
    Record {
        key: Bytes::from(number.to_string()),
        value: Bytes::from(vec![b'v'; 100]),
        timestamp_ms: 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_record_survives_a_killed_and_a_frozen_broker() {
    let dir = tempfile::tempdir().unwrap();
    let options = ClusterOptions::new(dir.path()).without_sidecars();
    let mut cluster = Cluster::start(options).await.unwrap();
    let client = cluster.client().clone();
    client.create_topic(TOPIC, 3, 3, SOON).await.unwrap();
    let mut pool = Pool::start(&client, TOPIC, PoolOptions::default())
        .await
        .unwrap();
    for number in 0..3000 {
        match number {
            500 => cluster.kill_broker(1).unwrap(),
            1500 => cluster.start_broker(1).unwrap(),
            2200 => cluster.node_mut(2).unwrap().broker.pause().unwrap(),
            2600 => cluster.node_mut(2).unwrap().broker.resume().unwrap(),
            _ => {}
        }
        pool.send(record(number)).await.unwrap();
    }
    let acked: BTreeMap<_, _> = pool
        .finish()
        .await
        .unwrap()
        .into_iter()
        .map(|acked| ((acked.partition, acked.offset), acked.key))
        .collect();
    let mut read = BTreeMap::new();
    for partition in 0..3 {
        let keep = |record: Consumed| {
            read.insert((record.partition, record.offset), record.key.unwrap());
        };
        client
            .consume(TOPIC, partition, 0, SOON, keep)
            .await
            .unwrap();
    }
    assert_eq!(acked.len(), 3000);
    assert_eq!(read, acked);
    cluster.stop().await.unwrap();
}

/// The harness itself is killed: this test starts itself again as the victim.
#[test]
fn a_killed_harness_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "brokers::victim", "--ignored", "--nocapture"])
        .env("VICTIM_DIR", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pids = dir.path().join("pids");
    wait_for(|| fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n')));
    let pids: Vec<u32> = fs::read_to_string(&pids)
        .unwrap()
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_for(|| !pids.iter().any(|pid| is_alive(*pid)));
}

#[tokio::test]
#[ignore = "is killed by another test"]
async fn victim() {
    let dir = std::path::PathBuf::from(std::env::var_os("VICTIM_DIR").unwrap());
    let cluster = Cluster::start(ClusterOptions::new(&dir).without_sidecars())
        .await
        .unwrap();
    let pids: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| node.broker.pid().unwrap().to_string())
        .collect();
    fs::write(dir.join("pids"), pids.join(" ") + "\n").unwrap();
    std::future::pending::<()>().await;
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn wait_for(mut so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + SOON;
    while !so() {
        assert!(std::time::Instant::now() < deadline, "it did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}
