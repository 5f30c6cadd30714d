//! Memory stays flat while a gigabyte goes through. Alone in its process, so the peak is its own.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod support;

use std::{convert::Infallible, num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use chronik_snapshotd::{
    config::object_store::Backend,
    format::{Compression, CreatedBy, FORMAT_VERSION, Manifest, SnapshotId},
    pipeline::plane::{
        DataPlane, Folder, MemoryBudget, PartPlan, Rates, RawChunk, Scope, Target, Workers,
        read_blocks, verify_full, write_blocks,
    },
    raft::{ConfState, Lineage, LogId, TopicPartition},
    store::StoreOptions,
};
use futures::stream;
use support::{records::json_records, stores::open};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const TOTAL_BYTES: u64 = 1 << 30;
/// One snapshot, its verification or one restore, beside this test's own few MiB.
const PEAK_MAX_KIB: u64 = 96 << 10;

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_goes_through_in_flat_memory() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_path_buf();
    let store = open(Backend::Local { root }, StoreOptions::default());
    let plane = DataPlane::new(
        MemoryBudget::new(64 << 20),
        Workers::new(NonZeroUsize::new(2).unwrap()).unwrap(),
        Rates::default(),
    );
    let lineage = Lineage::new("c", 1, "t").unwrap();
    let last_included = LogId::new(1, 1);
    let snapshot_id = SnapshotId::new(last_included, &lineage, Uuid::from_u128(1));
    let folder = Folder {
        store,
        prefix: "t/0/".to_owned(),
    };
    let cancel = CancellationToken::new();
    let plans = [PartPlan {
        part_id: "state".to_owned(),
        sealed: false,
        size_bytes: TOTAL_BYTES,
        omitted: false,
    }];
    let record: Bytes = json_records(1, 8 << 20).into();
    let frames = (0..TOTAL_BYTES >> 20).map(|chunk| {
        let start = usize::try_from(chunk % 8).unwrap() << 20;
        // A copy, as the network would make it.
        let data = Bytes::copy_from_slice(&record[start..start + (1 << 20)]);
        Ok::<_, Infallible>(RawChunk { part: 0, data })
    });
    let target = Target {
        folder: folder.clone(),
        snapshot_id,
    };
    let compression = Compression::default();
    let written = write_blocks(
        &plane,
        target,
        compression,
        &plans,
        stream::iter(frames),
        &cancel,
    )
    .await
    .unwrap();
    let after_write = peak_kib();
    assert!(
        after_write < PEAK_MAX_KIB,
        "peak {after_write} KiB after writing"
    );

    let manifest = Arc::new(Manifest {
        references: written.files,
        format_version: FORMAT_VERSION,
        snapshot_id,
        lineage,
        partition: TopicPartition::new("t", 0).unwrap(),
        last_included,
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
        codec: compression.codec(),
        increment: 0,
        parts: written.parts,
    });
    verify_full(&plane, &folder, &manifest, Scope::New, &cancel)
        .await
        .unwrap();
    let (deliver, mut chunks) = mpsc::channel(4);
    let (read, received_bytes) = tokio::join!(
        read_blocks(&plane, &folder, &manifest, deliver, &cancel),
        async {
            let mut received_bytes = 0;
            while let Some(chunk) = chunks.recv().await {
                received_bytes += chunk.data.len() as u64;
            }
            received_bytes
        }
    );
    assert_eq!((read.unwrap(), received_bytes), (TOTAL_BYTES, TOTAL_BYTES));
    let after_read = peak_kib();
    println!("peak {after_write} KiB after writing, {after_read} KiB after reading twice");
    assert!(
        after_read < PEAK_MAX_KIB,
        "peak {after_read} KiB after reading"
    );
}
