//! Drills of a real daemon: they read everything, ask nobody, give way, and change nothing but a mark.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use chronik_snapshotd::proto::v1::{self, bootstrap_response::Message};

use crate::support::{
    cli::damage,
    daemon::{Daemon, Setup, stored},
    s3::S3Server,
    scripted_broker::{ScriptedBroker, sample_state},
    seeding::{Conversation, lost, seed},
};

const INTERVAL: (&str, &str) = ("CHRONIK_SNAPSHOT_DRILL_INTERVAL_SECS", "1");
/// Longer than a test: the broker is asked once, at the start, by whoever looks after its partitions.
const ONE_TICK: (&str, &str) = ("CHRONIK_SNAPSHOT_CHECK_INTERVAL_SECS", "300");

fn start(broker: &ScriptedBroker, dir: &Path, env: &[(&str, &str)]) -> Daemon {
    Daemon::start(&Setup {
        broker: broker.address,
        dir,
        env,
    })
}

fn drills(daemon: &Daemon, outcome: &str) -> f64 {
    let series = format!("chronik_snapshot_drills_total{{outcome=\"{outcome}\"}}");
    daemon.metric(&series)
}

fn wait_drills(daemon: &Daemon, outcome: &str, count: f64) {
    let what = format!("{count} drills that ended with {outcome}");
    daemon.wait(&what, |daemon| drills(daemon, outcome) >= count - 0.5);
}

/// Name and content of everything in the partition's folder.
fn contents(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = stored(dir, "").into_iter();
    files
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn drills_are_off_unless_they_are_asked_for() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.grow(100);
    let daemon = start(&broker, dir.path(), &[]);
    daemon.wait_proven(100);
    daemon.wait_ticks(2);
    assert!(drills(&daemon, "success") < 0.5);
    assert!(daemon.metric("chronik_snapshot_drill_interval_seconds") < 0.5);
    assert_eq!(daemon.status()["daemon"]["drill_interval_secs"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn drills_read_everything_and_neither_ask_the_broker_nor_change_the_store() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.script().state = sample_state(20 << 20);
    broker.grow(100);
    let give_way = ("CHRONIK_SNAPSHOT_GIVE_WAY", "false");
    let daemon = start(&broker, dir.path(), &[INTERVAL, ONE_TICK, give_way]);
    daemon.wait_proven(100);
    daemon.wait("the truncation", |_| broker.script().first_log_index == 91);
    wait_drills(&daemon, "success", 1.0);
    let asked = || {
        let script = broker.script();
        let (describes, listings) = (script.describes, script.listings);
        (
            describes,
            listings,
            script.exports,
            script.compactions.len(),
        )
    };
    let (before, kept) = (asked(), contents(dir.path()));
    let read =
        daemon.metric("chronik_snapshot_store_requests_total{code=\"ok\",method=\"get_range\"}");
    wait_drills(&daemon, "success", 3.0);
    assert_eq!(asked(), before, "a drill asked the broker");
    assert!(contents(dir.path()) == kept, "a drill changed the store");
    // The state is stored in one file of a few windows, each read once in each of at least two drills.
    let stored_bytes = fs::metadata(&stored(dir.path(), ".snap")[0]).unwrap().len();
    let windows = stored_bytes.div_ceil((4 << 20) + (64 << 10));
    let again =
        daemon.metric("chronik_snapshot_store_requests_total{code=\"ok\",method=\"get_range\"}");
    #[expect(clippy::cast_precision_loss, reason = "a few windows")]
    let least = 2.0 * windows as f64;
    assert!(
        again - read >= least,
        "{read} and then {again} reads, {windows} windows"
    );

    let status = daemon.partition();
    assert_eq!(status["last_drill_outcome"], "success", "{status:#}");
    assert_eq!(
        status["last_drill_snapshot_id"],
        status["newest_snapshot_id"]
    );
    assert_eq!(status["last_drill_problem"], "");
    let at = status["last_drill_success_at_unix_ms"].as_i64().unwrap();
    assert!(at > 1_700_000_000_000, "{status:#}");
    let series =
        "chronik_snapshot_last_drill_success_timestamp_seconds{partition=\"0\",topic=\"orders\"}";
    assert!(daemon.metric(series) > 1.7e9);
    assert!(daemon.metric("chronik_snapshot_drill_duration_seconds_count") >= 2.5);
    assert!(daemon.metric("chronik_snapshot_drill_interval_seconds") > 0.5);

    // Nor does the broker have to be there.
    drop(broker);
    wait_drills(&daemon, "success", 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_finds_a_flipped_byte_marks_the_snapshot_and_deletes_nothing() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = start(&broker, dir.path(), &[INTERVAL]);
    for end in [100, 200] {
        broker.grow(100);
        daemon.wait_proven(end);
    }
    daemon.wait("the truncation", |_| broker.script().first_log_index == 191);
    let newest = daemon.partition()["newest_snapshot_id"].clone();
    wait_drills(&daemon, "success", 1.0);
    daemon.wait_ticks(1);
    let quarantined = daemon.metric("chronik_snapshot_quarantined_total");
    assert!(quarantined < 0.5);
    let before: Vec<_> = contents(dir.path())
        .into_iter()
        .map(|(path, _)| path)
        .collect();

    damage(&stored(dir.path(), ".snap")[1]);
    wait_drills(&daemon, "damaged", 1.0);
    daemon.wait_log("drill found damage");
    daemon.wait_log("snapshot quarantined");
    assert!((daemon.metric("chronik_snapshot_quarantined_total") - 1.0).abs() < 0.1);
    let marks = stored(dir.path(), ".quarantined.json");
    assert_eq!(marks.len(), 1);
    let mark = marks[0].file_name().unwrap().to_str().unwrap();
    assert!(mark.starts_with(newest.as_str().unwrap()), "{mark}");
    let kept = before.iter().filter(|path| path.exists()).count();
    assert_eq!(kept, before.len(), "a drill deleted something");

    // What counts now is the one before, which is drilled out of turn, or one that is taken at once.
    daemon.wait("another newest one", |daemon| {
        daemon.partition()["newest_snapshot_id"] != newest
    });
    daemon.wait("a drill of it", |daemon| {
        let status = daemon.partition();
        status["last_drill_outcome"] == "success" && status["last_drill_snapshot_id"] != newest
    });
    assert!(
        (drills(&daemon, "damaged") - 1.0).abs() < 0.1,
        "found twice"
    );
}

/// A daemon whose drill takes half a minute, and is under way.
fn slow_drill(broker: &ScriptedBroker, dir: &Path) -> Daemon {
    broker.script().state = sample_state(12 << 20);
    broker.grow(100);
    let env = [
        INTERVAL,
        ("CHRONIK_SNAPSHOT_COMPRESSION", "none"),
        ("CHRONIK_SNAPSHOT_MAX_DRILL_BYTES_PER_SEC", "400000"),
    ];
    let daemon = start(broker, dir, &env);
    daemon.wait_proven(100);
    daemon.wait("a drill", |daemon| {
        daemon.status()["daemon"]["drilling"] == "orders/0"
    });
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_goes_first_and_the_drill_is_tried_again() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = slow_drill(&broker, dir.path());
    assert!(drills(&daemon, "yielded") < 0.5);
    let begun = Instant::now();
    let seeded = seed(daemon.listen, lost(0)).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::Installed);
    assert!(seeded.bytes == broker.script().state, "other bytes");
    // Without the limit of drills, which is not a restore's.
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    wait_drills(&daemon, "yielded", 1.0);
    assert!(drills(&daemon, "failed") < 0.5);
    assert_eq!(daemon.partition()["last_drill_outcome"], "");
    daemon.wait("the next try", |daemon| {
        daemon.status()["daemon"]["drilling"] == "orders/0"
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_drill_begins_while_a_broker_is_being_seeded() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.grow(100);
    let daemon = start(&broker, dir.path(), &[INTERVAL]);
    daemon.wait_proven(100);
    wait_drills(&daemon, "success", 1.0);
    let mut conversation = Conversation::open(daemon.listen, lost(0)).await.unwrap();
    while !matches!(
        conversation.next().await.unwrap(),
        Some(Message::Trailer(_))
    ) {}
    // The broker has everything and takes its time.
    let before = drills(&daemon, "success");
    let yielded = drills(&daemon, "yielded");
    wait_drills(&daemon, "yielded", yielded + 3.0);
    assert!(
        drills(&daemon, "success") - before < 1.5,
        "one was under way"
    );
    drop(conversation);
    wait_drills(&daemon, "success", before + 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_looked_at_is_no_damage_and_is_tried_again() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let mut server = S3Server::start().await;
    broker.grow(100);
    let daemon = {
        let variables = server.variables();
        let env = [&[INTERVAL, ONE_TICK][..], variables.as_slice()].concat();
        start(&broker, dir.path(), &env)
    };
    daemon.wait_proven(100);
    wait_drills(&daemon, "success", 1.0);
    server.stop().await;
    wait_drills(&daemon, "failed", 1.0);
    let status = daemon.partition();
    assert_eq!(status["last_drill_outcome"], "failed", "{status:#}");
    let problem = status["last_drill_problem"].as_str().unwrap();
    assert!(!problem.is_empty());
    let succeeded = drills(&daemon, "success");
    server.start_again().await;
    wait_drills(&daemon, "success", succeeded + 1.0);
    assert_eq!(daemon.partition()["last_drill_problem"], "");
    assert!(drills(&daemon, "damaged") < 0.5);
    assert!(daemon.metric("chronik_snapshot_quarantined_total") < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_under_way_does_not_hold_up_a_stop() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let mut daemon = slow_drill(&broker, dir.path());
    let begun = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}
