//! Exit codes. Scripts and supervisors rely on them.

use std::process::{ExitCode, Termination};

use crate::error::Kind;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Done.
    Ok,
    /// It failed; the last line on standard error says why.
    Failure,
    /// The command line is not understood.
    Usage,
    /// Everything could be asked, and what was asked for is not there.
    NotFound,
    /// Bytes are not what their checksum says.
    NotVerified,
    /// The store, the broker or the daemon could not be reached or does not answer in time: nothing is known.
    Unavailable,
    /// The configuration is wrong: starting again is no use until it is changed.
    Configuration,
}

impl ExitStatus {
    /// Every status, for the documentation.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::NotFound,
        Self::NotVerified,
        Self::Unavailable,
        Self::Configuration,
    ];

    /// The code. 69 and 78 are `EX_UNAVAILABLE` and `EX_CONFIG` of sysexits.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 4,
            Self::NotVerified => 5,
            Self::Unavailable => 69,
            Self::Configuration => 78,
        }
    }

    /// How a failure of this kind ends the process.
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Unavailable => Self::Unavailable,
            Kind::Corrupt => Self::NotVerified,
            Kind::Conflict | Kind::Invalid | Kind::Cancelled | Kind::Internal => Self::Failure,
        }
    }
}

impl Termination for ExitStatus {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}
