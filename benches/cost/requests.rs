//! How many requests an object store is sent, by what they are billed as: docs/SCALING.md counts with these.

use std::time::Duration;

use chronik_harness::{Cluster, Metrics};

use crate::{
    bed::{Bed, TOPIC},
    broker::{Replica, SyntheticBroker},
    cluster::{fill, start},
    daemon::Daemon,
    incremental::add_segment,
    report::Row,
    state::Content,
};

const SMALL_BYTES: usize = 1 << 20;
const LARGE_BYTES: u64 = 1 << 30;
/// Entries between two snapshots: more than stay in the log.
const ENTRIES: u64 = 10_000;
/// Snapshots before anything is counted: by then one is deleted for each that comes.
const WARM: u32 = 4;
/// Snapshots whose requests are counted.
const CYCLES: u32 = 4;

/// What object stores bill: writes and listings, reads. Deletions cost nothing.
#[derive(Clone, Copy)]
struct Requests {
    writes: f64,
    reads: f64,
}

impl Requests {
    async fn so_far(daemon: &Daemon) -> Self {
        Self::of(&daemon.metrics().await)
    }

    fn of(metrics: &Metrics) -> Self {
        let sum = |methods: &[&str]| -> f64 {
            let of = |method: &&str| {
                metrics.sum(
                    "chronik_snapshot_store_requests_total",
                    &[("method", method)],
                )
            };
            methods.iter().map(of).sum()
        };
        Self {
            writes: sum(&[
                "put",
                "put_new",
                "upload_create",
                "upload_part",
                "upload_complete",
                "list",
            ]),
            reads: sum(&["get", "get_range", "head"]),
        }
    }

    async fn since(self, daemon: &Daemon, times: u32) -> Self {
        let now = Self::so_far(daemon).await;
        Self {
            writes: (now.writes - self.writes) / f64::from(times),
            reads: (now.reads - self.reads) / f64::from(times),
        }
    }

    fn rows(self, key: &str, what: &str) -> [Row; 2] {
        let row = |kind: &str, value| {
            let key = format!("requests_{key}_{kind}");
            Row::one(&key, format!("{kind}: {what}"), "calls", value)
        };
        [row("writes", self.writes), row("reads", self.reads)]
    }
}

pub async fn run(bed: &Bed) -> Vec<Row> {
    let large = Bed::broker(Content::new(bed.json.clone(), LARGE_BYTES));
    let daemon = bed.daemon("requests-large", &large, &bed.s3(), &[]).await;
    let before = Requests::so_far(&daemon).await;
    daemon.snapshot(TOPIC, 0).await;
    let complete = before.since(&daemon, 1).await;
    let before = Requests::so_far(&daemon).await;
    daemon.seed(TOPIC, 0, "/dev/null".as_ref()).await;
    let restore = before.since(&daemon, 1).await;

    let mut rows = Vec::new();
    rows.extend(small(bed).await.rows(
        "cycle",
        "a snapshot of 1 MiB, its proof, the cut of the log, the deletion of the oldest",
    ));
    rows.extend(cluster(bed).await.rows(
        "cluster",
        "the same of a partition with three replicas: all that its three sidecars send",
    ));
    rows.extend(increments(bed).await.rows(
        "increment",
        "the same, with 16 MiB more in a partition of 1 GiB",
    ));
    rows.extend(complete.rows("complete", "a complete snapshot of 1 GiB and its proof"));
    rows.extend(restore.rows("restore", "a restore of it"));
    rows
}

/// The daemon as it runs by default, but for the time that files wait for their deletion.
async fn standing(bed: &Bed, name: &str, broker: &SyntheticBroker) -> Daemon {
    let env = [
        ("COMPACT", "true"),
        ("RETENTION", "true"),
        ("CHECK_INTERVAL_SECS", "1"),
        ("DELETE_GRACE_SECS", "1"),
    ];
    bed.daemon(name, broker, &bed.s3(), &env).await
}

async fn small(bed: &Bed) -> Requests {
    let state = Content::once(bed.json.slice(..SMALL_BYTES));
    let broker = Bed::broker(state);
    let daemon = standing(bed, "requests-small", &broker).await;
    cycles(&daemon, &broker, |_, _| {}).await
}

async fn increments(bed: &Bed) -> Requests {
    let broker = SyntheticBroker::start();
    let mut replica = Replica::of(Content::once(bed.json.slice(..SMALL_BYTES)));
    for number in 0..64 {
        add_segment(&mut replica, number, &bed.json);
    }
    broker.put(TOPIC, 0, replica);
    let daemon = standing(bed, "requests-increments", &broker).await;
    cycles(&daemon, &broker, |replica, number| {
        add_segment(replica, number, &bed.json);
    })
    .await
}

/// The reference cluster under load: all requests of three sidecars, for each snapshot that was proven meanwhile.
async fn cluster(bed: &Bed) -> Requests {
    let env = [
        ("CHECK_INTERVAL_SECS", "5"),
        ("LOG_THRESHOLD", "2000"),
        ("MIN_INTERVAL_SECS", "0"),
        ("DELETE_GRACE_SECS", "1"),
    ];
    let (dir, store) = (bed.path("requests-cluster"), bed.path("requests-store"));
    let mut cluster = start(&dir, &store, TOPIC, 3, None, &env).await;
    let mut before = everywhere(&cluster).await;
    for number in 0..WARM + CYCLES {
        if number == WARM {
            before = everywhere(&cluster).await;
        }
        fill(&cluster, TOPIC, &bed.json, 6_600, 1_000).await;
        // Some ticks later all of it is covered and cut, and the oldest is gone.
        tokio::time::sleep(Duration::from_secs(12)).await;
    }
    let after = everywhere(&cluster).await;
    cluster.stop().await.unwrap();
    let proofs = after.1 - before.1;
    Requests {
        writes: (after.0.writes - before.0.writes) / proofs,
        reads: (after.0.reads - before.0.reads) / proofs,
    }
}

/// Requests of all sidecars so far, and proofs.
async fn everywhere(cluster: &Cluster) -> (Requests, f64) {
    let (mut writes, mut reads, mut proofs) = (0.0, 0.0, 0.0);
    for node in cluster.nodes() {
        let metrics = node.metrics().await.unwrap();
        let requests = Requests::of(&metrics);
        writes += requests.writes;
        reads += requests.reads;
        let labels = [("operation", "verify"), ("result", "success")];
        proofs += metrics.sum("chronik_snapshot_operations_total", &labels);
    }
    (Requests { writes, reads }, proofs)
}

/// Requests of one of many snapshots that follow each other, with everything that comes after each.
async fn cycles(
    daemon: &Daemon,
    broker: &SyntheticBroker,
    change: impl Fn(&mut Replica, usize),
) -> Requests {
    let mut before = Requests::so_far(daemon).await;
    for number in 0..WARM + CYCLES {
        if number == WARM {
            before = Requests::so_far(daemon).await;
        }
        broker.grow(TOPIC, 0, |replica| {
            replica.applied_index += ENTRIES;
            change(replica, 64 + number as usize);
        });
        daemon.snapshot(TOPIC, 0).await;
        // The sweep of what retention marked comes a grace and a tick later.
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    before.since(daemon, CYCLES).await
}
