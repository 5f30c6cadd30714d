//! One incoming connection, which is ended when it gets no answer for too long.
//!
//! What is written counts, not what comes in: who sends a request byte by byte, or no request at all, holds a place and gets
//! nothing, and so does who does not read. Clients of HTTP/2 that live are pinged, so something is written to them often; where
//! only HTTP/1 is meant to be spoken, HTTP/2 is not let in.

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

/// What HTTP/2 begins with; there is no such method.
const PREFACE: &[u8] = b"PRI";

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
    /// How much of HTTP/2's preface has come; none = it is not looked for, or something else came.
    preface: Option<usize>,
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
            preface: None,
            _held: held,
        }
    }

    /// The same without HTTP/2.
    pub(super) fn http1_only(self) -> Self {
        Self {
            preface: Some(0),
            ..self
        }
    }

    fn check_protocol(&mut self, read: &[u8]) -> io::Result<()> {
        for byte in read {
            match self.preface {
                None => break,
                Some(seen) if PREFACE[seen] != *byte => self.preface = None,
                Some(seen) if seen + 1 == PREFACE.len() => {
                    let error = "HTTP/2 is not spoken here";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
                Some(seen) => self.preface = Some(seen + 1),
            }
        }
        Ok(())
    }

    /// Passes on how a write went, which may move the deadline or find that it is over.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(1..)) => self.deadline = Instant::now() + SILENCE_LIMIT,
            Poll::Pending => return self.poll_silence(context).map(Err),
            Poll::Ready(_) => {}
        }
        wrote
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
        let before = buffer.filled().len();
        let read = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_pending() {
            return self.poll_silence(context).map(Err);
        }
        self.check_protocol(&buffer.filled()[before..])?;
        read
    }
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
        this.written(context, wrote)
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
        this.written(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            Socket::Unix(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        };
        if flushed.is_pending() {
            return self.poll_silence(context).map(Err);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::Semaphore,
    };

    use super::*;
    use crate::telemetry::{Listening, Metrics};

    /// A connection, and its other end.
    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let open = Metrics::new()
            .unwrap()
            .security()
            .connection_opened(Listening::Http);
        let socket = Socket::Tcp(accepted.unwrap().0);
        let connection = Connection::new(socket, Peer::Anyone, (place, open));
        (connection, client.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_not_written_to_for_ever() {
        let (mut connection, _client) = pair().await;
        let error = loop {
            if let Err(error) = connection.write_all(&[0; 1 << 13]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_gains_no_time_and_an_answer_does() {
        let (mut connection, mut client) = pair().await;
        let begun = Instant::now();
        let mut byte = [0];
        for _ in 0..8 {
            client.write_all(&[0]).await.unwrap();
            connection.read_exact(&mut byte).await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        connection.write_all(&[0]).await.unwrap();
        let error = connection.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= SILENCE_LIMIT);
        let (mut unanswered, mut client) = pair().await;
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(8)).await;
        client.write_all(&[0]).await.unwrap();
        unanswered.read_exact(&mut byte).await.unwrap();
        let error = unanswered.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < SILENCE_LIMIT);
    }

    #[tokio::test]
    async fn http_2_is_told_by_its_preface_however_it_comes() {
        for (sent, is_refused) in [("PRI * HTTP/2.0", true), ("PUT / HTTP/1.1", false)] {
            let (connection, mut client) = pair().await;
            let mut connection = connection.http1_only();
            let mut refused = false;
            for byte in sent.bytes() {
                client.write_all(&[byte]).await.unwrap();
                refused |= connection.read_exact(&mut [0]).await.is_err();
            }
            assert_eq!(refused, is_refused, "{sent}");
        }
    }
}
