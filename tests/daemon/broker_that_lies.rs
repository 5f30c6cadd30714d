//! The daemon beside a broker that breaks the rules: one clear error each, nothing committed, nothing truncated.

use std::time::Duration;

use chronik_harness::Port;
use chronik_snapshotd::proto::v1;

use crate::support::{
    daemon::{Daemon, Setup, stored},
    scripted_broker::{Lie, ScriptedBroker, sample_state},
};

fn setup<'a>(broker: &ScriptedBroker, dir: &'a tempfile::TempDir) -> Setup<'a> {
    Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_export_is_proven_and_the_log_is_cut_to_it() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = Daemon::start(&setup(&broker, &dir));
    broker.grow(100);
    daemon.wait_proven(100);
    daemon.wait("the log to be cut", |_| {
        broker.script().first_log_index == 91
    });
    let compaction = broker.script().compactions[0].clone();
    assert_eq!(
        compaction.through_index, 90,
        "the snapshot's index less the trailing entries"
    );
    assert_eq!(
        compaction.snapshot_last_included,
        Some(v1::LogId {
            term: 3,
            index: 100
        })
    );
    assert_eq!(compaction.boot_id, "boot-1");
    assert_eq!(stored(dir.path(), ".snap").len(), 1);
    assert_eq!(stored(dir.path(), ".manifest.json").len(), 1);
    assert_eq!(stored(dir.path(), ".verified.json").len(), 1);
    assert!(daemon.metric("chronik_snapshot_loop_running") > 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_is_named_and_nothing_comes_of_it() {
    let cases = [
        (Lie::NoTrailer, "without a trailer"),
        (Lie::BreaksOff, "scripted break"),
        (Lie::IndexBack, "was applied before the export began"),
        (Lie::IndexAhead, "the replica has applied only"),
        (Lie::OtherLineage, "the header names lineage"),
        (Lie::NoVoters, "no voters"),
        (Lie::OtherCrc, "another CRC32"),
        (Lie::OtherXxh3, "another XXH3-128"),
        (Lie::OtherPosition, "the trailer says"),
        (Lie::ShortPart, "the header announced"),
        (Lie::LongPart, "the header announced"),
        (Lie::Omits, "is omitted although its bytes were asked for"),
    ];
    let mut all = Vec::new();
    for (lie, message) in cases {
        let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
        broker.script().lie = lie;
        broker.grow(100);
        let daemon = Daemon::start(&setup(&broker, &dir));
        all.push((lie, message, broker, dir, daemon));
    }
    for (lie, message, broker, dir, daemon) in &all {
        daemon.wait_log(message);
        assert!(
            stored(dir.path(), ".manifest.json").is_empty(),
            "{lie:?} was committed"
        );
        assert!(
            broker.script().compactions.is_empty(),
            "{lie:?} was truncated on"
        );
        // The broker mends its ways: the daemon goes on by itself.
        broker.script().lie = Lie::None;
    }
    for (_, _, _, _, daemon) in &all {
        daemon.wait_proven(100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_only_says_it_truncated_is_found_out() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.script().pretend_compaction = true;
    broker.grow(100);
    let daemon = Daemon::start(&setup(&broker, &dir));
    daemon.wait_log("but it still starts at 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_a_directory_cannot_name_is_refused_before_anything_is_exported() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    // 100 characters, 600 bytes once every byte is written as %XX.
    let topic = "ü".repeat(100);
    broker.script().topic = topic.clone();
    broker.grow(100);
    let daemon = Daemon::start(&setup(&broker, &dir));
    daemon.wait("the refusal", |daemon| {
        let error = daemon.partition()["last_error"].to_string();
        error.contains(&topic) && error.contains("a local directory cannot hold")
    });
    assert_eq!(broker.script().exports, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_term_mismatch_is_an_alarm_and_nothing_is_truncated() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.script().refuse_compaction = Some(v1::ErrorReason::TermMismatch);
    broker.grow(100);
    let daemon = Daemon::start(&setup(&broker, &dir));
    daemon.wait_log("term_mismatch");
    daemon.wait("the alarm", |daemon| {
        daemon.metric("chronik_snapshot_divergence_total") >= 1.0
    });
    assert_eq!(broker.script().first_log_index, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_late_or_goes_away_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let daemon = Daemon::start(&Setup {
        broker: port.socket_addr(),
        dir: dir.path(),
        env: &[],
    });
    daemon.wait_log("the broker does not answer");
    assert!(daemon.metric("chronik_snapshot_broker_connected") < 0.5);
    let listener = port.listen().await.unwrap();
    let broker = ScriptedBroker::start_on(listener);
    broker.grow(100);
    daemon.wait_proven(100);
    assert!(daemon.metric("chronik_snapshot_broker_connected") > 0.5);
    drop(broker);
    daemon.wait("the loss to be seen", |daemon| {
        daemon.status()["daemon"]["broker_connected"] == false
    });
    assert!(
        daemon
            .get("/readyz")
            .unwrap()
            .contains("the broker does not answer")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_broker_is_never_truncated_on_what_its_predecessor_said() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let env = [("CHRONIK_SNAPSHOT_COMPACT", "false")];
    let mut first = Daemon::start(&Setup {
        env: &env,
        ..setup(&broker, &dir)
    });
    broker.grow(100);
    first.wait_proven(100);
    first.signal("TERM");
    assert_eq!(first.exit_code(), Some(0));
    // Rule 19: a restart between ListReplicas and CompactLog.
    broker.script().restart_after_list = true;
    let daemon = Daemon::start(&setup(&broker, &dir));
    daemon.wait_log("boot_id_mismatch");
    assert_eq!(broker.script().first_log_index, 1);
    broker.script().restart_after_list = false;
    daemon.wait("the cut once the broker is stable", |_| {
        broker.script().first_log_index == 91
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_mid_upload_ends_cleanly_and_the_next_start_goes_on() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    {
        let mut script = broker.script();
        script.state = sample_state(40 << 20);
        script.slow_ms = 100;
    }
    broker.grow(100);
    let env = [("CHRONIK_SNAPSHOT_SHUTDOWN_GRACE_SECS", "1")];
    let mut daemon = Daemon::start(&Setup {
        env: &env,
        ..setup(&broker, &dir)
    });
    daemon.wait("an upload", |daemon| {
        daemon.partition()["activity"] == "uploading"
    });
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0), "{}", daemon.log());
    assert!(stored(dir.path(), ".manifest.json").is_empty());
    assert!(
        stored(dir.path(), ".snap").is_empty(),
        "the upload was aborted"
    );
    broker.script().slow_ms = 0;
    let next = Daemon::start(&setup(&broker, &dir));
    next.wait_proven(100);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_short_upload_finish() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    {
        let mut script = broker.script();
        script.state = sample_state(10 << 20);
        script.slow_ms = 100;
    }
    broker.grow(100);
    let mut daemon = Daemon::start(&setup(&broker, &dir));
    daemon.wait("an upload", |daemon| {
        daemon.partition()["activity"] == "uploading"
    });
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
    assert_eq!(
        stored(dir.path(), ".verified.json").len(),
        1,
        "{}",
        daemon.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_mid_upload_leaves_nothing_that_counts() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    {
        let mut script = broker.script();
        script.state = sample_state(40 << 20);
        script.slow_ms = 50;
    }
    broker.grow(100);
    let mut daemon = Daemon::start(&setup(&broker, &dir));
    daemon.wait("an upload", |daemon| {
        daemon.partition()["activity"] == "uploading"
    });
    std::thread::sleep(Duration::from_millis(500));
    daemon.signal("KILL");
    assert_eq!(daemon.exit_code(), None);
    assert!(stored(dir.path(), ".manifest.json").is_empty());
    assert!(broker.script().compactions.is_empty());
    broker.script().slow_ms = 0;
    let next = Daemon::start(&setup(&broker, &dir));
    next.wait_proven(100);
}
