//! One broker, its sidecar, their ports and directories.

use std::path::{Path, PathBuf};

use refbroker::{
    client::{ClientError, snapshot},
    proto::v1::ReplicaStatus,
};

use crate::{
    error::HarnessError,
    http::get,
    options::{Beginning, ClusterOptions},
    ports::Port,
    process::Process,
    status::{Metrics, SidecarStatus},
};

/// Role of a replica, as a word.
pub use refbroker::proto::v1::ReplicaRole as Role;

/// One broker with its sidecar.
#[derive(Debug)]
pub struct Node {
    id: i32,
    data_dir: PathBuf,
    kafka: Port,
    peer: Port,
    snapshot: Port,
    sidecar_grpc: Port,
    sidecar_http: Port,
    /// The broker's process.
    pub broker: Process,
    /// The sidecar's process, if the cluster has sidecars.
    pub sidecar: Option<Process>,
}

impl Node {
    pub(crate) fn new(id: i32, options: &ClusterOptions) -> Result<Self, HarnessError> {
        let base = &options.base_dir;
        let log = |name: &str| base.join("logs").join(format!("{name}-{id}.log"));
        let broker = Process::new(
            format!("broker {id}"),
            &options.binaries.broker,
            &log("broker"),
        );
        let sidecar = options.sidecars.then(|| {
            let name = format!("sidecar {id}");
            Process::new(name, &options.binaries.sidecar, &log("sidecar"))
        });
        Ok(Self {
            id,
            data_dir: base.join(format!("broker-{id}")),
            kafka: Port::reserve()?,
            peer: Port::reserve()?,
            snapshot: Port::reserve()?,
            sidecar_grpc: Port::reserve()?,
            sidecar_http: Port::reserve()?,
            broker,
            sidecar,
        })
    }

    /// The broker's id.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Everything that the broker keeps.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// HOST:PORT for Kafka clients.
    pub fn kafka_address(&self) -> String {
        self.kafka.address()
    }

    /// HOST:PORT for other brokers.
    pub fn peer_address(&self) -> String {
        self.peer.address()
    }

    /// Where the broker serves its sidecar, as a URL.
    pub fn snapshot_endpoint(&self) -> String {
        format!("http://{}", self.snapshot.address())
    }

    /// Where the sidecar serves its broker and operators, as a URL.
    pub fn sidecar_endpoint(&self) -> String {
        format!("http://{}", self.sidecar_grpc_address())
    }

    /// HOST:PORT of the sidecar's `/status`, which it serves beside gRPC.
    pub fn sidecar_grpc_address(&self) -> String {
        self.sidecar_grpc.address()
    }

    /// HOST:PORT of the sidecar's `/metrics`, `/healthz` and `/readyz`.
    pub fn sidecar_http_address(&self) -> String {
        self.sidecar_http.address()
    }

    /// The replicas that run on the broker.
    pub async fn replicas(&self) -> Result<Vec<ReplicaStatus>, ClientError> {
        snapshot::list_replicas(&self.snapshot_endpoint()).await
    }

    /// The sidecar's `/status`, its first thousand partitions.
    pub async fn status(&self) -> Result<SidecarStatus, HarnessError> {
        let body = get(&self.sidecar_grpc_address(), "/status?page_size=1000").await?;
        serde_json::from_str(&body).map_err(|source| HarnessError::Json {
            what: format!("/status of sidecar {}", self.id),
            source,
        })
    }

    /// The sidecar's `/metrics`.
    pub async fn metrics(&self) -> Result<Metrics, HarnessError> {
        get(&self.sidecar_http_address(), "/metrics")
            .await
            .map(Metrics)
    }

    /// Writes the commands. `peers` = all brokers as `ID=HOST:PORT,...`.
    pub(crate) fn prepare(&mut self, options: &ClusterOptions, peers: &str, beginning: &Beginning) {
        let mut args = vec![
            "serve".to_owned(),
            format!("--broker-id={}", self.id),
            format!("--data-dir={}", self.data_dir.display()),
            format!("--kafka-listen={}", self.kafka.address()),
            format!("--peer-listen={}", self.peer.address()),
            format!("--snapshot-listen={}", self.snapshot.address()),
            format!("--peers={peers}"),
        ];
        if self.sidecar.is_some() {
            args.push(format!("--sidecar-endpoint={}", self.sidecar_endpoint()));
        }
        match beginning {
            Beginning::Found => {
                args.push(format!("--cluster-id={}", options.cluster_id));
                args.push("--initial-cluster=new".to_owned());
            }
            Beginning::Join => {}
            Beginning::Restore(token) => args.push(format!("--restore-token={token}")),
        }
        args.extend(options.broker_args.iter().cloned());
        self.broker.set_args(args);
        if *beginning == Beginning::Found {
            self.prepare_sidecar(options);
        }
    }

    fn prepare_sidecar(&mut self, options: &ClusterOptions) {
        let addresses = [
            ("BROKER_ENDPOINT", self.snapshot_endpoint()),
            ("LISTEN", self.sidecar_grpc.address()),
            ("METRICS_LISTEN", self.sidecar_http.address()),
        ];
        let Some(sidecar) = self.sidecar.as_mut() else {
            return;
        };
        sidecar.set_args(["run"]);
        for (name, value) in options.store.variables() {
            sidecar.set_env(name, value);
        }
        for (key, value) in addresses {
            sidecar.set_env(format!("CHRONIK_SNAPSHOT_{key}"), value);
        }
        let own = options.one_sidecar_env.get(&self.id).into_iter().flatten();
        for (key, value) in options.sidecar_env.iter().chain(own) {
            sidecar.set_env(format!("CHRONIK_SNAPSHOT_{key}"), value);
        }
    }
}
