//! Which partition is drilled next.

use std::time::Duration;

/// A partition that could be drilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrillCandidate<K> {
    /// Which.
    pub key: K,
    /// Time since its last drill ended, or, before there was one, since it was first seen.
    pub idle: Duration,
    /// Its last drill did not end well: time until it may be tried again, out of turn. None = it waits for its turn.
    pub retry_in: Option<Duration>,
}

/// The candidate to drill now. What is to be tried again goes first; then, if it is time for a turn, whoever was not
/// drilled for the longest time, and never one that is still backing off. `pick` in `0.0..1.0` decides between equals: after
/// a start all are, and a process that restarts often must not drill the same one again and again.
pub fn choose_drill<K>(
    candidates: &[DrillCandidate<K>],
    turn_is_due: bool,
    pick: f64,
) -> Option<&K> {
    let may_retry = |it: &&DrillCandidate<K>| it.retry_in == Some(Duration::ZERO);
    let in_turn = |it: &&DrillCandidate<K>| turn_is_due && it.retry_in.is_none();
    let longest_idle = |fits: &dyn Fn(&&DrillCandidate<K>) -> bool| {
        let idle = candidates.iter().filter(fits).map(|it| it.idle).max()?;
        let equals = || candidates.iter().filter(fits).filter(|it| it.idle == idle);
        equals().nth(position(pick, equals().count()))
    };
    let chosen = longest_idle(&may_retry).or_else(|| longest_idle(&in_turn));
    chosen.map(|it| &it.key)
}

/// One of `count` positions.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a draw among partitions, cut to its limits"
)]
fn position(pick: f64, count: usize) -> usize {
    let position = (pick.clamp(0.0, 1.0) * count as f64) as usize;
    position.min(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const fn waits(key: u32, idle: u64) -> DrillCandidate<u32> {
        DrillCandidate {
            key,
            idle: secs(idle),
            retry_in: None,
        }
    }

    const fn fails(key: u32, idle: u64, retry_in: u64) -> DrillCandidate<u32> {
        DrillCandidate {
            key,
            idle: secs(idle),
            retry_in: Some(secs(retry_in)),
        }
    }

    #[test]
    fn least_recently_drilled_first_and_a_new_one_waits_behind_those_that_waited() {
        let candidates = [waits(1, 50), waits(2, 70), waits(3, 0)];
        assert_eq!(choose_drill(&candidates, true, 0.0), Some(&2));
        assert_eq!(choose_drill(&candidates, false, 0.0), None);
        assert_eq!(choose_drill::<u32>(&[], true, 0.5), None);
    }

    #[test]
    fn a_retry_goes_first_when_it_is_time_and_is_no_turn_before() {
        let candidates = [waits(1, 50), fails(2, 70, 10), fails(3, 20, 0)];
        for turn_is_due in [false, true] {
            assert_eq!(choose_drill(&candidates, turn_is_due, 0.0), Some(&3));
        }
        assert_eq!(choose_drill(&candidates[..2], true, 0.0), Some(&1));
        assert_eq!(choose_drill(&candidates[1..2], true, 0.0), None);
    }

    #[test]
    fn equals_are_drawn() {
        let candidates = [waits(1, 5), waits(2, 5), waits(3, 5)];
        let drawn = [0.0, 0.34, 0.99, 1.0, f64::NAN].map(|pick| {
            let chosen = choose_drill(&candidates, true, pick);
            *chosen.unwrap()
        });
        assert_eq!(drawn, [1, 2, 3, 3, 1]);
    }

    proptest! {
        /// Whatever comes and goes: nobody who stays waits longer than for as many turns as there were others to drill.
        #[test]
        fn everybody_gets_a_turn(
            arrivals in prop::collection::vec((0_u64..60, 0_u64..60), 1..20),
            picks in prop::collection::vec(0.0..1.0_f64, 60),
        ) {
            // (first seen, how long it stays), one turn a second.
            let mut drilled: BTreeMap<u32, u64> = BTreeMap::new();
            for (now, pick) in (0_u64..).zip(&picks) {
                let here = (0_u32..).zip(&arrivals).filter(|(_, (seen, stays))| *seen <= now && now < seen + stays);
                let candidates: Vec<_> = here
                    .map(|(key, (seen, _))| {
                        let since = drilled.get(&key).copied().unwrap_or(*seen);
                        waits(key, now - since)
                    })
                    .collect();
                let chosen = choose_drill(&candidates, true, *pick).copied();
                prop_assert_eq!(chosen.is_none(), candidates.is_empty());
                let longest = candidates.iter().map(|it| it.idle).max().unwrap_or_default();
                prop_assert!(longest <= secs(arrivals.len() as u64));
                if let Some(chosen) = chosen {
                    drilled.insert(chosen, now);
                }
            }
        }
    }
}
