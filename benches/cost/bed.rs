//! What the sections share: a directory, an S3 server, the tools, the state.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use chronik_harness::{Binaries, S3Settings, Store, empty_own, s3::S3Process};

use crate::{
    Args,
    broker::{Replica, SyntheticBroker},
    daemon::Daemon,
    peers::Peers,
    state::{Content, json},
};

/// Topic of the partition that is moved.
pub const TOPIC: &str = "orders";
/// Raw size of what is moved. Not less: what starting a program costs must not count.
pub const STATE_BYTES: usize = 256 << 20;

pub struct Bed {
    pub dir: PathBuf,
    /// Pairs of measurements whose median counts.
    pub pairs: usize,
    pub peers: Peers,
    /// Generated records that compress well.
    pub json: Bytes,
    s3: S3Settings,
    _server: S3Process,
}

impl Bed {
    pub async fn make(args: &Args) -> Self {
        let dir = empty_own(&args.dir.join("data"), "bench").unwrap();
        let server = S3Process::start(&Binaries::find(), &dir).await.unwrap();
        let Store::S3(s3) = server.store_through(&server.address()) else {
            unreachable!("an S3 server's store is a bucket");
        };
        Self {
            pairs: args.pairs,
            peers: Peers::new(&dir, &s3, &std::path::absolute(&args.python).unwrap()),
            json: json(1, STATE_BYTES),
            dir,
            s3,
            _server: server,
        }
    }

    pub fn s3(&self) -> Store {
        Store::S3(self.s3.clone())
    }

    pub fn local(&self) -> Store {
        Store::Local(self.dir.join("local"))
    }

    /// A daemon that sleeps until it is told to do something.
    pub async fn daemon(
        &self,
        name: &str,
        broker: &SyntheticBroker,
        store: &Store,
        env: &[(&str, &str)],
    ) -> Daemon {
        Daemon::start(&self.dir, name, &broker.socket, store, env).await
    }

    /// A broker with one partition of `content`.
    pub fn broker(content: Content) -> SyntheticBroker {
        let broker = SyntheticBroker::start();
        broker.put(TOPIC, 0, Replica::of(content));
        broker
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Bytes of all files below a directory.
#[expect(clippy::cast_precision_loss, reason = "gigabytes at most")]
pub fn tree_bytes(dir: &Path) -> f64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            tree_bytes(&entry.path())
        } else {
            metadata.len() as f64
        }
    });
    sizes.sum()
}
