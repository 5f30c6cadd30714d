//! What can go wrong while running a cluster.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use refbroker::client::ClientError;

/// Why the harness gave up.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A file or directory of the harness.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was to be done with it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A directory that somebody else filled.
    #[error("{} is not empty and not ours: it will not be emptied", _0.display())]
    ForeignDir(PathBuf),
    /// A program is missing.
    #[error("{name} is not at {}; build it, or name it with {variable}", path.display())]
    BinaryMissing {
        /// Its name.
        name: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// Environment variable that names another place.
        variable: &'static str,
    },
    /// A process did not start.
    #[error("{name} cannot be started")]
    Spawn {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process cannot be watched or signalled.
    #[error("{name} cannot be signalled")]
    Signal {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process that must run has ended by itself.
    #[error("{name} ended by itself: {status}\n{log}")]
    Died {
        /// Its name.
        name: String,
        /// How.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A process is running that must not, or the other way round.
    #[error("{name} {state}")]
    WrongState {
        /// Its name.
        name: String,
        /// What it is.
        state: &'static str,
    },
    /// No free port was found.
    #[error("no free port between {from} and {to}")]
    NoPort {
        /// First port tried.
        from: u16,
        /// Last port tried.
        to: u16,
    },
    /// An address cannot be listened on.
    #[error("listening on {address} failed")]
    Listen {
        /// HOST:PORT.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such broker.
    #[error("the cluster has no broker {0}")]
    NoSuchNode(i32),
    /// What was waited for did not happen.
    #[error("{what} did not happen within {within:?}; last seen: {seen}\n{logs}")]
    Deadline {
        /// What.
        what: String,
        /// The time it had.
        within: Duration,
        /// The last observation.
        seen: String,
        /// The ends of the logs.
        logs: String,
    },
    /// An HTTP request failed.
    #[error("GET http://{address}{path} failed")]
    Http {
        /// HOST:PORT.
        address: String,
        /// Path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An HTTP answer is not what it must be.
    #[error("GET {path} answered status {status}")]
    HttpStatus {
        /// Path.
        path: String,
        /// HTTP status code.
        status: u16,
    },
    /// JSON that does not have the expected shape.
    #[error("unexpected JSON from {what}")]
    Json {
        /// From where.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The cluster refused, or cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl HarnessError {
    /// For `map_err` on file operations.
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// For `map_err` on binding a listener.
    pub(crate) fn listening(address: &str) -> impl FnOnce(io::Error) -> Self {
        let address = address.to_owned();
        move |source| Self::Listen { address, source }
    }
}
