//! Is a snapshot of this partition due, and is it this sidecar's to take?

use std::{fmt, time::Duration};

use super::{Options, Uploader};
use crate::raft::LogId;

/// Role of a replica in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Leads the current term.
    Leader,
    /// Votes, does not lead.
    Follower,
    /// Receives the log, does not vote.
    Learner,
    /// The broker did not say.
    Unknown,
}

impl Role {
    /// Label for status and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Learner => "learner",
            Self::Unknown => "unknown",
        }
    }
}

/// What the broker says about the local replica. Indexes are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaFacts {
    /// Role now.
    pub role: Role,
    /// Highest applied index.
    pub applied_index: u64,
    /// Lowest index in the log.
    pub first_log_index: u64,
    /// Highest index in the log.
    pub last_log_index: u64,
    /// Lowest index that must stay in the log, 0 = nothing holds it.
    pub hold_index: u64,
    /// Position among the voters, 0-based.
    pub rank: u32,
}

/// Everything a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The local replica.
    pub replica: ReplicaFacts,
    /// It is the cluster's metadata: small, and nothing can be restored that it does not know.
    pub metadata: bool,
    /// Newest proven, not quarantined snapshot of this lineage, as far as known.
    pub newest_proven: Option<LogId>,
    /// Monotonic age of that snapshot (or, with none, time since the partition was first seen).
    pub age: Duration,
    /// How long the partition has been due without a new proof, on this process's monotonic clock.
    pub due_for: Duration,
    /// Time since this process last started a snapshot of the partition.
    pub since_last_start: Option<Duration>,
}

impl Facts {
    /// Entries applied since the newest proven snapshot; with none, since the start of the log.
    pub fn entries_since_snapshot(&self) -> u64 {
        let base = self
            .newest_proven
            .map_or(self.replica.first_log_index.saturating_sub(1), |id| {
                id.index
            });
        self.replica.applied_index.saturating_sub(base)
    }

    /// True when log entries are gone and nothing proven covers them (the coverage lemma in docs/SAFETY.md).
    pub fn unprotected(&self) -> bool {
        let truncated_through = self.replica.first_log_index.saturating_sub(1);
        let covered_through = self.newest_proven.map_or(0, |id| id.index);
        truncated_through > covered_through
    }
}

/// Why a snapshot is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Log entries are gone and no proven snapshot covers them.
    Unprotected,
    /// Something was applied to the cluster's metadata.
    Metadata,
    /// The log grew by the threshold.
    LogThreshold,
    /// Time passed and something was applied.
    TimeThreshold,
    /// An operator asked.
    Manual,
}

impl Trigger {
    /// Label for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unprotected => "unprotected",
            Self::Metadata => "metadata",
            Self::LogThreshold => "log_threshold",
            Self::TimeThreshold => "time_threshold",
            Self::Manual => "manual",
        }
    }
}

/// Why no snapshot is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDue {
    /// Nothing was applied since the newest proven snapshot.
    Idle,
    /// Neither threshold is reached.
    BelowThresholds {
        /// Entries since the newest proven snapshot.
        entries: u64,
        /// Its age.
        age: Duration,
    },
}

/// Why a due snapshot is left to another sidecar, or to a later tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotMine {
    /// The leader's sidecar takes it; this one steps in after the delay.
    LeaderTakesIt {
        /// Time until this sidecar steps in.
        takes_over_in: Duration,
    },
    /// The last one was started too recently.
    TooSoon {
        /// Time until the next may start.
        wait: Duration,
    },
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Take a snapshot now.
    Take(Trigger),
    /// Due, but not here or not yet.
    Leave(Trigger, NotMine),
    /// Not due.
    NotDue(NotDue),
}

impl Decision {
    /// The trigger, when due.
    pub const fn trigger(self) -> Option<Trigger> {
        match self {
            Self::Take(trigger) | Self::Leave(trigger, _) => Some(trigger),
            Self::NotDue(_) => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Take(trigger) => write!(f, "due ({}): taking a snapshot", trigger.as_str()),
            Self::Leave(trigger, NotMine::LeaderTakesIt { takes_over_in }) => write!(
                f,
                "due ({}): left to the leader's sidecar, taken over in {} s",
                trigger.as_str(),
                takes_over_in.as_secs()
            ),
            Self::Leave(trigger, NotMine::TooSoon { wait }) => write!(
                f,
                "due ({}): the last one was started too recently, next in {} s",
                trigger.as_str(),
                wait.as_secs()
            ),
            Self::NotDue(NotDue::Idle) => {
                write!(
                    f,
                    "not due: nothing was applied since the newest proven snapshot"
                )
            }
            Self::NotDue(NotDue::BelowThresholds { entries, age }) => write!(
                f,
                "not due: {entries} entries and {} s since the newest proven snapshot",
                age.as_secs()
            ),
        }
    }
}

/// Decides for one partition.
///
/// Entries are counted from the newest PROVEN snapshot, so neither a restart nor trailing entries that stay in
/// the log make a partition due again (invariant 24). Metadata are due with every entry, [`Options::min_interval`] apart.
pub fn decide(facts: &Facts, options: &Options) -> Decision {
    let entries = facts.entries_since_snapshot();
    let trigger = if facts.unprotected() {
        Trigger::Unprotected
    } else if entries >= 1 && facts.metadata {
        Trigger::Metadata
    } else if entries >= options.log_threshold.get() {
        Trigger::LogThreshold
    } else if entries >= 1 && facts.age >= options.time_threshold {
        Trigger::TimeThreshold
    } else if entries == 0 {
        return Decision::NotDue(NotDue::Idle);
    } else {
        return Decision::NotDue(NotDue::BelowThresholds {
            entries,
            age: facts.age,
        });
    };
    if options.uploader == Uploader::Leader && facts.replica.role != Role::Leader {
        let delay = take_over_delay(facts.replica.rank, options);
        if facts.due_for < delay {
            let takes_over_in = delay.saturating_sub(facts.due_for);
            return Decision::Leave(trigger, NotMine::LeaderTakesIt { takes_over_in });
        }
    }
    match facts.since_last_start {
        Some(elapsed) if elapsed < options.min_interval => {
            let wait = options.min_interval.saturating_sub(elapsed);
            Decision::Leave(trigger, NotMine::TooSoon { wait })
        }
        _ => Decision::Take(trigger),
    }
}

/// How long a non-leader waits for the leader's sidecar: twice the time threshold, spread by rank so that the
/// followers do not all step in at once.
fn take_over_delay(rank: u32, options: &Options) -> Duration {
    let spread = (options.time_threshold / 4).max(Duration::from_secs(1));
    (options.time_threshold * 2).saturating_add(spread.saturating_mul(rank.min(16)))
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroUsize};

    use proptest::prelude::*;

    use super::*;

    fn options() -> Options {
        Options {
            log_threshold: NonZeroU64::new(10_000).unwrap(),
            time_threshold: Duration::from_secs(3600),
            min_interval: Duration::from_secs(60),
            uploader: Uploader::Leader,
            compact: true,
            trailing_entries: 1000,
            retention: true,
            retention_count: NonZeroUsize::new(3).unwrap(),
        }
    }

    fn leader(applied_index: u64, first_log_index: u64) -> Facts {
        Facts {
            metadata: false,
            replica: ReplicaFacts {
                role: Role::Leader,
                applied_index,
                first_log_index,
                last_log_index: applied_index,
                hold_index: 0,
                rank: 0,
            },
            newest_proven: None,
            age: Duration::ZERO,
            due_for: Duration::ZERO,
            since_last_start: None,
        }
    }

    #[test]
    fn metadata_are_due_with_every_entry_but_not_more_often_than_the_interval() {
        let mut facts = leader(12, 1);
        facts.newest_proven = Some(LogId::new(1, 11));
        assert_eq!(decide(&facts, &options()).trigger(), None);
        facts.metadata = true;
        assert_eq!(
            decide(&facts, &options()),
            Decision::Take(Trigger::Metadata)
        );
        facts.since_last_start = Some(Duration::from_secs(50));
        let wait = Duration::from_secs(10);
        let too_soon = Decision::Leave(Trigger::Metadata, NotMine::TooSoon { wait });
        assert_eq!(decide(&facts, &options()), too_soon);
        facts.newest_proven = Some(LogId::new(1, 12));
        assert_eq!(decide(&facts, &options()), Decision::NotDue(NotDue::Idle));
    }

    #[test]
    fn the_ten_thousandth_entry_makes_a_partition_due() {
        let not_yet = decide(&leader(9_999, 1), &options());
        assert_eq!(not_yet.trigger(), None);
        let due = decide(&leader(10_000, 1), &options());
        assert_eq!(due, Decision::Take(Trigger::LogThreshold));
    }

    #[test]
    fn trailing_entries_beyond_the_threshold_are_no_storm() {
        let mut facts = leader(50_000, 1);
        facts.newest_proven = Some(LogId::new(3, 50_000));
        assert_eq!(decide(&facts, &options()), Decision::NotDue(NotDue::Idle));
    }

    #[test]
    fn an_idle_partition_is_never_snapshotted_again() {
        let mut facts = leader(10, 1);
        facts.newest_proven = Some(LogId::new(1, 10));
        facts.age = Duration::from_secs(1_000_000);
        assert_eq!(decide(&facts, &options()), Decision::NotDue(NotDue::Idle));
    }

    #[test]
    fn one_entry_is_enough_once_the_time_has_passed() {
        let mut facts = leader(11, 1);
        facts.newest_proven = Some(LogId::new(1, 10));
        facts.age = Duration::from_secs(3600);
        assert_eq!(
            decide(&facts, &options()),
            Decision::Take(Trigger::TimeThreshold)
        );
    }

    #[test]
    fn a_truncated_log_without_a_proven_snapshot_is_due_at_once() {
        let facts = leader(501, 500);
        assert_eq!(
            decide(&facts, &options()),
            Decision::Take(Trigger::Unprotected)
        );
    }

    #[test]
    fn a_log_cut_beyond_the_newest_proven_snapshot_is_due_at_once() {
        let mut facts = leader(501, 500);
        facts.newest_proven = Some(LogId::new(1, 498));
        assert_eq!(
            decide(&facts, &options()),
            Decision::Take(Trigger::Unprotected)
        );
        facts.newest_proven = Some(LogId::new(1, 499));
        assert_eq!(decide(&facts, &options()).trigger(), None);
    }

    #[test]
    fn a_follower_leaves_it_to_the_leader_and_takes_over_when_twofold_overdue() {
        let mut facts = leader(10_000, 1);
        facts.replica.role = Role::Follower;
        facts.replica.rank = 1;
        assert!(matches!(
            decide(&facts, &options()),
            Decision::Leave(Trigger::LogThreshold, NotMine::LeaderTakesIt { .. })
        ));
        facts.due_for = Duration::from_secs(2 * 3600 + 900);
        assert_eq!(
            decide(&facts, &options()),
            Decision::Take(Trigger::LogThreshold)
        );
    }

    #[test]
    fn two_snapshots_of_one_partition_keep_the_minimum_interval() {
        let mut facts = leader(10_000, 1);
        facts.since_last_start = Some(Duration::from_secs(59));
        assert!(matches!(
            decide(&facts, &options()),
            Decision::Leave(_, NotMine::TooSoon { .. })
        ));
        facts.since_last_start = Some(Duration::from_secs(60));
        assert_eq!(
            decide(&facts, &options()),
            Decision::Take(Trigger::LogThreshold)
        );
    }

    proptest! {
        #[test]
        fn nothing_applied_is_never_due_while_protected(
            applied in 0_u64..1_000_000, age in 0_u64..10_000_000, term in 1_u64..9, ahead in 0_u64..1000,
        ) {
            let mut facts = leader(applied, 1);
            facts.newest_proven = Some(LogId::new(term, applied + ahead));
            facts.age = Duration::from_secs(age);
            prop_assert_eq!(decide(&facts, &options()).trigger(), None);
        }

        #[test]
        fn growth_never_makes_a_due_partition_less_due(
            applied in 1_u64..1_000_000, base in 0_u64..1_000_000, more in 0_u64..1_000_000,
        ) {
            let mut facts = leader(applied, 1);
            facts.newest_proven = Some(LogId::new(1, base));
            let before = decide(&facts, &options()).trigger().is_some();
            facts.replica.applied_index += more;
            let after = decide(&facts, &options()).trigger().is_some();
            prop_assert!(!before || after);
        }
    }
}
