//! Listings are complete or an error; folders are whole names.

use bytes::Bytes;
use chronik_snapshotd::{
    format::encode_topic,
    store::{StoreError, StoreOptions},
};

use crate::{
    rig::{key, keys_under, small},
    support::stores::{Backing, backings},
};

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
