//! The disk of a store in a directory is full.

use std::{collections::BTreeSet, fs, path::PathBuf};

use chronik_harness::{Poll, SidecarStatus, Store, get, proto::ReplicaStatus};

use crate::{
    proven::{check_covered, covered, files, files_ending},
    root,
    tmpfs::{PAGE_BYTES, Tmpfs},
    world::{TOPIC, World},
};

const THRESHOLD: u64 = 100;
/// Makes the partition due.
const ENOUGH: u64 = THRESHOLD + 10;
/// Values of this size make a snapshot that is uploaded in several parts.
const LARGE_BYTES: usize = 256 << 10;
const PAGES_OF_A_PART: usize = (8 << 20) / PAGE_BYTES;
/// More pages than the files of one small snapshot take.
const MORE_THAN_ALL_PAGES: usize = 40;

struct Rig {
    world: World,
    store: Tmpfs,
}

impl Rig {
    async fn start() -> Self {
        let store = Tmpfs::mount(64);
        let dir = store.path().join("store");
        let world = World::start(1, |options| {
            options
                .store(Store::Local(dir))
                // Small snapshots of the metadata would take the last pages, and say that the store is there.
                .sidecar_env("TOPICS_EXCLUDE", "__meta")
                .sidecar_env("LOG_THRESHOLD", &THRESHOLD.to_string())
                .sidecar_env("TRAILING_ENTRIES", "5")
                .sidecar_env("RETENTION_COUNT", "1")
                .sidecar_env("COMPRESSION", "none")
        })
        .await;
        Self { world, store }
    }

    fn folder(&self) -> PathBuf {
        let snapshots = self.store.path().join("store/snapshots");
        snapshots.join(TOPIC).join("0")
    }

    fn log(&self) -> String {
        let sidecar = self.world.cluster.node(1).unwrap().sidecar.as_ref();
        fs::read_to_string(sidecar.unwrap().log_path()).unwrap()
    }

    async fn first_log_index(&mut self) -> u64 {
        self.world.replicas().await[&1].first_log_index
    }

    /// Waits for the outcome of the next visit: why it failed, or nothing once the log is short.
    async fn outcome(&mut self) -> Option<String> {
        let address = self.world.cluster.node(1).unwrap().sidecar_grpc_address();
        let end = self.world.replicas().await[&1].last_log_index;
        let look = async || {
            let body = get(&address, "/status").await?;
            let status: SidecarStatus = serde_json::from_str(&body).unwrap();
            let of_topic = status.partitions.into_iter().find(|it| it.topic == TOPIC);
            Ok(match of_topic {
                Some(it) if !it.last_error.is_empty() => Poll::Done(Some(it.last_error)),
                Some(it) if it.last_log_index >= end && end - it.first_log_index < THRESHOLD => {
                    Poll::Done(None)
                }
                other => Poll::NotYet(format!("{other:?}")),
            })
        };
        self.world.wait("the outcome of a visit", look).await
    }

    /// A failure that a full disk explains is told in full, wherever an operator looks.
    async fn check_told(&self, error: &str) {
        let dir = self.store.path().join("store");
        let dir = format!("\"{}\" is full", dir.display());
        assert!(error.contains(&dir), "{error}");
        assert!(error.contains("No space left on device"), "{error}");
        let log = self.log().replace("\\\"", "\"");
        assert!(log.contains(&dir), "{log}");
        let metrics = self.world.cluster.node(1).unwrap().metrics().await.unwrap();
        let sum = |name: &str, labels: &[(&str, &str)]| {
            metrics.sum(&format!("chronik_snapshot_{name}"), labels)
        };
        assert!(sum("store_requests_total", &[("code", "full")]) >= 1.0);
        assert!(sum("consecutive_failures", &[("topic", TOPIC)]) >= 1.0);
        assert!(sum("store_available", &[]) < 0.5);
        let status = self.world.cluster.node(1).unwrap().status().await.unwrap();
        assert!(!status.daemon.store_available);
    }

    /// Nothing that was begun is left under a name that listings hide.
    fn check_no_staging(&self) {
        let staged = |path: &PathBuf| path.to_str().unwrap().contains('#');
        let left: Vec<_> = files(&self.folder()).into_iter().filter(staged).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// The next visit fails and says why, and what there was before is what there is.
    async fn fails(&mut self) {
        let (first, before) = (self.first_log_index().await, covered(&self.folder()));
        let Some(error) = self.outcome().await else {
            panic!("a full disk took a snapshot");
        };
        self.check_told(&error).await;
        self.check_no_staging();
        assert_eq!(self.first_log_index().await, first, "the log was cut");
        assert_eq!(covered(&self.folder()), before);
    }

    /// With room again it gets through without help.
    async fn recovers(&mut self) {
        let short = |it: &ReplicaStatus| it.last_log_index + 1 - it.first_log_index < THRESHOLD;
        self.world.wait_replicas("a short log", &[1], short).await;
        self.check_safety().await;
        self.check_no_staging();
    }

    async fn check_safety(&mut self) {
        let replicas = self.world.replicas().await;
        check_covered(&self.folder(), replicas.values());
    }

    /// A new process: no back-off is left from the fault before.
    fn restart_with(&mut self, free_pages: usize) {
        self.world.cluster.kill_sidecar(1).unwrap();
        self.store.fill(free_pages);
        self.world.cluster.start_sidecar(1).unwrap();
    }
}

/// If it failed: a disk that fills up during a visit costs log entries that no snapshot holds, and nobody is told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_disk_is_full_costs_nothing_and_is_named() {
    if !root::may_mount() {
        return;
    }
    let mut faults = 0;
    let mut rig = Rig::start().await;
    // Full before there is anything.
    rig.store.fill(0);
    rig.world.produce(ENOUGH, 100).await;
    rig.fails().await;
    assert!(files_ending(&rig.folder(), ".manifest.json").is_empty());
    faults += 1;
    rig.store.free();
    rig.recovers().await;

    // Full at every page that the files of a visit take: data, manifest, proof.
    rig.world.produce(ENOUGH, 100).await;
    let mut stages = BTreeSet::new();
    for free_pages in 0.. {
        assert!(free_pages < MORE_THAN_ALL_PAGES, "it never gets through");
        rig.restart_with(free_pages);
        let outcome = rig.outcome().await;
        rig.check_safety().await;
        rig.check_no_staging();
        let Some(error) = outcome else { break };
        println!("{free_pages} pages: {error}");
        stages.extend(error.split_once(' ').map(|(stage, _)| stage.to_owned()));
        rig.check_told(&error).await;
        faults += 1;
    }
    rig.store.free();
    for stage in ["upload", "commit", "verify"] {
        assert!(stages.contains(stage), "{stage}: {stages:?}");
    }

    // Full in the middle of an upload in parts.
    rig.world.produce(ENOUGH, LARGE_BYTES).await;
    rig.restart_with(PAGES_OF_A_PART + PAGES_OF_A_PART / 2);
    rig.fails().await;
    faults += 1;
    rig.store.free();
    rig.recovers().await;
    rig.world.check_every_record().await;
    println!("EVIDENCE faults_injected {faults}");
}
