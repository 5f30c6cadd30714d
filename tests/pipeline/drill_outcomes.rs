//! What a drill makes of a store that errs, changes under it, or is somebody else's.

use std::time::Duration;

use chronik_snapshotd::{
    error::Kind,
    format::{FileName, SnapshotId},
    pipeline::{
        DrillOutcome, DrillReport, DrillRequest,
        plane::{DRILL_BUDGET_BYTES, RateLimit},
    },
    raft::Lineage,
};

use crate::support::{
    bench::{Bench, lineage, orders, snap_of},
    faults::{Fault, Op},
    scripted_broker::sample_state,
};

impl Bench {
    async fn drill_request(&self) -> DrillRequest {
        DrillRequest {
            info: self.pipeline.broker.describe().await.unwrap(),
            partition: orders(),
            lineage: lineage(),
        }
    }

    async fn drill(&self) -> DrillReport {
        let request = self.drill_request().await;
        let report = self.pipeline.drill(&request).await;
        assert_eq!(self.pipeline.plane.restore_budget.in_use_bytes(), 0);
        assert_eq!(self.pipeline.plane.budget.in_use_bytes(), 0);
        report
    }

    fn writes(&self) -> usize {
        let ops = [Op::Put, Op::PutNew, Op::UploadCreate, Op::Delete];
        ops.map(|op| self.faults.calls(op)).iter().sum()
    }

    async fn is_marked(&self, id: SnapshotId) -> bool {
        self.exists(FileName::Quarantine(id)).await
    }
}

fn failed(report: &DrillReport) -> (Kind, &str) {
    match &report.outcome {
        DrillOutcome::Failed { kind, problem } => (*kind, problem),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_sound_snapshot_is_read_to_its_end_and_nothing_is_written() {
    let bench = Bench::start().await;
    bench.broker.script().state = sample_state(9 << 20);
    let id = bench.snapshot().await;
    let writes = bench.writes();
    let report = bench.drill().await;
    let raw_bytes = 9 << 20;
    assert_eq!(report.outcome, DrillOutcome::Restored { raw_bytes });
    assert_eq!(report.snapshot, Some(id));
    assert_eq!(bench.writes(), writes, "a drill wrote");
}

#[tokio::test]
async fn its_speed_counts_for_the_estimate_limited_or_not() {
    let bench = Bench::start().await;
    bench.broker.script().state = sample_state(20 << 20);
    bench.snapshot().await;
    let mut other = bench.another();
    let plane = &other.pipeline.plane;
    assert_eq!(
        plane.restore_time(1 << 30),
        None,
        "nothing was measured yet"
    );
    let limit = std::num::NonZeroU64::new(5 << 20);
    other.pipeline.plane.drill.rate = RateLimit::new(limit);
    let report = other.drill().await;
    assert!(matches!(report.outcome, DrillOutcome::Restored { .. }));
    assert!(
        report.elapsed > Duration::from_secs(3),
        "{:?}",
        report.elapsed
    );
    // The wait for the limit is none of a restore's.
    let estimate = other.pipeline.plane.restore_time(20 << 20).unwrap();
    assert!(
        estimate < report.elapsed / 2,
        "{estimate:?}, {:?}",
        report.elapsed
    );
}

#[tokio::test]
async fn one_bad_read_is_no_damage() {
    let bench = Bench::start().await;
    let id = bench.snapshot().await;
    bench.faults.plan(Op::Get, ".snap", 0, 1, Fault::Flip(5));
    let report = bench.drill().await;
    let (kind, problem) = failed(&report);
    assert_eq!(kind, Kind::Unavailable);
    assert!(problem.contains("right the second time"), "{problem}");
    assert!(!bench.is_marked(id).await);
    bench
        .faults
        .plan(Op::Get, ".manifest.json", 0, 1, Fault::Flip(5));
    let report = bench.drill().await;
    assert!(
        matches!(report.outcome, DrillOutcome::Restored { .. }),
        "{report:?}"
    );
}

#[tokio::test]
async fn damage_is_marked_and_the_one_before_is_what_counts() {
    let bench = Bench::start().await;
    let (first, second) = (bench.snapshot().await, bench.snapshot().await);
    let snap = FileName::Snap(snap_of(second));
    bench.put(snap, vec![b'.'; 100_000]).await;
    let writes = bench.writes();
    let report = bench.drill().await;
    assert!(
        matches!(report.outcome, DrillOutcome::Damaged { .. }),
        "{report:?}"
    );
    assert_eq!(report.snapshot, Some(second));
    assert!(bench.is_marked(second).await);
    assert_eq!(bench.writes(), writes + 1, "more than the mark was written");
    let folder = report.folder.unwrap();
    assert_eq!(folder.newest_proven(&lineage()).unwrap().id, first);
    let report = bench.drill().await;
    assert!(
        matches!(report.outcome, DrillOutcome::Restored { .. }),
        "{report:?}"
    );
    assert_eq!(report.snapshot, Some(first));
}

#[tokio::test]
async fn a_file_that_is_gone_is_damage() {
    let bench = Bench::start().await;
    let id = bench.snapshot().await;
    bench.delete(FileName::Snap(snap_of(id))).await;
    let report = bench.drill().await;
    let DrillOutcome::Damaged { problem } = report.outcome else {
        panic!("{report:?}");
    };
    assert!(problem.contains("does not exist"), "{problem}");
    assert!(bench.is_marked(id).await);
}

#[tokio::test]
async fn a_manifest_or_a_proof_that_rots_is_found_although_it_was_known() {
    for name in [FileName::Manifest, FileName::Proof] {
        let bench = Bench::start().await;
        let id = bench.snapshot().await;
        bench.look().await;
        bench.put(name(id), "{}\n").await;
        let report = bench.drill().await;
        assert!(
            matches!(report.outcome, DrillOutcome::Damaged { .. }),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn a_snapshot_that_is_retired_while_it_is_read_is_no_damage() {
    let bench = Bench::start().await;
    bench.broker.script().state = sample_state(9 << 20);
    let id = bench.snapshot().await;
    bench.faults.plan(Op::Get, ".snap", 1, 1, Fault::Stall);
    let request = bench.drill_request().await;
    let retire = async {
        bench.faults.wait_stalled(1).await;
        bench.pipeline.catalog.retire(&orders(), id).await.unwrap();
        bench.delete(FileName::Snap(snap_of(id))).await;
        bench.faults.release();
    };
    let (report, ()) = futures::join!(bench.pipeline.drill(&request), retire);
    assert_eq!(report.outcome, DrillOutcome::Nothing);
    assert!(!bench.is_marked(id).await);
}

#[tokio::test]
async fn a_store_that_does_not_answer_proves_nothing() {
    let bench = Bench::start().await;
    let id = bench.snapshot().await;
    for (op, key) in [
        (Op::List, "@cluster"),
        (Op::List, "orders/0"),
        (Op::Get, ".manifest.json"),
        (Op::Get, ".snap"),
    ] {
        bench.faults.plan(op, key, 0, usize::MAX, Fault::FailBefore);
        let report = bench.drill().await;
        assert_eq!(
            failed(&report).0,
            Kind::Unavailable,
            "{op:?} {key}: {report:?}"
        );
        bench.faults.heal();
    }
    assert!(!bench.is_marked(id).await);
}

#[tokio::test]
async fn a_store_of_another_cluster_is_not_read_and_an_empty_one_not_claimed() {
    let bench = Bench::start().await;
    let writes = bench.writes();
    assert_eq!(bench.drill().await.outcome, DrillOutcome::Nothing);
    assert_eq!(bench.writes(), writes, "the store was claimed");
    bench.snapshot().await;
    let mut request = bench.drill_request().await;
    request.info.cluster_id = "another".to_owned();
    request.lineage = Lineage::new("another", 1, "topic-a").unwrap();
    let report = bench.pipeline.drill(&request).await;
    assert_eq!(failed(&report).0, Kind::Invalid);
    assert_eq!(report.snapshot, None);
}

#[tokio::test]
async fn another_life_of_the_topic_is_not_drilled() {
    let bench = Bench::start().await;
    bench.snapshot().await;
    let mut request = bench.drill_request().await;
    request.lineage.topic_id = "topic-b".to_owned();
    let report = bench.pipeline.drill(&request).await;
    assert_eq!(report.outcome, DrillOutcome::Nothing);
}

#[tokio::test]
async fn a_restore_that_begins_ends_a_drill_and_gets_its_memory() {
    let bench = Bench::start().await;
    bench.broker.script().state = sample_state(9 << 20);
    bench.snapshot().await;
    // The first read of the drill hangs; the restore's do not.
    bench.faults.plan(Op::Get, ".snap", 0, 1, Fault::Stall);
    let request = bench.drill_request().await;
    let plane = &bench.pipeline.plane;
    let restore = async {
        bench.faults.wait_stalled(1).await;
        assert_eq!(plane.restore_budget.in_use_bytes(), DRILL_BUDGET_BYTES);
        let (restored, installer) = bench.restore(0).await;
        restored.unwrap();
        assert!(installer.bytes == bench.broker.script().state);
    };
    let (report, ()) = futures::join!(bench.pipeline.drill(&request), restore);
    assert_eq!(report.outcome, DrillOutcome::Yielded);
    assert_eq!(plane.restore_budget.in_use_bytes(), 0);
}

#[tokio::test]
async fn a_drill_waits_for_no_memory() {
    let bench = Bench::start().await;
    bench.snapshot().await;
    let plane = &bench.pipeline.plane;
    let all = plane.restore_budget.reserve(u64::MAX).await;
    let request = bench.drill_request().await;
    let report = bench.pipeline.drill(&request).await;
    assert_eq!(report.outcome, DrillOutcome::Yielded);
    drop(all);
    // What snapshots have reserved is none of its business.
    let _all = plane.budget.reserve(u64::MAX).await;
    let report = bench.pipeline.drill(&request).await;
    assert!(
        matches!(report.outcome, DrillOutcome::Restored { .. }),
        "{report:?}"
    );
}
