//! How long something was under way: what waits for a limit meanwhile is left out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Adds up the time in which at least one piece of work is under way. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    under_way: usize,
    since: Option<Instant>,
    total: Duration,
}

impl Busy {
    /// A piece of work is under way until the guard is dropped.
    pub(super) fn begin(&self) -> UnderWay {
        let mut known = self.known();
        known.under_way += 1;
        known.since.get_or_insert_with(Instant::now);
        UnderWay(self.clone())
    }

    /// The time so far, of what has ended.
    pub(super) fn total(&self) -> Duration {
        self.known().total
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of work.
#[derive(Debug)]
pub(super) struct UnderWay(Busy);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut known = self.0.known();
        known.under_way = known.under_way.saturating_sub(1);
        if known.under_way == 0
            && let Some(since) = known.since.take()
        {
            known.total += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_overlaps_counts_once_and_gaps_do_not() {
        let (busy, second) = (Busy::default(), Duration::from_secs(1));
        let first = busy.begin();
        sleep(second).await;
        let other = busy.begin();
        sleep(second).await;
        drop(first);
        sleep(second).await;
        drop(other);
        sleep(second * 10).await;
        let last = busy.begin();
        sleep(second).await;
        drop(last);
        assert_eq!(busy.total(), second * 4);
    }
}
