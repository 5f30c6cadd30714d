//! Memory and bandwidth have limits, and everybody gets through.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chronik_snapshotd::{
    format::{Codec, Compression},
    pipeline::plane::{
        DataPlane, MemoryBudget, PartPlan, RateLimit, Rates, RawChunk, Workers, WriteError,
        write_blocks,
    },
};
use futures::{Stream, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    rig::{
        BLOCK, HungUp, assert_empty, faulty, frames, plane, plans, read, snapshot, target, write,
    },
    support::{
        faults::{Fault, Op},
        records::{Random, json_records},
    },
};

/// An endless stream of noise that counts what was taken from it.
fn noise(taken: &Arc<AtomicU64>) -> impl Stream<Item = Result<RawChunk, HungUp>> + use<> {
    let mut random = Random::new(7);
    let chunk: Bytes = (0..1 << 20)
        .map(|_| random.next().to_be_bytes()[3])
        .collect();
    let taken = Arc::clone(taken);
    stream::repeat_with(move || {
        taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        let data = chunk.clone();
        Ok(RawChunk { part: 0, data })
    })
}

/// What the pipeline takes at least before it waits, bytes.
const FULL: u64 = 24 << 20;

#[tokio::test]
async fn a_stalled_store_is_felt_by_the_stream_within_the_budget() {
    for codec in Codec::ALL {
        let (faults, store) = faulty();
        faults.plan(Op::UploadPart, "", 0, 1000, Fault::Stall);
        let plane = DataPlane {
            budget: MemoryBudget::new(64 << 20),
            workers: Workers::new(NonZeroUsize::new(2).unwrap()).unwrap(),
            ..plane()
        };
        let taken = Arc::new(AtomicU64::new(0));
        let plan = PartPlan {
            part_id: "p".to_owned(),
            sealed: false,
            size_bytes: 1 << 30,
            omitted: false,
        };
        let (plans, cancel) = ([plan], CancellationToken::new());
        let compression = Compression::new(codec, None).unwrap();
        let write = write_blocks(
            &plane,
            target(&store, 1),
            compression,
            &plans,
            noise(&taken),
            &cancel,
        );
        let watch = async {
            // Until the pipeline is full and nothing has moved for a while.
            let (mut before, mut moves) = (u64::MAX, true);
            let patience = Instant::now() + Duration::from_mins(1);
            while (moves || before < FULL || faults.stalled() == 0) && Instant::now() < patience {
                before = taken.load(Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(300)).await;
                moves = before != taken.load(Ordering::Relaxed);
            }
            let held = plane.budget.in_use_bytes();
            assert!(held <= 64 << 20, "{codec}: {held}");
            // Everything taken is still in memory, since nothing was acknowledged.
            assert!(before <= held, "{codec}: took {before}, reserved {held}");
            assert!(before >= FULL, "{codec}: the pipeline fills up: {before}");
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(write, watch);
        assert!(matches!(result, Err(WriteError::Cancelled)));
        drop(result);
        while plane.budget.in_use_bytes() > 0 {
            tokio::task::yield_now().await;
        }
        assert_empty(&store).await;
    }
}

#[tokio::test]
async fn snapshots_share_one_budget_and_all_finish() {
    let (_, store) = faulty();
    let plane = DataPlane {
        budget: MemoryBudget::new(16 << 20),
        ..plane()
    };
    let parts = [json_records(1, 3 * BLOCK)];
    let plans = plans(&parts);
    let cancel = CancellationToken::new();
    let writes = (1..=4).map(|index| {
        let target = target(&store, index);
        write_blocks(
            &plane,
            target,
            Compression::default(),
            &plans,
            frames(&parts, 1 << 20),
            &cancel,
        )
    });
    for result in futures::future::join_all(writes).await {
        result.unwrap();
    }
    assert_eq!(plane.budget.in_use_bytes(), 0);
    assert_eq!(store.list("").await.unwrap().len(), 4);
}

#[tokio::test]
async fn two_large_snapshots_run_side_by_side_and_a_restore_beside_them() {
    let (faults, store) = faulty();
    let parts = [json_records(1, 2 * BLOCK)];
    let manifest = snapshot(&plane(), &store, Codec::Gzip, &parts).await;
    let plane = DataPlane {
        budget: MemoryBudget::new(128 << 20),
        workers: Workers::new(NonZeroUsize::new(2).unwrap()).unwrap(),
        ..plane()
    };
    faults.plan(Op::UploadPart, "", 0, 1000, Fault::Stall);
    let plans = [PartPlan {
        part_id: "p".to_owned(),
        sealed: false,
        size_bytes: 1 << 30,
        omitted: false,
    }];
    let cancel = CancellationToken::new();
    let taken: Vec<_> = (0..2).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let writes = (1..).zip(&taken).map(|(index, taken)| {
        let target = target(&store, index);
        write_blocks(
            &plane,
            target,
            Compression::default(),
            &plans,
            noise(taken),
            &cancel,
        )
    });
    let look = async {
        while faults.stalled() < 6 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            taken
                .iter()
                .all(|taken| taken.load(Ordering::Relaxed) > 20 << 20)
        );
        assert!(plane.budget.in_use_bytes() > 110 << 20);
        assert_eq!(read(&plane, &store, &manifest).await.unwrap(), parts);
        cancel.cancel();
    };
    let (results, ()) = tokio::join!(futures::future::join_all(writes), look);
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Err(WriteError::Cancelled)))
    );
}

#[tokio::test]
async fn a_tiny_budget_makes_it_slow_not_impossible() {
    let (_, store) = faulty();
    let tiny = DataPlane {
        budget: MemoryBudget::new(1),
        restore_budget: MemoryBudget::new(1),
        ..plane()
    };
    let parts = [json_records(1, 5 * BLOCK), json_records(2, 10)];
    let manifest = snapshot(&tiny, &store, Codec::Gzip, &parts).await;
    assert_eq!(read(&tiny, &store, &manifest).await.unwrap(), parts);
}

/// Seconds on the clock that pass while five blocks are written as they are.
async fn seconds_to_write_five_blocks(rates: Rates) -> f64 {
    let (_, store) = faulty();
    let plane = DataPlane {
        rates,
        // The clock of a test stands still only while its own runtime works.
        workers: Workers::inline(NonZeroUsize::MIN),
        ..plane()
    };
    let start = Instant::now();
    write(&plane, &store, Codec::None, &[vec![1; 5 * BLOCK]])
        .await
        .unwrap();
    start.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn export_pace_and_upload_keep_to_their_rates() {
    let mib_per_sec = || RateLimit::new(NonZeroU64::new(1 << 20));
    let upload = Rates {
        upload: mib_per_sec(),
        ..Rates::default()
    };
    let seconds = seconds_to_write_five_blocks(upload).await;
    assert!((15.0..=21.0).contains(&seconds), "{seconds}");
    let export = Rates {
        export: mib_per_sec(),
        ..Rates::default()
    };
    let seconds = seconds_to_write_five_blocks(export).await;
    assert!((15.0..=21.0).contains(&seconds), "{seconds}");
    let pace = Rates {
        pace: mib_per_sec(),
        ..Rates::default()
    };
    let seconds = seconds_to_write_five_blocks(pace).await;
    assert!((15.0..=21.0).contains(&seconds), "{seconds}");
}
