//! docs/FORMAT.md is read by this test: its examples are decoded, and they are what this program writes.

use std::{collections::HashMap, fmt::Write as _};

use bytes::Bytes;
use uuid::Uuid;

use super::{super::*, fixture};
use crate::raft::Lineage;

const DOCUMENT: &str = include_str!("../../../docs/FORMAT.md");

/// Fenced blocks by the name that follows the language.
fn examples() -> HashMap<&'static str, &'static str> {
    let mut examples = HashMap::new();
    let mut rest = DOCUMENT;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (info, after) = after.split_once('\n').unwrap();
        let (body, after) = after.split_once("```").unwrap();
        if let Some((_, name)) = info.split_once(' ') {
            assert!(examples.insert(name, body).is_none(), "two examples {name}");
        }
        rest = after;
    }
    examples
}

fn example(name: &str) -> &'static str {
    let found = examples().remove(name);
    found.unwrap_or_else(|| panic!("docs/FORMAT.md has no example {name}"))
}

/// Bytes of `offset: xx xx ...` lines.
fn unhex(dump: &str) -> Vec<u8> {
    let digits = |line: &'static str| line.split_once(':').unwrap().1;
    let lines: Vec<&'static str> = example(dump).lines().collect();
    lines
        .into_iter()
        .flat_map(|line| digits(line).split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (line, row) in bytes.chunks(16).enumerate() {
        let digits: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(dump, "{:04x}: {}", line * 16, digits.join(" ")).unwrap();
    }
    dump
}

#[test]
fn the_example_manifest_is_what_is_written() {
    let (manifest, snap) = fixture::example();
    let (bytes, digest) = manifest.seal().unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    assert_eq!(example("manifest"), text);
    assert_eq!(example("manifest-digest"), format!("{digest}\n"));
    assert_eq!(example("snap"), hex(&snap));
    assert_eq!(
        Manifest::decode(example("manifest").as_bytes()).unwrap(),
        manifest
    );
}

#[test]
fn the_example_snap_decodes_by_the_example_manifest() {
    let manifest = Manifest::decode(example("manifest").as_bytes()).unwrap();
    let snap = Bytes::from(unhex("snap"));
    let mut decoder = BlockDecoder::new(manifest.codec).unwrap();
    let mut end = 0;
    for (part, (part_id, sealed, raw)) in manifest.parts.iter().zip(fixture::EXAMPLE_PARTS) {
        let mut hasher = PartHasher::new();
        for block in &part.blocks {
            let range = usize::try_from(block.offset_bytes).unwrap()
                ..usize::try_from(block.end_bytes()).unwrap();
            hasher.update(&decoder.decode(&snap.slice(range), block).unwrap());
            end = block.end_bytes();
        }
        assert_eq!((part.part_id.as_str(), part.sealed), (part_id, sealed));
        assert_eq!(hasher.finish(), part.digest);
        let mut direct = PartHasher::new();
        direct.update(raw);
        assert_eq!(direct.finish(), part.digest);
    }
    assert_eq!(end, snap.len() as u64);
}

#[test]
fn the_example_proof_identity_plan_and_mark_are_what_is_written() {
    let (manifest, snap) = fixture::example();
    let proof = fixture::proof_of(&manifest, &snap);
    assert_eq!(example("proof").as_bytes(), proof.encode());
    assert_eq!(Proof::decode(example("proof").as_bytes()).unwrap(), proof);

    let first = Identity::first("prod-eu", 1).unwrap();
    assert_eq!(example("identity").as_bytes(), first.encode());
    assert_eq!(
        example("identity-name"),
        format!("{IDENTITY_FOLDER}{}\n", first.file_name())
    );
    assert_eq!(
        Identity::decode(example("identity").as_bytes()).unwrap(),
        first
    );

    let uuid = Uuid::parse_str("67e55044-10b1-426f-9247-bb680e5fe0c8").unwrap();
    let restored = Identity::restored("prod-eu", 2, uuid).unwrap();
    assert_eq!(example("identity-restored").as_bytes(), restored.encode());

    let plan = fixture::plan_of(&manifest);
    assert_eq!(example("plan").as_bytes(), plan.encode().unwrap());
    assert_eq!(
        RestorePlan::decode(example("plan").as_bytes()).unwrap(),
        plan
    );
    assert_eq!(plan.identity().unwrap(), restored);
    assert_eq!(
        example("plan-name"),
        format!("{PLAN_FOLDER}{}\n", RestorePlan::file_name(uuid))
    );
    let token: RestoreToken = example("token").trim().parse().unwrap();
    assert_eq!(token, RestoreToken(restored));

    let mark = fixture::quarantine_of(&manifest);
    assert_eq!(example("quarantine").as_bytes(), mark.encode());
    assert_eq!(
        Quarantine::decode(example("quarantine").as_bytes()).unwrap(),
        mark
    );
}

#[test]
fn the_example_names_are_parsed() {
    let (manifest, _) = fixture::example();
    for name in example("names").lines() {
        let (folder, file) = name.rsplit_once('/').unwrap();
        assert_eq!(folder, "snapshots/orders/7");
        let parsed: FileName = file.parse().unwrap();
        assert_eq!(parsed.to_string(), file);
        let id = match parsed {
            FileName::Snap(snap) | FileName::Deleting { snap, .. } => snap.id,
            FileName::Manifest(id)
            | FileName::Proof(id)
            | FileName::Quarantine(id)
            | FileName::Pin(id) => id,
        };
        assert_eq!(id, manifest.snapshot_id);
    }
    assert_eq!(example("names").lines().count(), 7);
}

#[test]
fn the_example_topics_are_encoded_that_way() {
    for line in example("topics").lines() {
        let (topic, folder) = line.split_once(" -> ").unwrap();
        assert_eq!(encode_topic(topic), folder);
        assert_eq!(decode_topic(folder).unwrap(), topic);
    }
}

#[test]
fn the_lineage_hash_is_the_one_described() {
    let lineage = Lineage::new("prod-eu", 1, "tq3Xk9").unwrap();
    assert_eq!(lineage.short_hash(), crc32fast::hash(b"prod-eu\n1\ntq3Xk9"));
}

#[test]
fn the_limits_in_the_document_are_those_of_the_code() {
    for limit in [
        format!("| raw bytes of a block | {BLOCK_MAX_BYTES} |"),
        format!("| stored bytes of a block | {BLOCK_STORED_MAX_BYTES} |"),
        format!("| parts | {PARTS_MAX} |"),
        format!("| references | {REFERENCES_MAX} |"),
        format!("| members of one role in conf_state | {CONF_MEMBERS_MAX} |"),
        format!("| manifest object | {MANIFEST_MAX_BYTES} |"),
        format!("| proof object | {PROOF_MAX_BYTES} |"),
        format!("| identity object | {IDENTITY_MAX_BYTES} |"),
        format!("| quarantine mark | {QUARANTINE_MAX_BYTES} |"),
        format!("| restore plan | {PLAN_MAX_BYTES} |"),
        format!("| partitions of a restore plan | {PLAN_PARTITIONS_MAX} |"),
        format!("| reason in a quarantine mark | {REASON_MAX_BYTES} |"),
        format!("| stored bytes of a `.snap` | {SNAP_FILE_MAX_BYTES} |"),
    ] {
        assert!(DOCUMENT.contains(&limit), "docs/FORMAT.md lacks: {limit}");
    }
}
