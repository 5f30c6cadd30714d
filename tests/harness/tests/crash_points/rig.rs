//! A cluster whose brokers die where they are told to, and what must be true of it afterwards.

use std::{
    collections::BTreeMap, fs, os::unix::process::ExitStatusExt as _, path::Path,
    process::ExitStatus, sync::Arc, time::Duration,
};

use bytes::Bytes;
use chronik_harness::{
    Cluster, ClusterOptions, HarnessError, Poll,
    client::{Client, Pool, PoolOptions, Record, snapshot::fingerprint},
    load::Load,
    proto::ReplicaStatus,
};
use refbroker::crash::VARIABLE;
use tokio::net::TcpStream;

/// A bound for what happens within seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than the elections that follow a death take.
const ELECTIONS: Duration = Duration::from_secs(5);
/// Partitions of each topic.
const PARTITIONS: u32 = 3;
/// Records that must be acknowledged before and after a chain.
const PROGRESS: u64 = 50;
/// Bytes of a record that is there to fill log files.
const MEGABYTES_RECORD: usize = 100 << 10;
const SIGKILL: i32 = 9;
/// What a broker says that was told where to die, when it starts.
const ARMED: &str = "will die at a crash point";
/// What a broker says when it dies at a crash point.
const LAST_WORDS: &str = "crash point ";

/// Snapshots and truncations all the time.
const SIDECAR: [(&str, &str); 6] = [
    ("LOG_THRESHOLD", "100"),
    ("TRAILING_ENTRIES", "10"),
    ("CHECK_INTERVAL_SECS", "1"),
    ("MIN_INTERVAL_SECS", "0"),
    ("RETENTION_COUNT", "2"),
    ("DELETE_GRACE_SECS", "1"),
];

/// The point without the number of its visit.
pub(crate) fn name_of(point: &str) -> &str {
    point.split_once(':').map_or(point, |(name, _)| name)
}

/// The load of one chain.
pub(crate) struct Running {
    pub(crate) topic: String,
    load: Load,
}

pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    kills: u64,
}

impl Rig {
    fn options(dir: &Path) -> ClusterOptions {
        let options = SIDECAR
            .iter()
            .fold(ClusterOptions::new(dir), |options, (key, value)| {
                options.sidecar_env(key, value)
            });
        options.broker_args(["--hold-entries=100", "--segment-bytes=16384"])
    }

    pub(crate) async fn start(dir: &Path) -> Self {
        let cluster = Cluster::start(Self::options(dir)).await.unwrap();
        Self { cluster, kills: 0 }
    }

    /// A cluster of which nothing runs, without sidecars.
    pub(crate) fn prepare(dir: &Path) -> Self {
        let options = Self::options(dir).without_sidecars();
        let cluster = Cluster::prepare(options).unwrap();
        Self { cluster, kills: 0 }
    }

    /// What a broker said of its death since it was started the last time. Its other threads may log something after that.
    fn last_words(&self, id: i32) -> String {
        let log = self.cluster.node(id).unwrap().broker.log_path();
        let log = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
        let life = log.rsplit(ARMED).next().unwrap_or_default();
        let words = life.lines().rfind(|line| line.starts_with(LAST_WORDS));
        words.or(life.lines().last()).unwrap_or_default().to_owned()
    }

    fn is_running(&mut self, id: i32) -> bool {
        self.cluster.node_mut(id).unwrap().broker.is_running()
    }

    /// Starts a broker that does not run and will die at `point`.
    pub(crate) fn start_armed(&mut self, id: i32, point: &str) {
        let broker = &mut self.cluster.node_mut(id).unwrap().broker;
        broker.set_env(VARIABLE, point);
        broker.start().unwrap();
        broker.unset_env(VARIABLE);
    }

    pub(crate) fn restart_armed(&mut self, id: i32, point: &str) {
        self.cluster.kill_broker(id).unwrap();
        self.start_armed(id, point);
    }

    /// A broker that was built without crash points would wait for ever.
    fn assert_has_crash_points(&self, id: i32) {
        let log = self.cluster.node(id).unwrap().broker.log_path();
        let log = fs::read(log).unwrap();
        assert!(
            String::from_utf8_lossy(&log).contains(ARMED),
            "refbroker has no crash points: cargo build --workspace --bins"
        );
    }

    /// Waits for the death of a broker, and sees that it died there and of nothing else.
    pub(crate) async fn died_at(&mut self, id: i32, point: &str) {
        let ended = self
            .cluster
            .node_mut(id)
            .unwrap()
            .broker
            .ended(PATIENCE)
            .await;
        let status = ended.unwrap_or_else(|error| {
            self.assert_has_crash_points(id);
            let logs = self.cluster.log_tails();
            panic!("broker {id} never got to {point}: {error}\n{logs}")
        });
        self.assert_died_at(id, point, status);
    }

    /// Takes the disk of a broker until it dies at `point`. It may become a voter without passing there: what the others cut
    /// off while it was dead comes as a leader's snapshot, and a change of members in there is none that it applies.
    pub(crate) async fn wipe_until_dead(&mut self, id: i32, point: &str, topic: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.is_running(id) {
            if tokio::time::Instant::now() >= deadline {
                return;
            }
            if self.is_whole("__meta").await && self.is_whole(topic).await {
                self.wipe(id);
                self.start_armed(id, point);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn wipe(&mut self, id: i32) {
        self.cluster.kill_broker(id).unwrap();
        self.cluster.wipe_broker(id).unwrap();
    }

    /// Kills the two others in turn, one at a time, until the elections that follow were this broker's end. Who leads what is
    /// chance: one death may bring it no vote at all.
    pub(crate) async fn hold_elections(&mut self, id: i32) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for other in [id % 3 + 1, (id + 1) % 3 + 1].into_iter().cycle() {
            self.cluster.kill_broker(other).unwrap();
            let patience = tokio::time::Instant::now() + ELECTIONS;
            while self.is_running(id) && tokio::time::Instant::now() < patience {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.cluster.start_broker(other).unwrap();
            if !self.is_running(id) || tokio::time::Instant::now() >= deadline {
                return;
            }
            self.wait_up(other).await;
        }
    }

    fn assert_died_at(&mut self, id: i32, point: &str, status: ExitStatus) {
        let last = self.last_words(id);
        assert!(
            status.signal() == Some(SIGKILL) && last == format!("{LAST_WORDS}{}", name_of(point)),
            "broker {id} died before {point}, {status}: {last}\n{}",
            self.cluster.log_tails()
        );
        self.kills += 1;
    }

    /// Asks a broker to stop; it dies at `point` instead.
    pub(crate) async fn terminate(&mut self, id: i32, point: &str) {
        let broker = &mut self.cluster.node_mut(id).unwrap().broker;
        let status = broker.terminate(PATIENCE).await.unwrap();
        self.assert_died_at(id, point, status);
    }

    /// A new topic under load; some of it was acknowledged.
    pub(crate) async fn begin(&mut self, topic: &str) -> Running {
        self.create(topic).await;
        let running = Running {
            topic: topic.to_owned(),
            load: Load::start(self.cluster.client(), topic, PARTITIONS),
        };
        self.wait_progress(&running).await;
        running
    }

    pub(crate) async fn create(&self, topic: &str) {
        let client = self.cluster.client();
        let created = client.create_topic(topic, PARTITIONS, 3, PATIENCE).await;
        created.unwrap();
    }

    /// Deletes a topic. Whoever answers may die, or know already.
    pub(crate) async fn delete(&self, topic: &str) {
        let look = async || {
            let _ = self.cluster.client().delete_topic(topic, PATIENCE).await;
            let known = self.cluster.client().refresh().await?.topics;
            Ok(match known.get(topic) {
                None => Poll::Done(()),
                Some(_) => Poll::NotYet("it is still there".to_owned()),
            })
        };
        self.wait(&format!("{topic} being deleted"), look).await;
    }

    async fn wait<T>(
        &self,
        what: &str,
        look: impl AsyncFnMut() -> Result<Poll<T>, HarnessError>,
    ) -> T {
        self.cluster.wait_until(what, PATIENCE, look).await.unwrap()
    }

    pub(crate) async fn wait_progress(&self, running: &Running) {
        let before = running.load.acked();
        let look = async || {
            let acked = running.load.acked() - before;
            Ok(if acked >= PROGRESS {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{acked} records acknowledged"))
            })
        };
        self.wait("writes going on", look).await;
    }

    /// Waits until a broker runs its replica of `__meta`, or is dead already.
    pub(crate) async fn wait_up(&mut self, id: i32) {
        let mut last = HarnessError::NoSuchNode(id);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            if !self.is_running(id) {
                return;
            }
            let node = self.cluster.node(id).unwrap();
            match node.replicas().await {
                Ok(replicas) if replicas.iter().any(|it| it.applied_index > 0) => return,
                Ok(_) => {}
                Err(error) => last = error.into(),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("broker {id} is not up: {last}");
    }

    /// Waits until a broker serves clients: its start is over.
    pub(crate) async fn wait_serving(&mut self, id: i32) {
        let address = self.cluster.node(id).unwrap().kafka_address();
        let look = async || {
            Ok(match TcpStream::connect(&address).await {
                Ok(_) => Poll::Done(()),
                Err(error) => Poll::NotYet(error.to_string()),
            })
        };
        self.wait("a broker serving clients", look).await;
    }

    /// Waits until a broker has applied more of a topic than right after its start: there is something to write at its end.
    pub(crate) async fn wait_applying(&self, id: i32, topic: &str) {
        let mut first = None;
        let look = async || {
            let replicas = self.cluster.node(id)?.replicas().await?;
            let of_topic = replicas.iter().filter(|it| {
                it.partition
                    .as_ref()
                    .is_some_and(|name| name.topic == topic)
            });
            let applied: Vec<u64> = of_topic.map(|it| it.applied_index).collect();
            // Right after its start it may not tell of all of them yet.
            if applied.len() != PARTITIONS as usize {
                return Ok(Poll::NotYet(format!("{} replicas", applied.len())));
            }
            let applied: u64 = applied.into_iter().sum();
            let first = *first.get_or_insert(applied);
            Ok(if applied > first {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{applied} entries applied"))
            })
        };
        self.wait("a broker applying entries", look).await;
    }

    /// What is led now, by partition.
    async fn leaders(&mut self, topic: &str) -> BTreeMap<i32, ReplicaStatus> {
        let replicas = self.cluster.replicas_of(topic).await;
        let led = replicas
            .into_iter()
            .filter(|(_, it)| it.role() == chronik_harness::Role::Leader);
        led.map(|(_, it)| (it.partition.clone().unwrap_or_default().partition, it))
            .collect()
    }

    /// Every log of the topic was truncated at least once.
    pub(crate) async fn wait_truncated(&mut self, topic: &str) {
        self.wait_cut_beyond(topic, &BTreeMap::new()).await;
    }

    /// Waits until no leader has the entries any more that follow the log of a broker that does not run.
    pub(crate) async fn wait_left_behind(&mut self, id: i32, topic: &str) {
        assert!(!self.cluster.node_mut(id).unwrap().broker.is_running());
        let look_first = self.leaders(topic).await;
        let ends: BTreeMap<i32, u64> = look_first
            .iter()
            .map(|(partition, it)| (*partition, it.last_log_index))
            .collect();
        self.wait_cut_beyond(topic, &ends).await;
    }

    async fn wait_cut_beyond(&mut self, topic: &str, ends: &BTreeMap<i32, u64>) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let leaders = self.leaders(topic).await;
            let end = |partition: &i32| ends.get(partition).copied().unwrap_or(1);
            let cut = leaders
                .iter()
                .filter(|(partition, it)| it.first_log_index > end(partition));
            if cut.count() == PARTITIONS as usize {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{topic} is not truncated beyond {ends:?}: {leaders:?}\n{}",
                self.cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Fills log files until the broker dies.
    pub(crate) async fn send_megabytes(&mut self, id: i32) {
        let client = Arc::clone(self.cluster.client());
        client
            .create_topic("megabytes", 1, 3, PATIENCE)
            .await
            .unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.is_running(id) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "no file was deleted"
            );
            send(&client, "megabytes", 100).await;
        }
    }

    /// Waits until every broker has a voter in every group of a topic, and no change is under way.
    pub(crate) async fn wait_whole(&mut self, topic: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.is_whole(topic).await {
            self.cluster.check().unwrap();
            let replicas = self.cluster.replicas_of(topic).await;
            assert!(
                tokio::time::Instant::now() < deadline,
                "{topic} is not whole: {replicas:?}\n{}",
                self.cluster.log_tails()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn is_whole(&mut self, topic: &str) -> bool {
        let groups = if topic == "__meta" { 1 } else { PARTITIONS };
        let replicas = self.cluster.replicas_of(topic).await;
        let voters = replicas.iter().filter(|(_, it)| votes(it)).count();
        voters == 3 * groups as usize
    }

    /// Everything that must be true after a chain.
    pub(crate) async fn check(&mut self, running: Running) {
        self.wait_progress(&running).await;
        self.wait_whole("__meta").await;
        self.wait_whole(&running.topic).await;
        let Running { topic, load } = running;
        let (history, log) = load.finish().await.unwrap();
        let findings = history.check(&log);
        assert!(findings.is_clean(), "{topic}: {findings:#?}");
        assert!(history.acked_records() >= PROGRESS);
        self.check_replicas(&topic).await;
        self.check_disks().await;
        self.delete(&topic).await;
    }

    /// All replicas hold the same bytes at the same position with the same configuration.
    async fn check_replicas(&mut self, topic: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.difference(topic).await {
                None => return,
                Some(difference) => assert!(
                    tokio::time::Instant::now() < deadline,
                    "the replicas of {topic} differ: {difference}\n{}",
                    self.cluster.log_tails()
                ),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn difference(&mut self, topic: &str) -> Option<String> {
        let mut first = BTreeMap::new();
        for (id, replica) in self.cluster.replicas_of(topic).await {
            let endpoint = self.cluster.node(id).unwrap().snapshot_endpoint();
            let mut found = match fingerprint(&endpoint, &replica).await {
                Ok(found) => found,
                Err(error) => return Some(error.to_string()),
            };
            // Raft keeps the members in no order.
            if let Some(conf) = found.0.conf_state.as_mut() {
                conf.voters.sort_unstable();
            }
            let partition = replica.partition.unwrap_or_default().partition;
            let (first_id, expected) = first.entry(partition).or_insert((id, found.clone()));
            if *expected != found {
                return Some(format!(
                    "brokers {first_id} and {id}: {expected:?}, {found:?}"
                ));
            }
        }
        (first.len() != PARTITIONS as usize).then(|| format!("{} partitions", first.len()))
    }

    /// A broker's disk holds the groups that run there, one generation of each, and nothing else.
    async fn check_disks(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for id in 1..=3 {
            // A topic that was deleted just now may still go.
            while let Some(problem) = self.leftover(id).await {
                let in_time = tokio::time::Instant::now() < deadline;
                assert!(in_time, "the disk of broker {id}: {problem}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn leftover(&self, id: i32) -> Option<String> {
        let node = self.cluster.node(id).unwrap();
        let replicas = match node.replicas().await {
            Ok(replicas) => replicas.len(),
            Err(error) => return Some(error.to_string()),
        };
        let entries = fs::read_dir(node.data_dir().join("groups")).unwrap();
        let groups: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
        if groups.len() != replicas {
            return Some(format!("{replicas} replicas, and {groups:?}"));
        }
        groups.iter().find_map(|group| {
            let entries = fs::read_dir(group).ok()?;
            let names: Vec<_> = entries.map(|it| it.unwrap().file_name()).collect();
            let generation = |it: &std::ffi::OsString| it.to_string_lossy().starts_with("gen-");
            let clean = names.len() == 1 && names.iter().all(generation);
            (!clean).then(|| format!("{}: {names:?}", group.display()))
        })
    }

    pub(crate) async fn finish(&mut self) {
        self.cluster.stop().await.unwrap();
        println!("EVIDENCE kills {}", self.kills);
    }
}

fn votes(replica: &ReplicaStatus) -> bool {
    let conf = replica.conf_state.clone().unwrap_or_default();
    conf.voters.len() == 3
        && conf.voters.contains(&replica.peer_id)
        && conf.voters_outgoing.is_empty()
        && conf.learners.is_empty()
}

async fn send(client: &Arc<Client>, topic: &str, count: usize) {
    let mut pool = Pool::start(client, topic, PoolOptions::default())
        .await
        .unwrap();
    for number in 0..count {
        let record = Record {
            key: Bytes::from(number.to_string()),
            value: Bytes::from(vec![0; MEGABYTES_RECORD]),
            timestamp_ms: 1,
        };
        pool.send(record).await.unwrap();
    }
    assert_eq!(pool.finish().await.unwrap().len(), count);
}
