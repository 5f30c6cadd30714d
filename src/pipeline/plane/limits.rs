//! What all snapshots and restores of this process share: memory, threads, bandwidth.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    drill::{DrillShare, Restores},
    rate::RateLimit,
    speed::Speed,
    workers::Workers,
};
use crate::{board::Progress, format::SNAP_FILE_MAX_BYTES};

/// Memory for restores: one at full speed and one with a block less in flight, or three in their narrowest shape.
pub const RESTORE_BUDGET_BYTES: u64 = 48 << 20;

/// The shared limits. Clones share them.
#[derive(Debug, Clone)]
pub struct DataPlane {
    /// Memory for snapshots being written and verified.
    pub budget: MemoryBudget,
    /// Memory for restores. Their own, so that a broker that starts never waits for a snapshot of another partition.
    pub restore_budget: MemoryBudget,
    /// Threads that compress, decompress and check.
    pub workers: Workers,
    /// Those of restores: a broker that waits for its state is as busy as one can be.
    pub restore_workers: Workers,
    /// Bandwidth of snapshots.
    pub rates: Rates,
    /// Raw bytes of all blocks that were checked or delivered.
    pub read: Progress,
    /// How fast restores were, the receiver's part in it.
    pub restore_speed: Speed,
    /// How fast snapshots were read back.
    pub verify_speed: Speed,
    /// Restores that are under way: drills give way to them.
    pub restores: Restores,
    /// What drills have of their own.
    pub drill: DrillShare,
    /// Most stored bytes of one `.snap`; [`SNAP_FILE_MAX_BYTES`] but in tests.
    pub file_max_bytes: u64,
}

impl DataPlane {
    /// Limits with [`RESTORE_BUDGET_BYTES`] for restores and `.snap` files of the size that the format allows.
    pub fn new(budget: MemoryBudget, workers: Workers, rates: Rates) -> Self {
        Self {
            budget,
            restore_budget: MemoryBudget::new(RESTORE_BUDGET_BYTES),
            restore_workers: workers.of_normal_priority(),
            drill: DrillShare::new(workers.clone()),
            restores: Restores::default(),
            workers,
            rates,
            read: Progress::default(),
            restore_speed: Speed::default(),
            verify_speed: Speed::default(),
            file_max_bytes: SNAP_FILE_MAX_BYTES,
        }
    }

    /// The same limits, with a counter of its own for what is read.
    #[must_use]
    pub fn counting(&self, read: Progress) -> Self {
        Self {
            read,
            ..self.clone()
        }
    }

    /// Something is being written, verified or restored.
    pub fn is_busy(&self) -> bool {
        self.budget.in_use_bytes() > 0 || self.restore_budget.in_use_bytes() > 0
    }

    /// Time to restore `raw_bytes`, by the restores lately, for want of them by drills, and then by what was read back
    /// for proofs; of each, small ones only for want of large ones of any. None before there was any.
    pub fn restore_time(&self, raw_bytes: u64) -> Option<Duration> {
        let speeds = [&self.restore_speed, &self.drill.speed, &self.verify_speed];
        let by_large = speeds.map(|speed| speed.time_by_large(raw_bytes));
        let by_small = speeds.map(|speed| speed.time_by_small(raw_bytes));
        by_large.into_iter().chain(by_small).flatten().next()
    }
}

/// Limits on bandwidth, each over all snapshots together.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    /// Raw bytes that come from the broker, as the operator limits them.
    pub export: RateLimit,
    /// The same, while producers notice.
    pub pace: RateLimit,
    /// Stored bytes that leave for the store.
    pub upload: RateLimit,
    /// Stored bytes that come from the store; limited for drills only.
    pub read: RateLimit,
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
    /// What all of it is a part of.
    lent: Option<Arc<Reservation>>,
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
            lent: None,
        }
    }

    /// A budget of what is reserved of another one. That stays reserved for as long as anything of this one is.
    pub fn within(reservation: Reservation) -> Self {
        let budget = Self::new(reservation.bytes());
        Self {
            lent: Some(Arc::new(reservation)),
            ..budget
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
            lent: self.lent.clone(),
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
            lent: self.lent.clone(),
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
    #[expect(dead_code, reason = "held for its drop")]
    lent: Option<Arc<Reservation>>,
}

impl Reservation {
    /// How much.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn what_is_lent_is_back_when_the_last_of_it_is_given_back() {
        let budget = MemoryBudget::new(10 << 20);
        let lent = MemoryBudget::within(budget.reserve(6 << 20).await);
        assert_eq!(lent.total_bytes(), 6 << 20);
        let part = lent.reserve(1 << 20).await;
        drop(lent);
        assert_eq!(budget.in_use_bytes(), 6 << 20);
        drop(part);
        assert_eq!(budget.in_use_bytes(), 0);
    }
}
