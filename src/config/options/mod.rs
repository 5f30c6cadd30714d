//! The table of options: the one place that knows their names, types, defaults and limits.
//!
//! Parsing, `config print`, the suggestions for misspelt names, docs/CONFIGURATION.md and the example file are all
//! fed from [`TABLE`].

mod daemon;
mod policy;
mod security;
mod store;

pub use daemon::*;
pub use policy::*;
pub use security::*;
pub use store::*;

/// Prefix of every option's environment variable.
pub const PREFIX: &str = "CHRONIK_SNAPSHOT_";

/// Variable that names the configuration file. Not an option: it cannot be set inside the file.
pub const CONFIG_FILE_VARIABLE: &str = "CHRONIK_SNAPSHOT_CONFIG";

/// Read if neither `--config` nor [`CONFIG_FILE_VARIABLE`] names a file and this one exists.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/chronik-snapshotd/chronik-snapshotd.toml";

/// Ending of the key that reads a secret from a file.
pub const SECRET_FILE_SUFFIX: &str = "_FILE";

/// One option.
#[derive(Debug)]
pub struct OptionSpec {
    /// Name without prefix, upper case. In the file it is written in lower case.
    pub key: &'static str,
    /// Chapter of the documentation.
    pub group: Group,
    /// Type and limits.
    pub kind: ValueKind,
    /// What holds when no source sets it.
    pub default: DefaultValue,
    /// Unit of the value; empty = none.
    pub unit: &'static str,
    /// What it does.
    pub effect: &'static str,
    /// How it plays together with other options; empty = it does not.
    pub interaction: &'static str,
}

/// Chapters, in the order of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What is snapshotted and when.
    Snapshots,
    /// How much of the log and of the store is kept.
    Keeping,
    /// How the bytes are stored and checked.
    Data,
    /// Seeding brokers.
    Bootstrap,
    /// Restores for practice.
    Drills,
    /// Where the broker is and where the sidecar listens.
    Network,
    /// Encryption, and who may do what.
    Security,
    /// The process itself.
    Process,
    /// The object store.
    ObjectStore,
}

impl Group {
    /// Every chapter, in order.
    pub const ALL: [Self; 9] = [
        Self::Snapshots,
        Self::Keeping,
        Self::Data,
        Self::Bootstrap,
        Self::Drills,
        Self::Network,
        Self::Security,
        Self::Process,
        Self::ObjectStore,
    ];

    /// Heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Snapshots => "Snapshots",
            Self::Keeping => "Truncation and retention",
            Self::Data => "Compression and verification",
            Self::Bootstrap => "Bootstrap",
            Self::Drills => "Drills",
            Self::Network => "Network",
            Self::Security => "Encryption and authorisation",
            Self::Process => "Process",
            Self::ObjectStore => "Object store",
        }
    }
}

/// Type and limits of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// `true` or `false`.
    Switch,
    /// A whole number within limits, both inclusive.
    Whole {
        /// Least value.
        min: u64,
        /// Greatest value; `u64::MAX` = no limit.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Comma-separated topic names, each may end in `*`.
    Topics,
    /// Names in certificates, comma-separated.
    Names,
    /// Numbers of users, comma-separated.
    Uids,
    /// Free text.
    Text,
    /// An absolute path.
    Path,
    /// `host:port`, `http://host:port`, `https://host:port` or `unix:/path`.
    Endpoint,
    /// `ip:port`.
    Address,
    /// An `http` or `https` URL.
    Url,
    /// Free text that is never shown; `<KEY>_FILE` reads it from a file.
    Secret,
}

impl ValueKind {
    /// How the documentation calls it.
    pub fn describe(self) -> String {
        match self {
            Self::Switch => "`true`, `false`".into(),
            Self::Whole { min, max: u64::MAX } => format!("whole number, at least {min}"),
            Self::Whole { min, max } => format!("whole number, {min} to {max}"),
            Self::Choice(words) => words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Topics => "topic names, comma-separated".into(),
            Self::Names => "names, comma-separated".into(),
            Self::Uids => "user ids, comma-separated".into(),
            Self::Text => "text".into(),
            Self::Path => "absolute path".into(),
            Self::Endpoint => {
                "`host:port`, `http://host:port`, `https://host:port` or `unix:/path`".into()
            }
            Self::Address => "`ip:port`".into(),
            Self::Url => "`http` or `https` URL".into(),
            Self::Secret => "secret".into(),
        }
    }
}

/// What holds when no source sets an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// This value, written as an operator would.
    Value(&'static str),
    /// Nothing.
    Unset,
    /// Worked out at start, by this rule.
    Computed(&'static str),
}

impl OptionSpec {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key)
    }

    /// The variable without prefix, for the names that Chronik uses too.
    pub fn bare_variable(&self) -> Option<&'static str> {
        (self.group == Group::ObjectStore).then_some(self.key)
    }

    /// The name of a secret among the credentials that systemd hands over.
    pub fn credential(&self) -> String {
        self.file_key().replace('_', "-")
    }

    /// The name in the file.
    pub fn file_key(&self) -> String {
        self.key.to_ascii_lowercase()
    }

    /// True when the value must never be shown.
    pub fn is_secret(&self) -> bool {
        self.kind == ValueKind::Secret
    }
}

/// Every option, in the order of the documentation.
pub static TABLE: &[&OptionSpec] = &[
    &ENABLED,
    &LOG_THRESHOLD,
    &TIME_THRESHOLD_SECS,
    &MIN_INTERVAL_SECS,
    &CHECK_INTERVAL_SECS,
    &MAX_CONCURRENT,
    &UPLOADER,
    &TOPICS_INCLUDE,
    &TOPICS_EXCLUDE,
    &COMPACT,
    &TRAILING_ENTRIES,
    &RETENTION,
    &RETENTION_COUNT,
    &DELETE_GRACE_SECS,
    &COMPRESSION,
    &COMPRESSION_LEVEL,
    &COMPRESSION_THREADS,
    &INCREMENTAL,
    &INCREMENTAL_FULL_EVERY,
    &VERIFY,
    &MAX_UPLOAD_BYTES_PER_SEC,
    &MAX_EXPORT_BYTES_PER_SEC,
    &GIVE_WAY,
    &PROGRESS_TIMEOUT_SECS,
    &BOOTSTRAP_ENABLED,
    &MAX_CONCURRENT_RESTORES,
    &DRILL_INTERVAL_SECS,
    &MAX_DRILL_BYTES_PER_SEC,
    &BROKER_ENDPOINT,
    &LISTEN,
    &METRICS_LISTEN,
    &STATUS_PAGE,
    &INSECURE,
    &TLS_CERT,
    &TLS_KEY,
    &TLS_CLIENT_CA,
    &ADMIN_CLIENTS,
    &ADMIN_UIDS,
    &BOOTSTRAP_CLIENTS,
    &BOOTSTRAP_UIDS,
    &MAX_CONNECTIONS,
    &BROKER_TLS_CA,
    &BROKER_TLS_CERT,
    &BROKER_TLS_KEY,
    &BROKER_TLS_NAME,
    &BROKER_UIDS,
    &ADMIN_TLS_CA,
    &ADMIN_TLS_CERT,
    &ADMIN_TLS_KEY,
    &ADMIN_TLS_NAME,
    &SHUTDOWN_GRACE_SECS,
    &LOG,
    &LOG_FORMAT,
    &OTLP_ENDPOINT,
    &OBJECT_STORE_BACKEND,
    &S3_PREFIX,
    &S3_BUCKET,
    &S3_REGION,
    &S3_ENDPOINT,
    &S3_PATH_STYLE,
    &S3_DISABLE_SSL,
    &S3_ACCESS_KEY,
    &S3_SECRET_KEY,
    &S3_SESSION_TOKEN,
    &S3_SSE,
    &S3_SSE_KMS_KEY_ID,
    &S3_SSE_BUCKET_KEY,
    &GCS_BUCKET,
    &AZURE_CONTAINER,
    &LOCAL_STORAGE_PATH,
];

/// True when `key` (upper case, without prefix) may be set: an option, or the `_FILE` form of a secret.
pub fn is_known(key: &str) -> bool {
    TABLE.iter().any(|spec| spec.key == key) || secret_of_file_key(key).is_some()
}

/// The secret that `key` reads from a file, if `key` is such a name.
pub fn secret_of_file_key(key: &str) -> Option<&'static OptionSpec> {
    let secret = key.strip_suffix(SECRET_FILE_SUFFIX)?;
    TABLE
        .iter()
        .copied()
        .find(|spec| spec.is_secret() && spec.key == secret)
}

/// The known key that looks most like `key`.
pub fn nearest(key: &str) -> String {
    let files = TABLE
        .iter()
        .filter(|spec| spec.is_secret())
        .map(|spec| format!("{}{SECRET_FILE_SUFFIX}", spec.key));
    TABLE
        .iter()
        .map(|spec| spec.key.to_owned())
        .chain(files)
        .min_by_key(|candidate| edit_distance(key, candidate))
        .unwrap_or_default()
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitution = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(last[j] + 1).min(row[j - 1] + 1);
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if swapped {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_unique_and_grouped_by_chapter() {
        let keys: HashSet<_> = TABLE.iter().map(|spec| spec.key).collect();
        assert_eq!(keys.len(), TABLE.len());
        let order: Vec<usize> = TABLE
            .iter()
            .map(|spec| Group::ALL.iter().position(|g| *g == spec.group).unwrap())
            .collect();
        assert!(order.is_sorted(), "{order:?}");
    }

    #[test]
    fn misspelt_keys_find_their_neighbour() {
        assert_eq!(nearest("LOG_TRESHOLD"), "LOG_THRESHOLD");
        assert_eq!(nearest("RETENTION_CUONT"), "RETENTION_COUNT");
        assert_eq!(nearest("S3_SECRET_KEY_FIEL"), "S3_SECRET_KEY_FILE");
        assert_eq!(nearest("TRUNCATE_COMPACT"), "COMPACT");
    }

    #[test]
    fn only_secrets_have_a_file_form() {
        assert!(is_known("S3_SECRET_KEY_FILE"));
        assert!(!is_known("S3_BUCKET_FILE"));
        assert!(!is_known("log_threshold"));
    }
}
