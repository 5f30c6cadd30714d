//! Exponential back-off with jitter and a cap, as plain arithmetic.

use std::time::Duration;

/// How long to wait after the n-th failure in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Wait after the first failure, before jitter.
    pub base: Duration,
    /// Longest wait, before jitter.
    pub cap: Duration,
}

impl Backoff {
    /// Wait after `failures` failures in a row (0 = none: no wait). `jitter` in `0.0..1.0` spreads it over
    /// half to the whole of the exponential value.
    pub fn after(self, failures: u32, jitter: f64) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doublings = (failures - 1).min(20);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_secs(5),
        cap: Duration::from_secs(600),
    };

    #[test]
    fn the_first_failure_waits_and_success_does_not() {
        assert_eq!(BACKOFF.after(0, 0.5), Duration::ZERO);
        assert_eq!(BACKOFF.after(1, 1.0), Duration::from_secs(5));
        assert_eq!(BACKOFF.after(2, 1.0), Duration::from_secs(10));
    }

    proptest! {
        #[test]
        fn waits_stay_between_half_the_base_and_the_cap(failures in 1_u32.., jitter in 0.0..1.0_f64) {
            let wait = BACKOFF.after(failures, jitter);
            prop_assert!(wait >= BACKOFF.base / 2);
            prop_assert!(wait <= BACKOFF.cap);
        }
    }
}
