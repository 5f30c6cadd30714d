//! The rules of a manifest, one by one.

use super::{super::*, fixture};
use crate::{error::Kind, raft::LogId};

fn broken(change: impl FnOnce(&mut Manifest)) -> FormatError {
    let (mut manifest, _) = fixture::snapshot(
        Codec::Gzip,
        &[
            ("a", true, b"first"),
            ("b", false, b""),
            ("c", true, b"third"),
        ],
    );
    change(&mut manifest);
    let error = manifest.seal().unwrap_err();
    let read = Manifest::decode(&manifest.encode()).unwrap_err();
    assert_eq!(
        read.to_string(),
        error.to_string(),
        "writer and reader agree"
    );
    error
}

fn rule(change: impl FnOnce(&mut Manifest)) -> Rule {
    match broken(change) {
        FormatError::Rule { rule, .. } => rule,
        other => panic!("not a rule: {other}"),
    }
}

#[test]
fn position_and_lineage_must_be_those_of_the_id() {
    assert_eq!(
        rule(|m| m.last_included.index += 1),
        Rule::IdMatchesLastIncluded
    );
    assert_eq!(
        rule(|m| m.last_included.term += 1),
        Rule::IdMatchesLastIncluded
    );
    assert_eq!(
        rule(|m| m.last_included = LogId::new(0, 5)),
        Rule::LastIncludedPositive
    );
    assert_eq!(
        rule(|m| m.last_included = LogId::new(5, 0)),
        Rule::LastIncludedPositive
    );
    assert_eq!(rule(|m| m.lineage.incarnation = 2), Rule::IdMatchesLineage);
    assert_eq!(
        rule(|m| m.lineage.topic_id = "other".to_owned()),
        Rule::IdMatchesLineage
    );
}

#[test]
fn a_manifest_under_another_name_is_refused() {
    let (manifest, _) = fixture::example();
    let bytes = manifest.encode();
    let id = manifest.snapshot_id;
    assert!(Manifest::decode_named(&bytes, id).is_ok());
    let other = SnapshotId {
        uuid: uuid::Uuid::nil(),
        ..id
    };
    let error = Manifest::decode_named(&bytes, other).unwrap_err();
    assert!(matches!(
        error,
        FormatError::Rule {
            rule: Rule::IdMatchesName,
            ..
        }
    ));
}

#[test]
fn illegal_words_are_refused() {
    for change in [
        (|m| m.partition.topic.clear()) as fn(&mut Manifest),
        |m| m.partition.partition = u32::MAX,
        |m| m.lineage.cluster_id = "a b".to_owned(),
        |m| m.lineage.incarnation = 0,
    ] {
        assert!(matches!(broken(change), FormatError::Domain { .. }));
    }
    assert_eq!(rule(|m| m.state_codec.clear()), Rule::StateCodec);
    assert_eq!(rule(|m| m.state_codec = "a b".to_owned()), Rule::StateCodec);
    assert_eq!(
        rule(|m| m.created_by.version = "v".repeat(65)),
        Rule::Version
    );
    assert_eq!(rule(|m| m.created_at_unix_ms = -1), Rule::NegativeTime);
}

#[test]
fn configurations_that_raft_would_refuse_are_refused() {
    assert_eq!(rule(|m| m.conf_state.voters.clear()), Rule::NoVoters);
    assert_eq!(
        rule(|m| m.conf_state.voters = (1..=257).collect()),
        Rule::ConfTooLarge
    );
    assert_eq!(
        rule(|m| m.conf_state.voters = vec![1, 1]),
        Rule::ConfPeerIds
    );
    assert_eq!(rule(|m| m.conf_state.learners = vec![0]), Rule::ConfPeerIds);
    assert_eq!(
        rule(|m| m.conf_state.learners = vec![3]),
        Rule::ConfLearnerIsVoter
    );
    assert_eq!(
        rule(|m| m.conf_state.learners_next = vec![3]),
        Rule::ConfLearnersNext
    );
    assert_eq!(rule(|m| m.conf_state.auto_leave = true), Rule::ConfNotJoint);
}

#[test]
fn a_joint_configuration_is_kept_whole() {
    let (mut manifest, _) = fixture::example();
    manifest.conf_state.voters = vec![1, 2, 4];
    manifest.conf_state.learners = vec![9];
    manifest.conf_state.voters_outgoing = vec![1, 2, 3];
    manifest.conf_state.learners_next = vec![3];
    manifest.conf_state.auto_leave = true;
    let (bytes, _) = manifest.seal().unwrap();
    assert_eq!(
        Manifest::decode(&bytes).unwrap().conf_state,
        manifest.conf_state
    );
}

#[test]
fn parts_have_legal_unique_ids_and_a_bounded_number() {
    assert_eq!(
        rule(|m| m.parts[1].part_id = "a".to_owned()),
        Rule::PartIdTwice { part: 1 }
    );
    for id in ["", "a/b", "é", "a b"] {
        assert_eq!(
            rule(|m| m.parts[2].part_id = id.to_owned()),
            Rule::PartId { part: 2 }
        );
    }
    assert_eq!(
        rule(|m| m.parts[0].part_id = "x".repeat(65)),
        Rule::PartId { part: 0 }
    );
    assert_eq!(rule(|m| m.parts.clear()), Rule::PartCount);
    assert_eq!(
        rule(|m| m.parts = vec![m.parts[0].clone(); PARTS_MAX + 1]),
        Rule::PartCount
    );
}

#[test]
fn blocks_add_up_and_keep_their_limits() {
    assert_eq!(
        rule(|m| m.parts[0].blocks.clear()),
        Rule::NoBlocks { part: 0 }
    );
    assert_eq!(
        rule(|m| m.parts[0].digest.size_bytes += 1),
        Rule::PartSum { part: 0 }
    );
    let at = |part| Rule::BlockTooLarge { part, block: 0 };
    assert_eq!(
        rule(|m| m.parts[2].blocks[0].raw_len_bytes = BLOCK_MAX_BYTES + 1),
        at(2)
    );
    let stored = Rule::BlockStoredLength { part: 0, block: 0 };
    assert_eq!(rule(|m| m.parts[0].blocks[0].stored_len_bytes = 0), stored);
    assert_eq!(
        rule(|m| m.parts[0].blocks[0].stored_len_bytes = u32::MAX),
        stored
    );
    assert_eq!(
        rule(|m| {
            let empty = m.parts[1].blocks[0];
            m.parts[0].blocks.push(empty);
        }),
        Rule::EmptyBlock { part: 0 }
    );
    assert_eq!(
        rule(|m| m.codec = Codec::None),
        Rule::BlockNotRaw { part: 0, block: 0 }
    );
}

#[test]
fn files_are_covered_without_gap_or_overlap() {
    assert_eq!(
        rule(|m| m.parts[0].blocks[0].offset_bytes = 1),
        Rule::OwnFileStart { part: 0, block: 0 }
    );
    let gap = Rule::BlockGap { part: 2, block: 0 };
    assert_eq!(rule(|m| m.parts[2].blocks[0].offset_bytes += 1), gap);
    assert_eq!(rule(|m| m.parts[2].blocks[0].offset_bytes -= 1), gap);
    assert_eq!(rule(|m| m.parts[2].blocks[0].offset_bytes = u64::MAX), gap);
    assert_eq!(
        rule(|m| m.parts[1].blocks[0].file = 1),
        Rule::BlockFile { part: 1, block: 0 }
    );
}

#[test]
fn references_are_snap_files_of_this_lineage_each_used_once() {
    assert_eq!(rule(|m| m.references.clear()), Rule::ReferenceCount);
    assert_eq!(
        rule(|m| m.references = vec!["x".to_owned()]),
        Rule::ReferenceName { reference: 0 }
    );
    assert_eq!(
        rule(|m| m.references.push(m.references[0].clone())),
        Rule::ReferenceTwice { reference: 1 }
    );
    let other = |m: &Manifest, lineage_hash: u32, number: u32| {
        let uuid = uuid::Uuid::from_u128(5);
        let id = SnapshotId {
            lineage_hash,
            uuid,
            ..m.snapshot_id
        };
        SnapName { id, number }.to_string()
    };
    let with_earlier = |m: &mut Manifest, position: usize| {
        let earlier = other(m, m.snapshot_id.lineage_hash, 0);
        m.references.insert(position, earlier);
        m.increment = 1;
    };
    assert_eq!(
        rule(|m| with_earlier(m, 1)),
        Rule::ReferenceUnused { reference: 1 }
    );
    assert_eq!(
        rule(|m| with_earlier(m, 0)),
        Rule::OwnFileNumber { reference: 1 }
    );
    assert_eq!(rule(|m| m.increment = 1), Rule::Increment);
    assert_eq!(
        rule(|m| {
            with_earlier(m, 1);
            m.increment = 0;
        }),
        Rule::Increment
    );
    assert_eq!(
        rule(|m| m.references.push(other(m, 1, 0))),
        Rule::ReferenceForeign { reference: 1 }
    );
    assert_eq!(
        rule(|m| m.references[0] = SnapName {
            id: m.snapshot_id,
            number: 1
        }
        .to_string()),
        Rule::OwnFileNumber { reference: 0 }
    );
}

/// A later snapshot at index 20,000 that has only `parts` of its own.
fn later(parts: &[(&str, bool, &[u8])]) -> Manifest {
    let (mut manifest, _) = fixture::snapshot(Codec::Gzip, parts);
    manifest.last_included.index = 20_000;
    manifest.snapshot_id.last_included.index = 20_000;
    let id = manifest.snapshot_id;
    manifest.references = vec![SnapName { id, number: 0 }.to_string()];
    manifest
}

#[test]
fn sealed_parts_are_adopted_from_an_earlier_snapshot() {
    let (earlier, snap) = fixture::snapshot(
        Codec::Gzip,
        &[("seg-0", true, b"old"), ("state", false, b"x")],
    );
    let mut manifest = later(&[("seg-1", true, b"new")]);
    manifest.increment = 1;
    assert!(manifest.adopt(&earlier, &earlier.parts[0]).is_some());
    assert!(
        manifest.adopt(&earlier, &earlier.parts[1]).is_none(),
        "not sealed"
    );
    manifest.seal().unwrap();
    assert_eq!(
        manifest.references,
        [
            later(&[]).references[0].clone(),
            earlier.references[0].clone()
        ]
    );
    let extents = manifest.file_extents();
    assert!(extents[0].own && !extents[1].own);
    let first_end = earlier.parts[0].blocks[0].end_bytes();
    assert!(first_end < snap.len() as u64);
    assert_eq!(extents[1].end_bytes, first_end);

    let mut third = later(&[]);
    third.references.clear();
    third.increment = 2;
    assert!(third.adopt(&manifest, &manifest.parts[1]).is_some());
    assert_eq!(
        third.references, earlier.references,
        "points at the file, not at the manifest"
    );
    third.seal().unwrap();

    let mut other_codec = later(&[]);
    other_codec.codec = Codec::Zstd;
    assert!(other_codec.adopt(&earlier, &earlier.parts[0]).is_none());
}

#[test]
fn adopted_blocks_may_not_overlap() {
    let (earlier, _) = fixture::snapshot(Codec::Gzip, &[("a", true, b"one"), ("b", true, b"two")]);
    let mut manifest = later(&[]);
    manifest.references.clear();
    manifest.increment = 1;
    manifest.adopt(&earlier, &earlier.parts[1]).unwrap();
    manifest.adopt(&earlier, &earlier.parts[0]).unwrap();
    manifest.seal().unwrap();
    manifest.parts[0].blocks[0].offset_bytes -= 1;
    let error = manifest.validate().unwrap_err();
    assert!(
        matches!(
            error,
            FormatError::Rule {
                rule: Rule::BlockOverlap { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn an_unknown_version_is_named_not_guessed() {
    let (mut manifest, _) = fixture::example();
    manifest.format_version = 2;
    let error = Manifest::decode(&manifest.encode()).unwrap_err();
    assert!(matches!(
        error,
        FormatError::UnknownVersion { found: 2, .. }
    ));
    assert_eq!(error.kind(), Kind::Invalid);
    // Also when the rest has a shape that this program has never seen.
    let content = br#"{"format_version":7,"surprise":[]}"#;
    let crc32 = crc32fast::hash(content);
    let last_line = format!(
        "\n{{\"crc32\":\"{crc32:08x}\",\"len_bytes\":{}}}\n",
        content.len()
    );
    let object = [content.as_slice(), last_line.as_bytes()].concat();
    let error = Manifest::decode(&object).unwrap_err();
    assert!(
        matches!(error, FormatError::UnknownVersion { found: 7, .. }),
        "{error}"
    );
}

#[test]
fn other_spellings_of_the_same_content_are_refused() {
    let (manifest, _) = fixture::example();
    let text = String::from_utf8(manifest.encode().to_vec()).unwrap();
    let (content, _) = text.split_once('\n').unwrap();
    let respelled = [
        (content.replacen(':', ": ", 1), "white space"),
        (
            content.replacen("\"codec\"", "\"\\u0063odec\"", 1),
            "escapes",
        ),
        (
            content.replacen("{\"term\"", "{\"unknown\":1,\"term\"", 1),
            "unknown field",
        ),
        (
            content.replacen("\"auto_leave\":false", "\"auto_leave\":false,\"x\":1", 1),
            "unknown field",
        ),
    ];
    for (content, what) in respelled {
        let crc32 = crc32fast::hash(content.as_bytes());
        let len_bytes = content.len();
        let object =
            format!("{content}\n{{\"crc32\":\"{crc32:08x}\",\"len_bytes\":{len_bytes}}}\n");
        assert!(Manifest::decode(object.as_bytes()).is_err(), "{what}");
    }
}

#[test]
fn levels_outside_the_codecs_range_are_refused() {
    for (codec, bad) in [
        (Codec::None, 1),
        (Codec::Gzip, 0),
        (Codec::Gzip, 13),
        (Codec::Zstd, 0),
        (Codec::Zstd, 20),
    ] {
        assert!(matches!(
            Compression::new(codec, Some(bad)),
            Err(FormatError::Level { .. })
        ));
    }
    for codec in Codec::ALL {
        assert_eq!(
            Compression::new(codec, None).unwrap().level(),
            codec.default_level()
        );
        assert!(codec.levels().contains(&codec.default_level()));
    }
}
