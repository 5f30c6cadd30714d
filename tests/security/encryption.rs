//! What S3 is asked to encrypt, seen by an S3 server.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use chronik_harness::Port;
use hyper::Method;

use crate::support::{
    daemon::{Daemon, Setup},
    s3::{ACCESS_KEY, BUCKET, SECRET_KEY},
    scripted_broker::{ScriptedBroker, sample_state},
};

const KIND: &str = "x-amz-server-side-encryption";
const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";

/// What a request that creates an object asks for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    upload: bool,
    headers: [Option<String>; 3],
}

/// Snapshots small and large state with these options, and tells what was asked of the server.
async fn asked(options: &[(&str, &str)]) -> BTreeSet<Asked> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
    let port = Port::reserve().unwrap();
    let listener = port.listen().await.unwrap();
    let seen: Arc<Mutex<BTreeSet<Asked>>> = Arc::default();
    let (recorded, root) = (seen.clone(), dir.path().to_owned());
    let recording = Arc::new(move |request: &hyper::Request<hyper::body::Incoming>| {
        let query = request.uri().query().unwrap_or_default();
        let upload = request.method() == Method::POST && query.contains("uploads");
        let object = request.method() == Method::PUT && !query.contains("partNumber");
        if upload || object {
            let header = |name| {
                request
                    .headers()
                    .get(name)?
                    .to_str()
                    .ok()
                    .map(str::to_owned)
            };
            let headers = [KIND, KEY_ID, BUCKET_KEY].map(header);
            recorded.lock().unwrap().insert(Asked { upload, headers });
        }
        false
    });
    let serving = tokio::spawn(async move {
        let served =
            chronik_s3_server::serve_all_but(listener, &root, ACCESS_KEY, SECRET_KEY, recording);
        served.await.unwrap();
    });
    let broker = ScriptedBroker::start().await;
    broker.script().state = sample_state(40 << 20);
    let endpoint = format!("http://{}", port.address());
    let mut env = vec![
        ("OBJECT_STORE_BACKEND", "s3"),
        ("S3_BUCKET", BUCKET),
        ("S3_REGION", "us-east-1"),
        ("S3_ENDPOINT", endpoint.as_str()),
        ("S3_ACCESS_KEY", ACCESS_KEY),
        ("S3_SECRET_KEY", SECRET_KEY),
        ("S3_DISABLE_SSL", "true"),
        ("CHRONIK_SNAPSHOT_COMPRESSION", "none"),
    ];
    env.extend_from_slice(options);
    let daemon = Daemon::start(&Setup {
        broker: broker.address,
        dir: dir.path(),
        env: &env,
    });
    broker.grow(100);
    daemon.wait_proven(100);
    serving.abort();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(
        seen.iter().any(|asked| asked.upload),
        "no upload in parts: {seen:?}"
    );
    assert!(
        seen.iter().any(|asked| !asked.upload),
        "no object: {seen:?}"
    );
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_is_encrypted_as_configured_whatever_the_environment_says() {
    let seen = asked(&[
        ("S3_SSE", "kms"),
        ("S3_SSE_KMS_KEY_ID", "alias/snapshots"),
        ("S3_SSE_BUCKET_KEY", "true"),
        ("AWS_SERVER_SIDE_ENCRYPTION", "AES256"),
        ("AWS_SSE_KMS_KEY_ID", "another"),
    ])
    .await;
    let expected = ["aws:kms", "alias/snapshots", "true"].map(|it| Some(it.to_owned()));
    for asked in &seen {
        assert_eq!(asked.headers, expected, "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_options_nothing_is_asked() {
    for asked in &asked(&[]).await {
        assert_eq!(asked.headers, [None, None, None], "{asked:?}");
    }
}
