//! Replicas that are far behind: down for ten thresholds, or seeded over a link so slow that retention overtakes it.

use std::fs;

use chronik_harness::{
    ClusterOptions, S3Settings, Store,
    fault::{LinkState, TcpProxy},
    proto::ReplicaStatus,
};
use chronik_snapshotd::proto::v1::ReplicaRole;

use crate::support::{
    s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY},
    world::{TOPIC, World},
};

const THRESHOLD: u64 = 200;
const TRAILING: u64 = 20;
const HOLD: u64 = 500;

fn quickly(options: ClusterOptions) -> ClusterOptions {
    options
        .sidecar_env("LOG_THRESHOLD", &THRESHOLD.to_string())
        .sidecar_env("TRAILING_ENTRIES", &TRAILING.to_string())
        .sidecar_env("RETENTION_COUNT", "1")
}

fn entries(replica: &ReplicaStatus) -> u64 {
    replica.last_log_index + 1 - replica.first_log_index
}

fn broker_log(world: &World, id: i32) -> String {
    let node = world.cluster.node(id).unwrap();
    fs::read_to_string(node.broker.log_path()).unwrap()
}

fn sidecar_log(world: &World, id: i32) -> String {
    let node = world.cluster.node(id).unwrap();
    fs::read_to_string(node.sidecar.as_ref().unwrap().log_path()).unwrap()
}

/// The others' logs do not wait for it for ever, and it needs one snapshot, not one for each threshold.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_down_for_ten_thresholds_converges_under_load_with_one_snapshot() {
    let mut world = World::start(3, |options| {
        quickly(options).broker_args([format!("--hold-entries={HOLD}")])
    })
    .await;
    world.produce(100, 100).await;
    let leads = world.replicas().await;
    let follower = *leads
        .iter()
        .find(|(_, replica)| replica.role == ReplicaRole::Follower as i32)
        .unwrap()
        .0;
    world.cluster.kill_sidecar(follower).unwrap();
    world.cluster.kill_broker(follower).unwrap();
    let others: Vec<i32> = (1..=3).filter(|id| *id != follower).collect();
    for _ in 0..10 {
        world.produce(THRESHOLD, 100).await;
    }
    // Beyond the hard limit nobody's log is held for it.
    world
        .wait_replicas("short logs", &others, |replica| {
            entries(replica) < HOLD + THRESHOLD
        })
        .await;
    world.cluster.start_broker(follower).unwrap();
    world.cluster.start_sidecar(follower).unwrap();
    world.produce(3 * THRESHOLD, 100).await;
    let last = world.replicas().await[&others[0]].last_log_index;
    world
        .wait_replicas("the follower to have everything", &[follower], |replica| {
            replica.applied_index >= last
        })
        .await;
    world.wait_whole(TOPIC).await;
    let log = broker_log(&world, follower);
    let received = log
        .lines()
        .filter(|line| line.contains("snapshot received"));
    assert_eq!(received.count(), 1, "{log}");
    world.check_every_record().await;
    world.cluster.stop().await.unwrap();
}

/// Broker 3 lost its disk and is seeded over a link that takes seconds, while every second another snapshot replaces
/// the one before. Returns the log of its sidecar.
async fn seeded_slowly(grace_secs: u64) -> String {
    let server = S3Server::start().await;
    let endpoint = server.endpoint.clone();
    let slow = TcpProxy::start(endpoint.authority()).await.unwrap();
    let bucket = S3Settings::test_server(endpoint.as_str(), BUCKET, ACCESS_KEY, SECRET_KEY);
    let mut world = World::start(3, |options| {
        quickly(options)
            .store(Store::S3(bucket))
            .sidecar_env("COMPRESSION", "none")
            .sidecar_env("DELETE_GRACE_SECS", &grace_secs.to_string())
    })
    .await;
    // More than is read ahead: much of it is asked for when it has been retired.
    world.produce(1_000, 30_000).await;
    // The last snapshot is at most a threshold old, wherever in the load it was taken.
    world
        .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
            replica.first_log_index > 1_000 - THRESHOLD - TRAILING
        })
        .await;
    world.cluster.kill_sidecar(3).unwrap();
    world.cluster.kill_broker(3).unwrap();
    world.cluster.wipe_broker(3).unwrap();
    let sidecar = world.cluster.sidecar_mut(3).unwrap();
    sidecar.set_env("S3_ENDPOINT", format!("http://{}", slow.address()));
    slow.set(LinkState::Rate(4_000_000));
    world.cluster.start_sidecar(3).unwrap();
    world.cluster.start_broker(3).unwrap();
    for _ in 0..12 {
        world.produce(THRESHOLD + 10, 100).await;
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    }
    slow.set(LinkState::Up);
    world.wait_whole(TOPIC).await;
    world.check_every_record().await;
    let log = sidecar_log(&world, 3);
    world.cluster.stop().await.unwrap();
    log
}

/// What a restore reads outlives its retirement by the grace.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_restore_survives_retention_within_the_grace() {
    let log = seeded_slowly(60).await;
    let seeded = log
        .lines()
        .find(|line| line.contains("broker seeded") && line.contains("orders/0"));
    assert!(seeded.is_some(), "{log}");
    assert!(!log.contains("trying another snapshot"), "{log}");
    assert!(!log.contains("quarantined"), "{log}");
}

/// With a grace far too short the data may go from under the restore: that is never taken for damage or for "there is
/// nothing", and the broker comes back whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_restore_with_a_grace_far_too_short_is_neither_damage_nor_nothing() {
    let log = seeded_slowly(1).await;
    assert!(!log.contains("quarantined"), "{log}");
    let mut answers = log
        .lines()
        .filter(|line| line.contains("bootstrap answered") && line.contains("orders/0"));
    assert!(!answers.any(|line| line.contains("no_snapshot")), "{log}");
}
