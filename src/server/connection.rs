//! One incoming connection, which is ended when it gets no answer for too long.
//!
//! What is written counts, not what comes in: who sends a request byte by byte, or no request at all, holds a place and gets
//! nothing. Clients of HTTP/2 that live are pinged, so something is written to them often.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::{channel::Peer, telemetry::OpenConnection};

/// Time until the first answer begins.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longest time between two pieces of answers.
const SILENCE_LIMIT: Duration = Duration::from_mins(2);

/// The stream below.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// The address at the other end; none = it has none, or has hung up.
    fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

/// What a connection holds while it is open.
pub(super) type Held = (OwnedSemaphorePermit, OpenConnection);

/// An incoming connection whose other end is known.
pub struct Connection {
    socket: Socket,
    peer: Peer,
    /// When it is too late for the next piece of an answer, and the alarm for a time not after that.
    deadline: Instant,
    alarm: Pin<Box<Sleep>>,
    _held: Held,
}

impl Connection {
    pub(super) fn new(socket: Socket, peer: Peer, held: Held) -> Self {
        let deadline = Instant::now() + FIRST_ANSWER_LIMIT;
        Self {
            socket,
            peer,
            deadline,
            alarm: Box::pin(sleep_until(deadline)),
            _held: held,
        }
    }

    /// The address at the other end; none = it has none, or has hung up.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.socket.remote()
    }

    /// An error if nothing was written in time.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while self.alarm.as_mut().poll(context).is_ready() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            // Something was written since the alarm was set.
            self.alarm.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_pending() {
            return self.poll_silence(context).map(Err);
        }
        read
    }
}

/// Passes on how a write went, which may have moved the deadline.
fn written(deadline: &mut Instant, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    if matches!(written, Poll::Ready(Ok(1..))) {
        *deadline = Instant::now() + SILENCE_LIMIT;
    }
    written
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let wrote = match &mut this.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        written(&mut this.deadline, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let wrote = match &mut this.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        };
        written(&mut this.deadline, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            Socket::Unix(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
