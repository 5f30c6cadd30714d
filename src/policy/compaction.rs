//! How far a replica's log may be cut.

use super::{Options, ReplicaFacts};
use crate::{
    mutation::{self, Mutation},
    raft::LogId,
};

/// What to ask the broker for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompactionPlan {
    /// Drop entries up to and including `through_index`, covered by the proven snapshot that ends at `base`.
    Cut {
        /// Where the covering snapshot ends.
        base: LogId,
        /// Highest index to drop (inclusive).
        through_index: u64,
    },
    /// Nothing to drop now.
    Keep(NoCut),
}

/// Why nothing is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCut {
    /// Switched off by configuration.
    Disabled,
    /// No proven snapshot at or below the applied index.
    NoBase,
    /// Everything that may go is gone.
    AlreadyCut,
    /// Something needs the log from this index on.
    Held {
        /// Lowest index that must stay.
        hold_index: u64,
    },
}

impl NoCut {
    /// Label for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NoBase => "no_base",
            Self::AlreadyCut => "already_cut",
            Self::Held { .. } => "held",
        }
    }
}

/// Plans the cut of one replica.
///
/// `base` must be the newest proven snapshot of the replica's lineage whose index is at most its applied index
/// and whose state encoding the broker accepts. The cut stays `trailing_entries` below it, for followers that
/// are a little behind (ADR 0004), and below whatever the broker holds.
pub fn plan_compaction(
    replica: &ReplicaFacts,
    base: Option<LogId>,
    options: &Options,
) -> CompactionPlan {
    if !options.compact {
        return CompactionPlan::Keep(NoCut::Disabled);
    }
    let Some(base) = base.filter(|base| {
        base.index <= replica.applied_index || mutation::active(Mutation::BaseAboveApplied)
    }) else {
        return CompactionPlan::Keep(NoCut::NoBase);
    };
    let wanted_through = base.index.saturating_sub(options.trailing_entries);
    if wanted_through < replica.first_log_index {
        return CompactionPlan::Keep(NoCut::AlreadyCut);
    }
    let held_through = match replica.hold_index {
        0 => wanted_through,
        hold_index => wanted_through.min(hold_index - 1),
    };
    if held_through < replica.first_log_index {
        return CompactionPlan::Keep(NoCut::Held {
            hold_index: replica.hold_index,
        });
    }
    CompactionPlan::Cut {
        base,
        through_index: held_through,
    }
}

/// Log that a proven snapshot covers and that is there all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debt {
    /// Entries that a cut without hindrance would drop; never 0.
    pub entries: u64,
    /// Why the plan leaves them, or some of them; none = they go with the next cut.
    pub held_by: Option<NoCut>,
}

/// What [`plan_compaction`] would drop but for its switch and the broker's hold. Trailing entries are no debt, and
/// without a base there is none: nothing covers the log.
pub fn truncation_debt(
    replica: &ReplicaFacts,
    base: Option<LogId>,
    options: &Options,
) -> Option<Debt> {
    let base = base.filter(|base| base.index <= replica.applied_index)?;
    let wanted_through = base.index.saturating_sub(options.trailing_entries);
    let entries = wanted_through
        .saturating_add(1)
        .saturating_sub(replica.first_log_index);
    let hold_index = replica.hold_index;
    let held_by = if !options.compact {
        Some(NoCut::Disabled)
    } else if hold_index != 0 && hold_index <= wanted_through {
        Some(NoCut::Held { hold_index })
    } else {
        None
    };
    (entries > 0).then_some(Debt { entries, held_by })
}

#[cfg(test)]
mod tests {
    use std::{
        num::{NonZeroU64, NonZeroUsize},
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Role, Uploader};

    fn options(trailing_entries: u64) -> Options {
        Options {
            log_threshold: NonZeroU64::new(10_000).unwrap(),
            time_threshold: Duration::from_secs(3600),
            min_interval: Duration::ZERO,
            uploader: Uploader::Leader,
            compact: true,
            trailing_entries,
            retention: true,
            retention_count: NonZeroUsize::new(3).unwrap(),
        }
    }

    fn replica(first_log_index: u64, applied_index: u64, hold_index: u64) -> ReplicaFacts {
        ReplicaFacts {
            role: Role::Follower,
            applied_index,
            first_log_index,
            last_log_index: applied_index,
            hold_index,
            rank: 0,
        }
    }

    #[test]
    fn the_cut_stays_trailing_entries_below_the_base() {
        let plan = plan_compaction(
            &replica(1, 20_000, 0),
            Some(LogId::new(2, 15_000)),
            &options(1000),
        );
        let expected = CompactionPlan::Cut {
            base: LogId::new(2, 15_000),
            through_index: 14_000,
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn a_snapshot_beyond_the_applied_index_is_no_base() {
        let plan = plan_compaction(
            &replica(1, 14_999, 0),
            Some(LogId::new(2, 15_000)),
            &options(0),
        );
        assert_eq!(plan, CompactionPlan::Keep(NoCut::NoBase));
    }

    #[test]
    fn a_hold_keeps_its_index_in_the_log() {
        let plan = plan_compaction(
            &replica(1, 20_000, 500),
            Some(LogId::new(2, 15_000)),
            &options(0),
        );
        assert!(matches!(
            plan,
            CompactionPlan::Cut {
                through_index: 499,
                ..
            }
        ));
        let plan = plan_compaction(
            &replica(500, 20_000, 500),
            Some(LogId::new(2, 15_000)),
            &options(0),
        );
        assert_eq!(plan, CompactionPlan::Keep(NoCut::Held { hold_index: 500 }));
    }

    proptest! {
        #[test]
        fn a_cut_is_covered_bounded_and_makes_progress(
            first in 1_u64..50_000, applied in 0_u64..100_000, base in 0_u64..100_000,
            trailing in 0_u64..20_000, hold in 0_u64..100_000,
        ) {
            let replica = replica(first, applied, hold);
            let plan = plan_compaction(&replica, Some(LogId::new(1, base)), &options(trailing));
            if let CompactionPlan::Cut { base, through_index } = plan {
                prop_assert!(through_index <= base.index);
                prop_assert!(through_index <= applied);
                prop_assert!(base.index - through_index >= trailing);
                prop_assert!(through_index >= first);
                prop_assert!(hold == 0 || through_index < hold);
            }
        }

        #[test]
        fn what_a_plan_leaves_of_the_debt_has_a_reason(
            first in 1_u64..50_000, applied in 0_u64..100_000, base in 0_u64..100_000,
            trailing in 0_u64..20_000, hold in 0_u64..100_000, compact in any::<bool>(),
        ) {
            let replica = replica(first, applied, hold);
            let options = Options { compact, ..options(trailing) };
            let base = Some(LogId::new(1, base));
            let debt = truncation_debt(&replica, base, &options);
            match (plan_compaction(&replica, base, &options), debt) {
                (CompactionPlan::Cut { through_index, .. }, Some(debt)) => {
                    let cut = through_index + 1 - first;
                    prop_assert!(debt.entries >= cut);
                    prop_assert_eq!(debt.held_by.is_some(), debt.entries > cut);
                }
                (CompactionPlan::Keep(reason), Some(debt)) => {
                    prop_assert_eq!(debt.held_by, Some(reason));
                }
                (CompactionPlan::Cut { .. }, None) => prop_assert!(false, "what is cut was a debt"),
                (CompactionPlan::Keep(reason), None) => {
                    let nothing = matches!(reason, NoCut::AlreadyCut | NoCut::NoBase | NoCut::Disabled);
                    prop_assert!(nothing);
                }
            }
        }

        #[test]
        fn without_a_base_nothing_is_cut(first in 1_u64..50_000, applied in 0_u64..100_000) {
            let plan = plan_compaction(&replica(first, applied, 0), None, &options(0));
            prop_assert_eq!(plan, CompactionPlan::Keep(NoCut::NoBase));
        }
    }
}
