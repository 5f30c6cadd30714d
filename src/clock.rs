//! Time and randomness are inputs: everything that needs them takes a [`Clock`].
//!
//! Monotonic time decides (ages, back-off, grace); wall time only labels (`created_at`, metrics).

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use uuid::Uuid;

/// Source of time and of unique ids.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time. Under a paused tokio runtime this is tokio's clock.
    fn now(&self) -> Instant;

    /// Wall time as the duration since the Unix epoch. May jump; never used to decide anything that a wrong clock
    /// could turn into a loss.
    fn wall(&self) -> Duration;

    /// A new unique id. Only its uniqueness is relied on.
    fn new_uuid(&self) -> Uuid;

    /// A number in `0.0..1.0` for jitter.
    fn jitter(&self) -> f64;
}

/// Shared handle.
pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clock and randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
    fn wall(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    fn new_uuid(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }
}

/// Milliseconds since the Unix epoch, saturating.
pub fn unix_ms(wall: Duration) -> i64 {
    i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)
}
