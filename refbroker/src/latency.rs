//! How long producers wait: the sidecar reads it and gives way.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What counts as lately.
const WINDOW: Duration = Duration::from_secs(5);
/// Most appends that are remembered; under more load the window is shorter.
const MAX_SAMPLES: usize = 8192;
/// With fewer, the slowest of them says nothing.
const MIN_SAMPLES: usize = 20;

/// Times from append to answer.
#[derive(Debug, Default)]
pub struct Latency {
    appends: Mutex<Appends>,
}

#[derive(Debug, Default)]
struct Appends {
    /// When they began, by number.
    outstanding: BTreeMap<u64, Instant>,
    next: u64,
    /// When they ended and how long they took.
    ended: VecDeque<(Instant, Duration)>,
}

/// An append that waits for its answer; dropping it ends the wait, however it went.
#[derive(Debug)]
pub struct Waiting<'a> {
    latency: &'a Latency,
    number: u64,
}

impl Latency {
    /// An append begins.
    pub fn begin(&self) -> Waiting<'_> {
        let mut appends = self.appends();
        let number = appends.next;
        appends.next += 1;
        appends.outstanding.insert(number, Instant::now());
        Waiting {
            latency: self,
            number,
        }
    }

    /// What 99 of 100 appends of the window did not exceed; none when there were too few to tell. One that still waits
    /// counts with its age once that is longer than what the others took.
    pub fn p99(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut appends = self.appends();
        let is_old = |at: Instant| now.saturating_duration_since(at) > WINDOW;
        while appends.ended.front().is_some_and(|(at, _)| is_old(*at)) {
            appends.ended.pop_front();
        }
        let mut took: Vec<Duration> = appends.ended.iter().map(|(_, took)| *took).collect();
        let longest = took.iter().max().copied().unwrap_or_default();
        let ages = appends
            .outstanding
            .values()
            .map(|begun| now.saturating_duration_since(*begun));
        took.extend(ages.filter(|age| *age > longest));
        drop(appends);
        if took.len() < MIN_SAMPLES {
            return None;
        }
        let rank = (took.len() - 1) * 99 / 100;
        let (_, p99, _) = took.select_nth_unstable(rank);
        Some(*p99)
    }

    fn appends(&self) -> MutexGuard<'_, Appends> {
        self.appends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut appends = self.latency.appends();
        let Some(begun) = appends.outstanding.remove(&self.number) else {
            return;
        };
        if appends.ended.len() == MAX_SAMPLES {
            appends.ended.pop_front();
        }
        appends.ended.push_back((now, now.duration_since(begun)));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_recent_and_enough_counts() {
        let latency = Latency::default();
        for _ in 0..MIN_SAMPLES {
            assert_eq!(latency.p99(), None);
            let waiting = latency.begin();
            advance(millis(7)).await;
            drop(waiting);
        }
        assert_eq!(latency.p99(), Some(millis(7)));
        advance(WINDOW).await;
        assert_eq!(latency.p99(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_a_hundred_may_take_longer() {
        let latency = Latency::default();
        for number in 0..200 {
            let waiting = latency.begin();
            advance(millis(if number < 197 { 1 } else { 50 })).await;
            drop(waiting);
        }
        assert_eq!(latency.p99(), Some(millis(50)));
    }

    #[tokio::test(start_paused = true)]
    async fn appends_that_hang_are_seen_while_they_do() {
        let latency = Latency::default();
        let hanging: Vec<_> = (0..MIN_SAMPLES).map(|_| latency.begin()).collect();
        advance(WINDOW + millis(1000)).await;
        assert_eq!(latency.p99(), Some(WINDOW + millis(1000)));
        drop(hanging);
        assert_eq!(latency.p99(), Some(WINDOW + millis(1000)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let latency = Latency::default();
        for _ in 0..2 * MAX_SAMPLES {
            drop(latency.begin());
        }
        let appends = latency.appends();
        assert_eq!(
            (appends.ended.len(), appends.outstanding.len()),
            (MAX_SAMPLES, 0)
        );
    }
}
