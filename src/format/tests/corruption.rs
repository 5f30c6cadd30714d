//! Damage is found: every byte, every cut, every bomb.

use bytes::Bytes;

use super::{super::*, fixture};

/// Every single-bit and every whole-byte change of `good` is refused by `decode`.
fn every_flip_is_refused(good: &[u8], decode: impl Fn(&[u8]) -> bool) {
    assert!(decode(good), "the undamaged object is fine");
    for at in 0..good.len() {
        for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut bad = good.to_vec();
            bad[at] ^= change;
            assert!(
                !decode(&bad),
                "byte {at} changed by {change:#04x} was not seen"
            );
        }
    }
}

/// Every truncation and every added byte is refused by `decode`.
fn every_cut_is_refused(good: &[u8], decode: impl Fn(&[u8]) -> bool) {
    for end in 0..good.len() {
        assert!(!decode(&good[..end]), "cut at {end} was not seen");
    }
    for extra in [b'\n', b' ', b'0', 0] {
        let mut bad = good.to_vec();
        bad.push(extra);
        assert!(!decode(&bad), "extra byte {extra} was not seen");
    }
}

type Decode = fn(&[u8]) -> bool;

#[test]
fn any_flip_or_cut_of_a_json_object_is_refused() {
    let (manifest, snap) = fixture::example();
    let proof = fixture::proof_of(&manifest, &snap);
    let identity = Identity::first("prod-eu", 1).unwrap();
    let mark = fixture::quarantine_of(&manifest);
    let plan = fixture::plan_of(&manifest).encode().unwrap();
    let objects: [(Bytes, Decode); 5] = [
        (plan, |bytes| RestorePlan::decode(bytes).is_ok()),
        (manifest.encode(), |bytes| Manifest::decode(bytes).is_ok()),
        (proof.encode(), |bytes| Proof::decode(bytes).is_ok()),
        (identity.encode(), |bytes| Identity::decode(bytes).is_ok()),
        (mark.encode(), |bytes| Quarantine::decode(bytes).is_ok()),
    ];
    for (good, decode) in objects {
        every_flip_is_refused(&good, decode);
        every_cut_is_refused(&good, decode);
    }
}

#[test]
fn any_flip_or_cut_of_a_block_is_refused() {
    for codec in Codec::ALL {
        let (manifest, snap) =
            fixture::snapshot(codec, &[("p", true, b"some raw bytes, some raw bytes")]);
        let block = manifest.parts[0].blocks[0];
        let decode = |stored: &[u8]| {
            let stored = Bytes::copy_from_slice(stored);
            BlockDecoder::new(codec)
                .unwrap()
                .decode(&stored, &block)
                .is_ok()
        };
        every_flip_is_refused(&snap, decode);
        every_cut_is_refused(&snap, decode);
    }
}

/// A manifest entry that believes in `stored`, whatever it holds.
fn believer(stored: &[u8], raw_len_bytes: u32) -> BlockRef {
    BlockRef {
        file: 0,
        offset_bytes: 0,
        stored_len_bytes: u32::try_from(stored.len()).unwrap(),
        raw_len_bytes,
        crc32: crc32fast::hash(stored),
    }
}

fn stored(codec: Codec, raw: &[u8]) -> Bytes {
    let mut encoder = BlockEncoder::new(Compression::new(codec, None).unwrap()).unwrap();
    encoder.encode(&Bytes::copy_from_slice(raw)).unwrap().stored
}

#[test]
fn a_block_that_holds_more_or_less_than_promised_is_refused() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let bytes = stored(codec, &[7; 1000]);
        for promised in [0, 1, 999, 1001, BLOCK_MAX_BYTES] {
            let refused = BlockDecoder::new(codec)
                .unwrap()
                .decode(&bytes, &believer(&bytes, promised));
            let error = refused.unwrap_err();
            assert_eq!(
                error.kind(),
                crate::error::Kind::Corrupt,
                "{codec} {promised}: {error}"
            );
        }
    }
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    // 64 MiB of zeros in a few KiB, written by hand: the encoder refuses such a block.
    let raw = vec![0; 64 << 20];
    let mut gzip = vec![0; 1 << 20];
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::best());
    let len = compressor.gzip_compress(&raw, &mut gzip).unwrap();
    gzip.truncate(len);
    let zstd = zstd::bulk::compress(&raw, 19).unwrap();
    for (codec, bomb) in [(Codec::Gzip, gzip), (Codec::Zstd, zstd)] {
        let bomb = Bytes::from(bomb);
        assert!(bomb.len() < 128 << 10);
        let mut decoder = BlockDecoder::new(codec).unwrap();
        for promised in [0, 1000, BLOCK_MAX_BYTES] {
            assert!(decoder.decode(&bomb, &believer(&bomb, promised)).is_err());
        }
        let honest = decoder.decode(&bomb, &believer(&bomb, 64 << 20));
        assert!(matches!(honest, Err(FormatError::TooLarge { .. })));
    }
}

#[test]
fn two_members_in_one_block_are_refused() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let mut two = stored(codec, b"abc").to_vec();
        two.extend_from_slice(&stored(codec, b"def"));
        let two = Bytes::from(two);
        let mut decoder = BlockDecoder::new(codec).unwrap();
        assert!(decoder.decode(&two, &believer(&two, 6)).is_err(), "{codec}");
        assert!(decoder.decode(&two, &believer(&two, 3)).is_err(), "{codec}");
    }
}

#[test]
fn the_encoder_refuses_blocks_above_the_limit() {
    let raw = Bytes::from(vec![0; BLOCK_MAX_BYTES as usize + 1]);
    for codec in Codec::ALL {
        let mut encoder = BlockEncoder::new(Compression::new(codec, None).unwrap()).unwrap();
        assert!(matches!(
            encoder.encode(&raw),
            Err(FormatError::TooLarge { .. })
        ));
    }
}

#[test]
fn incompressible_blocks_stay_below_the_stored_limit() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let noise: Vec<u8> = (0..BLOCK_MAX_BYTES)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .collect();
    for codec in Codec::ALL {
        for level in [*codec.levels().start(), *codec.levels().end()] {
            let compression = Compression::new(codec, Some(level)).unwrap();
            let mut encoder = BlockEncoder::new(compression).unwrap();
            let block = encoder.encode(&Bytes::from(noise.clone())).unwrap();
            assert!(
                block.stored.len() <= BLOCK_STORED_MAX_BYTES as usize,
                "{codec} {level}"
            );
        }
    }
}

#[test]
fn objects_above_their_limits_are_refused_unread() {
    let too_long = vec![b' '; usize::try_from(IDENTITY_MAX_BYTES).unwrap() + 1];
    assert!(matches!(
        Identity::decode(&too_long),
        Err(FormatError::TooLarge { .. })
    ));
    assert!(matches!(
        Quarantine::decode(&too_long),
        Err(FormatError::TooLarge { .. })
    ));
}
