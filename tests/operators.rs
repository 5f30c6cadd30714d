//! Alarms and pauses of a real daemon: they last until an operator has looked.

mod support;

use chronik_snapshotd::proto::v1;
use support::{
    daemon::{Daemon, Setup, stored},
    scripted_broker::ScriptedBroker,
};

fn orders() -> v1::TopicPartition {
    v1::TopicPartition {
        topic: "orders".to_owned(),
        partition: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_a_listing_that_misses_the_partition() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[],
    });
    daemon.wait("the partition", |daemon| daemon.partition().is_object());
    let pause = v1::PausePartitionRequest {
        partition: Some(orders()),
        ttl_ms: 0,
        reason: "repairs".to_owned(),
    };
    daemon.admin().await.pause_partition(pause).await.unwrap();
    broker.script().hidden = true;
    daemon.wait("the partition to be missed", |daemon| {
        daemon.partition().is_null()
    });
    broker.script().hidden = false;
    broker.grow(100);
    daemon.wait("the partition to be back", |daemon| {
        daemon.partition()["applied_index"] == 100
    });
    daemon.wait_ticks(2);
    assert_eq!(daemon.partition()["paused"], true);
    assert_eq!(broker.script().exports, 0);
    let resume = v1::ResumePartitionRequest {
        partition: Some(orders()),
    };
    daemon.admin().await.resume_partition(resume).await.unwrap();
    daemon.wait_proven(100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_divergence_keeps_everything_even_when_a_snapshot_is_asked_for() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.script().refuse_compaction = Some(v1::ErrorReason::TermMismatch);
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[("CHRONIK_SNAPSHOT_RETENTION_COUNT", "1")],
    });
    for count in 1..=2 {
        let end = broker.grow(100);
        daemon.wait_proven(end);
        daemon.wait("the refusal", |_| {
            broker.script().compactions.len() == count
        });
    }
    daemon.wait("the alarm", |daemon| {
        daemon.metric("chronik_snapshot_divergence_total") >= 2.0
    });
    let trigger = v1::TriggerSnapshotRequest {
        partition: Some(orders()),
        wait: true,
    };
    let answer = daemon.admin().await.trigger_snapshot(trigger).await;
    assert!(answer.unwrap().into_inner().already_covered);
    assert_eq!(
        broker.script().compactions.len(),
        2,
        "once for each snapshot, and never again"
    );
    assert_eq!(stored(dir.path(), ".manifest.json").len(), 2);
    assert_eq!(stored(dir.path(), ".snap").len(), 2);
    assert_eq!(broker.script().first_log_index, 1);
}
