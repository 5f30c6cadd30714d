//! The cluster of the demo.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chronik_harness::{ClusterOptions, S3Settings, Store};

/// A file that marks a directory as the demo's own.
pub(crate) const MARKER: &str = ".chronik-demo";
/// Entries that stay in a log below the newest snapshot.
pub(crate) const TRAILING_ENTRIES: u64 = 200;
/// Sidecar options: small enough for a demo of a minute. A partition is due after 2000 entries, or 4 s after its last
/// snapshot, so that a quiet one is covered to its end.
const OPTIONS: [(&str, &str); 4] = [
    ("LOG_THRESHOLD", "2000"),
    ("TIME_THRESHOLD_SECS", "4"),
    ("CHECK_INTERVAL_SECS", "1"),
    ("MIN_INTERVAL_SECS", "1"),
];

/// Milliseconds since the Unix epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "a record's timestamp is its writer's wall clock"
)]
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO).as_millis();
    u64::try_from(now).unwrap_or(u64::MAX)
}

/// Three brokers and three sidecars; the store is a directory, or the bucket that `S3_BUCKET` names.
pub(crate) fn options(dir: &Path) -> ClusterOptions {
    let mut options = ClusterOptions::new(dir);
    options.cluster_id = format!("demo-{}", now_ms());
    if let Some(mut settings) = S3Settings::from_env() {
        // A prefix of its own: a store belongs to one cluster, and every run is another one.
        let prefix = settings
            .variables
            .entry("S3_PREFIX".to_owned())
            .or_default();
        let above = prefix.trim_end_matches('/');
        let slash = if above.is_empty() { "" } else { "/" };
        *prefix = format!("{above}{slash}{}/", options.cluster_id);
        options.store = Store::S3(settings);
    }
    options = options.sidecar_env("TRAILING_ENTRIES", &TRAILING_ENTRIES.to_string());
    for (key, value) in OPTIONS {
        options = options.sidecar_env(key, value);
    }
    options
}

/// The store in words.
pub(crate) fn describe(store: &Store) -> String {
    match store {
        Store::Local(dir) => format!("the directory {}", dir.display()),
        Store::S3(settings) => {
            let variable = |name: &str| settings.variables.get(name).map_or("", String::as_str);
            format!("s3://{}/{}", variable("S3_BUCKET"), variable("S3_PREFIX"))
        }
    }
}
