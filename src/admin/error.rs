//! What can go wrong between a command and the daemon.

use std::time::Duration;

use thiserror::Error;
use tonic::Code;

use crate::{config::RouteError, error::Kind};

/// Why the daemon did not do or tell what it was asked.
#[derive(Debug, Error)]
pub enum AdminError {
    /// Nobody answers there, or the daemon is not able to now.
    #[error(
        "{call} at {endpoint} failed: {message}; is the daemon running there? set --endpoint or LISTEN"
    )]
    Unavailable {
        /// The RPC.
        call: &'static str,
        /// Where.
        endpoint: String,
        /// What was said.
        message: String,
    },
    /// It is not known how to connect.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// No channel could be built.
    #[error("no connection to {endpoint}")]
    Connect {
        /// Where.
        endpoint: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// No answer in time.
    #[error("{call} at {endpoint} got no answer within {} s", deadline.as_secs())]
    Deadline {
        /// The RPC.
        call: &'static str,
        /// Where.
        endpoint: String,
        /// The deadline.
        deadline: Duration,
    },
    /// The daemon said no.
    #[error("{message}")]
    Refused {
        /// The RPC.
        call: &'static str,
        /// How.
        code: Code,
        /// Its words.
        message: String,
    },
    /// What answers there is not this daemon, or a broken one.
    #[error("the answer to {call} at {endpoint} breaks the protocol: {problem}")]
    Broken {
        /// The RPC.
        call: &'static str,
        /// Where.
        endpoint: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// What answers there serves something else.
    #[error(
        "what answers at {endpoint} does not serve {call}: it is not chronik-snapshotd, or listens elsewhere for it"
    )]
    NotServed {
        /// The RPC.
        call: &'static str,
        /// Where.
        endpoint: String,
    },
}

impl AdminError {
    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unavailable { .. } | Self::Connect { .. } | Self::Deadline { .. } => {
                Kind::Unavailable
            }
            Self::Refused {
                code: Code::DataLoss,
                ..
            } => Kind::Corrupt,
            Self::Refused {
                code: Code::Aborted | Code::Cancelled,
                ..
            } => Kind::Cancelled,
            Self::Refused {
                code: Code::Internal,
                ..
            } => Kind::Internal,
            Self::Route(error) => error.kind(),
            Self::Refused { .. } | Self::Broken { .. } | Self::NotServed { .. } => Kind::Invalid,
        }
    }

    /// True when the daemon knows no such partition.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::NotFound,
                ..
            }
        )
    }
}
