//! What a restore chooses while the store changes under it, is damaged, or answers with errors.

use bytes::Bytes;
use chronik_snapshotd::{
    error::Kind,
    format::{FileName, MANIFEST_MAX_BYTES, SnapshotId},
    pipeline::{RestoreError, RestoreOutcome},
};
use futures::join;

use crate::support::{
    bench::{Bench, lineage, orders, snap_of},
    faults::{Fault, Op},
    scripted_broker::sample_state,
};

fn installed(restored: &Result<RestoreOutcome, RestoreError>) -> Option<SnapshotId> {
    match restored {
        Ok(RestoreOutcome::Installed { id, .. }) => Some(*id),
        _ => None,
    }
}

/// Another sidecar takes a newer snapshot and retires `old` while a call of this process is held up.
async fn replaced_meanwhile(bench: &Bench, old: SnapshotId, with_data: bool) -> SnapshotId {
    bench.faults.wait_stalled(1).await;
    bench.broker.script().state = sample_state(50_000);
    let new = bench.snapshot().await;
    bench.pipeline.catalog.retire(&orders(), old).await.unwrap();
    if with_data {
        bench.delete(FileName::Snap(snap_of(old))).await;
    }
    bench.faults.release();
    new
}

#[tokio::test]
async fn a_manifest_that_vanishes_after_the_listing_makes_the_folder_be_listed_again() {
    let bench = Bench::start().await;
    let old = bench.snapshot().await;
    let manifest = FileName::Manifest(old).to_string();
    bench.faults.plan(Op::Get, &manifest, 0, 1, Fault::Stall);
    let starting = bench.another();
    let (restore, new) = join!(
        starting.restore(100),
        replaced_meanwhile(&bench, old, false)
    );
    let (restored, installer) = restore;
    assert_eq!(installed(&restored), Some(new), "{restored:?}");
    assert!(installer.bytes == sample_state(50_000));
}

#[tokio::test]
async fn a_folder_that_never_stands_still_is_unavailable_and_never_no_snapshot() {
    let bench = Bench::start().await;
    bench.snapshot().await;
    let gone = Fault::NotFound;
    bench
        .faults
        .plan(Op::Get, ".manifest.json", 0, usize::MAX, gone);
    for min_index in [0, 100] {
        let (restored, _) = bench.another().restore(min_index).await;
        let error = restored.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn data_that_retention_deletes_while_it_is_sent_is_followed_by_what_replaced_it() {
    let bench = Bench::start().await;
    let old = bench.snapshot().await;
    let snap = FileName::Snap(snap_of(old)).to_string();
    bench.faults.plan(Op::Get, &snap, 0, 1, Fault::Stall);
    let starting = bench.another();
    let (restore, new) = join!(starting.restore(100), replaced_meanwhile(&bench, old, true));
    let (restored, installer) = restore;
    assert_eq!(installed(&restored), Some(new), "{restored:?}");
    assert_eq!(installer.abandoned, [old]);
    assert!(installer.bytes == sample_state(50_000));
    assert!(
        !bench.exists(FileName::Quarantine(old)).await,
        "what was retired is not marked as damaged"
    );
}

#[tokio::test]
async fn a_mark_that_cannot_be_written_does_not_keep_the_older_snapshot_from_being_tried() {
    let bench = Bench::start().await;
    let older = bench.snapshot().await;
    let newest = bench.snapshot().await;
    let snap = FileName::Snap(snap_of(newest)).to_string();
    bench
        .faults
        .plan(Op::Get, &snap, 0, usize::MAX, Fault::Flip(-1));
    bench.faults.plan(
        Op::PutNew,
        ".quarantined.json",
        0,
        usize::MAX,
        Fault::FailBefore,
    );
    let (restored, installer) = bench.another().restore(0).await;
    assert_eq!(installed(&restored), Some(older), "{restored:?}");
    assert_eq!(installer.abandoned, [newest]);
    assert!(bench.faults.calls(Op::PutNew) > 0);
    assert!(!bench.exists(FileName::Quarantine(newest)).await);
}

/// How a restore ends, in the words of the protocol.
fn verdict(restored: &Result<RestoreOutcome, RestoreError>) -> &'static str {
    match restored {
        Ok(outcome) => outcome.as_str(),
        Err(error @ RestoreError::NoneVerifies { .. }) => {
            assert_eq!(error.kind(), Kind::Corrupt);
            "data_loss"
        }
        Err(error) => error.kind().as_str(),
    }
}

async fn verdicts(bench: &Bench, expected: &[(u64, &str)]) {
    for (min_index, expected) in expected {
        let (restored, _) = bench.another().restore(*min_index).await;
        assert_eq!(
            verdict(&restored),
            *expected,
            "min_index {min_index}: {restored:?}"
        );
    }
}

#[tokio::test]
async fn nothing_ever_written_is_no_snapshot_only_while_nothing_was_truncated() {
    let bench = Bench::start().await;
    // The first to look claims the store.
    verdicts(&bench, &[(0, "no_snapshot"), (1, "not_covered")]).await;
}

#[tokio::test]
async fn whole_snapshots_below_the_truncated_index_do_not_cover() {
    let bench = Bench::start().await;
    bench.snapshot().await;
    bench.snapshot().await;
    verdicts(
        &bench,
        &[
            (0, "installed"),
            (200, "installed"),
            (201, "not_covered"),
            (u64::MAX, "not_covered"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_a_loss_of_data_where_it_would_have_covered() {
    let bench = Bench::start().await;
    let id = bench.snapshot().await;
    bench
        .put(FileName::Manifest(id), "{\"format_version\":99}\n")
        .await;
    verdicts(
        &bench,
        &[(0, "data_loss"), (100, "data_loss"), (101, "not_covered")],
    )
    .await;
    // One that is whole helps where it covers, and only there.
    let whole = bench.snapshot().await;
    assert!(bench.exists(FileName::Manifest(whole)).await);
    verdicts(&bench, &[(0, "installed"), (101, "installed")]).await;
}

#[tokio::test]
async fn a_quarantined_snapshot_is_a_loss_of_data_where_it_would_have_covered() {
    let bench = Bench::start().await;
    let older = bench.snapshot().await;
    let newest = bench.snapshot().await;
    bench.mark(newest).await;
    verdicts(
        &bench,
        &[(0, "installed"), (101, "data_loss"), (201, "not_covered")],
    )
    .await;
    bench.mark(older).await;
    verdicts(&bench, &[(0, "data_loss"), (201, "not_covered")]).await;
}

#[tokio::test]
async fn data_that_does_not_verify_is_a_loss_of_data_and_never_no_snapshot() {
    let bench = Bench::start().await;
    bench.snapshot().await;
    bench
        .faults
        .plan(Op::Get, ".snap", 0, usize::MAX, Fault::Flip(-1));
    // The first restore marks it, the second finds the mark.
    verdicts(&bench, &[(0, "data_loss"), (0, "data_loss")]).await;
    verdicts(&bench, &[(101, "not_covered")]).await;
}

#[tokio::test]
async fn a_manifest_above_the_size_limit_is_there_and_unreadable() {
    let bench = Bench::start().await;
    let id = bench.snapshot().await;
    let size = usize::try_from(MANIFEST_MAX_BYTES).unwrap() + 1;
    bench
        .put(FileName::Manifest(id), Bytes::from(vec![b' '; size]))
        .await;
    verdicts(&bench, &[(0, "data_loss"), (100, "data_loss")]).await;
    let starting = bench.another();
    let folder = starting.pipeline.catalog.look(&orders()).await.unwrap();
    assert_eq!(folder.unreadable.len(), 1);
    assert!(folder.newest_proven(&lineage()).is_none());
    // And so nothing is deleted beside it.
    let report = starting
        .visit(|request| {
            request.may_delete = true;
        })
        .await;
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    assert!(error.to_string().contains("nothing is deleted"), "{error}");
    assert!(bench.exists(FileName::Snap(snap_of(id))).await);
}
