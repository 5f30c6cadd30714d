//! Spans for a collector, and the trace context that calls carry.
//!
//! Spans are those of `tracing`, at level INFO: in every build they are the context of log lines. With the cargo feature
//! `otlp` they are sent to a collector as well, whatever `LOG` says, and calls carry W3C `traceparent`. Without it,
//! everything here does nothing.
//!
//! What begins a trace, see [`identify`] and [`accept`]: a visit of a partition, a Bootstrap conversation. Calls outside of
//! one, as those of a tick, belong to no trace. Nothing that happens per block or chunk is a span.

#[cfg(not(feature = "otlp"))]
mod off;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "otlp")]
mod send;

#[cfg(not(feature = "otlp"))]
pub use off::{Spans, accept, channel, failed, identify};
#[cfg(feature = "otlp")]
pub use otlp::{accept, channel, failed, identify};
#[cfg(feature = "otlp")]
pub use send::Spans;

use std::time::Duration;

use thiserror::Error;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Status, service::Interceptor};
use tracing_subscriber::Registry;

use crate::error::Kind;

/// A layer of the process's subscriber.
pub type Layer = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

/// Spans cannot be sent.
#[derive(Debug, Error)]
#[error("spans cannot be sent: {reason}")]
pub struct TracesError {
    reason: String,
}

impl TracesError {
    /// What the exporter reads of the environment does not fit.
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Gives each request of a client the trace context of the span in which it is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inject;

impl Interceptor for Inject {
    #[cfg_attr(
        not(feature = "otlp"),
        expect(unused_mut, reason = "there is nothing to add")
    )]
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        #[cfg(feature = "otlp")]
        otlp::inject(request.metadata_mut());
        Ok(request)
    }
}

/// The task that sends spans.
#[derive(Debug)]
pub struct Sending {
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Sending {
    /// Nothing is sent.
    pub fn none() -> Self {
        Self {
            end: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Sends what has ended so far; gives up after `limit`.
    pub async fn finish(self, limit: Duration) {
        self.end.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("the collector does not take the last spans in time");
        }
    }
}
