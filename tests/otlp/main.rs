//! Traces as a collector sees them, from a daemon that is a process of its own. Needs `--features otlp`.

#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    reason = "helpers of tests stop at the first surprise"
)]

mod collector;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use chronik_snapshotd::proto::v1;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::Value;
use tempfile::TempDir;

use collector::{Collector, Span};
use support::{
    daemon::{Daemon, Setup},
    scripted_broker::ScriptedBroker,
    seeding::{Conversation, lost, seed, take},
};

/// W3C trace context of a broker: version, trace, span, chosen.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn daemon(dir: &TempDir, broker: &ScriptedBroker, env: &[(&str, &str)]) -> Daemon {
    Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env,
    })
}

fn traced(dir: &TempDir, broker: &ScriptedBroker, endpoint: &str, level: &str) -> Daemon {
    let env = [
        ("CHRONIK_SNAPSHOT_OTLP_ENDPOINT", endpoint),
        ("CHRONIK_SNAPSHOT_LOG", level),
        ("CHRONIK_SNAPSHOT_LOG_FORMAT", "json"),
        ("OTEL_RESOURCE_ATTRIBUTES", "host.name=rack-7"),
    ];
    daemon(dir, broker, &env)
}

fn is_visit_with_snapshot(span: &Span) -> bool {
    span.name == "visit" && span.attributes.contains_key("snapshot_id")
}

/// The only span of that name.
fn one<'a>(trace: &'a BTreeMap<String, Vec<Span>>, name: &str) -> &'a Span {
    match trace.get(name).map(Vec::as_slice) {
        Some([span]) => span,
        other => panic!("{name}: {other:#?}"),
    }
}

/// The parts of a `traceparent` that W3C gives a meaning to: trace, span.
fn parse(traceparent: &str) -> (&str, &str) {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let [version, trace, span, flags] = parts[..] else {
        panic!("{traceparent}");
    };
    assert_eq!((version, flags), ("00", "01"), "{traceparent}");
    assert_eq!((trace.len(), span.len()), (32, 16), "{traceparent}");
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    assert!(is_hex(trace) && is_hex(span), "{traceparent}");
    (trace, span)
}

fn traceparents(broker: &ScriptedBroker) -> Vec<String> {
    let script = broker.script();
    script.traceparents.iter().flatten().cloned().collect()
}

fn log_line(daemon: &Daemon, message: &str) -> Value {
    let log = daemon.log();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut lines = lines.filter(|line| line["message"] == message);
    lines
        .next()
        .unwrap_or_else(|| panic!("no {message:?} in {log}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_and_its_stages_are_one_trace_whatever_is_logged() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let collector = Collector::start().await;
    let daemon = traced(&dir, &broker, &collector.endpoint(), "error");
    broker.grow(150);
    daemon.wait_proven(150);
    let visit = collector.wait("a visit", is_visit_with_snapshot);
    assert_eq!(daemon.log(), "", "LOG=error is for lines");

    assert_eq!(visit.parent, "");
    assert_eq!(visit.failure, None);
    assert_eq!(visit.resource["service.name"], "chronik-snapshotd");
    assert_eq!(visit.resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(visit.resource["host.name"], "rack-7");
    let attribute = |name: &str| visit.attributes[name].as_str();
    assert_eq!(attribute("partition"), "orders/0");
    assert_eq!(attribute("broker_id"), "1");
    assert_eq!(attribute("trace_id"), visit.trace_id);
    assert_eq!(
        attribute("decision"),
        "due (log_threshold): taking a snapshot"
    );
    assert_eq!(attribute("outcome"), "success");

    let trace = collector.trace(&visit.trace_id);
    let snapshot = one(&trace, "snapshot");
    assert_eq!(snapshot.attributes["snapshot_id"], attribute("snapshot_id"));
    let parents = [
        ("snapshot", &visit),
        ("export", snapshot),
        ("upload", snapshot),
        ("manifest", snapshot),
        ("verify", snapshot),
        ("compact", &visit),
        ("ExportSnapshot", one(&trace, "export")),
        ("CompactLog", one(&trace, "compact")),
    ];
    for (name, parent) in parents {
        let span = one(&trace, name);
        assert_eq!(span.parent, parent.id, "{name}");
        assert!(
            span.begun_ns >= parent.begun_ns && span.ended_ns <= parent.ended_ns,
            "{span:#?} outlives {parent:#?}"
        );
    }
    assert!(
        one(&trace, "verify")
            .events
            .contains(&"snapshot proven".to_owned())
    );
    let order = ["export", "upload", "manifest", "verify", "compact"];
    let begun = order.map(|name| one(&trace, name).begun_ns);
    assert!(begun.is_sorted(), "{begun:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_told_the_trace_of_each_call_and_of_none_outside_of_one() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let collector = Collector::start().await;
    let daemon = traced(&dir, &broker, &collector.endpoint(), "info");
    daemon.wait_ticks(2);
    assert!(broker.script().describes > 0);
    assert_eq!(traceparents(&broker), [""; 0], "ticks belong to no trace");

    broker.grow(150);
    daemon.wait_log("log truncated");
    let visit = collector.wait("a visit", is_visit_with_snapshot);
    let told = traceparents(&broker);
    let of_visit = told
        .iter()
        .map(|told| parse(told))
        .filter(|(trace, _)| *trace == visit.trace_id);
    let calls = collector.trace(&visit.trace_id);
    let calls: Vec<&Span> = calls.values().flatten().collect();
    let mut seen = Vec::new();
    for (_, id) in of_visit {
        let call = calls.iter().find(|call| call.id == id);
        let call = call.unwrap_or_else(|| panic!("{id} is not in {calls:#?}"));
        assert_eq!(call.kind, SpanKind::Client);
        assert_eq!(call.attributes["rpc.method"], call.name);
        seen.push(call.name.as_str());
    }
    let expected = [
        "ExportSnapshot",
        "ListReplicas",
        "CompactLog",
        "ListReplicas",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_goes_on_with_the_brokers_trace() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let collector = Collector::start().await;
    let daemon = traced(&dir, &broker, &collector.endpoint(), "info");
    broker.grow(150);
    daemon.wait_log("log truncated");

    let parent = format!("00-{TRACE}-{SPAN}-01");
    let conversation = Conversation::open_traced(daemon.listen, lost(0), Some(&parent)).await;
    let seeded = take(conversation.unwrap()).await.unwrap();
    assert_eq!(seeded.result(), v1::BootstrapResult::Installed);
    let bootstrap = collector.wait("the bootstrap", |span| span.name == "bootstrap");
    assert_eq!(bootstrap.trace_id, TRACE);
    assert_eq!(bootstrap.parent, SPAN);
    assert_eq!(bootstrap.kind, SpanKind::Server);
    assert_eq!(bootstrap.failure, None);
    let attribute = |name: &str| bootstrap.attributes[name].as_str();
    assert_eq!(attribute("partition"), "orders/0");
    assert_eq!(attribute("broker_id"), "1");
    assert_eq!(attribute("outcome"), "installed");
    let trace = collector.trace(TRACE);
    let install = one(&trace, "install");
    assert_eq!(install.parent, bootstrap.id);
    assert_eq!(install.attributes["snapshot_id"], attribute("snapshot_id"));
    // Back at the broker, it is the trace that the broker began.
    let asked = &trace["DescribeBroker"];
    let told = traceparents(&broker);
    let told = told.iter().map(|told| parse(told));
    let told: Vec<&str> = told
        .filter(|(trace, _)| *trace == TRACE)
        .map(|(_, span)| span)
        .collect();
    assert_eq!(
        asked
            .iter()
            .map(|call| call.id.as_str())
            .collect::<Vec<_>>(),
        told
    );
    assert!(asked.iter().all(|call| call.parent == bootstrap.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_without_a_usable_trace_begins_one_and_what_a_broker_did_not_choose_is_not_sent()
 {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let collector = Collector::start().await;
    let daemon = traced(&dir, &broker, &collector.endpoint(), "info");
    let not_chosen = format!("00-{TRACE}-{SPAN}-00");
    for traceparent in [not_chosen.as_str(), "00-nonsense-01"] {
        let conversation = Conversation::open_traced(daemon.listen, lost(0), Some(traceparent));
        let seeded = take(conversation.await.unwrap()).await.unwrap();
        assert_eq!(seeded.result(), v1::BootstrapResult::NoSnapshot);
    }
    let mut stranger = lost(0);
    stranger.boot_id = "another".to_owned();
    assert!(seed(daemon.listen, stranger).await.is_err());
    let refused = collector.wait("the refused call", |span| {
        span.name == "bootstrap" && span.failure.is_some()
    });
    assert!(refused.failure.unwrap().contains("boot_id"));
    assert_eq!(refused.attributes["outcome"], "refused");
    assert_eq!(refused.parent, "");
    let answered = collector.wait("the answered call", |span| {
        span.name == "bootstrap" && span.attributes["outcome"] == "no_snapshot"
    });
    assert_eq!(answered.parent, "");
    assert!(collector.spans().iter().all(|span| span.trace_id != TRACE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_visit_says_why_and_log_lines_name_their_trace() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let collector = Collector::start().await;
    let daemon = traced(&dir, &broker, &collector.endpoint(), "info");
    broker.script().refuse_compaction = Some(v1::ErrorReason::NotPersisted);
    broker.grow(150);
    daemon.wait_log("visit failed");
    let visit = collector.wait("the failed visit", |span| {
        is_visit_with_snapshot(span) && span.failure.is_some()
    });
    assert_ne!(visit.attributes["outcome"], "success");
    let failure = visit.failure.unwrap();
    assert!(failure.contains("CompactLog"), "{failure}");
    let trace = collector.trace(&visit.trace_id);
    for name in ["compact", "CompactLog"] {
        assert!(one(&trace, name).failure.is_some(), "{name}");
    }
    assert_eq!(one(&trace, "snapshot").failure, None);

    let line = log_line(&daemon, "snapshot proven");
    assert_eq!(line["partition"], "orders/0");
    assert_eq!(line["level"], "INFO");
    let spans = line["spans"].as_array().unwrap();
    let names: Vec<&Value> = spans.iter().map(|span| &span["name"]).collect();
    assert_eq!(names, ["visit", "snapshot", "verify"]);
    assert_eq!(spans[0]["trace_id"], visit.trace_id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_right_before_the_process_is_sent_and_a_reload_does_not_disturb_it() {
    let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
    let collector = Collector::start().await;
    let file = dir.path().join("daemon.toml");
    let configure = |text: &str| std::fs::write(&file, text).unwrap();
    configure("log = \"error\"\n");
    let endpoint = collector.endpoint();
    let mut daemon = daemon(
        &dir,
        &broker,
        &[
            ("CHRONIK_SNAPSHOT_OTLP_ENDPOINT", endpoint.as_str()),
            ("CHRONIK_SNAPSHOT_CONFIG", file.to_str().unwrap()),
        ],
    );
    daemon.wait_ticks(1);
    configure("log = \"info\"\n");
    daemon.signal("HUP");
    daemon.wait_log("configuration read again");
    broker.grow(150);
    daemon.wait_log("log truncated");
    // Well within the time that a batch waits for more.
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
    let spans = collector.spans();
    assert!(spans.iter().any(is_visit_with_snapshot), "{spans:#?}");
}

/// A port that refuses, and one that takes connections and never says anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_changes_nothing_but_one_line_of_the_log() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = [&silent, &refusing].map(|port| format!("http://{}", port.local_addr().unwrap()));
    drop(refusing);
    for endpoint in dead {
        let (broker, dir) = (ScriptedBroker::start().await, tempfile::tempdir().unwrap());
        let mut daemon = traced(&dir, &broker, &endpoint, "info");
        for n in 1..=3 {
            let applied = broker.grow(150);
            assert_eq!(applied, n * 150);
            daemon.wait_proven(applied);
            daemon.wait("the truncation", |_| {
                broker.script().first_log_index > applied - 20
            });
        }
        daemon.wait_log("spans do not reach the collector");
        let seeded = seed(daemon.listen, lost(0)).await.unwrap();
        assert_eq!(seeded.result(), v1::BootstrapResult::Installed);
        let asked = Instant::now();
        daemon.signal("TERM");
        assert_eq!(daemon.exit_code(), Some(0), "{}", daemon.log());
        assert!(asked.elapsed() < Duration::from_secs(10));
        let warnings = daemon.log().matches("spans do not reach").count();
        assert_eq!(warnings, 1, "{}", daemon.log());
        assert_eq!(log_line(&daemon, "stopped")["level"], "INFO");
        assert_snapshots(dir.path(), 3);
    }
}

fn assert_snapshots(dir: &Path, count: usize) {
    let proofs = support::daemon::stored(dir, ".verified.json");
    assert_eq!(proofs.len(), count, "{proofs:?}");
}
