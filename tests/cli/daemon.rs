//! The commands that call a running daemon.

use std::time::Duration;

use crate::support::{
    cli::{Said, assert_shape, keep, run},
    daemon::{Daemon, Setup},
    scripted_broker::ScriptedBroker,
};

struct Rig {
    daemon: Daemon,
    broker: ScriptedBroker,
    dir: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Self {
        let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
        let daemon = Daemon::start(&Setup {
            broker: broker.address,
            dir: dir.path(),
            env: &[],
        });
        daemon.wait("the partition", |daemon| daemon.partition().is_object());
        Self {
            daemon,
            broker,
            dir,
        }
    }

    /// Runs a command against the daemon by `--endpoint`.
    fn call(&self, arguments: &[&str]) -> Said {
        let endpoint = self.daemon.listen.to_string();
        run(&[arguments, &["--endpoint", &endpoint]].concat(), &[])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_the_process_and_every_partition() {
    let rig = Rig::start().await;
    rig.broker.grow(100);
    rig.daemon.wait_proven(100);
    let said = rig.call(&["status"]).ends_with(0);
    keep("status", "status", &said);
    for part in [
        "cluster     test-cluster (incarnation 1)",
        "PARTITION",
        "orders/0",
        "leader",
        "100@3",
    ] {
        assert!(said.stdout.contains(part), "{part:?} is missing: {said:#?}");
    }
    let said = rig.call(&["status", "--output", "json"]).ends_with(0);
    assert_shape("status", &said);
    let only = rig
        .call(&["status", "--topic", "orders", "--output", "json"])
        .ends_with(0);
    assert_eq!(
        only.json()["partitions"][0]["newest_last_included"]["index"],
        100
    );
    let none = rig.call(&["status", "--topic", "payments"]).ends_with(4);
    assert_eq!(none.stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_the_configured_address_is_called_whatever_else_is_wrong() {
    let rig = Rig::start().await;
    let listen = rig.daemon.listen.to_string();
    // No bucket is configured, which only matters to others.
    let environment = [("CHRONIK_SNAPSHOT_LISTEN", listen.as_str())];
    run(&["health"], &environment).ends_with(0);
    let file = rig.dir.path().join("c.toml");
    std::fs::write(&file, format!("listen = {listen:?}\n")).unwrap();
    run(&["health", "--config", file.to_str().unwrap()], &[]).ends_with(0);
    let wrong = [("CHRONIK_SNAPSHOT_LISTEN", "nowhere")];
    run(&["health"], &wrong)
        .ends_with(78)
        .tells(&["LISTEN = \"nowhere\"", "fix: "]);
    run(&["health", "--config", "/no/such/file"], &[]).ends_with(78);
    let any_port = [("CHRONIK_SNAPSHOT_LISTEN", "127.0.0.1:0")];
    run(&["health"], &any_port)
        .ends_with(78)
        .tells(&["port 0 cannot be called"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_by_hand_and_its_id_printed() {
    let rig = Rig::start().await;
    rig.broker.grow(7);
    let taken = rig.call(&["create", "orders/0"]).ends_with(0);
    keep("create", "create orders/0", &taken);
    assert_eq!(taken.stdout.trim_end().len(), 87);
    assert!(taken.stderr.contains("ends at 7@3"), "{taken:#?}");
    let again = rig.call(&["create", "orders/0"]).ends_with(0);
    assert_eq!(again.stdout, taken.stdout);
    let again = again.tells(&["nothing was applied since"]);
    assert_eq!(again.stderr.lines().count(), 1);
    let queued = rig.call(&["create", "orders/0", "--no-wait"]).ends_with(0);
    assert_eq!(queued.stdout, "");
    rig.call(&["create", "payments/3"])
        .ends_with(4)
        .tells(&["payments/3", "no replica"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_until_it_is_ended() {
    let rig = Rig::start().await;
    let paused = rig.call(&["pause", "orders/0", "--for", "2h", "--reason", "repairs"]);
    keep("pause", "pause orders/0 --for 2h --reason repairs", &paused);
    paused.ends_with(0).tells(&["orders/0 is paused until 2"]);
    assert!(rig.daemon.log().contains("repairs"));
    rig.daemon
        .wait("the pause", |daemon| daemon.partition()["paused"] == true);
    rig.call(&["create", "orders/0"])
        .ends_with(1)
        .tells(&["is paused; resume it first"]);
    assert!(rig.call(&["status"]).stdout.contains("paused"));
    let resumed = rig.call(&["resume", "orders/0"]);
    keep("resume", "resume orders/0", &resumed);
    resumed.ends_with(0).tells(&["orders/0 is resumed"]);
    rig.call(&["resume", "orders/0"])
        .ends_with(0)
        .tells(&["was not paused"]);
    rig.call(&["pause", "orders/0", "--for", "8d"])
        .ends_with(1)
        .tells(&["7 days"]);
    for wrong in ["2", "0s", "soon"] {
        rig.call(&["pause", "orders/0", "--for", wrong])
            .ends_with(2);
    }
    rig.call(&["pause", "orders"])
        .ends_with(2)
        .tells(&["topic/number"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_0_only_while_it_serves() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let socket = format!("unix:{}", dir.path().join("s.sock").display());
    let mut daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[("CHRONIK_SNAPSHOT_LISTEN", &socket)],
    });
    let said = run(&["health", "--endpoint", &socket], &[]).ends_with(0);
    assert_eq!(said.stdout, "SERVING\n");
    keep("health", "health", &said);
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
    let gone = run(&["health", "--endpoint", &socket], &[]).ends_with(69);
    assert_eq!(gone.stdout, "");
    gone.tells(&["is the daemon running there?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = silent.local_addr().unwrap().to_string();
    let begun = std::time::Instant::now();
    run(&["health", "--endpoint", &endpoint], &[])
        .ends_with(69)
        .tells(&["within 2 s"]);
    assert!(begun.elapsed() < Duration::from_secs(4));
    // Something that is no daemon of ours.
    let broker = ScriptedBroker::start().await;
    let endpoint = broker.address.to_string();
    run(&["status", "--endpoint", &endpoint], &[])
        .ends_with(1)
        .tells(&["does not serve GetStatus"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_every_reason_with_its_numbers() {
    let rig = Rig::start().await;
    rig.broker.grow(100);
    rig.daemon.wait_proven(100);
    rig.broker.grow(40);
    rig.daemon.wait("the truncation", |_| {
        rig.broker.script().first_log_index == 91
    });
    rig.daemon.wait("the entries", |daemon| {
        daemon.partition()["applied_index"] == 140
    });
    let store = rig.dir.path().join("store");
    let environment = [
        ("OBJECT_STORE_BACKEND", "local"),
        ("LOCAL_STORAGE_PATH", store.to_str().unwrap()),
        ("CHRONIK_SNAPSHOT_LOG_THRESHOLD", "100"),
        ("CHRONIK_SNAPSHOT_TRAILING_ENTRIES", "10"),
        ("CHRONIK_SNAPSHOT_RETENTION_COUNT", "1"),
    ];
    let endpoint = rig.daemon.listen.to_string();
    let explain = ["explain", "orders/0", "--endpoint", &endpoint];
    let said = run(&explain, &environment).ends_with(0);
    keep("explain", "explain orders/0", &said);
    for part in [
        "has applied entries through 140; the newest proven snapshot ends at 100@3",
        "40 entries were applied since; 100 (LOG_THRESHOLD)",
        "not due: 40 entries",
        "The log holds entries 91 to 140; 1 to 90 were truncated.",
        "allows a cut through 90: its end 100 less 10 (TRAILING_ENTRIES",
        "The store holds 1 proven snapshots",
        "None would be evicted now.",
        "With the next proven snapshot 00000000000000000100-",
    ] {
        assert!(said.stdout.contains(part), "{part:?} is missing: {said:#?}");
    }
    let said = run(
        &[&explain[..], &["--output", "json"]].concat(),
        &environment,
    );
    assert_shape("explain", &said.ends_with(0));

    // The daemon's part is told without the store, and nothing is made up for the rest.
    let elsewhere = rig.dir.path().join("not-there");
    let mut environment = environment.to_vec();
    environment[1].1 = elsewhere.to_str().unwrap();
    let said = run(&explain, &environment).ends_with(0);
    assert!(
        said.stdout.contains("the store could not be read"),
        "{said:#?}"
    );
    assert!(!elsewhere.exists());
    run(
        &["explain", "payments/0", "--endpoint", &endpoint],
        &environment,
    )
    .ends_with(4);
}
