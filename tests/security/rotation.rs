//! Certificates that change on disk while the daemon runs.

use std::time::{Duration, Instant};

use crate::{
    rig::{Rig, status},
    support::{
        certificates::{Authority, Files, Holder, Pair, replace},
        daemon::{Daemon, PATIENCE, Setup},
        scripted_broker::ScriptedBroker,
        tls::{TlsClient, TlsFront, der},
    },
};

const EXPIRY: &str =
    "chronik_snapshot_tls_certificate_expiry_timestamp_seconds{certificate=\"listen\"}";
const UNUSABLE: &str = "chronik_snapshot_tls_files_unusable{certificate=\"listen\"}";

async fn wait_for(client: &TlsClient, pair: &Pair) {
    let deadline = Instant::now() + PATIENCE;
    while client.certificate().await.unwrap() != der(pair) {
        assert!(Instant::now() < deadline, "the certificate is not taken up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_pair_is_taken_up_and_open_connections_go_on() {
    let rig = Rig::start(None, &[]).await;
    let client = rig.client(None);
    let old = client.channel().await.unwrap();
    status(old.clone()).await.unwrap();

    let until = |year| {
        rig.authority.issue(Holder {
            dns: &["localhost"],
            until: year,
            ..Holder::default()
        })
    };
    let second = until(2040);
    rig.files().pair("server", &second);
    wait_for(&client, &second).await;
    status(old.clone()).await.unwrap();
    rig.status(&client).await.unwrap();
    // 2040-01-01.
    rig.daemon.wait("the metric", |daemon| {
        (daemon.metric(EXPIRY) - 2_208_988_800.0).abs() < 0.5
    });

    // Broken: a key of somebody else, then no key at all.
    assert!(rig.daemon.metric(UNUSABLE) < 0.5);
    let key = rig.files().path("server-key.pem");
    replace(&key, &until(2041).key);
    rig.daemon
        .wait("the metric", |daemon| daemon.metric(UNUSABLE) > 0.5);
    replace(&key, "planted nonsense");
    rig.daemon
        .wait_log("server-key.pem holds no private key in PEM form");
    assert!(rig.daemon.metric(UNUSABLE) > 0.5);
    rig.daemon
        .wait_log("cannot be used; those from before stay in use");
    assert_eq!(client.certificate().await.unwrap(), der(&second));
    rig.status(&client).await.unwrap();
    assert!(!rig.daemon.log().contains("planted"));

    // Mended.
    let third = until(2042);
    rig.files().pair("server", &third);
    wait_for(&client, &third).await;
    rig.daemon
        .wait("the metric", |daemon| daemon.metric(UNUSABLE) < 0.5);
    status(old).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_former_authority_does_not_get_in_again() {
    let (former, next) = (Authority::new("former"), Authority::new("next"));
    let rig = Rig::start(Some(&former), &[]).await;
    let (left, stays) = (former.client("a"), next.client("b"));
    let (left, stays) = (rig.client(Some(&left)), rig.client(Some(&stays)));
    rig.status(&left).await.unwrap();
    assert!(rig.status(&stays).await.is_err());

    // Both for a while, as one rotates authorities.
    let ca = rig.files().path("clients.pem");
    replace(&ca, &[former.pem.as_str(), next.pem.as_str()].concat());
    rig.daemon
        .wait_log("certificates have changed and are used from now on");
    rig.status(&stays).await.unwrap();
    rig.status(&left).await.unwrap();

    replace(&ca, &next.pem);
    let deadline = Instant::now() + PATIENCE;
    while rig.status(&left).await.is_ok() {
        assert!(
            Instant::now() < deadline,
            "the former authority is still trusted"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    rig.status(&stays).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_that_the_broker_sees_is_taken_up_too() {
    let (former, next) = (Authority::new("former"), Authority::new("next"));
    let servers = Authority::new("servers");
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let front = TlsFront::start(broker.address, &servers.server(), Some(&former)).await;
    let files = Files(dir.path());
    let ca = files.authority("servers", &servers);
    let (cert, key) = files.pair("sidecar", &former.client("sidecar"));
    let endpoint = format!("https://localhost:{}", front.address.port());
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &[
            ("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", &endpoint),
            ("CHRONIK_SNAPSHOT_BROKER_TLS_CA", &ca),
            ("CHRONIK_SNAPSHOT_BROKER_TLS_CERT", &cert),
            ("CHRONIK_SNAPSHOT_BROKER_TLS_KEY", &key),
        ],
    });
    let connected = |daemon: &Daemon| daemon.metric("chronik_snapshot_broker_connected") > 0.5;
    daemon.wait("the broker", connected);
    files.pair("sidecar", &next.client("sidecar"));
    daemon.wait_log("certificates have changed and are used from now on");
    // The export makes a connection of its own.
    front.only_clients_of(&next);
    let before = front.accepted();
    broker.grow(100);
    daemon.wait_proven(100);
    assert!(front.accepted() > before);
}
