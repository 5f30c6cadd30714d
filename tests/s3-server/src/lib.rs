//! A real S3 server: HTTP, signatures, checksums, multipart uploads; its buckets are directories.

use std::{io, path::Path};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::{net::TcpListener, task::JoinSet};

/// Serves the buckets below `dir` until the future is dropped. Every request must be signed with these keys.
pub async fn serve(
    listener: TcpListener,
    dir: &Path,
    access_key: &str,
    secret_key: &str,
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
                let service = service.clone();
                connections.spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    // A client that hangs up is no matter of the server's.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
