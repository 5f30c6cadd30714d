//! A real S3 server in this process: HTTP, signatures, multipart uploads; its objects lie in a directory.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chronik_snapshotd::config::object_store::S3Config;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use url::Url;

pub const BUCKET: &str = "bucket";
pub const ACCESS_KEY: &str = "AKEXAMPLE";
pub const SECRET_KEY: &str = "sEcReT/of+the/tests";

/// Serves until it is stopped, or dropped with its runtime.
pub struct S3Server {
    pub endpoint: Url,
    address: SocketAddr,
    dir: tempfile::TempDir,
    accepting: Option<tokio::task::JoinHandle<()>>,
    silent: Arc<AtomicBool>,
}

impl S3Server {
    /// A server with one empty bucket on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Self {
            endpoint: format!("http://{address}").parse().unwrap(),
            address,
            dir,
            accepting: None,
            silent: Arc::default(),
        };
        server.accept_on(listener);
        server
    }

    /// Nobody listens any more, and what is under way is cut.
    pub async fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // Ends when the listener is closed.
            let _ = accepting.await;
        }
    }

    /// Serves the same objects on the same address again.
    pub async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.accept_on(listener);
    }

    /// Whether parts of uploads are taken and never answered.
    pub fn swallow_parts(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    fn accept_on(&mut self, listener: TcpListener) {
        let mut builder = S3ServiceBuilder::new(FileSystem::new(self.dir.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let s3 = builder.build();
        let silent = self.silent.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let is_part = request
                .uri()
                .query()
                .is_some_and(|q| q.contains("partNumber="));
            let silent = is_part && silent.load(Ordering::Relaxed);
            let answer = hyper::service::Service::call(&s3, request);
            async move {
                if silent {
                    std::future::pending::<()>().await;
                }
                answer.await
            }
        });
        self.accepting = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                connections.spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    // A client that hangs up is no matter of the server's.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        }));
    }

    /// How to reach it.
    pub fn config(&self) -> S3Config {
        S3Config {
            bucket: BUCKET.to_owned(),
            region: Some("us-east-1".to_owned()),
            endpoint: Some(self.endpoint.clone()),
            access_key: Some(ACCESS_KEY.into()),
            secret_key: Some(SECRET_KEY.into()),
            session_token: None,
            path_style: true,
            disable_ssl: true,
        }
    }

    /// The directory that is the bucket.
    pub fn bucket_dir(&self) -> PathBuf {
        self.dir.path().join(BUCKET)
    }

    /// Names of unfinished uploads' files beside the buckets.
    pub fn unfinished_uploads(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir.path()).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("upload"))
            .collect()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}
