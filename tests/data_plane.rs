//! The data plane: raw parts into stored blocks and back.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod support;

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
    error::Kind,
    format::{
        BLOCK_MAX_BYTES, Codec, Compression, CreatedBy, FORMAT_VERSION, Manifest, PartHasher,
        SnapshotId,
    },
    pipeline::plane::{
        DataPlane, Folder, MemoryBudget, PartPlan, RateLimit, RawChunk, ReadError, Scope, Target,
        Workers, WriteError, Written, read_blocks, spot_check, verify_full, verify_stored,
        write_blocks,
    },
    raft::{ConfState, Lineage, LogId, TopicPartition},
    store::{NoObserver, Store, StoreOptions},
};
use futures::{Stream, StreamExt, stream};
use support::{
    faults::{Fault, Faults, Op},
    records::{Random, json_records},
    stores::backings,
};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const BLOCK: usize = BLOCK_MAX_BYTES as usize;

#[derive(Debug, Error)]
#[error("the broker hung up")]
struct HungUp;

fn plane() -> DataPlane {
    DataPlane::new(
        MemoryBudget::new(256 << 20),
        Workers::new(NonZeroUsize::new(3).unwrap()),
        RateLimit::new(None),
    )
}

fn folder(store: &Store) -> Folder {
    Folder {
        store: store.clone(),
        prefix: "snapshots/orders/7/".to_owned(),
    }
}

fn lineage() -> Lineage {
    Lineage::new("prod-eu", 1, "tq3Xk9").unwrap()
}

fn id(index: u64) -> SnapshotId {
    SnapshotId::new(
        LogId::new(3, index),
        &lineage(),
        Uuid::from_u128(u128::from(index)),
    )
}

fn target(store: &Store, index: u64) -> Target {
    Target {
        folder: folder(store),
        snapshot_id: id(index),
    }
}

fn manifest(index: u64, codec: Codec, written: Written) -> Manifest {
    Manifest {
        references: written.files,
        format_version: FORMAT_VERSION,
        snapshot_id: id(index),
        lineage: lineage(),
        partition: TopicPartition::new("orders", 7).unwrap(),
        last_included: LogId::new(3, index),
        conf_state: ConfState {
            voters: vec![1],
            ..ConfState::default()
        },
        state_codec: "test/1".to_owned(),
        created_at_unix_ms: 0,
        created_by: CreatedBy {
            broker_id: 1,
            version: "0".to_owned(),
        },
        codec,
        parts: written.parts,
    }
}

fn plans(parts: &[Vec<u8>]) -> Vec<PartPlan> {
    let plan = |(part, raw): (usize, &Vec<u8>)| PartPlan {
        part_id: format!("part-{part}"),
        sealed: true,
        size_bytes: raw.len() as u64,
        omitted: false,
    };
    parts.iter().enumerate().map(plan).collect()
}

/// The parts as a broker would send them: in order, in chunks, empty parts not at all.
fn frames(parts: &[Vec<u8>], chunk: usize) -> impl Stream<Item = Result<RawChunk, HungUp>> + use<> {
    let mut frames = Vec::new();
    for (part, raw) in parts.iter().enumerate() {
        for data in raw.chunks(chunk) {
            frames.push(Ok(RawChunk {
                part: u32::try_from(part).unwrap(),
                data: Bytes::copy_from_slice(data),
            }));
        }
    }
    stream::iter(frames)
}

async fn write(
    plane: &DataPlane,
    store: &Store,
    codec: Codec,
    parts: &[Vec<u8>],
) -> Result<Written, WriteError<HungUp>> {
    let compression = Compression::new(codec, None).unwrap();
    let cancel = CancellationToken::new();
    let frames = frames(parts, 1 << 20);
    write_blocks(
        plane,
        target(store, 10_000),
        compression,
        &plans(parts),
        frames,
        &cancel,
    )
    .await
}

/// Writes `parts` and gives a manifest that keeps every rule.
async fn snapshot(
    plane: &DataPlane,
    store: &Store,
    codec: Codec,
    parts: &[Vec<u8>],
) -> Arc<Manifest> {
    let written = write(plane, store, codec, parts).await.unwrap();
    let manifest = manifest(10_000, codec, written);
    manifest.seal().unwrap();
    Arc::new(manifest)
}

async fn read(
    plane: &DataPlane,
    store: &Store,
    manifest: &Arc<Manifest>,
) -> Result<Vec<Vec<u8>>, ReadError> {
    let (deliver, mut chunks) = mpsc::channel(2);
    let cancel = CancellationToken::new();
    let folder = folder(store);
    let collect = async {
        let mut parts = vec![Vec::new(); manifest.parts.len()];
        let mut last = 0;
        while let Some(RawChunk { part, data }) = chunks.recv().await {
            assert!(part >= last, "parts come in order");
            assert!(!data.is_empty() && data.len() <= 1 << 20);
            last = part;
            parts[part as usize].extend_from_slice(&data);
        }
        parts
    };
    let (read, parts) = tokio::join!(
        read_blocks(plane, &folder, manifest, deliver, &cancel),
        collect
    );
    let raw_bytes = read?;
    assert_eq!(raw_bytes, manifest.raw_bytes());
    Ok(parts)
}

async fn verify(store: &Store, manifest: &Arc<Manifest>, full: bool) -> Result<(), ReadError> {
    let (plane, cancel, folder) = (plane(), CancellationToken::new(), folder(store));
    if full {
        verify_full(&plane, &folder, manifest, Scope::New, &cancel).await?;
    } else {
        verify_stored(&plane, &folder, manifest, Scope::New, &cancel).await?;
    }
    Ok(())
}

async fn assert_empty(store: &Store) {
    assert_eq!(store.list("").await.unwrap(), [], "no object is left");
}

fn faulty() -> (Faults, Store) {
    faulty_with(StoreOptions::default())
}

fn faulty_with(options: StoreOptions) -> (Faults, Store) {
    let faults = Faults::in_memory();
    let store = Store::from_object_store(Arc::new(faults.clone()), options, Arc::new(NoObserver));
    (faults, store)
}

#[tokio::test]
async fn every_store_and_codec_gives_back_what_was_written() {
    let parts = [
        json_records(1, 9_000_000),
        Vec::new(),
        json_records(2, BLOCK),
        vec![7; 3],
    ];
    for backing in &backings(&StoreOptions::default()).await {
        for codec in Codec::ALL {
            let plane = plane();
            let manifest = snapshot(&plane, &backing.store, codec, &parts).await;
            assert_eq!(manifest.references.len(), 1, "{} {codec}", backing.name);
            for (part, raw) in manifest.parts.iter().zip(&parts) {
                let mut hasher = PartHasher::new();
                hasher.update(raw);
                assert_eq!(part.digest, hasher.finish(), "{} {codec}", backing.name);
                assert_eq!(part.blocks.len(), raw.len().div_ceil(BLOCK).max(1));
            }
            assert_eq!(
                read(&plane, &backing.store, &manifest).await.unwrap(),
                parts
            );
            verify(&backing.store, &manifest, false).await.unwrap();
            verify(&backing.store, &manifest, true).await.unwrap();
            for pick in 0..4 {
                spot_check(&folder(&backing.store), &manifest, pick)
                    .await
                    .unwrap();
            }
            let held = [&plane.budget, &plane.restore_budget].map(MemoryBudget::in_use_bytes);
            assert_eq!(held, [0, 0], "{} {codec}", backing.name);
        }
    }
}

#[tokio::test]
async fn any_parts_in_any_chunks_round_trip() {
    let mut random = Random::new(42);
    for round in 0..12 {
        let (_, store) = faulty();
        let parts: Vec<_> = (0..=random.below(6))
            .map(|part| {
                let len = match random.below(4) {
                    0 => 0,
                    1 => random.below(100),
                    2 => random.below(2_000_000),
                    _ => BLOCK as u64 - 2 + random.below(4),
                };
                json_records(round * 10 + part, usize::try_from(len).unwrap())
            })
            .collect();
        let codec = Codec::ALL[usize::try_from(round % 3).unwrap()];
        let chunk = usize::try_from(1 + random.below(1 << 20)).unwrap();
        let compression = Compression::new(codec, None).unwrap();
        let cancel = CancellationToken::new();
        let plans = plans(&parts);
        let frames = frames(&parts, chunk);
        let plane = plane();
        let written = write_blocks(
            &plane,
            target(&store, 10_000),
            compression,
            &plans,
            frames,
            &cancel,
        );
        let manifest = manifest(10_000, codec, written.await.unwrap());
        manifest.seal().unwrap();
        let manifest = Arc::new(manifest);
        assert_eq!(
            read(&plane, &store, &manifest).await.unwrap(),
            parts,
            "round {round}"
        );
    }
}

#[tokio::test]
async fn a_snapshot_goes_on_in_further_files() {
    let (_, store) = faulty();
    let plane = DataPlane {
        file_max_bytes: 9 << 20,
        ..plane()
    };
    let parts = [json_records(1, 3 * BLOCK), json_records(2, 3 * BLOCK)];
    let manifest = snapshot(&plane, &store, Codec::None, &parts).await;
    let id = id(10_000);
    let names = [
        format!("{id}.snap"),
        format!("{id}.1.snap"),
        format!("{id}.2.snap"),
    ];
    assert_eq!(manifest.references, names);
    assert_eq!(read(&plane, &store, &manifest).await.unwrap(), parts);
    verify(&store, &manifest, true).await.unwrap();
}

#[tokio::test]
async fn damage_is_named_by_file_block_and_rule() {
    let parts = [json_records(1, 3 * BLOCK), b"tail".to_vec()];
    for codec in Codec::ALL {
        let (_, store) = faulty();
        let manifest = snapshot(&plane(), &store, codec, &parts).await;
        let key = folder(&store).key(&manifest.references[0]).unwrap();
        let good = store.get(&key, u64::MAX).await.unwrap().bytes;
        let hit = manifest.parts[0].blocks[1];
        let mut flipped = good.to_vec();
        flipped[usize::try_from(hit.offset_bytes).unwrap() + 17] ^= 4;
        store.put(&key, Bytes::from(flipped)).await.unwrap();
        let errors = [
            read(&plane(), &store, &manifest).await.unwrap_err(),
            verify(&store, &manifest, false).await.unwrap_err(),
            verify(&store, &manifest, true).await.unwrap_err(),
            spot_check(&folder(&store), &manifest, 1).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), Kind::Corrupt, "{codec}");
            let ReadError::Block {
                file,
                part_id,
                block,
                offset_bytes,
                source,
            } = error
            else {
                panic!("{codec}: {error:?}");
            };
            assert_eq!(
                (file, part_id.as_str(), block),
                (manifest.references[0].clone(), "part-0", 1)
            );
            assert_eq!(offset_bytes, hit.offset_bytes);
            assert!(source.to_string().contains("CRC32"), "{source}");
        }

        for cut in [1, good.len() / 2, good.len()] {
            store
                .put(&key, good.slice(..good.len() - cut))
                .await
                .unwrap();
            for error in [
                read(&plane(), &store, &manifest).await.unwrap_err(),
                verify(&store, &manifest, false).await.unwrap_err(),
                spot_check(&folder(&store), &manifest, 0).await.unwrap_err(),
            ] {
                assert!(
                    matches!(error, ReadError::FileSize { .. }),
                    "{codec} {cut}: {error:?}"
                );
                assert_eq!(error.kind(), Kind::Corrupt);
            }
        }

        store.delete(&key).await.unwrap();
        for error in [
            read(&plane(), &store, &manifest).await.unwrap_err(),
            verify(&store, &manifest, true).await.unwrap_err(),
            spot_check(&folder(&store), &manifest, 0).await.unwrap_err(),
        ] {
            assert!(
                matches!(error, ReadError::Gone { .. }),
                "{codec}: {error:?}"
            );
            assert_eq!(error.kind(), Kind::Corrupt);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_longer_than_its_manifest_says_is_refused() {
    let (_, store) = faulty();
    let manifest = snapshot(&plane(), &store, Codec::Gzip, &[json_records(1, 1000)]).await;
    let key = folder(&store).key(&manifest.references[0]).unwrap();
    let mut longer = store.get(&key, u64::MAX).await.unwrap().bytes.to_vec();
    longer.push(0);
    store.put(&key, Bytes::from(longer)).await.unwrap();
    let error = verify(&store, &manifest, false).await.unwrap_err();
    assert!(matches!(error, ReadError::FileSize { .. }), "{error:?}");
}

#[tokio::test]
async fn only_full_verification_sees_what_the_encoder_did_wrong() {
    let (_, store) = faulty();
    let mut manifest =
        Manifest::clone(&*snapshot(&plane(), &store, Codec::Gzip, &[json_records(1, 1000)]).await);
    // An encoder's fault looks like this: sound stored bytes that are not the part's.
    manifest.parts[0].digest.xxh3_128 ^= 1;
    let manifest = Arc::new(manifest);
    verify(&store, &manifest, false).await.unwrap();
    let error = verify(&store, &manifest, true).await.unwrap_err();
    assert!(matches!(error, ReadError::Part { .. }), "{error:?}");
    let error = read(&plane(), &store, &manifest).await.unwrap_err();
    assert!(matches!(error, ReadError::Part { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Corrupt);
}

#[tokio::test]
async fn an_error_of_the_stream_aborts_the_upload() {
    // Small parts, so that the upload is under way when the stream ends.
    let options = StoreOptions {
        part_min_bytes: 64 << 10,
        part_max_bytes: 64 << 10,
        ..StoreOptions::default()
    };
    let (faults, store) = faulty_with(options);
    let parts = [json_records(1, 3 * BLOCK)];
    let frames = frames(&parts, 1 << 20)
        .take(9)
        .chain(stream::iter([Err(HungUp)]));
    let cancel = CancellationToken::new();
    let compression = Compression::default();
    let result = write_blocks(
        &plane(),
        target(&store, 1),
        compression,
        &plans(&parts),
        frames,
        &cancel,
    )
    .await;
    let error = result.unwrap_err();
    assert!(matches!(error, WriteError::Input(HungUp)), "{error:?}");
    assert_eq!(error.kind(|_| Kind::Unavailable), Kind::Unavailable);
    assert_eq!(
        faults.calls(Op::UploadCreate),
        faults.calls(Op::UploadAbort)
    );
    assert_empty(&store).await;
}

#[tokio::test]
async fn a_stream_that_does_not_fit_its_header_is_refused() {
    let (_, store) = faulty();
    let parts = [json_records(1, 1000), json_records(2, 500)];
    for sizes in [[999, 500], [1001, 500], [1000, 499], [1000, 501]] {
        let mut plans = plans(&parts);
        plans[0].size_bytes = sizes[0];
        plans[1].size_bytes = sizes[1];
        let cancel = CancellationToken::new();
        let frames = frames(&parts, 300);
        let result = write_blocks(
            &plane(),
            target(&store, 1),
            Compression::default(),
            &plans,
            frames,
            &cancel,
        )
        .await;
        let error = result.unwrap_err();
        assert!(
            matches!(error, WriteError::Format(_)),
            "{sizes:?}: {error:?}"
        );
        assert_eq!(error.kind(|HungUp| Kind::Unavailable), Kind::Invalid);
        assert_empty(&store).await;
    }
}

#[tokio::test]
async fn an_error_of_the_store_leaves_nothing() {
    for (op, skip) in [
        (Op::UploadCreate, 0),
        (Op::UploadPart, 1),
        (Op::UploadComplete, 0),
        (Op::Put, 0),
    ] {
        let small = op == Op::Put;
        let options = StoreOptions {
            part_min_bytes: if small { 8 << 20 } else { 64 << 10 },
            part_max_bytes: if small { 8 << 20 } else { 64 << 10 },
            ..StoreOptions::default()
        };
        for fault in [Fault::FailBefore, Fault::FailAfter] {
            if (op, fault) == (Op::UploadComplete, Fault::FailAfter) {
                continue; // It happened, and that is found out: a success.
            }
            let (faults, store) = faulty_with(options.clone());
            faults.plan(op, "", skip, 1, fault);
            let error = write(&plane(), &store, Codec::Gzip, &[json_records(1, 2 * BLOCK)])
                .await
                .unwrap_err();
            assert!(
                matches!(error, WriteError::Store(_)),
                "{op:?} {fault:?}: {error:?}"
            );
            assert_eq!(error.kind(|HungUp| Kind::Internal), Kind::Unavailable);
            assert_empty(&store).await;
        }
    }
}

#[tokio::test]
async fn a_failed_upload_takes_its_finished_files_with_it() {
    let (faults, store) = faulty();
    let plane = DataPlane {
        file_max_bytes: 5 << 20,
        ..plane()
    };
    faults.plan(Op::Put, ".2.snap", 0, 1, Fault::FailBefore);
    let error = write(&plane, &store, Codec::None, &[json_records(1, 3 * BLOCK)])
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::Store(_)), "{error:?}");
    assert_eq!(faults.calls(Op::Put), 3);
    assert_empty(&store).await;
}

#[tokio::test]
async fn cancellation_leaves_no_object() {
    let options = StoreOptions {
        part_min_bytes: 64 << 10,
        part_max_bytes: 64 << 10,
        ..StoreOptions::default()
    };
    for op in [Op::UploadCreate, Op::UploadPart, Op::UploadComplete] {
        let (faults, store) = faulty_with(options.clone());
        faults.plan(op, "", 0, 100, Fault::Stall);
        let (plane, cancel) = (plane(), CancellationToken::new());
        let parts = [json_records(1, 2 * BLOCK)];
        let plans = plans(&parts);
        let write = write_blocks(
            &plane,
            target(&store, 1),
            Compression::default(),
            &plans,
            frames(&parts, 1 << 20),
            &cancel,
        );
        let cancel_when_stalled = async {
            while faults.stalled() == 0 {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(write, cancel_when_stalled);
        assert!(
            matches!(result, Err(WriteError::Cancelled)),
            "{op:?}: {result:?}"
        );
        assert_empty(&store).await;
        if op != Op::UploadCreate {
            assert_eq!(faults.calls(Op::UploadAbort), 1, "{op:?}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_snapshot_never_starts() {
    let (faults, store) = faulty();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let parts = [json_records(1, 10)];
    let plans = plans(&parts);
    let frames = frames(&parts, 5);
    let result = write_blocks(
        &plane(),
        target(&store, 1),
        Compression::default(),
        &plans,
        frames,
        &cancel,
    )
    .await;
    assert!(matches!(result, Err(WriteError::Cancelled)));
    assert_eq!(faults.all_calls(), 0);
}

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

#[tokio::test]
async fn a_stalled_store_is_felt_by_the_stream_within_the_budget() {
    for codec in Codec::ALL {
        let (faults, store) = faulty();
        faults.plan(Op::UploadPart, "", 0, 1000, Fault::Stall);
        let plane = DataPlane {
            budget: MemoryBudget::new(64 << 20),
            workers: Workers::new(NonZeroUsize::new(2).unwrap()),
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
            // Until nothing has moved for a while.
            let mut before = u64::MAX;
            while before != taken.load(Ordering::Relaxed) || faults.stalled() == 0 {
                before = taken.load(Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let held = plane.budget.in_use_bytes();
            assert!(held <= 64 << 20, "{codec}: {held}");
            // Everything taken is still in memory, since nothing was acknowledged.
            assert!(before <= held, "{codec}: took {before}, reserved {held}");
            assert!(
                before >= 24 << 20,
                "{codec}: the pipeline fills up: {before}"
            );
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
        workers: Workers::new(NonZeroUsize::new(2).unwrap()),
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

#[tokio::test(start_paused = true)]
async fn the_upload_keeps_to_its_rate() {
    let (_, store) = faulty();
    let plane = DataPlane {
        upload_rate: RateLimit::new(NonZeroU64::new(1 << 20)),
        ..plane()
    };
    let start = tokio::time::Instant::now();
    write(&plane, &store, Codec::None, &[vec![1; 5 * BLOCK]])
        .await
        .unwrap();
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_secs(15), "{elapsed:?}");
    assert!(elapsed <= Duration::from_secs(21), "{elapsed:?}");
}

#[tokio::test]
async fn omitted_parts_stay_where_they_are() {
    let (faults, store) = faulty();
    let parts = [json_records(1, BLOCK + 9), json_records(2, 1000)];
    let earlier = snapshot(&plane(), &store, Codec::Gzip, &parts).await;

    // The next snapshot has part-0 already, and a new part-1 and part-2.
    let next = [parts[0].clone(), json_records(3, 2000), Vec::new()];
    let mut plans = plans(&next);
    plans[0].omitted = true;
    let sent = frames(&[Vec::new(), next[1].clone(), Vec::new()], 700);
    let cancel = CancellationToken::new();
    let plane = plane();
    let written = write_blocks(
        &plane,
        target(&store, 20_000),
        Compression::default(),
        &plans,
        sent,
        &cancel,
    );
    let written = written.await.unwrap();
    assert_eq!(written.raw_bytes, 2000);
    let mut fresh = written.parts.clone().into_iter();
    let mut manifest = manifest(
        20_000,
        Codec::Gzip,
        Written {
            parts: Vec::new(),
            ..written
        },
    );
    manifest.adopt(&earlier, &earlier.parts[0]).unwrap();
    manifest.parts.extend(&mut fresh);
    manifest.seal().unwrap();
    let manifest = Arc::new(manifest);
    assert_eq!(read(&plane, &store, &manifest).await.unwrap(), next);

    // Proving the new one reads its own bytes only, and looks at the old file.
    faults.plan(Op::Get, &earlier.references[0], 0, 1000, Fault::FailBefore);
    verify(&store, &manifest, true).await.unwrap();
    faults.heal();
    let old = folder(&store).key(&earlier.references[0]).unwrap();
    store.delete(&old).await.unwrap();
    let error = verify(&store, &manifest, true).await.unwrap_err();
    assert!(matches!(error, ReadError::Gone { .. }), "{error:?}");
}

#[tokio::test]
async fn a_snapshot_of_omitted_parts_only_writes_no_file() {
    let (faults, store) = faulty();
    let mut plans = plans(&[vec![1; 10]]);
    plans[0].omitted = true;
    let cancel = CancellationToken::new();
    let frames = stream::empty::<Result<_, HungUp>>();
    let plane = plane();
    let written = write_blocks(
        &plane,
        target(&store, 1),
        Compression::default(),
        &plans,
        frames,
        &cancel,
    );
    let written = written.await.unwrap();
    assert_eq!(
        (
            written.files.len(),
            written.parts.len(),
            written.stored_bytes
        ),
        (0, 0, 0)
    );
    assert_eq!(faults.all_calls(), 0);
}

#[tokio::test]
async fn reading_asks_in_large_ranges() {
    let (faults, store) = faulty();
    let small: Vec<_> = (0..200).map(|part| json_records(part, 50_000)).collect();
    let manifest = snapshot(&plane(), &store, Codec::Gzip, &small).await;
    assert_eq!(read(&plane(), &store, &manifest).await.unwrap(), small);
    assert_eq!(
        faults.calls(Op::Get),
        1,
        "200 blocks of 200 parts in one range"
    );

    let (faults, store) = faulty();
    let manifest = snapshot(&plane(), &store, Codec::None, &[vec![5; 10 * BLOCK]]).await;
    read(&plane(), &store, &manifest).await.unwrap();
    assert_eq!(faults.calls(Op::Get), 10, "blocks of 4 MiB one by one");
}

#[tokio::test]
async fn a_slow_receiver_is_felt_by_the_store() {
    let (faults, store) = faulty();
    let manifest = snapshot(&plane(), &store, Codec::None, &[vec![5; 40 * BLOCK]]).await;
    let (deliver, mut chunks) = mpsc::channel(1);
    let (plane, cancel, folder) = (plane(), CancellationToken::new(), folder(&store));
    let read = read_blocks(&plane, &folder, &manifest, deliver, &cancel);
    let look = async {
        chunks.recv().await.unwrap();
        let mut before = 0;
        while before != faults.calls(Op::Get) {
            before = faults.calls(Op::Get);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(before <= 10, "{before} of 40 ranges were asked for");
        drop(chunks);
    };
    let (result, ()) = tokio::join!(read, look);
    assert!(matches!(result, Err(ReadError::ReceiverGone)), "{result:?}");
}

#[tokio::test]
async fn reading_stops_when_cancelled() {
    let (faults, store) = faulty();
    let manifest = snapshot(&plane(), &store, Codec::Gzip, &[json_records(1, 1000)]).await;
    faults.plan(Op::Get, "", 0, 100, Fault::Stall);
    let (deliver, _chunks) = mpsc::channel(1);
    let (plane, cancel, folder) = (plane(), CancellationToken::new(), folder(&store));
    let read = read_blocks(&plane, &folder, &manifest, deliver, &cancel);
    let stop = async {
        while faults.stalled() == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(read, stop);
    assert!(matches!(result, Err(ReadError::Cancelled)));
}

#[tokio::test]
async fn a_store_that_fails_while_reading_is_not_damage() {
    let (faults, store) = faulty();
    let manifest = snapshot(&plane(), &store, Codec::Gzip, &[json_records(1, 1000)]).await;
    faults.plan(Op::Get, "", 0, 2, Fault::FailBefore);
    let error = read(&plane(), &store, &manifest).await.unwrap_err();
    assert!(matches!(error, ReadError::Store { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Unavailable);
    faults.plan(Op::Head, "", 0, 1, Fault::FailBefore);
    let error = verify(&store, &manifest, false).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}
