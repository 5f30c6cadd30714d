//! Damage is found and named.

use std::sync::Arc;

use bytes::Bytes;
use chronik_snapshotd::{
    error::Kind,
    format::{Codec, Manifest},
    pipeline::plane::{ReadError, spot_check},
};

use crate::{
    rig::{BLOCK, faulty, folder, plane, read, snapshot, verify},
    support::records::json_records,
};

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
