//! Pinned snapshots: retention keeps them, and what they point into.

mod support;

use chronik_snapshotd::{error::Kind, format::FileName};
use support::{
    bench::{Bench, orders, snap_of},
    cli::{Lab, keep},
    faults::{Fault, Op},
};
use tokio::join;

/// A visit that may delete, and truncates nothing.
async fn retain(bench: &Bench) -> Option<Kind> {
    let retaining = bench.without_cuts();
    let report = retaining.visit(|request| request.may_delete = true).await;
    report.error.map(|error| error.kind())
}

#[tokio::test]
async fn a_pinned_snapshot_stays_and_does_not_count() {
    let bench = Bench::start().await;
    let oldest = bench.snapshot().await;
    bench.pipeline.catalog.pin(&orders(), oldest).await.unwrap();
    let middle = bench.snapshot().await;
    let newest = bench.snapshot().await;
    assert_eq!(retain(&bench).await, None);
    // One is kept; the pinned one besides.
    assert!(bench.exists(FileName::Manifest(newest)).await);
    assert!(!bench.exists(FileName::Manifest(middle)).await);
    assert!(bench.exists(FileName::Manifest(oldest)).await);
    assert!(bench.exists(FileName::Proof(oldest)).await);
    assert!(bench.exists(FileName::Snap(snap_of(oldest))).await);
    assert!(bench.look().await.find(oldest).unwrap().pinned);

    bench
        .pipeline
        .catalog
        .unpin(&orders(), oldest)
        .await
        .unwrap();
    assert_eq!(retain(&bench).await, None);
    assert!(!bench.exists(FileName::Manifest(oldest)).await);
}

#[tokio::test]
async fn a_pin_that_comes_after_the_listing_keeps_the_snapshot() {
    let bench = Bench::start().await;
    let old = bench.snapshot().await;
    bench.snapshot().await;
    // The deleter has planned and looks at what it keeps.
    bench.faults.plan(Op::Head, ".snap", 0, 1, Fault::Stall);
    let pin = async {
        bench.faults.wait_stalled(1).await;
        bench.pipeline.catalog.pin(&orders(), old).await.unwrap();
        bench.faults.release();
    };
    let (error, ()) = join!(retain(&bench), pin);
    assert_eq!(error, None);
    assert!(bench.exists(FileName::Manifest(old)).await);
    assert!(bench.exists(FileName::Proof(old)).await);
}

#[tokio::test]
async fn whether_it_is_pinned_must_be_known_before_anything_is_evicted() {
    let bench = Bench::start().await;
    let old = bench.snapshot().await;
    bench.snapshot().await;
    bench
        .faults
        .plan(Op::Head, ".pinned", 0, 9, Fault::FailBefore);
    assert_eq!(retain(&bench).await, Some(Kind::Unavailable));
    assert!(bench.exists(FileName::Manifest(old)).await);
    bench.faults.heal();
    assert_eq!(retain(&bench).await, None);
    assert!(!bench.exists(FileName::Manifest(old)).await);
}

#[tokio::test]
async fn a_pin_without_a_snapshot_is_swept() {
    let bench = Bench::start().await;
    let old = bench.snapshot().await;
    bench.snapshot().await;
    assert_eq!(retain(&bench).await, None);
    bench.put(FileName::Pin(old), "{}\n").await;
    assert_eq!(retain(&bench).await, None);
    assert!(!bench.exists(FileName::Pin(old)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pins_and_unpins() {
    let lab = Lab::with_snapshots(3).await;
    let ids = lab.ids();
    let said = lab.run(&["pin", "orders/0", &ids[1]]).ends_with(0);
    keep("pin", &format!("pin orders/0 {}", ids[1]), &said);
    said.tells(&["is pinned"]);
    lab.run(&["pin", "orders/0", &ids[1]])
        .ends_with(0)
        .tells(&["was pinned already"]);
    assert!(lab.run(&["list"]).stdout.contains("proven,pinned"));
    let one = [("CHRONIK_SNAPSHOT_RETENTION_COUNT", "1")];
    let shown = lab.run_with(&["prune", "--dry-run"], &one).ends_with(0);
    let line = shown
        .stdout
        .lines()
        .find(|line| line.contains(&ids[1]))
        .unwrap();
    assert!(line.contains("keep") && line.ends_with("pinned"), "{line}");

    let mut daemon = lab.daemon(&[one[0], ("CHRONIK_SNAPSHOT_DELETE_GRACE_SECS", "1")]);
    lab.broker.grow(100);
    daemon.wait_proven(400);
    daemon.wait("retention", |_| {
        lab.ids().len() == 2 && lab.ids()[0] == ids[1]
    });
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
    // The pinned one points into the file of the first, which is long evicted.
    lab.run(&["verify", "orders/0", &ids[1], "--deep"])
        .ends_with(0);
    assert_eq!(lab.stored(".pinned").len(), 1);

    lab.run(&["unpin", "orders/0", &ids[1]])
        .ends_with(0)
        .tells(&["is not pinned any more"]);
    lab.run(&["unpin", "orders/0", &ids[1]])
        .ends_with(0)
        .tells(&["was not pinned"]);
    lab.run(&["pin", "orders/0", &ids[0]])
        .ends_with(4)
        .tells(&["holds no snapshot"]);
}
