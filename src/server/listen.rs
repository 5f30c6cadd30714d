//! Listening sockets. A stale Unix socket is removed only after nobody answered on it.

use std::{
    fmt,
    fs::{File, Permissions, TryLockError},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;
use thiserror::Error;
use tokio::{
    net::{TcpListener, UnixListener, UnixSocket, UnixStream},
    time::{Instant, sleep},
};

use crate::config::Endpoint;

/// Owner and group may connect: the broker runs under the same group.
const SOCKET_MODE: u32 = 0o660;

/// Nobody else can open the file that is locked, and so hold the start up.
const LOCK_MODE: u32 = 0o600;
/// Another process that starts has bound its socket, or failed, by then.
const TURN_LIMIT: Duration = Duration::from_secs(5);
const TURN_PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A bound listener.
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

impl Listener {
    /// How callers on this host reach it with a browser, under a name of loopback; none = they do not.
    pub fn local_url(&self) -> Option<String> {
        let Self::Tcp(listener) = self else {
            return None;
        };
        let address = listener.local_addr().ok()?;
        let named = [
            Ipv4Addr::LOCALHOST.into(),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
        if address.ip().is_unspecified() {
            return Some(format!("http://localhost:{}/", address.port()));
        }
        named
            .contains(&address.ip())
            .then(|| format!("http://{address}/"))
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
    /// Something else lies there.
    #[error("unix:{} is there and is not a socket; remove it", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// Another process answers there, or may do so.
    #[error("another process listens on unix:{}", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
}

/// Binds a gRPC endpoint.
pub async fn bind(endpoint: &Endpoint) -> Result<Listener, ListenError> {
    match endpoint {
        Endpoint::Tcp { host, port, .. } => {
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
pub async fn bind_http(address: SocketAddr) -> Result<Listener, ListenError> {
    TcpListener::bind(address)
        .await
        .map(Listener::Tcp)
        .map_err(|source| ListenError::Tcp {
            address: address.to_string(),
            source,
        })
}

/// Nobody else can connect, also not for a moment: there is no listener before the permissions are right.
async fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Unix {
        path: path.to_owned(),
        source,
    };
    let _turn = turn(path).await.map_err(failed)?;
    remove_stale(path).await?;
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)
}

/// Two processes that start at one time must not take each other's socket for a stale one: a file beside it is locked until
/// it is dropped.
async fn turn(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let of_lock =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", name.display()));
    let mut options = File::options();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .mode(LOCK_MODE);
    let file = options.open(&name).map_err(of_lock)?;
    let deadline = Instant::now() + TURN_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(of_lock(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let locked = io::Error::other("another process that starts has locked it");
                return Err(of_lock(locked));
            }
            Err(TryLockError::WouldBlock) => sleep(TURN_PAUSE).await,
        }
    }
}

/// Removes the socket of a process that is gone, and nothing else.
async fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Unix {
        path: path.to_owned(),
        source,
    };
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket {
            path: path.to_owned(),
        });
    }
    match UnixStream::connect(path).await {
        // Anything but this may come from a process that lives: too many callers wait, or we may not connect.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Ok(_) | Err(_) => Err(ListenError::InUse {
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdListener;

    use super::*;

    fn dir() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        (dir, path)
    }

    #[tokio::test]
    async fn a_socket_is_for_owner_and_group() {
        let (_dir, path) = dir();
        let _listener = bind_unix(&path).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let (_dir, path) = dir();
        drop(StdListener::bind(&path).unwrap());
        let live = bind_unix(&path).await.unwrap();
        let second = bind_unix(&path).await;
        assert!(
            matches!(second, Err(ListenError::InUse { .. })),
            "{second:?}"
        );
        drop(live);
        assert!(bind_unix(&path).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let (dir, path) = dir();
        std::fs::write(&path, "precious").unwrap();
        let bound = bind_unix(&path).await;
        assert!(
            matches!(bound, Err(ListenError::NotASocket { .. })),
            "{bound:?}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        // Nor is anything reached through a link.
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let bound = bind_unix(&link).await;
        assert!(
            matches!(bound, Err(ListenError::NotASocket { .. })),
            "{bound:?}"
        );
    }

    #[tokio::test]
    async fn a_process_that_is_busy_keeps_its_socket() {
        let (_dir, path) = dir();
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let _full = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = std::os::unix::net::UnixStream::connect(&path)
            .and_then(|stream| stream.set_nonblocking(true).map(|()| stream))
        {
            waiting.push(stream);
            if waiting.len() == 2 {
                break;
            }
        }
        let second = bind_unix(&path).await;
        assert!(
            matches!(second, Err(ListenError::InUse { .. })),
            "{second:?}"
        );
    }

    #[tokio::test]
    async fn who_listens_on_loopback_has_an_address_for_a_browser() {
        for (listen, url) in [
            ("0.0.0.0:0", "http://localhost:"),
            ("127.0.0.1:0", "http://127.0.0.1:"),
        ] {
            let listener = bind_http(listen.parse().unwrap()).await.unwrap();
            let found = listener.local_url().unwrap();
            assert!(found.starts_with(url) && found.ends_with('/'), "{found}");
        }
        let elsewhere = bind_http("127.0.0.2:0".parse().unwrap()).await.unwrap();
        assert_eq!(elsewhere.local_url(), None);
        let (_dir, path) = dir();
        let socket = Listener::Unix(bind_unix(&path).await.unwrap());
        assert_eq!(socket.local_url(), None);
    }

    #[tokio::test]
    async fn one_after_the_other() {
        let (_dir, path) = dir();
        let other = turn(&path).await.unwrap();
        let lock = path.with_extension("sock.lock");
        let mode = std::fs::metadata(lock).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, LOCK_MODE);
        let mut waiting = Box::pin(bind_unix(&path));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        assert!(!path.exists());
        drop(other);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let (_dir, path) = dir();
        let _other = turn(&path).await.unwrap();
        let second = bind_unix(&path).await;
        assert!(
            matches!(second, Err(ListenError::Unix { .. })),
            "{second:?}"
        );
    }
}
