//! Dropping a prefix of a log: every precondition is checked here again, whatever the caller believes (invariants 8 to 10).

use raft::{ProgressState, Storage as _};
use tracing::error;

use super::{
    group::Group,
    input::{CompactRefusal, CompactRequest, Compacted},
};

/// Ticks for which a learner that has not answered yet holds the whole log.
const NEW_LEARNER_TICKS: u64 = 300;

/// Ticks for which a new leader holds the log for peers that have not answered yet.
pub const UNKNOWN_PEER_TICKS: u64 = 300;

/// Lowest index that must stay (inclusive, 0 = none) and why.
///
/// A peer holds what it has not got, up to `hold_entries`; one that lags more is healed with a snapshot. What a peer has
/// that a new leader has not heard of yet is unknown: for some time it holds as much as a peer that lags may. A
/// snapshot on its way holds what follows it.
pub fn hold(group: &Group, tick: u64, hold_entries: u64) -> (u64, String) {
    let mut lowest = (0, String::new());
    if !group.is_leader() {
        return lowest;
    }
    let mut consider = |index: u64, reason: &dyn Fn() -> String| {
        if lowest.0 == 0 || index < lowest.0 {
            lowest = (index, reason());
        }
    };
    let last = group.node.raft.raft_log.last_index();
    let truncated = group.node.store().truncated().index;
    for (peer, progress) in group.node.raft.prs().iter() {
        if *peer == group.replica.peer_id || progress.state == ProgressState::Snapshot {
            continue;
        }
        if progress.matched == 0 {
            let since = group.learner_since.get(peer);
            if since.is_some_and(|since| tick - since < NEW_LEARNER_TICKS) {
                consider(truncated + 1, &|| format!("learner {peer} is new"));
            }
            let led = group.led_since.map_or(0, |since| tick - since);
            if led < UNKNOWN_PEER_TICKS {
                let lowest = (last + 1).saturating_sub(hold_entries);
                consider(lowest.max(truncated + 1), &|| {
                    format!("peer {peer} has not answered yet")
                });
            }
            continue;
        }
        let lag = last - progress.matched.min(last);
        if lag > 0 && lag <= hold_entries && progress.matched >= truncated {
            consider(progress.matched + 1, &|| {
                format!("peer {peer} lags by {lag}")
            });
        }
    }
    for (peer, index) in &group.sending {
        consider(index + 1, &|| {
            format!("a snapshot is being sent to peer {peer}")
        });
    }
    lowest
}

/// Checks and compacts.
pub fn compact(
    group: &mut Group,
    request: &CompactRequest,
    hold: (u64, String),
) -> Result<Compacted, CompactRefusal> {
    let snapshot = request.snapshot;
    let through = request.through_index.min(snapshot.index);
    if snapshot.index > group.applied.index {
        return Err(CompactRefusal::NotApplied(group.applied.index));
    }
    let store = group.node.mut_store();
    let truncated = store.truncated().index;
    if snapshot.index >= truncated {
        let own_term = store.term(snapshot.index).map_err(|cause| {
            error!(error = %cause, index = snapshot.index, "term not readable");
            CompactRefusal::Storage
        })?;
        if own_term != snapshot.term {
            return Err(CompactRefusal::TermMismatch(own_term));
        }
    }
    if through <= truncated {
        return Ok(Compacted {
            first_log_index: truncated + 1,
            freed_bytes: 0,
        });
    }
    if through > group.persisted.applied.index {
        return Err(CompactRefusal::NotPersisted(group.persisted.applied.index));
    }
    if hold.0 != 0 && through >= hold.0 {
        return Err(CompactRefusal::Held(hold.0, hold.1));
    }
    let freed_bytes = store.compact_through(through).map_err(|cause| {
        error!(error = %cause, through, "compaction failed");
        CompactRefusal::Storage
    })?;
    Ok(Compacted {
        first_log_index: through + 1,
        freed_bytes,
    })
}
