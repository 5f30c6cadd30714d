//! Exit codes. Scripts and supervisors rely on them.

use std::process::{ExitCode, Termination};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Done.
    Ok,
    /// It failed; the last log line says why.
    Failure,
    /// The command line is not understood.
    Usage,
    /// The configuration is wrong: starting again is no use until it is changed.
    Configuration,
}

impl ExitStatus {
    /// The code. 78 is `EX_CONFIG` of sysexits.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Configuration => 78,
        }
    }
}

impl Termination for ExitStatus {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}
