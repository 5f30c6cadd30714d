//! The demo, step by step.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use chronik_harness::{Cluster, HarnessError, Poll, client::ClientError, empty_own};
use tokio::time::Instant;

use crate::{
    Args, check,
    load::{self, Ledger, Stream},
    logbook::{self, Logbook, Savings},
    report::{Report, Reseed},
    reseed, setup,
};

/// The topic.
pub(crate) const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;
const REPLICATION: u16 = 3;
/// The broker that loses its disk.
const VICTIM: i32 = 3;
/// The broker that dies afterwards, so that the victim is needed.
const SECOND_VICTIM: i32 = 1;

const CREATE_TIMEOUT: Duration = Duration::from_secs(20);
const BURST_TIMEOUT: Duration = Duration::from_secs(90);
const TRUNCATE_TIMEOUT: Duration = Duration::from_secs(45);
const QUORUM_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest log that counts as truncated: what is to stay, and room for a few entries of the group's own.
const MAX_ENTRIES_LEFT: u64 = setup::TRAILING_ENTRIES + 50;
/// Records that the re-seeded quorum must acknowledge.
const QUORUM_RECORDS: u64 = 500;

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The directory of the demo.
    #[error("{}: {source}", path.display())]
    Dir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cluster.
    #[error(transparent)]
    Harness(#[from] HarnessError),
    /// The clients.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Something took too long.
    #[error("{what} took longer than {within:?}\n{logs}")]
    TooSlow {
        /// What.
        what: &'static str,
        /// The time it had.
        within: Duration,
        /// The ends of all logs.
        logs: String,
    },
    /// Nothing was truncated, so nothing was shown.
    #[error("no truncation was seen")]
    NoTruncation,
    /// The broker came back, but not from the store.
    #[error(
        "broker {broker} came back with {installed} of {wanted} replicas seeded from the store"
    )]
    NotFromStore {
        /// The broker.
        broker: i32,
        /// Snapshots installed.
        installed: u64,
        /// Replicas of the topic.
        wanted: usize,
    },
    /// Acknowledged and read records differ.
    #[error("acknowledged and consumed records differ: see the table")]
    Mismatch,
}

/// Writes a line to standard output. Nobody may be listening: that changes nothing.
pub(crate) fn tell_people(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Says what comes next.
struct Narrator {
    begun: Instant,
    step: u32,
}

impl Narrator {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            step: 0,
        }
    }

    fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn step(&mut self, what: &str) {
        self.step += 1;
        tell_people(&format!(
            "\n[{:5.1} s] {}. {what}",
            self.seconds(),
            self.step
        ));
    }

    fn say(&self, what: &str) {
        tell_people(&format!("[{:5.1} s]    {what}", self.seconds()));
    }
}

/// Runs the demo.
pub(crate) async fn tell(args: &Args) -> Result<(), DemoError> {
    let mut story = Story::begin(args).await?;
    story.produce(args.records).await?;
    let savings = story.wait_truncated().await?;
    let (stream, reseed) = story.lose_a_disk(args.records).await?;
    let on_quorum = story.lose_a_broker(stream).await?;
    story.check(savings, reseed, on_quorum).await
}

/// What the steps share.
struct Story {
    narrator: Narrator,
    dir: PathBuf,
    cluster: Cluster,
    logbook: Logbook,
    ledger: Ledger,
}

impl Story {
    async fn begin(args: &Args) -> Result<Self, DemoError> {
        let mut narrator = Narrator::new();
        let dir = empty_own(&args.dir, setup::MARKER)?;
        narrator.step("Start 3 brokers and 3 sidecars as processes");
        let options = setup::options(&dir);
        let store = setup::describe(&options.store);
        narrator.say(&format!("snapshots go to {store}"));
        let cluster = Cluster::start(options).await?;
        let logs = dir.join("logs");
        narrator.say(&format!(
            "the brokers know each other; logs are in {}",
            logs.display()
        ));
        cluster
            .client()
            .create_topic(TOPIC, PARTITIONS, REPLICATION, CREATE_TIMEOUT)
            .await?;
        narrator.say(&format!(
            "topic `{TOPIC}`: {PARTITIONS} partitions, {REPLICATION} replicas, one Raft group each"
        ));
        let logbook = Logbook::open(cluster.nodes());
        Ok(Self {
            narrator,
            dir,
            cluster,
            logbook,
            ledger: Ledger::new(),
        })
    }

    async fn produce(&mut self, records: u64) -> Result<(), DemoError> {
        self.narrator.step(&format!(
            "Produce {records} records of 1 KiB, acks=all, one Raft entry each"
        ));
        let since = Instant::now();
        let burst = load::burst(self.cluster.client(), records, &mut self.ledger);
        in_time(&self.cluster, "producing", BURST_TIMEOUT, burst).await?;
        let seconds = since.elapsed().as_secs_f64();
        let acked = self.ledger.len();
        self.narrator
            .say(&format!("{acked} acknowledged in {seconds:.1} s"));
        Ok(())
    }

    async fn wait_truncated(&mut self) -> Result<Savings, DemoError> {
        self.narrator.step(
            "Wait until every partition has a verified snapshot and EVERY replica's log is truncated",
        );
        wait_truncated(&self.cluster).await?;
        // One more look of the watchers: theirs may be older than ours.
        tokio::time::sleep(2 * logbook::INTERVAL).await;
        let savings = self.logbook.savings().ok_or(DemoError::NoTruncation)?;
        self.narrator.say(&format!(
            "the longest log had {} entries and now has {}; {:.1} % of all log bytes are freed",
            savings.max_entries_before, savings.max_entries_after, savings.bytes_percent
        ));
        Ok(savings)
    }

    async fn lose_a_disk(&mut self, next: u64) -> Result<(Stream, Reseed), DemoError> {
        self.narrator.step(&format!(
            "Keep producing; kill -9 broker {VICTIM}, delete its data directory, start it again"
        ));
        let stream = Stream::start(self.cluster.client(), next).await?;
        let before = reseed::before(&self.cluster, VICTIM).await?;
        self.cluster.kill_broker(VICTIM)?;
        self.cluster.wipe_broker(VICTIM)?;
        self.narrator
            .say(&format!("broker {VICTIM} is dead and its disk is empty"));
        self.cluster.start_broker(VICTIM)?;
        let reseed = reseed::wait(&self.cluster, VICTIM, &before, Instant::now()).await?;
        if reseed.installed_from_store < reseed.partitions as u64 {
            return Err(DemoError::NotFromStore {
                broker: VICTIM,
                installed: reseed.installed_from_store,
                wanted: reseed.partitions,
            });
        }
        self.narrator.say(&format!(
            "seeded from the store through {:?}, {} entries replayed from its peers, voter after {:.1} s",
            reseed.seeded_through, reseed.replayed_entries, reseed.seconds
        ));
        let meanwhile = stream.acked();
        self.narrator
            .say(&format!("{meanwhile} records acknowledged meanwhile"));
        Ok((stream, reseed))
    }

    async fn lose_a_broker(&mut self, stream: Stream) -> Result<u64, DemoError> {
        self.narrator.step(&format!(
            "kill -9 broker {SECOND_VICTIM}: now nothing is committed without broker {VICTIM}"
        ));
        self.cluster.kill_broker(SECOND_VICTIM)?;
        let at_kill = stream.acked();
        let look = async || {
            let acked = stream.acked() - at_kill;
            Ok(if acked >= QUORUM_RECORDS {
                Poll::Done(())
            } else {
                Poll::NotYet(format!("{acked} of {QUORUM_RECORDS} acknowledged"))
            })
        };
        let what = format!("{QUORUM_RECORDS} acknowledgements by brokers 2 and {VICTIM}");
        self.cluster.wait_until(&what, QUORUM_TIMEOUT, look).await?;
        let draining = stream.finish(&mut self.ledger);
        let what = "waiting for the last acknowledgements";
        let streamed = in_time(&self.cluster, what, DRAIN_TIMEOUT, draining).await?;
        let on_quorum = streamed - at_kill;
        self.narrator.say(&format!(
            "{on_quorum} records acknowledged by brokers 2 and {VICTIM}"
        ));
        Ok(on_quorum)
    }

    async fn check(
        mut self,
        savings: Savings,
        reseed: Reseed,
        on_quorum: u64,
    ) -> Result<(), DemoError> {
        self.narrator
            .step("Consume everything from offset 0 and compare it with every acknowledgement");
        let partitions = i32::try_from(PARTITIONS).unwrap_or(i32::MAX);
        let findings = check::check(self.cluster.client(), partitions, &self.ledger).await?;
        self.narrator
            .say(&format!("{} records read", findings.consumed));
        let snapshots = snapshots_committed(&self.cluster).await?;
        let counts = (snapshots, self.logbook.truncations());
        self.cluster.stop().await?;
        let acked = (self.ledger.len() as u64, on_quorum);
        let seconds = self.narrator.seconds();
        let report = Report::new(acked, &findings, savings, counts, reseed, seconds);
        report.print();
        let path = self.dir;
        let written = report.write(&path);
        written.map_err(|source| DemoError::Dir { path, source })?;
        if report.is_ok() {
            Ok(())
        } else {
            Err(DemoError::Mismatch)
        }
    }
}

/// Every partition has a proven snapshot, and every replica's log has lost its beginning and holds little more than
/// the entries that are to stay.
async fn wait_truncated(cluster: &Cluster) -> Result<(), HarnessError> {
    let wanted = PARTITIONS as usize;
    let look = async || {
        let mut behind = BTreeMap::new();
        for node in cluster.nodes() {
            let status = node.status().await?;
            let proven = status.partitions.iter().filter(|partition| {
                partition.topic == TOPIC && !partition.newest_snapshot_id.is_empty()
            });
            let replicas = node.replicas().await?;
            let truncated = replicas.iter().filter(|replica| {
                let name = replica.partition.clone().unwrap_or_default();
                let entries = replica.last_log_index + 1 - replica.first_log_index;
                name.topic == TOPIC && replica.first_log_index > 1 && entries <= MAX_ENTRIES_LEFT
            });
            let counts = (proven.count(), truncated.count());
            if counts != (wanted, wanted) {
                behind.insert(node.id(), counts);
            }
        }
        if behind.is_empty() {
            return Ok(Poll::Done(()));
        }
        let words: Vec<_> = behind
            .iter()
            .map(|(broker, (proven, truncated))| {
                format!("broker {broker}: {proven} proven, {truncated} truncated")
            })
            .collect();
        Ok(Poll::NotYet(format!("{} (of {wanted})", words.join("; "))))
    };
    let what = "a verified snapshot of every partition and a truncated log of every replica";
    cluster.wait_until(what, TRUNCATE_TIMEOUT, look).await
}

async fn snapshots_committed(cluster: &Cluster) -> Result<u64, HarnessError> {
    let mut sum = 0.0;
    for node in cluster.nodes() {
        let labels = [("operation", "snapshot"), ("result", "success")];
        sum += node
            .metrics()
            .await?
            .sum("chronik_snapshot_operations_total", &labels);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sum of counters"
    )]
    Ok(sum as u64)
}

async fn in_time<T>(
    cluster: &Cluster,
    what: &'static str,
    within: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, DemoError> {
    match tokio::time::timeout(within, work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(DemoError::TooSlow {
            what,
            within,
            logs: cluster.log_tails(),
        }),
    }
}
