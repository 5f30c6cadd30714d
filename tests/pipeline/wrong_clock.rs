//! Wall clocks that are wrong by decades, either way: they label, and decide nothing that could lose data.

use std::{sync::Arc, time::Duration};

use chronik_snapshotd::{
    catalog::Sweeper,
    clock::{Clock, SystemClock},
    format::{FileName, Manifest},
    pipeline::RestoreOutcome,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::bench::{Bench, orders, snap_of};

/// A wall clock that stands where a test puts it; time that passes is real.
struct Stopped(Duration);

impl Clock for Stopped {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn wall(&self) -> Duration {
        self.0
    }

    fn new_uuid(&self) -> Uuid {
        SystemClock.new_uuid()
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

const EPOCH: Duration = Duration::ZERO;
/// The year 2200.
const FUTURE: Duration = Duration::from_secs(7_258_118_400);

/// A process beside the same broker and store whose wall clock says `wall`.
fn at(bench: &Bench, wall: Duration) -> Bench {
    let mut other = bench.another();
    let clock = Arc::new(Stopped(wall));
    other.pipeline.sweeper = Sweeper::new(clock.clone(), Duration::from_secs(3600));
    other.pipeline.clock = clock;
    other
}

async fn created_at(bench: &Bench, name: FileName) -> i64 {
    let store = bench.pipeline.catalog.store();
    let object = store.get(&bench.key(name), 1 << 20).await.unwrap();
    Manifest::decode(&object.bytes).unwrap().created_at_unix_ms
}

#[tokio::test]
async fn the_newest_is_what_ends_highest_whatever_the_clocks_said() {
    let bench = Bench::start().await;
    let future = at(&bench, FUTURE).snapshot().await;
    let past = at(&bench, EPOCH).snapshot().await;
    assert!(past.last_included > future.last_included);
    assert_eq!(created_at(&bench, FileName::Manifest(past)).await, 0);

    let (outcome, _) = bench.another().restore(0).await;
    let Ok(RestoreOutcome::Installed { last_included, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(last_included, past.last_included);

    // The log is cut on the one that ends highest, and that one stays: whoever's clock is asked.
    for wall in [EPOCH, FUTURE] {
        let report = at(&bench, wall)
            .visit(|request| request.may_delete = true)
            .await;
        assert!(report.error.is_none(), "{:?}", report.error);
        assert!(bench.exists(FileName::Proof(past)).await);
        assert!(bench.exists(FileName::Manifest(past)).await);
    }
    assert!(
        !bench.exists(FileName::Manifest(future)).await,
        "one is kept"
    );
    let script = bench.broker.script();
    let cuts: Vec<_> = script
        .compactions
        .iter()
        .map(|it| &it.snapshot_id)
        .collect();
    assert!(!cuts.is_empty());
    assert!(cuts.iter().all(|id| **id == past.to_string()), "{cuts:?}");
}

#[tokio::test]
async fn nothing_is_swept_for_being_old_by_a_clock() {
    let bench = Bench::start().await;
    let id = bench.snapshot().await;
    // Data that nobody names, as somebody leaves it who is about to commit it.
    bench.delete(FileName::Manifest(id)).await;
    bench.delete(FileName::Proof(id)).await;
    let snap = FileName::Snap(snap_of(id));
    for wall in [FUTURE, EPOCH] {
        let other = at(&bench, wall);
        for _ in 0..3 {
            let pipeline = &other.pipeline;
            let swept = pipeline.sweeper.sweep(&pipeline.catalog, &orders()).await;
            swept.unwrap();
        }
    }
    assert!(bench.exists(snap).await, "the grace is time that passes");
}
