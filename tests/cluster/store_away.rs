//! Real brokers and sidecars whose object store goes away and comes back.

use std::fs;

use chronik_harness::{Metrics, Poll, S3Settings, Store, get};
use chronik_snapshotd::proto::v1::ReplicaRole;

use crate::support::{
    s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY},
    world::{TOPIC, World},
};

async fn bootstraps(world: &World, outcome: &str) -> f64 {
    let metrics = world.cluster.node(3).unwrap().metrics().await.unwrap();
    bootstraps_on(&metrics, outcome)
}

fn bootstraps_on(metrics: &Metrics, outcome: &str) -> f64 {
    metrics.sum(
        "chronik_snapshot_bootstrap_requests_total",
        &[("outcome", outcome)],
    )
}

/// Waits until broker 3's sidecar has told it that the store cannot be reached.
async fn wait_unavailable(world: &mut World) {
    let address = world.cluster.node(3).unwrap().sidecar_http_address();
    world
        .wait("a Bootstrap that finds the store away", async || {
            let metrics = Metrics(get(&address, "/metrics").await?);
            let unavailable = bootstraps_on(&metrics, "store_unavailable");
            Ok(if unavailable >= 1.0 {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{unavailable}"))
            })
        })
        .await;
}

/// Outcomes of the Bootstrap calls for the topic, as broker 3's sidecar logged them; failures are not among them.
fn answers_to_broker_3(world: &World) -> Vec<String> {
    let sidecar = world.cluster.node(3).unwrap().sidecar.as_ref().unwrap();
    let log = fs::read_to_string(sidecar.log_path()).unwrap();
    let answers = log
        .lines()
        .filter(|line| line.contains("bootstrap answered") && line.contains("partition=orders/0"));
    let outcome = |line: &str| {
        Some(
            line.split_once("outcome=\"")?
                .1
                .split_once('"')?
                .0
                .to_owned(),
        )
    };
    answers.filter_map(outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_broker_waits_for_a_store_that_is_away_and_is_seeded_when_it_is_back() {
    let mut server = S3Server::start().await;
    let bucket = S3Settings::test_server(server.endpoint.as_str(), BUCKET, ACCESS_KEY, SECRET_KEY);
    let mut world = World::start(3, |options| {
        options
            .store(Store::S3(bucket))
            .sidecar_env("LOG_THRESHOLD", "1000")
            .sidecar_env("TRAILING_ENTRIES", "100")
    })
    .await;
    world.produce(3_000, 100).await;
    world
        .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
            replica.first_log_index > 800
        })
        .await;
    let before = world.replicas().await;
    let old_peer = before[&3].peer_id;

    // Before the cluster was founded, the store was looked at, and there was nothing.
    let when_founded = bootstraps(&world, "no_snapshot").await;

    world.cluster.kill_broker(3).unwrap();
    world.cluster.wipe_broker(3).unwrap();
    server.stop().await;
    world.cluster.start_broker(3).unwrap();
    wait_unavailable(&mut world).await;
    let meanwhile = world.replicas().await;
    let voters = |id: i32| meanwhile[&id].conf_state.clone().unwrap().voters;
    for id in [1, 2] {
        assert_eq!(
            voters(id),
            before[&id].conf_state.clone().unwrap().voters,
            "nobody new votes"
        );
    }
    assert!(
        !meanwhile.contains_key(&3),
        "nothing is created empty while the store may have it: {meanwhile:#?}"
    );
    for never in ["not_covered", "none_verifies"] {
        assert!(bootstraps(&world, never).await < 0.5, "{never}");
    }
    let nothing = bootstraps(&world, "no_snapshot").await;
    assert!(
        (nothing - when_founded).abs() < 0.5,
        "no_snapshot was said while nobody could look"
    );
    server.start_again().await;

    world
        .wait_replicas("broker 3 to vote again", &[3], |replica| {
            let votes = replica.conf_state.as_ref().is_some_and(|conf| {
                conf.voters.contains(&replica.peer_id) && !conf.voters.contains(&old_peer)
            });
            votes && replica.role != ReplicaRole::Learner as i32
        })
        .await;
    assert!(bootstraps(&world, "installed").await >= 1.0);
    assert_eq!(answers_to_broker_3(&world), ["installed"]);
    world.wait_whole(TOPIC).await;
    world.wait_whole("__meta").await;
    // Broker 3 is needed for the quorum now.
    world.cluster.kill_broker(1).unwrap();
    world.produce(100, 100).await;
    world.check_every_record().await;
}
