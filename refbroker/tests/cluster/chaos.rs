//! Crashes, lost disks and truncations under load: every acked record is there, once, in order.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use refbroker::{
    api::{ApiError, Node as _},
    node::BrokerNode,
};
use tonic::Code;

use crate::common::{Cluster, PATIENCE, producer_batch};

const LENGTH: Duration = Duration::from_secs(25);

type Nodes = Arc<Mutex<Vec<Arc<BrokerNode>>>>;

/// One idempotent producer that retries until it is answered; returns how many records were acked.
async fn produce(nodes: Nodes, producer: i64, stop: Arc<AtomicBool>) -> i32 {
    let mut sequence = 0;
    while !stop.load(Ordering::Relaxed) {
        let payload = format!("{producer}:{sequence}");
        let batch = producer_batch(producer, 0, sequence, payload.as_bytes());
        let since = Instant::now();
        loop {
            let current = nodes.lock().unwrap().clone();
            let mut outcome = Err(ApiError::NotLeader);
            for node in current {
                outcome = node
                    .append("t", 0, batch.clone(), Duration::from_secs(2))
                    .await;
                if outcome != Err(ApiError::NotLeader) {
                    break;
                }
            }
            match outcome {
                Ok(_) => break,
                Err(
                    ApiError::NotLeader
                    | ApiError::UnknownTopicOrPartition
                    | ApiError::TimedOut
                    | ApiError::Storage,
                ) => {}
                Err(error) => panic!("{payload}: {error}"),
            }
            assert!(since.elapsed() < PATIENCE, "{payload} was never acked");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sequence += 1;
    }
    sequence
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acked_record_is_there_once_whatever_dies() {
    let seed = std::env::var("CHAOS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("CHAOS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    let nodes: Nodes = Arc::default();
    let publish = |cluster: &Cluster| {
        let current = cluster.running.values();
        *nodes.lock().unwrap() = current.map(refbroker::broker::Broker::node).collect();
    };
    publish(&cluster);
    let stop = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (1..=8)
        .map(|id| tokio::spawn(produce(nodes.clone(), id, stop.clone())))
        .collect();
    let since = Instant::now();
    let (mut kills, mut wipes, mut compactions) = (0, 0, 0);
    while since.elapsed() < LENGTH {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1500))).await;
        let id = random.random_range(1..=3);
        match random.random_range(0..10) {
            0..=3 => {
                let on = random.random_range(1..=3);
                match cluster.try_export(id, "t").await {
                    Ok(snapshot) => {
                        let compacted = cluster.compact(on, "t", &snapshot).await;
                        compactions += u32::from(compacted.is_ok());
                    }
                    // It has only just begun.
                    Err(nothing) => assert_eq!(nothing.code(), Code::FailedPrecondition),
                }
            }
            choice => {
                cluster.kill(id).await;
                publish(&cluster);
                if random.random_bool(0.5) {
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..2500))).await;
                }
                kills += 1;
                if choice >= 8 {
                    wipes += 1;
                    cluster.wipe(id);
                }
                cluster.restart(id).await;
                publish(&cluster);
                if choice >= 8 {
                    // Only one disk at a time: with two the quorum's memory may be gone.
                    cluster
                        .until("the wiped broker votes again", |cluster| {
                            ["t", "__meta"].iter().all(|topic| {
                                (1..=3).all(|id| {
                                    let status = cluster.status(id, topic);
                                    status.is_some_and(|status| {
                                        status.conf_state.voters.contains(&status.peer_id)
                                            && status.conf_state.voters.len() == 3
                                            && status.conf_state.voters_outgoing.is_empty()
                                    })
                                })
                            })
                        })
                        .await;
                }
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let acked = futures::future::join_all(producers).await;
    let acked: Vec<i32> = acked.into_iter().map(|acked| acked.unwrap()).collect();
    println!("{kills} kills, {wipes} wipes, {compactions} compactions, acked {acked:?}");
    cluster.until_equal("t").await;
    let records = cluster.read_all("t").await;
    for (producer, acked) in (1..).zip(acked) {
        let prefix = format!("{producer}:");
        let own = records
            .iter()
            .filter_map(|record| record.strip_prefix(&prefix));
        let own: Vec<i32> = own.map(|number| number.parse().unwrap()).collect();
        assert_eq!(own, (0..acked).collect::<Vec<_>>(), "producer {producer}");
    }
    let first = cluster.export(1, "t").await;
    for id in 2..=3 {
        let other = cluster.export(id, "t").await;
        assert_eq!(other.header.parts, first.header.parts);
        assert_eq!(other.trailer, first.trailer);
    }
}
