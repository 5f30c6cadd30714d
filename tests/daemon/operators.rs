//! Alarms and pauses of a real daemon: they last until an operator has looked.

use chronik_snapshotd::proto::v1;

use crate::support::{
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

/// Waits until the first partition's covered log is held by this, and gives how many entries and bytes.
fn wait_debt(daemon: &Daemon, held_by: &str) -> (u64, u64) {
    daemon.wait(&format!("a log held by {held_by:?}"), |daemon| {
        daemon.partition()["truncation_held_by"] == held_by
    });
    if !held_by.is_empty() {
        let series = format!("chronik_snapshot_truncation_debt_partitions{{reason=\"{held_by}\"}}");
        daemon.wait("the metric", |daemon| daemon.metric(&series) > 0.5);
    }
    let number = |name: &str| daemon.partition()[name].as_u64().unwrap_or(u64::MAX);
    (
        number("truncation_debt_entries"),
        number("truncation_debt_bytes"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_a_log_and_how_long_a_restore_takes_is_told() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let start = |compact| {
        Daemon::start(&Setup {
            broker: broker.address,
            dir: dir.path(),
            env: &[("CHRONIK_SNAPSHOT_COMPACT", compact)],
        })
    };
    let mut daemon = start("false");
    assert_eq!(wait_debt(&daemon, ""), (0, 0));
    assert_eq!(daemon.partition()["restore_estimate_secs"], 0);
    broker.grow(100);
    daemon.wait_proven(100);
    // Ten trail; the broker says 1000 bytes for the whole log.
    assert_eq!(wait_debt(&daemon, "disabled"), (90, 900));
    daemon.wait("an estimate", |daemon| {
        daemon.partition()["restore_estimate_secs"].as_u64() >= Some(1)
            && daemon.metric(
                "chronik_snapshot_restore_estimate_seconds{partition=\"0\",topic=\"orders\"}",
            ) > 0.5
    });
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));

    // A follower needs all but the first 40.
    broker.script().hold_index = 41;
    let daemon = start("true");
    daemon.wait("a cut as far as it goes", |_| {
        broker.script().first_log_index == 41
    });
    daemon.wait_ticks(1);
    assert_eq!(wait_debt(&daemon, "held"), (50, 833));
    let pause = v1::PausePartitionRequest {
        partition: Some(orders()),
        ttl_ms: 0,
        reason: "repairs".to_owned(),
    };
    daemon.admin().await.pause_partition(pause).await.unwrap();
    broker.script().hold_index = 0;
    assert_eq!(wait_debt(&daemon, "paused").0, 50);
    broker.script().refuse_compaction = Some(v1::ErrorReason::Held);
    let resume = v1::ResumePartitionRequest {
        partition: Some(orders()),
    };
    daemon.admin().await.resume_partition(resume).await.unwrap();
    assert_eq!(wait_debt(&daemon, "failing").0, 50);
    broker.script().refuse_compaction = None;
    assert_eq!(wait_debt(&daemon, ""), (0, 0));
    assert_eq!(broker.script().first_log_index, 91);
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
    wait_debt(&daemon, "term_mismatch");
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
