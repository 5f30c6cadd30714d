//! Options of the object store. Chronik uses the same names, so they are accepted without the prefix too.

use super::{DefaultValue, Group, OptionSpec, ValueKind};

/// See [`OptionSpec::effect`].
pub static OBJECT_STORE_BACKEND: OptionSpec = OptionSpec {
    key: "OBJECT_STORE_BACKEND",
    group: Group::ObjectStore,
    kind: ValueKind::Choice(&["s3", "gcs", "azure", "local", "memory"]),
    default: DefaultValue::Value("s3"),
    unit: "",
    effect: "Kind of store. `memory` forgets everything at exit and is only for tests.",
    interaction: "s3 needs S3_BUCKET, gcs needs GCS_BUCKET, azure needs AZURE_CONTAINER, local needs LOCAL_STORAGE_PATH. Options of the other kinds are ignored.",
};

/// See [`OptionSpec::effect`].
pub static S3_PREFIX: OptionSpec = OptionSpec {
    key: "S3_PREFIX",
    group: Group::ObjectStore,
    kind: ValueKind::Text,
    default: DefaultValue::Value("snapshots/"),
    unit: "",
    effect: "Put in front of every key as it is, with every kind of store. Must end in `/`; a lone `/` means no prefix.",
    interaction: "A value that does not end in `/` is refused, not mended: two sidecars that mend it differently would not see each other's snapshots.",
};

/// See [`OptionSpec::effect`].
pub static S3_BUCKET: OptionSpec = OptionSpec {
    key: "S3_BUCKET",
    group: Group::ObjectStore,
    kind: ValueKind::Text,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Bucket name. It must exist.",
    interaction: "Required with OBJECT_STORE_BACKEND=s3.",
};

/// See [`OptionSpec::effect`].
pub static S3_REGION: OptionSpec = OptionSpec {
    key: "S3_REGION",
    group: Group::ObjectStore,
    kind: ValueKind::Text,
    default: DefaultValue::Computed("AWS_REGION, else us-east-1"),
    unit: "",
    effect: "Region of the bucket.",
    interaction: "",
};

/// See [`OptionSpec::effect`].
pub static S3_ENDPOINT: OptionSpec = OptionSpec {
    key: "S3_ENDPOINT",
    group: Group::ObjectStore,
    kind: ValueKind::Url,
    default: DefaultValue::Computed("AWS"),
    unit: "",
    effect: "Server that speaks S3, for example MinIO or Garage.",
    interaction: "An `http` URL needs S3_DISABLE_SSL=true.",
};

/// See [`OptionSpec::effect`].
pub static S3_PATH_STYLE: OptionSpec = OptionSpec {
    key: "S3_PATH_STYLE",
    group: Group::ObjectStore,
    kind: ValueKind::Switch,
    default: DefaultValue::Computed("true if S3_ENDPOINT is set, else false"),
    unit: "",
    effect: "`true` puts the bucket into the path, `false` into the host name.",
    interaction: "",
};

/// See [`OptionSpec::effect`].
pub static S3_DISABLE_SSL: OptionSpec = OptionSpec {
    key: "S3_DISABLE_SSL",
    group: Group::ObjectStore,
    kind: ValueKind::Switch,
    default: DefaultValue::Value("false"),
    unit: "",
    effect: "`true` allows an S3_ENDPOINT without encryption.",
    interaction: "",
};

/// See [`OptionSpec::effect`].
pub static S3_ACCESS_KEY: OptionSpec = OptionSpec {
    key: "S3_ACCESS_KEY",
    group: Group::ObjectStore,
    kind: ValueKind::Secret,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Access key id.",
    interaction: "Set together with S3_SECRET_KEY. Without both, the standard AWS chain is used: environment, web identity, container, instance.",
};

/// See [`OptionSpec::effect`].
pub static S3_SECRET_KEY: OptionSpec = OptionSpec {
    key: "S3_SECRET_KEY",
    group: Group::ObjectStore,
    kind: ValueKind::Secret,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Secret access key.",
    interaction: "Set together with S3_ACCESS_KEY.",
};

/// See [`OptionSpec::effect`].
pub static S3_SESSION_TOKEN: OptionSpec = OptionSpec {
    key: "S3_SESSION_TOKEN",
    group: Group::ObjectStore,
    kind: ValueKind::Secret,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Token of temporary credentials. They are not renewed.",
    interaction: "Needs S3_ACCESS_KEY and S3_SECRET_KEY.",
};

/// See [`OptionSpec::effect`].
pub static S3_SSE: OptionSpec = OptionSpec {
    key: "S3_SSE",
    group: Group::ObjectStore,
    kind: ValueKind::Choice(&["s3", "kms", "dsse"]),
    default: DefaultValue::Computed("AWS_SERVER_SIDE_ENCRYPTION, else what the bucket says"),
    unit: "",
    effect: "How S3 is asked to encrypt what is written: with keys of S3 (`AES256`), with a key of KMS (`aws:kms`), or twice with one (`aws:kms:dsse`).",
    interaction: "With it, AWS_SERVER_SIDE_ENCRYPTION and AWS_SSE_* are not read. Objects that are there already stay as they are.",
};

/// See [`OptionSpec::effect`].
pub static S3_SSE_KMS_KEY_ID: OptionSpec = OptionSpec {
    key: "S3_SSE_KMS_KEY_ID",
    group: Group::ObjectStore,
    kind: ValueKind::Text,
    default: DefaultValue::Computed("the account's key for S3"),
    unit: "",
    effect: "Key of KMS: its id, ARN or alias.",
    interaction: "Needs S3_SSE=kms or S3_SSE=dsse. Every sidecar needs kms:GenerateDataKey and kms:Decrypt on it.",
};

/// See [`OptionSpec::effect`].
pub static S3_SSE_BUCKET_KEY: OptionSpec = OptionSpec {
    key: "S3_SSE_BUCKET_KEY",
    group: Group::ObjectStore,
    kind: ValueKind::Switch,
    default: DefaultValue::Computed("what the bucket says"),
    unit: "",
    effect: "`true` lets S3 use one data key for many objects, which costs fewer requests to KMS.",
    interaction: "Needs S3_SSE=kms.",
};

/// See [`OptionSpec::effect`].
pub static GCS_BUCKET: OptionSpec = OptionSpec {
    key: "GCS_BUCKET",
    group: Group::ObjectStore,
    kind: ValueKind::Text,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Bucket name. Credentials come from the standard Google Cloud environment.",
    interaction: "Required with OBJECT_STORE_BACKEND=gcs.",
};

/// See [`OptionSpec::effect`].
pub static AZURE_CONTAINER: OptionSpec = OptionSpec {
    key: "AZURE_CONTAINER",
    group: Group::ObjectStore,
    kind: ValueKind::Text,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Container name. Account and credentials come from the standard Azure environment.",
    interaction: "Required with OBJECT_STORE_BACKEND=azure.",
};

/// See [`OptionSpec::effect`].
pub static LOCAL_STORAGE_PATH: OptionSpec = OptionSpec {
    key: "LOCAL_STORAGE_PATH",
    group: Group::ObjectStore,
    kind: ValueKind::Path,
    default: DefaultValue::Unset,
    unit: "",
    effect: "Directory that holds the objects; created if missing. Every sidecar of the cluster must see the same directory.",
    interaction: "Required with OBJECT_STORE_BACKEND=local.",
};
