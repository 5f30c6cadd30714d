//! Connections to and from gRPC peers, set up in one way: over TCP, TLS or a Unix socket. Outgoing ones are made lazily,
//! with a limit on connecting; of incoming ones is known [who](Peer) is at the other end.

mod followed;
mod peer;
mod pem;
mod tls;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tonic::transport::{Channel, Endpoint, Error, Uri};

pub use followed::Followed;
pub use peer::{CertificateNames, Peer};
pub use pem::{Identity, TlsError, TlsFiles};
pub use tls::{client_config, server_config};

const KEEPALIVE: Duration = Duration::from_secs(20);

/// How the peer of a channel is reached.
#[derive(Debug, Clone)]
pub enum Route {
    /// TCP, as the endpoint's URI says.
    Tcp,
    /// TLS over TCP, with what the files hold when a connection is made.
    Tls {
        /// Name or address that is connected to.
        host: String,
        /// Its port.
        port: u16,
        /// What the peer's certificate must be made out to.
        name: ServerName<'static>,
        /// The authorities that are trusted, and our own certificate.
        config: Arc<Followed<ClientConfig>>,
    },
    /// A Unix socket.
    Unix {
        /// Where it is.
        path: PathBuf,
        /// Users that may listen there; none = whoever does.
        uids: Option<Vec<u32>>,
    },
}

/// What a channel to `uri` (`http://host:port` or `https://host:port`) is made from.
pub fn endpoint(uri: &str, connect_timeout: Duration) -> Result<Endpoint, Error> {
    // The connector of a route encrypts; the library must not.
    let endpoint = match uri.strip_prefix("https://") {
        Some(authority) => Endpoint::from_shared(format!("http://{authority}"))?
            .origin(Uri::try_from(uri).unwrap_or_default()),
        None => Endpoint::from_shared(uri.to_owned())?,
    };
    Ok(endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true))
}

/// A channel of `endpoint`'s settings on `route`. Connects with the first call.
pub fn connect(endpoint: &Endpoint, route: &Route) -> Channel {
    match route.clone() {
        Route::Tcp => endpoint.connect_lazy(),
        Route::Tls {
            host,
            port,
            name,
            config,
        } => endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (host, name) = (host.clone(), name.clone());
            let connector = TlsConnector::from(config.current());
            async move {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                let stream = connector.connect(name, stream).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        })),
        Route::Unix { path, uids } => {
            endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let (path, uids) = (path.clone(), uids.clone());
                async move {
                    let stream = UnixStream::connect(&path).await?;
                    if let Some(uids) = uids {
                        check_owner(&stream, &uids)?;
                    }
                    Ok::<_, io::Error>(TokioIo::new(stream))
                }
            }))
        }
    }
}

/// Whoever may write to the socket's directory could listen there instead of the peer.
fn check_owner(stream: &UnixStream, uids: &[u32]) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uids.contains(&uid) {
        return Ok(());
    }
    let problem = format!(
        "the process that listens there runs as user id {uid}, which is not an expected one"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_peer_is_told_so_and_the_library_does_not_encrypt_again() {
        let endpoint = endpoint("https://broker.example:9190", KEEPALIVE).unwrap();
        assert_eq!(endpoint.uri().scheme_str(), Some("http"));
        let plain = super::endpoint("http://127.0.0.1:1", KEEPALIVE).unwrap();
        assert_eq!(plain.uri().to_string(), "http://127.0.0.1:1/");
    }

    #[tokio::test]
    async fn a_socket_of_another_user_is_not_talked_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let stream = UnixStream::connect(&path).await.unwrap();
        let me = stream.peer_cred().unwrap().uid();
        assert!(check_owner(&stream, &[me + 1, me]).is_ok());
        let error = check_owner(&stream, &[me + 1]).unwrap_err();
        assert!(
            error.to_string().contains(&format!("user id {me},")),
            "{error}"
        );
    }
}
