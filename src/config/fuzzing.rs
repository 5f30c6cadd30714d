//! What must hold of any configuration. See [`crate::fuzzing`].

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use secrecy::ExposeSecret as _;

use super::{
    Config, Endpoint, FlagValue, Loaded, Sources, load,
    object_store::{Backend, S3Config},
    options::{CONFIG_FILE_VARIABLE, PREFIX, SECRET_FILE_SUFFIX, TABLE, ValueKind},
};
use crate::format::Codec;

/// The first byte chooses where a secret is given. The rest is text: a TOML file, and behind a zero byte lines of
/// `NAME=value` for the environment.
///
/// Whatever comes of it, the secret is printed nowhere. What is accepted keeps the limits of every option, and gives
/// the same configuration when the printed settings are given as the only source.
pub(crate) fn configuration(data: &[u8]) {
    let Some((place, text)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let (file, environment) = text.split_once('\0').unwrap_or((&text, ""));
    if names_a_file(file) {
        return;
    }
    let environment = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| !is_path(name))
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let mut given = Given {
        file: file.to_owned(),
        environment: environment.collect(),
        flags: Vec::new(),
        secret_file: None,
    };
    let secret = planted(data);
    given.plant(*place, &secret);
    let loaded = given.load();
    assert_secret_shows_nowhere(&loaded, &secret);
    if let Ok(config) = &loaded.config {
        assert_options(&loaded);
        assert_config(config);
        assert_same_when_printed(&loaded, config);
    }
}

fn is_path(variable: &str) -> bool {
    variable.ends_with(SECRET_FILE_SUFFIX)
        || variable.contains("TLS_")
        || [CONFIG_FILE_VARIABLE, "CREDENTIALS_DIRECTORY"].contains(&variable)
}

/// Other files than those planted are not read: they could be pipes.
fn names_a_file(toml: &str) -> bool {
    let lower = toml.to_ascii_lowercase();
    lower.contains("_file")
        || lower.contains("tls_")
        || lower.contains("\\u")
        || lower.contains("\\x")
}

/// A text that these bytes cannot hold.
fn planted(data: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(data))
}

struct Given {
    file: String,
    environment: Vec<(OsString, OsString)>,
    flags: Vec<FlagValue>,
    secret_file: Option<String>,
}

impl Given {
    fn plant(&mut self, place: u8, secret: &str) {
        let variable = |name: &str, value: String| (OsString::from(name), OsString::from(value));
        let quoted = format!("s3_secret_key = \"{secret}\"\n");
        match place % 10 {
            0 => self
                .environment
                .push(variable("S3_SECRET_KEY", secret.to_owned())),
            1 => self.environment.push(variable(
                "CHRONIK_SNAPSHOT_S3_SESSION_TOKEN",
                secret.to_owned(),
            )),
            2 => self.environment.push(variable(
                "CHRONIK_SNAPSHOT_S3_SECRET_KYE",
                secret.to_owned(),
            )),
            3 => self
                .environment
                .push(variable("S3_ENDPOINT", format!("https://me:{secret}@host"))),
            4 => self.file.insert_str(0, &quoted),
            5 => {
                let at_the_end = format!("\ns3_access_key = \"{secret}\"");
                self.file += &at_the_end;
            }
            6 => self
                .file
                .insert_str(0, &format!("s3_secret_key = [\"{secret}\"]\n")),
            7 => self
                .file
                .insert_str(0, &format!("s3_secret_key = \"{secret} ")),
            8 => self.flags.push(FlagValue {
                key: "S3_SECRET_KEY".to_owned(),
                value: secret.to_owned(),
                flag: "--set S3_SECRET_KEY".to_owned(),
            }),
            _ => self.secret_file = Some(format!("{secret}\n")),
        }
    }

    fn load(mut self) -> Loaded {
        let config_file = Scratch::new(&self.file);
        let secret_file = self.secret_file.as_deref().map(Scratch::new);
        if let Some(secret_file) = &secret_file {
            let name = OsString::from("CHRONIK_SNAPSHOT_S3_SECRET_KEY_FILE");
            let path = secret_file.0.clone().into_os_string();
            self.environment.push((name, path));
        }
        load(&Sources {
            config_file: Some(config_file.0.clone()),
            flags: self.flags,
            environment: self.environment,
            default_file: None,
        })
    }
}

/// A file that goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("chronik-fuzz-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let written = fs::write(&path, text);
        assert!(written.is_ok(), "{written:?}");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn assert_secret_shows_nowhere(loaded: &Loaded, secret: &str) {
    let mut shown = vec![format!("{:?} {:?}", loaded.settings, loaded.warnings)];
    shown.extend(loaded.settings.iter().map(|it| it.source.to_string()));
    shown.extend(loaded.warnings.iter().map(ToString::to_string));
    shown.push(match &loaded.config {
        Ok(config) => format!("{config:?}"),
        Err(error) => format!("{error} {error:?}"),
    });
    let shown = shown.join("\n");
    assert!(
        !shown.contains(secret),
        "the secret {secret} shows: {shown}"
    );
}

/// Every printed value is legal by the table.
fn assert_options(loaded: &Loaded) {
    for (spec, setting) in TABLE.iter().zip(&loaded.settings) {
        assert_eq!(spec.key, setting.key);
        let Some(text) = &setting.value else { continue };
        match spec.kind {
            ValueKind::Whole { min, max } => {
                let number = text.parse::<u64>();
                assert!(
                    number.is_ok_and(|it| (min..=max).contains(&it)),
                    "{setting:?}"
                );
            }
            ValueKind::Choice(words) => {
                assert!(words.contains(&&*text.to_ascii_lowercase()), "{setting:?}");
            }
            ValueKind::Switch => {
                let lower = text.to_ascii_lowercase();
                assert!(lower == "true" || lower == "false", "{setting:?}");
            }
            ValueKind::Secret => assert!(text.bytes().all(|b| b == b'*'), "{setting:?}"),
            _ => assert!(!text.is_empty()),
        }
    }
}

/// What no single option says: how they play together.
fn assert_config(config: &Config) {
    let secs = |from, through| Duration::from_secs(from)..=Duration::from_secs(through);
    assert!(secs(1, 300).contains(&config.check_interval));
    assert!(config.delete_grace >= Duration::from_secs(1));
    assert!(config.progress_timeout >= Duration::from_secs(1));
    assert!(config.max_concurrent_restores.get() <= 16);
    assert!(tracing_subscriber::EnvFilter::try_new(&config.log.filter).is_ok());
    let compression = config.compression;
    assert!(compression.codec().levels().contains(&compression.level()));
    assert!(compression.codec() != Codec::None || compression.level() == 0);
    assert!(!matches!(
        config.broker.endpoint,
        Endpoint::Tcp { port: 0, .. }
    ));
    let listen = config.listen.socket_addr();
    let metrics = config.metrics_listen;
    let same = listen.is_some_and(|it| it == metrics && metrics.port() != 0);
    assert!(!same, "two listeners at {metrics}");
    assert!(config.listen_tls.is_none() && config.broker.tls.is_none());
    for allowed in [&config.admin_allowed, &config.bootstrap_allowed] {
        assert_eq!(allowed.clients, None, "nobody has a certificate");
        let on_socket = config.listen.unix_path().is_some();
        assert!(on_socket || allowed.uids.is_none());
    }
    let prefix = &config.store.prefix;
    let parts = prefix.strip_suffix('/').map(|it| it.split('/'));
    let plain =
        |mut parts: std::str::Split<'_, char>| parts.all(|it| !matches!(it, "" | "." | ".."));
    assert!(prefix.is_empty() || parts.is_some_and(plain), "{prefix}");
    match &config.store.backend {
        Backend::S3(s3) => assert_s3(s3),
        Backend::Gcs { bucket } | Backend::Azure { container: bucket } => assert_bucket(bucket),
        Backend::Local { root } => assert!(Path::is_absolute(root)),
        Backend::Memory => {}
    }
}

fn assert_bucket(name: &str) {
    assert!(
        !name.is_empty() && !name.contains(['/', ' ', '@']),
        "{name}"
    );
}

fn assert_s3(s3: &S3Config) {
    assert_bucket(&s3.bucket);
    assert_eq!(
        s3.access_key.is_some(),
        s3.secret_key.is_some(),
        "half a pair"
    );
    assert!(s3.session_token.is_none() || s3.access_key.is_some());
    let secrets = [&s3.access_key, &s3.secret_key, &s3.session_token];
    let mut given = secrets.into_iter().flatten();
    assert!(given.all(|secret| !secret.expose_secret().is_empty()));
    if let Some(url) = &s3.endpoint {
        assert!(url.scheme() == "https" || (url.scheme() == "http" && s3.disable_ssl));
        assert!(url.has_host() && url.username().is_empty() && url.password().is_none());
    }
}

/// The printed settings, given back, are the configuration: what `config print` shows is what holds.
fn assert_same_when_printed(loaded: &Loaded, config: &Config) {
    let variable = |key: &str, value: &str| (format!("{PREFIX}{key}").into(), value.into());
    let environment = TABLE
        .iter()
        .zip(&loaded.settings)
        .filter_map(|(_, setting)| {
            // A mask is as good a secret as any.
            setting
                .value
                .as_deref()
                .map(|value| variable(setting.key, value))
        });
    let again = load(&Sources {
        environment: environment.collect(),
        ..Sources::default()
    });
    match again.config {
        Ok(again) => assert_eq!(format!("{again:?}"), format!("{config:?}")),
        Err(error) => panic!("accepted, and refused when printed and given back: {error}"),
    }
}

/// Inputs to begin with.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let of = |place: u8, text: &str| [&[place], text.as_bytes()].concat();
    let s3 = "s3_bucket = \"b\"\ns3_access_key = \"a\"\n";
    let keys = |place| of(place, &format!("{s3}log_threshold = 77\n\0S3_REGION=eu\n"));
    let local = "object_store_backend = \"local\"\nlocal_storage_path = \"/data\"\n";
    let prefixed = "\0CHRONIK_SNAPSHOT_S3_BUCKET=b\nCHRONIK_SNAPSHOT_COMPRESSION=zstd\n\
                    CHRONIK_SNAPSHOT_COMPRESSION_LEVEL=19\nCHRONIK_SNAPSHOT_LOG=info,h2=warn\n";
    let network = "s3_bucket = \"b\"\ns3_disable_ssl = true\ns3_endpoint = \"http://minio:9000\"\n\
                   broker_endpoint = \"unix:/run/b.sock\"\nlisten = \"[::1]:9191\"\n";
    let topics = "s3_bucket = \"b\"\ntopics_include = [\"orders*\", \"billing\"]\n";
    vec![
        ("secret-in-environment", keys(0)),
        ("secret-misspelt", of(2, "s3_bucket = \"b\"")),
        ("secret-in-url", of(3, "s3_bucket = \"b\"")),
        ("secret-in-file", keys(4)),
        ("secret-before-nonsense", of(4, "= \"")),
        ("secret-at-the-end", of(5, "log_threshold = ")),
        ("secret-in-a-list", keys(6)),
        ("secret-unfinished", of(7, "\nlog = \"info\"")),
        ("secret-as-flag", keys(8)),
        ("secret-in-its-file", keys(9)),
        ("local", of(2, local)),
        ("prefixed", of(2, prefixed)),
        ("network", of(9, network)),
        ("topics", of(2, topics)),
        (
            "kubernetes",
            of(2, "\0CHRONIK_SNAPSHOT_PORT=tcp://10.0.0.1:1\nS3_BUCKET=b\n"),
        ),
    ]
}
