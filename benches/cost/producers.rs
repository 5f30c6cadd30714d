//! What producers notice of snapshots: one load that goes on, with snapshots beside it half of the time. Once as the
//! daemon takes them by itself, only more often; once complete ones without a pause, the worst there is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chronik_harness::{Cluster, client::Client};
use chronik_snapshotd::proto::v1::{
    self, snapshot_admin_service_client::SnapshotAdminServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, sleep, sleep_until},
};
use tonic::transport::Channel;

use crate::{
    PATIENCE,
    bed::Bed,
    broker::partition,
    cluster::{fill, record, restart_sidecar, start},
    report::Row,
    shares::Shares,
};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
/// What is there before: each partition's state is some 20 MB.
const ENTRIES: u64 = 60_000;
const ENTRY_BYTES: usize = 1_000;
const WINDOW: Duration = Duration::from_secs(12);
/// Before each window: nothing of the one before it is felt any more, and the sidecars know what quiet times are.
const SETTLE: Duration = Duration::from_secs(8);
/// Before a window with snapshots: what came in while sidecars were paused is taken, or as much of it as this allows.
const CATCH_UP: Duration = Duration::from_mins(1);
/// A sidecar cuts a log down to so many entries below its snapshot.
const TRAILING_ENTRIES: u64 = 1_000;
/// Producers for each partition, each with one record on its way.
const PRODUCERS: i32 = 2;
/// Time between two records of a producer that does not hurry.
const PACE: Duration = Duration::from_millis(10);

/// What is taken beside the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Snapshots {
    /// Of each partition every so many entries, once a second at most.
    Every(u64),
    /// One complete snapshot after the other.
    WithoutPause,
}

impl Snapshots {
    fn env(self) -> Vec<(&'static str, String)> {
        let (threshold, incremental) = match self {
            Self::Every(entries) => (entries, true),
            Self::WithoutPause => (1_000_000_000, false),
        };
        vec![
            ("CHECK_INTERVAL_SECS", "1".to_owned()),
            ("LOG_THRESHOLD", threshold.to_string()),
            ("TRAILING_ENTRIES", TRAILING_ENTRIES.to_string()),
            ("INCREMENTAL", incremental.to_string()),
            ("MIN_INTERVAL_SECS", "1".to_owned()),
            ("DELETE_GRACE_SECS", "1".to_owned()),
            // Only snapshots of what is produced are counted.
            ("TOPICS_EXCLUDE", "__meta".to_owned()),
        ]
    }
}

pub async fn run(bed: &Bed) -> Vec<Row> {
    // Disks and store in memory: flushes of a shared disk last from one to hundreds of milliseconds for reasons of their
    // own, which would drown what snapshots do.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let dir = memory.path().join("cluster");
    let store = memory.path().join("store");
    let partitions = PARTITIONS.unsigned_abs();
    let worst = Snapshots::WithoutPause;
    let env = worst.env();
    let shares = Shares::new(&bed.path("shares"));
    let shares = shares.unwrap_or_else(|why| panic!("control groups, as root: {why}"));
    let shares = Some(&shares);
    let mut cluster = start(&dir, &store, TOPIC, partitions, shares, &env).await;
    fill(&cluster, TOPIC, &bed.json, ENTRIES, ENTRY_BYTES).await;
    let worst = Course::run(bed, &mut cluster, worst, Some(PACE)).await;
    // A tenth of the default, or hardly any would be due in a window.
    let paced = Course::anew(bed, &mut cluster, Snapshots::Every(1_000), Some(PACE)).await;
    // Last: the state grows by gigabytes.
    let hurried = Course::anew(bed, &mut cluster, Snapshots::Every(10_000), None).await;
    cluster.stop().await.unwrap();
    vec![
        Row::median(
            "producer_p99_ratio",
            "p99 of acks=all at 600 records a second, beside a snapshot of each partition every 1,000 entries",
            "x",
            paced.ratios(Window::p99_ms),
        )
        .at_most(1.1),
        Row::median(
            "producer_p99_ms",
            "the same without snapshots",
            "ms",
            paced.without.iter().map(Window::p99_ms).collect(),
        ),
        Row::median(
            "producer_p99_snapshots",
            "committed in each of those 12 s, of 7.2 for which entries came",
            "",
            paced.with.iter().map(Window::snapshots).collect(),
        ),
        Row::median(
            "producer_p99_ratio_full",
            "p99, as fast as records are acknowledged, beside a snapshot of each partition every 10,000 entries",
            "x",
            hurried.ratios(Window::p99_ms),
        ),
        Row::median(
            "producer_throughput_ratio",
            "records a second, as fast as they are acknowledged, beside a snapshot of each partition every 10,000 entries",
            "x",
            hurried.ratios(Window::rate),
        )
        .at_least(0.97),
        Row::median(
            "producer_throughput_snapshots",
            "committed in each of those 12 s",
            "",
            hurried.with.iter().map(Window::snapshots).collect(),
        ),
        Row::median(
            "producer_log_entries",
            "the longest log at the end of each, on any replica",
            "",
            hurried.with.iter().map(Window::log_entries).collect(),
        ),
        Row::median(
            "producer_rate",
            "the same without snapshots",
            "1/s",
            hurried.without.iter().map(Window::rate).collect(),
        ),
        Row::median(
            "producer_p99_ratio_worst",
            "p99 at 600 records a second, beside complete snapshots without pause",
            "x",
            worst.ratios(Window::p99_ms),
        ),
        Row::median(
            "producer_snapshot_mb_s",
            "raw state read by those meanwhile",
            "MB/s",
            worst.with.iter().map(Window::megabytes_per_sec).collect(),
        ),
    ]
}

/// Windows in pairs.
struct Course {
    without: Vec<Window>,
    with: Vec<Window>,
}

/// What was seen for some seconds.
struct Window {
    millis: Vec<f64>,
    taken: Taken,
}

/// Snapshots that were committed.
#[derive(Debug, Clone, Copy)]
struct Taken {
    snapshots: f64,
    raw_bytes: f64,
    /// Entries of the longest log, at the end.
    log_entries: f64,
}

/// When a record was due, and how long it took from then to its acknowledgement.
type Seen = (Instant, Duration);

impl Course {
    /// With sidecars that take other snapshots than before.
    async fn anew(
        bed: &Bed,
        cluster: &mut Cluster,
        snapshots: Snapshots,
        pace: Option<Duration>,
    ) -> Self {
        for id in 1..=3 {
            restart_sidecar(cluster, id, &snapshots.env()).await;
        }
        Self::run(bed, cluster, snapshots, pace).await
    }

    async fn run(
        bed: &Bed,
        cluster: &mut Cluster,
        snapshots: Snapshots,
        pace: Option<Duration>,
    ) -> Self {
        pause(cluster).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut producers = JoinSet::new();
        for number in 0..PARTITIONS * PRODUCERS {
            let (client, json) = (Arc::clone(cluster.client()), bed.json.clone());
            producers.spawn(produce(client, json, number, pace, Arc::clone(&stop)));
        }
        let mut spans = Vec::new();
        for pair in 0..bed.pairs {
            for with in [pair % 2 == 1, pair % 2 == 0] {
                if with {
                    resume(cluster).await;
                    catch_up(cluster, snapshots).await;
                }
                sleep(SETTLE).await;
                spans.push((with, span(cluster, snapshots, with).await));
            }
        }
        stop.store(true, Ordering::Relaxed);
        let seen: Vec<Seen> = producers.join_all().await.into_iter().flatten().collect();
        let mut course = Self {
            without: Vec::new(),
            with: Vec::new(),
        };
        for (with, (begun, taken)) in spans {
            let window = Window::of(&seen, begun, taken);
            let windows = if with {
                &mut course.with
            } else {
                &mut course.without
            };
            windows.push(window);
        }
        let snapshots: f64 = course.with.iter().map(Window::snapshots).sum();
        assert!(snapshots > 0.0, "no snapshot beside the load");
        let snapshots: f64 = course.without.iter().map(Window::snapshots).sum();
        assert!(snapshots < 0.5, "snapshots while sidecars are paused");
        course
    }

    /// Of each pair, what was seen beside snapshots as a part of what was seen without.
    fn ratios(&self, of: impl Fn(&Window) -> f64) -> Vec<f64> {
        let pairs = self.with.iter().zip(&self.without);
        pairs
            .map(|(with, without)| of(with) / of(without))
            .collect()
    }
}

impl Window {
    fn of(seen: &[Seen], begun: Instant, taken: Taken) -> Self {
        let inside = seen
            .iter()
            .filter(|(due, _)| (begun..begun + WINDOW).contains(due));
        Self {
            millis: inside
                .map(|(_, took)| took.as_secs_f64() * 1000.0)
                .collect(),
            taken,
        }
    }

    fn p99_ms(&self) -> f64 {
        let mut sorted = self.millis.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[(sorted.len() - 1) * 99 / 100]
    }

    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    fn rate(&self) -> f64 {
        self.millis.len() as f64 / WINDOW.as_secs_f64()
    }

    fn megabytes_per_sec(&self) -> f64 {
        self.taken.raw_bytes / 1e6 / WINDOW.as_secs_f64()
    }

    fn snapshots(&self) -> f64 {
        self.taken.snapshots
    }

    fn log_entries(&self) -> f64 {
        self.taken.log_entries
    }
}

/// Lets a window's time pass, with or without snapshots; when it began, and what they read (whole snapshots only).
async fn span(cluster: &mut Cluster, snapshots: Snapshots, with: bool) -> (Instant, Taken) {
    let before = taken(cluster).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut takers = JoinSet::new();
    let begun = Instant::now();
    if with && snapshots == Snapshots::WithoutPause {
        for node in cluster.nodes() {
            takers.spawn(take_snapshots(node.sidecar_endpoint(), Arc::clone(&stop)));
        }
    }
    sleep_until(begun + WINDOW).await;
    let after = taken(cluster).await;
    let taken = Taken {
        snapshots: after.snapshots - before.snapshots,
        raw_bytes: after.raw_bytes - before.raw_bytes,
        log_entries: after.log_entries,
    };
    stop.store(true, Ordering::Relaxed);
    takers.join_all().await;
    pause(cluster).await;
    (begun, taken)
}

/// Waits until no log is longer than a snapshot that is being taken explains.
async fn catch_up(cluster: &mut Cluster, snapshots: Snapshots) {
    let Snapshots::Every(threshold) = snapshots else {
        return;
    };
    let begun = Instant::now();
    while begun.elapsed() < CATCH_UP
        && longest_log(cluster).await > 2 * threshold + TRAILING_ENTRIES
    {
        sleep(Duration::from_millis(200)).await;
    }
}

/// Entries of the longest log of all replicas.
async fn longest_log(cluster: &mut Cluster) -> u64 {
    let replicas = cluster.replicas_of(TOPIC).await;
    let logs = replicas
        .iter()
        .map(|(_, it)| it.last_log_index + 1 - it.first_log_index);
    logs.max().unwrap()
}

/// No sidecar does anything for the partitions any more: a pause lets a snapshot that runs come to its end.
async fn pause(cluster: &Cluster) {
    for (mut admin, partition) in admins(cluster).await {
        let request = v1::PausePartitionRequest {
            partition: Some(partition),
            ..v1::PausePartitionRequest::default()
        };
        admin.pause_partition(request).await.unwrap();
    }
    let begun = Instant::now();
    for node in cluster.nodes() {
        while node
            .metrics()
            .await
            .unwrap()
            .sum("chronik_snapshot_in_flight", &[])
            > 0.0
        {
            assert!(begun.elapsed() < PATIENCE, "a snapshot does not end");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn resume(cluster: &Cluster) {
    for (mut admin, partition) in admins(cluster).await {
        let request = v1::ResumePartitionRequest {
            partition: Some(partition),
        };
        admin.resume_partition(request).await.unwrap();
    }
}

/// Each sidecar with each partition.
async fn admins(
    cluster: &Cluster,
) -> Vec<(SnapshotAdminServiceClient<Channel>, v1::TopicPartition)> {
    let mut admins = Vec::new();
    for node in cluster.nodes() {
        let endpoint = node.sidecar_endpoint();
        let admin = SnapshotAdminServiceClient::connect(endpoint).await.unwrap();
        admins.extend((0..PARTITIONS).map(|number| (admin.clone(), partition(TOPIC, number))));
    }
    admins
}

/// Since the sidecars started.
#[expect(clippy::cast_precision_loss, reason = "a million at most")]
async fn taken(cluster: &mut Cluster) -> Taken {
    let mut sum = Taken {
        snapshots: 0.0,
        raw_bytes: 0.0,
        log_entries: longest_log(cluster).await as f64,
    };
    for node in cluster.nodes() {
        let metrics = node.metrics().await.unwrap();
        let snapshots = [("operation", "snapshot"), ("result", "success")];
        sum.snapshots += metrics.sum("chronik_snapshot_operations_total", &snapshots);
        sum.raw_bytes += metrics.sum("chronik_snapshot_raw_bytes_total", &[]);
    }
    sum
}

/// Sends one record after the other over one connection. What is late because the one before it was counts as late.
async fn produce(
    client: Arc<Client>,
    json: Bytes,
    producer: i32,
    pace: Option<Duration>,
    stop: Arc<AtomicBool>,
) -> Vec<Seen> {
    let mut connection = client
        .plain_producer(TOPIC, producer % PARTITIONS)
        .await
        .unwrap();
    let mut ticks = tokio::time::interval(pace.unwrap_or(PACE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut seen = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = match pace {
            Some(_) => ticks.tick().await,
            None => Instant::now(),
        };
        let record = record(&json, number, ENTRY_BYTES);
        connection.produce(&record, PATIENCE).await.unwrap();
        seen.push((due, due.elapsed()));
    }
    seen
}

/// Takes one snapshot after the other of whatever its broker leads.
async fn take_snapshots(endpoint: String, stop: Arc<AtomicBool>) {
    let mut admin = SnapshotAdminServiceClient::connect(endpoint).await.unwrap();
    let status = admin.get_status(v1::GetStatusRequest::default()).await;
    let partitions = status.unwrap().into_inner().partitions.into_iter();
    let led = partitions.filter(|status| status.role == "leader");
    let led = led.filter_map(|status| status.partition);
    let led: Vec<i32> = led
        .filter(|name| name.topic == TOPIC)
        .map(|name| name.partition)
        .collect();
    for number in led.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let request = v1::TriggerSnapshotRequest {
            partition: Some(partition(TOPIC, *number)),
            wait: true,
        };
        admin.trigger_snapshot(request).await.unwrap();
    }
}
