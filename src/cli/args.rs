//! The flags that set options. They are the strongest source.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    config::{
        self, Callee, ConfigError, Endpoint, FlagValue, Sources,
        options::{self, OptionSpec},
    },
    raft::TopicPartition,
};

/// Flags of every command that reads the configuration.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// Configuration file [default: the one `CHRONIK_SNAPSHOT_CONFIG` names, else
    /// /etc/chronik-snapshotd/chronik-snapshotd.toml if it exists].
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,

    /// Set any option by its key, for example `--set LOG_THRESHOLD=5000`. May be repeated; the last one wins, also
    /// over the flags below.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,

    /// Where the broker is.
    #[arg(long, value_name = "ENDPOINT")]
    broker_endpoint: Option<String>,

    /// Where Bootstrap, admin and health are served.
    #[arg(long, value_name = "ENDPOINT")]
    listen: Option<String>,

    /// Where metrics are served.
    #[arg(long, value_name = "IP:PORT")]
    metrics_listen: Option<String>,

    /// Kind of object store: s3, gcs, azure, local or memory.
    #[arg(long, value_name = "KIND")]
    object_store_backend: Option<String>,

    /// Bucket, for s3.
    #[arg(long, value_name = "NAME")]
    s3_bucket: Option<String>,

    /// Server, for stores that speak S3.
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,

    /// Directory, for local.
    #[arg(long, value_name = "PATH")]
    local_storage_path: Option<String>,

    /// What is logged: a level or directives.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,

    /// json or text.
    #[arg(long, value_name = "FORM")]
    log_format: Option<String>,
}

impl ConfigArgs {
    /// All sources of a process with these flags and this environment.
    pub(super) fn sources(self, environment: Vec<(OsString, OsString)>) -> Sources {
        let named: [(&OptionSpec, Option<String>); 9] = [
            (&options::BROKER_ENDPOINT, self.broker_endpoint),
            (&options::LISTEN, self.listen),
            (&options::METRICS_LISTEN, self.metrics_listen),
            (&options::OBJECT_STORE_BACKEND, self.object_store_backend),
            (&options::S3_BUCKET, self.s3_bucket),
            (&options::S3_ENDPOINT, self.s3_endpoint),
            (&options::LOCAL_STORAGE_PATH, self.local_storage_path),
            (&options::LOG, self.log),
            (&options::LOG_FORMAT, self.log_format),
        ];
        let named = named.into_iter().filter_map(|(spec, value)| {
            let flag = format!("--{}", spec.file_key().replace('_', "-"));
            value.map(|value| FlagValue {
                key: spec.key.to_owned(),
                value,
                flag,
            })
        });
        let generic = self.set.into_iter().map(|(key, value)| FlagValue {
            flag: format!("--set {key}"),
            key,
            value,
        });
        Sources {
            config_file: self.config,
            flags: named.chain(generic).collect(),
            environment,
            default_file: Some(PathBuf::from(options::DEFAULT_CONFIG_FILE)),
        }
    }
}

/// Which daemon a command calls.
#[derive(Debug, Args)]
pub(super) struct EndpointArgs {
    /// The daemon: `host:port`, `http://host:port`, `https://host:port` or `unix:/path` [default: LISTEN of the configuration].
    #[arg(long, value_name = "ENDPOINT", value_parser = parse_endpoint)]
    endpoint: Option<Endpoint>,

    /// Configuration file, for LISTEN and `ADMIN_TLS_*`.
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,

    /// Authorities that the daemon's certificate must come from (PEM), for https [default: `ADMIN_TLS_CA`].
    #[arg(long, value_name = "PATH")]
    tls_ca: Option<PathBuf>,

    /// Certificate to show to the daemon (PEM) [default: `ADMIN_TLS_CERT`].
    #[arg(long, value_name = "PATH")]
    tls_cert: Option<PathBuf>,

    /// Its private key (PEM) [default: `ADMIN_TLS_KEY`].
    #[arg(long, value_name = "PATH")]
    tls_key: Option<PathBuf>,

    /// Name in the daemon's certificate [default: `ADMIN_TLS_NAME`, else the host that is called].
    #[arg(long, value_name = "NAME")]
    tls_name: Option<String>,
}

impl EndpointArgs {
    /// The daemon. With an `--endpoint` that is not encrypted no configuration is read.
    pub(super) fn daemon(
        self,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<Callee, ConfigError> {
        let plain = |endpoint: &Endpoint| !endpoint.is_encrypted();
        if let Some(endpoint) = self.endpoint.clone().filter(plain) {
            return Ok(Callee {
                endpoint,
                tls: None,
                uids: None,
            });
        }
        // A path of the command line is seen from where the command runs.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let text = |path: PathBuf| absolute(path).display().to_string();
        let flags = [
            (&options::ADMIN_TLS_CA, self.tls_ca.map(text)),
            (&options::ADMIN_TLS_CERT, self.tls_cert.map(text)),
            (&options::ADMIN_TLS_KEY, self.tls_key.map(text)),
            (&options::ADMIN_TLS_NAME, self.tls_name),
        ];
        let flags = flags.into_iter().filter_map(|(spec, value)| {
            let name = spec.file_key().replace('_', "-");
            let flag = format!("--{}", name.trim_start_matches("admin-"));
            value.map(|value| FlagValue {
                key: spec.key.to_owned(),
                value,
                flag,
            })
        });
        let sources = Sources {
            config_file: self.config,
            flags: flags.collect(),
            environment,
            default_file: Some(PathBuf::from(options::DEFAULT_CONFIG_FILE)),
        };
        config::daemon(&sources, self.endpoint)
    }
}

pub(super) fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    match Endpoint::parse(text) {
        Ok(Endpoint::Tcp { port: 0, .. }) => Err("port 0 cannot be called".to_owned()),
        Ok(endpoint) => Ok(endpoint),
        Err(reason) => Err(format!(
            "{reason}; write host:port, http://host:port, https://host:port or unix:/path"
        )),
    }
}

/// `2h`, `30m`, `90s`, `7d`: a whole number and its unit.
pub(super) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "write a whole number and s, m, h or d, for example 2h";
    let unit_secs = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(FORM),
    };
    let number = &text[..text.len() - 1];
    let legal = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| legal).ok_or(FORM)?;
    match number.checked_mul(unit_secs) {
        None | Some(0) => Err("write a duration of at least 1s"),
        Some(secs) => Ok(Duration::from_secs(secs)),
    }
}

/// `TOPIC/PARTITION`.
pub(super) fn parse_partition(text: &str) -> Result<TopicPartition, String> {
    let parsed = text.parse::<TopicPartition>();
    parsed.map_err(|error| format!("{error}, for example orders/0"))
}

/// Keys may be given with or without the prefix, in either case.
fn parse_setting(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("there is no =")?;
    let key = key.to_ascii_uppercase();
    let key = key.strip_prefix(options::PREFIX).unwrap_or(&key);
    if key.is_empty() {
        return Err("the key is missing");
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        for bad in [
            "",
            "2",
            "h",
            "-1h",
            "+1h",
            "1.5h",
            "1 h",
            "0s",
            "2é",
            "99999999999999999d",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}
