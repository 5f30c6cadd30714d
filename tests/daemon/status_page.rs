//! The status page and what it reads, of a real daemon: who gets them, and what they say. tests/page looks at the page
//! with a browser.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use chronik_snapshotd::proto::v1;
use serde_json::Value;

use crate::support::{
    cli::run,
    daemon::{Daemon, Setup, ask, stored},
    scripted_broker::{ScriptedBroker, sample_state},
    seeding::{Conversation, lost, take},
};

const PATHS: [&str; 3] = ["/", "/status", "/status/snapshots?partition=orders/0"];

fn start(broker: &ScriptedBroker, dir: &std::path::Path, env: &[(&str, &str)]) -> Daemon {
    Daemon::start(&Setup {
        broker: broker.address,
        dir,
        env,
    })
}

fn json(daemon: &Daemon, path: &str) -> Value {
    serde_json::from_str(&daemon.get(path).unwrap()).unwrap()
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    values.next().map_or("", |(_, value)| value)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_one_document_under_a_policy_that_lets_nothing_else_in() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = start(&broker, dir.path(), &[]);
    let mut nonces = Vec::new();
    for address in [daemon.http, daemon.listen] {
        let (head, body) = ask(address, "/", "localhost").unwrap();
        assert!(head.contains(" 200 "), "{head}");
        assert_eq!(header(&head, "content-type"), "text/html; charset=utf-8");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(header(&head, name), value, "{name}");
        }
        let policy = header(&head, "content-security-policy");
        for part in [
            "default-src 'none'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let (_, rest) = policy.split_once("script-src 'nonce-").unwrap();
        let nonce = rest.split_once('\'').unwrap().0.to_owned();
        assert!(body.contains(&format!("<script nonce=\"{nonce}\">")));
        assert!(policy.contains(&format!("style-src 'nonce-{nonce}'")));
        nonces.push(nonce);
    }
    assert_ne!(nonces[0], nonces[1], "a nonce is used once");
    let (head, _) = ask(daemon.http, "/status", "127.0.0.1").unwrap();
    assert_eq!(header(&head, "content-type"), "application/json");
    assert_eq!(header(&head, "cache-control"), "no-store");
    let url = format!("http://{}/", daemon.http);
    assert!(
        daemon.log().contains(&url),
        "the log says where the page is"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_strangers_name_the_scrapers_address_tells_only_how_to_ask() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = start(&broker, dir.path(), &[]);
    daemon.wait("the partition", |daemon| daemon.partition().is_object());
    for path in PATHS {
        for host in ["localhost:9090", "127.0.0.1", "[::1]:1"] {
            let (head, _) = ask(daemon.http, path, host).unwrap();
            assert!(head.contains(" 200 "), "{path} as {host}: {head}");
        }
        for host in ["rebound.example", "10.1.2.3:9090", "localhost.example"] {
            let (head, body) = ask(daemon.http, path, host).unwrap();
            assert!(head.contains(" 403 "), "{path} as {host}: {head}");
            assert!(
                body.contains("ssh -L") && !body.contains("orders"),
                "{body}"
            );
            // So does LISTEN, where it is for this host.
            let (head, _) = ask(daemon.listen, path, host).unwrap();
            assert!(head.contains(" 403 "), "{path} as {host}: {head}");
        }
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        let (head, _) = ask(daemon.http, path, "10.1.2.3:9090").unwrap();
        assert!(head.contains(" 200 "), "{path}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_stranger_can_make_no_browser_call_the_services() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = start(&broker, dir.path(), &[]);
    daemon.wait("the partition", |daemon| daemon.partition().is_object());
    // PausePartition of orders/0, as gRPC frames it.
    let body = b"\0\0\0\0\x0a\x0a\x08\x0a\x06orders";
    for content_type in ["text/plain", "application/grpc"] {
        let mut stream = TcpStream::connect(daemon.listen).unwrap();
        let head = format!(
            "POST /chronik.snapshot.v1.SnapshotAdminService/PausePartition HTTP/1.1\r\nHost: localhost\r\n\
             Origin: https://stranger.example\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
    }
    assert_eq!(daemon.partition()["paused"], false);
    // The same in gRPC is heard.
    let mut admin = daemon.admin().await;
    let request = v1::PausePartitionRequest {
        partition: Some(v1::TopicPartition {
            topic: "orders".to_owned(),
            partition: 0,
        }),
        ..v1::PausePartitionRequest::default()
    };
    admin.pause_partition(request).await.unwrap();
    assert_eq!(daemon.partition()["paused"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_can_keep_the_status_off_the_scrapers_address() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let off = [("CHRONIK_SNAPSHOT_STATUS_PAGE", "false")];
    let daemon = start(&broker, dir.path(), &off);
    daemon.wait("the partition", |daemon| daemon.partition().is_object());
    for path in PATHS {
        let (head, _) = ask(daemon.http, path, "localhost").unwrap();
        assert!(head.contains(" 404 "), "{path}: {head}");
        let (head, _) = ask(daemon.listen, path, "localhost").unwrap();
        assert!(head.contains(" 200 "), "{path}: {head}");
    }
    assert!(!daemon.log().contains("status_page"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_cannot_be_answered_is_told_what_would_be_right() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = start(&broker, dir.path(), &[]);
    daemon.wait("the partition", |daemon| daemon.partition().is_object());
    for (query, field, value) in [
        ("sort=size", "sort", "size"),
        ("only=broken", "only", "broken"),
        ("page_size=5000", "page_size", "5000"),
        ("page=-1", "page", "-1"),
        ("serach=x", "serach", "x"),
    ] {
        let (head, body) = ask(daemon.listen, &format!("/status?{query}"), "localhost").unwrap();
        assert!(head.contains(" 400 "), "{query}: {head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&body["field"], &body["value"]),
            (&field.into(), &value.into())
        );
        let error = body["error"].as_str().unwrap();
        assert!(
            error.contains("must be") || error.contains("use page"),
            "{error}"
        );
    }
    let (head, body) = ask(
        daemon.listen,
        "/status/snapshots?partition=nowhere/7",
        "localhost",
    )
    .unwrap();
    assert!(
        head.contains(" 404 ") && body.contains("nowhere/7"),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_how_much_is_due_at_how_much_and_what_there_is_in_all() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = start(
        &broker,
        dir.path(),
        &[("CHRONIK_SNAPSHOT_COMPACT", "false")],
    );
    daemon.wait("the partition", |daemon| daemon.partition().is_object());
    let before = json(&daemon, "/status");
    assert_eq!(before["daemon"]["snapshots_enabled"], true);
    assert_eq!(before["daemon"]["log_threshold_entries"], 100);
    assert_eq!(before["daemon"]["time_threshold_secs"], 3600);
    assert_eq!(before["summary"]["partitions"], 1);
    assert_eq!(before["summary"]["without_snapshot"], 1);
    assert_eq!(before["partitions"][0]["newest_snapshot_at_unix_ms"], 0);

    broker.grow(100);
    daemon.wait_proven(100);
    daemon.wait("the debt", |daemon| {
        daemon.partition()["truncation_debt_entries"] == 90
    });
    let after = json(&daemon, "/status?sort=debt&only=all&search=ORDERS");
    let partition = &after["partitions"][0];
    assert_eq!(partition["log_size_bytes"], 1000);
    let made_at = partition["newest_snapshot_at_unix_ms"].as_i64().unwrap();
    let span = before["now_unix_ms"].as_i64().unwrap()..=after["now_unix_ms"].as_i64().unwrap();
    assert!(span.contains(&made_at), "{made_at} in {span:?}");
    let summary = &after["summary"];
    assert_eq!(summary["without_snapshot"], 0);
    assert_eq!(summary["oldest_snapshot_at_unix_ms"], made_at);
    assert_eq!(summary["truncation_debt_entries"], 90);
    assert_eq!(summary["truncation_debt_bytes"], 900);
    assert_eq!(
        (&after["page"], &after["pages"], &after["matching"]),
        (&1.into(), &1.into(), &1.into())
    );
    let none = json(&daemon, "/status?only=failing");
    assert_eq!(none["matching"], 0);
    assert_eq!(none["summary"]["partitions"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retained_snapshots_are_those_of_the_command_line_and_cost_the_store_nothing() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let daemon = start(&broker, dir.path(), &[]);
    for _ in 0..3 {
        let end = broker.grow(100);
        daemon.wait_proven(end);
    }
    let told = |daemon: &Daemon| json(daemon, "/status/snapshots?partition=orders/0");
    daemon.wait("peace", |daemon| {
        let status = json(daemon, "/status");
        status["running"].as_array().unwrap().is_empty() && status["daemon"]["queued"] == 0
    });
    daemon.wait_ticks(2);
    let calls = |daemon: &Daemon| {
        let page = daemon.get("/metrics").unwrap();
        let lines = page.lines();
        let counted =
            lines.filter(|line| line.starts_with("chronik_snapshot_store_requests_total"));
        counted.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = calls(&daemon);
    assert!(!before.is_empty());
    for _ in 0..20 {
        told(&daemon);
    }
    assert_eq!(calls(&daemon), before);

    let answer = told(&daemon);
    assert_eq!(
        (&answer["listed"], &answer["left_out"]),
        (&true.into(), &0.into())
    );
    let store = dir.path().join("store");
    let listed = run(
        &["list", "orders/0", "--output", "json"],
        &[
            ("OBJECT_STORE_BACKEND", "local"),
            ("LOCAL_STORAGE_PATH", store.to_str().unwrap()),
        ],
    );
    let listed = listed.ends_with(0).json();
    assert_eq!(answer["snapshots"], listed["snapshots"]);
    assert_eq!(
        answer["snapshots"].as_array().unwrap().len(),
        stored(dir.path(), ".manifest.json").len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_runs_says_how_far_it_is() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let total = 8 << 20;
    {
        let mut script = broker.script();
        script.state = sample_state(total);
        script.stall = true;
    }
    let daemon = start(&broker, dir.path(), &[]);
    broker.grow(100);
    // The broker goes silent after its first MiB.
    daemon.wait("an upload that stands still", |daemon| {
        json(daemon, "/status")["running"][0]["done_bytes"] == 1 << 20
    });
    let status = json(&daemon, "/status?only=running");
    let work = &status["running"][0];
    assert_eq!(work["kind"], "visit");
    assert_eq!(
        (&work["topic"], &work["partition"]),
        (&"orders".into(), &0.into())
    );
    assert_eq!(work["stage"], "uploading");
    assert_eq!(work["total_bytes"], total);
    let span = status["daemon"]["started_at_unix_ms"].as_i64()..=status["now_unix_ms"].as_i64();
    assert!(span.contains(&work["began_at_unix_ms"].as_i64()));
    assert_eq!(status["partitions"][0]["activity"], "uploading");
    assert_eq!(status["summary"]["running"], 1);
    // The same over gRPC.
    let request = v1::GetStatusRequest::default();
    let answer = daemon.admin().await.get_status(request).await.unwrap();
    let work = &answer.get_ref().running[0];
    assert_eq!((work.done_bytes, work.total_bytes), (1 << 20, total as u64));
    assert_eq!(answer.get_ref().partitions[0].log_size_bytes, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_and_a_restore_say_how_far_they_are() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let total = 24 << 20;
    broker.script().state = sample_state(total);
    // So slow that it is seen.
    let slow_drills = [
        ("CHRONIK_SNAPSHOT_DRILL_INTERVAL_SECS", "1"),
        ("CHRONIK_SNAPSHOT_MAX_DRILL_BYTES_PER_SEC", "524288"),
    ];
    let daemon = start(&broker, dir.path(), &slow_drills);
    let end = broker.grow(100);
    daemon.wait_proven(end);
    let shown = |daemon: &Daemon, kind: &str, stage: &str| {
        let running = json(daemon, "/status")["running"].clone();
        let works = running.as_array().unwrap().iter();
        let mut of_kind = works.filter(|work| work["kind"] == kind && work["stage"] == stage);
        let work = of_kind.next();
        work.is_some_and(|work| {
            let done = work["done_bytes"].as_u64().unwrap();
            work["total_bytes"] == total && (1..total as u64).contains(&done)
        })
    };
    daemon.wait("a drill", |daemon| shown(daemon, "drill", "reading"));
    // The broker reads nothing yet: what has not gone into buffers waits. The drill gives way.
    let restore = Conversation::open(daemon.listen, lost(end)).await.unwrap();
    daemon.wait("a restore", |daemon| shown(daemon, "restore", "sending"));
    daemon.wait("the drill to give way", |daemon| {
        !shown(daemon, "drill", "reading")
    });
    let seeded = take(restore).await.unwrap();
    assert_eq!(seeded.bytes.len(), total);
    daemon.wait("the end of the restore", |daemon| {
        let running = json(daemon, "/status")["running"].clone();
        let mut works = running.as_array().unwrap().iter();
        works.all(|work| work["kind"] != "restore")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_outlives_its_partition_does_not_bring_it_back() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    {
        let mut script = broker.script();
        script.state = sample_state(4 << 20);
        script.stall = true;
    }
    let patience = [("CHRONIK_SNAPSHOT_PROGRESS_TIMEOUT_SECS", "5")];
    let daemon = start(&broker, dir.path(), &patience);
    broker.grow(100);
    daemon.wait("an upload that stands still", |daemon| {
        json(daemon, "/status")["running"][0]["stage"] == "uploading"
    });
    broker.script().hidden = true;
    daemon.wait("the partition to leave", |daemon| {
        daemon.partition().is_null()
    });
    assert_eq!(json(&daemon, "/status")["running"][0]["topic"], "orders");
    daemon.wait("the visit to be given up", |daemon| {
        json(daemon, "/status")["running"] == Value::Array(Vec::new())
    });
    daemon.wait_ticks(2);
    assert_eq!(daemon.partition(), Value::Null);
    // It comes back when the broker has it again.
    broker.script().hidden = false;
    daemon.wait("the partition to be back", |daemon| {
        daemon.partition()["applied_index"] == 100
    });
}
