//! How a conversation ends, in words of the protocol.

use tonic::{Code, Status};
use tracing::Span;

use super::MAX_CONVERSATIONS;
use crate::{
    error::{Kind, chain},
    pipeline::{RestoreError, RestoreOutcome, Stage},
    proto::v1::{self, bootstrap_response},
    server::convert,
    telemetry::BootstrapResult,
};

pub(super) fn too_many() -> Status {
    let message =
        format!("{MAX_CONVERSATIONS} bootstraps are waiting or running already; try again");
    convert::refusal(
        Code::ResourceExhausted,
        v1::ErrorReason::TooManyStreams,
        message,
    )
}

pub(super) fn superseded_status() -> (BootstrapResult, Status) {
    let message = "a newer call for this partition took this one's place";
    let status = convert::refusal(Code::Aborted, v1::ErrorReason::Superseded, message);
    (BootstrapResult::Superseded, status)
}

pub(super) fn stopping_status() -> (BootstrapResult, Status) {
    let status = convert::refusal(
        Code::Unavailable,
        v1::ErrorReason::ShuttingDown,
        "the sidecar is stopping",
    );
    (BootstrapResult::Cancelled, status)
}

pub(super) fn outcome_message(outcome: v1::BootstrapOutcome) -> v1::BootstrapResponse {
    v1::BootstrapResponse {
        message: Some(bootstrap_response::Message::Outcome(outcome)),
    }
}

pub(super) fn answer(outcome: &RestoreOutcome) -> (BootstrapResult, v1::BootstrapResponse) {
    let (label, result, detail) = match outcome {
        RestoreOutcome::Installed { .. } => (
            BootstrapResult::Installed,
            v1::BootstrapResult::Installed,
            "",
        ),
        RestoreOutcome::UseLocal => (
            BootstrapResult::UseLocal,
            v1::BootstrapResult::UseLocal,
            "the local state is intact",
        ),
        RestoreOutcome::NoSnapshot => (
            BootstrapResult::NoSnapshot,
            v1::BootstrapResult::NoSnapshot,
            "no snapshot of this lineage exists",
        ),
        RestoreOutcome::NotCovered { detail } => (
            BootstrapResult::NotCovered,
            v1::BootstrapResult::NotCovered,
            detail.as_str(),
        ),
    };
    let mut message = v1::BootstrapOutcome {
        result: result.into(),
        detail: detail.to_owned(),
        ..v1::BootstrapOutcome::default()
    };
    if let RestoreOutcome::Installed { id, last_included } = outcome {
        Span::current().record("snapshot_id", tracing::field::display(id));
        message.snapshot_id = id.to_string();
        message.last_included = Some(convert::wire_log_id(*last_included));
    }
    (label, outcome_message(message))
}

/// The error of a restore as a status. An unreadable store is UNAVAILABLE, never an outcome.
pub(super) fn failure(error: &RestoreError) -> (BootstrapResult, Status) {
    use v1::ErrorReason;
    let kind = error.kind();
    let identity = matches!(error, RestoreError::Pipeline(error) if error.stage == Stage::Identity && error.is_store());
    let (label, code, reason) = match (error, kind) {
        (
            RestoreError::NotOurBroker {
                field: "boot_id", ..
            },
            _,
        ) => (
            BootstrapResult::Refused,
            Code::FailedPrecondition,
            ErrorReason::BootIdMismatch,
        ),
        (RestoreError::NotOurBroker { .. }, _) => (
            BootstrapResult::Identity,
            Code::FailedPrecondition,
            ErrorReason::LineageMismatch,
        ),
        (RestoreError::NoneVerifies { .. }, _) => (
            BootstrapResult::NoneVerifies,
            Code::DataLoss,
            ErrorReason::NoSnapshotVerifies,
        ),
        (RestoreError::BrokerGaveUp(_) | RestoreError::Closed(_), _) => (
            BootstrapResult::Cancelled,
            Code::Aborted,
            ErrorReason::Unspecified,
        ),
        (RestoreError::Pipeline(error), Kind::Unavailable) if !error.is_store() => (
            BootstrapResult::BrokerUnreachable,
            Code::Unavailable,
            ErrorReason::BrokerUnreachable,
        ),
        (RestoreError::Pipeline(_), Kind::Unavailable | Kind::Cancelled) => (
            BootstrapResult::StoreUnavailable,
            Code::Unavailable,
            ErrorReason::StoreUnavailable,
        ),
        (RestoreError::Pipeline(_), _) if identity => (
            BootstrapResult::Identity,
            Code::FailedPrecondition,
            ErrorReason::StoreIdentity,
        ),
        (RestoreError::Pipeline(_), kind) => (
            BootstrapResult::Failed,
            convert::code_of(kind),
            ErrorReason::Unspecified,
        ),
    };
    (label, convert::refusal(code, reason, chain(error)))
}
