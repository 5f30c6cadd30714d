//! The plan's own list, on real broker and sidecar processes. Each test is named after its task.

use std::{fs, path::Path, process::Command};

use chronik_harness::Poll;
use chronik_snapshotd::{
    format::{CheckedObject, Manifest, PartHasher, Proof, SnapName},
    proto::v1::ReplicaRole,
};

use crate::support::world::{PATIENCE, TOPIC, World};

fn manifest(path: &Path) -> Manifest {
    Manifest::decode(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn task_3_5_the_log_is_truncated_after_20_000_entries_and_appends_go_on() {
    // The product's own thresholds: 10,000 entries, 1,000 trailing.
    let mut world = World::start(3, |options| options).await;
    world.produce(20_000, 100).await;
    world
        .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
            replica.first_log_index > 8_000
        })
        .await;
    world.produce(1_000, 100).await;
    world.check_every_record().await;
    world.cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn task_3_5_followers_truncate_on_the_leaders_snapshot() {
    let mut world = World::start(3, |options| {
        options
            .sidecar_env("LOG_THRESHOLD", "1000")
            .sidecar_env("TRAILING_ENTRIES", "100")
    })
    .await;
    world.produce(1_200, 100).await;
    world
        .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
            replica.first_log_index > 800
        })
        .await;
    assert_eq!(
        world.stored(".manifest.json").len(),
        1,
        "one snapshot served all three"
    );
    world.check_every_record().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn task_3_7_a_broker_that_lost_its_disk_comes_back_from_a_snapshot() {
    let mut world = World::start(3, |options| {
        options
            .sidecar_env("LOG_THRESHOLD", "2000")
            .sidecar_env("TRAILING_ENTRIES", "200")
    })
    .await;
    world.produce(10_000, 200).await;
    world
        .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
            replica.first_log_index > 7_000
        })
        .await;
    let old_peer = world.replicas().await[&3].peer_id;
    world.cluster.kill_broker(3).unwrap();
    world.cluster.wipe_broker(3).unwrap();
    world.cluster.start_broker(3).unwrap();
    world
        .wait_replicas("broker 3 to vote again", &[3], |replica| {
            let votes = replica.conf_state.as_ref().is_some_and(|conf| {
                conf.voters.contains(&replica.peer_id) && !conf.voters.contains(&old_peer)
            });
            votes && replica.role != ReplicaRole::Learner as i32 && replica.peer_id != old_peer
        })
        .await;
    // A joint configuration would still need the dead peer's majority.
    world.wait_whole(TOPIC).await;
    world.wait_whole("__meta").await;
    world.check_seeded(3).await;
    // Broker 3 is needed for the quorum now.
    world.cluster.kill_broker(1).unwrap();
    world.produce(100, 200).await;
    world.check_every_record().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn task_3_8_a_restored_replica_starts_at_the_snapshots_index() {
    let mut world = World::start(3, |options| {
        options
            .sidecar_env("LOG_THRESHOLD", "1000")
            .sidecar_env("TRAILING_ENTRIES", "0")
    })
    .await;
    world.produce(1_500, 100).await;
    world
        .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
            replica.first_log_index > 900
        })
        .await;
    let snapshot = manifest(world.stored(".manifest.json").last().unwrap());
    let index = snapshot.last_included.index;
    world.cluster.kill_broker(3).unwrap();
    world.cluster.wipe_broker(3).unwrap();
    world.cluster.start_broker(3).unwrap();
    world
        .wait_replicas("broker 3 to be seeded", &[3], |replica| {
            replica.applied_index >= index && replica.first_log_index == index + 1
        })
        .await;
    world.check_every_record().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn task_3_8_creation_and_upload_in_every_compression() {
    for compression in ["gzip", "zstd", "none"] {
        let mut world =
            World::start(1, |options| options.sidecar_env("COMPRESSION", compression)).await;
        // Payloads far above 4 MiB: more than 20 MiB in 64 KiB records.
        world.produce(330, 64 << 10).await;
        let answer = world.trigger().await;
        let snap = world.stored(".snap").pop().unwrap();
        assert!(
            snap.to_str().unwrap().contains(&answer.snapshot_id),
            "the name is the id"
        );
        let manifest = manifest(&world.stored(".manifest.json")[0]);
        assert!(manifest.raw_bytes() > 20 << 20);
        assert_eq!(world.stored(".verified.json").len(), 1);
        if compression != "zstd" {
            let program = if compression == "gzip" {
                ["gunzip", "-c"]
            } else {
                ["cat", "-"]
            };
            let output = Command::new(program[0])
                .arg(program[1])
                .stdin(fs::File::open(&snap).unwrap())
                .output()
                .unwrap();
            assert!(output.status.success());
            let mut rest = output.stdout.as_slice();
            for part in &manifest.parts {
                let (bytes, after) =
                    rest.split_at(usize::try_from(part.digest.size_bytes).unwrap());
                let mut hasher = PartHasher::new();
                hasher.update(bytes);
                assert_eq!(
                    hasher.finish(),
                    part.digest,
                    "{compression}: part {}",
                    part.part_id
                );
                rest = after;
            }
            assert!(rest.is_empty());
        }
        world.check_every_record().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn task_3_8_of_five_snapshots_three_are_kept() {
    let mut world = World::start(1, |options| options.sidecar_env("RETENTION_COUNT", "3")).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        world.produce(10, 100).await;
        ids.push(world.trigger().await.snapshot_id);
    }
    let kept = world.wait_stored(".manifest.json", 3).await;
    for (path, id) in kept.iter().zip(&ids[2..]) {
        assert!(
            path.to_str().unwrap().contains(id.as_str()),
            "the newest three stay"
        );
    }
    world.wait_stored(".snap", 3).await;
    world.wait_stored(".verified.json", 3).await;
    let again = world.trigger().await;
    assert!(again.already_covered, "nothing new: nothing taken");
    assert_eq!(again.snapshot_id, ids[4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn task_3_8_the_background_loop_fires_by_itself() {
    let mut world = World::start(1, |options| options.sidecar_env("LOG_THRESHOLD", "500")).await;
    world.produce(600, 100).await;
    world.wait_stored(".verified.json", 1).await;
    let metrics = world.cluster.node(1).unwrap().metrics().await.unwrap();
    assert!(metrics.sum("chronik_snapshot_loop_running", &[]) > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn task_3_8_time_alone_fires_once_and_an_idle_partition_never_again() {
    let mut world =
        World::start(1, |options| options.sidecar_env("TIME_THRESHOLD_SECS", "3")).await;
    world.produce(5, 100).await;
    world.wait_stored(".verified.json", 1).await;
    world.wait_ticks(6).await;
    assert_eq!(world.stored(".manifest.json").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_snapshot_again() {
    let mut world = World::start(1, |options| options.sidecar_env("LOG_THRESHOLD", "500")).await;
    world.produce(600, 100).await;
    world.wait_stored(".verified.json", 1).await;
    let before = world.stored("");
    world.cluster.kill_sidecar(1).unwrap();
    world.cluster.start_sidecar(1).unwrap();
    world.wait_ticks(3).await;
    // The same files: a second snapshot of one index would have replaced the first.
    assert_eq!(world.stored(""), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_is_newer_than_nine_thousand_nine_hundred() {
    let mut world = World::start(1, |options| {
        options
            .sidecar_env("RETENTION_COUNT", "1")
            .sidecar_env("LOG_THRESHOLD", "1000000")
    })
    .await;
    world.produce(9_900, 50).await;
    let below = world.trigger().await.last_included.unwrap().index;
    world.produce(200, 50).await;
    let above = world.trigger().await;
    let index = above.last_included.unwrap().index;
    assert!(
        below < 10_000 && index >= 10_000,
        "{below} and {index} are on the two sides"
    );
    let kept = world.wait_stored(".manifest.json", 1).await;
    assert!(kept[0].to_str().unwrap().contains(&above.snapshot_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_newest_snapshot_does_not_keep_a_broker_out() {
    let mut world = World::start(3, |options| {
        // Nothing is truncated, so an older snapshot still joins the log.
        options
            .sidecar_env("LOG_THRESHOLD", "500")
            .sidecar_env("TRAILING_ENTRIES", "1000000")
    })
    .await;
    world.produce(600, 100).await;
    world.wait_stored(".verified.json", 1).await;
    world.produce(600, 100).await;
    let snaps = {
        world.wait_stored(".verified.json", 2).await;
        world.stored(".snap")
    };
    let mut bytes = fs::read(&snaps[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&snaps[1], bytes).unwrap();
    world.cluster.kill_broker(3).unwrap();
    world.cluster.wipe_broker(3).unwrap();
    world.cluster.start_broker(3).unwrap();
    let older = manifest(&world.stored(".manifest.json")[0])
        .last_included
        .index;
    world
        .wait_replicas(
            "broker 3 to be seeded from the older one",
            &[3],
            |replica| replica.first_log_index == older + 1 && replica.applied_index > older,
        )
        .await;
    world.wait_stored(".quarantined.json", 1).await;
    world.check_every_record().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_and_recreated_topic_shares_nothing_with_its_former_life() {
    let mut world = World::start(3, |options| {
        options
            .sidecar_env("LOG_THRESHOLD", "500")
            .sidecar_env("TRAILING_ENTRIES", "50")
    })
    .await;
    world.produce(600, 100).await;
    world
        .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
            replica.first_log_index > 300
        })
        .await;
    let client = world.cluster.client().clone();
    client.delete_topic(TOPIC, PATIENCE).await.unwrap();
    // Each broker learns of it in its own time; one that has not yet says that the topic exists.
    world.wait_gone().await;
    client.create_topic(TOPIC, 1, 3, PATIENCE).await.unwrap();
    world
        .wait_replicas("the new life", &[1, 2, 3], |replica| {
            replica.first_log_index == 1
        })
        .await;
    world.cluster.kill_broker(3).unwrap();
    world.cluster.wipe_broker(3).unwrap();
    world.cluster.start_broker(3).unwrap();
    world
        .wait_replicas("broker 3 to be back", &[3], |replica| {
            replica.applied_index >= 1
        })
        .await;
    let end = client.offsets(TOPIC, 0, PATIENCE).await.unwrap();
    assert_eq!(end, 0..0, "the new life is empty");
    let replica = world.replicas().await.remove(&3).unwrap();
    assert_eq!(
        replica.first_log_index, 1,
        "nothing of the old life was installed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_snapshot_with_another_term_truncates_nothing() {
    let mut world = World::start(1, |options| {
        options
            .sidecar_env("COMPACT", "false")
            .sidecar_env("LOG_THRESHOLD", "1000000")
            .sidecar_env("TRAILING_ENTRIES", "0")
    })
    .await;
    world.produce(200, 100).await;
    world.trigger().await;
    world.cluster.kill_sidecar(1).unwrap();
    forge_another_term(&world);
    // A sidecar that may truncate finds the forged snapshot, which verifies in every byte.
    world
        .cluster
        .sidecar_mut(1)
        .unwrap()
        .set_env("CHRONIK_SNAPSHOT_COMPACT", "true");
    world.cluster.start_sidecar(1).unwrap();
    let node = world.cluster.node(1).unwrap().sidecar_http_address();
    world
        .wait("the alarm", async || {
            let page = chronik_harness::Metrics(chronik_harness::get(&node, "/metrics").await?);
            let divergence = page.sum("chronik_snapshot_divergence_total", &[]);
            Ok(if divergence >= 1.0 {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{divergence}"))
            })
        })
        .await;
    assert_eq!(world.replicas().await[&1].first_log_index, 1);
}

/// Replaces the one snapshot by one that says another term and is right in everything else.
fn forge_another_term(world: &World) {
    let (old_manifest, old_proof) = (
        &world.stored(".manifest.json")[0],
        &world.stored(".verified.json")[0],
    );
    let old_snap = &world.stored(".snap")[0];
    let folder = old_snap.parent().unwrap();
    let mut forged = manifest(old_manifest);
    forged.last_included.term += 1;
    forged.snapshot_id.last_included.term += 1;
    let id = forged.snapshot_id;
    let snap = SnapName { id, number: 0 }.to_string();
    forged.references = vec![snap.clone()];
    let (bytes, digest) = forged.seal().unwrap();
    let mut proof = Proof::decode(&fs::read(old_proof).unwrap()).unwrap();
    proof.snapshot_id = id;
    proof.manifest_digest = digest;
    proof.objects = vec![CheckedObject {
        name: snap.clone(),
        size_bytes: fs::metadata(old_snap).unwrap().len(),
    }];
    fs::rename(old_snap, folder.join(snap)).unwrap();
    fs::write(folder.join(format!("{id}.manifest.json")), bytes).unwrap();
    fs::write(folder.join(format!("{id}.verified.json")), proof.encode()).unwrap();
    fs::remove_file(old_manifest).unwrap();
    fs::remove_file(old_proof).unwrap();
}
