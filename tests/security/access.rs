//! Who may call what, of those who get in.

use crate::{
    rig::{Rig, assert_denied, bootstrap, pause, status},
    support::certificates::{Authority, Holder},
};
use chronik_snapshotd::proto::v1::BootstrapResult;

#[tokio::test(flavor = "multi_thread")]
async fn operators_pause_and_brokers_bootstrap_and_both_may_look() {
    let clients = Authority::new("clients");
    let rig = Rig::start(
        Some(&clients),
        &[
            (
                "CHRONIK_SNAPSHOT_ADMIN_CLIENTS",
                "ops.example, spiffe://kafka/ops",
            ),
            ("CHRONIK_SNAPSHOT_BOOTSTRAP_CLIENTS", "broker-1"),
        ],
    )
    .await;
    rig.wait_partition();
    let by_dns = clients.issue(Holder {
        dns: &["OPS.example"],
        ..Holder::default()
    });
    let by_uri = clients.issue(Holder {
        uri: Some("spiffe://kafka/ops"),
        ..Holder::default()
    });
    let broker = clients.client("broker-1");
    // The common name does not count beside another name.
    let posing = clients.issue(Holder {
        dns: &["other.example"],
        common_name: "broker-1",
        ..Holder::default()
    });

    for operator in [&by_dns, &by_uri] {
        let channel = rig.client(Some(operator)).channel().await.unwrap();
        status(channel.clone()).await.unwrap();
        pause(channel.clone()).await.unwrap();
        let denied = bootstrap(channel).await.unwrap_err();
        assert_denied(
            &denied,
            &["Bootstrap is not allowed for", "BOOTSTRAP_CLIENTS"],
        );
    }
    let channel = rig.client(Some(&broker)).channel().await.unwrap();
    status(channel.clone()).await.unwrap();
    assert_eq!(
        bootstrap(channel.clone()).await.unwrap(),
        BootstrapResult::UseLocal
    );
    let denied = pause(channel).await.unwrap_err();
    assert_denied(
        &denied,
        &["PausePartition", "CN \"broker-1\"", "ADMIN_CLIENTS"],
    );

    let channel = rig.client(Some(&posing)).channel().await.unwrap();
    assert_denied(
        &bootstrap(channel.clone()).await.unwrap_err(),
        &["DNS \"other.example\""],
    );
    assert_denied(
        &pause(channel.clone()).await.unwrap_err(),
        &["ADMIN_CLIENTS"],
    );
    status(channel).await.unwrap();

    let denied = |service| format!("chronik_snapshot_denied_total{{service=\"{service}\"}}");
    assert!((rig.daemon.metric(&denied("admin")) - 2.0).abs() < 0.5);
    assert!((rig.daemon.metric(&denied("bootstrap")) - 3.0).abs() < 0.5);
    rig.daemon.wait_log("call denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_every_certificate_may_do_everything() {
    let clients = Authority::new("clients");
    let rig = Rig::start(Some(&clients), &[]).await;
    rig.wait_partition();
    let anybody = clients.client("anybody");
    let channel = rig.client(Some(&anybody)).channel().await.unwrap();
    pause(channel.clone()).await.unwrap();
    assert_eq!(bootstrap(channel).await.unwrap(), BootstrapResult::UseLocal);
}
