//! Snapshots of any parts, written and read back.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use chronik_snapshotd::{
    format::{
        BLOCK_MAX_BYTES, Codec, Compression, CreatedBy, FORMAT_VERSION, Manifest, SnapshotId,
    },
    pipeline::plane::{
        DataPlane, Folder, MemoryBudget, PartPlan, Rates, RawChunk, ReadError, Scope, Target,
        Workers, WriteError, Written, read_blocks, verify_full, verify_stored, write_blocks,
    },
    raft::{ConfState, Lineage, LogId, TopicPartition},
    store::{NoObserver, Store, StoreOptions},
};
use futures::{Stream, stream};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::faults::Faults;

pub const BLOCK: usize = BLOCK_MAX_BYTES as usize;

#[derive(Debug, Error)]
#[error("the broker hung up")]
pub struct HungUp;

pub fn plane() -> DataPlane {
    DataPlane::new(
        MemoryBudget::new(256 << 20),
        Workers::new(NonZeroUsize::new(3).unwrap()).unwrap(),
        Rates::default(),
    )
}

pub fn folder(store: &Store) -> Folder {
    Folder {
        store: store.clone(),
        prefix: "snapshots/orders/7/".to_owned(),
    }
}

pub fn lineage() -> Lineage {
    Lineage::new("prod-eu", 1, "tq3Xk9").unwrap()
}

pub fn id(index: u64) -> SnapshotId {
    SnapshotId::new(
        LogId::new(3, index),
        &lineage(),
        Uuid::from_u128(u128::from(index)),
    )
}

pub fn target(store: &Store, index: u64) -> Target {
    Target {
        folder: folder(store),
        snapshot_id: id(index),
    }
}

pub fn manifest(index: u64, codec: Codec, written: Written) -> Manifest {
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
        increment: 0,
        parts: written.parts,
    }
}

pub fn plans(parts: &[Vec<u8>]) -> Vec<PartPlan> {
    let plan = |(part, raw): (usize, &Vec<u8>)| PartPlan {
        part_id: format!("part-{part}"),
        sealed: true,
        size_bytes: raw.len() as u64,
        omitted: false,
    };
    parts.iter().enumerate().map(plan).collect()
}

/// The parts as a broker would send them: in order, in chunks, empty parts not at all.
pub fn frames(
    parts: &[Vec<u8>],
    chunk: usize,
) -> impl Stream<Item = Result<RawChunk, HungUp>> + use<> {
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

pub async fn write(
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
pub async fn snapshot(
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

pub async fn read(
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

pub async fn verify(store: &Store, manifest: &Arc<Manifest>, full: bool) -> Result<(), ReadError> {
    let (plane, cancel, folder) = (plane(), CancellationToken::new(), folder(store));
    if full {
        verify_full(&plane, &folder, manifest, Scope::New, &cancel).await?;
    } else {
        verify_stored(&plane, &folder, manifest, Scope::New, &cancel).await?;
    }
    Ok(())
}

pub async fn assert_empty(store: &Store) {
    assert_eq!(store.list("").await.unwrap(), [], "no object is left");
}

pub fn faulty() -> (Faults, Store) {
    faulty_with(StoreOptions::default())
}

pub fn faulty_with(options: StoreOptions) -> (Faults, Store) {
    let faults = Faults::in_memory();
    let store = Store::from_object_store(Arc::new(faults.clone()), options, Arc::new(NoObserver));
    (faults, store)
}
