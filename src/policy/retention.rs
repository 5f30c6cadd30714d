//! Which snapshots of a partition stay. A pure function of what the folder holds; the deleter acts on it.

use std::collections::BTreeSet;

use crate::{
    mutation::{self, Mutation},
    raft::LogId,
};

/// A committed snapshot of the current lineage, as retention sees it. `K` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<K> {
    /// Its name.
    pub key: K,
    /// Where it ends.
    pub last_included: LogId,
    /// A proof exists and matches the manifest.
    pub proven: bool,
    /// Marked as not verifying.
    pub quarantined: bool,
    /// Marked by an operator: stays whatever the count says, and does not count.
    pub pinned: bool,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepReason {
    /// One of the newest N proven ones.
    Newest {
        /// 0 = the newest.
        rank: usize,
    },
    /// Not older than the last of the newest N proven ones: somebody may be proving it just now, and another sidecar,
    /// which sees the proof already, counts it.
    MayBeProven,
    /// Kept for inspection; never deleted by the daemon.
    Quarantined,
    /// An operator wants it kept.
    Pinned,
    /// No proven snapshot exists yet: nothing is deleted.
    NothingProven,
    /// One index with two terms: nothing is deleted until an operator has looked.
    Diverged,
}

impl KeepReason {
    /// Label for reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newest { .. } => "newest",
            Self::MayBeProven => "may_be_proven",
            Self::Quarantined => "quarantined",
            Self::Pinned => "pinned",
            Self::NothingProven => "nothing_proven",
            Self::Diverged => "diverged",
        }
    }
}

/// Why a snapshot goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EvictReason {
    /// Older than the newest N proven ones.
    BeyondCount,
    /// Another proven snapshot ends at the same index.
    Duplicate,
    /// Never proven, and as many newer proven ones exist as are kept.
    Superseded,
}

impl EvictReason {
    /// Label for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeyondCount => "beyond_count",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
        }
    }
}

/// Keep or evict, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Stays.
    Keep(KeepReason),
    /// Goes.
    Evict(EvictReason),
}

/// A verdict for every candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPlan<K> {
    /// In the order of the log, newest first.
    pub verdicts: Vec<(Candidate<K>, Verdict)>,
    /// One index with two terms was seen.
    pub diverged: bool,
}

impl<K> RetentionPlan<K> {
    /// What goes, oldest first, with the reason.
    pub fn evictions(&self) -> impl Iterator<Item = (&Candidate<K>, EvictReason)> {
        self.verdicts
            .iter()
            .rev()
            .filter_map(|(candidate, verdict)| match verdict {
                Verdict::Evict(reason) => Some((candidate, *reason)),
                Verdict::Keep(_) => None,
            })
    }

    /// What stays, newest first.
    pub fn kept(&self) -> impl Iterator<Item = &Candidate<K>> {
        self.verdicts
            .iter()
            .filter_map(|(candidate, verdict)| match verdict {
                Verdict::Keep(_) => Some(candidate),
                Verdict::Evict(_) => None,
            })
    }
}

/// Plans the retention of one lineage: the newest `count` proven snapshots stay, counted by distinct index, and the pinned
/// ones, which are not counted.
///
/// The greatest proven snapshot always stays: every truncated log is covered by it (the coverage lemma in
/// docs/SAFETY.md). `count` is at least 1 by its type.
///
/// Sidecars that plan at once may not see the same proofs. Whoever sees fewer keeps more: together they still leave
/// the newest `count`.
pub fn plan_retention<K: Clone + Ord>(
    candidates: &[Candidate<K>],
    count: std::num::NonZeroUsize,
) -> RetentionPlan<K> {
    let mut ordered = candidates.to_vec();
    ordered.sort_by(|a, b| {
        (b.last_included, b.proven, &b.key).cmp(&(a.last_included, a.proven, &a.key))
    });
    if mutation::active(Mutation::RetentionKeepsOldest) {
        ordered.reverse();
    }
    let diverged = ordered
        .windows(2)
        .any(|pair| pair[0].last_included.diverges_from(pair[1].last_included));
    let any_proven = ordered.iter().any(counts);
    let mut kept_indexes = BTreeSet::new();
    let verdicts = ordered
        .into_iter()
        .map(|candidate| {
            let verdict = judge(
                &candidate,
                any_proven,
                diverged,
                &mut kept_indexes,
                count.get(),
            );
            (candidate, verdict)
        })
        .collect();
    RetentionPlan { verdicts, diverged }
}

fn counts<K>(candidate: &Candidate<K>) -> bool {
    candidate.proven && !candidate.quarantined
}

fn judge<K>(
    candidate: &Candidate<K>,
    any_proven: bool,
    diverged: bool,
    kept_indexes: &mut BTreeSet<u64>,
    count: usize,
) -> Verdict {
    if candidate.quarantined {
        return Verdict::Keep(KeepReason::Quarantined);
    }
    if candidate.pinned {
        return Verdict::Keep(KeepReason::Pinned);
    }
    if diverged {
        return Verdict::Keep(KeepReason::Diverged);
    }
    if !any_proven {
        return Verdict::Keep(KeepReason::NothingProven);
    }
    let index = candidate.last_included.index;
    if !candidate.proven {
        return if kept_indexes.len() < count || kept_indexes.contains(&index) {
            Verdict::Keep(KeepReason::MayBeProven)
        } else {
            Verdict::Evict(EvictReason::Superseded)
        };
    }
    if kept_indexes.contains(&index) {
        return Verdict::Evict(EvictReason::Duplicate);
    }
    if kept_indexes.len() >= count {
        return Verdict::Evict(EvictReason::BeyondCount);
    }
    kept_indexes.insert(index);
    Verdict::Keep(KeepReason::Newest {
        rank: kept_indexes.len() - 1,
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use super::*;

    fn proven(key: u32, index: u64) -> Candidate<u32> {
        Candidate {
            key,
            last_included: LogId::new(1, index),
            proven: true,
            quarantined: false,
            pinned: false,
        }
    }

    fn count(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    fn evicted(plan: &RetentionPlan<u32>) -> Vec<u32> {
        plan.evictions()
            .map(|(candidate, _)| candidate.key)
            .collect()
    }

    #[test]
    fn of_five_snapshots_the_newest_three_stay() {
        let all: Vec<_> = (1..=5).map(|n| proven(n, u64::from(n) * 100)).collect();
        assert_eq!(evicted(&plan_retention(&all, count(3))), vec![1, 2]);
    }

    #[test]
    fn nine_thousand_nine_hundred_ninety_nine_is_older_than_ten_thousand() {
        let all = [proven(1, 9_999), proven(2, 10_000)];
        assert_eq!(evicted(&plan_retention(&all, count(1))), vec![1]);
    }

    #[test]
    fn duplicates_of_one_index_count_once() {
        let all = [
            proven(1, 100),
            proven(2, 200),
            proven(3, 200),
            proven(4, 200),
        ];
        let plan = plan_retention(&all, count(2));
        assert_eq!(evicted(&plan), vec![2, 3]);
    }

    #[test]
    fn quarantined_snapshots_neither_count_nor_go() {
        let mut bad = proven(3, 300);
        bad.quarantined = true;
        let all = [proven(1, 100), proven(2, 200), bad];
        assert_eq!(evicted(&plan_retention(&all, count(2))), Vec::<u32>::new());
    }

    #[test]
    fn pinned_snapshots_neither_count_nor_go() {
        let mut pinned = [proven(1, 100), proven(4, 400)];
        pinned[0].pinned = true;
        pinned[1].pinned = true;
        let [oldest, newest] = pinned;
        let all = [oldest, proven(2, 200), proven(3, 300), newest];
        let plan = plan_retention(&all, count(1));
        assert_eq!(evicted(&plan), vec![2]);
        let reasons: Vec<_> = plan.verdicts.iter().map(|(_, verdict)| *verdict).collect();
        assert_eq!(reasons[0], Verdict::Keep(KeepReason::Pinned));
        assert_eq!(reasons[1], Verdict::Keep(KeepReason::Newest { rank: 0 }));
    }

    #[test]
    fn an_unproven_snapshot_waits_while_it_is_the_newest_and_goes_when_superseded() {
        let mut fresh = proven(2, 200);
        fresh.proven = false;
        let plan = plan_retention(&[proven(1, 100), fresh.clone()], count(1));
        assert_eq!(evicted(&plan), Vec::<u32>::new());
        let plan = plan_retention(&[proven(1, 100), fresh, proven(3, 300)], count(1));
        assert_eq!(evicted(&plan), vec![1, 2]);
    }

    #[test]
    fn a_sidecar_that_has_not_seen_a_proof_yet_keeps_more_not_another_one() {
        let (oldest, newest) = (proven(1, 100), proven(3, 300));
        let mut unproven = proven(2, 200);
        unproven.proven = false;
        let early = evicted(&plan_retention(
            &[oldest.clone(), unproven, newest.clone()],
            count(2),
        ));
        let late = evicted(&plan_retention(&[oldest, proven(2, 200), newest], count(2)));
        assert_eq!((early, late), (vec![], vec![1]));
    }

    #[test]
    fn two_sidecars_never_evict_each_others_duplicate() {
        let (first, second) = (proven(1, 200), proven(2, 200));
        let mut unproven = second.clone();
        unproven.proven = false;
        // One plans before the second is proven, the other one after: they must not choose different ones to keep.
        let early = evicted(&plan_retention(&[first.clone(), unproven], count(1)));
        let late = evicted(&plan_retention(&[first, second], count(1)));
        assert_eq!((early, late), (vec![], vec![1]));
    }

    #[test]
    fn one_index_with_two_terms_stops_all_deletion() {
        let mut other = proven(9, 300);
        other.last_included.term = 2;
        let all = [proven(1, 100), proven(2, 200), proven(3, 300), other];
        let plan = plan_retention(&all, count(1));
        assert!(plan.diverged);
        assert_eq!(evicted(&plan), Vec::<u32>::new());
    }

    prop_compose! {
        fn any_candidate()(
            key in any::<u32>(), index in 1_u64..60, proven in any::<bool>(), quarantined in any::<bool>(),
            pinned in prop::bool::weighted(0.2),
        ) -> Candidate<u32> {
            Candidate { key, last_included: LogId::new(1, index), proven, quarantined, pinned }
        }
    }

    proptest! {
        #[test]
        fn the_greatest_proven_snapshot_always_stays(
            all in proptest::collection::vec(any_candidate(), 0..40), n in 1_usize..5,
        ) {
            let plan = plan_retention(&all, count(n));
            let greatest = all.iter().filter(|c| counts(c)).map(|c| c.last_included).max();
            let greatest_kept = plan.kept().filter(|c| counts(c)).map(|c| c.last_included).max();
            prop_assert_eq!(greatest, greatest_kept);
        }

        #[test]
        fn whoever_sees_fewer_proofs_evicts_nothing_that_another_keeps_as_proven(
            all in proptest::collection::vec(any_candidate(), 0..40), hidden in any::<u64>(), n in 1_usize..5,
        ) {
            let mut fewer = all.clone();
            for (nth, candidate) in fewer.iter_mut().enumerate() {
                candidate.proven &= hidden >> nth & 1 == 0;
            }
            let kept: BTreeSet<_> = plan_retention(&all, count(n))
                .kept().filter(|c| counts(c) && !c.pinned).map(|c| c.last_included.index).collect();
            for (gone, _) in plan_retention(&fewer, count(n)).evictions() {
                let duplicate = fewer.iter().any(|c| {
                    c.last_included.index == gone.last_included.index && counts(c) && c.key > gone.key
                });
                prop_assert!(duplicate || !kept.contains(&gone.last_included.index));
            }
        }

        #[test]
        fn as_many_distinct_indexes_stay_as_asked_for(
            all in proptest::collection::vec(any_candidate(), 0..40), n in 1_usize..5,
        ) {
            let plan = plan_retention(&all, count(n));
            let distinct: BTreeSet<_> =
                all.iter().filter(|c| counts(c) && !c.pinned).map(|c| c.last_included.index).collect();
            let kept: Vec<_> =
                plan.kept().filter(|c| counts(c) && !c.pinned).map(|c| c.last_included.index).collect();
            prop_assert_eq!(kept.len(), distinct.len().min(n));
        }

        #[test]
        fn a_pinned_snapshot_stays_and_changes_nothing_for_the_others(
            all in proptest::collection::vec(any_candidate(), 0..40), n in 1_usize..5,
        ) {
            let plan = plan_retention(&all, count(n));
            prop_assert!(plan.evictions().all(|(candidate, _)| !candidate.pinned));
            let others: Vec<_> = all.iter().filter(|c| !c.pinned).cloned().collect();
            prop_assert_eq!(evicted(&plan), evicted(&plan_retention(&others, count(n))));
        }

        #[test]
        fn planning_again_after_evicting_evicts_nothing(
            all in proptest::collection::vec(any_candidate(), 0..40), n in 1_usize..5,
        ) {
            let kept: Vec<_> = plan_retention(&all, count(n)).kept().cloned().collect();
            prop_assert_eq!(plan_retention(&kept, count(n)).evictions().count(), 0);
        }
    }
}
