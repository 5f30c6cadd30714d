//! What is written is read.

use bytes::Bytes;
use proptest::prelude::*;

use super::{super::*, fixture};
use crate::policy::VerifyLevel;

fn codecs() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

proptest! {
    #[test]
    fn blocks_round_trip(codec in codecs(), raw in prop::collection::vec(any::<u8>(), 0..5000), level in 1..9) {
        let level = if codec == Codec::None { 0 } else { level };
        let mut encoder = BlockEncoder::new(Compression::new(codec, Some(level)).unwrap()).unwrap();
        let raw = Bytes::from(raw);
        let encoded = encoder.encode(&raw).unwrap();
        prop_assert_eq!(crc32fast::hash(&encoded.stored), encoded.crc32);
        let block = BlockRef {
            file: 0,
            offset_bytes: 0,
            stored_len_bytes: u32::try_from(encoded.stored.len()).unwrap(),
            raw_len_bytes: encoded.raw_len_bytes,
            crc32: encoded.crc32,
        };
        let decoded = BlockDecoder::new(codec).unwrap().decode(&encoded.stored, &block).unwrap();
        prop_assert_eq!(decoded, raw);
    }

    #[test]
    fn manifests_round_trip(
        codec in codecs(),
        parts in prop::collection::btree_map(
            "[A-Za-z0-9._-]{1,64}", (any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 1..8,
        ),
        voters in prop::collection::btree_set(1_u64.., 1..9),
        state_codec in "[!-~]{1,64}",
        created_at_unix_ms in 0_i64..,
        broker_id: i32,
    ) {
        let parts: Vec<_> = parts.iter().map(|(id, (sealed, raw))| (id.as_str(), *sealed, raw.as_slice())).collect();
        let (mut manifest, _) = fixture::snapshot(codec, &parts);
        manifest.conf_state.voters = voters.into_iter().collect();
        manifest.state_codec = state_codec;
        manifest.created_at_unix_ms = created_at_unix_ms;
        manifest.created_by.broker_id = broker_id;
        let (bytes, digest) = manifest.seal().unwrap();
        prop_assert_eq!(&manifest.encode(), &bytes);
        prop_assert_eq!(ManifestDigest::of(&bytes), digest);
        prop_assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
    }

    #[test]
    fn proofs_and_marks_round_trip(stored: bool, size_bytes: u64, reason in "\\PC{0,1200}") {
        let (manifest, snap) = fixture::example();
        let mut proof = fixture::proof_of(&manifest, &snap);
        proof.verify = if stored { VerifyLevel::Stored } else { VerifyLevel::Full };
        proof.objects[0].size_bytes = size_bytes;
        prop_assert_eq!(&Proof::decode(&proof.encode()).unwrap(), &proof);
        let digest = ManifestDigest::of(&manifest.encode());
        prop_assert!(proof.covers(manifest.snapshot_id, digest));
        prop_assert!(!proof.covers(manifest.snapshot_id, ManifestDigest(digest.0 ^ 1)));
        let mark = Quarantine::new(manifest.snapshot_id, digest, &reason, 5, fixture::by());
        prop_assert_eq!(Quarantine::decode(&mark.encode()).unwrap(), mark);
    }

    #[test]
    fn digests_do_not_depend_on_the_cutting(raw in prop::collection::vec(any::<u8>(), 0..3000), cut in 1_usize..700) {
        let mut pieces = PartHasher::new();
        raw.chunks(cut).for_each(|piece| pieces.update(piece));
        let found = pieces.finish();
        prop_assert_eq!(found.size_bytes, raw.len() as u64);
        prop_assert_eq!(found.crc32, crc32fast::hash(&raw));
        prop_assert_eq!(found.xxh3_128, xxhash_rust::xxh3::xxh3_128(&raw));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Manifest::decode(&bytes).is_err());
        prop_assert!(Proof::decode(&bytes).is_err());
        prop_assert!(Identity::decode(&bytes).is_err());
        let stored = Bytes::from(bytes);
        for codec in [Codec::Gzip, Codec::Zstd] {
            let block = BlockRef {
                file: 0,
                offset_bytes: 0,
                stored_len_bytes: u32::try_from(stored.len()).unwrap(),
                raw_len_bytes: 100,
                crc32: crc32fast::hash(&stored),
            };
            prop_assert!(BlockDecoder::new(codec).unwrap().decode(&stored, &block).is_err());
        }
    }
}

#[test]
fn identities_of_one_cluster_are_one_object_and_of_two_clusters_two() {
    let first = Identity::first("prod-eu", 1).unwrap();
    assert_eq!(
        first.encode(),
        Identity::first("prod-eu", 1).unwrap().encode()
    );
    for other in [
        Identity::first("prod-us", 1).unwrap(),
        Identity::first("prod-eu", 2).unwrap(),
    ] {
        assert_ne!(other.file_name(), first.file_name());
    }
    let (incarnation, uuid) = Identity::parse_file_name(&first.file_name()).unwrap();
    assert_eq!((incarnation, uuid), (1, first.restore_uuid));
    assert!(Identity::parse_file_name("1-67e55044-10b1-426f-9247-bb680e5fe0c8.json").is_err());
    assert!(Identity::first("", 1).is_err() && Identity::first("c", 0).is_err());
}

#[test]
fn a_proof_names_each_file_once() {
    let (manifest, snap) = fixture::example();
    let mut proof = fixture::proof_of(&manifest, &snap);
    proof.objects.push(proof.objects[0].clone());
    assert!(Proof::decode(&proof.encode()).is_err());
    proof.objects.clear();
    assert!(Proof::decode(&proof.encode()).is_err());
}
