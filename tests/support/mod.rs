//! What several integration tests share. Include it with `mod support;`.

#![allow(dead_code, reason = "every test uses its part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

pub mod faults;
pub mod http;
pub mod records;
pub mod s3;

use std::sync::{Arc, Mutex};

use chronik_snapshotd::{
    config::object_store::{Backend, ObjectStoreConfig},
    store::{Code, Method, NoObserver, Observer, Store, StoreOptions},
};

/// A store with everything that must live as long as it.
pub struct Backing {
    /// For messages.
    pub name: &'static str,
    pub store: Store,
    /// Where the bytes lie, if in a directory.
    pub dir: Option<tempfile::TempDir>,
    pub server: Option<s3::S3Server>,
}

/// A store in memory, in a directory and behind HTTP and signatures.
pub async fn backings(options: &StoreOptions) -> Vec<Backing> {
    vec![
        memory(options.clone()),
        local(options.clone()),
        s3(options.clone()).await,
    ]
}

pub fn memory(options: StoreOptions) -> Backing {
    Backing {
        name: "memory",
        store: open(Backend::Memory, options),
        dir: None,
        server: None,
    }
}

pub fn local(options: StoreOptions) -> Backing {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("not/yet/there");
    Backing {
        name: "local",
        store: open(Backend::Local { root }, options),
        dir: Some(dir),
        server: None,
    }
}

pub async fn s3(options: StoreOptions) -> Backing {
    let server = s3::S3Server::start().await;
    Backing {
        name: "s3",
        store: open(Backend::S3(server.config()), options),
        dir: None,
        server: Some(server),
    }
}

pub fn open(backend: Backend, options: StoreOptions) -> Store {
    let config = ObjectStoreConfig {
        backend,
        prefix: String::new(),
    };
    Store::open(&config, options, Arc::new(NoObserver)).unwrap()
}

/// An observer that remembers.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Vec<(Method, Code)>>);

impl Seen {
    pub fn take(&self) -> Vec<(Method, Code)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Seen {
    fn request(&self, method: Method, code: Code, _elapsed: std::time::Duration) {
        self.0.lock().unwrap().push((method, code));
    }
}
