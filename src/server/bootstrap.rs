//! The Bootstrap service: one conversation per partition, driven by its own task.
//!
//! The newest call for a partition ends an older one. Nobody holds a slot by silence: a message that the broker
//! does not take for [`SEND_LIMIT`], or an answer that does not come within [`ANSWER_LIMIT`], ends the
//! conversation; so does the broker hanging up.

mod answers;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, Stream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument as _, Span, field::Empty};

use self::answers::{
    answer, failure, outcome_message, stopping_status, superseded_status, too_many,
};
use super::{Access, convert};
use crate::{
    board::{Running, WorkKind},
    clock::unix_ms,
    pipeline::{
        Answer, LocalState, Pipeline, RejectReason, RestoreEvent, RestoreOutcome, RestorePhase,
        RestoreRequest, RestoreSink, SinkClosed,
    },
    proto::v1::{self, bootstrap_request, bootstrap_response, snapshot_bootstrap_service_server},
    raft::{LogId, TopicPartition},
    telemetry::{BootstrapResult, Label as _, Service, traces},
};

/// Conversations at once, waiting ones included.
const MAX_CONVERSATIONS: usize = 16;
/// Messages between the pipeline and the wire: at most 4 MiB.
const MESSAGES_IN_FLIGHT: usize = 4;
/// A broker that takes no message for this long has gone.
const SEND_LIMIT: Duration = Duration::from_mins(1);
/// Time for a broker to flush and commit what it received.
const ANSWER_LIMIT: Duration = Duration::from_mins(10);
/// Time for the first message.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);
/// Signs of life.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

type Outgoing = Result<v1::BootstrapResponse, Status>;
type Answers = Pin<Box<dyn Stream<Item = Outgoing> + Send>>;

/// What the service is told by the operator.
#[derive(Debug, Clone, Copy)]
pub struct BootstrapOptions {
    /// False = every call is answered with DISABLED.
    pub enabled: bool,
    /// Restores that send at once.
    pub max_concurrent: usize,
}

/// The service.
#[derive(Clone)]
pub struct BootstrapService {
    shared: Arc<Shared>,
    access: Access,
}

struct Shared {
    pipeline: Arc<Pipeline>,
    options: BootstrapOptions,
    tasks: TaskTracker,
    stop: CancellationToken,
    slots: Semaphore,
    /// Calls whose asker is being compared with the broker.
    askers: Semaphore,
    next_run: AtomicU64,
    running: Mutex<HashMap<TopicPartition, Run>>,
}

struct Run {
    number: u64,
    superseded: CancellationToken,
}

impl BootstrapService {
    /// The service. Conversations run on `tasks` and end when `stop` is cancelled.
    pub fn new(
        pipeline: Arc<Pipeline>,
        options: BootstrapOptions,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared {
            pipeline,
            options,
            tasks,
            stop,
            slots: Semaphore::new(options.max_concurrent),
            askers: Semaphore::new(MAX_CONVERSATIONS),
            next_run: AtomicU64::new(0),
            running: Mutex::new(HashMap::new()),
        };
        Self {
            shared: Arc::new(shared),
            access: Access::open(Service::Bootstrap),
        }
    }

    /// The same, for some only.
    #[must_use]
    pub fn guarded(self, access: Access) -> Self {
        Self { access, ..self }
    }
}

#[async_trait]
impl snapshot_bootstrap_service_server::SnapshotBootstrapService for BootstrapService {
    type BootstrapStream = Answers;

    async fn bootstrap(
        &self,
        request: Request<Streaming<v1::BootstrapRequest>>,
    ) -> Result<Response<Self::BootstrapStream>, Status> {
        self.access.check("Bootstrap", &request)?;
        let span = tracing::info_span!(
            "bootstrap",
            otel.kind = "server",
            partition = Empty,
            broker_id = Empty,
            trace_id = Empty,
            snapshot_id = Empty,
            outcome = Empty,
        );
        traces::accept(&span, request.metadata());
        self.begin(request.into_inner()).instrument(span).await
    }
}

impl BootstrapService {
    async fn begin(
        &self,
        mut incoming: Streaming<v1::BootstrapRequest>,
    ) -> Result<Response<Answers>, Status> {
        let begin = first_message(&mut incoming).await?;
        let request = convert::restore_request(begin)?;
        Span::current().record("partition", tracing::field::display(&request.partition));
        if request.local_state == LocalState::Intact {
            // Waits for nothing: neither a slot nor the store may hold up a rolling restart.
            return Ok(Response::new(self.shared.use_local()));
        }
        // Before it may take the place of another call: a stranger ends nobody's conversation.
        self.shared.check_asker(&request).await?;
        let (run, superseded) = self.shared.enter(&request.partition)?;
        let (outgoing, messages) = mpsc::channel(MESSAGES_IN_FLIGHT);
        let shared = self.shared.clone();
        let conversation = async move {
            let partition = request.partition.clone();
            shared
                .converse(request, incoming, outgoing, superseded)
                .await;
            shared.leave(&partition, run);
        };
        self.shared.tasks.spawn(conversation.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

async fn first_message(
    incoming: &mut Streaming<v1::BootstrapRequest>,
) -> Result<v1::BootstrapBegin, Status> {
    let first = tokio::time::timeout(BEGIN_LIMIT, incoming.message()).await;
    let first = first.map_err(|_| convert::invalid("begin", "did not arrive within 10 s"))??;
    match first.and_then(|request| request.message) {
        Some(bootstrap_request::Message::Begin(begin)) => Ok(begin),
        _ => Err(convert::invalid(
            "message",
            "is not `begin`, which must come first",
        )),
    }
}

impl Shared {
    /// The answer to a broker whose state is intact.
    fn use_local(&self) -> Answers {
        let (label, message) = answer(&RestoreOutcome::UseLocal);
        self.ended(label, self.pipeline.clock.now());
        Box::pin(futures::stream::iter([Ok(message)]))
    }

    /// The broker that asks is the one beside us, in this life.
    async fn check_asker(&self, request: &RestoreRequest) -> Result<(), Status> {
        if !self.options.enabled {
            return Ok(());
        }
        let started = self.pipeline.clock.now();
        let _place = self.askers.try_acquire().map_err(|_| too_many())?;
        let asked = tokio::select! {
            () = self.stop.cancelled() => return Err(stopping_status().1),
            asked = self.pipeline.ask_broker(request) => asked,
        };
        asked.map(drop).map_err(|error| {
            let (label, status) = failure(&error);
            let partition = &request.partition;
            tracing::warn!(%partition, outcome = label.as_str(), error = status.message(), "bootstrap refused");
            traces::failed(&Span::current(), status.message().to_owned());
            self.ended(label, started);
            status
        })
    }

    /// Registers a conversation and ends an older one for the same partition.
    fn enter(&self, partition: &TopicPartition) -> Result<(u64, CancellationToken), Status> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.len() >= MAX_CONVERSATIONS && !running.contains_key(partition) {
            return Err(too_many());
        }
        let number = self.next_run.fetch_add(1, Ordering::Relaxed);
        let superseded = CancellationToken::new();
        let run = Run {
            number,
            superseded: superseded.clone(),
        };
        if let Some(older) = running.insert(partition.clone(), run) {
            older.superseded.cancel();
        }
        Ok((number, superseded))
    }

    fn leave(&self, partition: &TopicPartition, run: u64) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running
            .get(partition)
            .is_some_and(|current| current.number == run)
        {
            running.remove(partition);
        }
    }

    async fn converse(
        &self,
        request: RestoreRequest,
        incoming: Streaming<v1::BootstrapRequest>,
        outgoing: mpsc::Sender<Outgoing>,
        superseded: CancellationToken,
    ) {
        let partition = &request.partition;
        let clock = &self.pipeline.clock;
        let started = clock.now();
        let (progress, seen) = watch::channel(v1::BootstrapProgress {
            phase: v1::BootstrapPhase::Queued.into(),
            ..v1::BootstrapProgress::default()
        });
        let mut sink = WireSink {
            incoming,
            outgoing: outgoing.clone(),
            progress,
            shown: self
                .pipeline
                .board
                .begin(WorkKind::Restore, partition, unix_ms(clock.wall())),
        };
        let outcome = tokio::select! {
            biased;
            () = superseded.cancelled() => Err(superseded_status()),
            () = self.stop.cancelled() => Err(stopping_status()),
            () = outgoing.closed() => return self.ended(BootstrapResult::Cancelled, started),
            outcome = self.run(&request, &mut sink) => outcome,
            () = signs_of_life(&outgoing, seen) => return,
        };
        let (label, last) = match outcome {
            Ok((result, message)) => {
                tracing::info!(%partition, outcome = result.as_str(), "bootstrap answered");
                (result, Ok(message))
            }
            Err((label, status)) => {
                tracing::warn!(%partition, outcome = label.as_str(), error = status.message(), "bootstrap failed");
                traces::failed(&Span::current(), status.message().to_owned());
                (label, Err(status))
            }
        };
        // Whoever hung up needs no answer.
        let _ = tokio::time::timeout(SEND_LIMIT, outgoing.send(last)).await;
        self.ended(label, started);
    }

    fn ended(&self, result: BootstrapResult, started: tokio::time::Instant) {
        let elapsed = self.pipeline.clock.now().saturating_duration_since(started);
        Span::current().record("outcome", result.as_str());
        self.pipeline.metrics.bootstrap_ended(result, elapsed);
    }

    async fn run(
        &self,
        request: &RestoreRequest,
        sink: &mut WireSink,
    ) -> Result<(BootstrapResult, v1::BootstrapResponse), (BootstrapResult, Status)> {
        if !self.options.enabled {
            let outcome = v1::BootstrapOutcome {
                result: v1::BootstrapResult::Disabled.into(),
                detail: "BOOTSTRAP_ENABLED is false".to_owned(),
                ..v1::BootstrapOutcome::default()
            };
            return Ok((BootstrapResult::Disabled, outcome_message(outcome)));
        }
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        match self.pipeline.restore(request, sink).await {
            Ok(outcome) => Ok(answer(&outcome)),
            Err(error) => Err(failure(&error)),
        }
    }
}

/// Tells the progress every few seconds, for ever. One is dropped while other messages are on their way.
async fn signs_of_life(
    outgoing: &mpsc::Sender<Outgoing>,
    progress: watch::Receiver<v1::BootstrapProgress>,
) {
    let mut interval = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        interval.tick().await;
        let now = *progress.borrow();
        let message = v1::BootstrapResponse {
            message: Some(bootstrap_response::Message::Progress(now)),
        };
        let _ = outgoing.try_send(Ok(message));
    }
}

/// One conversation's wire.
struct WireSink {
    incoming: Streaming<v1::BootstrapRequest>,
    outgoing: mpsc::Sender<Outgoing>,
    progress: watch::Sender<v1::BootstrapProgress>,
    shown: Running,
}

#[async_trait]
impl RestoreSink for WireSink {
    fn progress(&mut self, phase: RestorePhase, sent_bytes: u64, total_bytes: u64) {
        let (phase, stage) = match phase {
            RestorePhase::Choosing => (v1::BootstrapPhase::Choosing, "choosing a snapshot"),
            RestorePhase::Sending => (v1::BootstrapPhase::Sending, "sending"),
            RestorePhase::Installing => (v1::BootstrapPhase::Installing, "installing"),
        };
        self.shown.at(stage, sent_bytes, total_bytes);
        self.progress.send_replace(v1::BootstrapProgress {
            phase: phase.into(),
            sent_bytes,
            total_bytes,
        });
    }

    async fn send(&mut self, event: RestoreEvent) -> Result<(), SinkClosed> {
        use bootstrap_response::Message;
        let message = match event {
            RestoreEvent::Begin(manifest) => Message::Snapshot(convert::begin_message(&manifest)),
            RestoreEvent::Chunk(part, data) => Message::Chunk(v1::SnapshotChunk { part, data }),
            RestoreEvent::End(manifest) => Message::Trailer(convert::trailer_message(&manifest)),
            RestoreEvent::Abandon(id, detail) => Message::Abandon(v1::BootstrapAbandon {
                snapshot_id: id.to_string(),
                detail,
            }),
        };
        let response = v1::BootstrapResponse {
            message: Some(message),
        };
        match tokio::time::timeout(SEND_LIMIT, self.outgoing.send(Ok(response))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(SinkClosed),
        }
    }

    fn early_answer(&mut self) -> Option<Answer> {
        let message = self.incoming.next().now_or_never()??;
        parse_answer(message.ok()?).ok()
    }

    async fn answer(&mut self) -> Result<Answer, SinkClosed> {
        match tokio::time::timeout(ANSWER_LIMIT, self.incoming.message()).await {
            Ok(Ok(Some(message))) => parse_answer(message),
            _ => Err(SinkClosed),
        }
    }
}

fn parse_answer(request: v1::BootstrapRequest) -> Result<Answer, SinkClosed> {
    match request.message {
        Some(bootstrap_request::Message::Installed(installed)) => {
            let last_included = installed.last_included.ok_or(SinkClosed)?;
            Ok(Answer::Installed {
                snapshot_id: installed.snapshot_id,
                last_included: LogId::new(last_included.term, last_included.index),
            })
        }
        Some(bootstrap_request::Message::Rejected(rejected)) => {
            let reason = match rejected.reason() {
                v1::RejectReason::Corrupt => RejectReason::Corrupt,
                v1::RejectReason::ConfState => RejectReason::ConfState,
                v1::RejectReason::Codec => RejectReason::Codec,
                v1::RejectReason::Lineage => RejectReason::Lineage,
                v1::RejectReason::Io | v1::RejectReason::Unspecified => RejectReason::Io,
                v1::RejectReason::NotEmpty => RejectReason::NotEmpty,
            };
            Ok(Answer::Rejected {
                reason,
                detail: rejected.detail,
            })
        }
        Some(bootstrap_request::Message::Begin(_)) | None => Err(SinkClosed),
    }
}
