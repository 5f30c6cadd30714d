//! The socket of LISTEN, if a supervisor listens on it for this process: systemd with a socket unit. It is there before the
//! process is and stays while it restarts, so that callers wait instead of being refused.

use std::{
    io,
    net::TcpListener as StdTcpListener,
    os::unix::{
        fs::PermissionsExt as _,
        net::{SocketAddr as UnixAddr, UnixListener as StdUnixListener},
    },
    path::PathBuf,
};

use listenfd::ListenFd;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

use super::listen::Listener;
use crate::{config::Endpoint, error::Kind};

/// Bits that let every user of the host connect.
const OTHERS: u32 = 0o007;

/// A listening socket that came with the process.
#[derive(Debug)]
pub enum Handed {
    /// TCP.
    Tcp(StdTcpListener),
    /// Unix socket.
    Unix(StdUnixListener),
}

/// Why a socket that came with the process is not listened on.
#[derive(Debug, Error)]
pub enum HandedError {
    /// More than LISTEN.
    #[error("the supervisor handed {0} sockets over; hand over one, which is LISTEN")]
    TooMany(usize),
    /// No stream socket.
    #[error("the supervisor handed over what is neither a TCP nor a Unix stream socket: {0}")]
    Kind(io::Error),
    /// Not LISTEN.
    #[error("the supervisor listens on {handed}, and LISTEN is {listen}: make them the same")]
    Elsewhere {
        /// Of the socket.
        handed: String,
        /// LISTEN.
        listen: String,
    },
    /// Every user of the host may connect.
    #[error("unix:{} has mode {mode:04o}: set SocketMode=0660 in the socket unit", path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The system.
    #[error("the socket that the supervisor handed over cannot be used: {0}")]
    Io(#[from] io::Error),
}

impl HandedError {
    /// What must be done: all but the system's own errors stay until somebody changes a unit or LISTEN.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Io(_) => Kind::Unavailable,
            Self::TooMany(_) | Self::Kind(_) | Self::Elsewhere { .. } | Self::Open { .. } => {
                Kind::Invalid
            }
        }
    }
}

impl Handed {
    /// Takes it. The environment changes: to be called before any other thread runs.
    pub fn take() -> Result<Option<Self>, HandedError> {
        let mut sockets = ListenFd::from_env();
        match sockets.len() {
            0 => return Ok(None),
            1 => {}
            many => return Err(HandedError::TooMany(many)),
        }
        if let Ok(unix) = sockets.take_unix_listener(0) {
            return Ok(unix.map(Self::Unix));
        }
        let tcp = sockets.take_tcp_listener(0).map_err(HandedError::Kind)?;
        Ok(tcp.map(Self::Tcp))
    }

    /// Listens, if it is what LISTEN says.
    pub fn listen(self, endpoint: &Endpoint) -> Result<Listener, HandedError> {
        let is_meant = match &self {
            Self::Tcp(socket) => endpoint.socket_addr() == Some(socket.local_addr()?),
            Self::Unix(socket) => {
                let address = socket.local_addr()?;
                address.as_pathname().is_some() && address.as_pathname() == endpoint.unix_path()
            }
        };
        if !is_meant {
            return Err(HandedError::Elsewhere {
                handed: self.address()?,
                listen: endpoint.to_string(),
            });
        }
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Listener::Tcp(TcpListener::from_std(socket)?))
            }
            Self::Unix(socket) => {
                check_mode(&socket.local_addr()?)?;
                socket.set_nonblocking(true)?;
                Ok(Listener::Unix(UnixListener::from_std(socket)?))
            }
        }
    }

    fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(socket) => socket.local_addr()?.to_string(),
            Self::Unix(socket) => match socket.local_addr()?.as_pathname() {
                Some(path) => format!("unix:{}", path.display()),
                None => "a Unix socket without a path".to_owned(),
            },
        })
    }
}

fn check_mode(address: &UnixAddr) -> Result<(), HandedError> {
    let Some(path) = address.as_pathname() else {
        return Ok(());
    };
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        let path = path.to_owned();
        return Err(HandedError::Open { path, mode });
    }
    Ok(())
}
