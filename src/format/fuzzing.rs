//! What must hold of any bytes that are read as objects of the format. See [`crate::fuzzing`].

use std::{collections::HashSet, io::Read as _};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    BLOCK_MAX_BYTES, BlockDecoder, BlockEncoder, BlockRef, BlockSplitter, CONF_MEMBERS_MAX, Codec,
    Compression, Decoded, ExpectedPart, FileName, FormatError, Identity, Manifest, PartHasher,
    Proof, Quarantine, SnapshotId, decode_topic, encode_topic, envelope,
};
use crate::raft::{ConfState, TopicPartition};

/// Longest block that is tried, so that one input is cheap.
const TRIED_MAX_BYTES: u32 = 64 << 10;

/// A manifest that parses writes the bytes it was read from, and keeps every rule.
pub(crate) fn manifest(data: &[u8]) {
    let decoded = |bytes: &[u8]| Manifest::decode(bytes).ok();
    let Some(manifest) = strict_object(data, decoded, Manifest::encode) else {
        return;
    };
    let named = Manifest::decode_named(&manifest.encode(), manifest.snapshot_id);
    assert!(named.is_ok(), "it is the manifest of its own id");
    assert!(manifest.seal().is_ok(), "what can be read can be written");
    assert_position(&manifest);
    assert_conf_state(&manifest.conf_state);
    assert_parts(&manifest);
    assert_files(&manifest);
}

/// The other JSON objects, and the names of objects.
pub(crate) fn objects(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind % 4 {
        0 => {
            let decoded = |bytes: &[u8]| Proof::decode(bytes).ok();
            if let Some(proof) = strict_object(data, decoded, Proof::encode) {
                let names: HashSet<_> = proof.objects.iter().map(|it| &it.name).collect();
                assert!(!names.is_empty() && names.len() == proof.objects.len());
                assert!(proof.covers(proof.snapshot_id, proof.manifest_digest));
            }
        }
        1 => {
            let decoded = |bytes: &[u8]| Identity::decode(bytes).ok();
            if let Some(identity) = strict_object(data, decoded, Identity::encode) {
                assert!(identity.incarnation > 0 && !identity.cluster_id.is_empty());
                let parsed = Identity::parse_file_name(&identity.file_name());
                assert_eq!(
                    parsed.ok(),
                    Some((identity.incarnation, identity.restore_uuid))
                );
            }
        }
        2 => {
            let decoded = |bytes: &[u8]| Quarantine::decode(bytes).ok();
            if let Some(mark) = strict_object(data, decoded, Quarantine::encode) {
                assert!(!mark.reason.is_empty() && !mark.reason.contains('\n'));
            }
        }
        _ => names(&String::from_utf8_lossy(data)),
    }
}

/// Names are read in one spelling only.
fn names(text: &str) {
    if let Ok(name) = text.parse::<FileName>() {
        assert_eq!(name.to_string(), text);
        assert!(!text.contains('/'), "a name leaves its folder");
    }
    if let Ok(id) = text.parse::<SnapshotId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok((incarnation, uuid)) = Identity::parse_file_name(text) {
        assert_eq!(format!("{incarnation:010}-{uuid}.json"), text);
    }
    if let Ok(topic) = decode_topic(text) {
        assert_eq!(encode_topic(&topic), text);
    }
    if let Ok(partition) = text.parse::<TopicPartition>() {
        assert_eq!(partition.to_string().parse().as_ref(), Ok(&partition));
        assert!(i32::try_from(partition.partition).is_ok());
    }
    let folder = encode_topic(text);
    assert!(!folder.contains(['/', '@']) && folder != "." && folder != "..");
    assert_eq!(decode_topic(&folder).ok().as_deref(), Some(text));
}

/// Reads `data` as an object, and as the content of one whose checksum line is right. What is accepted is returned;
/// it is what it was read from, byte for byte.
fn strict_object<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    data: &[u8],
    decode: impl Fn(&[u8]) -> Option<T>,
    encode: impl Fn(&T) -> Bytes,
) -> Option<T> {
    if let Some(value) = decode(data) {
        assert_eq!(&encode(&value)[..], data, "read from what is not written");
    }
    let content = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // Without this, no change of the content would get past the checksum and the canonical form.
    let loose: T = serde_json::from_slice(content).ok()?;
    let object = envelope::seal(&loose);
    let value = decode(&object)?;
    assert_eq!(value, loose, "read other than written");
    assert_eq!(encode(&value), object, "not the same bytes twice");
    Some(value)
}

fn assert_position(manifest: &Manifest) {
    let Manifest {
        last_included,
        snapshot_id,
        lineage,
        partition,
        ..
    } = manifest;
    assert!(last_included.index > 0 && last_included.term > 0);
    assert_eq!(snapshot_id.last_included, *last_included);
    assert_eq!(snapshot_id.lineage_hash, lineage.short_hash());
    assert!(lineage.incarnation > 0 && !partition.topic.is_empty());
}

/// Somebody can vote, nobody is listed twice in a role, and nobody is peer 0.
pub(crate) fn assert_conf_state(conf: &ConfState) {
    assert!(!conf.voters.is_empty(), "nobody votes");
    let roles = [
        &conf.voters,
        &conf.learners,
        &conf.voters_outgoing,
        &conf.learners_next,
    ];
    for peers in roles {
        let distinct: HashSet<_> = peers.iter().collect();
        assert_eq!(distinct.len(), peers.len(), "a peer twice: {peers:?}");
        assert!(!distinct.contains(&0), "peer 0");
        assert!(peers.len() <= CONF_MEMBERS_MAX);
    }
    let votes = |peer: &&u64| conf.voters.contains(peer) || conf.voters_outgoing.contains(peer);
    assert_eq!(
        conf.learners.iter().find(votes),
        None,
        "a learner that votes"
    );
}

fn assert_parts(manifest: &Manifest) {
    let ids: HashSet<_> = manifest.parts.iter().map(|part| &part.part_id).collect();
    assert!(!ids.is_empty() && ids.len() == manifest.parts.len());
    let mut raw_bytes = 0_u64;
    for part in &manifest.parts {
        assert!(!part.blocks.is_empty(), "a part without blocks");
        let sizes = part
            .blocks
            .iter()
            .map(|block| u64::from(block.raw_len_bytes));
        assert_eq!(sizes.sum::<u64>(), part.digest.size_bytes);
        assert!(
            part.blocks
                .iter()
                .all(|it| it.raw_len_bytes <= BLOCK_MAX_BYTES)
        );
        raw_bytes += part.digest.size_bytes;
    }
    assert_eq!(manifest.raw_bytes(), raw_bytes);
}

/// No byte of a file belongs to two blocks, and an own file has no byte that belongs to none.
fn assert_files(manifest: &Manifest) {
    let extents = manifest.file_extents();
    assert_eq!(extents.len(), manifest.references.len());
    for (number, extent) in (0_u32..).zip(&extents) {
        let all = manifest.parts.iter().flat_map(|part| &part.blocks);
        let mut ranges: Vec<(u64, u64)> = all
            .filter(|block| block.file == number)
            .map(|block| {
                let end = block
                    .offset_bytes
                    .checked_add(u64::from(block.stored_len_bytes));
                assert!(end.is_some(), "a block beyond the end of any file");
                (block.offset_bytes, end.unwrap_or_default())
            })
            .collect();
        ranges.sort_unstable();
        assert!(!ranges.is_empty(), "a reference that nothing uses");
        assert!(
            ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "an overlap"
        );
        assert_eq!(ranges.last().map(|last| last.1), Some(extent.end_bytes));
        if extent.own {
            let stored: u64 = ranges.iter().map(|(start, end)| end - start).sum();
            assert_eq!(stored, extent.end_bytes, "a gap in an own file");
        }
    }
    let files = u32::try_from(extents.len()).unwrap_or(u32::MAX);
    let mut all = manifest.parts.iter().flat_map(|part| &part.blocks);
    assert!(all.all(|block| block.file < files), "a block in no file");
}

/// Codecs: what is stored comes back; what comes back is what other decoders read too; damage is seen.
pub(crate) fn blocks(data: &[u8]) {
    let Some((&[choice, low, high], data)) = data.split_first_chunk::<3>() else {
        return;
    };
    let codec = Codec::ALL[usize::from(choice) % Codec::ALL.len()];
    let number = u16::from_le_bytes([low, high]);
    stored_bytes(codec, u32::from(number).min(TRIED_MAX_BYTES), data);
    raw_bytes(codec, number, data);
}

fn believed(stored: &[u8], raw_len_bytes: u32) -> Option<BlockRef> {
    Some(BlockRef {
        file: 0,
        offset_bytes: 0,
        stored_len_bytes: u32::try_from(stored.len()).ok()?,
        raw_len_bytes,
        crc32: crc32fast::hash(stored),
    })
}

/// `data` as stored bytes that the manifest believes in.
fn stored_bytes(codec: Codec, raw_len_bytes: u32, data: &[u8]) {
    let stored = Bytes::copy_from_slice(data);
    let (Some(block), Ok(mut decoder)) = (believed(data, raw_len_bytes), BlockDecoder::new(codec))
    else {
        return;
    };
    let Ok(raw) = decoder.decode(&stored, &block) else {
        return;
    };
    assert_eq!(raw.len(), raw_len_bytes as usize, "not what was promised");
    let mut used_before = vec![0xA5; 100];
    let again = decoder.decode_into(&stored, &block, &mut used_before);
    match again {
        Ok(Decoded::InPlace) => assert_eq!(raw, stored),
        Ok(Decoded::InBuffer) => assert_eq!(raw, used_before),
        Err(error) => panic!("accepted once and refused once: {error}"),
    }
    assert_eq!(
        other_decoder(codec, data, raw.len()).as_deref(),
        Some(&raw[..])
    );
}

/// What the stock tools would read.
fn other_decoder(codec: Codec, stored: &[u8], raw_len_bytes: usize) -> Option<Vec<u8>> {
    match codec {
        Codec::None => Some(stored.to_vec()),
        Codec::Gzip => {
            let mut first = vec![0; raw_len_bytes];
            let mut decoder = libdeflater::Decompressor::new();
            let len = decoder.gzip_decompress(stored, &mut first).ok()?;
            first.truncate(len);
            // gunzip goes on where one member ends.
            let mut all = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(stored);
            decoder.read_to_end(&mut all).ok()?;
            (all == first).then_some(all)
        }
        Codec::Zstd => zstd::stream::decode_all(stored).ok(),
    }
}

/// `data` as the raw bytes of a part that arrives in two chunks.
fn raw_bytes(codec: Codec, number: u16, data: &[u8]) {
    let raw = Bytes::copy_from_slice(data);
    let expected = ExpectedPart {
        part: 0,
        size_bytes: raw.len() as u64,
    };
    let mut splitter = BlockSplitter::new([expected]);
    let mut pieces = Vec::new();
    let cut = usize::from(number).min(raw.len());
    let chunks = [raw.slice(..cut), raw.slice(cut..)];
    let taken = chunks
        .into_iter()
        .filter(|chunk| !chunk.is_empty())
        .try_for_each(|chunk| splitter.push(0, chunk, &mut pieces));
    let taken = taken.and_then(|()| splitter.finish(&mut pieces));
    assert!(taken.is_ok(), "a part of the announced size: {taken:?}");
    let round_trip = || -> Result<PartHasher, FormatError> {
        let mut encoder = BlockEncoder::new(Compression::new(codec, None)?)?;
        let mut decoder = BlockDecoder::new(codec)?;
        let mut hasher = PartHasher::new();
        for piece in &pieces {
            let block = encoder.encode(&piece.data)?;
            let Some(reference) = believed(&block.stored, block.raw_len_bytes) else {
                continue;
            };
            assert_eq!(reference.crc32, block.crc32);
            hasher.update(&decoder.decode(&block.stored, &reference)?);
            damage_is_seen(&mut decoder, &block.stored, &reference, number);
        }
        Ok(hasher)
    };
    let mut sent = PartHasher::new();
    sent.update(data);
    match round_trip() {
        Ok(read) => assert_eq!(read.finish(), sent.finish(), "other bytes came back"),
        Err(error) => panic!("what was stored is refused: {error}"),
    }
}

fn damage_is_seen(decoder: &mut BlockDecoder, stored: &Bytes, block: &BlockRef, number: u16) {
    if stored.is_empty() {
        return;
    }
    let mut damaged = stored.to_vec();
    let at = usize::from(number) % damaged.len();
    damaged[at] ^= 1 << (number % 8);
    let read = decoder.decode(&Bytes::from(damaged), block);
    assert!(read.is_err(), "a flipped bit went unseen");
}

/// Inputs to begin with.
#[cfg(test)]
pub(crate) mod seeds {
    use super::*;
    use crate::format::tests::fixture;

    pub(crate) fn manifests() -> Vec<(&'static str, Vec<u8>)> {
        let object = |(manifest, _): (Manifest, Bytes)| manifest.encode().to_vec();
        let long = vec![7; BLOCK_MAX_BYTES as usize + 5];
        let mut joint = fixture::example().0;
        joint.conf_state.voters_outgoing = vec![1, 2, 4];
        joint.conf_state.learners_next = vec![4];
        joint.conf_state.learners = vec![5];
        joint.conf_state.auto_leave = true;
        let earlier = fixture::example().0;
        let mut adopted = fixture::snapshot(Codec::Gzip, &[("state", false, b"x")]).0;
        adopted.snapshot_id.uuid = uuid::Uuid::from_u128(9);
        adopted.references = vec![format!("{}.snap", adopted.snapshot_id)];
        adopted.adopt(&earlier, &earlier.parts[1]).unwrap();
        let mut twice = fixture::example().0;
        twice.conf_state.voters.push(1);
        let mut gap = fixture::example().0;
        gap.parts[1].blocks[0].offset_bytes += 1;
        let mut sum = fixture::example().0;
        sum.parts[0].digest.size_bytes += 1;
        let pretty = serde_json::to_string(&fixture::example().0).unwrap();
        let pretty = pretty.replacen(':', ": ", 1);
        let crc32 = crc32fast::hash(pretty.as_bytes());
        let len_bytes = pretty.len();
        let pretty = format!("{pretty}\n{{\"crc32\":\"{crc32:08x}\",\"len_bytes\":{len_bytes}}}\n");
        vec![
            ("gzip", object(fixture::example())),
            (
                "zstd",
                object(fixture::snapshot(Codec::Zstd, &[("a", true, b"abc")])),
            ),
            (
                "none",
                object(fixture::snapshot(Codec::None, &[("a", true, b"abc")])),
            ),
            (
                "two-blocks",
                object(fixture::snapshot(Codec::Zstd, &[("a", true, &long)])),
            ),
            ("joint", joint.encode().to_vec()),
            ("adopted", adopted.encode().to_vec()),
            ("refused-voter-twice", twice.encode().to_vec()),
            ("refused-gap", gap.encode().to_vec()),
            ("refused-sum", sum.encode().to_vec()),
            ("refused-not-canonical", pretty.into_bytes()),
        ]
    }

    pub(crate) fn objects() -> Vec<(&'static str, Vec<u8>)> {
        let (manifest, snap) = fixture::example();
        let id = manifest.snapshot_id;
        let identity = Identity::first("prod-eu", 1).unwrap();
        let of_kind = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
        let flag = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let mut nothing = fixture::proof_of(&manifest, &snap);
        nothing.objects.clear();
        vec![
            ("refused-proof-of-nothing", of_kind(0, &nothing.encode())),
            (
                "refused-name-with-a-zero",
                of_kind(3, format!("{id}.01.snap").as_bytes()),
            ),
            (
                "proof",
                of_kind(0, &fixture::proof_of(&manifest, &snap).encode()),
            ),
            ("identity", of_kind(1, &identity.encode())),
            (
                "quarantine",
                of_kind(2, &fixture::quarantine_of(&manifest).encode()),
            ),
            ("name-snap", of_kind(3, format!("{id}.snap").as_bytes())),
            (
                "name-second-snap",
                of_kind(3, format!("{id}.1.snap").as_bytes()),
            ),
            (
                "name-manifest",
                of_kind(3, format!("{id}.manifest.json").as_bytes()),
            ),
            (
                "name-flag",
                of_kind(3, format!("{id}.snap.deleting-{flag}").as_bytes()),
            ),
            ("name-identity", of_kind(3, identity.file_name().as_bytes())),
            ("name-topic", of_kind(3, b"a%2Fb%20%25")),
            ("name-partition", of_kind(3, b"orders/7")),
        ]
    }

    pub(crate) fn blocks() -> Vec<(&'static str, Vec<u8>)> {
        let raw = Bytes::from_static(b"some raw bytes, some raw bytes");
        let stored = |codec: Codec, name, choice: u8| {
            let compression = Compression::new(codec, None).unwrap();
            let block = BlockEncoder::new(compression)
                .unwrap()
                .encode(&raw)
                .unwrap();
            (name, [&[choice, 30, 0], &block.stored[..]].concat())
        };
        let two = |choice: u8| {
            let (_, one) = stored(Codec::ALL[usize::from(choice)], "", choice);
            [&one[..], &one[3..]].concat()
        };
        vec![
            ("refused-two-members", two(1)),
            ("refused-two-frames", two(2)),
            stored(Codec::None, "none", 0),
            stored(Codec::Gzip, "gzip", 1),
            stored(Codec::Zstd, "zstd", 2),
            ("empty", vec![1, 0, 0]),
        ]
    }

    /// A manifest's line, then the bytes of its files, which are all the same.
    pub(crate) fn snapshot_files() -> Vec<(&'static str, Vec<u8>)> {
        let of = |(manifest, snap): (Manifest, Bytes)| {
            let content = serde_json::to_vec(&manifest).unwrap();
            [&content[..], b"\n", &snap[..]].concat()
        };
        let parts: [(&str, bool, &[u8]); 3] = [
            ("a", true, b"abcabcabc"),
            ("b", false, b""),
            ("c", false, b"cc"),
        ];
        let mut adopted = fixture::snapshot(Codec::None, &parts);
        let earlier = adopted.0.clone();
        adopted.0.snapshot_id.uuid = uuid::Uuid::from_u128(9);
        adopted.0.references = vec![format!("{}.snap", adopted.0.snapshot_id)];
        let mut again = earlier.parts[0].clone();
        again.part_id = "z".to_owned();
        adopted.0.adopt(&earlier, &again).unwrap();
        let mut flipped = of(fixture::snapshot(Codec::None, &parts));
        *flipped.last_mut().unwrap() ^= 1;
        vec![
            ("refused-flipped", flipped),
            ("none", of(fixture::snapshot(Codec::None, &parts))),
            ("gzip", of(fixture::snapshot(Codec::Gzip, &parts))),
            ("zstd", of(fixture::snapshot(Codec::Zstd, &parts))),
            ("adopted", of(adopted)),
        ]
    }
}
