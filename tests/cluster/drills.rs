//! Drills beside real brokers: every partition has its turn, topics come and go, and a broker that lost its disk is
//! seeded while drills are all that its sidecar does.

use chronik_harness::{Metrics, Poll, get};

use crate::support::world::{PATIENCE, TOPIC, World};

const LAST: &str = "chronik_snapshot_last_drill_success_timestamp_seconds";

/// Metrics of broker 1's sidecar.
async fn metrics(world: &World) -> Metrics {
    world.cluster.node(1).unwrap().metrics().await.unwrap()
}

async fn drills(world: &World, outcome: &str) -> f64 {
    let metrics = metrics(world).await;
    metrics.sum("chronik_snapshot_drills_total", &[("outcome", outcome)])
}

/// Waits until broker 1's sidecar has drilled partition 0 of every one of these topics after `since`.
async fn wait_drilled(world: &mut World, topics: &[&str], since: f64) {
    let address = world.cluster.node(1).unwrap().sidecar_http_address();
    let what = format!("drills of {topics:?}");
    let waited = world.wait(&what, async || {
        let metrics = Metrics(get(&address, "/metrics").await?);
        let last = |topic: &&str| metrics.sum(LAST, &[("topic", topic)]);
        let times: Vec<f64> = topics.iter().map(last).collect();
        Ok(if times.iter().all(|time| *time > since) {
            Poll::Done(())
        } else {
            Poll::NotYet(format!("{times:?}"))
        })
    });
    waited.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_has_its_turn_whatever_comes_and_goes() {
    let mut world = World::start(1, |options| {
        options
            .sidecar_env("LOG_THRESHOLD", "500")
            .sidecar_env("TRAILING_ENTRIES", "50")
            .sidecar_env("DRILL_INTERVAL_SECS", "1")
    })
    .await;
    world.produce(1_500, 100).await;
    wait_drilled(&mut world, &[TOPIC, "__meta"], 1.0).await;
    let client = world.cluster.client().clone();
    client
        .create_topic("short-lived", 1, 1, PATIENCE)
        .await
        .unwrap();
    let since = metrics(&world).await.sum(LAST, &[("topic", TOPIC)]);
    wait_drilled(&mut world, &[TOPIC, "__meta"], since).await;
    client.delete_topic("short-lived", PATIENCE).await.unwrap();
    let since = metrics(&world).await.sum(LAST, &[("topic", TOPIC)]);
    wait_drilled(&mut world, &[TOPIC, "__meta"], since).await;
    for never in ["damaged", "failed"] {
        assert!(drills(&world, never).await < 0.5, "{never}");
    }
    world.check_every_record().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lost_its_disk_is_seeded_in_the_middle_of_a_drill() {
    let mut world = World::start(3, |options| {
        options
            .sidecar_env("LOG_THRESHOLD", "500")
            .sidecar_env("TRAILING_ENTRIES", "50")
            .sidecar_env("COMPRESSION", "none")
            .sidecar_env("DRILL_INTERVAL_SECS", "1")
            // Whatever a sidecar drills, it is at it for ever.
            .sidecar_env("MAX_DRILL_BYTES_PER_SEC", "1")
    })
    .await;
    world.produce(2_000, 1_000).await;
    world
        .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
            replica.first_log_index > 300
        })
        .await;
    let node = world.cluster.node(3).unwrap();
    let (grpc, http) = (node.sidecar_grpc_address(), node.sidecar_http_address());
    world
        .wait("a drill that does not end", async || {
            let metrics = Metrics(get(&http, "/metrics").await?);
            let done = metrics.sum("chronik_snapshot_drills_total", &[("outcome", "success")]);
            let status = get(&grpc, "/status").await?;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let drilling = status["daemon"]["drilling"].as_str().unwrap().to_owned();
            // The first one, of one window, is over before the limit is felt.
            Ok(if done > 0.5 && !drilling.is_empty() {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{done} done, now {drilling:?}"))
            })
        })
        .await;
    world.cluster.kill_broker(3).unwrap();
    world.cluster.wipe_broker(3).unwrap();
    world.cluster.start_broker(3).unwrap();
    world.wait_whole(TOPIC).await;
    world.check_seeded(3).await;
    let metrics = world.cluster.node(3).unwrap().metrics().await.unwrap();
    let ended = |outcome| metrics.sum("chronik_snapshot_drills_total", &[("outcome", outcome)]);
    assert!(ended("yielded") > 0.5);
    for never in ["damaged", "failed"] {
        assert!(ended(never) < 0.5, "{never}");
    }
    world.check_every_record().await;
}
