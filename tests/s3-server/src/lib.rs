//! A real S3 server: HTTP, signatures, checksums, multipart uploads; its buckets are directories.

use std::{future, io, path::Path, sync::Arc};

use hyper::{
    Request,
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, task::JoinSet};

/// Says of a request, by its head, that it never gets an answer.
pub type Swallows = Arc<dyn Fn(&Request<Incoming>) -> bool + Send + Sync>;

/// Serves the buckets below `dir` until the future is dropped. Every request must be signed with these keys.
pub async fn serve(
    listener: TcpListener,
    dir: &Path,
    access_key: &str,
    secret_key: &str,
) -> io::Result<()> {
    serve_all_but(listener, dir, access_key, secret_key, Arc::new(|_| false)).await
}

/// Serves like [`serve`], but accepts what `swallows` names and leaves it at that.
pub async fn serve_all_but(
    listener: TcpListener,
    dir: &Path,
    access_key: &str,
    secret_key: &str,
    swallows: Swallows,
) -> io::Result<()> {
    let files = FileSystem::new(dir).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
    let service = builder.build();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted?;
                let (service, swallows) = (service.clone(), swallows.clone());
                let answer = service_fn(move |request| {
                    let (service, swallowed) = (service.clone(), swallows(&request));
                    async move {
                        if swallowed {
                            future::pending::<()>().await;
                        }
                        Service::call(&service, request).await
                    }
                });
                connections.spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    // A client that hangs up is no matter of the server's.
                    let _ = http.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
