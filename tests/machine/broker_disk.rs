//! The disk of a broker is full.

use std::{fs, os::unix::fs::symlink, time::Duration};

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
const DISK_MIB: usize = 96;
/// Acknowledgements that show that the cluster goes on.
const SOME: u64 = 200;

struct Rig {
    world: World,
    load: Load,
    /// By broker, from 1.
    disks: Vec<Tmpfs>,
    faults: u64,
}

impl Rig {
    async fn start() -> Self {
        let disks: Vec<_> = (0..BROKERS).map(|_| Tmpfs::mount(DISK_MIB)).collect();
        let world = World::start(BROKERS, |options| {
            for (id, disk) in (1..).zip(&disks) {
                let data_dir = options.base_dir.join(format!("broker-{id}"));
                symlink(disk.path(), data_dir).unwrap();
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

    fn disk(&self, id: i32) -> &Tmpfs {
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

    /// Fills the disk and waits until the broker has ended: cleanly, with the cause in its log.
    async fn fill(&mut self, id: i32) {
        self.disk(id).fill(0);
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
        assert!(text.contains("No space left on device"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }

    /// With room again the broker starts with its own disk.
    fn restart(&mut self, id: i32) {
        self.disk(id).free();
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
async fn others_go_on(rig: &mut Rig, full: i32) {
    rig.fill(full).await;
    rig.goes_on().await;
    rig.restart(full);
    rig.whole().await;
}

/// If it failed: a broker acknowledges what its full disk did not take. With one of three brokers down, every
/// acknowledgement needs the full one; then that one alone must bring the records to the broker that was down.
async fn nothing_is_acknowledged_and_lost(rig: &mut Rig, full: i32, down: i32, third: i32) {
    rig.world.cluster.kill_broker(down).unwrap();
    rig.goes_on().await;
    rig.fill(full).await;
    rig.world.cluster.kill_broker(third).unwrap();
    rig.world.cluster.start_broker(down).unwrap();
    rig.restart(full);
    rig.goes_on().await;
    rig.world.cluster.start_broker(third).unwrap();
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
    let [leader, ..] = rig.leader_first().await;
    others_go_on(&mut rig, leader).await;
    let [leader, follower, down] = rig.leader_first().await;
    nothing_is_acknowledged_and_lost(&mut rig, follower, down, leader).await;
    let [leader, third, down] = rig.leader_first().await;
    nothing_is_acknowledged_and_lost(&mut rig, leader, down, third).await;
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
