//! Connections to gRPC peers, set up in one way: over TCP or a Unix socket, lazily, with a limit on connecting.

use std::{path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Error, Uri};

const KEEPALIVE: Duration = Duration::from_secs(20);

/// What a channel to `uri` (`http://host:port`) is made from.
pub fn tcp(uri: &str, connect_timeout: Duration) -> Result<Endpoint, Error> {
    Ok(Endpoint::from_shared(uri.to_owned())?
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true))
}

/// A channel of `endpoint`'s settings to the Unix socket at `path`; the host of `endpoint` is not used.
pub fn unix(endpoint: &Endpoint, path: PathBuf) -> Channel {
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            tokio::net::UnixStream::connect(path)
                .await
                .map(TokioIo::new)
        }
    }))
}
