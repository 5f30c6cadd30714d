//! What cannot be reached, is refused or hangs is unavailable, never "not there".

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chronik_harness::Port;
use chronik_snapshotd::{
    config::object_store::{Backend, ObjectStoreConfig, S3Config},
    error::Kind,
    store::{Code, Method, Store, StoreError, StoreOptions},
};

use crate::{
    rig::{bytes, key, small},
    support::{
        http::{Answer, s3_at, serve},
        s3::{S3Server, SECRET_KEY},
        stores::{Seen, local, open},
    },
};

#[tokio::test]
async fn an_unreachable_endpoint_is_unavailable() {
    // Nothing listens there.
    let port = Port::reserve().unwrap();
    let nobody = format!("http://{}", port.address());
    let store = open(Backend::S3(s3_at(&nobody)), small());
    assert_everything_is(&store, "unreachable", Kind::Unavailable).await;
}

/// Every call fails with `kind`, and none says that something is not there.
async fn assert_everything_is(store: &Store, why: &str, kind: Kind) {
    let at = key("a/b");
    let mut upload = store.upload(&at, 10);
    upload.write(bytes(200_000, 0)).await.unwrap_or_default();
    let errors = [
        ("get", store.get(&at, 10).await.map(drop).unwrap_err()),
        (
            "get_range",
            store.get_range(&at, 0..5).await.map(drop).unwrap_err(),
        ),
        ("head", store.head(&at).await.map(drop).unwrap_err()),
        ("list", store.list("a/").await.map(drop).unwrap_err()),
        (
            "list_dirs",
            store.list_dirs("a/").await.map(drop).unwrap_err(),
        ),
        (
            "put",
            store.put(&at, bytes(1, 0)).await.map(drop).unwrap_err(),
        ),
        (
            "put_new",
            store.put_new(&at, bytes(1, 0)).await.map(drop).unwrap_err(),
        ),
        ("delete", store.delete(&at).await.map(drop).unwrap_err()),
        ("upload", upload.finish().await.map(drop).unwrap_err()),
    ];
    for (call, error) in errors {
        assert_eq!(error.kind(), kind, "{why}, {call}: {error:?}");
        assert!(!error.is_not_found(), "{why}, {call}");
    }
}

#[tokio::test]
async fn refusals_and_server_errors_are_unavailable() {
    let answers = [
        (403, "AccessDenied"),
        (401, "Unauthorized"),
        (500, "InternalError"),
        (503, "SlowDown"),
        (502, "BadGateway"),
        (400, "ExpiredToken"),
        (404, "NoSuchBucket"),
        (301, "PermanentRedirect"),
    ];
    for (status, code) in answers {
        let settings = serve(move |_| Answer::s3_error(status, code)).await;
        let store = open(Backend::S3(settings), small());
        assert_everything_is(&store, code, Kind::Unavailable).await;
    }
}

#[tokio::test]
async fn a_missing_bucket_is_told_from_a_missing_object() {
    let settings = serve(|_| Answer::s3_error(404, "NoSuchBucket")).await;
    let store = open(Backend::S3(settings), small());
    let at = key("a/b");
    for error in [
        store.get(&at, 10).await.map(drop).unwrap_err(),
        // The answer to HEAD has no body.
        store.head(&at).await.map(drop).unwrap_err(),
        store.list("a/").await.map(drop).unwrap_err(),
        store.put(&at, Bytes::new()).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::NoBucket { .. }), "{error:?}");
    }
    let settings = serve(|_| Answer::s3_error(404, "NoSuchKey")).await;
    let store = open(Backend::S3(settings), small());
    assert!(store.get(&at, 10).await.unwrap_err().is_not_found());
    assert!(store.head(&at).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_vanished_directory_is_unavailable_not_empty() {
    let directory = local(small());
    directory.store.put(&key("a/b"), bytes(1, 0)).await.unwrap();
    std::fs::remove_dir_all(directory.dir.as_ref().unwrap().path().join("not/yet/there")).unwrap();
    let at = key("a/b");
    for error in [
        directory.store.get(&at, 10).await.map(drop).unwrap_err(),
        directory.store.head(&at).await.map(drop).unwrap_err(),
        directory.store.list("a/").await.map(drop).unwrap_err(),
        directory.store.list_dirs("").await.map(drop).unwrap_err(),
        directory.store.delete(&at).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    }
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let options = StoreOptions {
        metadata_timeout: Duration::from_millis(200),
        body_timeout: Duration::from_millis(200),
        max_retries: 0,
        ..small()
    };
    let settings = serve(|_| Answer {
        delay: Duration::from_hours(1),
        ..Answer::new(200, "")
    })
    .await;
    let store = open(Backend::S3(settings), options);
    let at = key("a/b");
    for error in [
        store.get(&at, 10).await.map(drop).unwrap_err(),
        store.get_range(&at, 0..3).await.map(drop).unwrap_err(),
        store.head(&at).await.map(drop).unwrap_err(),
        store.list("a/").await.map(drop).unwrap_err(),
        store.put(&at, Bytes::new()).await.unwrap_err(),
        store.delete(&at).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Timeout { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn credentials_never_show() {
    let settings = serve(|_| Answer::s3_error(403, "SignatureDoesNotMatch")).await;
    let secret = S3Config {
        session_token: Some("tOkEn-of-the-tests".into()),
        ..settings
    };
    let config = ObjectStoreConfig {
        backend: Backend::S3(secret),
        prefix: String::new(),
    };
    let seen = Arc::new(Seen::default());
    let store = Store::open(&config, small(), seen.clone()).unwrap();
    let error = store.get(&key("a"), 1).await.unwrap_err();
    let mut text = format!("{config:?} {store:?} {error:?} {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text += &[error.to_string(), format!("{error:?}")].concat();
        source = error.source();
    }
    assert!(text.contains("SignatureDoesNotMatch"), "{text}");
    for secret in [SECRET_KEY, "tOkEn"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(seen.take(), [(Method::Get, Code::Denied)]);
}

#[tokio::test]
async fn a_wrong_secret_is_denied_by_a_real_server() {
    let server = S3Server::start().await;
    let settings = S3Config {
        secret_key: Some("wrong".into()),
        ..server.config()
    };
    let store = open(Backend::S3(settings), small());
    let error = store.get(&key("a"), 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Unavailable);
}

// Ambiguous answers, injected.
