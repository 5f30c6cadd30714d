//! Small stores with short deadlines.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chronik_snapshotd::store::{Key, Store, StoreOptions};

use crate::support::{faults::Faults, stores::Seen};

/// Parts so small that a test needs several, deadlines so short that a test can wait for them.
pub fn small() -> StoreOptions {
    StoreOptions {
        metadata_timeout: Duration::from_secs(5),
        part_min_bytes: 64 << 10,
        part_max_bytes: 128 << 10,
        max_retries: 1,
        list_max_objects: 2_000,
        ..StoreOptions::default()
    }
}

pub fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub fn bytes(len: usize, salt: u8) -> Bytes {
    (0..=250_u8)
        .cycle()
        .map(|byte| byte ^ salt)
        .take(len)
        .collect()
}

pub async fn keys_under(store: &Store, folder: &str) -> Vec<String> {
    let found = store.list(folder).await.unwrap();
    let mut keys: Vec<_> = found.iter().map(|info| info.key.to_string()).collect();
    keys.sort();
    keys
}

pub fn faulty(options: StoreOptions) -> (Faults, Store, Arc<Seen>) {
    let faults = Faults::in_memory();
    let seen = Arc::new(Seen::default());
    let store = Store::from_object_store(Arc::new(faults.clone()), options, seen.clone());
    (faults, store, seen)
}
