//! Three brokers: elections, crashes, restarts.

use refbroker::api::{ApiError, NewTopic, Node as _};

use crate::common::{Cluster, PATIENCE, batch, producer_batch};

fn numbers(count: usize) -> Vec<String> {
    let mut numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    numbers.sort();
    numbers
}

async fn sorted(cluster: &Cluster, topic: &str) -> Vec<String> {
    let mut payloads = cluster.read_all(topic).await;
    payloads.sort();
    payloads
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_broker_appends_and_reads_across_a_crash() {
    let mut cluster = Cluster::start(1).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 3000).await;
    assert_eq!(sorted(&cluster, "t").await, numbers(3000));
    cluster.kill(1).await;
    cluster.restart(1).await;
    assert_eq!(sorted(&cluster, "t").await, numbers(3000));
    cluster.fill("t", 3000, 10).await;
    cluster.stop(1).await;
    cluster.restart(1).await;
    assert_eq!(sorted(&cluster, "t").await, numbers(3010));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_leader_loses_nothing_that_was_acked() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 1000).await;
    let leader = cluster.elected("t").await;
    cluster.kill(leader).await;
    cluster.fill("t", 1000, 1000).await;
    assert_eq!(sorted(&cluster, "t").await, numbers(2000));
    cluster.restart(leader).await;
    cluster
        .until("the old leader caught up", |cluster| {
            let status = |id| cluster.status(id, "t");
            let applied = |id| status(id).map(|status| status.applied_index);
            (1..=3).all(|id| applied(id) >= Some(2000) && applied(id) == applied(1))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_all_brokers_loses_nothing_that_was_acked() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 1500).await;
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    for id in 1..=3 {
        cluster.restart(id).await;
    }
    assert_eq!(sorted(&cluster, "t").await, numbers(1500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_an_idempotent_producer_is_answered_with_the_original() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    for sequence in 0..7 {
        cluster
            .append("t", producer_batch(5, 0, sequence, b"x"))
            .await;
    }
    let original = cluster.append("t", producer_batch(5, 0, 7, b"seven")).await;
    let leader = cluster.elected("t").await;
    cluster.kill(leader).await;
    let retried = cluster.append("t", producer_batch(5, 0, 7, b"seven")).await;
    assert_eq!(retried, original);
    assert_eq!(cluster.read_all("t").await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_once_deleted_and_created_anew() {
    let cluster = Cluster::start(3).await;
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: 4,
        replication_factor: 3,
    };
    // Through every broker: two of them forward.
    let first = cluster.running[&1]
        .node()
        .create_topic(topic.clone(), PATIENCE)
        .await
        .unwrap();
    assert_eq!(first.partitions.len(), 4);
    for broker in cluster.running.values() {
        let again = broker.node().create_topic(topic.clone(), PATIENCE).await;
        assert_eq!(again, Err(ApiError::TopicExists));
    }
    cluster.append("t", batch(b"old")).await;
    cluster.running[&2]
        .node()
        .delete_topic("t", PATIENCE)
        .await
        .unwrap();
    let second = cluster.running[&3]
        .node()
        .create_topic(topic, PATIENCE)
        .await
        .unwrap();
    assert_ne!(first.topic_id, second.topic_id);
    cluster
        .until("the old replicas are gone", |cluster| {
            cluster
                .running
                .values()
                .all(|broker| broker.node().shared().groups().len() == 5)
        })
        .await;
    assert!(cluster.read_all("t").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_are_unique_across_brokers() {
    let cluster = Cluster::start(3).await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..150 {
        for broker in cluster.running.values() {
            let id = broker.node().allocate_producer_id(PATIENCE).await.unwrap();
            assert!(ids.insert(id), "{id} twice");
        }
    }
}
