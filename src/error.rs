//! What a caller must do about an error: the kind alone decides retries and the gRPC status.
//!
//! Every module has one error enum; each tells its [`Kind`]. Errors are logged once, where they are handled.

use thiserror::Error;

/// What a caller must do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The other side could not be reached or did not answer in time: nothing is known, retry with back-off.
    Unavailable,
    /// The world changed under the caller: look again, decide again.
    Conflict,
    /// The request or the data breaks a rule: repeating it is no use.
    Invalid,
    /// Bytes are not what their digest says, or a thing that must exist is gone.
    Corrupt,
    /// The caller gave up or the process is stopping.
    Cancelled,
    /// A defect of ours.
    Internal,
}

impl Kind {
    /// Label for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Corrupt => "corrupt",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// Every kind, for initialising metric series.
    pub const ALL: [Self; 6] = [
        Self::Unavailable,
        Self::Conflict,
        Self::Invalid,
        Self::Corrupt,
        Self::Cancelled,
        Self::Internal,
    ];
}

/// The error and everything behind it in one line, for logs and status. A cause that a message quotes already is
/// not told twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A name or identifier that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// Topic name too short or too long.
    #[error("topic name has {len_bytes} bytes; it must have 1 to 249")]
    TopicLength {
        /// Its length.
        len_bytes: usize,
    },
    /// Partition number out of range.
    #[error("partition number {partition} is out of range; it must be 0 to 2147483647")]
    PartitionNumber {
        /// The number.
        partition: u32,
    },
    /// Not `topic/number`.
    #[error("{value:?} is not a partition; write topic/number")]
    Partition {
        /// The text, cut to 300 characters.
        value: String,
    },
    /// Opaque identifier with illegal bytes.
    #[error("{field} is {value:?}; it must be 1 to 64 bytes of [A-Za-z0-9_-]")]
    Id {
        /// Field name.
        field: &'static str,
        /// Value, cut to 80 characters.
        value: String,
    },
    /// Incarnations start at 1.
    #[error("incarnation is 0; incarnations start at 1")]
    Incarnation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Error)]
    #[error("no answer")]
    struct Inner;

    #[derive(Debug, Error)]
    #[error("the store failed")]
    struct Silent(#[source] Inner);

    #[derive(Debug, Error)]
    #[error("cannot start: {0}")]
    struct Outer(#[source] Silent);

    #[test]
    fn every_cause_is_told_once() {
        let told = chain(&Outer(Silent(Inner)));
        assert_eq!(told, "cannot start: the store failed: no answer");
    }
}
