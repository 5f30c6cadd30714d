//! Which object store, and how to reach it.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

/// The store that holds the snapshots.
#[derive(Debug, Clone)]
pub struct ObjectStoreConfig {
    /// Where it is.
    pub backend: Backend,
    /// Prepended to every key as it is; empty or ends in `/`.
    pub prefix: String,
}

/// Kinds of store.
#[derive(Debug, Clone)]
pub enum Backend {
    /// Amazon S3 or a compatible server.
    S3(S3Config),
    /// Google Cloud Storage; credentials from the standard environment.
    Gcs {
        /// Bucket name.
        bucket: String,
    },
    /// Azure Blob Storage; account and credentials from the standard environment.
    Azure {
        /// Container name.
        container: String,
    },
    /// A directory.
    Local {
        /// Its path; created if missing.
        root: PathBuf,
    },
    /// Memory of this process; for tests.
    Memory,
}

/// Access to S3. Without keys the standard AWS chain is used (environment, web identity, container, instance).
#[derive(Debug, Clone, Default)]
pub struct S3Config {
    /// Bucket name.
    pub bucket: String,
    /// Region; none = us-east-1 or what the environment says.
    pub region: Option<String>,
    /// Endpoint of a compatible server; none = AWS.
    pub endpoint: Option<Url>,
    /// Access key id.
    pub access_key: Option<SecretString>,
    /// Secret access key.
    pub secret_key: Option<SecretString>,
    /// Token of temporary credentials.
    pub session_token: Option<SecretString>,
    /// Bucket in the path (true) or in the host name (false).
    pub path_style: bool,
    /// Plain HTTP is allowed.
    pub disable_ssl: bool,
    /// What the server is asked to do with what is written; none = what the environment or the bucket says.
    pub encryption: Option<S3Encryption>,
}

/// Server-side encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Encryption {
    /// With keys of S3.
    S3,
    /// With a key of KMS.
    Kms {
        /// Which; none = the account's key for S3.
        key_id: Option<String>,
        /// One data key for many objects; none = what the bucket says.
        bucket_key: Option<bool>,
    },
    /// Twice, with a key of KMS.
    Dsse {
        /// Which; none = the account's key for S3.
        key_id: Option<String>,
    },
}
