//! All disks of a cluster are lost: its next incarnation begins from what the store holds, on real processes.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use chronik_harness::{Beginning, Poll};
use chronik_snapshotd::format::RestorePlan;

use crate::support::world::{PATIENCE, TOPIC, World};

/// `chronik-snapshotd restore-cluster` with the store of the world.
fn restore_cluster(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chronik-snapshotd"))
        .arg("restore-cluster")
        .args(arguments)
        .env("OBJECT_STORE_BACKEND", "local")
        .env("LOCAL_STORAGE_PATH", dir.join("store"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).map(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map(Result::unwrap).unwrap_or_default();
    let names = entries.iter().map(fs::DirEntry::file_name);
    names.map(|name| name.into_string().unwrap()).collect()
}

/// Greatest index with a proof in a partition's folder.
fn proven_through(dir: &Path, topic: &str) -> u64 {
    let folder = dir.join("store/snapshots").join(topic).join("0");
    let names = files(&folder).into_iter();
    let proofs = names.filter(|name| name.ends_with(".verified.json"));
    proofs
        .map(|name| name[..20].parse().unwrap())
        .max()
        .unwrap_or(0)
}

/// Waits until the store holds everything that the topic's replicas have applied.
async fn wait_covered(world: &mut World, topic: &str) {
    let applied = |replicas: Vec<(i32, chronik_harness::proto::ReplicaStatus)>| {
        let applied = replicas.iter().map(|(_, replica)| replica.applied_index);
        applied.max().unwrap()
    };
    let target = applied(world.cluster.replicas_of(topic).await);
    let dir = world.dir.path().to_owned();
    world
        .wait("a proven snapshot of everything", async || {
            let through = proven_through(&dir, topic);
            Ok(if through >= target {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{topic}: {through} of {target}"))
            })
        })
        .await;
}

async fn peers(world: &mut World) -> BTreeSet<u64> {
    let mut peers = BTreeSet::new();
    for topic in [TOPIC, "__meta"] {
        let replicas = world.cluster.replicas_of(topic).await;
        for (_, replica) in replicas {
            peers.extend(replica.conf_state.unwrap_or_default().voters);
        }
    }
    peers
}

/// Shows the plan, refuses a wrong confirmation, takes the right one; returns the token.
fn restore(world: &World) -> String {
    let dir = world.dir.path();
    let shown = restore_cluster(dir, &[]);
    let plan = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    for part in [
        "cluster harness, incarnation 1",
        "__meta/0",
        "orders/0",
        "Nothing was written",
    ] {
        assert!(plan.contains(part), "{part} is missing in\n{plan}");
    }
    let wrong = restore_cluster(dir, &["--confirm", "000000000000"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("does not confirm what would be restored now"));
    assert_eq!(files(&dir.join("store/snapshots/@cluster")).len(), 1);
    assert!(files(&dir.join("store/snapshots/@holds")).is_empty());

    let code = plan.split_once("--confirm ").unwrap().1;
    let code = code.split_whitespace().next().unwrap();
    let begun = restore_cluster(dir, &["--confirm", code]);
    assert!(begun.status.success(), "{}", text(&begun.stderr));
    let token = text(&begun.stdout).trim().to_owned();
    assert!(
        token.starts_with("2.") && token.ends_with(".harness"),
        "{token}"
    );
    token
}

fn plan_of(dir: &Path) -> RestorePlan {
    let folder = dir.join("store/snapshots/@holds");
    let names = files(&folder);
    assert_eq!(names.len(), 1, "{names:?}");
    RestorePlan::decode(&fs::read(folder.join(&names[0])).unwrap()).unwrap()
}

/// Starts the broker with a disk of the former incarnation, and waits until it has ended by itself.
async fn start_survivor(world: &mut World) -> String {
    world.cluster.start_broker(1).unwrap();
    wait_ended(world, 1).await
}

/// Waits until a broker has ended by itself; returns its log.
async fn wait_ended(world: &mut World, id: i32) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while world.cluster.node_mut(id).unwrap().broker.is_running() {
        let in_time = tokio::time::Instant::now() < deadline;
        let logs = || world.cluster.log_tails();
        assert!(in_time, "broker {id} goes on:\n{}", logs());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let log = world.cluster.node(id).unwrap().broker.log_path().to_owned();
    fs::read_to_string(log).unwrap()
}

/// Starts these brokers, again and again as a supervisor does, until each has ended with `refusal` `times` times.
async fn wait_refused(world: &mut World, brokers: &[i32], refusal: &str, times: usize) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut refused = 0;
        for id in brokers {
            let node = world.cluster.node_mut(*id).unwrap();
            let log = fs::read_to_string(node.broker.log_path()).unwrap();
            refused += usize::from(log.matches(refusal).count() >= times);
            if !node.broker.is_running() {
                world.cluster.start_broker(*id).unwrap();
            }
        }
        if refused == brokers.len() {
            return;
        }
        let in_time = tokio::time::Instant::now() < deadline;
        assert!(in_time, "not refused:\n{}", world.cluster.log_tails());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Kills every broker and takes the disks away.
fn lose_every_disk(world: &mut World) {
    for id in 1..=3 {
        world.cluster.kill_broker(id).unwrap();
        world.cluster.wipe_broker(id).unwrap();
    }
}

/// Nothing is left of a cluster. Its sidecars do not run any more.
fn lose_disks_and_store(world: &mut World) {
    lose_every_disk(world);
    for id in 1..=3 {
        world.cluster.kill_sidecar(id).unwrap();
    }
    fs::remove_dir_all(world.dir.path().join("store/snapshots")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lost_every_disk_comes_back_from_the_store_and_a_survivor_is_refused() {
    let mut world = World::start(3, |options| {
        options
            .sidecar_env("LOG_THRESHOLD", "500")
            .sidecar_env("TRAILING_ENTRIES", "50")
            .sidecar_env("TIME_THRESHOLD_SECS", "2")
    })
    .await;
    world.produce(2_000, 100).await;
    world
        .wait_replicas("every log to be cut", &[1, 2, 3], |replica| {
            replica.first_log_index > 500
        })
        .await;
    wait_covered(&mut world, TOPIC).await;
    wait_covered(&mut world, "__meta").await;
    for id in 1..=3 {
        world.cluster.kill_sidecar(id).unwrap();
    }
    // Acknowledged, and in no snapshot: an operator must be told, and nothing else may go with it.
    world.produce(300, 100).await;
    let former_peers = peers(&mut world).await;
    let kept = world.dir.path().join("disk-of-a-survivor");
    for id in 1..=3 {
        world.cluster.kill_broker(id).unwrap();
        if id == 1 {
            let disk = world.cluster.node(1).unwrap().data_dir().to_owned();
            fs::rename(disk, &kept).unwrap();
        } else {
            world.cluster.wipe_broker(id).unwrap();
        }
    }

    let token = restore(&world);
    world.cluster.begin_with(&Beginning::Restore(token.clone()));
    for id in 1..=3 {
        world.cluster.start_broker(id).unwrap();
        world.cluster.start_sidecar(id).unwrap();
    }
    world.cluster.wait_formed().await.unwrap();
    world.wait_whole("__meta").await;
    world.wait_whole(TOPIC).await;
    let new_peers = peers(&mut world).await;
    assert!(
        new_peers.is_disjoint(&former_peers),
        "{new_peers:?} {former_peers:?}"
    );
    world.forget_from(2_000);
    world.check_every_record().await;

    // The new life is snapshotted and truncated on its own snapshots; those that it began with stay.
    let before = world.replicas().await[&2].first_log_index;
    world.produce(1_500, 100).await;
    world
        .wait_replicas("every log to be cut again", &[1, 2, 3], |replica| {
            replica.first_log_index > before + 500
        })
        .await;
    world.check_every_record().await;
    let plan = plan_of(world.dir.path());
    assert_eq!(plan.partitions.len(), 2);
    for planned in &plan.partitions {
        let folder = world.dir.path().join("store/snapshots");
        let folder = folder.join(&planned.partition.topic).join("0");
        let name = format!("{}.manifest.json", planned.snapshot_id);
        assert!(files(&folder).contains(&name), "{name} was deleted");
    }

    // A disk of the former life comes back: it cannot join, vote or upload.
    world.cluster.kill_broker(1).unwrap();
    let disk = world.cluster.node(1).unwrap().data_dir().to_owned();
    let current = world.dir.path().join("disk-of-this-life");
    fs::rename(&disk, &current).unwrap();
    fs::rename(&kept, &disk).unwrap();
    world.cluster.begin_with(&Beginning::Join);
    let log = start_survivor(&mut world).await;
    assert!(log.contains("was restored into incarnation 2"), "{log}");
    let again = token.clone();
    world.cluster.begin_with(&Beginning::Restore(token));
    let log = start_survivor(&mut world).await;
    assert!(log.contains("was restored into incarnation 2"), "{log}");
    let sidecar = world.cluster.node(1).unwrap().sidecar.as_ref().unwrap();
    let log = fs::read_to_string(sidecar.log_path()).unwrap();
    assert!(
        log.contains("the store belongs to cluster harness (incarnation 2), the broker to harness (incarnation 1)"),
        "{log}"
    );
    world.produce(200, 100).await;

    fs::rename(&disk, &kept).unwrap();
    fs::rename(&current, &disk).unwrap();
    world.cluster.begin_with(&Beginning::Join);
    world.cluster.start_broker(1).unwrap();
    world.wait_whole(TOPIC).await;
    world.check_every_record().await;

    // Brokers that lose their disk one after the other still have the token, also beside one that joined without.
    world.cluster.begin_with(&Beginning::Restore(again.clone()));
    for id in [3, 2] {
        world.cluster.kill_broker(id).unwrap();
        world.cluster.wipe_broker(id).unwrap();
        world.cluster.start_broker(id).unwrap();
        world.wait_whole("__meta").await;
        world.wait_whole(TOPIC).await;
    }

    // All disks are lost again, and the token stayed in the start script: it has been used.
    lose_every_disk(&mut world);
    world.cluster.begin_with(&Beginning::Restore(again));
    let refused = "incarnation 2 of cluster harness lived before";
    wait_refused(&mut world, &[1, 2, 3], refused, 1).await;
}

/// One of the brokers has nobody who could look: that the others follow it must not be enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_asked_nobody_does_not_speak_for_those_who_did() {
    let mut world = World::start(3, |options| options).await;
    world.produce(10, 100).await;
    wait_covered(&mut world, "__meta").await;
    lose_every_disk(&mut world);
    world.cluster.kill_sidecar(1).unwrap();
    let sidecar = world.cluster.sidecar_mut(1).unwrap();
    sidecar.set_env("CHRONIK_SNAPSHOT_BOOTSTRAP_ENABLED", "false");
    world.cluster.start_sidecar(1).unwrap();
    world.cluster.begin_with(&Beginning::Found);
    world.cluster.start_broker(1).unwrap();
    // Some of the times broker 1 says that the cluster is there.
    wait_refused(&mut world, &[2, 3], "harness lived before", 3).await;
}

/// Nor does it keep them from founding one over an empty store.
#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_asked_nobody_keeps_nobody_from_founding_a_new_cluster() {
    let mut world = World::start(3, |options| options).await;
    lose_disks_and_store(&mut world);
    let sidecar = world.cluster.sidecar_mut(1).unwrap();
    sidecar.set_env("CHRONIK_SNAPSHOT_BOOTSTRAP_ENABLED", "false");
    world.cluster.begin_with(&Beginning::Found);
    for id in 1..=3 {
        world.cluster.start_sidecar(id).unwrap();
        world.cluster.start_broker(id).unwrap();
    }
    world.cluster.wait_formed().await.unwrap();
    world.wait_whole("__meta").await;
}

/// Broker 3 is one of the first, and has nobody to ask before the new life has a snapshot already: the others looked
/// before there was one.
#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_comes_late_finds_the_snapshots_of_its_own_life_and_is_let_in() {
    let mut world = World::start(3, |options| options).await;
    lose_disks_and_store(&mut world);
    world.cluster.begin_with(&Beginning::Found);
    for id in 1..=3 {
        if id != 3 {
            world.cluster.start_sidecar(id).unwrap();
        }
        world.cluster.start_broker(id).unwrap();
    }
    let dir = world.dir.path().to_owned();
    world
        .wait("a proven snapshot of the new life", async || {
            Ok(match proven_through(&dir, "__meta") {
                0 => Poll::NotYet("none".to_owned()),
                _ => Poll::Done(()),
            })
        })
        .await;
    world.cluster.start_sidecar(3).unwrap();
    world.cluster.wait_formed().await.unwrap();
    world.wait_whole("__meta").await;
}

/// Two disks of three are gone. What the third one has applied is committed: its sidecar can still save it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_survivor_has_applied_is_saved_before_the_restore() {
    let mut world =
        World::start(3, |options| options.sidecar_env("LOG_THRESHOLD", "1000000")).await;
    world.produce(500, 100).await;
    let leads = |replica: &&(i32, chronik_harness::proto::ReplicaStatus)| {
        replica.1.role == chronik_harness::Role::Leader as i32
    };
    let replicas = world.cluster.replicas_of(TOPIC).await;
    let survivor = replicas.iter().find(leads).unwrap().0;
    for id in (1..=3).filter(|id| *id != survivor) {
        world.cluster.kill_sidecar(id).unwrap();
        world.cluster.kill_broker(id).unwrap();
        world.cluster.wipe_broker(id).unwrap();
    }
    assert_eq!(proven_through(world.dir.path(), TOPIC), 0);
    for topic in [TOPIC, "__meta"] {
        world.trigger_on(survivor, topic).await;
    }
    world.cluster.kill_sidecar(survivor).unwrap();
    world.cluster.kill_broker(survivor).unwrap();
    world.cluster.wipe_broker(survivor).unwrap();
    let token = restore(&world);
    world.cluster.begin_with(&Beginning::Restore(token));
    for id in 1..=3 {
        world.cluster.start_broker(id).unwrap();
        world.cluster.start_sidecar(id).unwrap();
    }
    world.cluster.wait_formed().await.unwrap();
    world.wait_whole(TOPIC).await;
    world.check_every_record().await;
    world.cluster.stop().await.unwrap();
}

/// A start script that always says "new" must not put an empty cluster over the snapshots of the one that was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cluster_is_not_founded_anew_over_its_own_snapshots() {
    let mut world =
        World::start(1, |options| options.sidecar_env("TIME_THRESHOLD_SECS", "2")).await;
    world.produce(10, 100).await;
    wait_covered(&mut world, "__meta").await;
    world.cluster.kill_broker(1).unwrap();
    world.cluster.wipe_broker(1).unwrap();
    world.cluster.begin_with(&Beginning::Found);
    let log = start_survivor(&mut world).await;
    assert!(
        log.contains("incarnation 1 of cluster harness lived before"),
        "{log}"
    );
    assert!(log.contains("restore-cluster"), "{log}");
    let before = proven_through(world.dir.path(), "__meta");
    assert!(before > 0);

    // While nobody can look, nobody founds.
    world.cluster.kill_sidecar(1).unwrap();
    world.cluster.start_broker(1).unwrap();
    let log = world.cluster.node(1).unwrap().broker.log_path().to_owned();
    world
        .wait("a broker that waits for its sidecar", async || {
            let text = fs::read_to_string(&log).unwrap();
            Ok(
                if text.contains("not known yet whether this cluster is new") {
                    Poll::Done(())
                } else {
                    Poll::NotYet("no such line".to_owned())
                },
            )
        })
        .await;
    assert!(world.cluster.node_mut(1).unwrap().broker.is_running());
    world.cluster.start_sidecar(1).unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while world.cluster.node_mut(1).unwrap().broker.is_running() {
        let in_time = tokio::time::Instant::now() < deadline;
        assert!(
            in_time,
            "it was founded anew:\n{}",
            world.cluster.log_tails()
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
