//! What is written comes back.

use std::sync::Arc;

use chronik_snapshotd::{
    format::{Codec, Compression, PartHasher},
    pipeline::plane::{DataPlane, MemoryBudget, spot_check, write_blocks},
    store::StoreOptions,
};
use tokio_util::sync::CancellationToken;

use crate::{
    rig::{
        BLOCK, faulty, folder, frames, id, manifest, plane, plans, read, snapshot, target, verify,
    },
    support::{
        records::{Random, json_records},
        stores::backings,
    },
};

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
