//! `doctor`, against stores and brokers that are as they should be and others.

use std::fs;

use serde_json::Value;

use crate::support::{
    cli::{Lab, Said, assert_shape, keep, run},
    s3::S3Server,
    scripted_broker::ScriptedBroker,
};

/// The level of one check.
fn level(said: &Said, check: &str) -> String {
    let document = said.json();
    let findings = document["findings"].as_array().unwrap();
    let found: Vec<&Value> = findings.iter().filter(|it| it["check"] == check).collect();
    assert_eq!(found.len(), 1, "{check}: {said:#?}");
    found[0]["level"].as_str().unwrap().to_owned()
}

fn doctor(broker: &ScriptedBroker, environment: &[(&str, &str)]) -> Said {
    let endpoint = format!("http://{}", broker.address);
    let mut all = vec![("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", endpoint.as_str())];
    all.extend_from_slice(environment);
    run(&["doctor", "--output", "json"], &all)
}

const STORE_CHECKS: [&str; 11] = [
    "put",
    "get",
    "range",
    "head",
    "list",
    "clock",
    "conditional create",
    "multipart",
    "multipart abort",
    "content checksum",
    "delete",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_server_is_tried_and_left_as_it_was() {
    let (server, broker) = (S3Server::start().await, ScriptedBroker::start().await);
    let said = doctor(&broker, &server.variables()).ends_with(0);
    assert_shape("doctor", &said);
    for check in STORE_CHECKS {
        assert_eq!(level(&said, check), "ok", "{check}: {said:#?}");
    }
    assert_eq!(level(&said, "reachable"), "ok");
    assert_eq!(level(&said, "protocol"), "ok");
    assert_eq!(
        level(&said, "identity"),
        "warning",
        "nobody has claimed it yet"
    );
    let left: Vec<_> = walk(&server.bucket_dir());
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(server.unfinished_uploads(), Vec::<String>::new());
}

/// Files below a directory.
fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_that_is_denied_is_named() {
    let (server, broker) = (S3Server::start().await, ScriptedBroker::start().await);
    let mut variables = server.variables();
    for (name, value) in &mut variables {
        if *name == "S3_SECRET_KEY" {
            *value = "another";
        }
    }
    let said = doctor(&broker, &variables).ends_with(1);
    for check in [
        "put",
        "get",
        "range",
        "head",
        "list",
        "conditional create",
        "multipart",
        "delete",
    ] {
        assert_eq!(level(&said, check), "error", "{check}: {said:#?}");
    }
    let document = said.json();
    let findings = document["findings"].as_array().unwrap();
    for (check, permission) in [
        ("put", "s3:PutObject"),
        ("list", "s3:ListBucket"),
        ("delete", "s3:DeleteObject"),
    ] {
        let finding = findings.iter().find(|it| it["check"] == check).unwrap();
        assert!(
            finding["fix"].as_str().unwrap().contains(permission),
            "{finding}"
        );
        assert!(
            finding["detail"].as_str().unwrap().contains("denied"),
            "{finding}"
        );
        assert!(!finding["consequence"].as_str().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_an_error_and_so_is_a_server() {
    let (mut server, broker) = (S3Server::start().await, ScriptedBroker::start().await);
    let missing = server.bucket_dir().join("missing");
    let variables = [
        ("OBJECT_STORE_BACKEND", "local"),
        ("LOCAL_STORAGE_PATH", missing.to_str().unwrap()),
    ];
    doctor(&broker, &variables)
        .ends_with(69)
        .tells(&["root directory does not exist"]);
    assert!(!missing.exists());

    let variables: Vec<_> = server
        .variables()
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
    server.stop().await;
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let said = doctor(&broker, &variables).ends_with(1);
    assert_eq!(level(&said, "put"), "error");
    let text = said.json().to_string();
    assert!(
        text.contains("check endpoint, network and the server"),
        "{said:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_tried_and_the_broker_compared_with_its_claim() {
    let lab = Lab::with_snapshots(1).await;
    let before = walk(&lab.dir.path().join("store")).len();
    let said = lab.run(&["doctor", "--output", "json"]).ends_with(0);
    for check in STORE_CHECKS
        .iter()
        .chain(&["reachable", "protocol", "identity"])
    {
        assert_eq!(level(&said, check), "ok", "{check}: {said:#?}");
    }
    assert_eq!(walk(&lab.dir.path().join("store")).len(), before);
    let warned = lab.run_with(&["doctor"], &[("CHRONIK_SNAPSHOT_DELETE_GRACE_SECS", "1")]);
    let warned = warned.ends_with(0);
    assert!(
        warned.stdout.contains("WARNING: configuration, options"),
        "{warned:#?}"
    );

    lab.broker.script().cluster_id = "another".to_owned();
    let said = lab.run(&["doctor"]).ends_with(1);
    keep("doctor", "doctor", &said);
    for part in [
        "ERROR: broker, identity",
        "consequence: nothing is written or deleted",
        "fix: check bucket",
    ] {
        assert!(said.stdout.contains(part), "{part:?} is missing: {said:#?}");
    }
    let nobody = [("CHRONIK_SNAPSHOT_BROKER_ENDPOINT", "http://127.0.0.1:1")];
    let said = lab
        .run_with(&["doctor", "--output", "json"], &nobody)
        .ends_with(1);
    assert_eq!(level(&said, "reachable"), "error");
    assert_eq!(level(&said, "put"), "ok", "the store is tried all the same");
    lab.run_with(&["doctor"], &[("LOCAL_STORAGE_PATH", "relative")])
        .ends_with(78);
    lab.run_with(&["doctor"], &[("LOCAL_STORAGE_PATH", "/no/such/dir")])
        .ends_with(69);
}
