//! A shared limit on bytes a second.

use std::{
    num::NonZeroU64,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// A limit that can be changed, or lifted, at any time. Clones share it.
///
/// Each taker's bytes occupy the line for `bytes / rate`; the next taker starts after that. A burst is at most one
/// block a taker.
#[derive(Debug, Clone, Default)]
pub struct RateLimit {
    line: Arc<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// 0 = no limit.
    bytes_per_sec: AtomicU64,
    taken_bytes: AtomicU64,
    free_at: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// A limit, or none.
    pub fn new(bytes_per_sec: Option<NonZeroU64>) -> Self {
        let limit = Self::default();
        limit.set(bytes_per_sec);
        limit
    }

    /// Changes the limit for whoever comes next.
    pub fn set(&self, bytes_per_sec: Option<NonZeroU64>) {
        let bytes_per_sec = bytes_per_sec.map_or(0, NonZeroU64::get);
        self.line
            .bytes_per_sec
            .store(bytes_per_sec, Ordering::Relaxed);
    }

    /// There is a limit now.
    pub fn is_limited(&self) -> bool {
        self.line.bytes_per_sec.load(Ordering::Relaxed) > 0
    }

    /// Bytes taken so far, limit or not.
    pub fn taken_bytes(&self) -> u64 {
        self.line.taken_bytes.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` may go.
    pub async fn take(&self, bytes: u64) {
        let line = &self.line;
        line.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(rate) = NonZeroU64::new(line.bytes_per_sec.load(Ordering::Relaxed)) {
            sleep_until(line.occupy(bytes, rate)).await;
        }
    }
}

impl Line {
    fn occupy(&self, bytes: u64, bytes_per_sec: NonZeroU64) -> Instant {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_sec.get());
        let busy = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free_at.map_or(now, |at| at.max(now));
        *free_at = Some(start + busy);
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_over_time_and_over_takers() {
        let limit = RateLimit::new(NonZeroU64::new(1_000_000));
        let start = Instant::now();
        for taker in [limit.clone(), limit.clone()] {
            for _ in 0..5 {
                taker.take(200_000).await;
            }
        }
        let elapsed = start.elapsed();
        // Ten times 0.2 s; the last one occupies the line but nobody waits for it.
        assert!(elapsed >= Duration::from_millis(1_790), "{elapsed:?}");
        assert!(elapsed <= Duration::from_millis(1_900), "{elapsed:?}");
        assert_eq!(limit.taken_bytes(), 2_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_never_waits() {
        let start = Instant::now();
        RateLimit::new(None).take(u64::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_can_be_changed_and_lifted() {
        let limit = RateLimit::new(NonZeroU64::new(1_000));
        limit.take(1_000).await;
        limit.set(NonZeroU64::new(10_000));
        let start = Instant::now();
        limit.take(1_000).await;
        limit.take(1_000).await;
        let elapsed = start.elapsed().as_millis();
        assert!((1_099..=1_110).contains(&elapsed), "{elapsed}");
        limit.set(None);
        let start = Instant::now();
        limit.take(1_000_000).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
