//! Drills by the clock: one at a time, each time another partition, tried again when it could not be done.
//!
//! Nothing here is remembered over a restart: the first turn after one comes soon and falls on any partition.

use std::{collections::BTreeMap, time::Duration};

use futures::FutureExt as _;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    Scheduler,
    memory::{DrillMemory, Memory},
};
use crate::{
    clock::unix_ms,
    pipeline::{DrillOutcome, DrillReport, DrillRequest},
    policy::{DrillCandidate, choose_drill},
    raft::{Lineage, TopicPartition},
    retry::Backoff,
    telemetry::{DrillResult, Label as _},
};

/// The first turn after a start comes about this late, if drills are not more frequent anyway.
const FIRST_TURN: Duration = Duration::from_hours(1);
/// After a Bootstrap came first, or when there is nothing to drill.
const AGAIN: Duration = Duration::from_mins(1);
/// After a drill that failed or found damage, where turns are not more frequent anyway.
const RETRY_BASE: Duration = Duration::from_mins(1);
const RETRY_CAP: Duration = Duration::from_hours(6);

/// A drill that ended.
pub(super) struct Drilled {
    partition: TopicPartition,
    lineage: Lineage,
    report: DrillReport,
}

/// When drills are, and the one that runs.
pub(super) struct Drills {
    /// None = there are none.
    interval: Option<Duration>,
    next_turn: Instant,
    /// Out of turn, from here on.
    retries: BTreeMap<TopicPartition, Instant>,
    /// At most one.
    pub(super) running: JoinSet<Drilled>,
    /// Of this partition.
    current: Option<TopicPartition>,
}

impl Drills {
    pub(super) fn new(interval: Option<Duration>, now: Instant) -> Self {
        Self {
            interval,
            next_turn: now,
            retries: BTreeMap::new(),
            running: JoinSet::new(),
            current: None,
        }
    }

    /// When to look for a drill to start; none while one runs, or when there are none.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.interval.filter(|_| self.running.is_empty())?;
        let retry = self.retries.values().min().copied();
        Some(retry.map_or(self.next_turn, |retry| retry.min(self.next_turn)))
    }
}

/// Waits until then, or for ever.
pub(super) async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Scheduler {
    pub(super) fn begin_drills(&mut self) {
        let interval = self.drills.interval;
        self.pipeline.metrics.set_drill_interval(interval);
        let secs = interval.map_or(0, |interval| interval.as_secs());
        self.board
            .daemon(|daemon| daemon.drill_interval_secs = secs);
        if let Some(interval) = interval {
            let wait = self.spread(interval.min(FIRST_TURN));
            self.drills.next_turn = self.pipeline.clock.now() + wait;
        }
    }

    /// Starts a drill of whoever's turn it is, or sees when to look again.
    pub(super) fn start_drill(&mut self) {
        let Some(interval) = self.drills.interval else {
            return;
        };
        let now = self.pipeline.clock.now();
        let candidates: Vec<_> = self
            .partitions
            .iter()
            .filter(|(_, memory)| may_be_drilled(memory, now))
            .map(|(partition, memory)| candidate(partition, memory, now))
            .collect();
        let turn_is_due = now >= self.drills.next_turn;
        let pick = self.pipeline.clock.jitter();
        let chosen = choose_drill(&candidates, turn_is_due, pick).map(|chosen| (*chosen).clone());
        // What was to be tried again and cannot be, waits for its turn.
        let can_retry = |partition: &TopicPartition| {
            let memory = self.partitions.get(partition);
            memory.is_some_and(|memory| {
                may_be_drilled(memory, now) && memory.drills.retry_at.is_some()
            })
        };
        self.drills
            .retries
            .retain(|partition, at| *at > now || can_retry(partition));
        let Some((partition, info)) = chosen.zip(self.broker.clone()) else {
            // There is nothing to drill: not for long, perhaps.
            self.drills.retries.retain(|_, at| *at > now);
            let soon = now + self.spread(AGAIN.min(interval));
            self.drills.next_turn = self.drills.next_turn.max(soon);
            return;
        };
        let next_turn = now + self.spread(interval);
        let Some(memory) = self.partitions.get_mut(&partition) else {
            return;
        };
        if memory.drills.retry_at.take().is_some() {
            self.drills.retries.remove(&partition);
        } else {
            self.drills.next_turn = next_turn;
        }
        let request = DrillRequest {
            info,
            partition: partition.clone(),
            lineage: memory.lineage.clone(),
        };
        tracing::debug!(%partition, "drill started");
        self.board
            .daemon(|daemon| daemon.drilling = partition.to_string());
        self.drills.current = Some(partition);
        let pipeline = self.pipeline.clone();
        let drill = async move {
            let report = pipeline.drill(&request).await;
            Drilled {
                partition: request.partition,
                lineage: request.lineage,
                report,
            }
        };
        self.drills.running.spawn(drill.boxed());
    }

    pub(super) fn drilled(&mut self, ended: Result<Drilled, JoinError>) {
        self.board.daemon(|daemon| daemon.drilling.clear());
        let current = self.drills.current.take();
        let now = self.pipeline.clock.now();
        let Drilled {
            partition,
            lineage,
            report,
        } = match ended {
            Ok(drilled) => drilled,
            // A defect of ours. The others have their turns first.
            Err(error) => {
                tracing::error!(%error, partition = ?current, "a drill died");
                let memory = current.and_then(|partition| self.partitions.get_mut(&partition));
                if let Some(memory) = memory {
                    memory.drills.idle_since = now;
                }
                let metrics = &self.pipeline.metrics;
                return metrics.drill_ended(DrillResult::Failed, Duration::ZERO);
            }
        };
        let Some(result) = result_of(&report.outcome) else {
            return;
        };
        self.pipeline.metrics.drill_ended(result, report.elapsed);
        tell(&partition, &report);
        let wall = self.pipeline.clock.wall();
        let again = now + self.spread(AGAIN.min(self.drills.interval.unwrap_or(AGAIN)));
        let jitter = self.pipeline.clock.jitter();
        let backoff = Backoff {
            base: RETRY_BASE.min(self.drills.interval.unwrap_or(RETRY_BASE)),
            cap: RETRY_CAP,
        };
        let time_threshold = self.pipeline.options.policy.time_threshold;
        // What was found of a former life of the topic says nothing about this one.
        let of_this_life = |memory: &&mut Box<Memory>| memory.lineage == lineage;
        let Some(memory) = self.partitions.get_mut(&partition).filter(of_this_life) else {
            return;
        };
        let retry_at = match result {
            DrillResult::Success => {
                memory.drills = DrillMemory {
                    idle_since: now,
                    failures: 0,
                    retry_at: None,
                    last_success: Some(wall),
                };
                None
            }
            DrillResult::Damaged | DrillResult::Failed => {
                memory.drills.idle_since = now;
                memory.drills.failures = memory.drills.failures.saturating_add(1);
                Some(now + backoff.after(memory.drills.failures, jitter))
            }
            DrillResult::Nothing => {
                memory.drills.idle_since = now;
                None
            }
            DrillResult::Yielded => Some(again),
        };
        memory.drills.retry_at = retry_at;
        if let Some(folder) = &report.folder {
            memory.saw_folder(folder, now, wall, time_threshold);
        }
        if let Some(at) = retry_at {
            self.drills.retries.insert(partition.clone(), at);
        }
        self.show_drill(&partition, result, report, unix_ms(wall));
        self.assess_one(&partition, now);
    }

    /// Puts a result on the board; what came to none is only counted.
    fn show_drill(
        &self,
        partition: &TopicPartition,
        result: DrillResult,
        report: DrillReport,
        at_unix_ms: i64,
    ) {
        let problem = match report.outcome {
            DrillOutcome::Restored { .. } => String::new(),
            DrillOutcome::Damaged { problem } | DrillOutcome::Failed { problem, .. } => problem,
            DrillOutcome::Nothing | DrillOutcome::Yielded | DrillOutcome::Stopped => return,
        };
        let id = report.snapshot.map(|id| id.to_string());
        let elapsed_ms = u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX);
        self.board.partition(partition, |status| {
            if result == DrillResult::Success {
                status.last_drill_success_at_unix_ms = at_unix_ms;
                status.last_drill_success_ms = elapsed_ms;
            }
            status.last_drill_outcome = result.as_str().into();
            status.last_drill_at_unix_ms = at_unix_ms;
            status.last_drill_snapshot_id = id.unwrap_or_default();
            status.last_drill_problem = problem;
        });
    }
}

/// A partition that is left alone is not drilled either.
fn may_be_drilled(memory: &Memory, now: Instant) -> bool {
    memory.newest.last_included.is_some() && !memory.paused(now)
}

fn candidate<'a>(
    partition: &'a TopicPartition,
    memory: &Memory,
    now: Instant,
) -> DrillCandidate<&'a TopicPartition> {
    let drills = &memory.drills;
    DrillCandidate {
        key: partition,
        idle: now.saturating_duration_since(drills.idle_since),
        retry_in: drills.retry_at.map(|at| at.saturating_duration_since(now)),
    }
}

/// None = the process stops, and nothing is told any more.
const fn result_of(outcome: &DrillOutcome) -> Option<DrillResult> {
    match outcome {
        DrillOutcome::Restored { .. } => Some(DrillResult::Success),
        DrillOutcome::Damaged { .. } => Some(DrillResult::Damaged),
        DrillOutcome::Failed { .. } => Some(DrillResult::Failed),
        DrillOutcome::Nothing => Some(DrillResult::Nothing),
        DrillOutcome::Yielded => Some(DrillResult::Yielded),
        DrillOutcome::Stopped => None,
    }
}

fn tell(partition: &TopicPartition, report: &DrillReport) {
    let id = report.snapshot.map(|id| id.to_string()).unwrap_or_default();
    let elapsed_ms = u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX);
    match &report.outcome {
        DrillOutcome::Restored { raw_bytes } => {
            tracing::info!(%partition, snapshot_id = id, raw_bytes, elapsed_ms, "drill succeeded");
        }
        DrillOutcome::Damaged { problem } => {
            tracing::error!(%partition, snapshot_id = id, problem, "drill found damage");
        }
        DrillOutcome::Failed { kind, problem } => {
            tracing::warn!(%partition, snapshot_id = id, kind = kind.as_str(), problem, "drill failed");
        }
        DrillOutcome::Yielded => {
            tracing::info!(%partition, snapshot_id = id, elapsed_ms, "drill gave way to a restore");
        }
        DrillOutcome::Nothing | DrillOutcome::Stopped => {
            tracing::debug!(%partition, snapshot_id = id, "drill came to nothing");
        }
    }
}
