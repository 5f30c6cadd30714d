//! The objects of the store. What was acknowledged is there; see `store.rs` for what goes wrong around it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    /// Wall time of the store, since the Unix epoch.
    pub(crate) written: Duration,
    pub(crate) written_at: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Bucket {
    objects: BTreeMap<String, Object>,
}

impl Bucket {
    pub(crate) fn get(&self, key: &str) -> Option<&Bytes> {
        self.objects.get(key).map(|object| &object.bytes)
    }

    pub(crate) fn object(&self, key: &str) -> Option<&Object> {
        self.objects.get(key)
    }

    pub(crate) fn put(&mut self, key: &str, object: Object) {
        self.objects.insert(key.to_owned(), object);
    }

    pub(crate) fn remove(&mut self, key: &str) -> bool {
        self.objects.remove(key).is_some()
    }

    /// Keys below `prefix`, with their objects.
    pub(crate) fn below(&self, prefix: &str) -> BTreeMap<String, Object> {
        self.objects
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect()
    }
}
