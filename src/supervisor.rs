//! What systemd is told where it started the process: ready, alive, reloading, stopping. Nothing elsewhere.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until};

/// Signs of life within the time that the supervisor gives.
const SIGNS_PER_LIMIT: u32 = 3;

/// The process serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The process takes over what changed in its configuration; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the supervisor is not told of the reload"),
    }
}

/// The process ends, by itself or because it was asked to.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a supervisor this does nothing and succeeds.
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the supervisor could not be told");
    }
}

/// Signs of life for the supervisor's watchdog, given by whoever holds this: when that hangs, they end.
#[derive(Debug)]
pub struct Heartbeat {
    every: Option<Duration>,
    next: Instant,
}

impl Heartbeat {
    /// As often as the supervisor asked for; never where none did.
    pub fn as_asked() -> Self {
        Self::every(sd_notify::watchdog_enabled().map(|limit| limit / SIGNS_PER_LIMIT))
    }

    /// Never.
    pub fn none() -> Self {
        Self::every(None)
    }

    fn every(every: Option<Duration>) -> Self {
        Self {
            every,
            next: Instant::now(),
        }
    }

    /// Waits until the next sign is due and gives it. Cancelled, it gives none.
    pub async fn beat(&mut self) {
        let Some(every) = self.every else {
            std::future::pending::<()>().await;
            return;
        };
        sleep_until(self.next).await;
        tell(&[NotifyState::Watchdog]);
        self.next = Instant::now() + every;
    }

    /// Gives signs for at most `limit`, then no more; never ends.
    pub async fn beat_for(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.next < end {
            self.beat().await;
        }
        std::future::pending::<()>().await;
    }
}
