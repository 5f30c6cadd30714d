//! TLS and client certificates on LISTEN.

use std::net::TcpStream;

use crate::{
    rig::Rig,
    support::{
        certificates::{Authority, Holder},
        tls::TlsClient,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn who_trusts_the_authority_is_served_and_who_does_not_is_warned() {
    let rig = Rig::start(None, &[]).await;
    let client = rig.client(None);
    rig.status(&client).await.unwrap();
    let page = client.get("/status").await.unwrap();
    assert!(
        page.contains(" 200 ") && page.contains("\"daemon\""),
        "{page}"
    );
    let strangers = Authority::new("strangers");
    let suspicious = TlsClient::new(rig.daemon.listen, &strangers, None);
    let error = rig.status(&suspicious).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert!(rig.daemon.log().contains("tls=true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_encryption_nothing_is_answered() {
    let rig = Rig::start(None, &[]).await;
    let plain = format!("http://{}", rig.daemon.listen);
    let endpoint = tonic::transport::Endpoint::from_shared(plain).unwrap();
    match endpoint.connect().await {
        Err(_) => {}
        Ok(channel) => assert!(crate::rig::status(channel).await.is_err()),
    }
    // HTTP neither.
    assert!(TcpStream::connect(rig.daemon.listen).is_ok());
    assert_eq!(rig.daemon.get("/status"), None);
    assert!(
        rig.daemon.get("/healthz").is_some(),
        "the probes' address is plain"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_of_the_daemon_is_not_accepted() {
    let authority = Authority::new("servers");
    let expired = authority.issue(Holder {
        dns: &["localhost"],
        expired: true,
        ..Holder::default()
    });
    let rig = Rig::start_with(authority, &expired, None, &[]).await;
    let error = rig.status(&rig.client(None)).await.unwrap_err();
    assert!(error.contains("expired"), "{error}");
    let series =
        "chronik_snapshot_tls_certificate_expiry_timestamp_seconds{certificate=\"listen\"}";
    // 2021-01-01.
    rig.daemon.wait("the metric", |daemon| {
        (daemon.metric(series) - 1_609_459_200.0).abs() < 0.5
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_with_a_certificate_of_the_authority_get_in() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let rig = Rig::start(Some(&clients), &[]).await;
    let known = clients.client("ops");
    rig.status(&rig.client(Some(&known))).await.unwrap();
    for path in ["/status", "/"] {
        let page = rig.client(Some(&known)).get(path).await.unwrap();
        assert!(page.contains(" 200 "), "{page}");
    }

    let expired = clients.issue(Holder {
        common_name: "ops",
        expired: true,
        ..Holder::default()
    });
    let unknown = strangers.client("ops");
    for own in [None, Some(&unknown), Some(&expired)] {
        let client = rig.client(own);
        assert!(rig.status(&client).await.is_err());
        // Nor health, reflection or anything else: there is no connection.
        assert!(client.get("/status").await.is_err());
        assert!(client.get("/").await.is_err());
    }
    let refused = "chronik_snapshot_connections_refused_total{reason=\"handshake\"}";
    rig.daemon
        .wait("the metric", |daemon| daemon.metric(refused) > 5.5);
    rig.daemon.wait_log("connection refused");
    // What needs no certificate still needs none.
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(rig.daemon.get(path).is_some(), "{path}");
    }
}
