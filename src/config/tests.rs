//! Sources, precedence and faults, seen from outside.

mod security;

use std::{fs, path::PathBuf};

use secrecy::ExposeSecret as _;

use super::{
    object_store::{Backend, S3Config, S3Encryption},
    options::{DefaultValue, TABLE},
    *,
};

/// Sources that are legal but for what a test adds.
struct Given(Sources);

fn given() -> Given {
    Given(Sources::default()).variable("CHRONIK_SNAPSHOT_S3_BUCKET", "bucket")
}

impl Given {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.0.environment.push((name.into(), value.into()));
        self
    }

    fn option(self, key: &str, value: &str) -> Self {
        self.variable(&format!("CHRONIK_SNAPSHOT_{key}"), value)
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.0.flags.push(FlagValue {
            key: key.into(),
            value: value.into(),
            flag: format!("--set {key}"),
        });
        self
    }

    fn file(mut self, file: &TestFile) -> Self {
        self.0.config_file = Some(file.path.clone());
        self
    }

    fn load(&self) -> Loaded {
        load(&self.0)
    }

    fn config(&self) -> Config {
        self.load().config.unwrap()
    }

    fn s3(&self) -> S3Config {
        match self.config().store.backend {
            Backend::S3(s3) => s3,
            other => panic!("{other:?}"),
        }
    }

    /// `KEY: problem` of every fault.
    fn faults(&self) -> Vec<(String, Problem)> {
        let faults = self.load().config.unwrap_err().faults;
        faults.into_iter().map(|f| (f.key, f.problem)).collect()
    }

    fn only_fault(&self) -> (String, Problem) {
        let mut faults = self.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    }

    fn source(&self, key: &str) -> String {
        let setting = self.load().settings.into_iter().find(|s| s.key == key);
        setting.unwrap().source.to_string()
    }
}

struct TestFile {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn file(text: &str) -> TestFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    fs::write(&path, text).unwrap();
    TestFile { path, _dir: dir }
}

#[test]
fn the_defaults_are_legal_and_are_those_of_the_table() {
    let config = given().config();
    assert!(config.enabled && config.bootstrap_enabled);
    assert_eq!(config.policy.log_threshold.get(), 10_000);
    assert_eq!(config.policy.time_threshold, Duration::from_hours(1));
    assert_eq!(config.policy.min_interval, Duration::from_mins(1));
    assert_eq!(config.check_interval, Duration::from_mins(5));
    assert_eq!(config.policy.trailing_entries, 1000);
    assert_eq!(config.policy.retention_count.get(), 3);
    assert!(config.policy.compact && config.policy.retention);
    assert_eq!(config.verify, VerifyLevel::Full);
    assert_eq!(config.compression, Compression::default());
    assert_eq!(config.max_upload_bytes_per_sec, None);
    assert_eq!(config.broker.endpoint.to_string(), "http://127.0.0.1:9190");
    assert_eq!(config.listen.to_string(), "http://127.0.0.1:9191");
    assert_eq!(config.metrics_listen.to_string(), "0.0.0.0:9090");
    assert_eq!(config.store.prefix, "snapshots/");
    assert!(config.topics.matches("anything"));
    assert!((1..=4).contains(&config.compression_threads.get()));
    assert!(given().load().warnings.is_empty());
}

#[test]
fn every_default_that_is_a_value_is_shown_as_the_effective_one() {
    let settings = given().load().settings;
    for (spec, setting) in TABLE.iter().zip(&settings) {
        assert_eq!(spec.key, setting.key);
        if let DefaultValue::Value(text) = spec.default {
            assert_eq!(setting.value.as_deref(), Some(text), "{}", spec.key);
            assert_eq!(setting.source.layer, Layer::Default);
        }
    }
}

#[test]
fn flags_beat_the_environment_and_that_beats_the_file() {
    let file = file("log_threshold = 1\nretention_count = 1\nmax_concurrent = 1");
    let given = given()
        .file(&file)
        .option("LOG_THRESHOLD", "2")
        .option("RETENTION_COUNT", "2")
        .flag("LOG_THRESHOLD", "3");
    let config = given.config();
    assert_eq!(config.policy.log_threshold.get(), 3);
    assert_eq!(config.policy.retention_count.get(), 2);
    assert_eq!(config.max_concurrent.get(), 1);
    assert_eq!(given.source("LOG_THRESHOLD"), "flag --set LOG_THRESHOLD");
    let variable = "environment variable CHRONIK_SNAPSHOT_RETENTION_COUNT";
    assert_eq!(given.source("RETENTION_COUNT"), variable);
    let in_file = format!("max_concurrent in {}", file.path.display());
    assert_eq!(given.source("MAX_CONCURRENT"), in_file);
    assert_eq!(given.source("LOG"), "default");
}

#[test]
fn the_names_that_chronik_uses_are_read_and_the_prefixed_ones_win() {
    let given = given()
        .variable("S3_BUCKET", "other")
        .variable("S3_REGION", "eu-west-1");
    assert_eq!(given.s3().bucket, "bucket");
    assert_eq!(given.s3().region.as_deref(), Some("eu-west-1"));
    assert_eq!(given.source("S3_REGION"), "environment variable S3_REGION");
    let bare = Given(Sources::default()).variable("LOG_THRESHOLD", "5");
    assert_eq!(bare.source("LOG_THRESHOLD"), "default");
}

#[test]
fn an_empty_value_is_the_same_as_none() {
    let given = given()
        .option("LOG_THRESHOLD", "")
        .flag("RETENTION_COUNT", "");
    assert_eq!(given.config().policy.log_threshold.get(), 10_000);
    assert_eq!(given.source("RETENTION_COUNT"), "default");
}

#[test]
fn the_file_takes_natural_values() {
    let file = file(concat!(
        "enabled = false\nlog_threshold = 77\ns3_region = \"eu\"\n",
        "topics_include = [\"orders*\", \"billing\"]\n",
    ));
    let config = given().file(&file).config();
    assert!(!config.enabled);
    assert_eq!(config.policy.log_threshold.get(), 77);
    assert!(config.topics.matches("orders-1") && !config.topics.matches("other"));
}

#[test]
fn the_file_is_named_by_the_flag_or_else_by_the_environment() {
    let by_variable = file("log_threshold = 1");
    let by_flag = file("log_threshold = 2");
    let named = given().variable(
        options::CONFIG_FILE_VARIABLE,
        by_variable.path.to_str().unwrap(),
    );
    assert_eq!(named.config().policy.log_threshold.get(), 1);
    let both = named.file(&by_flag);
    assert_eq!(both.config().policy.log_threshold.get(), 2);
}

#[test]
fn the_default_file_may_be_missing_but_not_damaged() {
    let mut given = given();
    given.0.default_file = Some("/nonexistent/c.toml".into());
    assert!(given.load().config.is_ok());
    let damaged = file("log_threshold = ");
    given.0.default_file = Some(damaged.path.clone());
    assert!(matches!(given.only_fault().1, Problem::Syntax { .. }));
}

#[test]
fn a_file_that_is_named_must_be_readable() {
    let mut given = given();
    given.0.config_file = Some("/nonexistent/c.toml".into());
    let (key, problem) = given.only_fault();
    assert_eq!(key, "--config");
    assert!(matches!(problem, Problem::Unreadable { .. }));
}

#[test]
fn all_faults_are_told_at_once() {
    let file = file("log_treshold = 5\nretention_count = [3]\ncheck_interval_secs = 301");
    let faults = Given(Sources::default())
        .file(&file)
        .option("LOG_THRESHOLD", "many")
        .option("UPLOADER", "everyone")
        .option("RETENTOIN", "true")
        .flag("NOPE", "1")
        .faults();
    let mut keys: Vec<&str> = faults.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    let expected = [
        "CHECK_INTERVAL_SECS",
        "CHRONIK_SNAPSHOT_RETENTOIN",
        "LOG_THRESHOLD",
        "NOPE",
        "S3_BUCKET",
        "UPLOADER",
        "log_treshold",
        "retention_count",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn unknown_names_are_answered_in_the_spelling_of_their_source() {
    let nearest = |given: Given| match given.only_fault().1 {
        Problem::Unknown { nearest } => nearest,
        other => panic!("{other}"),
    };
    let variable = given().option("LOG_TRESHOLD", "1");
    assert_eq!(nearest(variable), "CHRONIK_SNAPSHOT_LOG_THRESHOLD");
    assert_eq!(nearest(given().flag("COMPAKT", "1")), "COMPACT");
    let in_file = file("trailing_entry = 1");
    assert_eq!(nearest(given().file(&in_file)), "trailing_entries");
    let upper_case = file("LOG_THRESHOLD = 1");
    assert_eq!(nearest(given().file(&upper_case)), "log_threshold");
}

#[test]
fn what_kubernetes_injects_is_ignored() {
    let config = given()
        .option("PORT", "tcp://10.0.0.1:9191")
        .option("SERVICE_HOST", "10.0.0.1")
        .option("PORT_9191_TCP_PROTO", "tcp")
        .load()
        .config;
    assert!(config.is_ok());
}

#[test]
fn numbers_out_of_range_name_the_range() {
    for (key, value) in [
        ("LOG_THRESHOLD", "0"),
        ("CHECK_INTERVAL_SECS", "0"),
        ("RETENTION_COUNT", "1001"),
        ("DELETE_GRACE_SECS", "0"),
        ("MAX_CONCURRENT_RESTORES", "17"),
        ("TRAILING_ENTRIES", "99999999999999999999"),
    ] {
        let (at, problem) = given().option(key, value).only_fault();
        assert_eq!(at, key);
        assert!(matches!(problem, Problem::OutOfRange { .. }), "{problem}");
    }
    for value in ["-1", "1e3", "0x10", "1_000", " 5", "5s"] {
        let (_, problem) = given().option("LOG_THRESHOLD", value).only_fault();
        assert_eq!(problem, Problem::NotANumber { min: 1 }, "{value}");
    }
}

#[test]
fn levels_fit_their_method() {
    let level = |codec, level| {
        given()
            .option("COMPRESSION", codec)
            .option("COMPRESSION_LEVEL", level)
    };
    assert_eq!(level("zstd", "19").config().compression.level(), 19);
    let (_, problem) = level("gzip", "13").only_fault();
    assert!(matches!(problem, Problem::LevelOutOfRange { max: 12, .. }));
    let (_, problem) = level("none", "1").only_fault();
    assert_eq!(problem, Problem::LevelWithoutCompression);
}

#[test]
fn listening_where_others_can_reach_is_refused_unless_accepted() {
    let exposed = |listen| given().option("LISTEN", listen);
    for listen in ["0.0.0.0:9191", "[::]:9191", "10.1.2.3:9191"] {
        let fault = exposed(listen).only_fault();
        assert_eq!(fault, ("LISTEN".into(), Problem::Exposed));
        let accepted = exposed(listen).option("INSECURE", "true").load();
        assert!(accepted.config.is_ok());
        assert!(matches!(
            accepted.warnings.as_slice(),
            [Warning::Exposed { .. }]
        ));
    }
    for listen in ["127.0.0.1:0", "[::1]:1", "localhost:1", "unix:/run/s.sock"] {
        assert!(exposed(listen).load().config.is_ok(), "{listen}");
    }
    let by_name = exposed("example.org:1").option("INSECURE", "true");
    assert_eq!(by_name.only_fault().1, Problem::ListenByName);
}

#[test]
fn two_listeners_need_two_ports() {
    let fault = given().option("LISTEN", "127.0.0.1:9090").only_fault();
    assert_eq!(fault, ("LISTEN".into(), Problem::SameAddress));
}

#[test]
fn the_broker_must_be_callable() {
    let problem = |value| given().option("BROKER_ENDPOINT", value).only_fault().1;
    assert!(matches!(
        problem("https://broker:1"),
        Problem::Missing { .. }
    ));
    let reason = EndpointError::PortZero;
    assert_eq!(problem("http://broker:0"), Problem::Endpoint { reason });
}

#[test]
fn every_kind_of_store_needs_its_place() {
    let backend = |kind| given().option("OBJECT_STORE_BACKEND", kind);
    for (kind, key) in [
        ("gcs", "GCS_BUCKET"),
        ("azure", "AZURE_CONTAINER"),
        ("local", "LOCAL_STORAGE_PATH"),
    ] {
        let (at, problem) = backend(kind).only_fault();
        assert_eq!(at, key);
        assert!(matches!(problem, Problem::Missing { .. }), "{problem}");
    }
    let local = backend("local").variable("LOCAL_STORAGE_PATH", "/data");
    let Backend::Local { root } = local.config().store.backend else {
        panic!("not a local store");
    };
    assert_eq!(root, PathBuf::from("/data"));
    let relative = backend("local").variable("LOCAL_STORAGE_PATH", "./data");
    assert_eq!(relative.only_fault().1, Problem::RelativePath);
    let memory = backend("memory").load();
    assert!(memory.config.is_ok());
    assert_eq!(memory.warnings.len(), 2);
}

#[test]
fn an_endpoint_without_encryption_must_be_accepted() {
    let plain = || given().variable("S3_ENDPOINT", "http://minio:9000");
    assert_eq!(plain().only_fault().1, Problem::PlainHttp);
    let s3 = plain().variable("S3_DISABLE_SSL", "true").s3();
    assert!(s3.path_style && s3.disable_ssl);
    assert!(!given().s3().path_style);
}

#[test]
fn a_url_carries_no_credentials() {
    let given = given().variable("S3_ENDPOINT", "https://me:hunter2@minio");
    assert_eq!(given.only_fault().1, Problem::UrlWithCredentials);
    let loaded = given.load();
    let shown = format!("{}{:?}", loaded.config.unwrap_err(), loaded.settings);
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn credentials_come_in_pairs() {
    let missing = |given: Given| {
        let (key, problem) = given.only_fault();
        assert!(matches!(problem, Problem::Missing { .. }), "{problem}");
        key
    };
    let access = given().variable("S3_ACCESS_KEY", "a");
    assert_eq!(missing(access), "S3_SECRET_KEY");
    let secret = given().variable("S3_SECRET_KEY", "s");
    assert_eq!(missing(secret), "S3_ACCESS_KEY");
    let token = given().variable("S3_SESSION_TOKEN", "t");
    assert_eq!(missing(token), "S3_ACCESS_KEY");
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let secret = file("hunter2\n");
    let given = given()
        .variable("S3_ACCESS_KEY", "a")
        .option("S3_SECRET_KEY_FILE", secret.path.to_str().unwrap());
    let key = given.s3().secret_key.unwrap();
    assert_eq!(key.expose_secret(), "hunter2");
    let source = "environment variable CHRONIK_SNAPSHOT_S3_SECRET_KEY_FILE";
    assert_eq!(given.source("S3_SECRET_KEY"), source);
    let (at, problem) = given.variable("S3_SECRET_KEY", "direct").only_fault();
    assert_eq!(at, "S3_SECRET_KEY");
    assert!(matches!(problem, Problem::SecretTwice { .. }));
}

#[test]
fn a_secret_file_must_be_readable_and_not_empty() {
    let with_file = |path: &str| {
        given()
            .variable("S3_ACCESS_KEY", "a")
            .option("S3_SECRET_KEY_FILE", path)
    };
    let (at, problem) = with_file("/nonexistent").only_fault();
    assert_eq!(at, "S3_SECRET_KEY_FILE");
    assert!(matches!(problem, Problem::Unreadable { .. }));
    let empty = file("\n");
    let (_, problem) = with_file(empty.path.to_str().unwrap()).only_fault();
    assert!(matches!(problem, Problem::SecretEmpty { .. }));
}

#[test]
fn secrets_show_nowhere() {
    let in_file = file("s3_access_key = [\"hunter2\"]\ns3_session_token = \"hunter2\"");
    let given = given()
        .file(&in_file)
        .variable("S3_SECRET_KEY", "hunter2")
        .option("S3_SECRET_KYE", "hunter2")
        .option("S3_ENDPOINT", "nonsense")
        .flag("S3_ACCESS_KEY", "hunter2");
    let loaded = given.load();
    let error = loaded.config.unwrap_err();
    assert!(error.faults.len() >= 4, "{error}");
    let shown = format!("{error}\n{error:?}\n{:?}", loaded.settings);
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn an_accepted_configuration_prints_no_secret() {
    let given = given()
        .variable("S3_ACCESS_KEY", "hunter2")
        .variable("S3_SECRET_KEY", "hunter2");
    let loaded = given.load();
    let shown = format!("{:?}\n{:?}", loaded.config.unwrap(), loaded.settings);
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn every_fault_names_value_source_and_fix() {
    let error = given().option("VERIFY", "some").load().config.unwrap_err();
    let expected = concat!(
        "the configuration has 1 fault\n",
        "  VERIFY = \"some\" (environment variable CHRONIK_SNAPSHOT_VERIFY): not one of full, stored\n",
        "    fix: write full or stored"
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn log_filters_and_topics_are_checked() {
    let (key, _) = given().option("LOG", "info,[").only_fault();
    assert_eq!(key, "LOG");
    let (key, problem) = given().option("TOPICS_EXCLUDE", "a*b").only_fault();
    assert_eq!(key, "TOPICS_EXCLUDE");
    let pattern = "a*b".to_owned();
    assert_eq!(problem, Problem::Pattern { pattern });
}

#[test]
fn a_short_delete_grace_is_taken_with_a_warning() {
    let loaded = given().option("DELETE_GRACE_SECS", "1").load();
    assert_eq!(loaded.config.unwrap().delete_grace, Duration::from_secs(1));
    assert_eq!(loaded.warnings, [Warning::ShortDeleteGrace { secs: 1 }]);
}
