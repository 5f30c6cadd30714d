//! One tick: ask the broker, assess every partition, say what was found, plan the next tick.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    BROKER_BACKOFF, Scheduler,
    memory::Memory,
    need::{self, Assessment},
};
use crate::{
    broker::{BrokerError, BrokerInfo, Replica},
    catalog::Folder,
    clock::unix_ms,
    error::chain,
    policy::{Decision, NotMine, Trigger},
    raft::{Lineage, TopicPartition},
    telemetry::{DebtReason, Label as _, PartitionSample},
};

/// Ticks are at least this far apart, unless the check interval is shorter.
const MIN_TICK_GAP: Duration = Duration::from_secs(5);
/// Between two sweeps of a partition's folder.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

impl Scheduler {
    pub(super) async fn tick(&mut self) {
        let asked = self.ask_broker().await;
        let now = self.pipeline.clock.now();
        let (info, replicas) = match asked {
            Ok(answer) => answer,
            Err(error) => return self.broker_away(&error, now),
        };
        if self.tick_failures > 0 || self.broker.is_none() {
            tracing::info!(
                broker_id = info.broker_id, cluster_id = %info.cluster_id, incarnation = info.incarnation,
                boot_id = %info.boot_id, replicas = replicas.len(), "broker connected"
            );
        }
        self.tick_failures = 0;
        self.pipeline.metrics.set_broker_connected(true);
        self.observe(&info, replicas, now);
        self.broker = Some(info);
        self.assess_all(now);
        self.next_tick = self.plan_next_tick(now);
        let wall = self.pipeline.clock.wall();
        self.pipeline.metrics.set_last_tick(wall);
        self.board
            .daemon(|daemon| daemon.last_tick_at_unix_ms = unix_ms(wall));
    }

    async fn ask_broker(&self) -> Result<(BrokerInfo, Vec<Replica>), BrokerError> {
        let info = self.pipeline.broker.describe().await?;
        let replicas = self.pipeline.broker.list_replicas(None).await?;
        Ok((info, replicas))
    }

    fn broker_away(&mut self, error: &BrokerError, now: Instant) {
        if self.tick_failures == 0 {
            tracing::warn!(
                error = chain(error),
                "the broker does not answer; trying again"
            );
        }
        self.tick_failures = self.tick_failures.saturating_add(1);
        self.pipeline.metrics.set_broker_connected(false);
        self.board.daemon(|daemon| daemon.broker_connected = false);
        let wait = BROKER_BACKOFF.after(self.tick_failures, self.pipeline.clock.jitter());
        self.next_tick = now + wait.min(self.options.check_interval.max(BROKER_BACKOFF.base));
    }

    /// Takes over what the broker said; forgets partitions and topic lives that are gone.
    fn observe(&mut self, info: &BrokerInfo, replicas: Vec<Replica>, now: Instant) {
        let mut before = std::mem::take(&mut self.partitions);
        let mut current = BTreeMap::new();
        for replica in replicas {
            if !self.options.topics.matches(&replica.partition.topic) {
                continue;
            }
            let lineage = Lineage {
                cluster_id: info.cluster_id.clone(),
                incarnation: info.incarnation,
                topic_id: replica.topic_id.clone(),
            };
            let partition = replica.partition.clone();
            let same_life = before
                .remove(&partition)
                .filter(|memory| memory.lineage == lineage);
            let memory = if let Some(mut memory) = same_life {
                memory.observe(replica, now);
                memory
            } else {
                let first_sweep = self.spread(SWEEP_INTERVAL);
                let mut memory = Box::new(Memory::new(replica, lineage, now, first_sweep));
                memory.pause = self.pauses.get(&partition).cloned();
                memory
            };
            current.insert(partition, memory);
        }
        // A visit that still runs for a partition that left ends by itself; the broker refuses what no longer fits.
        self.partitions = current;
        self.waiting
            .retain(|partition, _| self.partitions.contains_key(partition));
        if !before.is_empty() {
            self.pipeline
                .catalog
                .retain(|partition| self.partitions.contains_key(partition));
            self.pipeline
                .metrics
                .retain_partitions(|partition| self.partitions.contains_key(partition));
            self.board
                .retain(|partition| self.partitions.contains_key(partition));
        }
        self.board.daemon(|daemon| {
            daemon.broker_connected = true;
            daemon.cluster_id.clone_from(&info.cluster_id);
            daemon.incarnation = info.incarnation;
            daemon.broker_id = info.broker_id;
        });
    }

    fn assess_all(&mut self, now: Instant) {
        let mut due: HashMap<Trigger, usize> = HashMap::new();
        let mut debts: HashMap<DebtReason, usize> = HashMap::new();
        let partitions: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        for partition in partitions {
            let Some(found) = self.assess_one(&partition, now) else {
                continue;
            };
            if let Some(trigger) = found.due {
                *due.entry(trigger).or_default() += 1;
            }
            if let Some(debt) = found.debt {
                *debts.entry(debt.reason).or_default() += 1;
            }
        }
        let blocked = self
            .partitions
            .values()
            .filter(|memory| memory.deletion_blocked);
        self.pipeline.metrics.set_deletion_blocked(blocked.count());
        for trigger in Trigger::ALL {
            let partitions = due.get(trigger).copied().unwrap_or_default();
            self.pipeline
                .metrics
                .set_due_partitions(*trigger, partitions);
        }
        for reason in DebtReason::ALL {
            let partitions = debts.get(reason).copied().unwrap_or_default();
            let metrics = &self.pipeline.metrics;
            metrics.set_debt_partitions(*reason, partitions);
        }
    }

    /// Assesses one partition: queues or unqueues it, and says what was found. None if it is not hosted.
    pub(super) fn assess_one(
        &mut self,
        partition: &TopicPartition,
        now: Instant,
    ) -> Option<Assessment> {
        let (memory, info) = (self.partitions.get_mut(partition)?, self.broker.as_ref()?);
        let folder = self.pipeline.catalog.known(partition);
        let codecs = &info.accepted_state_codecs;
        let policy = &self.pipeline.options.policy;
        let assessment = need::assess(memory, folder.as_deref(), codecs, now, policy);
        match assessment.due {
            Some(_) => {
                memory.due_since.get_or_insert(now);
            }
            None => memory.due_since = None,
        }
        match assessment.need {
            Some(need) => {
                self.waiting.insert(partition.clone(), need);
            }
            None => {
                self.waiting.remove(partition);
            }
        }
        self.show(partition, &assessment, folder.as_deref(), now);
        Some(assessment)
    }

    /// Puts what was found on the board and into the metrics.
    fn show(
        &self,
        partition: &TopicPartition,
        assessment: &Assessment,
        folder: Option<&Folder>,
        now: Instant,
    ) {
        let Some(memory) = self.partitions.get(partition) else {
            return;
        };
        let facts = &memory.replica.facts;
        let newest = memory.newest.last_included;
        let snapshot = folder.and_then(|folder| folder.newest_proven(&memory.lineage));
        let restore_time = snapshot.and_then(|snapshot| {
            let raw_bytes = snapshot.manifest.raw_bytes();
            self.pipeline.plane.restore_time(raw_bytes)
        });
        // Rounded up: what is known is never 0.
        let restore_estimate_secs =
            restore_time.map_or(0, |time| time.as_millis().div_ceil(1000).max(1));
        let restore_estimate_secs = u64::try_from(restore_estimate_secs).unwrap_or(u64::MAX);
        let debt = assessment.debt;
        let sample = PartitionSample {
            last_success: memory.last_success,
            last_included_index: newest.map_or(0, |id| id.index),
            log_entries_since_snapshot: assessment.entries,
            log_size_bytes: memory.replica.log_size_bytes,
            consecutive_failures: memory.failures,
            unprotected: assessment.unprotected,
            debt_entries: debt.map_or(0, |debt| debt.entries),
            debt_bytes: debt.map_or(0, |debt| debt.bytes),
            restore_estimate_secs,
            last_drill_success: memory.drills.last_success,
        };
        self.pipeline.metrics.set_partition(partition, &sample);
        let newest_id = snapshot.map_or_else(String::new, |snapshot| snapshot.id.to_string());
        let newest_made_at = snapshot.map_or(0, |snapshot| snapshot.manifest.created_at_unix_ms);
        let decision = if memory.looked {
            assessment.decision.to_string()
        } else {
            "not known yet: the store has not been read".to_owned()
        };
        self.board.put(partition, |status| {
            status.topic_id.clone_from(&memory.lineage.topic_id);
            status.role = facts.role.as_str().into();
            status.applied_index = facts.applied_index;
            status.first_log_index = facts.first_log_index;
            status.last_log_index = facts.last_log_index;
            status.log_size_bytes = sample.log_size_bytes;
            status.newest_snapshot_id = newest_id;
            status.newest_snapshot_at_unix_ms = newest_made_at;
            status.newest_last_included = newest;
            status.entries_since_snapshot = assessment.entries;
            status.decision = decision;
            status.consecutive_failures = memory.failures;
            status.unprotected = assessment.unprotected;
            status.truncation_debt_entries = sample.debt_entries;
            status.truncation_debt_bytes = sample.debt_bytes;
            status.truncation_held_by = debt.map_or("", |debt| debt.reason.as_str()).into();
            status.restore_estimate_secs = restore_estimate_secs;
            status.paused = memory.paused(now);
            if !memory.running {
                let waits = assessment.need.is_some();
                status.activity = if waits { "queued" } else { "idle" }.into();
            }
        });
    }

    /// The check interval, jittered, or sooner when a partition is about to need a visit.
    fn plan_next_tick(&self, now: Instant) -> Instant {
        let jitter = 0.9 + self.pipeline.clock.jitter() / 10.0;
        let latest = now + self.options.check_interval.mul_f64(jitter);
        let soonest = now + MIN_TICK_GAP.min(self.options.check_interval);
        let wanted = self
            .partitions
            .values()
            .filter_map(|memory| self.next_event(memory, now))
            .min();
        wanted.map_or(latest, |at| at.clamp(soonest, latest.max(soonest)))
    }

    /// When a partition's assessment may change without the broker saying anything new.
    fn next_event(&self, memory: &Memory, now: Instant) -> Option<Instant> {
        let facts = memory.facts(now);
        let policy = &self.pipeline.options.policy;
        let decision = crate::policy::decide(&facts, policy);
        let waiting = match decision {
            Decision::Leave(_, NotMine::LeaderTakesIt { takes_over_in }) => {
                Some(memory.next_look.min(now + takes_over_in))
            }
            Decision::Leave(_, NotMine::TooSoon { wait }) => Some(now + wait),
            Decision::Take(_) | Decision::NotDue(_) => None,
        };
        let crossing = self.crossing(memory, facts.entries_since_snapshot(), now);
        [memory.not_before, memory.delete_due, waiting, crossing]
            .into_iter()
            .flatten()
            // What is past was assessed just now.
            .filter(|at| *at > now)
            .min()
    }

    /// When the partition crosses the log threshold if it goes on growing like this.
    fn crossing(&self, memory: &Memory, entries: u64, now: Instant) -> Option<Instant> {
        let missing = self
            .pipeline
            .options
            .policy
            .log_threshold
            .get()
            .checked_sub(entries)?;
        if memory.entries_per_sec < 0.001 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "an estimate needs no more than 52 bits"
        )]
        let seconds = missing as f64 / memory.entries_per_sec;
        let wait = Duration::try_from_secs_f64(seconds).ok()?;
        (wait < self.options.check_interval).then(|| now + wait)
    }

    /// Half to one and a half of `interval`.
    pub(super) fn spread(&self, interval: Duration) -> Duration {
        interval.mul_f64(0.5 + self.pipeline.clock.jitter())
    }

    pub(super) const fn sweep_interval() -> Duration {
        SWEEP_INTERVAL
    }
}
