//! The arguments of `refbroker serve`, parsed once into types that cannot be wrong.

use std::{
    collections::BTreeMap, fmt, net::SocketAddr, num::NonZeroU64, path::PathBuf, str::FromStr,
};

use clap::{Args, ValueEnum};
use uuid::Uuid;

/// Largest broker id. Raft peer ids above it come from the allocator in `__meta`.
pub const MAX_BROKER_ID: i32 = 1000;

/// Why an argument was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Not `ID=HOST:PORT,...`.
    #[error("--peers: `{0}` is not ID=HOST:PORT")]
    Peer(String),
    /// An id outside of 1 to [`MAX_BROKER_ID`].
    #[error("broker ids are 1 to {MAX_BROKER_ID}, not {0}")]
    BrokerId(i32),
    /// Two peers with one id.
    #[error("--peers names broker {0} twice")]
    DuplicatePeer(i32),
    /// This broker is missing in the list.
    #[error("--peers does not name this broker ({0})")]
    SelfMissing(i32),
    /// Not 1 to 64 bytes of `[A-Za-z0-9_-]`.
    #[error("--cluster-id must be 1 to 64 bytes of [A-Za-z0-9_-]")]
    ClusterId,
    /// Neither a socket address nor `unix:/path`.
    #[error("`{0}` is neither HOST:PORT nor unix:/path")]
    Address(String),
    /// Neither an HTTP URL nor `unix:/path`.
    #[error("`{0}` is neither http://HOST:PORT nor unix:/path")]
    Endpoint(String),
    /// Not what restore-cluster prints.
    #[error(
        "--restore-token: `{0}` is not INCARNATION.UUID.CLUSTER_ID; give it as restore-cluster printed it"
    )]
    RestoreToken(String),
    /// Two ways to begin at once.
    #[error(
        "--restore-token names cluster and incarnation: leave --initial-cluster and another --cluster-id away"
    )]
    RestoreAndNew,
}

/// Where a gRPC server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| ConfigError::Address(text.to_owned()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where the sidecar is, as tonic wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarEndpoint(String);

impl SidecarEndpoint {
    /// The URI.
    pub fn uri(&self) -> &str {
        &self.0
    }
}

impl FromStr for SidecarEndpoint {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self(format!("unix:{path}")));
        }
        if text.starts_with("http://") {
            return Ok(Self(text.to_owned()));
        }
        Err(ConfigError::Endpoint(text.to_owned()))
    }
}

/// The other brokers (and this one) by id: `1=127.0.0.1:7101,2=...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers(pub BTreeMap<i32, String>);

impl FromStr for Peers {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut peers = BTreeMap::new();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let malformed = || ConfigError::Peer(item.to_owned());
            let (id, address) = item.split_once('=').ok_or_else(malformed)?;
            let id: i32 = id.parse().map_err(|_| malformed())?;
            if !(1..=MAX_BROKER_ID).contains(&id) {
                return Err(ConfigError::BrokerId(id));
            }
            if !address.contains(':') {
                return Err(malformed());
            }
            if peers.insert(id, address.to_owned()).is_some() {
                return Err(ConfigError::DuplicatePeer(id));
            }
        }
        Ok(Self(peers))
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object in a line.
    Json,
}

/// May this broker create a cluster?
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InitialCluster {
    /// Yes, if no configured peer belongs to one.
    New,
}

/// What restore-cluster hands to every broker: the life of the cluster that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreToken {
    /// Cluster.
    pub cluster_id: String,
    /// Life of the cluster, at least 2.
    pub incarnation: u64,
    /// The restore.
    pub restore_uuid: Uuid,
}

impl FromStr for RestoreToken {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let parse = || {
            let (incarnation, rest) = text.split_once('.')?;
            let (restore_uuid, cluster_id) = rest.split_once('.')?;
            let incarnation = incarnation.parse().ok().filter(|life| *life > 1)?;
            let restore_uuid = restore_uuid.parse().ok()?;
            let cluster_id = (!cluster_id.is_empty()).then(|| cluster_id.to_owned())?;
            Some(Self {
                cluster_id,
                incarnation,
                restore_uuid,
            })
        };
        parse().ok_or_else(|| ConfigError::RestoreToken(text.to_owned()))
    }
}

impl fmt::Display for RestoreToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster_id,
            incarnation,
            restore_uuid,
        } = self;
        write!(f, "{incarnation}.{restore_uuid}.{cluster_id}")
    }
}

/// Arguments of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Id of this broker in the cluster, 1 to 1000.
    #[arg(long)]
    pub broker_id: i32,
    /// Everything this broker keeps. Created if missing.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Where Kafka clients connect.
    #[arg(long)]
    pub kafka_listen: SocketAddr,
    /// Where the other brokers connect.
    #[arg(long)]
    pub peer_listen: SocketAddr,
    /// Where the sidecar connects: `HOST:PORT` or `unix:/path`.
    #[arg(long)]
    pub snapshot_listen: Listen,
    /// Where the sidecar listens: `http://HOST:PORT` or `unix:/path`. Without it a broker that lost its disk starts empty.
    #[arg(long)]
    pub sidecar_endpoint: Option<SidecarEndpoint>,
    /// All brokers, this one among them: `1=127.0.0.1:7101,2=127.0.0.1:7102`.
    #[arg(long)]
    pub peers: Peers,
    /// Identity of the cluster. Default for a new one: the lowest broker's replica id.
    #[arg(long)]
    pub cluster_id: Option<String>,
    /// `new` allows to create a cluster when no configured peer belongs to one.
    #[arg(long)]
    pub initial_cluster: Option<InitialCluster>,
    /// The token of `chronik-snapshotd restore-cluster`: begin the next life of a lost cluster from its snapshots. All
    /// brokers need it, and empty data directories.
    #[arg(long)]
    pub restore_token: Option<RestoreToken>,
    /// Size in bytes at which a segment is sealed. Equal on all brokers, so that they name sealed segments alike.
    #[arg(long, default_value = "16777216")]
    pub segment_bytes: NonZeroU64,
    /// Log entries that are kept for a peer that lags; one that lags more is healed with a snapshot.
    #[arg(long, default_value = "10000")]
    pub hold_entries: u64,
    /// Format of the log on stderr; `RUST_LOG` sets the level.
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

impl ServeArgs {
    /// Checks what no single argument can.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_BROKER_ID).contains(&self.broker_id) {
            return Err(ConfigError::BrokerId(self.broker_id));
        }
        if !self.peers.0.contains_key(&self.broker_id) {
            return Err(ConfigError::SelfMissing(self.broker_id));
        }
        if let Some(token) = &self.restore_token {
            let other_id = self.cluster_id.as_ref();
            let other_id = other_id.is_some_and(|id| *id != token.cluster_id);
            if self.initial_cluster.is_some() || other_id {
                return Err(ConfigError::RestoreAndNew);
            }
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        match &self.cluster_id {
            Some(id) if id.is_empty() || id.len() > 64 || !id.bytes().all(legal) => {
                Err(ConfigError::ClusterId)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_parsed_and_faults_are_named() {
        let peers: Peers = "1=127.0.0.1:1,2=h:2".parse().unwrap();
        assert_eq!(peers.0[&2], "h:2");
        assert_eq!(
            "1=a:1,1=b:1".parse::<Peers>(),
            Err(ConfigError::DuplicatePeer(1))
        );
        assert_eq!("0=a:1".parse::<Peers>(), Err(ConfigError::BrokerId(0)));
        assert!(matches!("1".parse::<Peers>(), Err(ConfigError::Peer(_))));
    }

    #[test]
    fn addresses_are_tcp_or_unix() {
        assert!(matches!("127.0.0.1:1".parse(), Ok(Listen::Tcp(_))));
        assert!(matches!("unix:/a".parse(), Ok(Listen::Unix(_))));
        assert!("nonsense".parse::<Listen>().is_err());
        let sidecar: SidecarEndpoint = "unix:/run/s.sock".parse().unwrap();
        assert_eq!(sidecar.uri(), "unix:/run/s.sock");
    }
}
