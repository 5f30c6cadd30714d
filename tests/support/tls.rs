//! TLS as somebody else would write it: a client of a daemon, and a server in front of a broker.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};
use tonic::transport::{Channel, Endpoint, Uri};

use super::certificates::{Authority, Pair};

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    roots
}

fn chain(pair: &Pair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    (vec![chain], key)
}

/// Whom a client trusts and what it shows.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    address: SocketAddr,
}

impl TlsClient {
    pub fn new(address: SocketAddr, trusted: &Authority, own: Option<&Pair>) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(trusted));
        let config = match own {
            Some(pair) => {
                let (chain, key) = chain(pair);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        Self {
            config: Arc::new(config),
            address,
        }
    }

    /// As localhost, with these protocols.
    pub async fn connect(&self, protocols: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let mut config = (*self.config).clone();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// A gRPC channel, which is one connection.
    pub async fn channel(&self) -> Result<Channel, String> {
        let client = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let client = client.clone();
            async move { client.connect(&["h2"]).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let connected = endpoint.connect_with_connector(connector).await;
        connected.map_err(|error| told(&error))
    }

    /// What a GET answers, its head included.
    pub async fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = self.connect(&["http/1.1"]).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        match stream.read_to_string(&mut answer).await {
            Ok(_) => Ok(answer),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => {
                Ok(answer)
            }
            Err(error) => Err(error),
        }
    }

    /// The certificate that the server shows now.
    pub async fn certificate(&self) -> io::Result<Vec<u8>> {
        let stream = self.connect(&["h2"]).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap();
        Ok(certificates[0].to_vec())
    }
}

/// An error with its causes.
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// The certificate of a PEM, as it goes over the wire.
pub fn der(pair: &Pair) -> Vec<u8> {
    CertificateDer::from_pem_slice(pair.cert.as_bytes())
        .unwrap()
        .to_vec()
}

/// Takes TLS off what comes in and passes it on.
pub struct TlsFront {
    pub address: SocketAddr,
    clients: Arc<Mutex<Option<RootCertStore>>>,
    accepted: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl TlsFront {
    /// With `clients`, only those with a certificate from there.
    pub async fn start(target: SocketAddr, own: &Pair, clients: Option<&Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients = Arc::new(Mutex::new(clients.map(roots)));
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        let (own, asked, count) = (own.clone(), clients.clone(), accepted.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor(&own, asked.lock().unwrap().clone());
                let count = count.clone();
                connections.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                    count.fetch_add(1, Ordering::Relaxed);
                    let mut target = TcpStream::connect(target).await.unwrap();
                    // Either side may hang up at any time.
                    let _ = copy_bidirectional(&mut stream, &mut target).await;
                });
            }
        });
        Self {
            address,
            clients,
            accepted,
            _serving: serving,
        }
    }

    /// From the next connection on.
    pub fn only_clients_of(&self, authority: &Authority) {
        *self.clients.lock().unwrap() = Some(roots(authority));
    }

    /// Connections that were accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

fn acceptor(own: &Pair, clients: Option<RootCertStore>) -> TlsAcceptor {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = chain(own);
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A Unix socket that passes on to an address; served by the test's own user.
pub struct SocketFront {
    pub path: PathBuf,
    accepted: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl SocketFront {
    pub fn start(path: PathBuf, target: SocketAddr) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let count = count.clone();
                connections.spawn(async move {
                    let mut target = TcpStream::connect(target).await.unwrap();
                    if let Ok((from_client, _)) = copy_bidirectional(&mut stream, &mut target).await
                        && from_client > 0
                    {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self {
            path,
            accepted,
            _serving: serving,
        }
    }

    /// Connections over which a client has said anything, and that have ended.
    pub fn spoken(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}
