//! Spans on their way to the collector: a bounded queue, batches, a deadline for each, and a word now and then about what
//! was lost. Nobody who ends a span ever waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_otlp::{WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Channel;

use super::{Sending, TracesError};

/// Spans that wait; further ones are lost.
const QUEUE_SPANS: usize = 2048;
/// Spans that are sent together.
const BATCH_SPANS: usize = 512;
/// A batch that is not full goes after this time.
const BATCH_WAIT: Duration = Duration::from_secs(5);
/// For one batch.
const SEND_DEADLINE: Duration = Duration::from_secs(10);
/// Between two warnings.
const WARN_INTERVAL: Duration = Duration::from_mins(5);

/// The end at which spans go in.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    refused: Arc<AtomicU64>,
}

/// The end at which they come out.
#[derive(Debug)]
pub struct Spans {
    waiting: mpsc::Receiver<SpanData>,
    refused: Arc<AtomicU64>,
    resource: Resource,
}

pub(super) fn queue(resource: Resource) -> (Queue, Spans) {
    let (spans, waiting) = mpsc::channel(QUEUE_SPANS);
    let refused = Arc::new(AtomicU64::new(0));
    let queue = Queue {
        spans,
        refused: refused.clone(),
    };
    let spans = Spans {
        waiting,
        refused,
        resource,
    };
    (queue, spans)
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// See [`Sending::finish`].
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Spans {
    /// Sends spans to the collector behind `channel` until told to finish. Must be called inside a runtime.
    pub fn send_to(self, collector: Channel) -> Result<Sending, TracesError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(collector)
            .with_timeout(SEND_DEADLINE)
            .build();
        let mut exporter = exporter.map_err(|error| TracesError {
            reason: error.to_string(),
        })?;
        exporter.set_resource(&self.resource);
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(self.send_until(end.clone(), exporter));
        Ok(Sending { end, tasks })
    }

    async fn send_until<E: SpanExporter>(mut self, end: CancellationToken, exporter: E) {
        let mut losses = Losses::default();
        let mut ending = false;
        while !ending {
            let mut batch = Vec::new();
            ending = self.fill(&mut batch, &end).await;
            if batch.is_empty() {
                continue;
            }
            let sent = batch.len() as u64;
            let failure = export(&exporter, batch).await.err();
            let refused = self.refused.swap(0, Ordering::Relaxed);
            let lost = refused + if failure.is_some() { sent } else { 0 };
            if let Some(lost) = losses.note(lost, Instant::now()) {
                let error = failure.unwrap_or_else(|| "too many at one time".to_owned());
                tracing::warn!(lost, error, "spans do not reach the collector");
            }
        }
    }

    /// Waits for spans until the batch is full or has waited enough. `true` = it is the end, and no more are waiting.
    async fn fill(&mut self, batch: &mut Vec<SpanData>, end: &CancellationToken) -> bool {
        let mut enough = std::pin::pin!(tokio::time::sleep(BATCH_WAIT));
        while batch.len() < BATCH_SPANS {
            let room = BATCH_SPANS - batch.len();
            tokio::select! {
                biased;
                received = self.waiting.recv_many(batch, room) => if received == 0 {
                    return true;
                },
                () = end.cancelled() => return true,
                () = &mut enough => return false,
            }
        }
        false
    }
}

async fn export(exporter: &impl SpanExporter, batch: Vec<SpanData>) -> Result<(), String> {
    match tokio::time::timeout(SEND_DEADLINE, exporter.export(batch)).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", SEND_DEADLINE.as_secs())),
    }
}

/// What was lost since the last warning, and when that was.
#[derive(Debug, Default)]
struct Losses {
    spans: u64,
    warned_at: Option<Instant>,
}

impl Losses {
    /// Adds `lost`. Some = a warning about so many is due.
    fn note(&mut self, lost: u64, now: Instant) -> Option<u64> {
        self.spans += lost;
        let quiet = |at: Instant| now.saturating_duration_since(at) < WARN_INTERVAL;
        if self.spans == 0 || self.warned_at.is_some_and(quiet) {
            return None;
        }
        self.warned_at = Some(now);
        Some(std::mem::take(&mut self.spans))
    }
}

#[cfg(test)]
mod tests;
