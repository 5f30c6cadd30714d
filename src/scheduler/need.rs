//! Does a partition need a visit, and what may the visit do? Pure; an idle partition needs none, so an idle tick
//! makes no request to the store.

use tokio::time::Instant;

use super::memory::Memory;
use crate::{
    catalog::{Folder, Snapshot},
    policy::{
        CompactionPlan, Debt, Decision, NoCut, NotMine, Options, Role, Trigger, Uploader, decide,
        plan_compaction, truncation_debt,
    },
    telemetry::DebtReason,
};

/// A visit that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// It takes a snapshot: it needs one of the few slots.
    pub(super) heavy: bool,
    /// It may retire and sweep.
    pub(super) may_delete: bool,
    /// Greater = sooner.
    pub(super) priority: u64,
}

/// What the tick found for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Assessment {
    pub(super) decision: Decision,
    /// Why a snapshot is due; none = it is not, or nobody has looked into the store yet.
    pub(super) due: Option<Trigger>,
    pub(super) unprotected: bool,
    pub(super) entries: u64,
    pub(super) need: Option<Need>,
    pub(super) debt: Option<LogDebt>,
}

/// Log that a proven snapshot covers and that is there all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogDebt {
    pub(super) entries: u64,
    /// Their part of the log's size.
    pub(super) bytes: u64,
    pub(super) reason: DebtReason,
}

/// Assesses one partition on what is known without asking anybody.
pub(super) fn assess(
    memory: &Memory,
    folder: Option<&Folder>,
    accepted_state_codecs: &[String],
    now: Instant,
    options: &Options,
) -> Assessment {
    let facts = memory.facts(now);
    let decision = decide(&facts, options);
    let entries = facts.entries_since_snapshot();
    let folder = folder.filter(|_| memory.looked);
    let base = folder.and_then(|folder| {
        let applied_index = memory.replica.facts.applied_index;
        folder.compaction_base(&memory.lineage, applied_index, accepted_state_codecs)
    });
    let refused = base.is_some_and(|base| Some(base.id) == memory.refused_base);
    let base = base.map(Snapshot::last_included);
    let plan = plan_compaction(&facts.replica, base, options);
    let cut_due = matches!(plan, CompactionPlan::Cut { .. }) && !refused;
    let need = need(memory, decision, folder.is_some(), cut_due, now, options);
    Assessment {
        decision,
        due: decision.trigger().filter(|_| memory.looked),
        unprotected: memory.looked && facts.unprotected(),
        entries,
        need: need.map(|need| Need {
            priority: priority(memory, facts.unprotected(), entries, now, options),
            ..need
        }),
        debt: truncation_debt(&facts.replica, base, options)
            .map(|debt| log_debt(memory, debt, plan, refused, now)),
    }
}

fn log_debt(
    memory: &Memory,
    debt: Debt,
    plan: CompactionPlan,
    refused: bool,
    now: Instant,
) -> LogDebt {
    let facts = &memory.replica.facts;
    let reason = match (plan, debt.held_by) {
        (CompactionPlan::Keep(NoCut::Disabled), _) => DebtReason::Disabled,
        _ if memory.paused(now) => DebtReason::Paused,
        _ if refused => DebtReason::TermMismatch,
        // All of it may go now, or a part.
        (CompactionPlan::Cut { .. }, _) if memory.failures > 0 => DebtReason::Failing,
        (_, Some(_)) => DebtReason::Held,
        (_, None) => DebtReason::Due,
    };
    let log_bytes = memory.replica.log_size_bytes;
    let in_log = facts.last_log_index.saturating_add(1);
    let in_log = in_log.saturating_sub(facts.first_log_index).max(1);
    let bytes = u128::from(log_bytes) * u128::from(debt.entries) / u128::from(in_log);
    LogDebt {
        entries: debt.entries,
        bytes: u64::try_from(bytes).unwrap_or(log_bytes).min(log_bytes),
        reason,
    }
}

fn need(
    memory: &Memory,
    decision: Decision,
    looked: bool,
    cut_due: bool,
    now: Instant,
    options: &Options,
) -> Option<Need> {
    let visit = |heavy, may_delete| {
        Some(Need {
            heavy,
            may_delete,
            priority: 0,
        })
    };
    if memory.running || memory.paused(now) {
        return None;
    }
    if memory.manual {
        return visit(true, deletes(memory, options));
    }
    if memory.not_before.is_some_and(|at| now < at) {
        return None;
    }
    if !looked {
        // Due or not is not known yet.
        return visit(false, false);
    }
    if matches!(decision, Decision::Take(_)) {
        return visit(true, true);
    }
    if cut_due {
        return visit(false, deletes(memory, options));
    }
    let waits_for_leader = matches!(decision, Decision::Leave(_, NotMine::LeaderTakesIt { .. }));
    if waits_for_leader && now >= memory.next_look {
        return visit(false, false);
    }
    let sweep_due = now >= memory.next_sweep || memory.delete_due.is_some_and(|at| now >= at);
    if sweep_due {
        return visit(
            false,
            deletes(memory, options) || memory.delete_due.is_some(),
        );
    }
    None
}

/// Retention is the uploader's.
fn deletes(memory: &Memory, options: &Options) -> bool {
    options.uploader == Uploader::Any || memory.replica.facts.role == Role::Leader
}

/// Operators first, then uncovered logs, then the metadata, then the most overdue.
fn priority(
    memory: &Memory,
    unprotected: bool,
    entries: u64,
    now: Instant,
    options: &Options,
) -> u64 {
    if memory.manual {
        return u64::MAX;
    }
    if unprotected {
        return u64::MAX - 1;
    }
    if memory.replica.partition.is_metadata() {
        return u64::MAX - 2;
    }
    // In hundredths of the thresholds, whichever is further overdue.
    let by_entries = entries.saturating_mul(100) / options.log_threshold;
    let time_threshold_secs = options.time_threshold.as_secs().max(1);
    let by_age = memory.age(now).as_secs().saturating_mul(100) / time_threshold_secs;
    by_entries.max(if entries > 0 { by_age } else { 0 })
}
