//! Uploads: whole, aborted, stalled.

use std::time::Duration;

use bytes::Bytes;
use chronik_snapshotd::{
    error::Kind,
    store::{StoreError, StoreOptions, part_size_bytes},
};

use crate::{
    rig::{bytes, faulty, key, keys_under, small},
    support::{
        faults::{Fault, Op},
        stores::{Backing, backings, local},
    },
};

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
