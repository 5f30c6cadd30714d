use std::sync::Mutex;

use opentelemetry::trace::{Span as _, SpanId, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::*;

/// Remembers the sizes of the batches that it was given.
#[derive(Debug, Clone, Default)]
struct Fake {
    batches: Arc<Mutex<Vec<usize>>>,
    hangs: bool,
}

impl SpanExporter for Fake {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.batches.lock().unwrap().push(batch.len());
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

struct Rig {
    provider: SdkTracerProvider,
    refused: Arc<AtomicU64>,
    end: CancellationToken,
    tasks: TaskTracker,
    fake: Fake,
}

impl Rig {
    fn start(fake: Fake) -> Self {
        let (queue, spans) = queue(Resource::builder_empty().build());
        let refused = queue.refused.clone();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .build();
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(spans.send_until(end.clone(), fake.clone()));
        Self {
            provider,
            refused,
            end,
            tasks,
            fake,
        }
    }

    fn spans(&self, count: usize) {
        let tracer = self.provider.tracer("test");
        for _ in 0..count {
            tracer.start("span").end();
        }
    }

    fn batches(&self) -> Vec<usize> {
        self.fake.batches.lock().unwrap().clone()
    }

    async fn finish(&self) {
        self.end.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(Duration::from_hours(1), self.tasks.wait());
        ended.await.unwrap();
    }
}

/// Lets tasks run; with a paused clock, time goes on only when all of them wait.
async fn after(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_goes_at_once_and_the_rest_after_a_while() {
    let rig = Rig::start(Fake::default());
    rig.spans(BATCH_SPANS + 3);
    after(Duration::from_millis(1)).await;
    assert_eq!(rig.batches(), [BATCH_SPANS]);
    after(BATCH_WAIT).await;
    assert_eq!(rig.batches(), [BATCH_SPANS, 3]);
    after(10 * BATCH_WAIT).await;
    assert_eq!(rig.batches().len(), 2, "nothing is sent when nothing ended");
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_end_is_sent_and_nothing_is_waited_for() {
    let rig = Rig::start(Fake::default());
    rig.spans(2 * BATCH_SPANS + 1);
    let started = Instant::now();
    rig.finish().await;
    assert_eq!(rig.batches(), [BATCH_SPANS, BATCH_SPANS, 1]);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn spans_beyond_the_queue_are_counted_and_their_end_waits_for_nobody() {
    let hangs = Fake {
        hangs: true,
        ..Fake::default()
    };
    let rig = Rig::start(hangs);
    rig.spans(BATCH_SPANS);
    after(Duration::from_millis(1)).await;
    rig.spans(QUEUE_SPANS + 7);
    assert_eq!(rig.refused.load(Ordering::Relaxed), 7);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_never_answers_costs_each_batch_its_deadline() {
    let hangs = Fake {
        hangs: true,
        ..Fake::default()
    };
    let rig = Rig::start(hangs);
    rig.spans(2 * BATCH_SPANS);
    after(SEND_DEADLINE.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(rig.batches().len(), 1);
    after(Duration::from_millis(2)).await;
    assert_eq!(rig.batches().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn spans_that_were_not_chosen_are_not_sent() {
    let (queue, mut spans) = queue(Resource::builder_empty().build());
    queue.on_end(unsampled());
    assert!(spans.waiting.try_recv().is_err());
}

fn unsampled() -> SpanData {
    SpanData {
        span_context: opentelemetry::trace::SpanContext::empty_context(),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: opentelemetry::trace::SpanKind::Internal,
        name: "span".into(),
        start_time: std::time::UNIX_EPOCH,
        end_time: std::time::UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: opentelemetry_sdk::trace::SpanEvents::default(),
        links: opentelemetry_sdk::trace::SpanLinks::default(),
        status: opentelemetry::trace::Status::Unset,
        instrumentation_scope: opentelemetry::InstrumentationScope::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn losses_are_told_at_once_then_rarely_and_none_is_forgotten() {
    let (mut losses, now) = (Losses::default(), Instant::now());
    assert_eq!(losses.note(0, now), None);
    assert_eq!(losses.note(3, now), Some(3));
    assert_eq!(losses.note(5, now + WARN_INTERVAL / 2), None);
    assert_eq!(losses.note(6, now + WARN_INTERVAL), Some(11));
    assert_eq!(losses.note(0, now + 3 * WARN_INTERVAL), None);
}
