//! From raw text to types that cannot be wrong. Every fault is noted and parsing goes on.

use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use figment::Figment;
use secrecy::SecretString;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::{
    Config, LogConfig, LogFormat, TopicFilter,
    fault::{Fault, Layer, Problem, Source, Warning},
    layers, network,
    options::{self as opt, OptionSpec, SECRET_FILE_SUFFIX, ValueKind},
    topics,
};
use crate::{
    format::{Codec, Compression},
    policy::{self, Uploader, VerifyLevel},
};

/// Below this grace a warning is given.
const DELETE_GRACE_ADVISED_SECS: u64 = 60;

/// Most threads that the default of `COMPRESSION_THREADS` takes.
const DEFAULT_THREADS_MAX: usize = 4;

/// Reads options one by one and collects what is wrong with them.
pub(super) struct Reader<'a> {
    figment: &'a Figment,
    pub(super) faults: Vec<Fault>,
    /// False = this process encrypts nothing, so its user need not be able to read keys.
    pub(super) opens_keys: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(figment: &'a Figment, faults: Vec<Fault>) -> Self {
        Self {
            figment,
            faults,
            opens_keys: true,
        }
    }

    /// The winning text for a key, and who gave it.
    pub(super) fn raw(&self, key: &str) -> Option<(String, Source)> {
        let value = self.figment.find_value(key).ok()?;
        let metadata = self.figment.get_metadata(value.tag())?;
        let source = layers::source_of(metadata, key);
        Some((value.into_string()?, source))
    }

    pub(super) fn fault(&mut self, spec: &OptionSpec, problem: Problem) {
        let (value, source) = self.raw(spec.key).unzip();
        let value = value.filter(|text| !shows_credentials(spec, text));
        let value = value.map(|text| layers::quoted(&text));
        self.faults.push(Fault::of(spec, value, source, problem));
    }

    pub(super) fn text(&self, spec: &OptionSpec) -> Option<String> {
        self.raw(spec.key).map(|(text, _)| text)
    }

    pub(super) fn switch(&mut self, spec: &OptionSpec) -> Option<bool> {
        let text = self.text(spec)?;
        let value = match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        if value.is_none() {
            self.fault(spec, Problem::NotASwitch);
        }
        value
    }

    /// The number, within the limits of the table. After a fault: the least legal one.
    fn whole(&mut self, spec: &OptionSpec) -> Option<u64> {
        let text = self.text(spec)?;
        let ValueKind::Whole { min, max } = spec.kind else {
            return None;
        };
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            self.fault(spec, Problem::NotANumber { min });
            return Some(min);
        }
        match text.parse::<u64>() {
            Ok(value) if (min..=max).contains(&value) => Some(value),
            _ => {
                self.fault(spec, Problem::OutOfRange { min, max });
                Some(min)
            }
        }
    }

    pub(super) fn number(&mut self, spec: &OptionSpec) -> u64 {
        self.whole(spec).unwrap_or_default()
    }

    fn seconds(&mut self, spec: &OptionSpec) -> Duration {
        Duration::from_secs(self.number(spec))
    }

    pub(super) fn count(&mut self, spec: &OptionSpec) -> NonZeroUsize {
        non_zero(self.number(spec))
    }

    /// The word, in lower case.
    pub(super) fn choice(&mut self, spec: &OptionSpec) -> Option<&'static str> {
        let text = self.text(spec)?.to_ascii_lowercase();
        let ValueKind::Choice(choices) = spec.kind else {
            return None;
        };
        let word = choices.iter().copied().find(|word| *word == text);
        if word.is_none() {
            self.fault(spec, Problem::NotAChoice { choices });
        }
        word
    }

    pub(super) fn url(&mut self, spec: &OptionSpec) -> Option<Url> {
        let text = self.text(spec)?;
        if carries_credentials(&text) {
            let (_, source) = self.raw(spec.key).unzip();
            let problem = Problem::UrlWithCredentials;
            self.faults.push(Fault::of(spec, None, source, problem));
            return None;
        }
        let url = Url::parse(&text).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            self.fault(spec, Problem::Url);
        }
        url
    }

    pub(super) fn path(&mut self, spec: &OptionSpec) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(spec)?);
        if path.is_absolute() {
            return Some(path);
        }
        self.fault(spec, Problem::RelativePath);
        None
    }

    /// The secret itself or the content of its file.
    pub(super) fn secret(&mut self, spec: &OptionSpec) -> Option<SecretString> {
        let direct = self.raw(spec.key);
        let file_key = format!("{}{SECRET_FILE_SUFFIX}", spec.key);
        let Some((path, file_source)) = self.raw(&file_key) else {
            return direct.map(|(text, _)| SecretString::from(text));
        };
        if direct.is_some() {
            self.fault(spec, Problem::SecretTwice { file_source });
            return None;
        }
        let path = PathBuf::from(path);
        let problem = match layers::read_text(&path) {
            Ok(text) if text.trim_end_matches(['\r', '\n']).is_empty() => {
                Problem::SecretEmpty { path: path.clone() }
            }
            Ok(text) => return Some(SecretString::from(text.trim_end_matches(['\r', '\n']))),
            Err(reason) => Problem::Unreadable { reason },
        };
        self.faults.push(Fault {
            key: file_key,
            value: Some(path.display().to_string()),
            source: Some(file_source),
            problem,
        });
        None
    }
}

/// Builds the configuration. `None` if a value that nothing can stand in for is missing; the reader then has faults.
pub(super) fn config(reader: &mut Reader<'_>, warnings: &mut Vec<Warning>) -> Option<Config> {
    let enabled = reader.switch(&opt::ENABLED).unwrap_or(true);
    let policy = policy_options(reader);
    let check_interval = reader.seconds(&opt::CHECK_INTERVAL_SECS);
    let max_concurrent = reader.count(&opt::MAX_CONCURRENT);
    let topics = topic_filter(reader);
    let delete_grace = delete_grace(reader, warnings);
    let compression = compression(reader);
    let compression_threads = compression_threads(reader);
    let full_every = full_every(reader);
    let verify = match reader.choice(&opt::VERIFY) {
        Some("stored") => VerifyLevel::Stored,
        _ => VerifyLevel::Full,
    };
    let max_upload = NonZeroU64::new(reader.number(&opt::MAX_UPLOAD_BYTES_PER_SEC));
    let max_export = NonZeroU64::new(reader.number(&opt::MAX_EXPORT_BYTES_PER_SEC));
    let give_way = reader.switch(&opt::GIVE_WAY).unwrap_or(true);
    let progress_timeout = reader.seconds(&opt::PROGRESS_TIMEOUT_SECS);
    let bootstrap_enabled = reader.switch(&opt::BOOTSTRAP_ENABLED).unwrap_or(true);
    let max_concurrent_restores = reader.count(&opt::MAX_CONCURRENT_RESTORES);
    let drill_interval = reader.seconds(&opt::DRILL_INTERVAL_SECS);
    let max_drill = NonZeroU64::new(reader.number(&opt::MAX_DRILL_BYTES_PER_SEC));
    let network = network::read(reader, warnings);
    let shutdown_grace = reader.seconds(&opt::SHUTDOWN_GRACE_SECS);
    let log = log_config(reader);
    let otlp_endpoint = super::traces::endpoint(reader);
    let store = super::store::object_store(reader, warnings, policy.compact);
    let network = network?;
    Some(Config {
        enabled,
        policy,
        check_interval,
        max_concurrent,
        compression,
        compression_threads,
        full_every,
        verify,
        delete_grace,
        topics: topics?,
        broker: network.broker,
        listen: network.listen,
        listen_tls: network.listen_tls,
        daemon_tls: network.daemon_tls,
        metrics_listen: network.metrics,
        status_page: network.status_page,
        max_connections: network.max_connections,
        bootstrap_allowed: network.bootstrap_allowed,
        admin_allowed: network.admin_allowed,
        bootstrap_enabled,
        max_concurrent_restores,
        drill_interval: Some(drill_interval).filter(|interval| !interval.is_zero()),
        max_drill_bytes_per_sec: max_drill,
        max_upload_bytes_per_sec: max_upload,
        max_export_bytes_per_sec: max_export,
        give_way,
        progress_timeout,
        shutdown_grace,
        log,
        otlp_endpoint,
        store: store?,
    })
}

fn policy_options(reader: &mut Reader<'_>) -> policy::Options {
    policy::Options {
        log_threshold: NonZeroU64::new(reader.number(&opt::LOG_THRESHOLD))
            .unwrap_or(NonZeroU64::MIN),
        time_threshold: reader.seconds(&opt::TIME_THRESHOLD_SECS),
        min_interval: reader.seconds(&opt::MIN_INTERVAL_SECS),
        uploader: match reader.choice(&opt::UPLOADER) {
            Some("any") => Uploader::Any,
            _ => Uploader::Leader,
        },
        compact: reader.switch(&opt::COMPACT).unwrap_or(true),
        trailing_entries: reader.number(&opt::TRAILING_ENTRIES),
        retention: reader.switch(&opt::RETENTION).unwrap_or(true),
        retention_count: reader.count(&opt::RETENTION_COUNT),
    }
}

fn topic_filter(reader: &mut Reader<'_>) -> Option<TopicFilter> {
    let include = reader.text(&opt::TOPICS_INCLUDE).unwrap_or_default();
    let exclude = reader.text(&opt::TOPICS_EXCLUDE).unwrap_or_default();
    for (spec, text) in [
        (&opt::TOPICS_INCLUDE, &include),
        (&opt::TOPICS_EXCLUDE, &exclude),
    ] {
        if let Err(topics::BadPattern(pattern)) = topics::check_list(text) {
            reader.fault(spec, Problem::Pattern { pattern });
        }
    }
    TopicFilter::parse(&include, &exclude).ok()
}

fn delete_grace(reader: &mut Reader<'_>, warnings: &mut Vec<Warning>) -> Duration {
    let secs = reader.number(&opt::DELETE_GRACE_SECS);
    if secs < DELETE_GRACE_ADVISED_SECS {
        warnings.push(Warning::ShortDeleteGrace { secs });
    }
    Duration::from_secs(secs)
}

fn full_every(reader: &mut Reader<'_>) -> NonZeroU32 {
    let incremental = reader.switch(&opt::INCREMENTAL).unwrap_or(true);
    let every = reader.number(&opt::INCREMENTAL_FULL_EVERY);
    let every = u32::try_from(every).ok().filter(|_| incremental);
    every.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

fn compression(reader: &mut Reader<'_>) -> Compression {
    let word = reader.choice(&opt::COMPRESSION).unwrap_or_default();
    let codec = Codec::ALL.into_iter().find(|codec| codec.as_str() == word);
    let codec = codec.unwrap_or(Codec::Gzip);
    let Some(level) = reader.whole(&opt::COMPRESSION_LEVEL) else {
        return Compression::new(codec, None).unwrap_or_default();
    };
    if codec == Codec::None {
        reader.fault(&opt::COMPRESSION_LEVEL, Problem::LevelWithoutCompression);
        return Compression::default();
    }
    // The table's limits hold here: a level beyond i32 was a fault already.
    let level = i32::try_from(level).unwrap_or(i32::MAX);
    Compression::new(codec, Some(level)).unwrap_or_else(|_| {
        let levels = codec.levels();
        let problem = Problem::LevelOutOfRange {
            codec: codec.as_str(),
            min: *levels.start(),
            max: *levels.end(),
        };
        reader.fault(&opt::COMPRESSION_LEVEL, problem);
        Compression::default()
    })
}

fn compression_threads(reader: &mut Reader<'_>) -> NonZeroUsize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let default = (cores / 2).clamp(1, DEFAULT_THREADS_MAX);
    reader.whole(&opt::COMPRESSION_THREADS).map_or_else(
        || NonZeroUsize::new(default).unwrap_or(NonZeroUsize::MIN),
        non_zero,
    )
}

fn log_config(reader: &mut Reader<'_>) -> LogConfig {
    let filter = reader.text(&opt::LOG).unwrap_or_default();
    if let Err(error) = EnvFilter::try_new(&filter) {
        let reason = error.to_string();
        reader.fault(&opt::LOG, Problem::LogFilter { reason });
    }
    let format = match reader.choice(&opt::LOG_FORMAT) {
        Some("text") => LogFormat::Text,
        _ => LogFormat::Json,
    };
    LogConfig { filter, format }
}

fn non_zero(value: u64) -> NonZeroUsize {
    usize::try_from(value)
        .ok()
        .and_then(NonZeroUsize::new)
        .unwrap_or(NonZeroUsize::MIN)
}

/// An `@` in a URL of a server can only follow a user name or password.
fn carries_credentials(url: &str) -> bool {
    url.contains('@')
}

/// A secret by its place: nobody is to see it, right or wrong.
fn shows_credentials(spec: &OptionSpec, text: &str) -> bool {
    let is_address = matches!(
        spec.kind,
        ValueKind::Url | ValueKind::Endpoint | ValueKind::Address
    );
    is_address && carries_credentials(text)
}

/// What `config print` shows for a secret.
const MASK: &str = "********";

/// One line of `config print`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Key of the option.
    pub key: &'static str,
    /// Its text; masked for secrets; `None` = not set.
    pub value: Option<String>,
    /// Who set it.
    pub source: Source,
}

/// The effective text of every option.
pub(super) fn settings(reader: &Reader<'_>) -> Vec<Setting> {
    opt::TABLE
        .iter()
        .map(|spec| setting(reader, spec))
        .collect()
}

fn setting(reader: &Reader<'_>, spec: &'static OptionSpec) -> Setting {
    let unset = || Source {
        layer: Layer::Default,
        name: String::new(),
    };
    let file_key = format!("{}{SECRET_FILE_SUFFIX}", spec.key);
    let found = match reader.raw(spec.key) {
        None if spec.is_secret() => reader.raw(&file_key),
        found => found,
    };
    // A guard that is empty where it would keep nobody out.
    let (value, source) = found.filter(|(text, _)| !text.is_empty()).unzip();
    let hides = |text: &str| spec.is_secret() || shows_credentials(spec, text);
    let value = value.map(|text| if hides(&text) { MASK.to_owned() } else { text });
    Setting {
        key: spec.key,
        value,
        source: source.unwrap_or_else(unset),
    }
}
