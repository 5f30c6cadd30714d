//! Configuration, parsed once into types that cannot be wrong.
//!
//! Sources, strongest first: flags, environment, file, defaults. Every source is read as raw text and merged; the
//! text is then parsed by the [table of options](options::TABLE). All faults are told at once.

mod build;
mod callee;
mod endpoint;
mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod layers;
mod network;
pub mod object_store;
pub mod options;
mod security;
mod store;
mod topics;
mod traces;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    time::Duration,
};

use figment::Figment;

pub use build::Setting;
pub use callee::{Callee, ClientTls, RouteError};
pub use endpoint::{Endpoint, EndpointError};
pub use fault::{ConfigError, Fault, Layer, PrefixFault, Problem, Source, Warning};
pub use layers::{FlagValue, Sources};
pub use security::Allowed;
pub use store::parse_prefix;
pub use topics::{BadPattern, TopicFilter};

use crate::{
    channel::TlsFiles,
    format::Compression,
    policy::{self, VerifyLevel},
};

/// Everything that an operator can choose. Each field is described in docs/CONFIGURATION.md.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent option"
)]
#[derive(Debug, Clone)]
pub struct Config {
    /// False = the loop does not run; Bootstrap, metrics and health do.
    pub enabled: bool,
    /// When to snapshot, how far to truncate, what to keep.
    pub policy: policy::Options,
    /// Longest time between two ticks; at most 300 s.
    pub check_interval: Duration,
    /// Snapshots that run at one time.
    pub max_concurrent: NonZeroUsize,
    /// How new snapshots are stored.
    pub compression: Compression,
    /// Blocks that are worked on at one time.
    pub compression_threads: NonZeroUsize,
    /// Every so many snapshots of a partition one is complete; 1 = all of them.
    pub full_every: NonZeroU32,
    /// How much is read back.
    pub verify: VerifyLevel,
    /// Time between the mark on a data object and its deletion; at least 1 s.
    pub delete_grace: Duration,
    /// Topics that are looked after.
    pub topics: TopicFilter,
    /// Where the broker is, and what it must show; never port 0.
    pub broker: Callee,
    /// Where the sidecar's own services listen; local or encrypted, unless the operator accepted the risk.
    pub listen: Endpoint,
    /// Our certificate there, if `listen` is encrypted, and the authorities of clients, which then need certificates.
    pub listen_tls: Option<TlsFiles>,
    /// What commands that call this daemon show and expect, if it is encrypted.
    pub daemon_tls: Option<ClientTls>,
    /// Where metrics are served.
    pub metrics_listen: SocketAddr,
    /// The status page is served there, too, to callers on this host.
    pub status_page: bool,
    /// Connections that are open at one time, at each of the two addresses.
    pub max_connections: NonZeroUsize,
    /// Who may use Bootstrap.
    pub bootstrap_allowed: Allowed,
    /// Who may use what changes something in the admin service.
    pub admin_allowed: Allowed,
    /// False = every Bootstrap call is answered with DISABLED.
    pub bootstrap_enabled: bool,
    /// Restores that run at one time; at most 16.
    pub max_concurrent_restores: NonZeroUsize,
    /// Between two drills; none = there are none.
    pub drill_interval: Option<Duration>,
    /// Limit on stored bytes that drills read; none = no limit.
    pub max_drill_bytes_per_sec: Option<NonZeroU64>,
    /// Limit on stored bytes sent; none = no limit.
    pub max_upload_bytes_per_sec: Option<NonZeroU64>,
    /// Limit on raw bytes read from the broker; none = no limit.
    pub max_export_bytes_per_sec: Option<NonZeroU64>,
    /// Read state more slowly while producers wait longer than before.
    pub give_way: bool,
    /// An export or an upload that makes no progress for this long is given up; at least 1 s.
    pub progress_timeout: Duration,
    /// Time that running work gets at shutdown.
    pub shutdown_grace: Duration,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where spans are sent; only with the cargo feature `otlp`.
    pub otlp_endpoint: Option<Endpoint>,
    /// Where the snapshots are.
    pub store: object_store::ObjectStoreConfig,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives that `tracing_subscriber::EnvFilter` has accepted.
    pub filter: String,
    /// Form of a line.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// What the sources amount to.
#[derive(Debug)]
pub struct Loaded {
    /// The effective text of every option, in the order of the table, whether legal or not.
    pub settings: Vec<Setting>,
    /// Legal, but worth a word.
    pub warnings: Vec<Warning>,
    /// The configuration, or everything that is wrong with it.
    pub config: Result<Config, ConfigError>,
}

/// Reads and checks all sources. Reads files; has no other effect.
pub fn load(sources: &Sources) -> Loaded {
    load_with(sources, true)
}

/// The same for a command that is not the daemon: certificates and keys are not looked at before they are needed, as
/// whoever runs it may not be allowed to read them.
pub fn load_for_command(sources: &Sources) -> Loaded {
    load_with(sources, false)
}

fn load_with(sources: &Sources, opens_keys: bool) -> Loaded {
    let (layers, faults) = layers::read(sources);
    let figment = layers.into_iter().fold(Figment::new(), Figment::merge);
    let mut reader = build::Reader::new(&figment, faults);
    reader.opens_keys = opens_keys;
    let mut warnings = Vec::new();
    let config = build::config(&mut reader, &mut warnings);
    let settings = build::settings(&reader);
    let faults = reader.faults;
    let config = match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(ConfigError { faults }),
    };
    Loaded {
        settings,
        warnings,
        config,
    }
}

/// The daemon at `endpoint`, else where LISTEN says, for commands that only call it: faults of other options do not
/// matter to them.
pub fn daemon(sources: &Sources, endpoint: Option<Endpoint>) -> Result<Callee, ConfigError> {
    let (layers, faults) = layers::read(sources);
    let figment = layers.into_iter().fold(Figment::new(), Figment::merge);
    let matters = |fault: &Fault| {
        let unread = matches!(
            fault.problem,
            Problem::Unreadable { .. } | Problem::Syntax { .. }
        );
        unread || fault.key == options::LISTEN.key || fault.key.starts_with("ADMIN_TLS_")
    };
    let faults = faults.into_iter().filter(matters).collect();
    let mut reader = build::Reader::new(&figment, faults);
    let callee = security::daemon(&mut reader, endpoint);
    let faults = reader.faults;
    match callee {
        Some(callee) if faults.is_empty() => Ok(callee),
        _ => Err(ConfigError { faults }),
    }
}

#[cfg(test)]
mod tests;
