//! The daemon as a process: what it takes, what it costs.

use std::{fs, io::Write as _, path::Path, time::Instant};

use chronik_harness::{Binaries, Metrics, Poll, Port, Process, Store, get, wait_until};
use chronik_snapshotd::{
    format::PartHasher,
    proto::v1::{
        self, bootstrap_request, bootstrap_response,
        snapshot_admin_service_client::SnapshotAdminServiceClient,
        snapshot_bootstrap_service_client::SnapshotBootstrapServiceClient,
    },
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use crate::{
    PATIENCE,
    broker::{BOOT_ID, CODEC, lineage, partition},
};

/// Clock ticks a second in `/proc`, the same on every Linux.
const TICKS_PER_SEC: f64 = 100.0;

pub struct Daemon {
    process: Process,
    http: Port,
    /// Holds the socket.
    dir: TempDir,
}

/// What something took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub seconds: f64,
    /// CPU time, user and system.
    pub cpu_secs: f64,
}

/// A snapshot's cost.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// From the call to its answer, the proof left out, which tools that only upload have no counterpart of. The CPU time
    /// is that of everything, the proof included.
    pub forward: Cost,
    /// Time to read it back for the proof.
    pub proof_seconds: f64,
    /// Bytes stored for it, the `.snap` files alone.
    pub stored_bytes: f64,
}

impl Daemon {
    /// Starts it for the broker behind the socket `broker`. It acts only when it is told to, unless `env` says otherwise.
    pub async fn start(
        dir: &Path,
        name: &str,
        broker: &Path,
        store: &Store,
        env: &[(&str, &str)],
    ) -> Self {
        let (http, sockets) = (Port::reserve().unwrap(), tempfile::tempdir().unwrap());
        let log = dir.join("logs").join(format!("{name}.log"));
        let mut process = Process::new(name, &Binaries::find().sidecar, &log);
        process.set_args(["run"]);
        for (name, value) in store.variables() {
            process.set_env(name, value);
        }
        let quiet = [
            ("BROKER_ENDPOINT", format!("unix:{}", broker.display())),
            ("LISTEN", socket(&sockets)),
            ("METRICS_LISTEN", http.address()),
            ("LOG_FORMAT", "text".to_owned()),
            ("LOG_THRESHOLD", "1000000000".to_owned()),
            ("TIME_THRESHOLD_SECS", "31536000".to_owned()),
            ("MIN_INTERVAL_SECS", "0".to_owned()),
            ("COMPACT", "false".to_owned()),
            ("RETENTION", "false".to_owned()),
            // As many as the tools beside it are given.
            ("COMPRESSION_THREADS", "2".to_owned()),
            ("S3_PREFIX", format!("{name}/")),
        ];
        for (key, value) in quiet {
            process.set_env(format!("CHRONIK_SNAPSHOT_{key}"), value);
        }
        for (key, value) in env {
            process.set_env(format!("CHRONIK_SNAPSHOT_{key}"), *value);
        }
        process.start().unwrap();
        let daemon = Self {
            process,
            http,
            dir: sockets,
        };
        daemon
            .wait("a first tick", |metrics| {
                metrics.sum("chronik_snapshot_loop_last_tick_timestamp_seconds", &[]) > 0.0
            })
            .await;
        daemon
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics(get(&self.http.address(), "/metrics").await.unwrap())
    }

    /// Waits until its metrics say so.
    pub async fn wait(&self, what: &str, fits: impl Fn(&Metrics) -> bool) {
        let look = async || {
            let metrics = Metrics(get(&self.http.address(), "/metrics").await?);
            Ok(if fits(&metrics) {
                Poll::Done(())
            } else {
                Poll::NotYet("not so".to_owned())
            })
        };
        let logs = || self.process.log_tail();
        wait_until(what, PATIENCE, look, logs).await.unwrap();
    }

    /// Takes a snapshot and waits for its proof.
    pub async fn snapshot(&self, topic: &str, number: i32) -> Taken {
        let before = self.metrics().await;
        let endpoint = Endpoint::from_shared(socket(&self.dir)).unwrap();
        let mut admin = SnapshotAdminServiceClient::connect(endpoint).await.unwrap();
        let request = v1::TriggerSnapshotRequest {
            partition: Some(partition(topic, number)),
            wait: true,
        };
        let (begun, cpu) = (Instant::now(), self.cpu_secs());
        let answer = admin.trigger_snapshot(request).await.unwrap().into_inner();
        let seconds = begun.elapsed().as_secs_f64();
        assert!(!answer.already_covered, "{answer:?}");
        let cpu_secs = self.cpu_secs() - cpu;
        let after = self.metrics().await;
        let grown = |name: &str, labels: &[(&str, &str)]| {
            let name = format!("chronik_snapshot_{name}");
            after.sum(&name, labels) - before.sum(&name, labels)
        };
        let labels = [("operation", "verify")];
        let proof_seconds = grown("operation_duration_seconds_sum", &labels);
        Taken {
            forward: Cost {
                seconds: seconds - proof_seconds,
                cpu_secs,
            },
            proof_seconds,
            stored_bytes: grown("stored_bytes_total", &[]),
        }
    }

    /// Seeds a replica from the newest snapshot into a file, as a broker does: every part checked by its digest.
    pub async fn seed(&self, topic: &str, number: i32, into: &Path) -> Cost {
        let (begun, cpu) = (Instant::now(), self.cpu_secs());
        let endpoint = Endpoint::from_shared(socket(&self.dir)).unwrap();
        let endpoint = endpoint
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .max_frame_size(1 << 20);
        let channel = endpoint.connect().await.unwrap();
        let mut client = SnapshotBootstrapServiceClient::new(channel);
        let (answers, outgoing) = mpsc::channel(4);
        answers.send(request(begin(topic, number))).await.unwrap();
        let incoming = client.bootstrap(ReceiverStream::new(outgoing)).await;
        let mut incoming = incoming.unwrap().into_inner();
        let mut file = fs::File::create(into).unwrap();
        let mut parts: Vec<PartHasher> = Vec::new();
        let mut snapshot_id = String::new();
        while let Some(response) = incoming.message().await.unwrap() {
            match response.message.unwrap() {
                bootstrap_response::Message::Progress(_) => {}
                bootstrap_response::Message::Snapshot(snapshot) => {
                    snapshot_id = snapshot.snapshot_id;
                    let count = snapshot.header.unwrap().parts.len();
                    parts.resize_with(count, PartHasher::new);
                }
                bootstrap_response::Message::Chunk(chunk) => {
                    parts[chunk.part as usize].update(&chunk.data);
                    file.write_all(&chunk.data).unwrap();
                }
                bootstrap_response::Message::Trailer(trailer) => {
                    let found = parts.drain(..).map(|part| part.finish().crc32);
                    assert!(found.eq(trailer.digests.iter().map(|digest| digest.crc32)));
                    let installed = v1::BootstrapInstalled {
                        snapshot_id: snapshot_id.clone(),
                        last_included: trailer.last_included,
                    };
                    let installed = bootstrap_request::Message::Installed(installed);
                    answers.send(request(installed)).await.unwrap();
                }
                bootstrap_response::Message::Outcome(outcome) => {
                    assert_eq!(outcome.result(), v1::BootstrapResult::Installed);
                    break;
                }
                bootstrap_response::Message::Abandon(abandon) => panic!("{abandon:?}"),
            }
        }
        Cost {
            seconds: begun.elapsed().as_secs_f64(),
            cpu_secs: self.cpu_secs() - cpu,
        }
    }

    /// Calls to the store so far.
    pub async fn store_calls(&self) -> f64 {
        let metrics = self.metrics().await;
        metrics.sum("chronik_snapshot_store_requests_total", &[])
    }

    /// CPU time so far, user and system.
    pub fn cpu_secs(&self) -> f64 {
        let stat = self.proc("stat");
        // The name in parentheses may hold anything; user and system time are the 12th and 13th field after it.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2);
        ticks
            .map(|field| field.parse::<f64>().unwrap())
            .sum::<f64>()
            / TICKS_PER_SEC
    }

    /// Most memory that it ever had.
    pub fn peak_mib(&self) -> f64 {
        self.memory_mib("VmHWM:")
    }

    /// Memory now.
    pub fn resident_mib(&self) -> f64 {
        self.memory_mib("VmRSS:")
    }

    fn memory_mib(&self, field: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<f64>().unwrap() / 1024.0
    }

    fn proc(&self, file: &str) -> String {
        let pid = self.process.pid().unwrap();
        fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
    }
}

/// Where the daemon serves gRPC, as both sides write it.
fn socket(dir: &TempDir) -> String {
    format!("unix://{}/daemon.sock", dir.path().display())
}

fn request(message: bootstrap_request::Message) -> v1::BootstrapRequest {
    v1::BootstrapRequest {
        message: Some(message),
    }
}

fn begin(topic: &str, number: i32) -> bootstrap_request::Message {
    bootstrap_request::Message::Begin(v1::BootstrapBegin {
        partition: Some(partition(topic, number)),
        lineage: Some(lineage()),
        boot_id: BOOT_ID.to_owned(),
        local_state: v1::LocalState::Lost.into(),
        local_log: None,
        min_index: 0,
        accepted_state_codecs: vec![CODEC.to_owned()],
        restore_uuid: String::new(),
    })
}
