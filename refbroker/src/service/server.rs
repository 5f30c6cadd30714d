//! The gRPC listener for the sidecar.

use std::{io, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Router};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::snapshot::SnapshotServer;
use crate::{
    config::Listen,
    peer::{CONNECTION_WINDOW_BYTES, MAX_FRAME_BYTES, STREAM_WINDOW_BYTES},
    proto::{DESCRIPTORS, v1::snapshot_broker_service_server::SnapshotBrokerServiceServer},
};

/// Why the listener failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("listening on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// gRPC.
    #[error("gRPC server")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptors are damaged.
    #[error("reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A server with the settings that large streams need: the receiver announces the frame size.
pub fn builder() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}

/// A bound listener.
pub enum Bound {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Binds. A socket file that nobody answers on is replaced.
pub async fn bind(listen: &Listen) -> Result<Bound, ServerError> {
    let failed = |source| ServerError::Listen {
        address: listen.to_string(),
        source,
    };
    match listen {
        Listen::Tcp(address) => TcpListener::bind(address)
            .await
            .map(Bound::Tcp)
            .map_err(failed),
        Listen::Unix(path) => bind_unix(path).await.map(Bound::Unix).map_err(failed),
    }
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves until stopped.
pub async fn serve(
    bound: Bound,
    service: SnapshotServer,
    stop: CancellationToken,
) -> Result<(), ServerError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()?;
    let service = SnapshotBrokerServiceServer::new(service);
    let router = builder()
        .add_service(service)
        .add_service(health_service)
        .add_service(reflection);
    let stopped = async move {
        stop.cancelled().await;
        set_health(&health, ServingStatus::NotServing).await;
    };
    Ok(run(router, bound, stopped).await?)
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    let name = <SnapshotBrokerServiceServer<SnapshotServer> as tonic::server::NamedService>::NAME;
    health.set_service_status(name, status).await;
}

async fn run(
    router: Router,
    bound: Bound,
    stopped: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    match bound {
        Bound::Tcp(listener) => {
            let incoming = TcpListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, stopped).await
        }
        Bound::Unix(listener) => {
            let incoming = UnixListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, stopped).await
        }
    }
}
