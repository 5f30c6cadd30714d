//! A real S3 server as a process, which can be frozen and killed, and which keeps its objects.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::TcpStream;

use crate::{
    binaries::Binaries,
    error::HarnessError,
    options::{S3Settings, Store},
    ports::Port,
    process::Process,
    wait::{Poll, wait_until},
};

const BUCKET: &str = "bucket";
const ACCESS_KEY: &str = "AKEXAMPLE";
const SECRET_KEY: &str = "sEcReT/of+the/tests";
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The server.
#[derive(Debug)]
pub struct S3Process {
    port: Port,
    dir: PathBuf,
    /// Its process.
    pub process: Process,
}

impl S3Process {
    /// Starts it with one empty bucket below `base`.
    pub async fn start(binaries: &Binaries, base: &Path) -> Result<Self, HarnessError> {
        let port = Port::reserve()?;
        let log = base.join("logs").join("s3-server.log");
        let mut server = Self {
            port,
            dir: base.join("s3"),
            process: Process::new("s3-server", &binaries.s3_server, &log),
        };
        server.set_args(SECRET_KEY);
        server.process.start()?;
        server.wait_up().await?;
        Ok(server)
    }

    /// Lets in another secret from now on, and nobody with the former one: what rotated credentials look like.
    pub async fn rotate_secret(&mut self, secret_key: &str) -> Result<(), HarnessError> {
        self.process.kill()?;
        self.set_args(secret_key);
        self.process.start()?;
        self.wait_up().await
    }

    fn set_args(&mut self, secret_key: &str) {
        self.process.set_args([
            format!("--dir={}", self.dir.display()),
            format!("--bucket={BUCKET}"),
            format!("--listen={}", self.port.address()),
            format!("--access-key={ACCESS_KEY}"),
            format!("--secret-key={secret_key}"),
        ]);
    }

    /// Waits until it accepts connections.
    pub async fn wait_up(&self) -> Result<(), HarnessError> {
        let address = self.address();
        let look = async || {
            Ok(match TcpStream::connect(&address).await {
                Ok(_) => Poll::Done(()),
                Err(error) => Poll::NotYet(error.to_string()),
            })
        };
        let logs = || self.process.log_tail();
        wait_until("the S3 server's port", START_TIMEOUT, look, logs).await
    }

    /// HOST:PORT.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// The bucket, for sidecars that reach the server through `address`.
    pub fn store_through(&self, address: &str) -> Store {
        let endpoint = format!("http://{address}");
        Store::S3(S3Settings::test_server(
            &endpoint, BUCKET, ACCESS_KEY, SECRET_KEY,
        ))
    }
}
