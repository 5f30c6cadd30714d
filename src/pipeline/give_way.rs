//! Giving way to producers: while they wait longer than in quiet times, exports read more slowly.

use std::time::Duration;

use tokio::time::Instant;

use super::Pipeline;
use crate::policy::Pace;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Looks without any work of ours after which the broker's figure knows nothing of it any more: twice its window.
const QUIET_LOOKS: u32 = 5;

impl Pipeline {
    /// Sets the pace of exports by what the broker says of its producers. Runs until the process stops, and lifts the
    /// limit then: what is under way has little time to end.
    pub async fn give_way(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.keep_pace() => {}
        }
        self.plane.rates.pace.set(None);
    }

    async fn keep_pace(&self) {
        let mut pace = Pace::default();
        let mut before = (self.plane.rates.pace.taken_bytes(), Instant::now());
        // At the start nothing was done yet.
        let mut quiet_looks = QUIET_LOOKS - 1;
        let mut exporting_looks = 0_u32;
        loop {
            let now = (self.plane.rates.pace.taken_bytes(), Instant::now());
            let new_bytes = now.0 - before.0;
            let elapsed = now.1 - before.1;
            before = now;
            let works = new_bytes > 0 || self.plane.is_busy();
            quiet_looks = if works { 0 } else { quiet_looks + 1 };
            exporting_looks = if new_bytes > 0 {
                exporting_looks + 1
            } else {
                0
            };
            if exporting_looks == 0 {
                self.metrics.set_export_pace(None);
            }
            // The first look at an export sees only a part of its time.
            let exports = exporting_looks > 1;
            let is_quiet = quiet_looks > 0 && quiet_looks.is_multiple_of(QUIET_LOOKS);
            if exports || is_quiet {
                // A broker that is away is the loop's to tell.
                let produce_p99 = self
                    .broker
                    .describe()
                    .await
                    .ok()
                    .and_then(|info| info.produce_p99);
                if exports {
                    let bytes_per_sec = u128::from(new_bytes) * 1000 / elapsed.as_millis().max(1);
                    let bytes_per_sec = u64::try_from(bytes_per_sec).unwrap_or(u64::MAX);
                    let limit = pace.exporting(produce_p99, bytes_per_sec);
                    self.plane.rates.pace.set(limit);
                    self.metrics.set_export_pace(limit);
                } else if let Some(produce_p99) = produce_p99 {
                    pace.quiet(produce_p99);
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
