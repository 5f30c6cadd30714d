//! A real S3 server in this process: HTTP, signatures, multipart uploads; its objects lie in a directory.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chronik_harness::Port;
use chronik_snapshotd::config::object_store::S3Config;
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

pub const BUCKET: &str = "bucket";
pub const ACCESS_KEY: &str = "AKEXAMPLE";
pub const SECRET_KEY: &str = "sEcReT/of+the/tests";

/// Serves until it is stopped, or dropped with its runtime.
pub struct S3Server {
    pub endpoint: Url,
    port: Port,
    dir: tempfile::TempDir,
    /// Parts of uploads are taken and never answered.
    swallows_parts: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl S3Server {
    /// A server with one empty bucket on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let port = Port::reserve().unwrap();
        let listener = port.listen().await.unwrap();
        let mut server = Self {
            endpoint: format!("http://{}", port.address()).parse().unwrap(),
            port,
            dir,
            swallows_parts: Arc::default(),
            serving: None,
        };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let dir = self.dir.path().to_owned();
        let swallows_parts = self.swallows_parts.clone();
        let is_part = |query: &str| query.contains("partNumber=");
        self.serving = Some(tokio::spawn(async move {
            let swallows = Arc::new(move |request: &hyper::Request<_>| {
                swallows_parts.load(Ordering::Relaxed) && request.uri().query().is_some_and(is_part)
            });
            chronik_s3_server::serve_all_but(listener, &dir, ACCESS_KEY, SECRET_KEY, swallows)
                .await
                .unwrap();
        }));
    }

    /// Hangs up on everybody and is no longer there. What is stored stays.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Ends by being aborted; the port is free then.
            let _ = serving.await;
        }
    }

    /// Is there again, at the same address.
    pub async fn start_again(&mut self) {
        let listener = self.port.listen().await.unwrap();
        self.serve(listener);
    }

    /// From now on, takes parts of uploads and does not answer, or does again.
    pub fn swallow_parts(&self, swallow: bool) {
        self.swallows_parts.store(swallow, Ordering::Relaxed);
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
            ..S3Config::default()
        }
    }

    /// How a daemon is told to use it.
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("OBJECT_STORE_BACKEND", "s3"),
            ("S3_BUCKET", BUCKET),
            ("S3_REGION", "us-east-1"),
            ("S3_ENDPOINT", self.endpoint.as_str()),
            ("S3_ACCESS_KEY", ACCESS_KEY),
            ("S3_SECRET_KEY", SECRET_KEY),
            ("S3_DISABLE_SSL", "true"),
            ("S3_PATH_STYLE", "true"),
        ]
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
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}
