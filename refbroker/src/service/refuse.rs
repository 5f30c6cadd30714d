//! Refusals in the words of the contract: a gRPC status with an `ErrorInfo`.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    driver::input::{CompactRefusal, ExportRefusal},
    proto::v1::ErrorReason,
};

/// Domain of every `ErrorInfo`.
pub const DOMAIN: &str = "chronik.snapshot.v1";

/// The status code that the contract gives a reason.
fn code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::BootIdMismatch | ErrorReason::PinExpired | ErrorReason::Superseded => {
            Code::Aborted
        }
        ErrorReason::NotHosted => Code::NotFound,
        ErrorReason::TooManyStreams => Code::ResourceExhausted,
        ErrorReason::StoreUnavailable
        | ErrorReason::ShuttingDown
        | ErrorReason::BrokerUnreachable => Code::Unavailable,
        ErrorReason::NoSnapshotVerifies => Code::DataLoss,
        ErrorReason::InvalidRequest => Code::InvalidArgument,
        ErrorReason::Unspecified => Code::Internal,
        ErrorReason::LineageMismatch
        | ErrorReason::NotApplied
        | ErrorReason::NotPersisted
        | ErrorReason::TermMismatch
        | ErrorReason::Held
        | ErrorReason::NothingNewer
        | ErrorReason::UnsupportedProtocol
        | ErrorReason::StoreIdentity
        | ErrorReason::Paused => Code::FailedPrecondition,
    }
}

/// A refusal.
pub fn refuse(reason: ErrorReason, message: impl Into<String>) -> Status {
    let name = reason.as_str_name();
    let name = name.strip_prefix("ERROR_REASON_").unwrap_or(name);
    let details = ErrorDetails::with_error_info(name, DOMAIN, HashMap::new());
    Status::with_error_details(code(reason), message, details)
}

/// A malformed request.
pub fn invalid(field: &str) -> Status {
    refuse(
        ErrorReason::InvalidRequest,
        format!("`{field}` is missing or out of range"),
    )
}

/// Refusal of an export.
pub fn export(refusal: &ExportRefusal) -> Status {
    match refusal {
        ExportRefusal::NotHosted => refuse(ErrorReason::NotHosted, "no such replica runs here"),
        ExportRefusal::NothingNewer(applied) => refuse(
            ErrorReason::NothingNewer,
            format!("applied up to {applied}"),
        ),
        ExportRefusal::Storage => Status::internal("the broker's storage failed"),
    }
}

/// Refusal of a compaction.
pub fn compaction(refusal: &CompactRefusal) -> Status {
    match refusal {
        CompactRefusal::NotHosted => refuse(ErrorReason::NotHosted, "no such replica runs here"),
        CompactRefusal::NotApplied(applied) => {
            refuse(ErrorReason::NotApplied, format!("applied up to {applied}"))
        }
        CompactRefusal::NotPersisted(persisted) => refuse(
            ErrorReason::NotPersisted,
            format!("persisted up to {persisted}"),
        ),
        CompactRefusal::TermMismatch(own) => refuse(
            ErrorReason::TermMismatch,
            format!("this replica has term {own} there: the logs have diverged"),
        ),
        CompactRefusal::Held(index, reason) => refuse(
            ErrorReason::Held,
            format!("needed from index {index} on: {reason}"),
        ),
        CompactRefusal::Storage => Status::internal("the broker's storage failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_reason_and_domain() {
        let status = refuse(ErrorReason::TermMismatch, "x");
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_error_details().error_info().cloned().unwrap();
        assert_eq!(info.reason, "TERM_MISMATCH");
        assert_eq!(info.domain, DOMAIN);
    }
}
