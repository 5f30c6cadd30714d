//! The loop: tick, assess every partition, run visits within bounds, remember.
//!
//! Beside the visits one drill at a time, when it is time for one ([`drills`]).
//!
//! One task owns all memory, so nothing here is locked. Visits run as tasks of a [`JoinSet`] that dies with the
//! scheduler; at most one per partition, at most `max_concurrent` that take a snapshot, at most
//! [`LIGHT_VISITS`] others. Waiting ones start most overdue first, whoever waited; a partition that failed
//! backs off without holding a slot.

mod command;
mod drills;
mod finish;
mod memory;
mod need;
mod tick;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    sync::mpsc,
    task::{self, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    board::Board,
    broker::BrokerInfo,
    config::TopicFilter,
    control::Command,
    pipeline::{AgeOf, Pipeline, VisitReport, VisitRequest},
    raft::{Lineage, TopicPartition},
    retry::Backoff,
    supervisor::Heartbeat,
};
use drills::{Drills, sleep_until_some};
use memory::{Memory, Pause};
use need::Need;

/// Visits that take no snapshot and may run at once.
const LIGHT_VISITS: usize = 8;
/// After a failed visit.
const PARTITION_BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(5),
    cap: Duration::from_mins(10),
};
/// After a visit that found damage: every try may store one more snapshot that is set aside.
const DAMAGE_BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(5),
    cap: Duration::from_hours(1),
};
/// After a failed tick.
const BROKER_BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(30),
};
/// The loop counts as alive for so long while it asks the broker; its calls have deadlines far below.
const TICK_MAX: Duration = Duration::from_mins(3);
/// Time for aborted uploads to tell the store, after the grace.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// What the scheduler is told by the operator.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// False = no ticks: only Bootstrap is served.
    pub enabled: bool,
    /// Longest time between two ticks.
    pub check_interval: Duration,
    /// Snapshots at once.
    pub max_concurrent: NonZeroUsize,
    /// Topics to look after.
    pub topics: TopicFilter,
    /// Between two drills; none = there are none.
    pub drill_interval: Option<Duration>,
    /// How long running visits may go on after a stop.
    pub shutdown_grace: Duration,
}

/// A visit that ended.
struct Finished {
    lineage: Lineage,
    started_at: Instant,
    manual: bool,
    report: VisitReport,
}

/// The loop and everything it remembers.
pub struct Scheduler {
    pipeline: Arc<Pipeline>,
    board: Arc<Board>,
    options: SchedulerOptions,
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
    broker: Option<BrokerInfo>,
    /// In order, like what waits: one seed of a simulation gives one run. Boxed: a map that grows in order is half empty.
    partitions: BTreeMap<TopicPartition, Box<Memory>>,
    /// Operators' pauses, kept also while the broker does not list the partition.
    pauses: HashMap<TopicPartition, Pause>,
    waiting: BTreeMap<TopicPartition, Need>,
    visits: JoinSet<Finished>,
    drills: Drills,
    /// What runs: the partition, and whether it holds one of the few slots.
    running: HashMap<task::Id, (TopicPartition, bool)>,
    heavy_running: usize,
    light_running: usize,
    tick_failures: u32,
    next_tick: Instant,
    heartbeat: Heartbeat,
}

impl Scheduler {
    /// A scheduler that will tick at once when run. `stop` ends it gracefully.
    pub fn new(
        pipeline: Arc<Pipeline>,
        options: SchedulerOptions,
        commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) -> Self {
        let board = pipeline.board.clone();
        let next_tick = pipeline.clock.now();
        let drills = Drills::new(
            options.drill_interval.filter(|_| options.enabled),
            next_tick,
        );
        Self {
            pipeline,
            board,
            options,
            commands,
            stop,
            broker: None,
            partitions: BTreeMap::new(),
            pauses: HashMap::new(),
            waiting: BTreeMap::new(),
            visits: JoinSet::new(),
            drills,
            running: HashMap::new(),
            heavy_running: 0,
            light_running: 0,
            tick_failures: 0,
            next_tick,
            heartbeat: Heartbeat::none(),
        }
    }

    /// As long as the loop goes round, `heartbeat` says so.
    #[must_use]
    pub fn watched(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat, ..self }
    }

    /// Runs until stopped, then lets running visits finish within the grace and aborts the rest.
    pub async fn run(mut self) {
        let stop = self.stop.clone();
        let mut heartbeat = std::mem::replace(&mut self.heartbeat, Heartbeat::none());
        self.pipeline.metrics.set_loop_running(self.options.enabled);
        self.begin_drills();
        self.show_options();
        loop {
            let drill_at = self.drills.next_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = heartbeat.beat() => {}
                Some(finished) = self.visits.join_next_with_id() => self.absorb(finished),
                Some(drilled) = self.drills.running.join_next() => self.drilled(drilled),
                Some(command) = self.commands.recv() => {
                    // A broker that does not answer must not delay a stop.
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = heartbeat.beat_for(TICK_MAX) => {}
                        () = self.command(command) => {}
                    }
                }
                () = tokio::time::sleep_until(self.next_tick), if self.options.enabled => {
                    // A broker that does not answer must not delay a stop.
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = heartbeat.beat_for(TICK_MAX) => {}
                        () = self.tick() => {}
                    }
                }
                () = sleep_until_some(drill_at) => self.start_drill(),
            }
            self.start_visits();
            self.show_load();
        }
        self.drain().await;
        self.pipeline.metrics.set_loop_running(false);
    }

    fn absorb(&mut self, ended: Result<(task::Id, Finished), task::JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some((partition, heavy)) = self.running.remove(&id) else {
            return;
        };
        if heavy {
            self.heavy_running = self.heavy_running.saturating_sub(1);
        } else {
            self.light_running = self.light_running.saturating_sub(1);
        }
        match ended {
            Ok((_, finished)) => self.finish(&partition, finished),
            Err(error) => self.died(&partition, &error),
        }
    }

    /// Starts what waits, most overdue first, while there are slots.
    fn start_visits(&mut self) {
        loop {
            let heavy_free = self.heavy_running < self.options.max_concurrent.get();
            let light_free = self.light_running < LIGHT_VISITS;
            let startable = self
                .waiting
                .iter()
                .filter(|(_, need)| if need.heavy { heavy_free } else { light_free })
                .max_by_key(|(_, need)| need.priority);
            let Some((partition, need)) =
                startable.map(|(partition, need)| (partition.clone(), *need))
            else {
                return;
            };
            self.waiting.remove(&partition);
            self.start(partition, need);
        }
    }

    fn start(&mut self, partition: TopicPartition, need: Need) {
        // A visit of a former life of the topic still runs: the next tick asks again.
        if self
            .running
            .values()
            .any(|(running, _)| *running == partition)
        {
            return;
        }
        let now = self.pipeline.clock.now();
        let (Some(memory), Some(info)) = (self.partitions.get_mut(&partition), self.broker.clone())
        else {
            return;
        };
        let facts = memory.facts(now);
        memory.running = true;
        let request = VisitRequest {
            info,
            replica: memory.replica.clone(),
            lineage: memory.lineage.clone(),
            may_snapshot: need.heavy,
            manual: need.heavy && memory.manual,
            refused_base: memory.refused_base,
            may_delete: need.may_delete,
            age_of: AgeOf {
                known: facts.newest_proven,
                age: facts.age,
            },
            due_for: facts.due_for,
            since_last_start: facts.since_last_start,
        };
        if need.heavy {
            self.heavy_running += 1;
        } else {
            self.light_running += 1;
        }
        let pipeline = self.pipeline.clone();
        let visit = async move {
            let report = pipeline.visit(&request).await;
            Finished {
                lineage: request.lineage,
                started_at: now,
                manual: request.manual,
                report,
            }
        };
        // Boxed: the compiler cannot see through so many nested streams that it may move between threads.
        let task = self.visits.spawn(visit.boxed());
        self.running.insert(task.id(), (partition, need.heavy));
    }

    fn show_options(&self) {
        let policy = &self.pipeline.options.policy;
        self.board.daemon(|daemon| {
            daemon.snapshots_enabled = self.options.enabled;
            daemon.log_threshold_entries = policy.log_threshold.get();
            daemon.time_threshold_secs = policy.time_threshold.as_secs();
        });
    }

    fn show_load(&self) {
        let running = self.heavy_running + self.light_running;
        self.pipeline.metrics.set_queue_depth(self.waiting.len());
        self.board.daemon(|daemon| {
            daemon.in_flight = u32::try_from(running).unwrap_or(u32::MAX);
            daemon.queued = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        });
    }

    async fn drain(&mut self) {
        self.commands.close();
        self.waiting.clear();
        // It reads only, and ends by itself at once: nobody waits for it.
        self.drills.running.abort_all();
        let running = self.visits.len();
        if running > 0 {
            tracing::info!(
                running,
                grace_secs = self.options.shutdown_grace.as_secs(),
                "letting running work finish"
            );
        }
        if self.finish_all_within(self.options.shutdown_grace).await {
            return;
        }
        tracing::warn!(
            running = self.visits.len(),
            "grace is over: aborting uploads"
        );
        self.pipeline.abort.cancel();
        if !self.finish_all_within(ABORT_GRACE).await {
            tracing::warn!(
                running = self.visits.len(),
                "some work did not stop in time"
            );
            self.visits.abort_all();
        }
    }

    async fn finish_all_within(&mut self, grace: Duration) -> bool {
        let all = async {
            while let Some(finished) = self.visits.join_next_with_id().await {
                self.absorb(finished);
            }
        };
        tokio::time::timeout(grace, all).await.is_ok()
    }
}
