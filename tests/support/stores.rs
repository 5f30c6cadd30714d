//! Stores of every kind for tests, and an observer that remembers.

use std::sync::{Arc, Mutex};

use chronik_snapshotd::{
    config::object_store::{Backend, ObjectStoreConfig},
    store::{Code, Method, NoObserver, Observer, Store, StoreOptions},
};

use super::s3::S3Server;

/// A store with everything that must live as long as it.
pub struct Backing {
    /// For messages.
    pub name: &'static str,
    pub store: Store,
    /// Where the bytes lie, if in a directory.
    pub dir: Option<tempfile::TempDir>,
    pub server: Option<S3Server>,
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
    let server = S3Server::start().await;
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
