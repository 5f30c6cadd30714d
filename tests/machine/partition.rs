//! Networks that come apart, between brokers, sidecars and the store on hosts of their own.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chronik_harness::{
    Binaries, Metrics, Process, Role, S3Settings,
    client::{Client, snapshot},
    get,
    proto::ReplicaStatus,
};

use crate::{
    load::Load,
    namespaces::{Hosts, Network},
    proven::check_covered,
    root,
    world::{PATIENCE, TOPIC},
};

const BROKERS: u8 = 3;
/// The host of the S3 server.
const STORE: u8 = 4;
/// The host of the writers.
const WRITERS: u8 = 5;
const LEADER: i32 = Role::Leader as i32;
/// Acknowledgements that show that the cluster goes on.
const SOME: u64 = 200;
const THRESHOLD: u64 = 300;
const BUCKET: &str = "bucket";
const ACCESS_KEY: &str = "AKEXAMPLE";
const SECRET_KEY: &str = "sEcReT/of+the/tests";

/// A cluster with a broker and its sidecar on each of the first hosts, and the store.
struct Rig<'a> {
    hosts: &'a Hosts,
    processes: Vec<Process>,
    dir: tempfile::TempDir,
}

impl<'a> Rig<'a> {
    fn start(hosts: &'a Hosts) -> Self {
        let mut rig = Self {
            hosts,
            processes: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
        };
        let binaries = Binaries::find();
        let store = rig.start_store(&binaries);
        for host in 1..=BROKERS {
            rig.start_broker(host, &binaries);
            rig.start_sidecar(host, &binaries, &store);
        }
        rig
    }

    fn start_process(
        &mut self,
        host: u8,
        (name, program): (&str, &Path),
        arguments: Vec<String>,
        env: BTreeMap<String, String>,
    ) {
        let log = self
            .dir
            .path()
            .join("logs")
            .join(format!("{name}-{host}.log"));
        let mut process = Process::new(format!("{name} {host}"), "ip".as_ref(), &log);
        process.set_args(
            self.hosts
                .command(host, program)
                .into_iter()
                .chain(arguments),
        );
        for (name, value) in env {
            process.set_env(name, value);
        }
        process.start().unwrap();
        self.processes.push(process);
    }

    /// Starts the S3 server; returns what sidecars must know of it.
    fn start_store(&mut self, binaries: &Binaries) -> BTreeMap<String, String> {
        let address = format!("{}:9000", Network::Store.address(STORE));
        let arguments = vec![
            format!("--dir={}", self.dir.path().join("s3").display()),
            format!("--bucket={BUCKET}"),
            format!("--listen={address}"),
            format!("--access-key={ACCESS_KEY}"),
            format!("--secret-key={SECRET_KEY}"),
        ];
        let server = ("s3-server", binaries.s3_server.as_path());
        self.start_process(STORE, server, arguments, BTreeMap::new());
        let endpoint = format!("http://{address}");
        let settings = S3Settings::test_server(&endpoint, BUCKET, ACCESS_KEY, SECRET_KEY);
        let mut variables = settings.variables;
        variables.insert("OBJECT_STORE_BACKEND".to_owned(), "s3".to_owned());
        variables
    }

    fn start_broker(&mut self, host: u8, binaries: &Binaries) {
        let peer = |host| format!("{host}={}:9093", Network::Peers.address(host));
        let peers: Vec<_> = (1..=BROKERS).map(peer).collect();
        let data_dir = self.dir.path().join(format!("broker-{host}"));
        let arguments = vec![
            "serve".to_owned(),
            format!("--broker-id={host}"),
            format!("--data-dir={}", data_dir.display()),
            format!("--kafka-listen={}:9092", Network::Clients.address(host)),
            format!("--peer-listen={}:9093", Network::Peers.address(host)),
            format!("--snapshot-listen={}:9190", Network::Clients.address(host)),
            "--sidecar-endpoint=http://127.0.0.1:9191".to_owned(),
            format!("--peers={}", peers.join(",")),
            "--cluster-id=apart".to_owned(),
            "--initial-cluster=new".to_owned(),
        ];
        let broker = ("broker", binaries.broker.as_path());
        self.start_process(host, broker, arguments, BTreeMap::new());
    }

    fn start_sidecar(&mut self, host: u8, binaries: &Binaries, store: &BTreeMap<String, String>) {
        let options = [
            ("BROKER_ENDPOINT", snapshot_endpoint(host)),
            ("LISTEN", "127.0.0.1:9191".to_owned()),
            ("METRICS_LISTEN", metrics_address(host)),
            ("LOG_THRESHOLD", THRESHOLD.to_string()),
            ("TRAILING_ENTRIES", "30".to_owned()),
            ("TIME_THRESHOLD_SECS", "2".to_owned()),
            ("CHECK_INTERVAL_SECS", "1".to_owned()),
            ("MIN_INTERVAL_SECS", "0".to_owned()),
            ("DELETE_GRACE_SECS", "1".to_owned()),
            ("LOG_FORMAT", "text".to_owned()),
        ];
        let named = |(name, value)| (format!("CHRONIK_SNAPSHOT_{name}"), value);
        let mut env: BTreeMap<_, _> = options.into_iter().map(named).collect();
        env.extend(store.clone());
        let arguments = vec!["run".to_owned()];
        let sidecar = ("sidecar", binaries.sidecar.as_path());
        self.start_process(host, sidecar, arguments, env);
    }

    fn folder(&self) -> PathBuf {
        let snapshots = self.dir.path().join("s3").join(BUCKET).join("snapshots");
        snapshots.join(TOPIC).join("0")
    }

    fn logs(&self) -> String {
        let tails: Vec<_> = self.processes.iter().map(Process::log_tail).collect();
        tails.join("\n")
    }

    fn check_processes(&mut self) {
        for process in &mut self.processes {
            process.check().unwrap();
        }
    }

    /// Waits until `look` finds something.
    async fn wait<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "waited in vain for {what}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The replica of the topic on every one of these hosts, as soon as all of them answer and `fit`.
    async fn replicas(
        &self,
        what: &str,
        hosts: &[u8],
        fits: impl Fn(&HashMap<u8, ReplicaStatus>) -> bool,
    ) -> HashMap<u8, ReplicaStatus> {
        let look = async || {
            let mut found = HashMap::new();
            for host in hosts {
                found.insert(*host, replica(*host).await?);
            }
            fits(&found).then_some(found)
        };
        self.wait(what, look).await
    }

    /// The hosts of the brokers, that of the topic's leader among `hosts` first.
    async fn leader_first(&self, hosts: &[u8]) -> [u8; 3] {
        let leads = |(host, it): (&u8, &ReplicaStatus)| (it.role == LEADER).then_some(*host);
        let one =
            |replicas: &HashMap<u8, ReplicaStatus>| replicas.iter().filter_map(leads).count() == 1;
        let replicas = self.replicas("a leader", hosts, one).await;
        let leader = replicas.iter().find_map(leads).unwrap();
        let mut others = (1..=BROKERS).filter(|host| *host != leader);
        [leader, others.next().unwrap(), others.next().unwrap()]
    }

    /// Waits until all replicas have what was committed, and checks what they have cut.
    async fn converges(&mut self) {
        let all = [1, 2, 3];
        let now = self.replicas("all brokers", &all, |_| true).await;
        let end = now.values().map(|it| it.applied_index).max().unwrap();
        let caught_up = |replicas: &HashMap<u8, ReplicaStatus>| {
            replicas.values().all(|it| it.applied_index >= end)
        };
        let replicas = self.replicas("all to catch up", &all, caught_up).await;
        check_covered(&self.folder(), replicas.values());
        self.check_processes();
        for host in all {
            let metrics = Metrics(get(&metrics_address(host), "/metrics").await.unwrap());
            let diverged = metrics.sum("chronik_snapshot_divergence_total", &[]);
            assert!(diverged < 0.5, "host {host} sees two histories");
        }
    }
}

fn snapshot_endpoint(host: u8) -> String {
    format!("http://{}:9190", Network::Clients.address(host))
}

fn metrics_address(host: u8) -> String {
    format!("{}:9090", Network::Clients.address(host))
}

/// The replica of the topic on a host. `None` = there is no answer, or no replica.
async fn replica(host: u8) -> Option<ReplicaStatus> {
    let replicas = snapshot::list_replicas(&snapshot_endpoint(host))
        .await
        .ok()?;
    let of_topic = |it: &ReplicaStatus| it.partition.as_ref().is_some_and(|it| it.topic == TOPIC);
    replicas.into_iter().find(of_topic)
}

/// Waits for a new leader among the others, and for acknowledgements by them.
async fn others_take_over(rig: &Rig<'_>, load: &Load, others: [u8; 2]) {
    let [new, ..] = rig.leader_first(&others).await;
    assert!(others.contains(&new));
    load.wait_more(SOME, || rig.logs()).await;
}

/// If it failed: a leader that nobody can reach acknowledges what nobody else has, or does not find back.
async fn the_leader_is_cut_from_everything(rig: &mut Rig<'_>, load: &Load) {
    let [leader, others @ ..] = rig.leader_first(&[1, 2, 3]).await;
    for network in Network::ALL {
        rig.hosts.unplug(leader, network);
    }
    others_take_over(rig, load, others).await;
    for network in Network::ALL {
        rig.hosts.plug(leader, network);
    }
    rig.converges().await;
}

/// If it failed: what clients give to a leader that lost its followers, which is never committed, gets into snapshots:
/// its sidecar reaches the store all the time.
async fn the_leader_is_cut_from_its_peers(rig: &mut Rig<'_>, load: &Load) {
    let [leader, others @ ..] = rig.leader_first(&[1, 2, 3]).await;
    rig.hosts.unplug(leader, Network::Peers);
    others_take_over(rig, load, others).await;
    rig.hosts.plug(leader, Network::Peers);
    rig.converges().await;
}

fn first_index(replicas: &HashMap<u8, ReplicaStatus>) -> u64 {
    let firsts = replicas.values().map(|it| it.first_log_index);
    firsts.min().unwrap()
}

/// Waits until the others have cut what the leader has now.
async fn others_cut(rig: &Rig<'_>, leader: u8, others: [u8; 2]) {
    let last = replica(leader).await.unwrap().last_log_index;
    let cut = |replicas: &HashMap<u8, ReplicaStatus>| first_index(replicas) > last;
    rig.replicas("the others to cut", &others, cut).await;
}

/// If it failed: a sidecar that cannot see the store lets its broker cut the log, or keeps the other brokers' logs long.
async fn a_sidecar_is_cut_from_the_store(rig: &mut Rig<'_>, load: &Load) {
    let [leader, others @ ..] = rig.leader_first(&[1, 2, 3]).await;
    rig.hosts.unplug(leader, Network::Store);
    others_cut(rig, leader, others).await;
    let kept = replica(leader).await.unwrap().first_log_index;
    // Requests that are on their way are given up after half a minute; whatever follows finds no store.
    let notices = async || {
        let metrics = Metrics(get(&metrics_address(leader), "/metrics").await.ok()?);
        let available = metrics.sum("chronik_snapshot_store_available", &[]);
        (available < 0.5).then_some(())
    };
    rig.wait("a sidecar that misses its store", notices).await;
    others_cut(rig, leader, others).await;
    let still = replica(leader).await.unwrap();
    assert_eq!(
        still.first_log_index, kept,
        "cut without a look at the store"
    );
    load.wait_more(SOME, || rig.logs()).await;
    rig.hosts.plug(leader, Network::Store);
    let catches_up =
        |replicas: &HashMap<u8, ReplicaStatus>| first_index(replicas) > still.last_log_index;
    rig.replicas("its log to be cut", &[leader], catches_up)
        .await;
    rig.converges().await;
}

async fn story(mut rig: Rig<'_>) {
    let brokers = (1..=BROKERS).map(|host| format!("{}:9092", Network::Clients.address(host)));
    let client = Arc::new(Client::new(brokers));
    let known = async || {
        let view = client.refresh().await.ok()?;
        (view.brokers.len() == usize::from(BROKERS)).then_some(())
    };
    rig.wait("a cluster of all brokers", known).await;
    let replicas = u16::from(BROKERS);
    client
        .create_topic(TOPIC, 1, replicas, PATIENCE)
        .await
        .unwrap();
    let load = Load::start(&client);
    let cut =
        |replicas: &HashMap<u8, ReplicaStatus>| replicas.values().all(|it| it.first_log_index > 1);
    rig.replicas("every log to be cut", &[1, 2, 3], cut).await;

    the_leader_is_cut_from_everything(&mut rig, &load).await;
    the_leader_is_cut_from_its_peers(&mut rig, &load).await;
    a_sidecar_is_cut_from_the_store(&mut rig, &load).await;

    let acked = load.finish().await;
    println!("{acked} records acknowledged");
    println!("EVIDENCE faults_injected 3");
}

/// If it failed: packets that are lost between hosts lose acknowledged records, or logs that no snapshot covers.
#[test]
fn networks_that_come_apart_lose_nothing() {
    if !root::may_make_networks() {
        return;
    }
    let hosts = Hosts::start(WRITERS);
    hosts.run_on(WRITERS, async || story(Rig::start(&hosts)).await);
}
