//! Brokers and stores that go silent in the middle: the work is given up, told, and done again.

use crate::support::{
    daemon::{Daemon, Setup, stored},
    s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY},
    scripted_broker::{ScriptedBroker, sample_state},
};

const FAILED: &str =
    "chronik_snapshot_failures_total{operation=\"snapshot\",reason=\"unavailable\"}";
const RUNNING: &str = "chronik_snapshot_in_flight{operation=\"snapshot\"}";

/// The daemon lives, runs no snapshot any more, and says what happened everywhere that people look.
fn assert_given_up(daemon: &Daemon, problem: &str) {
    daemon.wait_log(problem);
    daemon.wait("the failure in the status", |daemon| {
        let partition = daemon.partition();
        let error = partition["last_error"].as_str().unwrap_or_default();
        error.contains(problem) && partition["consecutive_failures"].as_u64() >= Some(1)
    });
    assert!(daemon.metric(FAILED) >= 1.0);
    assert!(daemon.get("/healthz").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_goes_silent_is_given_up_and_done_again() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    {
        let mut script = broker.script();
        script.state = sample_state(3 << 20);
        script.stall = true;
    }
    broker.grow(100);
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[("CHRONIK_SNAPSHOT_PROGRESS_TIMEOUT_SECS", "1")],
    });
    assert_given_up(&daemon, "the export brought no message for 1 s");
    assert!(stored(dir.path(), ".manifest.json").is_empty());
    assert!(broker.script().compactions.is_empty());
    broker.script().stall = false;
    daemon.wait_proven(100);
    daemon.wait("the slot to be free", |daemon| daemon.metric(RUNNING) < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_store_swallows_is_given_up_and_done_again() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.script().state = sample_state(40 << 20);
    broker.grow(100);
    let server = S3Server::start().await;
    server.swallow_parts(true);
    let env = [
        ("OBJECT_STORE_BACKEND", "s3"),
        ("S3_BUCKET", BUCKET),
        ("S3_REGION", "us-east-1"),
        ("S3_ENDPOINT", server.endpoint.as_str()),
        ("S3_ACCESS_KEY", ACCESS_KEY),
        ("S3_SECRET_KEY", SECRET_KEY),
        ("S3_DISABLE_SSL", "true"),
        ("CHRONIK_SNAPSHOT_COMPRESSION", "none"),
        ("CHRONIK_SNAPSHOT_PROGRESS_TIMEOUT_SECS", "3"),
    ];
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &env,
    });
    assert_given_up(
        &daemon,
        "made no progress for 3s after 0 acknowledged bytes",
    );
    assert!(broker.script().compactions.is_empty());
    assert!(daemon.metric("chronik_snapshot_multipart_aborted_total") >= 1.0);
    server.swallow_parts(false);
    daemon.wait_proven(100);
    daemon.wait("the log to be cut", |_| {
        broker.script().first_log_index == 91
    });
}
