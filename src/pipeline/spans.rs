//! Spans of a visit, of its stages, and of what Bootstrap sends: the context of log lines, and a trace where one is wanted.

use tracing::{Instrument as _, Span, field::Empty, info_span};

use super::{PipelineError, RestoreError, VisitReport, VisitRequest, restore::Attempt};
use crate::{
    error::chain,
    format::SnapshotId,
    telemetry::{Operation, traces},
};

/// The visit, which begins a trace.
pub(super) fn visit(request: &VisitRequest) -> Span {
    let span = info_span!(
        "visit",
        partition = %request.replica.partition,
        broker_id = request.info.broker_id,
        trace_id = Empty,
        decision = Empty,
        snapshot_id = Empty,
        outcome = Empty,
    );
    traces::identify(&span);
    span
}

/// What came of the visit.
pub(super) fn visited(span: &Span, report: &VisitReport) {
    if let Some(decision) = report.decision {
        span.record("decision", tracing::field::display(decision));
    }
    if let Some(snapshot_id) = report.snapshot {
        span.record("snapshot_id", tracing::field::display(snapshot_id));
    }
    let Some(error) = &report.error else {
        span.record("outcome", "success");
        return;
    };
    span.record("outcome", error.kind().as_str());
    traces::failed(span, chain(error));
}

/// One of the operations that are counted.
pub(super) fn operation(operation: Operation) -> Span {
    match operation {
        Operation::Snapshot => info_span!("snapshot", snapshot_id = Empty),
        Operation::Verify => info_span!("verify"),
        Operation::Compact => info_span!("compact"),
        Operation::Retention => info_span!("retention"),
        Operation::Sweep => info_span!("sweep"),
    }
}

/// Does `work` inside `span`, which fails with it.
pub(super) async fn within<T>(
    span: Span,
    work: impl Future<Output = Result<T, PipelineError>>,
) -> Result<T, PipelineError> {
    // Boxed: a future that is handed on and awaited takes its place twice.
    let result = Box::pin(work).instrument(span.clone()).await;
    if let Err(error) = &result {
        traces::failed(&span, chain(error));
    }
    result
}

/// Offers one snapshot to the broker.
pub(super) async fn install(
    id: SnapshotId,
    attempt: impl Future<Output = Result<Attempt, RestoreError>>,
) -> Result<Attempt, RestoreError> {
    let span = info_span!("install", snapshot_id = %id);
    let tried = attempt.instrument(span.clone()).await;
    match &tried {
        Ok(Attempt::Installed(_)) => {}
        Ok(Attempt::Damaged(problem, _) | Attempt::Rejected(problem)) => {
            traces::failed(&span, problem.clone());
        }
        Err(error) => traces::failed(&span, chain(error)),
    }
    tried
}
