//! How fast exports may read, by what the broker's producers notice.

use std::{num::NonZeroU64, time::Duration};

/// Exports together are never slower than this: the broker ends one that makes no progress, and its pinned view costs
/// disk.
pub const FLOOR_BYTES_PER_SEC: u64 = 4 << 20;
/// Added at each look at which producers are well.
const STEP_BYTES_PER_SEC: u64 = 4 << 20;
/// Producers notice when they wait a quarter longer than before, and a millisecond.
const TOLERANCE: Duration = Duration::from_millis(1);
/// Part of the speed that is left when they do, in tenths.
const LEFT_TENTHS: u64 = 7;
/// Looks after a cut at which nothing is cut again: the broker's figure still holds what was before it.
const LOOKS_TO_SEE: u32 = 3;
/// Looks at the floor after which the waiting is not the exports' doing.
const LOOKS_AT_FLOOR: u32 = 15;

/// Slower at once by a part when producers wait longer than in quiet times, faster again step by step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    baseline: Option<Duration>,
    limit: Option<NonZeroU64>,
    /// Looks since the last cut, while nothing may be cut.
    wait_looks: u32,
    /// Looks in a row at the floor at which producers noticed all the same.
    floor_looks: u32,
}

impl Pace {
    /// Takes over how long producers wait in a quiet time.
    pub fn quiet(&mut self, produce_p99: Duration) {
        self.baseline = Some(match self.baseline {
            // A better moment shows what is possible; a worse one may be an odd one.
            Some(baseline) if produce_p99 < baseline => (baseline + produce_p99) / 2,
            Some(baseline) => (baseline * 4 + produce_p99) / 5,
            None => produce_p99,
        });
    }

    /// The limit for exports that read `exported_bytes_per_sec` now, in bytes a second; none = no limit. Before anything
    /// is known of quiet times there is none.
    pub fn exporting(
        &mut self,
        produce_p99: Option<Duration>,
        exported_bytes_per_sec: u64,
    ) -> Option<NonZeroU64> {
        let (Some(baseline), Some(now)) = (self.baseline, produce_p99) else {
            // Nobody produces, nobody is acknowledged, or nobody knows how it was before: no reason to change anything.
            return self.limit;
        };
        let noticed = now > baseline + baseline / 4 + TOLERANCE;
        self.wait_looks = self.wait_looks.saturating_sub(1);
        if !noticed {
            self.floor_looks = 0;
            self.limit = self.faster(exported_bytes_per_sec);
        } else if self
            .limit
            .is_some_and(|limit| limit.get() <= FLOOR_BYTES_PER_SEC)
        {
            self.floor_looks += 1;
            if self.floor_looks >= LOOKS_AT_FLOOR {
                // What does not get better by reading slowly comes from somewhere else: that is how it is now.
                self.floor_looks = 0;
                self.baseline = Some(now);
            }
        } else if self.wait_looks == 0 {
            self.wait_looks = LOOKS_TO_SEE;
            self.limit = self.slower(exported_bytes_per_sec);
        }
        self.limit
    }

    fn slower(&self, exported_bytes_per_sec: u64) -> Option<NonZeroU64> {
        let exported = exported_bytes_per_sec.max(FLOOR_BYTES_PER_SEC);
        let speed = self
            .limit
            .map_or(exported, |limit| limit.get().min(exported));
        NonZeroU64::new((speed / 10 * LEFT_TENTHS).max(FLOOR_BYTES_PER_SEC))
    }

    fn faster(&self, exported_bytes_per_sec: u64) -> Option<NonZeroU64> {
        let limit = self.limit?.saturating_add(STEP_BYTES_PER_SEC);
        let exported = exported_bytes_per_sec.max(FLOOR_BYTES_PER_SEC);
        // One of twice what is read does not limit.
        (limit.get() <= exported.saturating_mul(2)).then_some(limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn mib_per_sec(limit: Option<NonZeroU64>) -> Option<u64> {
        limit.map(|limit| limit.get() / MIB)
    }

    fn knowing(produce_p99: Duration) -> Pace {
        let mut pace = Pace::default();
        pace.quiet(produce_p99);
        pace
    }

    #[test]
    fn producers_that_notice_nothing_slow_nothing() {
        let mut pace = Pace::default();
        assert_eq!(pace.exporting(Some(millis(500)), 100 * MIB), None);
        pace.quiet(millis(8));
        assert_eq!(pace.exporting(Some(millis(11)), 100 * MIB), None);
        assert_eq!(pace.exporting(None, 100 * MIB), None);
    }

    #[test]
    fn it_slows_by_a_part_looks_what_that_does_and_recovers_step_by_step() {
        let (mut pace, noticed, well) = (knowing(millis(8)), Some(millis(12)), Some(millis(8)));
        assert_eq!(mib_per_sec(pace.exporting(noticed, 100 * MIB)), Some(70));
        assert_eq!(mib_per_sec(pace.exporting(noticed, 70 * MIB)), Some(70));
        assert_eq!(mib_per_sec(pace.exporting(noticed, 70 * MIB)), Some(70));
        assert_eq!(mib_per_sec(pace.exporting(noticed, 70 * MIB)), Some(49));
        assert_eq!(mib_per_sec(pace.exporting(well, 49 * MIB)), Some(53));
        // What nobody knows changes nothing.
        assert_eq!(mib_per_sec(pace.exporting(None, 53 * MIB)), Some(53));
        // The limit is learned: the next export begins with it.
        pace.quiet(millis(8));
        assert_eq!(mib_per_sec(pace.exporting(well, 53 * MIB)), Some(57));
        for _ in 0..20 {
            pace.exporting(well, 60 * MIB);
        }
        assert_eq!(pace.exporting(well, 60 * MIB), None);
    }

    #[test]
    fn what_slowness_does_not_mend_is_the_new_normal() {
        let (mut pace, busy) = (knowing(millis(8)), Some(millis(40)));
        let mut looks = 0;
        // As fast as it may.
        let mut exported = 100 * MIB;
        while pace.baseline != Some(millis(40)) {
            let limit = pace.exporting(busy, exported);
            exported = limit.map_or(exported, NonZeroU64::get);
            looks += 1;
            assert!(looks < 100, "a busy morning keeps exports at the floor");
        }
        assert!(looks > LOOKS_AT_FLOOR, "given up too soon");
        assert_eq!(exported, FLOOR_BYTES_PER_SEC);
        pace.exporting(busy, exported);
        assert_eq!(mib_per_sec(pace.exporting(busy, 8 * MIB)), Some(12));
    }

    #[test]
    fn a_better_quiet_time_counts_more_than_a_worse_one() {
        let mut pace = knowing(millis(100));
        pace.quiet(millis(10));
        assert_eq!(pace.baseline, Some(millis(55)));
        pace.quiet(millis(105));
        assert_eq!(pace.baseline, Some(millis(65)));
    }

    proptest! {
        #[test]
        fn no_limit_is_below_the_floor_and_none_lasts_when_producers_are_well(
            looks in prop::collection::vec((0_u64..100, 0_u64..500 * MIB, any::<bool>()), 1..100),
        ) {
            let mut pace = Pace::default();
            for (wait, exported, quiet) in looks {
                if quiet {
                    pace.quiet(millis(wait));
                } else if let Some(limit) = pace.exporting(Some(millis(wait)), exported) {
                    prop_assert!(limit.get() >= FLOOR_BYTES_PER_SEC);
                }
            }
            pace.quiet(Duration::ZERO);
            let lifted = (0..200).any(|_| pace.exporting(Some(Duration::ZERO), 100 * MIB).is_none());
            prop_assert!(lifted);
        }
    }
}
