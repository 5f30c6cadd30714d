//! Options of the data path, of Bootstrap, of the network and of the process.

use super::{DefaultValue, Group, OptionSpec, ValueKind};

/// See [`OptionSpec::effect`].
pub static COMPRESSION: OptionSpec = OptionSpec {
    key: "COMPRESSION",
    group: Group::Data,
    kind: ValueKind::Choice(&["gzip", "zstd", "none"]),
    default: DefaultValue::Value("gzip"),
    unit: "",
    effect: "How new snapshots are stored. Snapshots of every kind stay readable whatever is set.",
    interaction: "See COMPRESSION_LEVEL.",
};

/// See [`OptionSpec::effect`].
pub static COMPRESSION_LEVEL: OptionSpec = OptionSpec {
    key: "COMPRESSION_LEVEL",
    group: Group::Data,
    kind: ValueKind::Whole { min: 1, max: 19 },
    default: DefaultValue::Computed("1, the fastest"),
    unit: "",
    effect: "Higher is smaller and slower.",
    interaction: "gzip takes 1 to 12, zstd takes 1 to 19; with COMPRESSION=none it must not be set.",
};

/// See [`OptionSpec::effect`].
pub static COMPRESSION_THREADS: OptionSpec = OptionSpec {
    key: "COMPRESSION_THREADS",
    group: Group::Data,
    kind: ValueKind::Whole { min: 1, max: 64 },
    default: DefaultValue::Computed("half of the cores, at least 1, at most 4"),
    unit: "threads",
    effect: "Blocks that are compressed, decompressed or checked at one time, over all snapshots and restores.",
    interaction: "Memory grows with COMPRESSION_THREADS and MAX_CONCURRENT, not with the size of a snapshot.",
};

/// See [`OptionSpec::effect`].
pub static INCREMENTAL: OptionSpec = OptionSpec {
    key: "INCREMENTAL",
    group: Group::Data,
    kind: ValueKind::Switch,
    default: DefaultValue::Value("true"),
    unit: "",
    effect: "A snapshot points to what the one before it has stored already, and only the rest is exported and uploaded. `false` makes every snapshot complete.",
    interaction: "Only parts that the broker calls sealed are ever pointed to, and only while COMPRESSION stays the same.",
};

/// See [`OptionSpec::effect`].
pub static INCREMENTAL_FULL_EVERY: OptionSpec = OptionSpec {
    key: "INCREMENTAL_FULL_EVERY",
    group: Group::Data,
    kind: ValueKind::Whole { min: 1, max: 1000 },
    default: DefaultValue::Value("24"),
    unit: "snapshots",
    effect: "Of so many snapshots of a partition in a row one is complete: it needs no file of an earlier one, and all of it is read back.",
    interaction: "1 is the same as INCREMENTAL=false.",
};

/// See [`OptionSpec::effect`].
pub static VERIFY: OptionSpec = OptionSpec {
    key: "VERIFY",
    group: Group::Data,
    kind: ValueKind::Choice(&["full", "stored"]),
    default: DefaultValue::Value("full"),
    unit: "",
    effect: "What is read back before a snapshot counts. `stored`: every new stored byte, against its CRC32. `full`: also decompressed, against the digests that the broker gave.",
    interaction: "Nothing is truncated or deleted on the strength of a snapshot that was not read back, at either level.",
};

/// See [`OptionSpec::effect`].
pub static MAX_UPLOAD_BYTES_PER_SEC: OptionSpec = OptionSpec {
    key: "MAX_UPLOAD_BYTES_PER_SEC",
    group: Group::Data,
    kind: ValueKind::Whole {
        min: 0,
        max: u64::MAX,
    },
    default: DefaultValue::Value("0"),
    unit: "bytes per second",
    effect: "Limit on stored bytes sent to the object store, over all snapshots together. 0 = no limit.",
    interaction: "Too low a limit makes the broker give up the view it exports: it ends an export after 60 s without progress.",
};

/// See [`OptionSpec::effect`].
pub static MAX_EXPORT_BYTES_PER_SEC: OptionSpec = OptionSpec {
    key: "MAX_EXPORT_BYTES_PER_SEC",
    group: Group::Data,
    kind: ValueKind::Whole {
        min: 0,
        max: u64::MAX,
    },
    default: DefaultValue::Value("0"),
    unit: "bytes per second",
    effect: "Limit on raw state read from the broker, over all snapshots together: it spares the broker's disk and cores. 0 = no limit.",
    interaction: "Too low a limit makes the broker give up the view it exports: it ends an export after 60 s without progress.",
};

/// See [`OptionSpec::effect`].
pub static GIVE_WAY: OptionSpec = OptionSpec {
    key: "GIVE_WAY",
    group: Group::Data,
    kind: ValueKind::Switch,
    default: DefaultValue::Value("true"),
    unit: "",
    effect: "While producers of the broker wait longer for their acknowledgements than they did before a snapshot, its state is read more slowly, down to 4 MiB a second.",
    interaction: "Only with brokers that report how long producers wait. Under the limit of MAX_EXPORT_BYTES_PER_SEC, if there is one.",
};

/// See [`OptionSpec::effect`].
pub static PROGRESS_TIMEOUT_SECS: OptionSpec = OptionSpec {
    key: "PROGRESS_TIMEOUT_SECS",
    group: Group::Data,
    kind: ValueKind::Whole { min: 1, max: 3600 },
    default: DefaultValue::Value("60"),
    unit: "seconds",
    effect: "An export that brings no message for this long, or an upload in parts none of which the store acknowledges for this long, is given up. The partition backs off, and a later visit begins anew.",
    interaction: "Longer helps only stores that are slower than one part in this time: the broker ends an export after 60 s without progress whatever is set here.",
};

/// See [`OptionSpec::effect`].
pub static BOOTSTRAP_ENABLED: OptionSpec = OptionSpec {
    key: "BOOTSTRAP_ENABLED",
    group: Group::Bootstrap,
    kind: ValueKind::Switch,
    default: DefaultValue::Value("true"),
    unit: "",
    effect: "`false` answers every Bootstrap call with DISABLED: the broker then seeds nothing from snapshots.",
    interaction: "",
};

/// See [`OptionSpec::effect`].
pub static MAX_CONCURRENT_RESTORES: OptionSpec = OptionSpec {
    key: "MAX_CONCURRENT_RESTORES",
    group: Group::Bootstrap,
    kind: ValueKind::Whole { min: 1, max: 16 },
    default: DefaultValue::Value("4"),
    unit: "restores",
    effect: "Snapshots that are sent to the broker at one time. Further Bootstrap calls wait and are told so.",
    interaction: "",
};

/// See [`OptionSpec::effect`].
pub static DRILL_INTERVAL_SECS: OptionSpec = OptionSpec {
    key: "DRILL_INTERVAL_SECS",
    group: Group::Drills,
    kind: ValueKind::Whole {
        min: 0,
        max: 31_536_000,
    },
    default: DefaultValue::Value("0"),
    unit: "seconds",
    effect: "Every so often, half to one and a half of it at random, the newest proven snapshot of one hosted partition is read completely, as a restore reads it, and thrown away; least recently drilled first. What does not verify is quarantined. 0 = no drills.",
    interaction: "Needs ENABLED=true. A round takes this time for each hosted partition. Drills leave when a Bootstrap begins, and are tried again.",
};

/// See [`OptionSpec::effect`].
pub static MAX_DRILL_BYTES_PER_SEC: OptionSpec = OptionSpec {
    key: "MAX_DRILL_BYTES_PER_SEC",
    group: Group::Drills,
    kind: ValueKind::Whole {
        min: 0,
        max: u64::MAX,
    },
    default: DefaultValue::Value("33554432"),
    unit: "bytes per second",
    effect: "Limit on stored bytes that drills read from the object store. 0 = no limit. Restores and proofs are not limited.",
    interaction: "A drill that takes longer than DELETE_GRACE_SECS may find its files deleted; that is no damage.",
};

/// See [`OptionSpec::effect`].
pub static BROKER_ENDPOINT: OptionSpec = OptionSpec {
    key: "BROKER_ENDPOINT",
    group: Group::Network,
    kind: ValueKind::Endpoint,
    default: DefaultValue::Value("http://127.0.0.1:9190"),
    unit: "",
    effect: "Where the broker serves SnapshotBrokerService.",
    interaction: "https:// encrypts the connection and needs BROKER_TLS_CA. Without it, keep it on the same host or pod.",
};

/// See [`OptionSpec::effect`].
pub static LISTEN: OptionSpec = OptionSpec {
    key: "LISTEN",
    group: Group::Network,
    kind: ValueKind::Endpoint,
    default: DefaultValue::Value("127.0.0.1:9191"),
    unit: "",
    effect: "Where Bootstrap, the admin service, health and reflection are served. The host is an IP address or `localhost`. Port 0 = any free port.",
    interaction: "With TLS_CERT it is encrypted, and `https://` may be written. A TCP address that other hosts can reach needs TLS_CERT and TLS_CLIENT_CA, unless INSECURE=true. A Unix socket has mode 0660.",
};

/// See [`OptionSpec::effect`].
pub static METRICS_LISTEN: OptionSpec = OptionSpec {
    key: "METRICS_LISTEN",
    group: Group::Network,
    kind: ValueKind::Address,
    default: DefaultValue::Value("0.0.0.0:9090"),
    unit: "",
    effect: "Where Prometheus metrics are served over HTTP. Port 0 = any free port.",
    interaction: "Must differ from LISTEN. Nothing secret and nothing that changes state is served there, never over TLS: a probe must not fail for a certificate.",
};

/// See [`OptionSpec::effect`].
pub static STATUS_PAGE: OptionSpec = OptionSpec {
    key: "STATUS_PAGE",
    group: Group::Network,
    kind: ValueKind::Switch,
    default: DefaultValue::Value("true"),
    unit: "",
    effect: "METRICS_LISTEN serves the status page, and `/status` with it, to callers on this very host. `false`: to nobody; LISTEN serves both either way.",
    interaction: "Every user of this host, and every container of the pod, can read it there, whatever TLS_CLIENT_CA and the mode of a Unix socket ask of callers of LISTEN.",
};

/// See [`OptionSpec::effect`].
pub static INSECURE: OptionSpec = OptionSpec {
    key: "INSECURE",
    group: Group::Network,
    kind: ValueKind::Switch,
    default: DefaultValue::Value("false"),
    unit: "",
    effect: "`true` allows LISTEN on an address that other hosts can reach, without TLS_CERT or without TLS_CLIENT_CA. Whoever reaches it can read snapshots and trigger work.",
    interaction: "No effect with TLS_CLIENT_CA, with a Unix socket, or on METRICS_LISTEN.",
};

/// See [`OptionSpec::effect`].
pub static SHUTDOWN_GRACE_SECS: OptionSpec = OptionSpec {
    key: "SHUTDOWN_GRACE_SECS",
    group: Group::Process,
    kind: ValueKind::Whole { min: 0, max: 3600 },
    default: DefaultValue::Value("20"),
    unit: "seconds",
    effect: "Time that running work gets to finish after SIGTERM or SIGINT, before uploads are aborted. A second signal stops at once.",
    interaction: "Keep it below the supervisor's own limit (Kubernetes: terminationGracePeriodSeconds, systemd: TimeoutStopSec).",
};

/// See [`OptionSpec::effect`].
pub static LOG: OptionSpec = OptionSpec {
    key: "LOG",
    group: Group::Process,
    kind: ValueKind::Text,
    default: DefaultValue::Value("info"),
    unit: "",
    effect: "What is logged: a level, or directives such as `info,chronik_snapshotd::pipeline=debug`. SIGHUP takes over a change of it in the file.",
    interaction: "",
};

/// See [`OptionSpec::effect`].
pub static LOG_FORMAT: OptionSpec = OptionSpec {
    key: "LOG_FORMAT",
    group: Group::Process,
    kind: ValueKind::Choice(&["json", "text"]),
    default: DefaultValue::Value("json"),
    unit: "",
    effect: "One JSON object per line, or text for people. Both go to standard error.",
    interaction: "",
};

/// See [`OptionSpec::effect`].
pub static OTLP_ENDPOINT: OptionSpec = OptionSpec {
    key: "OTLP_ENDPOINT",
    group: Group::Process,
    kind: ValueKind::Endpoint,
    default: DefaultValue::Unset,
    unit: "",
    effect: "The collector that spans of visits and of Bootstrap conversations are sent to, as OTLP over gRPC. Not set = none are sent.",
    interaction: "Refused by a program that was built without the cargo feature `otlp`. LOG does not matter to it. The connection is not encrypted.",
};
