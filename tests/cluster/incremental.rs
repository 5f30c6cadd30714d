//! Snapshots that point into earlier ones, on real processes: what they cost, what they restore to, what happens to
//! the files that they share.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use chronik_harness::ClusterOptions;
use chronik_snapshotd::format::{Manifest, SnapName};

use crate::support::world::{TOPIC, World};

const SEGMENT_BYTES: u64 = 64 << 10;
/// Records of 1 KB that fill some segments.
const SEGMENTS: u64 = 500;

fn small_segments(options: ClusterOptions) -> ClusterOptions {
    options
        .broker_args([format!("--segment-bytes={SEGMENT_BYTES}")])
        .sidecar_env("LOG_THRESHOLD", "1000000")
        .sidecar_env("COMPRESSION", "none")
}

fn manifests(world: &World) -> Vec<Manifest> {
    let paths = world.stored(".manifest.json");
    let read = |path: &PathBuf| Manifest::decode(&fs::read(path).unwrap()).unwrap();
    paths.iter().map(read).collect()
}

/// Takes a snapshot and gives its manifest.
async fn take(world: &World) -> Manifest {
    let id = world.trigger().await.snapshot_id;
    let mut all = manifests(world).into_iter();
    all.find(|manifest| manifest.snapshot_id.to_string() == id)
        .unwrap()
}

fn own_file(manifest: &Manifest) -> String {
    let id = manifest.snapshot_id;
    SnapName { id, number: 0 }.to_string()
}

fn size_bytes(world: &World, file: &str) -> u64 {
    let files = world.stored(".snap");
    let named = |path: &&PathBuf| path.file_name().unwrap() == Path::new(file);
    fs::metadata(files.iter().find(named).unwrap())
        .unwrap()
        .len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_costs_what_changed_however_large_the_partition_is() {
    let mut world = World::start(1, small_segments).await;
    world.produce(SEGMENTS, 1_000).await;
    let first = take(&world).await;
    assert_eq!(first.increment, 0);
    let mut before = first;
    for increment in 1..=3 {
        world.produce(50 * increment, 1_000).await;
        let next = take(&world).await;
        assert_eq!(u64::from(next.increment), increment);
        let new_bytes = next.raw_bytes() - before.raw_bytes();
        let stored_bytes = size_bytes(&world, &own_file(&next));
        // The tail is stored again each time, and what it was when it was sealed.
        assert!(
            stored_bytes <= new_bytes + 2 * SEGMENT_BYTES,
            "{stored_bytes} stored for {new_bytes} new of {}",
            next.raw_bytes()
        );
        before = next;
    }
    let metrics = world.cluster.node(1).unwrap().metrics().await.unwrap();
    assert!(metrics.sum("chronik_snapshot_reused_bytes_total", &[]) > 1_000_000.0);
    world.check_every_record().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_seeded_from_files_of_several_snapshots() {
    let mut world = World::start(3, |options| {
        small_segments(options)
            .sidecar_env("LOG_THRESHOLD", "400")
            .sidecar_env("TRAILING_ENTRIES", "10")
            .sidecar_env("RETENTION_COUNT", "1")
    })
    .await;
    for round in 1..=4 {
        world.produce(SEGMENTS, 1_000).await;
        // 400 entries a snapshot at least, without the 10 that trail; more than 500 a round they cannot be.
        let least = round * 390;
        world
            .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
                replica.first_log_index > least
            })
            .await;
    }
    let newest = manifests(&world).pop().unwrap();
    assert!(newest.references.len() >= 3, "{:?}", newest.references);
    world.cluster.kill_broker(3).unwrap();
    world.cluster.wipe_broker(3).unwrap();
    world.cluster.start_broker(3).unwrap();
    world
        .wait_replicas("broker 3 to be seeded", &[3], |replica| {
            replica.applied_index >= newest.last_included.index
        })
        .await;
    world.wait_whole(TOPIC).await;
    world.wait_whole("__meta").await;
    world.check_seeded(3).await;
    // Its records are read from what the files of four snapshots gave.
    world.cluster.kill_broker(1).unwrap();
    world.produce(10, 100).await;
    world.check_every_record().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_lives_as_long_as_something_points_into_it_and_no_longer() {
    let mut world = World::start(1, |options| {
        small_segments(options)
            .sidecar_env("RETENTION_COUNT", "1")
            .sidecar_env("INCREMENTAL_FULL_EVERY", "3")
    })
    .await;
    world.produce(SEGMENTS, 1_000).await;
    let mut increments = Vec::new();
    for _ in 0..4 {
        world.produce(80, 1_000).await;
        increments.push(take(&world).await.increment);
        world.wait_stored(".manifest.json", 1).await;
        let kept = manifests(&world).remove(0);
        world.wait_stored(".snap", kept.references.len()).await;
        let files = world.stored(".snap");
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files: BTreeSet<String> = files.iter().map(name).collect();
        assert_eq!(files, kept.references.into_iter().collect());
    }
    assert_eq!(increments, [0, 1, 2, 0]);
    world.check_every_record().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_codec_or_the_switch_makes_a_complete_snapshot() {
    let mut world = World::start(1, small_segments).await;
    let mut seen = Vec::new();
    for (key, value) in [
        ("LOG", "info"),
        ("LOG", "info"),
        ("COMPRESSION", "gzip"),
        ("LOG", "info"),
        ("INCREMENTAL", "false"),
    ] {
        world.produce(SEGMENTS, 1_000).await;
        world.cluster.kill_sidecar(1).unwrap();
        let sidecar = world.cluster.sidecar_mut(1).unwrap();
        sidecar.set_env(format!("CHRONIK_SNAPSHOT_{key}"), value);
        world.cluster.start_sidecar(1).unwrap();
        world.wait_ticks(1).await;
        let taken = take(&world).await;
        seen.push((taken.increment, taken.references.len() > 1));
    }
    let (complete, incremental) = ((0, false), |n| (n, true));
    assert_eq!(
        seen,
        [complete, incremental(1), complete, incremental(1), complete]
    );
}

/// Damage to a shared file is found before a log is cut on any snapshot that needs it, and nothing new points into it.
#[tokio::test(flavor = "multi_thread")]
async fn damage_to_a_shared_file_taints_it_for_every_later_snapshot() {
    let mut world = World::start(1, |options| {
        small_segments(options)
            .sidecar_env("COMPACT", "false")
            .sidecar_env("TRAILING_ENTRIES", "0")
    })
    .await;
    world.produce(SEGMENTS, 1_000).await;
    let first = take(&world).await;
    world.produce(10, 1_000).await;
    let second = take(&world).await;
    assert!(second.references.contains(&own_file(&first)));
    world.cluster.kill_sidecar(1).unwrap();
    let files = world.stored(".snap");
    let shared = files.iter().find(|path| path.ends_with(own_file(&first)));
    let shared = shared.unwrap();
    let flipped: Vec<u8> = fs::read(shared)
        .unwrap()
        .iter()
        .map(|byte| byte ^ 1)
        .collect();
    fs::write(shared, flipped).unwrap();
    let sidecar = world.cluster.sidecar_mut(1).unwrap();
    sidecar.set_env("CHRONIK_SNAPSHOT_COMPACT", "true");
    sidecar.set_env("CHRONIK_SNAPSHOT_LOG_THRESHOLD", "100");
    world.cluster.start_sidecar(1).unwrap();
    world
        .wait_replicas("the log to be cut", &[1], |replica| {
            replica.first_log_index > SEGMENTS
        })
        .await;
    let last = manifests(&world).pop().unwrap();
    assert!(last.snapshot_id > second.snapshot_id);
    assert!(!last.references.contains(&own_file(&first)));
    assert_eq!(world.stored(".quarantined.json").len(), 2);
    world.check_every_record().await;
}
