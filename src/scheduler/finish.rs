//! What a visit's report changes: memory, back-off, board, metrics, and the answers to those who wait.

use tokio::{task::JoinError, time::Instant};

use super::{DAMAGE_BACKOFF, Finished, PARTITION_BACKOFF, Scheduler, memory::Memory};
use crate::{
    catalog::Snapshot,
    control::{ControlError, Triggered},
    error::{Kind, chain},
    mutation::{self, Mutation},
    pipeline::{PipelineError, Stage, VisitReport},
    raft::TopicPartition,
};

/// Looks for the leader's snapshot double their distance up to this many check intervals.
const MAX_LOOK_INTERVALS: u32 = 8;

impl Scheduler {
    pub(super) fn finish(&mut self, partition: &TopicPartition, finished: Finished) {
        let now = self.pipeline.clock.now();
        let next_sweep = now + self.spread(Self::sweep_interval());
        let Finished {
            lineage,
            started_at,
            manual,
            report,
        } = finished;
        self.show_store(&report);
        // What a visit of a former life of the topic found says nothing about this one.
        let of_this_life = |memory: &&mut Box<Memory>| memory.lineage == lineage;
        let Some(memory) = self.partitions.get_mut(partition).filter(of_this_life) else {
            return;
        };
        memory.running = false;
        if report.started {
            memory.last_start = Some(started_at);
        }
        let wall = self.pipeline.clock.wall();
        if let Some(folder) = &report.folder {
            let time_threshold = self.pipeline.options.policy.time_threshold;
            memory.saw_folder(folder, now, wall, time_threshold);
        }
        if let Some(done) = report.compaction {
            memory.replica.cut(done.first_log_index, done.freed_bytes);
        }
        if let Some(retention) = report.retention {
            memory.next_sweep = next_sweep;
            memory.delete_due = retention.sweep.next_due.map(|wait| now + wait);
        } else if now >= memory.next_sweep && report.error.is_none() {
            memory.next_sweep = next_sweep;
        }
        let refused = report.refused_base;
        if refused.is_some() && !mutation::active(Mutation::TermMismatchForgotten) {
            memory.refused_base = refused;
        }
        postpone_look(memory, now, self.options.check_interval);
        if manual {
            memory.manual = false;
            answer(memory, &report);
        }
        match &report.error {
            None => {
                memory.failures = 0;
                memory.damages = 0;
                memory.not_before = None;
            }
            Some(error) => {
                memory.failures = memory.failures.saturating_add(1);
                let jitter = self.pipeline.clock.jitter();
                let wait = if error.kind() == Kind::Corrupt {
                    memory.damages = memory.damages.saturating_add(1);
                    DAMAGE_BACKOFF.after(memory.damages, jitter)
                } else {
                    PARTITION_BACKOFF.after(memory.failures, jitter)
                };
                memory.not_before = Some(now + wait);
                log_failure(error, memory.failures, wait);
            }
        }
        let blocked = report.error.as_ref().is_some_and(is_blocked);
        memory.deletion_blocked =
            blocked || (memory.deletion_blocked && report.retention.is_none());
        let failures = memory.failures;
        self.board.partition(partition, |status| {
            status.consecutive_failures = failures;
            let problem = report
                .error
                .as_ref()
                .map(|error| chain(error))
                .unwrap_or_default();
            if blocked {
                status.deletion_blocked.clone_from(&problem);
            } else if report.retention.is_some() {
                status.deletion_blocked.clear();
            }
            status.last_error = problem;
        });
        // What the visit changed may make the partition need another one, or none.
        self.assess_one(partition, now);
    }

    /// A visit panicked: a defect of ours. Its slot is free again and its partition backs off like any failed one.
    pub(super) fn died(&mut self, partition: &TopicPartition, error: &JoinError) {
        tracing::error!(%partition, %error, "a visit died");
        let now = self.pipeline.clock.now();
        let jitter = self.pipeline.clock.jitter();
        if let Some(memory) = self.partitions.get_mut(partition) {
            memory.running = false;
            memory.manual = false;
            memory.failures = memory.failures.saturating_add(1);
            memory.not_before = Some(now + PARTITION_BACKOFF.after(memory.failures, jitter));
            // Dropping the waiters tells them that nothing will come.
            memory.waiters.clear();
        }
    }

    /// Whether the store answered, and whether it is ours.
    fn show_store(&self, report: &VisitReport) {
        let error = report.error.as_ref();
        let identity = error
            .filter(|error| error.stage == Stage::Identity && error.kind() != Kind::Unavailable);
        let away = error.is_some_and(|error| error.is_store() && error.kind() == Kind::Unavailable);
        self.pipeline.metrics.set_store_available(!away);
        self.pipeline
            .metrics
            .set_identity_problem(identity.is_some());
        self.board.daemon(|daemon| {
            daemon.store_available = !away;
            if !away {
                daemon.identity_problem = identity.map(|error| chain(error)).unwrap_or_default();
            }
        });
    }
}

/// A visit that was made to look for the leader's snapshot and found nothing new looks again later and later.
fn postpone_look(memory: &mut Memory, now: Instant, check_interval: std::time::Duration) {
    let intervals = 1_u32
        .checked_shl(memory.idle_looks)
        .unwrap_or(u32::MAX)
        .min(MAX_LOOK_INTERVALS);
    memory.idle_looks = memory.idle_looks.saturating_add(1);
    memory.next_look = now + check_interval.saturating_mul(intervals);
}

/// Tells those who wait for a manual snapshot how it went.
fn answer(memory: &mut Memory, report: &VisitReport) {
    let newest = report
        .folder
        .as_deref()
        .and_then(|folder| folder.newest_proven(&memory.lineage));
    let outcome = match (&report.error, newest) {
        (Some(error), _) => Err(ControlError::Failed {
            kind: error.kind(),
            message: chain(error),
        }),
        (None, Some(newest)) => Ok(proven(newest, report)),
        (None, None) => Err(ControlError::Failed {
            kind: Kind::Conflict,
            message: "nothing has been applied in this partition yet: there is nothing to snapshot"
                .to_owned(),
        }),
    };
    for waiter in memory.waiters.drain(..) {
        // Whoever no longer waits needs no answer.
        drop(waiter.send(outcome.clone()));
    }
}

fn proven(newest: &Snapshot, report: &VisitReport) -> Triggered {
    Triggered::Proven {
        snapshot_id: newest.id.to_string(),
        last_included: newest.last_included(),
        already_covered: report.snapshot.is_none(),
    }
}

fn is_blocked(error: &PipelineError) -> bool {
    matches!(error.stage, Stage::Retention | Stage::Sweep) && error.kind() == Kind::Invalid
}

fn log_failure(error: &PipelineError, failures: u32, wait: std::time::Duration) {
    let partition = &error.partition;
    let error_chain = chain(error);
    let (stage, kind, retry_in_secs) = (error.stage, error.kind().as_str(), wait.as_secs());
    match error.kind() {
        Kind::Corrupt | Kind::Invalid | Kind::Internal => {
            tracing::error!(%partition, %stage, kind, failures, retry_in_secs, error = error_chain, "visit failed");
        }
        Kind::Unavailable | Kind::Conflict | Kind::Cancelled => {
            tracing::warn!(%partition, %stage, kind, failures, retry_in_secs, error = error_chain, "visit failed");
        }
    }
}
