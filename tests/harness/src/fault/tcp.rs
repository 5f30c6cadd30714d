//! A TCP link that can be slow, cut, reset or silent.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{error::HarnessError, ports::Port};

/// Bytes that one step of a link carries.
const STEP_BYTES: usize = 16 << 10;

/// How a link is. A change holds for connections that exist, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    /// Carries everything at once.
    #[default]
    Up,
    /// Carries every piece this much later.
    Slow(Duration),
    /// Carries this many bytes in a second in each direction.
    Rate(u32),
    /// Carries nothing and says nothing: packets are lost.
    Silent,
    /// Connections are reset, new ones too.
    Reset,
    /// Connections are closed after this many bytes in one direction.
    CutAfter(usize),
}

/// A link to one address. Dropping it resets every connection.
#[derive(Debug)]
pub struct TcpProxy {
    port: Port,
    state: Arc<watch::Sender<LinkState>>,
    accepting: JoinHandle<()>,
}

impl TcpProxy {
    /// A link that is up, on a port of its own.
    pub async fn start(target: &str) -> Result<Self, HarnessError> {
        let port = Port::reserve()?;
        let listener = port.listen().await?;
        let (state, _) = watch::channel(LinkState::default());
        let state = Arc::new(state);
        let accepting = accept(listener, target.to_owned(), Arc::clone(&state));
        Ok(Self {
            port,
            state,
            accepting: tokio::spawn(accepting),
        })
    }

    /// HOST:PORT of this end.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// Changes the link.
    pub fn set(&self, state: LinkState) {
        self.state.send_replace(state);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: String, state: Arc<watch::Sender<LinkState>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { return };
                connections.spawn(connect(near, target.clone(), state.subscribe()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection. What fails ends it; both ends see that.
async fn connect(mut near: TcpStream, target: String, mut state: watch::Receiver<LinkState>) {
    // A silent link lets nobody connect; the kernel has answered for us, so this end just stays quiet.
    let silent = |now: &LinkState| *now != LinkState::Silent;
    if state.wait_for(silent).await.is_err() {
        return;
    }
    if *state.borrow() == LinkState::Reset {
        let _ = near.set_zero_linger();
        return;
    }
    let Ok(target) = target.parse::<SocketAddr>() else {
        return;
    };
    let Ok(mut far) = TcpStream::connect(target).await else {
        let _ = near.set_zero_linger();
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (from_near, to_near) = near.split();
    let (from_far, to_far) = far.split();
    let outcome = tokio::try_join!(
        carry(from_near, to_far, state.clone()),
        carry(from_far, to_near, state.clone()),
    );
    if outcome.is_err() {
        let _ = (near.set_zero_linger(), far.set_zero_linger());
    }
}

/// Carries one direction until it ends. An error resets both.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<LinkState>,
) -> io::Result<()> {
    let mut piece = vec![0; STEP_BYTES];
    let mut carried = 0;
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            reset = state.wait_for(|now| *now == LinkState::Reset) => {
                drop(reset);
                Err(io::ErrorKind::ConnectionReset.into())
            }
        };
        let length = match read {
            Ok(0) => {
                let _ = to.shutdown().await;
                return Ok(());
            }
            Ok(length) => length,
            Err(error) => return Err(error),
        };
        carried += length;
        let now = *state.borrow_and_update();
        match now {
            LinkState::Slow(delay) => tokio::time::sleep(delay).await,
            LinkState::Rate(bytes_per_second) => {
                let seconds = u32::try_from(length).unwrap_or(u32::MAX);
                let pause = Duration::from_secs(1) * seconds / bytes_per_second.max(1);
                tokio::time::sleep(pause).await;
            }
            LinkState::Silent => {
                if state
                    .wait_for(|now| *now != LinkState::Silent)
                    .await
                    .is_err()
                {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
            LinkState::CutAfter(bytes) if carried >= bytes => {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            LinkState::Up | LinkState::Reset | LinkState::CutAfter(_) => {}
        }
        to.write_all(&piece[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends back what it is sent.
    async fn echo() -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        (address, serving)
    }

    async fn ask(stream: &mut TcpStream, words: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(words).await?;
        let mut answer = vec![0; words.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_link_carries_falls_silent_and_carries_on() {
        let (target, _serving) = echo().await;
        let link = TcpProxy::start(&target).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut stream, b"hello").await.unwrap(), b"hello");
        link.set(LinkState::Silent);
        let silent = tokio::time::timeout(Duration::from_millis(200), ask(&mut stream, b"lost"));
        silent.await.unwrap_err();
        link.set(LinkState::Slow(Duration::from_millis(1)));
        let mut late = [0; 4];
        stream.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"lost", "nothing is lost inside a connection");
    }

    #[tokio::test]
    async fn a_link_is_cut_after_some_bytes_and_resets() {
        let (target, _serving) = echo().await;
        let link = TcpProxy::start(&target).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        link.set(LinkState::CutAfter(8));
        assert_eq!(ask(&mut stream, b"1234").await.unwrap(), b"1234");
        ask(&mut stream, b"5678").await.unwrap_err();
        link.set(LinkState::Up);
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut stream, b"back").await.unwrap(), b"back");
        link.set(LinkState::Reset);
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
