//! Calls that fail after their effect, in the middle, or for good.

use bytes::Bytes;
use chronik_snapshotd::{
    error::Kind,
    store::{Code, Method, PutNew, StoreError},
};

use crate::{
    rig::{bytes, faulty, key, small},
    support::faults::{Fault, Op},
};

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
