//! What a visit does not do: prove, truncate, delete or export on something that changed under it.

use chronik_snapshotd::{
    error::Kind,
    format::FileName,
    pipeline::{RestoreError, RestoreOutcome},
    proto::v1,
};
use futures::join;

use crate::support::{
    bench::{Bench, flag_on, orders, snap_of},
    faults::{Fault, Op},
};

#[tokio::test]
async fn a_committed_snapshot_under_a_flag_is_not_proven_and_keeps_its_manifest() {
    let bench = Bench::start().await;
    let id = bench.unproven_snapshot().await;
    bench.put(flag_on(id), "{}\n").await;
    let report = bench
        .another()
        .visit(|request| {
            request.may_snapshot = true;
            request.manual = true;
        })
        .await;
    assert!(report.error.is_none(), "{:?}", report.error);
    assert!(!bench.exists(FileName::Proof(id)).await);
    assert!(
        bench.exists(FileName::Manifest(id)).await,
        "somebody else may have proven it and truncated on it"
    );
    // The partition is covered by a complete snapshot instead, and the log is cut on that one.
    let taken = report.snapshot.unwrap();
    assert_ne!(taken, id);
    assert!(bench.exists(FileName::Proof(taken)).await);
    let script = bench.broker.script();
    assert!(
        script
            .compactions
            .iter()
            .all(|cut| cut.snapshot_id == taken.to_string())
    );
}

#[tokio::test]
async fn a_flag_that_comes_while_the_manifest_is_written_stops_the_proof_and_then_yields() {
    let bench = Bench::start().await;
    bench.broker.grow(100);
    bench
        .faults
        .plan(Op::PutNew, ".manifest.json", 0, 1, Fault::Stall);
    let deleter = bench.another();
    let folder = orders();
    let sweep = || {
        let pipeline = &deleter.pipeline;
        pipeline.sweeper.sweep(&pipeline.catalog, &folder)
    };
    let flag = async {
        bench.faults.wait_stalled(1).await;
        assert_eq!(sweep().await.unwrap().flagged, 1);
        bench.faults.release();
    };
    let (report, ()) = join!(bench.visit_to_snapshot(), flag);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    let looked = deleter.pipeline.catalog.look(&folder).await.unwrap();
    let [snapshot] = looked.snapshots.as_slice() else {
        panic!("{:?}", looked.snapshots);
    };
    assert!(snapshot.proof.is_none());
    // The deleter sees the manifest and takes its flag back; the next visit proves what is there.
    sweep().await.unwrap();
    let id = snapshot.id;
    let exports = bench.broker.script().exports;
    let report = bench.visit_to_snapshot().await;
    assert_eq!(report.snapshot, Some(id), "{:?}", report.error);
    assert!(bench.exists(FileName::Proof(id)).await);
    assert_eq!(bench.broker.script().exports, exports);
}

#[tokio::test]
async fn a_mark_that_comes_after_the_listing_stops_the_truncation() {
    let bench = Bench::start().await;
    let id = bench.snapshot().await;
    // The identity is read at the start of a visit, and again right before a cut.
    bench.faults.plan(Op::List, "@cluster", 1, 1, Fault::Stall);
    let mark = async {
        bench.faults.wait_stalled(1).await;
        bench.mark(id).await;
        bench.faults.release();
    };
    let (report, ()) = join!(bench.visit(|_| {}), mark);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.to_string().contains("quarantined"), "{error}");
    assert!(bench.broker.script().compactions.is_empty());
}

#[tokio::test]
async fn a_mark_that_comes_after_the_listing_stops_the_retirement_of_what_it_would_have_replaced() {
    let bench = Bench::start().await;
    let old = bench.snapshot().await;
    let newest = bench.snapshot().await;
    // Manifests are known from before: only what is read past every cache is read again.
    let manifest = FileName::Manifest(newest).to_string();
    bench.faults.plan(Op::Get, &manifest, 0, 1, Fault::Stall);
    let mark = async {
        bench.faults.wait_stalled(1).await;
        bench.mark(newest).await;
        bench.faults.release();
    };
    let without_cuts = bench.without_cuts();
    let retain = without_cuts.visit(|request| {
        request.may_delete = true;
    });
    let (report, ()) = join!(retain, mark);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(bench.exists(FileName::Manifest(old)).await);
    assert!(bench.exists(FileName::Proof(old)).await);
}

#[tokio::test]
async fn a_replica_whose_log_has_another_term_there_deletes_nothing() {
    let bench = Bench::start().await;
    let old = bench.snapshot().await;
    bench.snapshot().await;
    bench.broker.script().refuse_compaction = Some(v1::ErrorReason::TermMismatch);
    let report = bench
        .visit(|request| {
            request.may_delete = true;
        })
        .await;
    let refused = report.refused_base;
    assert!(refused.is_some(), "{:?}", report.error);
    assert!(bench.exists(FileName::Manifest(old)).await);
    // What the loop asks for once it knows.
    let report = bench
        .visit(|request| {
            request.may_delete = true;
            request.refused_base = refused;
        })
        .await;
    assert!(report.error.is_none(), "{:?}", report.error);
    assert!(report.retention.is_none());
    assert!(bench.exists(FileName::Manifest(old)).await);
    assert!(bench.exists(FileName::Snap(snap_of(old))).await);
    assert_eq!(
        bench.broker.script().compactions.len(),
        1,
        "asked once, never again on the same snapshot"
    );
}

#[tokio::test]
async fn two_terms_at_one_index_truncate_and_delete_nothing() {
    let bench = Bench::start().await;
    let old = bench.snapshot().await;
    let newest = bench.snapshot().await;
    // The newest cannot be proven again, so the same index is exported again, by a log that says another term.
    bench.delete(FileName::Proof(newest)).await;
    bench.put(flag_on(newest), "{}\n").await;
    bench.broker.script().term += 1;
    let report = bench.another().visit_to_snapshot().await;
    assert!(report.snapshot.is_some(), "{:?}", report.error);
    let report = bench
        .another()
        .visit(|request| {
            request.may_delete = true;
        })
        .await;
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(bench.broker.script().compactions.is_empty());
    assert!(bench.exists(FileName::Manifest(old)).await);
}

/// All disks were put back to last night's copies: the log is shorter than what the store knows of this very life.
#[tokio::test]
async fn snapshots_beyond_the_log_of_a_leader_are_set_aside_and_kept() {
    let bench = Bench::start().await;
    let old = bench.snapshot().await;
    let newest = bench.snapshot().await;
    bench.broker.script().applied_index -= 50;
    let visit = async |may_delete: bool| {
        let next = bench.another();
        let visit = next.visit(|request| {
            request.may_snapshot = true;
            request.may_delete = may_delete;
        });
        visit.await
    };
    // Somebody who may have been deposed does not know what others have committed.
    bench.broker.script().elected_after_list = true;
    let without_cuts = bench.without_cuts();
    let report = without_cuts.visit(|_| {}).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    assert!(!bench.exists(FileName::Quarantine(newest)).await);
    bench.broker.script().elected_after_list = false;

    let report = visit(true).await;
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(error.to_string().contains("went back"), "{error}");
    assert!(bench.broker.script().compactions.is_empty());
    assert!(bench.exists(FileName::Quarantine(newest)).await);
    assert!(!bench.exists(FileName::Quarantine(old)).await);

    // Told once. The log goes on, is covered by snapshots of its own, and never cut on the other history.
    bench.broker.grow(100);
    let own = bench.another().visit_to_snapshot().await.snapshot.unwrap();
    let report = visit(true).await;
    assert!(report.error.is_none(), "{:?}", report.error);
    let cuts = bench.broker.script().compactions.clone();
    assert!(
        cuts.iter().all(|cut| cut.snapshot_id == own.to_string()),
        "{cuts:?}"
    );
    assert!(bench.exists(FileName::Manifest(newest)).await);
}

#[tokio::test]
async fn a_cancelled_adoption_does_not_go_on_to_export() {
    let bench = Bench::start().await;
    let id = bench.unproven_snapshot().await;
    let exports = bench.broker.script().exports;
    bench.faults.plan(Op::Get, ".snap", 0, 1, Fault::Stall);
    let next = bench.another();
    let stop = async {
        bench.faults.wait_stalled(1).await;
        next.pipeline.abort.cancel();
        bench.faults.release();
    };
    let (report, ()) = join!(next.visit_to_snapshot(), stop);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Cancelled, "{error}");
    assert_eq!(bench.broker.script().exports, exports);
    assert!(!bench.exists(FileName::Proof(id)).await);
}

#[tokio::test]
async fn an_adoption_that_the_store_interrupts_does_not_go_on_to_export() {
    let bench = Bench::start().await;
    bench.unproven_snapshot().await;
    let exports = bench.broker.script().exports;
    bench.faults.plan(Op::Get, ".snap", 0, 1, Fault::FailBefore);
    let report = bench.another().visit_to_snapshot().await;
    let error = report.error.unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert_eq!(bench.broker.script().exports, exports);
}

#[tokio::test]
async fn the_upload_of_a_deposed_leader_that_ends_late_is_valid_and_moves_nothing_back() {
    let bench = Bench::start().await;
    bench.broker.grow(100);
    let manifest = ".manifest.json";
    bench.faults.plan(Op::PutNew, manifest, 0, 1, Fault::Stall);
    let successor = bench.another();
    let meanwhile = async {
        bench.faults.wait_stalled(1).await;
        bench.broker.script().term += 1;
        let newer = successor.snapshot().await;
        let report = successor.visit(|_| {}).await;
        assert!(report.error.is_none(), "{:?}", report.error);
        let cut = bench.broker.script().first_log_index;
        bench.faults.release();
        (newer, cut)
    };
    let (report, (newer, cut)) = join!(bench.visit_to_snapshot(), meanwhile);
    assert!(report.error.is_none(), "{:?}", report.error);
    let older = report.snapshot.unwrap();
    assert!(older.last_included.index < newer.last_included.index);
    assert!(older.last_included.term < newer.last_included.term);
    assert!(cut > older.last_included.index, "the log was cut meanwhile");
    assert!(bench.exists(FileName::Proof(older)).await);
    // Whoever made it or came later goes on from the newer one.
    for process in [&bench, &bench.another()] {
        let report = process.visit(|_| {}).await;
        assert!(report.error.is_none(), "{:?}", report.error);
    }
    {
        let script = bench.broker.script();
        assert_eq!(script.first_log_index, cut);
        let mut cuts = script.compactions.iter();
        assert!(cuts.all(|it| it.snapshot_id == newer.to_string()));
    }
    let restored = |outcome: Result<RestoreOutcome, RestoreError>| match outcome {
        Ok(RestoreOutcome::Installed { id, .. }) => id,
        other => panic!("{other:?}"),
    };
    assert_eq!(restored(bench.another().restore(0).await.0), newer);
    // Late is not worse: it is what is left if the newer one is damaged.
    bench.mark(newer).await;
    assert_eq!(restored(bench.another().restore(0).await.0), older);
}
