//! The cluster that is to survive, and the run.

use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use chronik_harness::{
    Cluster, ClusterOptions, HarnessError, Poll, empty_own, fault::HttpProxy, load::Load,
    s3::S3Process,
};
use tokio::time::Instant;

use crate::{nemesis::Nemesis, report::Report};

/// The topic.
const TOPIC: &str = "orders";
/// Its partitions.
const PARTITIONS: u32 = 3;

const MARKER: &str = ".chronik-soak";
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time for writes to go on after a trouble has ended.
const PROGRESS_TIMEOUT: Duration = Duration::from_mins(2);
/// Longest time for every group to be whole and every log to be cut when all troubles have ended.
const HEAL_TIMEOUT: Duration = Duration::from_mins(3);
/// Records that must be acknowledged between two troubles.
const PROGRESS: u64 = 20;

/// Snapshots, truncations and deletions all the time.
const SIDECAR: [(&str, &str); 7] = [
    ("LOG_THRESHOLD", "300"),
    ("TRAILING_ENTRIES", "30"),
    ("CHECK_INTERVAL_SECS", "1"),
    ("MIN_INTERVAL_SECS", "0"),
    ("RETENTION_COUNT", "2"),
    ("DELETE_GRACE_SECS", "1"),
    ("LOG_FORMAT", "text"),
];

/// The cluster, the server of its store and what stands between.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) store: S3Process,
    pub(crate) proxy: HttpProxy,
}

impl World {
    async fn start(dir: &Path) -> Result<Self, HarnessError> {
        let mut options = ClusterOptions::new(dir).with_links();
        for (key, value) in SIDECAR {
            options = options.sidecar_env(key, value);
        }
        // A peer that lags more than a few snapshots is healed by its leader's own snapshot.
        options = options.broker_args(["--hold-entries=600", "--segment-bytes=65536"]);
        let store = S3Process::start(&options.binaries, dir).await?;
        let proxy = HttpProxy::start(&store.address()).await?;
        let bucket = store.store_through(&proxy.address());
        let cluster = Cluster::start(options.store(bucket)).await?;
        let client = cluster.client();
        client
            .create_topic(TOPIC, PARTITIONS, 3, START_TIMEOUT)
            .await?;
        Ok(Self {
            cluster,
            store,
            proxy,
        })
    }

    /// Has every group three voters, all of them alive, and no change under way?
    pub(crate) async fn is_whole(&mut self) -> bool {
        self.what_is_missing().await.is_none()
    }

    async fn what_is_missing(&mut self) -> Option<String> {
        for (topic, partitions) in [("__meta", 1), (TOPIC, PARTITIONS as usize)] {
            let replicas = self.cluster.replicas_of(topic).await;
            if replicas.len() != 3 * partitions {
                return Some(format!("{topic} has {} replicas", replicas.len()));
            }
            for (broker, replica) in &replicas {
                let conf = replica.conf_state.clone().unwrap_or_default();
                let votes = conf.voters.len() == 3 && conf.voters.contains(&replica.peer_id);
                if !votes || !conf.voters_outgoing.is_empty() || !conf.learners.is_empty() {
                    return Some(format!("broker {broker}, {topic}: {conf:?}"));
                }
            }
        }
        None
    }

    /// Waits until every group is whole and every log of the topic is covered and cut.
    async fn wait_healed(&mut self) -> Result<(), HarnessError> {
        let deadline = Instant::now() + HEAL_TIMEOUT;
        loop {
            let missing = match self.what_is_missing().await {
                None => self.what_is_long().await,
                missing => missing,
            };
            let Some(seen) = missing else { return Ok(()) };
            self.cluster.check()?;
            if Instant::now() >= deadline {
                return Err(HarnessError::Deadline {
                    what: "a whole cluster with short logs, after all troubles".to_owned(),
                    within: HEAL_TIMEOUT,
                    seen,
                    logs: self.cluster.log_tails(),
                });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn what_is_long(&mut self) -> Option<String> {
        let replicas = self.cluster.replicas_of(TOPIC).await;
        let long = replicas.iter().find(|(_, replica)| {
            let entries = replica.last_log_index + 1 - replica.first_log_index;
            replica.first_log_index == 1 || entries > 1_000
        });
        long.map(|(broker, replica)| {
            format!(
                "broker {broker}: log from {} to {}",
                replica.first_log_index, replica.last_log_index
            )
        })
    }

    /// Snapshots that sidecars installed since they were last started.
    async fn seeded(&self) -> Result<u64, HarnessError> {
        let mut sum = 0.0;
        for node in self.cluster.nodes() {
            let labels = [("outcome", "installed")];
            let metrics = node.metrics().await?;
            sum += metrics.sum("chronik_snapshot_bootstrap_requests_total", &labels);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a sum of counters"
        )]
        Ok(sum as u64)
    }
}

fn tell(words: &str) {
    let _ = writeln!(io::stdout(), "{words}");
}

/// Runs it. `true` = no promise was broken.
pub(crate) async fn soak(dir: &Path, seed: u64, duration: Duration) -> Result<bool, HarnessError> {
    let dir = empty_own(dir, MARKER)?;
    tell(&format!("seed {seed}, {} s of trouble", duration.as_secs()));
    let mut world = World::start(&dir).await?;
    let load = Load::start(world.cluster.client(), TOPIC, PARTITIONS);
    let mut nemesis = Nemesis::new(seed);
    let begun = Instant::now();
    let mut seeded = 0;
    wait_progress(&world, &load).await?;
    while begun.elapsed() < duration {
        let before = world.seeded().await.unwrap_or_default();
        let what = nemesis.strike(&mut world).await?;
        let at = begun.elapsed().as_secs_f64();
        tell(&format!("[{at:6.1} s] {what}"));
        wait_progress(&world, &load).await?;
        world.cluster.check()?;
        let after = world.seeded().await.unwrap_or_default();
        seeded += after.saturating_sub(before);
    }
    tell("no more trouble: waiting for the cluster to heal");
    world.wait_healed().await?;
    let (history, log) = load.finish().await?;
    let findings = history.check(&log);
    nemesis.troubles.store_faults = world.proxy.faults();
    world.cluster.stop().await?;
    let report = Report {
        verdict: "ok",
        seed,
        seconds: duration.as_secs(),
        troubles: nemesis.troubles,
        acked: history.acked_records(),
        consumed: log.len() as u64,
        read_on_the_way: history.seen_records(),
        seeded,
        acked_records_lost: 0,
        duplicated: 0,
        unexpected: 0,
        gaps: 0,
        disordered: 0,
        changed: 0,
        findings: Vec::new(),
    }
    .with(findings);
    let written = report.write(&dir);
    written.map_err(|source| HarnessError::File {
        what: "writing",
        path: dir.join("report.json"),
        source,
    })?;
    tell(&format!("{report:#?}"));
    report.print_evidence();
    Ok(report.verdict == "ok")
}

async fn wait_progress(world: &World, load: &Load) -> Result<(), HarnessError> {
    let before = load.acked();
    let look = async || {
        let acked = load.acked() - before;
        Ok(if acked >= PROGRESS {
            Poll::Done(())
        } else {
            Poll::NotYet(format!("{acked} records acknowledged"))
        })
    };
    let what = "writes going on after a trouble";
    world.cluster.wait_until(what, PROGRESS_TIMEOUT, look).await
}
