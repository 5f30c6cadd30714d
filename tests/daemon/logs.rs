//! Logs as a supervisor sees them: a child process writes, this one reads.

use std::process::Command;

use chronik_snapshotd::telemetry::logs::{self, LineFormat};
use tracing::field::Empty;

/// Runs the named test again, as the child, and gives what it wrote to standard error.
fn child(test: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("logs::{test}"), "--nocapture"])
        .env("LOGS_CHILD", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn is_child() -> bool {
    std::env::var_os("LOGS_CHILD").is_some()
}

#[test]
fn a_panic_is_one_json_line_with_its_place() {
    if is_child() {
        logs::init("info", LineFormat::Json, None).unwrap();
        let worker = std::thread::Builder::new().name("worker".into());
        let panicked = worker.spawn(|| panic!("no more")).unwrap().join();
        assert!(panicked.is_err());
        return;
    }
    let lines = child("a_panic_is_one_json_line_with_its_place");
    let mut lines = lines.lines();
    let line: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(lines.next(), None);
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["panic"], "no more");
    assert_eq!(line["thread"], "worker");
    assert!(
        line["location"]
            .as_str()
            .unwrap()
            .starts_with("tests/daemon/logs.rs:")
    );
}

#[test]
fn the_filter_decides_what_is_written() {
    if is_child() {
        logs::init("warn,quiet=off", LineFormat::Text, None).unwrap();
        tracing::info!("too low");
        tracing::warn!(target: "quiet", "switched off");
        tracing::warn!(partition = "orders/3", "told");
        return;
    }
    let lines = child("the_filter_decides_what_is_written");
    assert!(
        lines.contains("WARN") && lines.contains("told partition=\"orders/3\""),
        "{lines}"
    );
    assert!(!lines.contains("too low") && !lines.contains("switched off"));
}

#[test]
fn a_json_line_has_its_fields_side_by_side_and_the_spans_around_it_in_a_list() {
    if is_child() {
        logs::init("info,hidden=off", LineFormat::Json, None).unwrap();
        tracing::info!(partition = "orders/3", "outside");
        let visit = tracing::info_span!("visit", partition = "orders/3", outcome = Empty).entered();
        let hidden = tracing::info_span!(target: "hidden", "hidden").entered();
        let verify = tracing::info_span!("verify").entered();
        visit.record("outcome", "success");
        tracing::info!(bytes = 7, "inside");
        drop((verify, hidden, visit));
        return;
    }
    let lines = child("a_json_line_has_its_fields_side_by_side_and_the_spans_around_it_in_a_list");
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let mut lines: Vec<serde_json::Value> = lines.collect();
    for line in &mut lines {
        let members = line.as_object_mut().unwrap();
        assert!(members.remove("timestamp").unwrap().is_string());
    }
    let expected = [
        serde_json::json!({"level": "INFO", "message": "outside", "partition": "orders/3", "target": "daemon::logs"}),
        serde_json::json!({
            "level": "INFO", "message": "inside", "bytes": 7, "target": "daemon::logs",
            "spans": [
                {"name": "visit", "partition": "orders/3", "outcome": "success"},
                {"name": "verify"},
            ],
        }),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn logging_is_set_up_once() {
    if is_child() {
        logs::init("info", LineFormat::Text, None).unwrap();
        assert!(logs::init("info", LineFormat::Text, None).is_err());
        return;
    }
    child("logging_is_set_up_once");
}
