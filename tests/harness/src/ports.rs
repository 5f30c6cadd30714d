//! Ports on loopback that stay ours for as long as a cluster lives, also while a process that listens is down.
//!
//! They come from below the range that the kernel gives to outgoing connections: a port from above could be taken by
//! a client's connection while its broker is being restarted. A locked file keeps other harnesses away.

use std::{
    env, fs,
    fs::File,
    io::ErrorKind::AddrInUse,
    net::{Ipv4Addr, SocketAddr},
    process,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    time::Instant,
};

use crate::error::HarnessError;

/// First port tried (inclusive).
const FROM: u16 = 12_000;
/// Last port tried (inclusive). Linux gives outgoing connections 32768 and above.
const TO: u16 = 31_999;

/// Where this process looks next, counted from a place that differs between processes.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 that no other harness uses while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port that nothing listens on.
    pub fn reserve() -> Result<Self, HarnessError> {
        let dir = env::temp_dir().join("chronik-harness-ports");
        fs::create_dir_all(&dir).map_err(HarnessError::file("creating", &dir))?;
        let span = TO - FROM + 1;
        let begin = u16::try_from(process::id().wrapping_mul(37) % u32::from(span)).unwrap_or(0);
        for _ in 0..span {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FROM + (begin.wrapping_add(step)) % span;
            let path = dir.join(number.to_string());
            let lock = File::create(&path).map_err(HarnessError::file("creating", &path))?;
            if lock.try_lock().is_ok() && is_free(number) {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        Err(HarnessError::NoPort { from: FROM, to: TO })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Listens there. A listener that was just dropped is still held by a process that was started at that moment, until it runs
    /// its own program: that is waited for.
    pub async fn listen(&self) -> Result<TcpListener, HarnessError> {
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            match TcpListener::bind(self.socket_addr()).await {
                Err(error) if error.kind() == AddrInUse && Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcome => return outcome.map_err(HarnessError::listening(&self.address())),
            }
        }
    }

    /// 127.0.0.1:PORT.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }

    /// The same, written out.
    pub fn address(&self) -> String {
        self.socket_addr().to_string()
    }
}

/// Whether nobody listens there. Asked by a socket that does not listen itself: a process that another thread starts at this
/// moment holds it until it runs its own program, and would keep the port.
fn is_free(number: u16) -> bool {
    let bound = TcpSocket::new_v4().and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, number)))
    });
    bound.is_ok()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net};

    use super::*;

    #[test]
    fn ports_are_distinct_and_free_again_when_dropped() {
        let ports: Vec<_> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let distinct: BTreeSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(distinct.len(), 50);
        for port in &ports {
            net::TcpListener::bind(port.address()).unwrap();
        }
    }

    #[test]
    fn a_port_is_free_until_somebody_listens() {
        let port = Port::reserve().unwrap();
        assert!(is_free(port.number()));
        let listener = net::TcpListener::bind(port.address()).unwrap();
        assert!(!is_free(port.number()));
        drop(listener);
        assert!(is_free(port.number()));
    }
}
