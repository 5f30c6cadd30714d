//! Connections as they come in: so many and no more, encrypted if that is asked for, and ended when they stay silent.
//!
//! The handshakes of many clients run at one time, so a slow one keeps nobody waiting.

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered, Stream},
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{
    Listener,
    connection::{Connection, Socket},
};
use crate::{
    channel::{CertificateNames, Followed, Peer},
    telemetry::{Listening, Metrics, Refused},
};

/// Time for the handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Pause after the system could not accept: it lacks descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// At most one line in the log for each of these; the metrics count all.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What is asked of connections.
#[derive(Debug)]
pub struct Gate {
    /// Which listener.
    pub at: Listening,
    /// Connections that may be open at one time.
    pub max_connections: NonZeroUsize,
    /// Encryption, of TCP.
    pub tls: Option<Arc<Followed<ServerConfig>>>,
    /// What is counted.
    pub metrics: Metrics,
}

/// A listener behind its gate.
pub struct Incoming {
    listener: Listener,
    gate: Gate,
    places: Arc<Semaphore>,
    handshakes: FuturesUnordered<BoxFuture<'static, Admitted>>,
    last_logged: Option<Instant>,
}

/// A connection, or why there is none.
type Admitted = Result<Connection, String>;

impl Incoming {
    /// Takes what `listener` accepts, within the limits of `gate`.
    pub fn new(listener: Listener, gate: Gate) -> Self {
        let places = gate.max_connections.get();
        Self {
            listener,
            gate,
            places: Arc::new(Semaphore::new(places)),
            handshakes: FuturesUnordered::new(),
            last_logged: None,
        }
    }

    /// One after the other, for ever; never an error.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, |mut incoming| async move {
            let connection = incoming.next().await;
            Some((Ok(connection), incoming))
        })
    }

    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                Some(admitted) = self.handshakes.next(), if !self.handshakes.is_empty() => match admitted {
                    Ok(connection) => return connection,
                    Err(reason) => self.refuse(Refused::Handshake, &reason),
                },
                accepted = accept(&self.listener) => match accepted {
                    Ok(socket) => self.admit(socket),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::error!(%error, "no connection can be accepted now");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn admit(&mut self, socket: Socket) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let limit = self.gate.max_connections;
            return self.refuse(
                Refused::Limit,
                &format!("{limit} connections are open (MAX_CONNECTIONS)"),
            );
        };
        let tls = self.gate.tls.as_ref().map(|tls| tls.current());
        let (metrics, at) = (self.gate.metrics.clone(), self.gate.at);
        self.handshakes.push(Box::pin(async move {
            let open = metrics.security().connection_opened(at);
            let (socket, peer) = shake_hands(socket, tls).await?;
            let connection = Connection::new(socket, peer, (place, open));
            Ok(match at {
                Listening::Http => connection.http1_only(),
                Listening::Grpc => connection,
            })
        }));
    }

    fn refuse(&mut self, refused: Refused, reason: &str) {
        self.gate.metrics.security().connection_refused(refused);
        let now = Instant::now();
        let is_due = |last: Instant| now.duration_since(last) >= LOG_INTERVAL;
        if self.last_logged.is_none_or(is_due) {
            self.last_logged = Some(now);
            tracing::warn!(listener = %self.gate.at, reason, "connection refused");
        }
    }
}

/// For the HTTP server.
impl axum::serve::Listener for Incoming {
    type Io = Connection;
    /// That of the other end; none = it has none, or has hung up.
    type Addr = Option<SocketAddr>;

    async fn accept(&mut self) -> (Connection, Option<SocketAddr>) {
        let connection = self.next().await;
        let remote = connection.remote();
        (connection, remote)
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().map(Some),
            Listener::Unix(_) => Ok(None),
        }
    }
}

async fn accept(listener: &Listener) -> io::Result<Socket> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
        Listener::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
    }
}

/// The client has gone already.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionAborted
            | K::ConnectionReset
            | K::ConnectionRefused
            | K::InvalidInput
            | K::NotConnected
    )
}

/// Encrypts if that is asked for, and finds out who is there.
async fn shake_hands(
    socket: Socket,
    tls: Option<Arc<ServerConfig>>,
) -> Result<(Socket, Peer), String> {
    match (socket, tls) {
        (Socket::Tcp(stream), Some(config)) => encrypt(stream, config).await,
        (Socket::Unix(stream), _) => {
            let credentials = stream.peer_cred();
            let uid = credentials
                .map_err(|error| format!("nobody knows who calls: {error}"))?
                .uid();
            Ok((Socket::Unix(stream), Peer::User(uid)))
        }
        (socket, _) => Ok((socket, Peer::Anyone)),
    }
}

async fn encrypt(stream: TcpStream, config: Arc<ServerConfig>) -> Result<(Socket, Peer), String> {
    let from = stream
        .peer_addr()
        .map_or_else(|_| "somewhere".to_owned(), |from| from.to_string());
    let accepted = timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(config).accept(stream)).await;
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("no encryption with {from}: {error}")),
        Err(_) => {
            let secs = HANDSHAKE_LIMIT.as_secs();
            return Err(format!("no encryption with {from} within {secs} s"));
        }
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = match certificates.and_then(<[_]>::first) {
        Some(certificate) => Peer::Certificate(Arc::new(CertificateNames::read(certificate))),
        None => Peer::Anyone,
    };
    Ok((Socket::Tls(Box::new(stream)), peer))
}
