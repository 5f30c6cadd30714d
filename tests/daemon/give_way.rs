//! Exports give way to producers who wait longer than in quiet times.

use std::{path::Path, time::Duration};

use tokio::time::Instant;

use crate::support::{
    daemon::{Daemon, Setup},
    scripted_broker::{ScriptedBroker, sample_state},
};

const PACE: &str = "chronik_snapshot_export_pace_bytes_per_second";
const QUIET_MICROS: u32 = 5_000;
const NOTICED_MICROS: u32 = 50_000;
const MIB_PER_SEC: usize = 8;

/// A daemon that knows how long producers wait in quiet times, and the broker beside it.
async fn quiet(dir: &Path, give_way: &str, state_mib: usize) -> (ScriptedBroker, Daemon) {
    let broker = ScriptedBroker::start().await;
    broker.script().state = sample_state(state_mib << 20);
    broker.script().produce_p99_micros = Some(QUIET_MICROS);
    let max_export = (MIB_PER_SEC << 20).to_string();
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir,
        env: &[
            ("CHRONIK_SNAPSHOT_GIVE_WAY", give_way),
            ("CHRONIK_SNAPSHOT_MAX_EXPORT_BYTES_PER_SEC", &max_export),
            ("CHRONIK_SNAPSHOT_COMPRESSION", "none"),
            // One tick asks once; whoever asks more often does so for the pace.
            ("CHRONIK_SNAPSHOT_CHECK_INTERVAL_SECS", "2"),
        ],
    });
    daemon.wait("a look at the producers", |_| {
        broker.script().describes > 1 + usize::from(give_way == "true")
    });
    (broker, daemon)
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_that_wait_longer_slow_an_export_until_they_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, daemon) = quiet(dir.path(), "true", 160).await;
    assert!(daemon.metric(PACE) < 0.5);
    broker.script().produce_p99_micros = Some(NOTICED_MICROS);
    let end = broker.grow(100);
    daemon.wait("a slower export", |daemon| daemon.metric(PACE) > 0.5);
    let pace = daemon.metric(PACE);
    assert!((4_194_304.0..8_388_608.0).contains(&pace), "{pace}");
    broker.script().produce_p99_micros = Some(QUIET_MICROS);
    daemon.wait("the limit to be lifted", |daemon| daemon.metric(PACE) < 0.5);
    daemon.wait_proven(end);
}

/// Without a pace it would take twelve seconds and a little.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_really_read_more_slowly() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, daemon) = quiet(dir.path(), "true", 12 * MIB_PER_SEC).await;
    broker.script().produce_p99_micros = Some(NOTICED_MICROS);
    let end = broker.grow(100);
    daemon.wait_log("export started");
    let begun = Instant::now();
    daemon.wait_proven(end);
    assert!(
        begun.elapsed() > Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn give_way_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, daemon) = quiet(dir.path(), "false", 6 * MIB_PER_SEC).await;
    broker.script().produce_p99_micros = Some(NOTICED_MICROS);
    let end = broker.grow(100);
    daemon.wait("the export", |_| broker.script().exports == 1);
    daemon.wait_ticks(2);
    assert!(daemon.metric(PACE) < 0.5);
    daemon.wait_proven(end);
    assert!(daemon.metric(PACE) < 0.5);
}
