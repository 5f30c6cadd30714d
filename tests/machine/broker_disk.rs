//! The disk of a broker is full.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use chronik_harness::{HarnessError, Role, proto::ReplicaStatus};

use crate::{
    load::Load,
    proven::check_covered,
    root,
    tmpfs::Tmpfs,
    world::{PATIENCE, TOPIC, World},
};

const BROKERS: i32 = 3;
const LEADER: i32 = Role::Leader as i32;
/// Holds what a broker writes in this test several times over, before the ballast.
const DISK_MIB: usize = 64;
/// Acknowledgements that show that the cluster goes on.
const SOME: u64 = 200;

/// What a broker keeps is on two disks, so that either can be full.
struct Disks {
    /// The Raft log.
    log: Tmpfs,
    /// Everything else.
    state: Tmpfs,
}

impl Disks {
    /// Disks for a broker with this data directory.
    fn mount(data_dir: &Path) -> Self {
        let disks = Self {
            log: Tmpfs::mount(DISK_MIB),
            state: Tmpfs::mount(DISK_MIB),
        };
        symlink(disks.state.path(), data_dir).unwrap();
        symlink(disks.log.path(), data_dir.join("log")).unwrap();
        disks
    }
}

/// Which of them is full.
#[derive(Debug, Clone, Copy)]
enum Full {
    Log,
    State,
    Both,
}

struct Rig {
    world: World,
    load: Load,
    /// By broker, from 1.
    disks: Vec<Disks>,
    faults: u64,
}

impl Rig {
    async fn start() -> Self {
        let mut disks = Vec::new();
        let world = World::start(BROKERS, |options| {
            for id in 1..=BROKERS {
                let data_dir = options.base_dir.join(format!("broker-{id}"));
                disks.push(Disks::mount(&data_dir));
            }
            options
                .sidecar_env("LOG_THRESHOLD", "1000")
                .sidecar_env("TRAILING_ENTRIES", "100")
        })
        .await;
        let load = Load::start(world.cluster.client());
        Self {
            world,
            load,
            disks,
            faults: 0,
        }
    }

    fn disks(&self, id: i32) -> &Disks {
        &self.disks[usize::try_from(id - 1).unwrap()]
    }

    /// The brokers: the leader of the topic first.
    async fn leader_first(&mut self) -> [i32; 3] {
        loop {
            let replicas = self.world.replicas().await;
            let leads = |id: &i32| replicas.get(id).is_some_and(|it| it.role == LEADER);
            if let Some(leader) = (1..=BROKERS).find(leads) {
                let mut others = (1..=BROKERS).filter(|id| *id != leader);
                return [leader, others.next().unwrap(), others.next().unwrap()];
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn goes_on(&self) {
        let logs = || self.world.cluster.log_tails();
        self.load.wait_more(SOME, logs).await;
    }

    /// Fills one or both disks and waits until the broker has ended: cleanly, with the cause in its log.
    async fn fill(&mut self, id: i32, full: Full) {
        if matches!(full, Full::Log | Full::Both) {
            self.disks(id).log.fill(0);
        }
        if matches!(full, Full::State | Full::Both) {
            self.disks(id).state.fill(0);
        }
        self.faults += 1;
        let log = self.world.cluster.node(id).unwrap().broker.log_path();
        let log = log.to_owned();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let status = loop {
            match self.world.cluster.node_mut(id).unwrap().broker.check() {
                Err(HarnessError::Died { status, .. }) => break status,
                other => other.unwrap(),
            }
            let in_time = tokio::time::Instant::now() < deadline;
            let tails = || self.world.cluster.log_tails();
            assert!(in_time, "broker {id} runs with a full disk:\n{}", tails());
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(status.code(), Some(1), "{status}");
        let text = fs::read_to_string(log).unwrap();
        // As the system says it, or as the log engine does.
        let causes = ["No space left on device", "StorageFull"];
        assert!(causes.iter().any(|it| text.contains(it)), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }

    /// With room again the broker starts with its own disk.
    fn restart(&mut self, id: i32) {
        self.disks(id).log.free();
        self.disks(id).state.free();
        self.world.cluster.start_broker(id).unwrap();
    }

    async fn whole(&mut self) {
        self.world.wait_whole(TOPIC).await;
        self.world.wait_whole("__meta").await;
        let end = self.world.replicas().await.into_values();
        let end = end.map(|it| it.applied_index).max().unwrap();
        let caught_up = |it: &ReplicaStatus| it.applied_index >= end;
        let all = [1, 2, 3];
        self.world
            .wait_replicas("all to catch up", &all, caught_up)
            .await;
    }
}

/// If it failed: one full disk stops the whole cluster.
async fn others_go_on(rig: &mut Rig) {
    let [leader, ..] = rig.leader_first().await;
    rig.fill(leader, Full::Both).await;
    rig.goes_on().await;
    rig.restart(leader);
    rig.whole().await;
}

/// If it failed: a broker acknowledges what its full disk did not take. With one of three brokers down, every
/// acknowledgement needs the full one; then that one alone must bring the records to the broker that was down.
async fn nothing_is_acknowledged_and_lost(rig: &mut Rig, of_leader: bool, full: Full) {
    let [leader, follower, down] = rig.leader_first().await;
    let (id, other) = if of_leader {
        (leader, follower)
    } else {
        (follower, leader)
    };
    rig.world.cluster.kill_broker(down).unwrap();
    rig.goes_on().await;
    rig.fill(id, full).await;
    rig.world.cluster.kill_broker(other).unwrap();
    rig.world.cluster.start_broker(down).unwrap();
    rig.restart(id);
    rig.goes_on().await;
    rig.world.cluster.start_broker(other).unwrap();
    rig.whole().await;
}

/// If it failed: a full disk of one broker loses acknowledged records, or takes the cluster with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_disk_is_full_ends_and_what_it_acknowledged_is_there() {
    if !root::may_mount() {
        return;
    }
    let mut rig = Rig::start().await;
    rig.goes_on().await;
    others_go_on(&mut rig).await;
    for full in [Full::Log, Full::State] {
        for of_leader in [false, true] {
            nothing_is_acknowledged_and_lost(&mut rig, of_leader, full).await;
        }
    }
    rig.goes_on().await;
    let replicas = rig.world.replicas().await;
    let folder = rig
        .world
        .dir
        .path()
        .join("store/snapshots")
        .join(TOPIC)
        .join("0");
    check_covered(&folder, replicas.values());
    let acked = rig.load.finish().await;
    println!("{acked} records acknowledged");
    println!("EVIDENCE faults_injected {}", rig.faults);
}
