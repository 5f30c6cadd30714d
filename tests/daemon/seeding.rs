//! Bootstrap against a real daemon: what it installs, what it skips, and what it never says.

use std::{fs, path::Path};

use chronik_harness::Port;
use chronik_snapshotd::proto::v1::{self, bootstrap_response::Message};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    daemon::{Daemon, Setup, stored},
    scripted_broker::{ScriptedBroker, sample_state},
    seeding::{Conversation, lost, seed},
};

async fn start(env: &[(&str, &str)]) -> (ScriptedBroker, tempfile::TempDir, Daemon) {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env,
    });
    (broker, dir, daemon)
}

/// Two proven snapshots, at 100 and 200, with different states.
async fn two_snapshots(env: &[(&str, &str)]) -> (ScriptedBroker, tempfile::TempDir, Daemon) {
    let (broker, dir, daemon) = start(env).await;
    broker.grow(100);
    daemon.wait_proven(100);
    broker.script().state = sample_state(9 << 20);
    broker.grow(100);
    daemon.wait_proven(200);
    (broker, dir, daemon)
}

fn flip_last_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 0xff;
    fs::write(path, bytes).unwrap();
}

fn reason(status: &tonic::Status) -> String {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_replica_gets_the_newest_state_byte_for_byte_in_every_compression() {
    for compression in ["gzip", "zstd", "none"] {
        let (broker, _dir, daemon) =
            two_snapshots(&[("CHRONIK_SNAPSHOT_COMPRESSION", compression)]).await;
        let seeded = seed(daemon.listen, lost(0)).await.unwrap();
        assert_eq!(seeded.result(), v1::BootstrapResult::Installed);
        assert!(
            seeded.bytes == broker.script().state,
            "{compression}: the bytes differ"
        );
        let header = seeded.header.unwrap();
        assert_eq!(
            header.last_included,
            Some(v1::LogId {
                term: 3,
                index: 200
            })
        );
        assert_eq!(header.conf_state.unwrap().voters, vec![1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_of_this_cluster_has_no_snapshot() {
    let (_broker, _dir, daemon) = start(&[]).await;
    let seeded = seed(daemon.listen, lost(0)).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::NoSnapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_below_the_truncated_index_does_not_cover() {
    let (_broker, _dir, daemon) = two_snapshots(&[]).await;
    let seeded = seed(daemon.listen, lost(201)).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::NotCovered);
    let seeded = seed(daemon.listen, lost(200)).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::Installed);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_life_of_the_topic_gets_nothing_of_the_old_one() {
    let (_broker, _dir, daemon) = two_snapshots(&[]).await;
    let mut begin = lost(0);
    begin.lineage.as_mut().unwrap().topic_id = "topic-b".to_owned();
    let seeded = seed(daemon.listen, begin).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::NoSnapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoding_that_the_broker_cannot_install_is_not_corruption() {
    let (_broker, _dir, daemon) = two_snapshots(&[]).await;
    let mut begin = lost(0);
    begin.accepted_state_codecs = vec!["other/1".to_owned()];
    let seeded = seed(daemon.listen, begin).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::NotCovered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_newest_snapshot_is_skipped_for_the_next_older_and_quarantined() {
    let (_broker, dir, daemon) = two_snapshots(&[]).await;
    flip_last_byte(&stored(dir.path(), ".snap")[1]);
    let seeded = seed(daemon.listen, lost(0)).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::Installed);
    assert_eq!(seeded.abandoned, 1);
    assert!(seeded.bytes == sample_state(100_000));
    assert_eq!(stored(dir.path(), ".quarantined.json").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_newest_snapshot_is_skipped_too() {
    let (_broker, dir, daemon) = two_snapshots(&[]).await;
    fs::remove_file(&stored(dir.path(), ".snap")[1]).unwrap();
    let seeded = seed(daemon.listen, lost(0)).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::Installed);
    assert!(seeded.bytes == sample_state(100_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_file_and_an_unknown_manifest_version_are_a_loss_of_data_and_not_no_snapshot() {
    let (_broker, dir, daemon) = two_snapshots(&[]).await;
    let snaps = stored(dir.path(), ".snap");
    let bytes = fs::read(&snaps[0]).unwrap();
    fs::write(&snaps[0], &bytes[..bytes.len() - 1]).unwrap();
    let manifests = stored(dir.path(), ".manifest.json");
    let manifest = fs::read_to_string(&manifests[1]).unwrap();
    fs::write(
        &manifests[1],
        manifest.replace("\"format_version\":1", "\"format_version\":9"),
    )
    .unwrap();
    drop(daemon);
    let fresh = ScriptedBroker::start().await;
    fresh.script().any_log_compacted = true;
    // Nothing is taken meanwhile: this daemon only answers.
    let daemon = Daemon::start(&Setup {
        broker: fresh.address,
        dir: dir.path(),
        env: &[("CHRONIK_SNAPSHOT_ENABLED", "false")],
    });
    let status = seed(daemon.listen, lost(0)).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss, "{status}");
    assert_eq!(reason(&status), "NO_SNAPSHOT_VERIFIES");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_reached_is_unavailable_and_never_no_snapshot() {
    let port = Port::reserve().unwrap();
    let nobody = format!("http://{}", port.address());
    let env = [
        ("OBJECT_STORE_BACKEND", "s3"),
        ("S3_BUCKET", "b"),
        ("S3_REGION", "us-east-1"),
        ("S3_ENDPOINT", nobody.as_str()),
        ("S3_ACCESS_KEY", "planted-key"),
        ("S3_SECRET_KEY", "planted-secret"),
        ("S3_DISABLE_SSL", "true"),
        ("S3_PATH_STYLE", "true"),
    ];
    let (broker, _dir, daemon) = start(&env).await;
    broker.grow(100);
    for min_index in [0, 50] {
        let status = seed(daemon.listen, lost(min_index)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(reason(&status), "STORE_UNAVAILABLE");
    }
    // An intact broker starts all the same: nothing is asked of the store.
    let mut intact = lost(0);
    intact.local_state = v1::LocalState::Intact.into();
    let seeded = seed(daemon.listen, intact).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::UseLocal);
    assert_eq!(
        broker.script().exports,
        0,
        "nothing is exported while the store is away"
    );
    assert!(!daemon.log().contains("planted-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_cluster_is_refused_and_left_alone() {
    let (_first, dir, daemon) = two_snapshots(&[]).await;
    drop(daemon);
    let before = stored(dir.path(), "").len();
    let other = ScriptedBroker::start().await;
    other.script().cluster_id = "other-cluster".to_owned();
    other.grow(500);
    let daemon = Daemon::start(&Setup {
        broker: other.address,
        dir: dir.path(),
        env: &[],
    });
    daemon.wait("the problem to be told", |daemon| {
        daemon.status()["daemon"]["identity_problem"]
            .as_str()
            .unwrap()
            .contains("test-cluster")
    });
    let mut begin = lost(0);
    begin.lineage.as_mut().unwrap().cluster_id = "other-cluster".to_owned();
    let status = seed(daemon.listen, begin).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "STORE_IDENTITY")
    );
    assert_eq!(
        stored(dir.path(), "").len(),
        before,
        "nothing was written or deleted"
    );
    assert!(other.script().compactions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_truncated_logs_never_claims_an_empty_store() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    {
        let mut script = broker.script();
        script.any_log_compacted = true;
        script.first_log_index = 500;
    }
    broker.grow(1000);
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[],
    });
    daemon.wait("the problem to be told", |daemon| {
        daemon.status()["daemon"]["identity_problem"]
            .as_str()
            .unwrap()
            .contains("check bucket and prefix")
    });
    let status = seed(daemon.listen, lost(499)).await.unwrap_err();
    assert_eq!(reason(&status), "STORE_IDENTITY");
    assert!(stored(dir.path(), "").is_empty());
}

/// Breaks one field of a request.
type Spoil = fn(&mut v1::BootstrapBegin);

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_name_the_field() {
    let (_broker, _dir, daemon) = start(&[]).await;
    let cases: [(&str, Spoil); 4] = [
        ("local_state", |begin| begin.local_state = 0),
        ("partition", |begin| begin.partition = None),
        ("lineage", |begin| begin.lineage = None),
        ("accepted_state_codecs", |begin| {
            begin.accepted_state_codecs.clear();
        }),
    ];
    for (field, spoil) in cases {
        let mut begin = lost(0);
        spoil(&mut begin);
        let status = seed(daemon.listen, begin).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(field), "{status}");
    }
    let mut stranger = lost(0);
    stranger.boot_id = "boot-9".to_owned();
    let status = seed(daemon.listen, stranger).await.unwrap_err();
    assert_eq!(reason(&status), "BOOT_ID_MISMATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switched_off_bootstrap_says_so() {
    let (_broker, _dir, daemon) = start(&[("CHRONIK_SNAPSHOT_BOOTSTRAP_ENABLED", "false")]).await;
    let seeded = seed(daemon.listen, lost(0)).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::Disabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_adopts_an_empty_store_only_when_told_to() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    broker.script().any_log_compacted = true;
    let init = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_chronik-snapshotd"))
            .arg("init")
            .args(arguments)
            .env_clear()
            .env(
                "CHRONIK_SNAPSHOT_BROKER_ENDPOINT",
                format!("http://{}", broker.address),
            )
            .env("OBJECT_STORE_BACKEND", "local")
            .env("LOCAL_STORAGE_PATH", dir.path().join("store"))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, _, stderr) = init(&[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("init --adopt"), "{stderr}");
    let (code, stdout, _) = init(&["--adopt"]);
    assert_eq!(
        (code, stdout.as_str()),
        (
            Some(0),
            "the store belongs to cluster test-cluster, incarnation 1\n"
        )
    );
    assert_eq!(init(&[]).0, Some(0));
    broker.script().cluster_id = "other".to_owned();
    let (code, _, stderr) = init(&["--adopt"]);
    assert_eq!(code, Some(1), "a store of another cluster is never adopted");
    assert!(stderr.contains("test-cluster"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intact_replica_waits_neither_for_a_slot_nor_behind_a_conversation() {
    let (_broker, _dir, daemon) =
        two_snapshots(&[("CHRONIK_SNAPSHOT_MAX_CONCURRENT_RESTORES", "1")]).await;
    let of_partition = |partition, state: v1::LocalState| {
        let mut begin = lost(0);
        begin.partition.as_mut().unwrap().partition = partition;
        begin.local_state = state.into();
        begin
    };
    // One broker has everything and is silent: it keeps the only slot.
    let slow = of_partition(0, v1::LocalState::Lost);
    let mut slow = Conversation::open(daemon.listen, slow).await.unwrap();
    while !matches!(slow.next().await.unwrap(), Some(Message::Trailer(_))) {}
    // Further ones wait in line.
    let waiting = of_partition(1, v1::LocalState::Lost);
    let mut waiting = Conversation::open(daemon.listen, waiting).await.unwrap();
    let queued = waiting.next().await.unwrap();
    let Some(Message::Progress(progress)) = queued else {
        panic!("{queued:?}");
    };
    assert_eq!(progress.phase(), v1::BootstrapPhase::Queued);
    // The silent one's own partition last: a call that took its place would free the slot.
    for partition in [2, 1, 0] {
        let intact = of_partition(partition, v1::LocalState::Intact);
        let mut intact = Conversation::open(daemon.listen, intact).await.unwrap();
        let first = intact.next().await.unwrap();
        let Some(Message::Outcome(outcome)) = first else {
            panic!("partition {partition} waits: {first:?}");
        };
        assert_eq!(outcome.result(), v1::BootstrapResult::UseLocal);
    }
}

/// Two brokers that name one sidecar, by a copied configuration: the wrong one ends nothing of the right one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_call_ends_nobodys_conversation() {
    let (_broker, _dir, daemon) = two_snapshots(&[]).await;
    let mut right = Conversation::open(daemon.listen, lost(0)).await.unwrap();
    while !matches!(right.next().await.unwrap(), Some(Message::Trailer(_))) {}
    let mut stranger = lost(0);
    stranger.boot_id = "boot-of-another-broker".to_owned();
    let refused = seed(daemon.listen, stranger).await.unwrap_err();
    assert_eq!(reason(&refused), "BOOT_ID_MISMATCH", "{refused}");
    // Still open: whoever calls again in the right one's name takes its place, and only that ends it.
    let again = Conversation::open(daemon.listen, lost(0)).await.unwrap();
    let ended = loop {
        match right.next().await {
            Ok(Some(Message::Progress(_))) => {}
            other => break other,
        }
    };
    assert_eq!(reason(&ended.unwrap_err()), "SUPERSEDED");
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_its_sidecar_cannot_reach_is_not_a_store_that_is_away() {
    let (port, dir) = (Port::reserve().unwrap(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(&Setup {
        broker: port.socket_addr(),
        dir: dir.path(),
        env: &[],
    });
    let status = seed(daemon.listen, lost(0)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(reason(&status), "BROKER_UNREACHABLE");
    let outcome = "chronik_snapshot_bootstrap_requests_total{outcome=\"broker_unreachable\"}";
    assert!(daemon.metric(outcome) >= 1.0);
}
