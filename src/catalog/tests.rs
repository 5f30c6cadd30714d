//! The catalog against a store in memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::{Catalog, CatalogError, ClusterClaim, Sweeper};
use crate::{
    clock::SystemClock,
    config::object_store::{Backend, ObjectStoreConfig},
    format::{
        BlockEncoder, BlockRef, Codec, Compression, CreatedBy, FORMAT_VERSION, FileName, Manifest,
        Part, PartHasher, Proof, Quarantine, SnapName, SnapshotId,
    },
    policy::VerifyLevel,
    raft::{ConfState, Lineage, LogId, TopicPartition},
    store::{NoObserver, Store, StoreError, StoreOptions},
};

const GRACE: Duration = Duration::from_secs(3600);

fn catalog() -> Catalog {
    catalog_over(Backend::Memory)
}

fn catalog_over(backend: Backend) -> Catalog {
    let config = ObjectStoreConfig {
        backend,
        prefix: "snapshots/".to_owned(),
    };
    let store = Store::open(&config, StoreOptions::default(), Arc::new(NoObserver)).unwrap();
    Catalog::new(store, &config.prefix)
}

fn sweeper() -> Sweeper {
    Sweeper::new(Arc::new(SystemClock), GRACE)
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0).unwrap()
}

fn lineage(topic_id: &str) -> Lineage {
    Lineage::new("cluster", 1, topic_id).unwrap()
}

fn claim(incarnation: u64, any_log_compacted: bool) -> ClusterClaim {
    ClusterClaim {
        cluster_id: "cluster".to_owned(),
        incarnation,
        any_log_compacted,
    }
}

fn made_by() -> CreatedBy {
    CreatedBy {
        broker_id: 1,
        version: "test".to_owned(),
    }
}

/// A `.snap` with `raw` in it, and the manifest that would commit it.
async fn upload(catalog: &Catalog, lineage: &Lineage, index: u64, raw: &'static [u8]) -> Manifest {
    let id = SnapshotId {
        last_included: LogId::new(1, index),
        lineage_hash: lineage.short_hash(),
        uuid: Uuid::now_v7(),
    };
    let snap = SnapName { id, number: 0 };
    let compression = Compression::new(Codec::None, None).unwrap();
    let block = BlockEncoder::new(compression)
        .unwrap()
        .encode(&Bytes::from_static(raw))
        .unwrap();
    let key = catalog
        .keys()
        .object(&orders(), FileName::Snap(snap))
        .unwrap();
    catalog
        .store()
        .put(&key, block.stored.clone())
        .await
        .unwrap();
    let mut hasher = PartHasher::new();
    hasher.update(raw);
    Manifest {
        references: vec![snap.to_string()],
        format_version: FORMAT_VERSION,
        snapshot_id: id,
        lineage: lineage.clone(),
        partition: orders(),
        last_included: id.last_included,
        conf_state: ConfState {
            voters: vec![1],
            ..ConfState::default()
        },
        state_codec: "raw/1".to_owned(),
        created_at_unix_ms: 0,
        created_by: made_by(),
        codec: Codec::None,
        increment: 0,
        parts: vec![Part {
            part_id: "state".to_owned(),
            sealed: false,
            digest: hasher.finish(),
            blocks: vec![BlockRef {
                file: 0,
                offset_bytes: 0,
                stored_len_bytes: u32::try_from(block.stored.len()).unwrap(),
                raw_len_bytes: block.raw_len_bytes,
                crc32: block.crc32,
            }],
        }],
    }
}

async fn commit(catalog: &Catalog, lineage: &Lineage, index: u64) -> Manifest {
    let manifest = upload(catalog, lineage, index, b"some state").await;
    catalog.commit(&manifest).await.unwrap();
    manifest
}

async fn prove(catalog: &Catalog, manifest: &Manifest) {
    let objects = catalog.confirm_files(manifest).await.unwrap();
    let (_, manifest_digest) = manifest.seal().unwrap();
    let proof = Proof {
        format_version: FORMAT_VERSION,
        snapshot_id: manifest.snapshot_id,
        manifest_digest,
        verify: VerifyLevel::Full,
        verified_at_unix_ms: 0,
        verified_by: made_by(),
        objects,
    };
    catalog.prove(&orders(), &proof).await.unwrap();
}

async fn exists(catalog: &Catalog, name: FileName) -> bool {
    let key = catalog.keys().object(&orders(), name).unwrap();
    match catalog.store().head(&key).await {
        Ok(_) => true,
        Err(StoreError::NotFound { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn snap_of(manifest: &Manifest) -> SnapName {
    SnapName {
        id: manifest.snapshot_id,
        number: 0,
    }
}

#[tokio::test]
async fn an_empty_store_is_claimed_once_and_only_while_no_log_was_truncated() {
    let catalog = catalog();
    let error = catalog.check_identity(&claim(1, true)).await.unwrap_err();
    assert!(
        matches!(error, CatalogError::IdentityMissing { .. }),
        "{error}"
    );
    assert!(catalog.read_identity().await.unwrap().is_none());
    catalog.check_identity(&claim(1, false)).await.unwrap();
    catalog.check_identity(&claim(1, true)).await.unwrap();
}

#[tokio::test]
async fn another_cluster_and_another_life_are_refused() {
    let catalog = catalog();
    catalog.check_identity(&claim(1, false)).await.unwrap();
    let mut other = claim(1, false);
    other.cluster_id = "other".to_owned();
    for wrong in [other, claim(2, false)] {
        let error = catalog.check_identity(&wrong).await.unwrap_err();
        assert!(
            matches!(error, CatalogError::IdentityMismatch { .. }),
            "{error}"
        );
        assert!(error.is_identity());
    }
}

#[tokio::test]
async fn two_identities_of_one_incarnation_make_everybody_refuse() {
    let catalog = catalog();
    catalog.claim(&claim(1, false)).await.unwrap();
    let mut other = claim(1, false);
    other.cluster_id = "other".to_owned();
    let error = catalog.claim(&other).await.unwrap_err();
    assert!(
        matches!(
            error,
            CatalogError::IdentityAmbiguous { incarnation: 1, .. }
        ),
        "{error}"
    );
    let error = catalog.check_identity(&claim(1, false)).await.unwrap_err();
    assert!(
        matches!(error, CatalogError::IdentityAmbiguous { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_snapshot_counts_only_with_its_proof_and_only_in_its_lineage() {
    let catalog = catalog();
    let manifest = commit(&catalog, &lineage("a"), 100).await;
    let folder = catalog.look(&orders()).await.unwrap();
    assert!(folder.newest_proven(&lineage("a")).is_none());
    assert_eq!(
        folder.adoptable(&lineage("a")).unwrap().id,
        manifest.snapshot_id
    );
    prove(&catalog, &manifest).await;
    let folder = catalog.look(&orders()).await.unwrap();
    assert_eq!(
        folder.newest_proven(&lineage("a")).unwrap().id,
        manifest.snapshot_id
    );
    assert!(folder.newest_proven(&lineage("b")).is_none());
    assert!(folder.adoptable(&lineage("a")).is_none());
}

#[tokio::test]
async fn a_compaction_base_is_applied_accepted_and_not_quarantined() {
    let catalog = catalog();
    for index in [100, 200] {
        prove(&catalog, &commit(&catalog, &lineage("a"), index).await).await;
    }
    let raw = ["raw/1".to_owned()];
    let folder = catalog.look(&orders()).await.unwrap();
    let base = |applied, codecs: &[String]| {
        folder
            .compaction_base(&lineage("a"), applied, codecs)
            .map(|base| base.last_included().index)
    };
    assert_eq!(base(99, &raw), None);
    assert_eq!(base(199, &raw), Some(100));
    assert_eq!(base(200, &raw), Some(200));
    assert_eq!(base(200, &["other/1".to_owned()]), None);
    let newest = folder.newest_proven(&lineage("a")).unwrap();
    let mark = Quarantine {
        format_version: FORMAT_VERSION,
        snapshot_id: newest.id,
        manifest_digest: newest.digest,
        reason: "test".to_owned(),
        at_unix_ms: 0,
        by: made_by(),
    };
    catalog.quarantine(&orders(), &mark).await.unwrap();
    let folder = catalog.look(&orders()).await.unwrap();
    let base = folder.compaction_base(&lineage("a"), 200, &raw).unwrap();
    assert_eq!(base.last_included().index, 100);
}

#[tokio::test]
async fn a_proof_of_another_manifest_proves_nothing() {
    let catalog = catalog();
    let manifest = commit(&catalog, &lineage("a"), 100).await;
    let (_, digest) = manifest.seal().unwrap();
    let proof = Proof {
        format_version: FORMAT_VERSION,
        snapshot_id: manifest.snapshot_id,
        manifest_digest: crate::format::ManifestDigest(digest.0 ^ 1),
        verify: VerifyLevel::Full,
        verified_at_unix_ms: 0,
        verified_by: made_by(),
        objects: catalog.confirm_files(&manifest).await.unwrap(),
    };
    let key = catalog
        .keys()
        .proof(&orders(), manifest.snapshot_id)
        .unwrap();
    catalog.store().put(&key, proof.encode()).await.unwrap();
    let folder = catalog.look(&orders()).await.unwrap();
    assert!(folder.newest_proven(&lineage("a")).is_none());
    assert!(
        catalog
            .reread_proven(&orders(), manifest.snapshot_id)
            .await
            .is_err()
    );
    // A right proof replaces it.
    prove(&catalog, &manifest).await;
    let folder = catalog.look(&orders()).await.unwrap();
    assert!(folder.newest_proven(&lineage("a")).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_orphan_dies_after_the_grace_and_not_before() {
    let catalog = catalog();
    let orphan = upload(&catalog, &lineage("a"), 100, b"x").await;
    let kept = commit(&catalog, &lineage("b"), 100).await;
    let sweeper = sweeper();
    let report = sweeper.sweep(&catalog, &orders()).await.unwrap();
    assert_eq!((report.orphans, report.flagged, report.deleted), (1, 1, 0));
    let almost = GRACE.checked_sub(Duration::from_secs(1)).unwrap();
    tokio::time::advance(almost).await;
    let report = sweeper.sweep(&catalog, &orders()).await.unwrap();
    assert_eq!((report.flagged, report.deleted), (0, 0));
    assert!(exists(&catalog, FileName::Snap(snap_of(&orphan))).await);
    tokio::time::advance(Duration::from_secs(1)).await;
    let report = sweeper.sweep(&catalog, &orders()).await.unwrap();
    assert_eq!(report.deleted, 1);
    assert!(!exists(&catalog, FileName::Snap(snap_of(&orphan))).await);
    assert!(
        exists(&catalog, FileName::Snap(snap_of(&kept))).await,
        "another lineage's manifest counts"
    );
    let folder = catalog.look(&orders()).await.unwrap();
    assert!(folder.flags.is_empty(), "flags go with their file");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_referenced_after_all_is_kept_and_unflagged() {
    let catalog = catalog();
    let manifest = upload(&catalog, &lineage("a"), 100, b"x").await;
    let sweeper = sweeper();
    sweeper.sweep(&catalog, &orders()).await.unwrap();
    // The committer sees the flag and writes no proof; the deleter sees the manifest and keeps the file.
    catalog.commit(&manifest).await.unwrap();
    let error = catalog.confirm_files(&manifest).await.unwrap_err();
    assert!(
        matches!(
            error,
            CatalogError::Undermined {
                state: "flagged for deletion",
                ..
            }
        ),
        "{error}"
    );
    tokio::time::advance(GRACE * 2).await;
    sweeper.sweep(&catalog, &orders()).await.unwrap();
    assert!(exists(&catalog, FileName::Snap(snap_of(&manifest))).await);
    let folder = catalog.look(&orders()).await.unwrap();
    assert!(folder.flags.is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_manifest_that_cannot_be_understood_stops_all_deletion_in_its_folder() {
    let catalog = catalog();
    let orphan = upload(&catalog, &lineage("a"), 100, b"x").await;
    let strange = commit(&catalog, &lineage("a"), 200).await;
    let sweeper = sweeper();
    sweeper.sweep(&catalog, &orders()).await.unwrap();
    let key = catalog
        .keys()
        .manifest(&orders(), strange.snapshot_id)
        .unwrap();
    catalog
        .store()
        .put(&key, Bytes::from_static(b"{\"format_version\":99}\n"))
        .await
        .unwrap();
    // The manifest was cached while it was readable: a fresh process sees what is there.
    let fresh = Catalog::new(catalog.store().clone(), "snapshots/");
    tokio::time::advance(GRACE * 2).await;
    let error = sweeper.sweep(&fresh, &orders()).await.unwrap_err();
    assert!(
        matches!(error, CatalogError::DeletionBlocked { .. }),
        "{error}"
    );
    assert!(exists(&catalog, FileName::Snap(snap_of(&orphan))).await);
}

#[tokio::test(start_paused = true)]
async fn garbage_of_dead_processes_is_removed() {
    let catalog = catalog();
    let manifest = commit(&catalog, &lineage("a"), 100).await;
    prove(&catalog, &manifest).await;
    let gone = snap_of(&upload(&catalog, &lineage("a"), 50, b"x").await);
    let flag = FileName::Deleting {
        snap: gone,
        flag: Uuid::now_v7(),
    };
    let key = catalog.keys().object(&orders(), flag).unwrap();
    catalog
        .store()
        .put(&key, Bytes::from_static(b"{}\n"))
        .await
        .unwrap();
    let key = catalog
        .keys()
        .object(&orders(), FileName::Snap(gone))
        .unwrap();
    catalog.store().delete(&key).await.unwrap();
    let key = catalog
        .keys()
        .manifest(&orders(), manifest.snapshot_id)
        .unwrap();
    catalog.store().delete(&key).await.unwrap();
    sweeper().sweep(&catalog, &orders()).await.unwrap();
    assert!(!exists(&catalog, flag).await, "a flag without a file");
    assert!(
        !exists(&catalog, FileName::Proof(manifest.snapshot_id)).await,
        "a proof without a manifest"
    );
}

#[tokio::test]
async fn a_sweep_removes_what_a_killed_process_left_in_a_directory_a_day_ago() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let catalog = catalog_over(Backend::Local { root });
    commit(&catalog, &lineage("a"), 100).await;
    let folder = dir.path().join("snapshots/orders/0");
    let [old, fresh] = ["old.snap#1", "fresh.snap#1"].map(|name| folder.join(name));
    for path in [&old, &fresh] {
        std::fs::write(path, b"half").unwrap();
    }
    let written = std::fs::metadata(&old).unwrap().modified().unwrap();
    let day_before = written - Duration::from_hours(24);
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(day_before).unwrap();
    let report = sweeper().sweep(&catalog, &orders()).await.unwrap();
    assert_eq!((report.unfinished, report.orphans), (1, 0));
    assert!(!old.exists());
    assert!(fresh.exists(), "it may be an upload that runs");
}

#[tokio::test]
async fn a_manifest_in_the_wrong_folder_is_not_believed() {
    let catalog = catalog();
    let manifest = commit(&catalog, &lineage("a"), 100).await;
    let (bytes, _) = manifest.seal().unwrap();
    let other = TopicPartition::new("orders", 1).unwrap();
    let key = catalog
        .keys()
        .manifest(&other, manifest.snapshot_id)
        .unwrap();
    catalog.store().put(&key, bytes).await.unwrap();
    let folder = catalog.look(&other).await.unwrap();
    assert!(folder.snapshots.is_empty());
    assert_eq!(folder.unreadable.len(), 1);
}

#[tokio::test]
async fn a_missing_or_short_file_undermines_its_snapshot() {
    let catalog = catalog();
    let manifest = commit(&catalog, &lineage("a"), 100).await;
    let key = catalog
        .keys()
        .object(&orders(), FileName::Snap(snap_of(&manifest)))
        .unwrap();
    catalog
        .store()
        .put(&key, Bytes::from_static(b"sho"))
        .await
        .unwrap();
    let error = catalog.confirm_files(&manifest).await.unwrap_err();
    assert!(
        matches!(
            error,
            CatalogError::Undermined {
                state: "of another size",
                ..
            }
        ),
        "{error}"
    );
    catalog.store().delete(&key).await.unwrap();
    let error = catalog.confirm_files(&manifest).await.unwrap_err();
    assert!(
        matches!(error, CatalogError::Undermined { state: "gone", .. }),
        "{error}"
    );
}
