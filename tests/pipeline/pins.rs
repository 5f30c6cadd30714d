//! Pinned snapshots: retention keeps them, and what they point into.

use chronik_snapshotd::{error::Kind, format::FileName};
use tokio::join;

use crate::support::{
    bench::{Bench, orders, snap_of},
    faults::{Fault, Op},
};

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
