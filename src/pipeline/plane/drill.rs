//! What a drill works with: a part of the restores' memory, lent until a restore wants it, a thread of its own, a limit on
//! bandwidth. Restores do not queue behind a drill: it never waits for memory, and leaves when a restore begins.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    limits::{DataPlane, MemoryBudget, Rates},
    rate::RateLimit,
    speed::Speed,
    workers::Workers,
};

/// Memory that a drill borrows: three windows that are read, one that is worked on, one block of raw bytes. What is left of
/// the restores' budget is enough for a restore at full speed with one thread.
pub const DRILL_BUDGET_BYTES: u64 = 21 << 20;

/// What drills have of their own. Clones share it.
#[derive(Debug, Clone)]
pub struct DrillShare {
    /// The threads that check and decompress.
    pub workers: Workers,
    /// Stored bytes that come from the store.
    pub rate: RateLimit,
    /// How fast drills were.
    pub speed: Speed,
}

impl DrillShare {
    /// No limit, and the threads of others.
    pub(super) fn new(workers: Workers) -> Self {
        Self {
            workers,
            rate: RateLimit::default(),
            speed: Speed::default(),
        }
    }
}

/// How many restores are under way. Clones share it.
#[derive(Debug, Clone)]
pub struct Restores {
    count: Arc<watch::Sender<usize>>,
}

impl Default for Restores {
    fn default() -> Self {
        Self {
            count: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Restores {
    /// A restore is under way until the guard is dropped.
    #[must_use = "the restore counts as under way while the guard lives"]
    pub fn begin(&self) -> RestoreUnderWay {
        self.count.send_modify(|count| *count += 1);
        RestoreUnderWay(self.clone())
    }

    /// Is one under way?
    pub fn any(&self) -> bool {
        *self.count.borrow() > 0
    }

    /// Waits until one is under way.
    pub async fn wait_any(&self) {
        // The sender lives as long as `self`.
        let _ = self.count.subscribe().wait_for(|count| *count > 0).await;
    }
}

/// A restore.
#[derive(Debug)]
pub struct RestoreUnderWay(Restores);

impl Drop for RestoreUnderWay {
    fn drop(&mut self) {
        let count = &self.0.count;
        count.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl DataPlane {
    /// The limits of one drill, if no restore is under way and the memory is free. All that is read with them, again or
    /// for the first time, is read with the drill's memory, threads and bandwidth.
    pub fn lend_to_drill(&self) -> Option<Self> {
        if self.restores.any() {
            return None;
        }
        let memory = self.restore_budget.try_reserve(DRILL_BUDGET_BYTES)?;
        let budget = MemoryBudget::within(memory);
        let workers = &self.drill.workers;
        Some(Self {
            budget: budget.clone(),
            restore_budget: budget,
            workers: workers.clone(),
            restore_workers: workers.clone(),
            rates: Rates {
                read: self.drill.rate.clone(),
                ..self.rates.clone()
            },
            restore_speed: self.drill.speed.clone(),
            verify_speed: Speed::default(),
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use super::*;
    use crate::pipeline::plane::RESTORE_BUDGET_BYTES;

    fn plane() -> DataPlane {
        let workers = Workers::inline(NonZeroUsize::MIN);
        DataPlane::new(MemoryBudget::new(1 << 20), workers, Rates::default())
    }

    #[tokio::test]
    async fn a_drill_borrows_from_restores_and_nothing_from_snapshots() {
        let plane = plane();
        let lent = plane.lend_to_drill().unwrap();
        assert_eq!(plane.restore_budget.in_use_bytes(), DRILL_BUDGET_BYTES);
        assert_eq!(plane.budget.in_use_bytes(), 0);
        assert_eq!(lent.budget.total_bytes(), DRILL_BUDGET_BYTES);
        // Reading back what was damaged takes the same memory.
        let all = lent.restore_budget.reserve(u64::MAX).await;
        assert!(lent.budget.try_reserve(1).is_none());
        drop((lent, all));
        assert_eq!(plane.restore_budget.in_use_bytes(), 0);
    }

    #[tokio::test]
    async fn nothing_is_lent_while_a_restore_is_under_way_or_has_the_memory() {
        let plane = plane();
        let restore = plane.restores.begin();
        assert!(plane.lend_to_drill().is_none());
        drop(restore);
        let memory = plane.restore_budget.reserve(RESTORE_BUDGET_BYTES).await;
        assert!(plane.lend_to_drill().is_none());
        drop(memory);
        assert!(plane.lend_to_drill().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_restore_is_told_of_the_first() {
        let restores = Restores::default();
        let soon = Duration::from_secs(1);
        assert!(
            tokio::time::timeout(soon, restores.wait_any())
                .await
                .is_err()
        );
        let other = restores.clone();
        let (first, second) = (other.begin(), other.begin());
        drop(first);
        tokio::time::timeout(soon, restores.wait_any())
            .await
            .unwrap();
        drop(second);
        assert!(!restores.any());
    }
}
