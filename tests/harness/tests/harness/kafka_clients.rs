//! Clients that other people wrote, unmodified, against three brokers.

use std::{
    env,
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use chronik_harness::{Cluster, ClusterOptions, Node};

const SOON: Duration = Duration::from_secs(30);
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const RECORDS: usize = 100;

async fn cluster(dir: &Path) -> (Cluster, String) {
    let options = ClusterOptions::new(dir).without_sidecars();
    let cluster = Cluster::start(options).await.unwrap();
    let addresses: Vec<_> = cluster.nodes().iter().map(Node::kafka_address).collect();
    (cluster, addresses.join(","))
}

fn succeeded(what: &str, output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{what}: {}\n{out}\n{errors}",
        output.status
    );
    out
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs confluent-kafka and kafka-python: `make test` installs them and runs this"]
async fn python_clients_produce_and_consume() {
    let python =
        env::var("HARNESS_PYTHON").expect("HARNESS_PYTHON names a Python with both clients");
    let dir = tempfile::tempdir().unwrap();
    let (mut cluster, bootstrap) = cluster(dir.path()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python_clients.py");
    let output = Command::new(python)
        .args([script, &bootstrap])
        .output()
        .unwrap();
    print!("{}", succeeded("the Python clients", &output));
    cluster.stop().await.unwrap();
}

fn kcat(bootstrap: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new("kcat")
        .args(["-b", bootstrap])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kcat is installed");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    succeeded("kcat", &child.wait_with_output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kcat: `make test-kcat`"]
async fn kcat_lists_produces_and_consumes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut cluster, bootstrap) = cluster(dir.path()).await;
    cluster
        .client()
        .create_topic("orders", 1, 3, SOON)
        .await
        .unwrap();
    let listed = kcat(&bootstrap, &["-L"], "");
    assert!(
        listed.contains("3 brokers") && listed.contains("\"orders\""),
        "{listed}"
    );
    let mut expected = String::new();
    for codec in CODECS {
        for idempotence in ["false", "true"] {
            let mut lines = String::new();
            for number in 0..RECORDS {
                writeln!(lines, "k{number}:{codec}-{idempotence}-{number}").unwrap();
            }
            let codec = format!("compression.codec={codec}");
            let idempotence = format!("enable.idempotence={idempotence}");
            let args = [
                "-P",
                "-t",
                "orders",
                "-K:",
                "-X",
                &codec,
                "-X",
                &idempotence,
            ];
            kcat(&bootstrap, &args, &lines);
            expected.push_str(&lines);
        }
    }
    let args = [
        "-C", "-t", "orders", "-p", "0", "-o", "0", "-e", "-q", "-K:",
    ];
    assert_eq!(kcat(&bootstrap, &args, ""), expected);
    cluster.stop().await.unwrap();
}
