//! How a cluster is to be.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use crate::binaries::Binaries;

/// Where snapshots go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// A directory that all sidecars share.
    Local(PathBuf),
    /// A bucket.
    S3(S3Settings),
}

/// A bucket, in the names that the sidecar reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// `S3_*` variables by name.
    pub variables: BTreeMap<String, String>,
}

impl S3Settings {
    /// All `S3_*` variables of this process, if `S3_BUCKET` is among them.
    pub fn from_env() -> Option<Self> {
        let variables: BTreeMap<_, _> = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| name.starts_with("S3_") && !value.is_empty())
            .collect();
        variables
            .contains_key("S3_BUCKET")
            .then_some(Self { variables })
    }

    /// A bucket of a test server on this machine.
    pub fn test_server(endpoint: &str, bucket: &str, access_key: &str, secret_key: &str) -> Self {
        let variables = [
            ("S3_BUCKET", bucket),
            ("S3_REGION", "us-east-1"),
            ("S3_ENDPOINT", endpoint),
            ("S3_ACCESS_KEY", access_key),
            ("S3_SECRET_KEY", secret_key),
            ("S3_PATH_STYLE", "true"),
            ("S3_DISABLE_SSL", "true"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            variables: variables.into_iter().map(owned).collect(),
        }
    }
}

impl Store {
    /// The variables that tell a sidecar of it.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match self {
            Self::Local(dir) => BTreeMap::from([
                pair("OBJECT_STORE_BACKEND", "local"),
                pair("LOCAL_STORAGE_PATH", &dir.to_string_lossy()),
            ]),
            Self::S3(settings) => {
                let mut variables = settings.variables.clone();
                variables.extend([pair("OBJECT_STORE_BACKEND", "s3")]);
                variables
            }
        }
    }
}

/// What a broker without state may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// Create a cluster with the others.
    Found,
    /// Join the cluster that there is.
    Join,
    /// Begin the next life of a lost cluster, with this token.
    Restore(String),
}

/// How a cluster is to be.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Number of brokers; their ids are 1 to this.
    pub brokers: i32,
    /// A sidecar beside every broker?
    pub sidecars: bool,
    /// Everything that the cluster writes, logs among it. Created if missing.
    pub base_dir: PathBuf,
    /// Where snapshots go.
    pub store: Store,
    /// The cluster's identity.
    pub cluster_id: String,
    /// Variables of every sidecar, without the prefix `CHRONIK_SNAPSHOT_`.
    pub sidecar_env: BTreeMap<String, String>,
    /// Variables of one sidecar, which win.
    pub one_sidecar_env: BTreeMap<i32, BTreeMap<String, String>>,
    /// Do the brokers reach each other through links that can fail?
    pub links: bool,
    /// More arguments for every broker.
    pub broker_args: Vec<String>,
    /// The programs.
    pub binaries: Binaries,
}

impl ClusterOptions {
    /// Three brokers with sidecars and a directory as store, all below `base_dir`.
    pub fn new(base_dir: &Path) -> Self {
        Self {
            brokers: 3,
            sidecars: true,
            base_dir: base_dir.to_owned(),
            store: Store::Local(base_dir.join("store")),
            cluster_id: "harness".to_owned(),
            sidecar_env: BTreeMap::new(),
            one_sidecar_env: BTreeMap::new(),
            links: false,
            broker_args: Vec::new(),
            binaries: Binaries::find(),
        }
    }

    /// Sets the number of brokers.
    #[must_use]
    pub fn brokers(mut self, brokers: i32) -> Self {
        self.brokers = brokers;
        self
    }

    /// Runs the brokers alone.
    #[must_use]
    pub fn without_sidecars(mut self) -> Self {
        self.sidecars = false;
        self
    }

    /// Sets the store.
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = store;
        self
    }

    /// Sets a sidecar option for all sidecars: the key without `CHRONIK_SNAPSHOT_`.
    #[must_use]
    pub fn sidecar_env(mut self, key: &str, value: &str) -> Self {
        self.sidecar_env.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets a sidecar option for one broker's sidecar.
    #[must_use]
    pub fn sidecar_env_of(mut self, broker: i32, key: &str, value: &str) -> Self {
        let variables = self.one_sidecar_env.entry(broker).or_default();
        variables.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Puts a link that can fail between every two brokers, in each direction.
    #[must_use]
    pub fn with_links(mut self) -> Self {
        self.links = true;
        self
    }

    /// Adds arguments for every broker.
    #[must_use]
    pub fn broker_args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.broker_args.extend(args.into_iter().map(Into::into));
        self
    }
}
