//! The contract of the store, held against every backend.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chronik_snapshotd::{
    config::object_store::{Backend, ObjectStoreConfig, S3Config},
    error::Kind,
    format::encode_topic,
    store::{Code, Key, Method, PutNew, Store, StoreError, StoreOptions, part_size_bytes},
};
use support::{
    faults::{Fault, Faults, Op},
    http::{Answer, s3_at, serve},
    s3::{S3Server, SECRET_KEY},
    stores::{Backing, Seen, backings, local, open},
};

/// Parts so small that a test needs several, deadlines so short that a test can wait for them.
fn small() -> StoreOptions {
    StoreOptions {
        metadata_timeout: Duration::from_secs(5),
        part_min_bytes: 64 << 10,
        part_max_bytes: 128 << 10,
        max_retries: 1,
        list_max_objects: 2_000,
        ..StoreOptions::default()
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn bytes(len: usize, salt: u8) -> Bytes {
    (0..=250_u8)
        .cycle()
        .map(|byte| byte ^ salt)
        .take(len)
        .collect()
}

async fn keys_under(store: &Store, folder: &str) -> Vec<String> {
    let found = store.list(folder).await.unwrap();
    let mut keys: Vec<_> = found.iter().map(|info| info.key.to_string()).collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn what_is_put_is_got_headed_and_listed() {
    for Backing { name, store, .. } in &backings(&small()).await {
        let at = key("snapshots/orders/0/a.snap");
        let body = bytes(70_000, 1);
        store.put(&at, body.clone()).await.unwrap();
        let object = store.get(&at, 70_000).await.unwrap();
        assert_eq!(object.bytes, body, "{name}");
        assert_eq!(object.size_bytes, 70_000, "{name}");
        let info = store.head(&at).await.unwrap();
        assert_eq!((&info.key, info.size_bytes), (&at, 70_000), "{name}");
        assert!(info.last_modified_unix_ms > 1_600_000_000_000, "{name}");
        let listed = store.list("snapshots/").await.unwrap();
        assert_eq!(listed.len(), 1, "{name}");
        assert_eq!(
            (&listed[0].key, listed[0].size_bytes),
            (&at, 70_000),
            "{name}"
        );
        let apart = listed[0].last_modified_unix_ms - info.last_modified_unix_ms;
        assert!(
            apart.abs() < 1_000,
            "{name}: some answers have whole seconds only"
        );
        store.put(&at, bytes(3, 2)).await.unwrap();
        assert_eq!(
            store.get(&at, 3).await.unwrap().bytes,
            bytes(3, 2),
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_empty_object_is_an_object() {
    for Backing { name, store, .. } in &backings(&small()).await {
        let at = key("empty");
        assert_eq!(
            store.put_new(&at, Bytes::new()).await.unwrap(),
            PutNew::Created,
            "{name}"
        );
        assert_eq!(
            store.get(&at, 0).await.unwrap().bytes,
            Bytes::new(),
            "{name}"
        );
        assert_eq!(store.head(&at).await.unwrap().size_bytes, 0, "{name}");
        assert_eq!(
            store.get_range(&at, 0..0).await.unwrap(),
            Bytes::new(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_nothing_worse() {
    for Backing { name, store, .. } in &backings(&small()).await {
        let at = key("nothing/here");
        for error in [
            store.get(&at, 10).await.unwrap_err(),
            store.head(&at).await.unwrap_err(),
            store.get_range(&at, 0..5).await.unwrap_err(),
        ] {
            assert!(error.is_not_found(), "{name}: {error:?}");
            assert_eq!(error.kind(), Kind::Conflict, "{name}");
        }
        assert_eq!(store.list("nothing/").await.unwrap(), [], "{name}");
        assert_eq!(
            store.list_dirs("nothing/").await.unwrap(),
            [""; 0],
            "{name}"
        );
        store.delete(&at).await.unwrap();
    }
}

#[tokio::test]
async fn deleted_is_gone_and_deleting_again_is_fine() {
    for Backing { name, store, .. } in &backings(&small()).await {
        let at = key("a/b/c");
        store.put(&at, bytes(9, 0)).await.unwrap();
        store.delete(&at).await.unwrap();
        assert!(store.head(&at).await.unwrap_err().is_not_found(), "{name}");
        store.delete(&at).await.unwrap();
        assert_eq!(keys_under(store, "").await, [""; 0], "{name}");
    }
}

#[tokio::test]
async fn put_new_creates_once_and_then_compares() {
    for Backing { name, store, .. } in &backings(&small()).await {
        let at = key("a.manifest.json");
        let body = bytes(100, 0);
        assert_eq!(
            store.put_new(&at, body.clone()).await.unwrap(),
            PutNew::Created,
            "{name}"
        );
        assert_eq!(
            store.put_new(&at, body.clone()).await.unwrap(),
            PutNew::SameBytes,
            "{name}"
        );
        for other in [bytes(100, 1), bytes(99, 0), bytes(101, 0), Bytes::new()] {
            assert_eq!(
                store.put_new(&at, other).await.unwrap(),
                PutNew::OtherBytes,
                "{name}"
            );
        }
        assert_eq!(store.get(&at, 100).await.unwrap().bytes, body, "{name}");
    }
}

#[tokio::test]
async fn an_object_longer_than_allowed_is_refused() {
    for Backing { name, store, .. } in &backings(&small()).await {
        let at = key("long");
        store.put(&at, bytes(100, 0)).await.unwrap();
        let error = store.get(&at, 99).await.unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::TooLarge {
                    size_bytes: 100,
                    ..
                }
            ),
            "{name}: {error:?}"
        );
    }
}

#[tokio::test]
async fn ranges_are_exact_or_an_error() {
    for Backing { name, store, .. } in &backings(&small()).await {
        let at = key("ranges");
        let body = bytes(200_000, 3);
        store.put(&at, body.clone()).await.unwrap();
        for (start, end) in [
            (0_u64, 1_u64),
            (0, 200_000),
            (70_000, 70_001),
            (1, 199_999),
            (5, 5),
        ] {
            let slice = body.slice(usize::try_from(start).unwrap()..usize::try_from(end).unwrap());
            assert_eq!(
                store.get_range(&at, start..end).await.unwrap(),
                slice,
                "{name} {start}..{end}"
            );
        }
        for (start, end) in [(199_999, 200_001), (200_000, 200_001), (900_000, 900_001)] {
            let error = store.get_range(&at, start..end).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    StoreError::Short {
                        found_bytes: 200_000,
                        ..
                    }
                ),
                "{name} {start}..{end}: {error:?}"
            );
            assert_eq!(error.kind(), Kind::Corrupt, "{name}");
        }
    }
}

#[tokio::test]
async fn listings_are_complete_beyond_one_page() {
    for Backing { name, store, .. } in &backings(&small()).await {
        let mut expected = Vec::new();
        for n in 0..1_203 {
            let at = format!("p/orders/{}/{n:04}", n % 7);
            store.put(&key(&at), Bytes::new()).await.unwrap();
            expected.push(at);
        }
        expected.sort();
        assert_eq!(keys_under(store, "p/").await, expected, "{name}");
        assert_eq!(keys_under(store, "").await, expected, "{name}");
        assert_eq!(keys_under(store, "p/orders/3/").await.len(), 172, "{name}");
        let dirs = store.list_dirs("p/orders/").await.unwrap();
        assert_eq!(dirs, ["0", "1", "2", "3", "4", "5", "6"], "{name}");
        assert_eq!(store.list_dirs("p/").await.unwrap(), ["orders"], "{name}");
    }
}

#[tokio::test]
async fn more_objects_than_the_limit_are_an_error() {
    let options = StoreOptions {
        list_max_objects: 4,
        ..small()
    };
    for Backing { name, store, .. } in &backings(&options).await {
        for n in 0..5 {
            store
                .put(&key(&format!("f/{n}")), Bytes::new())
                .await
                .unwrap();
        }
        let error = store.list("f/").await.unwrap_err();
        assert!(
            matches!(error, StoreError::TooMany { .. }),
            "{name}: {error:?}"
        );
        store.delete(&key("f/0")).await.unwrap();
        assert_eq!(store.list("f/").await.unwrap().len(), 4, "{name}");
    }
}

#[tokio::test]
async fn folders_are_whole_names() {
    for Backing { name, store, .. } in &backings(&small()).await {
        for at in ["t/orders/1/x", "t/orders/10/x", "t/orders-2/1/x"] {
            store.put(&key(at), Bytes::new()).await.unwrap();
        }
        assert_eq!(
            keys_under(store, "t/orders/1/").await,
            ["t/orders/1/x"],
            "{name}"
        );
        assert_eq!(keys_under(store, "t/orders/").await.len(), 2, "{name}");
        assert!(
            matches!(
                store.list("t/orders").await,
                Err(StoreError::IllegalKey { .. })
            ),
            "{name}"
        );
    }
}

#[tokio::test]
async fn odd_topic_names_survive() {
    let topics = [
        "plain",
        "a b",
        "100%",
        "a%2Fb",
        "a/b",
        "..",
        ".",
        "@cluster",
        "größe",
        "日本",
        "a+b&c=d?",
        "quote\"s'",
        "#1",
        "x#1",
        "back\\slash",
        "~tilde*",
        "semi;colon:",
    ];
    for Backing { name, store, .. } in &backings(&small()).await {
        for topic in topics {
            let at = format!("snapshots/{}/0/00042.snap", encode_topic(topic));
            let body = Bytes::from(topic.to_owned());
            store.put(&key(&at), body.clone()).await.unwrap();
            assert_eq!(
                store.get(&key(&at), 100).await.unwrap().bytes,
                body,
                "{name} {topic}"
            );
            let folder = format!("snapshots/{}/0/", encode_topic(topic));
            assert_eq!(keys_under(store, &folder).await, [at], "{name} {topic}");
        }
        let mut folders: Vec<_> = topics.iter().map(|topic| encode_topic(topic)).collect();
        folders.sort();
        assert_eq!(
            store.list_dirs("snapshots/").await.unwrap(),
            folders,
            "{name}"
        );
    }
}

#[tokio::test]
async fn uploads_of_any_size_arrive_whole() {
    // The server holds its clients to S3's least part size.
    let part = 5 << 20;
    let options = StoreOptions {
        part_min_bytes: part as u64,
        part_max_bytes: part as u64,
        ..small()
    };
    for Backing { name, store, .. } in &backings(&options).await {
        for len in [0, 1, part - 1, part, part + 1, 2 * part, 4 * part + 77] {
            let at = key(&format!("u/{len}"));
            let body = bytes(len, 5);
            let mut upload = store.upload(&at, len as u64);
            for piece in body.chunks(700_001) {
                upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            assert!(
                store.head(&at).await.unwrap_err().is_not_found(),
                "{name} {len}: visible early"
            );
            assert_eq!(upload.finish().await.unwrap(), len as u64, "{name} {len}");
            assert_eq!(upload.progress().acked_bytes(), len as u64, "{name} {len}");
            assert_eq!(
                store.get(&at, len as u64).await.unwrap().bytes,
                body,
                "{name} {len}"
            );
        }
    }
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    for Backing {
        name,
        store,
        server,
        ..
    } in &backings(&small()).await
    {
        for len in [10, 400_000] {
            let mut upload = store.upload(&key("u/aborted"), len as u64);
            upload.write(bytes(len, 0)).await.unwrap();
            upload.abort().await.unwrap();
            upload
                .abort()
                .await
                .unwrap_or_else(|error| panic!("{name}: a second abort: {error:?}"));
        }
        assert_eq!(keys_under(store, "").await, [""; 0], "{name}");
        if let Some(server) = server {
            assert_eq!(server.unfinished_uploads(), [""; 0], "{name}");
        }
    }
}

#[tokio::test]
async fn an_aborted_upload_in_a_directory_leaves_no_file() {
    let directory = local(small());
    let mut upload = directory.store.upload(&key("a/b"), 1 << 20);
    upload.write(bytes(1 << 20, 0)).await.unwrap();
    upload.abort().await.unwrap();
    let root = directory
        .dir
        .as_ref()
        .unwrap()
        .path()
        .join("not/yet/there/a");
    let left: Vec<_> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_a_killed_process_left_in_a_directory_is_removed_when_old() {
    let directory = local(small());
    let root = directory.dir.as_ref().unwrap().path().join("not/yet/there");
    directory
        .store
        .put(&key("t/0/a.snap"), bytes(1, 0))
        .await
        .unwrap();
    // As it lies there after kill -9: the upload is never finished, aborted or dropped.
    let mut upload = directory.store.upload(&key("t/0/b.snap"), 1 << 20);
    upload.write(bytes(200_000, 0)).await.unwrap();
    std::mem::forget(upload);
    let staged = root.join("t/0/b.snap#1");
    assert!(staged.exists());
    let hour = Duration::from_hours(1);
    let now = std::fs::metadata(&staged).unwrap().modified().unwrap();
    let sweep = async |folder, now| directory.store.remove_abandoned(folder, hour, now).await;
    assert_eq!(sweep("t/0/", now + hour / 2).await.unwrap(), 0);
    assert_eq!(
        sweep("t/", now + hour * 2).await.unwrap(),
        0,
        "only the folder itself"
    );
    assert_eq!(sweep("t/1/", now + hour * 2).await.unwrap(), 0);
    assert_eq!(sweep("t/0/", now + hour * 2).await.unwrap(), 1);
    assert!(!staged.exists());
    assert_eq!(keys_under(&directory.store, "").await, ["t/0/a.snap"]);
}

#[test]
fn part_sizes_grow_with_the_object_and_stay_in_bounds() {
    let options = StoreOptions::default();
    let (mib, gib) = (1_u64 << 20, 1_u64 << 30);
    for (expected, part) in [
        (0, 8 * mib),
        (gib, 8 * mib),
        (78 * gib, 8 * mib),
        (79 * gib, 9 * mib),
        (150 * gib, 16 * mib),
        (156 * gib, 16 * mib),
        (u64::MAX, 16 * mib),
    ] {
        assert_eq!(part_size_bytes(expected, &options), part, "{expected}");
    }
}

// What a broken store says.

#[tokio::test]
async fn an_unreachable_endpoint_is_unavailable() {
    // Nothing listens there: the port was given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let store = open(
        Backend::S3(s3_at(&format!("http://127.0.0.1:{port}"))),
        small(),
    );
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

fn faulty(options: StoreOptions) -> (Faults, Store, Arc<Seen>) {
    let faults = Faults::in_memory();
    let seen = Arc::new(Seen::default());
    let store = Store::from_object_store(Arc::new(faults.clone()), options, seen.clone());
    (faults, store, seen)
}

#[tokio::test]
async fn a_create_that_failed_after_its_effect_is_found_out() {
    let (faults, store, _) = faulty(small());
    let at = key("a.manifest.json");
    faults.plan(Op::PutNew, "manifest", 0, 1, Fault::FailAfter);
    assert_eq!(
        store.put_new(&at, bytes(10, 0)).await.unwrap(),
        PutNew::SameBytes
    );
    faults.plan(Op::PutNew, "manifest", 0, 1, Fault::FailBefore);
    assert_eq!(
        store.put_new(&at, bytes(10, 1)).await.unwrap(),
        PutNew::OtherBytes
    );
}

#[tokio::test]
async fn a_create_that_nothing_is_known_of_stays_unknown() {
    let (faults, store, _) = faulty(small());
    let at = key("a.manifest.json");
    faults.plan(Op::PutNew, "", 0, 1, Fault::FailBefore);
    let error = store.put_new(&at, bytes(10, 0)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    faults.plan(Op::PutNew, "", 0, 1, Fault::FailAfter);
    faults.plan(Op::Get, "", 0, 1, Fault::FailBefore);
    let error = store.put_new(&at, bytes(10, 0)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(
        store.put_new(&at, bytes(10, 0)).await.unwrap(),
        PutNew::SameBytes
    );
}

#[tokio::test]
async fn a_completion_that_failed_after_its_effect_is_a_success() {
    let (faults, store, _) = faulty(small());
    faults.plan(Op::UploadComplete, "", 0, 1, Fault::FailAfter);
    let mut upload = store.upload(&key("u"), 1 << 20);
    upload.write(bytes(300_000, 0)).await.unwrap();
    assert_eq!(upload.finish().await.unwrap(), 300_000);
    assert_eq!(store.head(&key("u")).await.unwrap().size_bytes, 300_000);
}

#[tokio::test]
async fn a_completion_that_failed_is_a_failure() {
    let (faults, store, _) = faulty(small());
    faults.plan(Op::UploadComplete, "", 0, 1, Fault::FailBefore);
    let mut upload = store.upload(&key("u"), 1 << 20);
    upload.write(bytes(300_000, 0)).await.unwrap();
    assert_eq!(upload.finish().await.unwrap_err().kind(), Kind::Unavailable);
    upload.abort().await.unwrap();
    assert!(store.head(&key("u")).await.unwrap_err().is_not_found());
    assert_eq!(faults.calls(Op::UploadAbort), 1);
}

#[tokio::test]
async fn a_failed_part_fails_the_upload() {
    let (faults, store, _) = faulty(small());
    faults.plan(Op::UploadPart, "", 2, 1, Fault::FailBefore);
    let mut upload = store.upload(&key("u"), 1 << 20);
    let mut result = Ok(());
    for _ in 0..20 {
        result = upload.write(bytes(64 << 10, 0)).await;
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result.unwrap_err().kind(), Kind::Unavailable);
    upload.abort().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_moves_no_byte_for_a_minute_fails() {
    let (faults, store, _) = faulty(StoreOptions {
        part_min_bytes: 1 << 10,
        part_max_bytes: 1 << 10,
        ..StoreOptions::default()
    });
    faults.plan(Op::UploadPart, "", 2, 100, Fault::Stall);
    let start = tokio::time::Instant::now();
    let mut upload = store.upload(&key("u"), 1 << 20);
    let mut result = Ok(());
    while result.is_ok() {
        result = upload.write(bytes(1 << 10, 0)).await;
    }
    let error = result.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::NoProgress {
                acked_bytes: 2048,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(start.elapsed(), Duration::from_mins(1));
    // Three in flight and one being filled: that is all it took in.
    assert_eq!(upload.written_bytes(), 7 << 10);
    upload.abort().await.unwrap();
    assert!(store.head(&key("u")).await.unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn a_slow_but_moving_upload_is_left_alone() {
    let (faults, store, _) = faulty(StoreOptions {
        part_min_bytes: 1 << 10,
        part_max_bytes: 1 << 10,
        upload_concurrency: 1,
        ..StoreOptions::default()
    });
    faults.plan(Op::UploadPart, "", 0, 100, Fault::Stall);
    let releases = async {
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            faults.release();
        }
    };
    let writes = async {
        let mut upload = store.upload(&key("u"), 1 << 20);
        upload.write(bytes(8 << 10, 0)).await.unwrap();
        upload.finish().await.unwrap()
    };
    let (size, ()) = tokio::join!(writes, releases);
    assert_eq!(size, 8 << 10);
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_an_error() {
    let (faults, store, _) = faulty(small());
    for n in 0..3 {
        store
            .put(&key(&format!("f/{n}")), Bytes::new())
            .await
            .unwrap();
    }
    faults.plan(Op::List, "", 0, 1, Fault::FailAfter);
    assert_eq!(
        store.list("f/").await.unwrap_err().kind(),
        Kind::Unavailable
    );
    assert_eq!(store.list("f/").await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_body_that_is_cut_is_an_error() {
    let (faults, store, _) = faulty(small());
    store.put(&key("a"), bytes(100, 0)).await.unwrap();
    faults.plan(Op::Get, "", 0, 2, Fault::Cut);
    let error = store.get_range(&key("a"), 10..20).await.unwrap_err();
    assert!(matches!(error, StoreError::Short { .. }), "{error:?}");
}

#[tokio::test]
async fn every_call_is_observed_once() {
    let (_, store, seen) = faulty(small());
    let at = key("a");
    store.put_new(&at, bytes(1, 0)).await.unwrap();
    store.put_new(&at, bytes(1, 0)).await.unwrap();
    store.head(&at).await.unwrap();
    store.delete(&at).await.unwrap();
    store.get(&at, 1).await.unwrap_err();
    store.list("").await.unwrap();
    let expected = [
        (Method::PutNew, Code::Ok),
        (Method::PutNew, Code::Exists),
        (Method::Get, Code::Ok),
        (Method::Head, Code::Ok),
        (Method::Delete, Code::Ok),
        (Method::Get, Code::NotFound),
        (Method::List, Code::Ok),
    ];
    assert_eq!(seen.take(), expected);
}
