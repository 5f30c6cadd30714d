//! The daemon as a process of its own, with a store in a directory.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chronik_harness::Port;
use chronik_snapshotd::proto::v1::snapshot_admin_service_client::SnapshotAdminServiceClient;
use serde_json::Value;

/// Every wait of a test ends here.
pub const PATIENCE: Duration = Duration::from_mins(2);

pub struct Daemon {
    child: Child,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    log: PathBuf,
    _ports: [Port; 2],
}

/// What a test changes about the daemon's environment.
pub struct Setup<'a> {
    pub broker: SocketAddr,
    pub dir: &'a Path,
    pub env: &'a [(&'a str, &'a str)],
}

impl Daemon {
    pub fn start(setup: &Setup<'_>) -> Self {
        Self::start_as(setup, |_| {})
    }

    /// With what else a process comes with.
    pub fn start_as(setup: &Setup<'_>, change: impl FnOnce(&mut Command)) -> Self {
        let ports = [Port::reserve().unwrap(), Port::reserve().unwrap()];
        let [listen, http] = ports.each_ref().map(Port::socket_addr);
        let log = setup.dir.join("daemon.log");
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chronik-snapshotd"));
        command
            .arg("run")
            .env_clear()
            .env(
                "CHRONIK_SNAPSHOT_BROKER_ENDPOINT",
                format!("http://{}", setup.broker),
            )
            .env("CHRONIK_SNAPSHOT_LISTEN", listen.to_string())
            .env("CHRONIK_SNAPSHOT_METRICS_LISTEN", http.to_string())
            .env("CHRONIK_SNAPSHOT_CHECK_INTERVAL_SECS", "1")
            .env("CHRONIK_SNAPSHOT_MIN_INTERVAL_SECS", "0")
            .env("CHRONIK_SNAPSHOT_LOG_THRESHOLD", "100")
            .env("CHRONIK_SNAPSHOT_TRAILING_ENTRIES", "10")
            .env("CHRONIK_SNAPSHOT_LOG_FORMAT", "text")
            .env("OBJECT_STORE_BACKEND", "local")
            .env("LOCAL_STORAGE_PATH", setup.dir.join("store"))
            .stdout(Stdio::null())
            .stderr(file);
        for (name, value) in setup.env {
            command.env(name, value);
        }
        change(&mut command);
        let daemon = Self {
            child: command.spawn().unwrap(),
            listen,
            http,
            log,
            _ports: ports,
        };
        daemon.wait("the daemon to listen", |daemon| {
            daemon.get("/healthz").is_some()
        });
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `/status` is beside the gRPC services, the rest on the address for scrapers.
    pub fn get(&self, path: &str) -> Option<String> {
        let address = if path.starts_with("/status") {
            self.listen
        } else {
            self.http
        };
        let (head, body) = ask(address, path, "localhost")?;
        head.contains(" 200 ").then_some(body)
    }

    pub fn status(&self) -> Value {
        let body = self.get("/status").expect("/status answers");
        serde_json::from_str(&body).unwrap()
    }

    /// The status of the first partition, or null.
    pub fn partition(&self) -> Value {
        self.status()["partitions"][0].clone()
    }

    pub fn metric(&self, series: &str) -> f64 {
        let page = self.get("/metrics").expect("/metrics answers");
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not on the page"))
            .parse()
            .unwrap()
    }

    pub fn wait(&self, what: &str, until: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !until(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what}; the log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A client of the Admin service.
    pub async fn admin(&self) -> SnapshotAdminServiceClient<tonic::transport::Channel> {
        let endpoint = format!("http://{}", self.listen);
        SnapshotAdminServiceClient::connect(endpoint).await.unwrap()
    }

    /// Waits until the daemon has asked its broker `count` times more.
    pub fn wait_ticks(&self, count: usize) {
        let tick = |daemon: &Self| daemon.status()["daemon"]["last_tick_at_unix_ms"].clone();
        for _ in 0..count {
            let before = tick(self);
            self.wait("a tick", |daemon| tick(daemon) != before);
        }
    }

    /// Waits until the partition has a proven snapshot that ends at or above `index`.
    pub fn wait_proven(&self, index: u64) {
        self.wait(&format!("a proven snapshot at {index}"), |daemon| {
            daemon.partition()["newest_last_included"]["index"].as_u64() >= Some(index)
        });
    }

    /// Waits until `text` is in the log.
    pub fn wait_log(&self, text: &str) {
        self.wait(&format!("{text:?} in the log"), |daemon| {
            daemon.log().contains(text)
        });
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end of the process and returns its exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "the daemon does not end; the log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Head and body of the answer to a request under this name of the host.
pub fn ask(address: SocketAddr, path: &str, host: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

/// Names in the partition's folder that end in `ending`, sorted.
pub fn stored(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let folder = dir.join("store/snapshots/orders/0");
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    names.sort();
    names
}
