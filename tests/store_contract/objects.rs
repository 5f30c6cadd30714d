//! Objects: put, got, looked at, deleted.

use bytes::Bytes;
use chronik_snapshotd::{
    error::Kind,
    store::{PutNew, StoreError},
};

use crate::{
    rig::{bytes, key, keys_under, small},
    support::stores::{Backing, backings},
};

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
