//! What dashboards show after a restart: the truth of the store and of the broker, neither nothing nor the past.

use crate::support::{
    daemon::{Daemon, Setup, stored},
    scripted_broker::ScriptedBroker,
};

const LAST_SUCCESS: &str = "last_success_timestamp_seconds";
const LAST_INCLUDED: &str = "last_included_index";
const SINCE_SNAPSHOT: &str = "log_entries_since_snapshot";
const OF_PARTITION: [&str; 6] = [
    LAST_SUCCESS,
    LAST_INCLUDED,
    SINCE_SNAPSHOT,
    "log_size_bytes",
    "consecutive_failures",
    "unprotected",
];

/// A series of orders/0; `None` = it is not on the page.
fn shown(daemon: &Daemon, family: &str) -> Option<f64> {
    let series = format!("chronik_snapshot_{family}{{partition=\"0\",topic=\"orders\"}} ");
    let page = daemon.get("/metrics")?;
    let value = page.lines().find_map(|line| line.strip_prefix(&series))?;
    Some(value.parse().unwrap())
}

fn wait_shown(daemon: &Daemon, family: &str, value: f64) {
    daemon.wait(&format!("{family} {value}"), |daemon| {
        shown(daemon, family).is_some_and(|shown| (shown - value).abs() < 0.5)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_daemon_shows_what_the_store_and_the_broker_have() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let setup = Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[],
    };
    broker.grow(100);
    let first = Daemon::start(&setup);
    wait_shown(&first, LAST_INCLUDED, 100.0);
    let success = shown(&first, LAST_SUCCESS).unwrap();
    assert!(success > 1e9, "a time: {success}");
    // Killed, not stopped: nothing is written down for the next one.
    drop(first);
    broker.grow(37);

    let second = Daemon::start(&setup);
    wait_shown(&second, LAST_INCLUDED, 100.0);
    wait_shown(&second, SINCE_SNAPSHOT, 37.0);
    wait_shown(&second, "log_size_bytes", 1000.0);
    let again = shown(&second, LAST_SUCCESS).unwrap();
    // The time of the commit as the store knows it; the first process saw the proof moments later.
    assert!(again > 1e9 && again <= success + 1.0, "{again}, {success}");
    let exact = |series: &str| second.metric(&format!("chronik_snapshot_{series}"));
    for (series, value) in [
        ("loop_running", 1.0),
        ("broker_connected", 1.0),
        ("store_available", 1.0),
        ("identity_problem", 0.0),
    ] {
        assert!((exact(series) - value).abs() < 0.5, "{series}");
    }
    assert_eq!(shown(&second, "consecutive_failures"), Some(0.0));
    assert_eq!(shown(&second, "unprotected"), Some(0.0));
    assert_eq!(second.partition()["applied_index"], 137);
    assert_eq!(broker.script().exports, 1, "nothing was due");

    // And it goes on from there.
    broker.grow(100);
    wait_shown(&second, LAST_INCLUDED, 237.0);
    wait_shown(&second, SINCE_SNAPSHOT, 0.0);
    assert!(shown(&second, LAST_SUCCESS).unwrap() >= again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_somebody_else_took_is_shown_too() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.grow(100);
    let setup = |env| Setup {
        broker: broker.address,
        dir: dir.path(),
        env,
    };
    let looking = Daemon::start(&setup(&[("CHRONIK_SNAPSHOT_LOG_THRESHOLD", "1000")]));
    let taking = Daemon::start(&setup(&[]));
    taking.wait_proven(100);
    drop(taking);
    // Its own snapshot is not due, but it must look to cut its own log.
    drop(looking);
    let looking = Daemon::start(&setup(&[("CHRONIK_SNAPSHOT_LOG_THRESHOLD", "1000")]));
    wait_shown(&looking, LAST_INCLUDED, 100.0);
    assert_eq!(stored(dir.path(), ".manifest.json").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_left_shows_no_old_value() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.grow(100);
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[],
    });
    wait_shown(&daemon, LAST_INCLUDED, 100.0);
    broker.script().hidden = true;
    daemon.wait("the series to go", |daemon| {
        OF_PARTITION
            .iter()
            .all(|family| shown(daemon, family).is_none())
    });
    broker.script().hidden = false;
    wait_shown(&daemon, LAST_INCLUDED, 100.0);
}
