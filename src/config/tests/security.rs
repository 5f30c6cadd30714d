//! Encryption, authorisation, secrets: what is taken, and what is refused because it would only look safe.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A directory with a pair and an authority, which is the pair's own certificate.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        fs::write(dir.path().join("cert.pem"), &cert).unwrap();
        fs::write(dir.path().join("ca.pem"), cert).unwrap();
        fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A LISTEN with our own certificate.
    fn listen(&self, listen: &str) -> Given {
        given()
            .option("LISTEN", listen)
            .option("TLS_CERT", &self.path("cert.pem"))
            .option("TLS_KEY", &self.path("key.pem"))
    }

    /// And with certificates of clients.
    fn mutual(&self) -> Given {
        let ca = self.path("ca.pem");
        self.listen("0.0.0.0:9191").option("TLS_CLIENT_CA", &ca)
    }
}

#[track_caller]
fn assert_idle(given: &Given, key: &str) {
    let (at, problem) = given.only_fault();
    assert_eq!(at, key);
    assert!(
        matches!(problem, Problem::WithoutEffect { .. }),
        "{problem}"
    );
}

#[track_caller]
fn assert_missing(given: &Given, key: &str) {
    let (at, problem) = given.only_fault();
    assert_eq!(at, key);
    assert!(matches!(problem, Problem::Missing { .. }), "{problem}");
}

#[test]
fn other_hosts_may_reach_listen_with_certificates_on_both_sides() {
    let certificates = Certificates::new();
    let unauthenticated = certificates.listen("0.0.0.0:9191");
    let (at, problem) = unauthenticated.only_fault();
    assert_eq!(at, "LISTEN");
    assert_eq!(problem, Problem::Unauthenticated);
    let loaded = unauthenticated.option("INSECURE", "true").load();
    assert!(matches!(
        loaded.warnings.as_slice(),
        [Warning::Unauthenticated { .. }]
    ));
    let config = loaded.config.unwrap();
    assert_eq!(config.listen.to_string(), "https://0.0.0.0:9191");
    assert_eq!(config.listen_tls.unwrap().ca, None);

    let loaded = certificates.mutual().load();
    assert_eq!(loaded.warnings, []);
    assert!(loaded.config.unwrap().listen_tls.unwrap().ca.is_some());
    let written = certificates.listen("https://127.0.0.1:1").config();
    assert!(written.listen.is_encrypted());
    let by_name = certificates.listen("broker.example:1").only_fault();
    assert_eq!(by_name.1, Problem::ListenByName);
}

#[test]
fn half_of_tls_is_refused() {
    let certificates = Certificates::new();
    let (cert, key) = (certificates.path("cert.pem"), certificates.path("key.pem"));
    assert_missing(&given().option("TLS_CERT", &cert), "TLS_KEY");
    assert_missing(&given().option("TLS_KEY", &key), "TLS_CERT");
    assert_missing(&given().option("LISTEN", "https://127.0.0.1:1"), "TLS_CERT");
    assert_idle(&given().option("TLS_CLIENT_CA", &cert), "TLS_CLIENT_CA");
    let relative = given().option("TLS_CERT", "c.pem").option("TLS_KEY", &key);
    assert_eq!(
        relative.only_fault(),
        ("TLS_CERT".into(), Problem::RelativePath)
    );
}

#[test]
fn tls_on_a_socket_is_refused_as_it_protects_nothing() {
    let faults = Certificates::new().listen("unix:/run/s.sock").faults();
    let keys: Vec<&str> = faults.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["TLS_CERT", "TLS_KEY"]);
}

#[test]
fn files_that_cannot_be_used_are_told_with_the_option_that_names_them() {
    let certificates = Certificates::new();
    let at = |key: &str, name: &str| {
        let (at, problem) = certificates
            .mutual()
            .option(key, &certificates.path(name))
            .only_fault();
        assert!(matches!(problem, Problem::Tls { .. }), "{problem}");
        at
    };
    assert_eq!(at("TLS_CERT", "missing"), "TLS_CERT");
    assert_eq!(at("TLS_KEY", "missing"), "TLS_KEY");
    assert_eq!(at("TLS_KEY", "cert.pem"), "TLS_KEY");
    assert_eq!(at("TLS_CLIENT_CA", "key.pem"), "TLS_CLIENT_CA");
    let other = KeyPair::generate().unwrap().serialize_pem();
    fs::write(certificates.path("other.pem"), other).unwrap();
    assert_eq!(at("TLS_KEY", "other.pem"), "TLS_CERT");
}

#[test]
fn a_command_that_is_not_the_daemon_need_not_read_its_keys() {
    let certificates = Certificates::new();
    let given = certificates.mutual().option("TLS_KEY", "/nonexistent");
    assert_eq!(given.only_fault().0, "TLS_KEY");
    assert!(load_for_command(&given.0).config.is_ok());
    // What can be seen without them is a fault all the same.
    let given = certificates.listen("unix:/run/s.sock");
    assert!(load_for_command(&given.0).config.is_err());
}

#[test]
fn names_need_certificates_and_users_need_a_socket() {
    let certificates = Certificates::new();
    for service in ["ADMIN", "BOOTSTRAP"] {
        let (clients, uids) = (format!("{service}_CLIENTS"), format!("{service}_UIDS"));
        assert_idle(&given().option(&clients, "ops"), &clients);
        assert_idle(
            &certificates.listen("127.0.0.1:1").option(&clients, "ops"),
            &clients,
        );
        assert_idle(&given().option(&uids, "0"), &uids);
        assert_idle(&certificates.mutual().option(&uids, "0"), &uids);
        let socket = || given().option("LISTEN", "unix:/run/s.sock");
        assert_idle(&socket().option(&clients, "ops"), &clients);
        assert!(socket().option(&uids, "0").load().config.is_ok());
        for bad in ["", "1,", "root", "-1", "+1", "4294967296"] {
            let given = socket().option(&uids, bad);
            assert_eq!(given.only_fault(), (uids.clone(), Problem::Uid), "{bad}");
        }
        for bad in ["", "*.example", "ops,,", "a b"] {
            let fault = certificates.mutual().option(&clients, bad).only_fault();
            assert_eq!(fault, (clients.clone(), Problem::CertificateName), "{bad}");
        }
    }
}

#[test]
fn what_keeps_people_out_is_not_switched_off_by_an_empty_value() {
    let certificates = Certificates::new();
    let given = certificates
        .listen("127.0.0.1:9191")
        .option("TLS_CLIENT_CA", "");
    let fault = given.only_fault();
    assert_eq!(fault, ("TLS_CLIENT_CA".to_owned(), Problem::RelativePath));
    let file = file("listen = \"unix:/run/s.sock\"\nadmin_uids = []");
    let fault = super::given().file(&file).only_fault();
    assert_eq!(fault, ("ADMIN_UIDS".to_owned(), Problem::Uid));
}

#[test]
fn who_is_allowed_is_read_from_every_source() {
    let certificates = Certificates::new();
    let config = certificates
        .mutual()
        .option("ADMIN_CLIENTS", "ops.example, spiffe://kafka/ops")
        .config();
    let names = ["ops.example", "spiffe://kafka/ops"].map(str::to_owned);
    assert_eq!(config.admin_allowed.clients.unwrap(), names);
    assert_eq!(config.bootstrap_allowed, Allowed::default());
    let file = file("listen = \"unix:/run/s.sock\"\nbootstrap_uids = [998, 1001]\nadmin_uids = 0");
    let config = given().file(&file).config();
    assert_eq!(config.bootstrap_allowed.uids, Some(vec![998, 1001]));
    assert_eq!(config.admin_allowed.uids, Some(vec![0]));
}

#[test]
fn the_broker_is_authenticated_by_what_fits_its_address() {
    let certificates = Certificates::new();
    let ca = certificates.path("ca.pem");
    let https = || given().option("BROKER_ENDPOINT", "https://broker.example:9190");
    assert_missing(&https(), "BROKER_TLS_CA");
    assert_idle(&given().option("BROKER_TLS_CA", &ca), "BROKER_TLS_CA");
    assert_idle(&given().option("BROKER_UIDS", "7"), "BROKER_UIDS");
    let https = || https().option("BROKER_TLS_CA", &ca);
    let config = https().config();
    assert_eq!(
        config.broker.endpoint.to_string(),
        "https://broker.example:9190"
    );
    assert!(config.broker.route().is_ok());
    assert_eq!(https().load().warnings, []);
    assert_missing(&https().option("BROKER_TLS_CERT", &ca), "BROKER_TLS_KEY");
    let named = https().option("BROKER_TLS_NAME", "a b").only_fault();
    assert_eq!(named, ("BROKER_TLS_NAME".into(), Problem::ServerName));
    let socket = given().option("BROKER_ENDPOINT", "unix:/run/b.sock");
    let config = socket.option("BROKER_UIDS", "7,8").config();
    assert_eq!(config.broker.uids, Some(vec![7, 8]));
    let plain = given().option("BROKER_ENDPOINT", "http://broker.example:9190");
    assert!(matches!(
        plain.load().warnings.as_slice(),
        [Warning::PlainBroker { .. }]
    ));
}

#[test]
fn a_command_that_calls_the_daemon_needs_only_what_concerns_the_call() {
    let certificates = Certificates::new();
    let ca = certificates.path("ca.pem");
    // No bucket, a key that this user may not read.
    let given = Given(Sources::default())
        .option("LISTEN", "127.0.0.1:9191")
        .option("TLS_CERT", "/nonexistent/cert.pem")
        .option("TLS_KEY", "/nonexistent/key.pem");
    let error = daemon(&given.0, None).unwrap_err();
    assert_eq!(error.faults.len(), 1, "{error}");
    assert_eq!(error.faults[0].key, "ADMIN_TLS_CA");
    let given = given.option("ADMIN_TLS_CA", &ca);
    let called = daemon(&given.0, None).unwrap();
    assert_eq!(called.endpoint.to_string(), "https://127.0.0.1:9191");
    assert!(called.route().is_ok());
    let other = Endpoint::parse("https://other:1").unwrap();
    let called = daemon(&given.0, Some(other)).unwrap();
    assert_eq!(called.endpoint.to_string(), "https://other:1");
    let socket = Endpoint::parse("unix:/run/s.sock").unwrap();
    let called = daemon(&Sources::default(), Some(socket.clone())).unwrap();
    assert_eq!(called.endpoint, socket);
}

#[test]
fn an_encryption_of_the_store_is_whole_or_refused() {
    let sse = |kind: &str| given().option("S3_SSE", kind);
    assert_eq!(given().s3().encryption, None);
    assert_eq!(sse("s3").s3().encryption, Some(S3Encryption::S3));
    let kms = sse("kms")
        .option("S3_SSE_KMS_KEY_ID", "alias/snapshots")
        .option("S3_SSE_BUCKET_KEY", "true");
    let expected = S3Encryption::Kms {
        key_id: Some("alias/snapshots".into()),
        bucket_key: Some(true),
    };
    assert_eq!(kms.s3().encryption, Some(expected));
    assert_idle(
        &given().option("S3_SSE_KMS_KEY_ID", "k"),
        "S3_SSE_KMS_KEY_ID",
    );
    assert_idle(
        &sse("s3").option("S3_SSE_KMS_KEY_ID", "k"),
        "S3_SSE_KMS_KEY_ID",
    );
    assert_idle(
        &sse("dsse").option("S3_SSE_BUCKET_KEY", "true"),
        "S3_SSE_BUCKET_KEY",
    );
    let (_, problem) = sse("aws:kms").only_fault();
    assert!(matches!(problem, Problem::NotAChoice { .. }));
}

/// A directory as systemd makes it.
fn credentials(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn with_credentials(given: Given, dir: &Path) -> Given {
    given.variable("CREDENTIALS_DIRECTORY", dir.to_str().unwrap())
}

#[test]
fn secrets_are_taken_from_the_credentials_of_a_service() {
    let dir = credentials(&[
        ("s3-access-key", "AK\n"),
        ("s3-secret-key", "hunter2\n"),
        ("other", "x"),
    ]);
    let given = with_credentials(given(), dir.path());
    let s3 = given.s3();
    assert_eq!(s3.secret_key.unwrap().expose_secret(), "hunter2");
    assert_eq!(s3.access_key.unwrap().expose_secret(), "AK");
    assert!(s3.session_token.is_none());
    assert_eq!(given.source("S3_SECRET_KEY"), "credential s3-secret-key");
    let shown = format!("{:?}", given.load());
    assert!(!shown.contains("hunter2"), "{shown}");

    // A file that is named wins over a credential; a secret that is given besides is a contradiction.
    let named = file("other");
    let given = given.option("S3_SECRET_KEY_FILE", named.path.to_str().unwrap());
    assert_eq!(given.s3().secret_key.unwrap().expose_secret(), "other");
    let twice = with_credentials(super::given(), dir.path()).variable("S3_SECRET_KEY", "direct");
    let (at, problem) = twice.only_fault();
    assert_eq!(at, "S3_SECRET_KEY");
    assert!(matches!(problem, Problem::SecretTwice { .. }));
}

#[test]
fn a_credential_that_is_empty_is_not_passed_over() {
    let dir = credentials(&[("s3-access-key", "AK"), ("s3-secret-key", "\n")]);
    let (at, problem) = with_credentials(given(), dir.path()).only_fault();
    assert_eq!(at, "S3_SECRET_KEY_FILE");
    assert!(matches!(problem, Problem::SecretEmpty { .. }));
    let elsewhere = with_credentials(given(), Path::new("relative"));
    assert!(elsewhere.s3().secret_key.is_none());
}

#[test]
fn a_password_in_an_address_shows_nowhere() {
    for key in ["LISTEN", "BROKER_ENDPOINT", "METRICS_LISTEN", "S3_ENDPOINT"] {
        for address in ["https://me:hunter2@host:1", "me:hunter2@host:1"] {
            let loaded = given().option(key, address).load();
            let error = loaded.config.unwrap_err();
            let shown = format!("{error}\n{error:?}\n{:?}", loaded.settings);
            assert!(!shown.contains("hunter2"), "{key}: {shown}");
        }
    }
}
