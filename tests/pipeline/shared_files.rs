//! Files that several snapshots point into: what a committer does when somebody deletes, and what a broker may not do.

use std::sync::Arc;

use chronik_snapshotd::{
    error::Kind,
    format::{FileName, Manifest, SnapshotId},
    pipeline::VisitReport,
};
use tokio::join;

use crate::support::{
    bench::{Bench, flag_on, snap_of},
    faults::{Fault, Op},
    scripted_broker::sample_state,
};

/// A bench whose state has a sealed part and a small rest.
async fn with_sealed_part() -> Bench {
    let bench = Bench::start().await;
    bench.broker.script().sealed = sample_state(200_000);
    bench.broker.script().state = sample_state(1_000);
    bench
}

async fn manifest(bench: &Bench, id: SnapshotId) -> Arc<Manifest> {
    let folder = bench.another().look().await;
    folder.find(id).unwrap().manifest.clone()
}

async fn next_snapshot(bench: &Bench) -> VisitReport {
    bench.broker.grow(100);
    bench.another().visit_to_snapshot().await
}

/// Whether its proof is there, and it restores to what the broker has.
async fn proven_and_whole(bench: &Bench, id: SnapshotId) -> bool {
    let (restored, installer) = bench.another().restore(0).await;
    restored.unwrap();
    let state = {
        let script = bench.broker.script();
        [script.sealed.clone(), script.state.clone()].concat()
    };
    installer.bytes == state && bench.exists(FileName::Proof(id)).await
}

#[tokio::test]
async fn what_is_sealed_is_stored_once_and_restored_with_the_rest() {
    let bench = with_sealed_part().await;
    let first = bench.snapshot().await;
    bench.broker.script().state = sample_state(2_000);
    let second = next_snapshot(&bench).await.snapshot.unwrap();
    let manifest = manifest(&bench, second).await;
    assert_eq!(manifest.increment, 1);
    assert_eq!(manifest.references[1], snap_of(first).to_string());
    assert_eq!(manifest.file_extents()[0].end_bytes, 2_000);
    assert!(proven_and_whole(&bench, second).await);
}

/// The deleter has listed the manifests for the last time, and its DELETE is on its way when the next one is written.
#[tokio::test]
async fn a_file_whose_deletion_is_under_way_is_not_rested_on() {
    let bench = with_sealed_part().await;
    let first = bench.snapshot().await;
    bench
        .faults
        .plan(Op::PutNew, ".manifest.json", 0, 1, Fault::Stall);
    let deleter = async {
        bench.faults.wait_stalled(1).await;
        bench.put(flag_on(first), "{}\n").await;
        bench.faults.release();
    };
    let (report, ()) = join!(next_snapshot(&bench), deleter);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(
        error.to_string().contains("flagged for deletion"),
        "{error}"
    );
    let folder = bench.another().look().await;
    let newest = &folder.snapshots[0];
    assert_ne!(newest.id, first, "it was committed");
    assert!(newest.proof.is_none());
}

/// A deleter died and left its flag on a file that is needed: nobody waits for it, and nobody points into the file.
#[tokio::test]
async fn a_flag_that_stays_costs_a_complete_snapshot_and_nothing_else() {
    let bench = with_sealed_part().await;
    let first = bench.snapshot().await;
    bench.put(flag_on(first), "{}\n").await;
    for _ in 0..2 {
        let report = next_snapshot(&bench).await;
        assert!(report.error.is_none(), "{:?}", report.error);
        let id = report.snapshot.unwrap();
        let manifest = manifest(&bench, id).await;
        assert!(!manifest.references.contains(&snap_of(first).to_string()));
        assert!(proven_and_whole(&bench, id).await);
    }
}

/// Gone between the look and the commit.
#[tokio::test]
async fn a_file_that_vanishes_meanwhile_is_noticed_before_the_commit() {
    let bench = with_sealed_part().await;
    let first = bench.snapshot().await;
    bench.faults.plan(Op::Put, ".snap", 0, 1, Fault::Stall);
    let robber = async {
        bench.faults.wait_stalled(1).await;
        bench.delete(FileName::Snap(snap_of(first))).await;
        bench.faults.release();
    };
    let (report, ()) = join!(next_snapshot(&bench), robber);
    let error = report.error.unwrap();
    assert!(error.to_string().contains("gone"), "{error}");
    let folder = bench.another().look().await;
    assert_eq!(folder.snapshots.len(), 1, "nothing was committed");
}

#[tokio::test]
async fn a_broker_that_gives_a_sealed_name_to_other_bytes_is_asked_for_everything() {
    let bench = with_sealed_part().await;
    let first = bench.snapshot().await;
    bench.broker.script().sealed = sample_state(150_000);
    let exports = bench.broker.script().exports;
    let second = next_snapshot(&bench).await.snapshot.unwrap();
    assert_eq!(bench.broker.script().exports, exports + 2);
    let manifest = manifest(&bench, second).await;
    assert_eq!(manifest.increment, 0);
    assert!(!manifest.references.contains(&snap_of(first).to_string()));
    assert!(proven_and_whole(&bench, second).await);
}

/// One block of many is damaged, and another snapshot that uses the file was found out already.
#[tokio::test]
async fn a_log_is_not_cut_on_a_file_that_a_damaged_snapshot_shares_before_all_of_it_was_read() {
    let bench = Bench::start().await;
    bench.broker.script().sealed = sample_state(30 << 20);
    bench.broker.script().state = sample_state(1_000);
    let first = bench.snapshot().await;
    let second = next_snapshot(&bench).await.snapshot.unwrap();
    assert_eq!(manifest(&bench, second).await.increment, 1);
    let file = bench.key(FileName::Snap(snap_of(first)));
    let store = bench.another().pipeline.catalog.store().clone();
    let mut bytes = store.get(&file, 64 << 20).await.unwrap().bytes.to_vec();
    bytes[9 << 20] ^= 1;
    store.put(&file, bytes.into()).await.unwrap();
    bench.mark(first).await;
    let report = bench.another().visit(|_| {}).await;
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(bench.broker.script().compactions.is_empty());
    assert!(bench.exists(FileName::Quarantine(second)).await);
}
