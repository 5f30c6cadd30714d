//! Listening sockets. A stale Unix socket is removed only after nobody answered on it.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use thiserror::Error;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::config::Endpoint;

/// Owner and group may connect: the broker runs under the same group.
const SOCKET_MODE: u32 = 0o660;

/// A bound gRPC listener.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket.
    Unix(UnixListener),
}

/// Where it listens, with the port that the system chose for port 0.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => f.write_str("unknown"),
            },
            Self::Unix(listener) => match listener.local_addr() {
                Ok(address) => write!(
                    f,
                    "unix:{}",
                    address.as_pathname().unwrap_or(Path::new("")).display()
                ),
                Err(_) => f.write_str("unknown"),
            },
        }
    }
}

/// Why an address could not be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// TCP.
    #[error("cannot listen on {address}: {source}")]
    Tcp {
        /// Where.
        address: String,
        /// Cause.
        source: io::Error,
    },
    /// Unix socket.
    #[error("cannot listen on unix:{}: {source}", path.display())]
    Unix {
        /// Where.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Another process answers there.
    #[error("another process listens on unix:{}", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
}

/// Binds a gRPC endpoint.
pub async fn bind(endpoint: &Endpoint) -> Result<Listener, ListenError> {
    match endpoint {
        Endpoint::Tcp { host, port } => {
            let listener = TcpListener::bind((host.as_str(), *port)).await;
            listener
                .map(Listener::Tcp)
                .map_err(|source| ListenError::Tcp {
                    address: format!("{host}:{port}"),
                    source,
                })
        }
        Endpoint::Unix(path) => bind_unix(path).await.map(Listener::Unix),
    }
}

/// Binds the HTTP address.
pub async fn bind_http(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError::Tcp {
            address: address.to_string(),
            source,
        })
}

async fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Unix {
        path: path.to_owned(),
        source,
    };
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(ListenError::InUse {
                path: path.to_owned(),
            });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    Ok(listener)
}
