//! What all snapshots and restores of this process share: memory, threads, bandwidth.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::format::SNAP_FILE_MAX_BYTES;

/// Memory for restores: two at full speed, four in their narrowest shape.
pub const RESTORE_BUDGET_BYTES: u64 = 64 << 20;

/// The shared limits. Clones share them.
#[derive(Debug, Clone)]
pub struct DataPlane {
    /// Memory for snapshots being written and verified.
    pub budget: MemoryBudget,
    /// Memory for restores. Their own, so that a broker that starts never waits for a snapshot of another partition.
    pub restore_budget: MemoryBudget,
    /// Threads that compress, decompress and check.
    pub workers: Workers,
    /// Stored bytes a second that leave for the store.
    pub upload_rate: RateLimit,
    /// Most stored bytes of one `.snap`; [`SNAP_FILE_MAX_BYTES`] but in tests.
    pub file_max_bytes: u64,
}

impl DataPlane {
    /// Limits with [`RESTORE_BUDGET_BYTES`] for restores and `.snap` files of the size that the format allows.
    pub fn new(budget: MemoryBudget, workers: Workers, upload_rate: RateLimit) -> Self {
        Self {
            budget,
            restore_budget: MemoryBudget::new(RESTORE_BUDGET_BYTES),
            workers,
            upload_rate,
            file_max_bytes: SNAP_FILE_MAX_BYTES,
        }
    }
}

/// A counted number of bytes for data in flight, whatever the snapshots' sizes.
///
/// Each run reserves all it will ever hold before it reads a byte, and gives it back at its end. So two runs never
/// wait for each other half-way, and the sum is never exceeded. A run takes the widest shape that fits what is free
/// now, and waits, in the order of asking, only when not even the narrowest does.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    pages: Arc<Semaphore>,
    total_pages: u32,
}

/// Unit of counting.
const PAGE_BYTES: u64 = 64 << 10;

impl MemoryBudget {
    /// A budget of `total_bytes`, counted in pages of 64 KiB, at least one.
    pub fn new(total_bytes: u64) -> Self {
        let total_pages = u32::try_from(total_bytes / PAGE_BYTES)
            .unwrap_or(u32::MAX)
            .max(1);
        Self {
            pages: Arc::new(Semaphore::new(total_pages as usize)),
            total_pages,
        }
    }

    /// All there is.
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.total_pages) * PAGE_BYTES
    }

    /// What is reserved now.
    pub fn in_use_bytes(&self) -> u64 {
        self.total_bytes() - self.pages.available_permits() as u64 * PAGE_BYTES
    }

    /// `bytes`, if they are free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let pages = pages(bytes);
        let permit = Arc::clone(&self.pages).try_acquire_many_owned(pages).ok()?;
        Some(Reservation {
            bytes: u64::from(pages) * PAGE_BYTES,
            permit: Some(permit),
        })
    }

    /// Waits for `bytes`; more than there is at all is cut to that.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let pages = pages(bytes).min(self.total_pages);
        let permit = Arc::clone(&self.pages).acquire_many_owned(pages).await;
        Reservation {
            bytes: u64::from(pages) * PAGE_BYTES,
            // The semaphore is never closed, so this is always Some.
            permit: permit.ok(),
        }
    }
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX)
}

/// The first shape whose memory is free, or the last one once its memory is.
pub(super) async fn reserve_shape<S: Copy>(
    budget: &MemoryBudget,
    widest_first: impl IntoIterator<Item = S>,
    narrowest: S,
    need_bytes: impl Fn(S) -> u64,
) -> (S, Reservation) {
    for shape in widest_first {
        if let Some(reservation) = budget.try_reserve(need_bytes(shape)) {
            return (shape, reservation);
        }
    }
    (narrowest, budget.reserve(need_bytes(narrowest)).await)
}

/// Memory set aside; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    bytes: u64,
    #[expect(dead_code, reason = "held for its drop")]
    permit: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// How much.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A bounded number of threads for work that keeps a core busy.
#[derive(Debug, Clone)]
pub struct Workers {
    free: Arc<Semaphore>,
    count: usize,
    inline: bool,
}

impl Workers {
    /// At most `count` pieces of work at a time.
    pub fn new(count: NonZeroUsize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count.get())),
            count: count.get(),
            inline: false,
        }
    }

    /// Work that runs as tasks of the runtime, on no thread of its own: what a simulation needs, whose every step
    /// must follow from its seed.
    pub fn inline(count: NonZeroUsize) -> Self {
        Self {
            inline: true,
            ..Self::new(count)
        }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Waits for a free worker and starts `work` on a blocking thread. Work that has started runs to its end.
    pub(super) async fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        // The semaphore is never closed, so there is always a permit.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        let work = move || {
            let _permit = permit;
            work()
        };
        if self.inline {
            return tokio::spawn(async move { work() });
        }
        tokio::task::spawn_blocking(work)
    }
}

/// A shared limit on bytes a second, or none.
///
/// Each taker's bytes occupy the line for `bytes / rate`; the next taker starts after that. A burst is at most one
/// block a taker.
#[derive(Debug, Clone)]
pub struct RateLimit {
    line: Option<Arc<Line>>,
}

#[derive(Debug)]
struct Line {
    bytes_per_sec: NonZeroU64,
    free_at: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// A limit, or none.
    pub fn new(bytes_per_sec: Option<NonZeroU64>) -> Self {
        let line = |bytes_per_sec| {
            Arc::new(Line {
                bytes_per_sec,
                free_at: Mutex::new(None),
            })
        };
        Self {
            line: bytes_per_sec.map(line),
        }
    }

    /// Waits until `bytes` may go.
    pub async fn take(&self, bytes: u64) {
        let Some(line) = &self.line else {
            return;
        };
        let start = line.occupy(bytes);
        sleep_until(start).await;
    }
}

impl Line {
    fn occupy(&self, bytes: u64) -> Instant {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_sec.get());
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
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_never_waits() {
        let start = Instant::now();
        RateLimit::new(None).take(u64::MAX).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn reservations_are_counted_and_given_back() {
        let budget = MemoryBudget::new(10 << 20);
        let first = budget.reserve(4 << 20).await;
        assert_eq!(budget.in_use_bytes(), 4 << 20);
        assert_eq!(first.bytes(), 4 << 20);
        let all = budget.clone();
        let waits = tokio::time::timeout(Duration::from_millis(1), all.reserve(u64::MAX));
        assert!(waits.await.is_err());
        drop(first);
        assert_eq!(budget.reserve(u64::MAX).await.bytes(), 10 << 20);
    }
}
