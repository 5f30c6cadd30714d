//! What must hold of any manifest with any file. See [`crate::fuzzing`].

use std::{num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    DataPlane, Folder, MemoryBudget, Rates, RawChunk, Scope, Workers, read_blocks, verify_full,
};
use crate::{
    config::object_store::{Backend, ObjectStoreConfig},
    format::{Manifest, PartHasher},
    store::{NoObserver, Store, StoreError, StoreOptions},
};

/// Most raw bytes of a manifest that is tried, so that one input is cheap.
const TRIED_MAX_BYTES: u64 = 1 << 20;

/// A line with a manifest's content, then the bytes of its file. The blocks' checksums are made to fit, so that
/// damage gets as far as it can; the parts' digests are not.
///
/// Bytes that the reader delivers and does not take back with an error have the digests of the manifest, and a
/// snapshot that verifies can be read.
pub(crate) fn snapshot_file(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (content, snap) = (&data[..end], &data[end + 1..]);
    let Ok(mut manifest) = serde_json::from_slice::<Manifest>(content) else {
        return;
    };
    let cheap = manifest.raw_bytes() <= TRIED_MAX_BYTES && manifest.parts.len() < 100;
    if !cheap || manifest.validate().is_err() {
        return;
    }
    believe(&mut manifest, snap);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    if let Ok(runtime) = runtime {
        let read = runtime.block_on(read(Arc::new(manifest), Bytes::copy_from_slice(snap)));
        assert!(read.is_ok(), "a store in memory failed: {read:?}");
    }
}

fn believe(manifest: &mut Manifest, snap: &[u8]) {
    for block in manifest.parts.iter_mut().flat_map(|part| &mut part.blocks) {
        let range = usize::try_from(block.offset_bytes).unwrap_or(usize::MAX)
            ..usize::try_from(block.end_bytes()).unwrap_or(usize::MAX);
        if let Some(stored) = snap.get(range) {
            block.crc32 = crc32fast::hash(stored);
        }
    }
}

async fn read(manifest: Arc<Manifest>, snap: Bytes) -> Result<(), StoreError> {
    let config = ObjectStoreConfig {
        backend: Backend::Memory,
        prefix: String::new(),
    };
    let store = Store::open(&config, StoreOptions::default(), Arc::new(NoObserver))?;
    let folder = Folder {
        store,
        prefix: "t/0/".to_owned(),
    };
    for name in &manifest.references {
        folder.store.put(&folder.key(name)?, snap.clone()).await?;
    }
    let plane = DataPlane::new(
        MemoryBudget::new(64 << 20),
        Workers::inline(NonZeroUsize::MIN),
        Rates::default(),
    );
    let never = CancellationToken::new();
    let (sender, mut receiver) = mpsc::channel::<RawChunk>(4);
    let reading = read_blocks(&plane, &folder, &manifest, sender, &never);
    let receiving = async {
        let mut hashers = vec![PartHasher::new(); manifest.parts.len()];
        let mut last_part = 0;
        while let Some(chunk) = receiver.recv().await {
            assert!(chunk.part >= last_part, "parts out of order");
            last_part = chunk.part;
            hashers[chunk.part as usize].update(&chunk.data);
        }
        hashers
    };
    let (outcome, hashers) = tokio::join!(reading, receiving);
    let verified = verify_full(&plane, &folder, &manifest, Scope::All, &never).await;
    if let Ok(raw_bytes) = &outcome {
        assert_eq!(*raw_bytes, manifest.raw_bytes());
        for (part, hasher) in manifest.parts.iter().zip(&hashers) {
            assert_eq!(
                hasher.finish(),
                part.digest,
                "wrong bytes of {}",
                part.part_id
            );
        }
    }
    assert!(
        verified.is_err() || outcome.is_ok(),
        "verified and unreadable: {outcome:?}"
    );
    assert_given_back(&plane).await;
    Ok(())
}

/// Work that a failed run had begun ends soon after it, and so does its share of the budget.
async fn assert_given_back(plane: &DataPlane) {
    let in_use = || plane.restore_budget.in_use_bytes() + plane.budget.in_use_bytes();
    for _ in 0..1000 {
        if in_use() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} bytes of the budget are kept", in_use());
}
