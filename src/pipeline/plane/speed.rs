//! How fast snapshots were read lately.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Below this a run tells of latency, not of speed.
const LARGE_BYTES: u64 = 16 << 20;
/// Of so many bytes the last ones are remembered, roughly.
const MEMORY_BYTES: f64 = 256.0 * 1024.0 * 1024.0;

/// Raw bytes a second over the last runs. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Speed {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    large: Sums,
    small: Sums,
}

#[derive(Debug, Default)]
struct Sums {
    bytes: f64,
    seconds: f64,
}

impl Speed {
    /// A run moved `raw_bytes` in `elapsed`.
    pub(super) fn note(&self, raw_bytes: u64, elapsed: Duration) {
        let mut known = self.known();
        if raw_bytes < LARGE_BYTES {
            known.small.add(raw_bytes, elapsed);
        } else {
            known.large.add(raw_bytes, elapsed);
        }
    }

    /// Time for `raw_bytes` at the speed of large runs; none before there was one.
    pub(super) fn time_by_large(&self, raw_bytes: u64) -> Option<Duration> {
        self.known().large.time_for(raw_bytes)
    }

    /// The same at the speed of small runs, for want of large ones.
    pub(super) fn time_by_small(&self, raw_bytes: u64) -> Option<Duration> {
        self.known().small.time_for(raw_bytes)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more than 52 bits"
)]
impl Sums {
    fn add(&mut self, raw_bytes: u64, elapsed: Duration) {
        let bytes = raw_bytes as f64;
        let kept = MEMORY_BYTES / (MEMORY_BYTES + bytes);
        self.bytes = self.bytes * kept + bytes;
        self.seconds = self.seconds * kept + elapsed.as_secs_f64();
    }

    fn time_for(&self, raw_bytes: u64) -> Option<Duration> {
        // 0 / 0 before the first run is no duration.
        Duration::try_from_secs_f64(raw_bytes as f64 * self.seconds / self.bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn nothing_is_predicted_before_something_was_measured() {
        let speed = Speed::default();
        assert_eq!(speed.time_by_large(1000), None);
        speed.note(0, secs(1));
        assert_eq!(
            (speed.time_by_large(1), speed.time_by_small(1)),
            (None, None)
        );
    }

    #[test]
    fn small_runs_say_nothing_of_large_ones() {
        let speed = Speed::default();
        speed.note(100 * MIB, secs(10));
        for _ in 0..1000 {
            speed.note(1000, secs(1));
        }
        assert_eq!(speed.time_by_large(1000 * MIB), Some(secs(100)));
        assert_eq!(speed.time_by_small(1000), Some(secs(1)));
    }

    #[test]
    fn late_runs_count_more() {
        let speed = Speed::default();
        speed.note(100 * MIB, secs(100));
        for _ in 0..20 {
            speed.note(100 * MIB, secs(10));
        }
        let time = speed.time_by_large(100 * MIB).unwrap();
        assert!(time < secs(11), "{time:?}");
    }
}
