use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    catalog::{
        Flag,
        fixture::{add, bare, folder, lineage, own_file, part, partition, put},
    },
    raft::{ConfState, LogId},
};

fn every(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// A snapshot that holds `parts`; those that `offer` has are pointed to, `seg-*` are sealed.
fn manifest(index: u64, parts: &[&str], offer: Option<&Offer>) -> Manifest {
    let mut manifest = bare(index);
    let mut written = 0;
    for part_id in parts {
        let offer = offer.filter(|offer| offer.parts.contains(*part_id));
        if let Some(offer) = offer {
            offer.adopt_into(&mut manifest, part_id).unwrap();
            manifest.increment = offer.next_increment();
        } else {
            let sealed = part_id.starts_with("seg-");
            manifest.parts.push(part(part_id, sealed, written));
            written += 1;
        }
    }
    manifest
}

fn offered(folder: &Folder) -> Vec<String> {
    let offer = offer(folder, &lineage(), Codec::None, every(24));
    offer.map_or_else(Vec::new, |offer| offer.parts.into_iter().collect())
}

type Change = fn(&mut Folder, SnapName);

fn with_one() -> (Folder, SnapName) {
    let mut folder = folder();
    let first = manifest(1, &["seg-a", "seg-b", "state"], None);
    let file = own_file(&first);
    add(&mut folder, first);
    (folder, file)
}

#[test]
fn sealed_parts_of_the_newest_proven_snapshot_are_offered() {
    let (mut folder, _) = with_one();
    assert_eq!(offered(&folder), ["seg-a", "seg-b"]);
    folder.snapshots[0].proof = None;
    assert_eq!(offered(&folder), [""; 0]);
    assert_eq!(offered(&self::folder()), [""; 0]);
}

#[test]
fn another_codec_or_life_has_nothing_to_offer() {
    let (folder, _) = with_one();
    let other = Lineage::new("c", 1, "u").unwrap();
    assert!(offer(&folder, &lineage(), Codec::Zstd, every(24)).is_none());
    assert!(offer(&folder, &other, Codec::None, every(24)).is_none());
}

#[test]
fn every_nth_snapshot_is_complete() {
    let (mut folder, _) = with_one();
    let mut increments = vec![0];
    for index in 2..=8 {
        let offer = offer(&folder, &lineage(), Codec::None, every(3));
        let next = manifest(index, &["seg-a", "seg-b", "state"], offer.as_ref());
        increments.push(next.increment);
        add(&mut folder, next);
    }
    assert_eq!(increments, [0, 1, 2, 0, 1, 2, 0, 1]);
    assert!(offer(&folder, &lineage(), Codec::None, every(1)).is_none());
}

#[test]
fn files_that_are_gone_short_flagged_or_suspicious_are_not_pointed_into() {
    let (whole, file) = with_one();
    let next = manifest(
        2,
        &["seg-a", "state"],
        offer(&whole, &lineage(), Codec::None, every(9)).as_ref(),
    );
    let states: [(Change, &str); 4] = [
        (
            |folder, file| {
                folder.files.retain(|(name, _)| *name != file);
            },
            "gone",
        ),
        (
            |folder, file| {
                put(folder, file, 99);
            },
            "of another size",
        ),
        (
            |folder, snap| {
                let flag = Uuid::from_u128(1);
                folder.flags.push(Flag { snap, flag });
            },
            "flagged for deletion",
        ),
        (
            |folder, _| {
                let offer = offer(folder, &lineage(), Codec::None, every(9));
                let damaged = manifest(9, &["seg-b", "state"], offer.as_ref());
                add(folder, damaged);
                folder.snapshots[0].quarantined = true;
            },
            "used by a snapshot that does not verify",
        ),
    ];
    assert_eq!(undermined(&whole, &next), None);
    for (change, state) in states {
        let mut folder = whole.clone();
        change(&mut folder, file);
        assert_eq!(offered(&folder), [""; 0], "{state}");
        assert_eq!(undermined(&folder, &next), Some((file.to_string(), state)));
    }
}

#[test]
fn what_lives_on_in_a_mostly_dead_file_is_stored_anew() {
    let mut folder = folder();
    add(
        &mut folder,
        manifest(1, &["seg-a", "seg-b", "seg-c", "state"], None),
    );
    // Of four parts of the first file two are still used, of the second one all.
    let offer = offer(&folder, &lineage(), Codec::None, every(24)).unwrap();
    add(
        &mut folder,
        manifest(2, &["seg-a", "seg-b", "seg-d"], Some(&offer)),
    );
    assert_eq!(offered(&folder), ["seg-a", "seg-b", "seg-d"]);
    let offer = self::offer(&folder, &lineage(), Codec::None, every(24)).unwrap();
    add(
        &mut folder,
        manifest(3, &["seg-b", "seg-d", "seg-e"], Some(&offer)),
    );
    assert_eq!(
        offered(&folder),
        ["seg-d", "seg-e"],
        "one of four is too little"
    );
}

#[test]
fn a_header_must_leave_out_what_is_there() {
    let (folder, _) = with_one();
    let offer = offer(&folder, &lineage(), Codec::None, every(24)).unwrap();
    let header = |part_id: &str, size_bytes: u64, state_codec: &str, omitted: bool| ExportHeader {
        lineage: lineage(),
        partition: partition(),
        last_included: LogId::new(1, 2),
        conf_state: ConfState::default(),
        state_codec: state_codec.to_owned(),
        parts: vec![PartHeader {
            part_id: part_id.to_owned(),
            size_bytes,
            sealed: true,
            omitted,
        }],
    };
    assert!(offer.fits(&header("seg-a", 100, "raw/1", true)));
    assert!(!offer.fits(&header("seg-a", 101, "raw/1", true)));
    assert!(!offer.fits(&header("seg-x", 100, "raw/1", true)));
    assert!(!offer.fits(&header("seg-a", 100, "raw/2", true)));
    assert!(offer.fits(&header("seg-a", 101, "raw/2", false)));
}

proptest! {
    /// However parts come and go, every snapshot of a chain is legal, and none points into a file that the
    /// one before used for less than a half.
    #[test]
    fn any_chain_of_snapshots_is_legal(
        states in prop::collection::vec(prop::collection::btree_set(0_u8..12, 0..8), 1..30), n in 1_u32..9,
    ) {
        let mut folder = folder();
        for (index, segments) in (1..).zip(states) {
            let names: Vec<String> = segments.iter().map(|segment| format!("seg-{segment}")).collect();
            let mut parts: Vec<&str> = names.iter().map(String::as_str).collect();
            parts.push("state");
            let offer = offer(&folder, &lineage(), Codec::None, every(n));
            let next = manifest(index, &parts, offer.as_ref());
            prop_assert!(next.seal().is_ok(), "{:?}", next.seal());
            prop_assert!(next.increment < n);
            prop_assert_eq!(undermined(&folder, &next), None);
            for extent in next.file_extents().iter().filter(|extent| !extent.own) {
                let base = &folder.snapshots[0].manifest;
                let at = base.references.iter().position(|name| *name == extent.name);
                let used = used_bytes(base)[at.unwrap()];
                let size = folder.size_of(&extent.name.parse().unwrap());
                prop_assert!(2 * used >= size.unwrap());
            }
            add(&mut folder, next);
        }
    }
}
