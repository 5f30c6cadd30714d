//! The way to the broker: TLS, and users of Unix sockets.

use std::{os::unix::fs::MetadataExt as _, time::Duration};

use crate::support::{
    certificates::{Authority, Files},
    cli::run,
    daemon::{Daemon, Setup},
    scripted_broker::ScriptedBroker,
    tls::{SocketFront, TlsFront},
};

const CONNECTED: &str = "chronik_snapshot_broker_connected";

struct Rig {
    broker: ScriptedBroker,
    dir: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        Self {
            broker: ScriptedBroker::start().await,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn daemon(&self, env: &[(&str, &str)]) -> Daemon {
        Daemon::start(&Setup {
            broker: self.broker.address,
            dir: self.dir.path(),
            env,
        })
    }

    fn files(&self) -> Files<'_> {
        Files(self.dir.path())
    }
}

/// It tries and fails, and says why.
fn assert_never_connected(daemon: &Daemon, why: &str) {
    daemon.wait_log(why);
    std::thread::sleep(Duration::from_secs(2));
    assert!(daemon.metric(CONNECTED) < 0.5, "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_behind_tls_is_snapshotted() {
    let rig = Rig::new().await;
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let front = TlsFront::start(rig.broker.address, &servers.server(), Some(&clients)).await;
    let files = rig.files();
    let ca = files.authority("servers", &servers);
    let (cert, key) = files.pair("sidecar", &clients.client("sidecar"));
    let endpoint = format!("https://localhost:{}", front.address.port());
    let daemon = rig.daemon(&[
        ("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", &endpoint),
        ("CHRONIK_SNAPSHOT_BROKER_TLS_CA", &ca),
        ("CHRONIK_SNAPSHOT_BROKER_TLS_CERT", &cert),
        ("CHRONIK_SNAPSHOT_BROKER_TLS_KEY", &key),
    ]);
    rig.broker.grow(100);
    daemon.wait_proven(100);
    // One for calls, one for exports.
    assert_eq!(front.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_authority_or_name_is_not_talked_to() {
    let rig = Rig::new().await;
    let (servers, others) = (Authority::new("servers"), Authority::new("others"));
    let front = TlsFront::start(rig.broker.address, &servers.server(), None).await;
    let files = rig.files();
    let (right, wrong) = (
        files.authority("servers", &servers),
        files.authority("others", &others),
    );
    let endpoint = format!("https://127.0.0.1:{}", front.address.port());
    let env = [
        ("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", endpoint.as_str()),
        ("CHRONIK_SNAPSHOT_BROKER_TLS_CA", wrong.as_str()),
        ("CHRONIK_SNAPSHOT_BROKER_TLS_NAME", "localhost"),
    ];
    assert_never_connected(&rig.daemon(&env), "UnknownIssuer");
    let nameless = [env[0], ("CHRONIK_SNAPSHOT_BROKER_TLS_CA", right.as_str())];
    assert_never_connected(&rig.daemon(&nameless), "certificate not valid for name");
    assert_eq!(front.accepted(), 0);
    let named = [nameless[0], nameless[1], env[2]];
    rig.daemon(&named)
        .wait("the broker", |daemon| daemon.metric(CONNECTED) > 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_wants_a_certificate_does_not_get_by_without() {
    let rig = Rig::new().await;
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let front = TlsFront::start(rig.broker.address, &servers.server(), Some(&clients)).await;
    let ca = rig.files().authority("servers", &servers);
    let endpoint = format!("https://localhost:{}", front.address.port());
    let daemon = rig.daemon(&[
        ("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", &endpoint),
        ("CHRONIK_SNAPSHOT_BROKER_TLS_CA", &ca),
    ]);
    // Why, the broker knows: it hangs up after our side of the handshake.
    assert_never_connected(&daemon, "the broker does not answer");
    assert_eq!(front.accepted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_call_the_broker_encrypt_too() {
    let rig = Rig::new().await;
    let servers = Authority::new("servers");
    let front = TlsFront::start(rig.broker.address, &servers.server(), None).await;
    let ca = rig.files().authority("servers", &servers);
    let endpoint = format!("https://localhost:{}", front.address.port());
    let store = rig.dir.path().join("store");
    let env = [
        ("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", endpoint.as_str()),
        ("CHRONIK_SNAPSHOT_BROKER_TLS_CA", ca.as_str()),
        ("OBJECT_STORE_BACKEND", "local"),
        ("LOCAL_STORAGE_PATH", store.to_str().unwrap()),
    ];
    let said = run(&["init"], &env).ends_with(0);
    assert!(said.stdout.contains("test-cluster"), "{said:#?}");
    assert_eq!(front.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_trusted_by_the_user_who_serves_it() {
    let rig = Rig::new().await;
    let front = SocketFront::start(rig.dir.path().join("b.sock"), rig.broker.address);
    let endpoint = format!("unix:{}", front.path.display());
    let me = std::fs::metadata(rig.dir.path()).unwrap().uid();
    let env = |uids| {
        [
            ("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", endpoint.clone()),
            ("CHRONIK_SNAPSHOT_BROKER_UIDS", uids),
        ]
    };
    let start = |uids: String| {
        let env = env(uids);
        rig.daemon(&env.each_ref().map(|(name, value)| (*name, value.as_str())))
    };
    let suspicious = start((me + 1).to_string());
    assert_never_connected(
        &suspicious,
        &format!("runs as user id {me}, which is not an expected one"),
    );
    drop(suspicious);
    assert_eq!(front.spoken(), 0, "not a byte was sent");
    start(format!("{},{me}", me + 1)).wait("the broker", |daemon| daemon.metric(CONNECTED) > 0.5);
}
