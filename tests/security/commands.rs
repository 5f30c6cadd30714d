//! The commands that call a daemon over TLS.

use crate::{
    rig::Rig,
    support::{
        certificates::{Authority, Files},
        cli::run,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn flags_or_the_daemons_configuration_say_how_it_is_called() {
    let clients = Authority::new("clients");
    let rig = Rig::start(Some(&clients), &[("CHRONIK_SNAPSHOT_ADMIN_CLIENTS", "ops")]).await;
    rig.wait_partition();
    let files = rig.files();
    let ca = files.authority("servers", &rig.authority);
    let (cert, key) = files.pair("ops", &clients.client("ops"));
    let (other_cert, other_key) = files.pair("other", &clients.client("other"));
    let port = rig.daemon.listen.port();
    let endpoint = format!("https://localhost:{port}");

    let flags = [
        "--endpoint",
        &endpoint,
        "--tls-ca",
        &ca,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ];
    let said = run(&[&["health"], &flags[..]].concat(), &[]).ends_with(0);
    assert_eq!(said.stdout, "SERVING\n");
    run(&[&["pause", "orders/0"], &flags[..]].concat(), &[]).ends_with(0);

    // The daemon's own configuration, of which only what concerns the call is looked at.
    let listen = format!("127.0.0.1:{port}");
    let configured = [
        ("CHRONIK_SNAPSHOT_LISTEN", listen.as_str()),
        ("CHRONIK_SNAPSHOT_TLS_CERT", "/not/for/this/user.pem"),
        ("CHRONIK_SNAPSHOT_TLS_KEY", "/not/for/this/user-key.pem"),
        ("CHRONIK_SNAPSHOT_ADMIN_TLS_CA", ca.as_str()),
        ("CHRONIK_SNAPSHOT_ADMIN_TLS_CERT", other_cert.as_str()),
        ("CHRONIK_SNAPSHOT_ADMIN_TLS_KEY", other_key.as_str()),
        ("CHRONIK_SNAPSHOT_ADMIN_TLS_NAME", "localhost"),
    ];
    run(&["status"], &configured).ends_with(0);
    run(&["resume", "orders/0"], &configured)
        .ends_with(1)
        .tells(&["CN \"other\"", "ADMIN_CLIENTS does not name it"]);
    // Flags win.
    let own = ["--tls-cert", &cert, "--tls-key", &key];
    run(&[&["resume", "orders/0"], &own[..]].concat(), &configured).ends_with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_wrong_is_told() {
    let clients = Authority::new("clients");
    let rig = Rig::start(Some(&clients), &[]).await;
    let files: Files<'_> = rig.files();
    let ca = files.authority("servers", &rig.authority);
    let wrong = files.authority("wrong", &Authority::new("wrong"));
    let endpoint = format!("https://localhost:{}", rig.daemon.listen.port());
    run(&["health", "--endpoint", &endpoint], &[])
        .ends_with(78)
        .tells(&["ADMIN_TLS_CA: not set"]);
    run(
        &["health", "--endpoint", &endpoint, "--tls-ca", &wrong],
        &[],
    )
    .ends_with(69)
    .tells(&["UnknownIssuer"]);
    run(&["health", "--endpoint", &endpoint, "--tls-ca", &ca], &[]).ends_with(69);
    run(
        &[
            "health",
            "--endpoint",
            &endpoint,
            "--tls-ca",
            "/no/such/file",
        ],
        &[],
    )
    .ends_with(1)
    .tells(&["/no/such/file cannot be read"]);
    let named = [
        "health",
        "--endpoint",
        &endpoint,
        "--tls-ca",
        &ca,
        "--tls-name",
        "other",
    ];
    run(&named, &[])
        .ends_with(69)
        .tells(&["not valid for name"]);
    let plain = format!("http://localhost:{}", rig.daemon.listen.port());
    run(&["health", "--endpoint", &plain], &[]).ends_with(69);
}
