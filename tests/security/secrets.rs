//! Secrets are planted wherever they may be given, and looked for in everything that the program says.

use std::{fs, path::PathBuf};

use crate::support::{
    certificates::{Authority, Files},
    cli::run,
    daemon::{Daemon, Setup},
    http::{Answer, serve},
    scripted_broker::ScriptedBroker,
    tls::TlsClient,
};

/// What must show nowhere.
const PLANTED: &str = "pLaNtEd";

#[track_caller]
fn assert_nothing_shows(what: &str, text: &str) {
    assert!(!text.contains(PLANTED), "{what} shows a secret:\n{text}");
}

/// The lines of a PEM between its ends, which is what a key is.
fn body(pem: &str) -> Vec<String> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    lines.map(str::to_owned).collect()
}

struct Rig {
    dir: tempfile::TempDir,
    authority: Authority,
    key: String,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("servers");
        let pair = authority.server();
        Files(dir.path()).pair("server", &pair);
        let credentials = dir.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        fs::write(
            credentials.join("s3-session-token"),
            format!("{PLANTED}-token\n"),
        )
        .unwrap();
        fs::write(dir.path().join("secret"), format!("{PLANTED}-secret\n")).unwrap();
        Self {
            dir,
            authority,
            key: pair.key,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// One secret by each way, and a store that is at `endpoint`.
    fn environment(&self, endpoint: &str) -> Vec<(&'static str, String)> {
        let given = [
            (
                "CHRONIK_SNAPSHOT_S3_ACCESS_KEY",
                format!("{PLANTED}-access"),
            ),
            ("S3_SECRET_KEY_FILE", self.text("secret")),
            ("CREDENTIALS_DIRECTORY", self.text("credentials")),
            ("AWS_SECRET_ACCESS_KEY", format!("{PLANTED}-of-aws")),
            (
                "AWS_SSE_CUSTOMER_KEY_BASE64",
                format!("{PLANTED}Of/Sse+Customers"),
            ),
            ("CHRONIK_SNAPSHOT_TLS_CERT", self.text("server.pem")),
            ("CHRONIK_SNAPSHOT_TLS_KEY", self.text("server-key.pem")),
            ("OBJECT_STORE_BACKEND", "s3".to_owned()),
            ("S3_BUCKET", "bucket".to_owned()),
            ("S3_REGION", "us-east-1".to_owned()),
            ("S3_ENDPOINT", endpoint.to_owned()),
            ("S3_DISABLE_SSL", "true".to_owned()),
            ("CHRONIK_SNAPSHOT_LOG", "debug".to_owned()),
        ];
        given.into()
    }

    #[track_caller]
    fn check(&self, what: &str, text: &str) {
        assert_nothing_shows(what, text);
        for line in body(&self.key) {
            assert!(
                !text.contains(&line),
                "{what} shows the key of a certificate"
            );
        }
    }
}

fn borrowed<'a>(pairs: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
    pairs.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_fails_at_its_store_tells_no_secret() {
    // The store refuses and says so at length.
    let refusing = serve(|request| {
        let signed = request.headers().contains_key("authorization");
        assert!(signed, "requests carry the credentials");
        Answer::s3_error(403, "SignatureDoesNotMatch")
    })
    .await;
    let rig = Rig::new();
    let broker = ScriptedBroker::start().await;
    let env = rig.environment(refusing.endpoint.unwrap().as_str());
    let mut daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: rig.dir.path(),
        env: &borrowed(&env),
    });
    broker.grow(100);
    daemon.wait_log("SignatureDoesNotMatch");
    for path in ["/metrics", "/readyz", "/healthz"] {
        rig.check(path, &daemon.get(path).unwrap());
    }
    let client = TlsClient::new(daemon.listen, &rig.authority, None);
    rig.check("/status", &client.get("/status").await.unwrap());
    // What was rotated away is as secret as what took its place.
    fs::write(
        rig.path("server-key.pem"),
        format!("{PLANTED}\n-----BEGIN\n{PLANTED}"),
    )
    .unwrap();
    daemon.wait_log("cannot be used; those from before stay in use");
    daemon.signal("HUP");
    daemon.wait_log("configuration is wrong now");
    // A crash: no handler, no destructor, whatever the system prints.
    daemon.signal("ABRT");
    assert_eq!(daemon.exit_code(), None);
    assert!(daemon.log().len() > 1000);
    rig.check("the log", &daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_tell_no_secret() {
    let refusing = serve(|_| Answer::s3_error(403, "SignatureDoesNotMatch")).await;
    let rig = Rig::new();
    let endpoint = refusing.endpoint.unwrap();
    let env = rig.environment(endpoint.as_str());
    let env = borrowed(&env);
    let commands: [&[&str]; 9] = [
        &["config", "check"],
        &["config", "print"],
        &["config", "print", "--output", "json"],
        &["config", "env"],
        &["list"],
        &["list", "--output", "json"],
        &["init"],
        &["doctor"],
        &["status"],
    ];
    for arguments in commands {
        let said = run(arguments, &env);
        rig.check(
            &format!("{arguments:?}"),
            &format!("{}{}", said.stdout, said.stderr),
        );
    }
    let printed = run(&["config", "print"], &env).ends_with(0);
    for shown in [
        "credential s3-session-token",
        "********",
        "S3_SECRET_KEY_FILE",
    ] {
        assert!(
            printed.stdout.contains(shown),
            "{shown} is missing: {printed:#?}"
        );
    }
}

#[test]
fn faults_tell_no_secret() {
    let rig = Rig::new();
    let file = rig.path("c.toml");
    let lines = [
        format!("s3_secret_key = [\"{PLANTED}\"]"),
        format!("s3_secret_kye = \"{PLANTED}\""),
        format!("s3_secret_key = \"{PLANTED} unfinished"),
    ];
    for line in lines {
        fs::write(&file, format!("{line}\n")).unwrap();
        let said = run(
            &["config", "check", "--config", file.to_str().unwrap()],
            &[],
        );
        let said = said.ends_with(78);
        rig.check(&line, &said.stderr);
    }
    let url = format!("https://me:{PLANTED}@store.example");
    let address = format!("me:{PLANTED}@broker.example:1");
    let variables = [
        ("S3_ENDPOINT", url.as_str()),
        ("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", address.as_str()),
        ("CHRONIK_SNAPSHOT_LISTEN", address.as_str()),
        ("CHRONIK_SNAPSHOT_METRICS_LISTEN", address.as_str()),
        ("CHRONIK_SNAPSHOT_S3_SECRET_KYE", PLANTED),
    ];
    let said = run(&["config", "check"], &variables).ends_with(78);
    rig.check("faults of the environment", &said.stderr);
    for flag in ["S3_SECRET_KEY", "S3_SECRET_KYE", "S3_ENDPOINT"] {
        let value = format!("{flag}=https://me:{PLANTED}@host");
        let said = run(&["config", "check", "--set", &value], &[]).ends_with(78);
        rig.check(flag, &said.stderr);
    }
}
