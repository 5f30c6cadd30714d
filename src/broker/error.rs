//! What can go wrong between the broker and us.

use std::time::Duration;

use thiserror::Error;

use super::StreamViolation;
use crate::error::{InvalidName, Kind};

/// Why the broker refused, from the `ErrorInfo` of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another cluster, incarnation or topic life.
    LineageMismatch,
    /// The broker restarted since it was asked who it is.
    BootIdMismatch,
    /// No such replica runs there.
    NotHosted,
    /// Beyond the applied index.
    NotApplied,
    /// Beyond the persisted state.
    NotPersisted,
    /// The replica's own term at the index is another one: the logs diverged.
    TermMismatch,
    /// Something needs the log for now.
    Held,
    /// Nothing was applied beyond the asked index.
    NothingNewer,
    /// The pinned view was given up.
    PinExpired,
    /// Too many streams.
    TooManyStreams,
    /// No common protocol version.
    UnsupportedProtocol,
    /// A refusal without a reason that we know.
    Other,
}

impl Refusal {
    /// Label for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LineageMismatch => "lineage_mismatch",
            Self::BootIdMismatch => "boot_id_mismatch",
            Self::NotHosted => "not_hosted",
            Self::NotApplied => "not_applied",
            Self::NotPersisted => "not_persisted",
            Self::TermMismatch => "term_mismatch",
            Self::Held => "held",
            Self::NothingNewer => "nothing_newer",
            Self::PinExpired => "pin_expired",
            Self::TooManyStreams => "too_many_streams",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::Other => "other",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::TooManyStreams | Self::PinExpired | Self::Held => Kind::Unavailable,
            Self::LineageMismatch
            | Self::BootIdMismatch
            | Self::NotHosted
            | Self::NotApplied
            | Self::NotPersisted
            | Self::NothingNewer => Kind::Conflict,
            Self::TermMismatch | Self::UnsupportedProtocol | Self::Other => Kind::Invalid,
        }
    }
}

/// Errors of the broker seam.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// The broker could not be reached or broke off.
    #[error("the broker could not be reached during {call}: {source}")]
    Unreachable {
        /// The RPC.
        call: &'static str,
        /// Cause.
        source: Box<tonic::Status>,
    },
    /// No channel could be built.
    #[error("no connection to the broker at {endpoint}: {source}")]
    Connect {
        /// Where.
        endpoint: String,
        /// Cause.
        source: tonic::transport::Error,
    },
    /// No answer in time.
    #[error("the broker did not answer {call} within {} s", deadline.as_secs())]
    Deadline {
        /// The RPC.
        call: &'static str,
        /// The deadline.
        deadline: Duration,
    },
    /// An export brought no message for too long.
    #[error("the export brought no message for {} s", idle.as_secs())]
    Stalled {
        /// How long.
        idle: Duration,
    },
    /// The broker said no.
    #[error("the broker refused {call} ({}): {message}", refusal.as_str())]
    Refused {
        /// The RPC.
        call: &'static str,
        /// Why.
        refusal: Refusal,
        /// Its words.
        message: String,
    },
    /// A field of an answer breaks its rule.
    #[error("the broker's answer to {call} breaks the protocol: {field} is missing")]
    Missing {
        /// The RPC.
        call: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field of an answer is out of range.
    #[error("the broker's answer to {call} breaks the protocol: {field} is {value}")]
    OutOfRange {
        /// The RPC.
        call: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A name in an answer is illegal.
    #[error("the broker's answer to {call} breaks the protocol: {source}")]
    Name {
        /// The RPC.
        call: &'static str,
        /// Cause.
        source: InvalidName,
    },
    /// More replicas than a sidecar can look after.
    #[error("the broker lists more than {max} replicas")]
    TooManyReplicas {
        /// The limit.
        max: usize,
    },
    /// The export broke a rule.
    #[error("the export breaks the protocol: {0}")]
    Stream(#[from] StreamViolation),
}

impl BrokerError {
    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. }
            | Self::Connect { .. }
            | Self::Deadline { .. }
            | Self::Stalled { .. } => Kind::Unavailable,
            Self::Refused { refusal, .. } => refusal.kind(),
            Self::Missing { .. }
            | Self::OutOfRange { .. }
            | Self::Name { .. }
            | Self::TooManyReplicas { .. } => Kind::Invalid,
            Self::Stream(violation) => violation.kind(),
        }
    }

    /// The broker's reason, when it refused.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }
}
