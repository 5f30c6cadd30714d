//! The object store behind one small, bounded, counted interface. The only place that knows `object_store`.
//!
//! # Contract
//! - Every call ends: within its deadline, with an answer or a [`StoreError`].
//! - "Not there" is said only when the store said so about an existing bucket: [`StoreError::NotFound`]. Refused,
//!   unreachable, overloaded, timed out, or no such bucket: kind `Unavailable`. Nothing is known then.
//! - A failed write may still have happened, or happen later. Names are unique and contents immutable, so writing
//!   the same again is safe; [`Store::put_new`] looks before it answers.
//! - [`Store::list`] is complete or an error. Its order means nothing.
//! - What was acknowledged is durable; a local directory is synced, deletes included.
//!
//! # Consistency
//! Needed: list-after-write and read-after-write, which S3, GCS, Azure and POSIX directories give. Conditional
//! writes are used but never relied on: some servers ignore the condition and overwrite. Unique keys and
//! deterministic bytes make that harmless.
//!
//! # Retries
//! HTTP requests are retried inside `object_store` on 5xx, 429, 408 and broken connections, a few times with
//! decorrelated jitter, within the deadline of the call. Callers retry whole operations on their own schedule.
//!
//! # Cancellation
//! Every future may be dropped. Dropping an [`Upload`] stops it but leaves its parts to the bucket's lifecycle
//! rule (`AbortIncompleteMultipartUpload`); [`Upload::abort`] removes them.

mod abandoned;
mod bucket;
mod call;
mod error;
mod key;
mod open;
mod read;
mod upload;
mod write;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::ObjectStore;

pub use crate::telemetry::{StoreCode as Code, StoreMethod as Method};

use self::bucket::Bucket;

pub use self::{
    bucket::{BucketError, LifecycleRule, Versioning},
    call::{NoObserver, Observer},
    error::StoreError,
    key::{KEY_MAX_BYTES, Key},
    upload::{UPLOAD_PARTS_MAX, Upload, UploadProgress, part_size_bytes},
    write::PutNew,
};

/// Limits and deadlines. The defaults are the ones that ship; tests shrink them.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Establishing a connection. Default 5 s.
    pub connect_timeout: Duration,
    /// One call without a body of note: head, delete, small get and put, one page of a listing. Default 30 s.
    pub metadata_timeout: Duration,
    /// One upload part or one ranged read, retries included. Default 120 s.
    pub body_timeout: Duration,
    /// Completing a multipart upload or listing everything. Default 300 s.
    pub long_timeout: Duration,
    /// An upload none of whose parts is acknowledged for this long has failed. Default 60 s.
    pub no_progress_timeout: Duration,
    /// Retries of one HTTP request. Default 4.
    pub max_retries: usize,
    /// Parts of one upload in flight. Default 3.
    pub upload_concurrency: usize,
    /// Least size of an upload part. Default 8 MiB.
    pub part_min_bytes: u64,
    /// Greatest size of an upload part. Default 16 MiB.
    pub part_max_bytes: u64,
    /// A local directory is made if it is missing. Default true.
    pub create_root: bool,
    /// Everything that is written to S3 carries a SHA-256 checksum, whatever the environment says. Default false.
    pub checksum: bool,
    /// Most objects of one listing; more is an error. Default 200,000.
    pub list_max_objects: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            metadata_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_mins(2),
            long_timeout: Duration::from_mins(5),
            no_progress_timeout: Duration::from_mins(1),
            max_retries: 4,
            upload_concurrency: 3,
            part_min_bytes: 8 << 20,
            part_max_bytes: 16 << 20,
            create_root: true,
            checksum: false,
            list_max_objects: 200_000,
        }
    }
}

/// An object with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// All its bytes.
    pub bytes: Bytes,
    /// Its size, equal to the length of `bytes`.
    pub size_bytes: u64,
    /// When the store says it was written, wall time of the store.
    pub last_modified_unix_ms: i64,
}

/// An object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: Key,
    /// Its size.
    pub size_bytes: u64,
    /// When the store says it was written, wall time of the store.
    pub last_modified_unix_ms: i64,
}

/// Handle to one bucket or directory. Clones share connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    options: Arc<StoreOptions>,
    observer: Arc<dyn Observer>,
    /// Set for a local directory: without it nothing can be said about its objects.
    root: Option<Arc<PathBuf>>,
    /// Set for S3: how its bucket's own settings are read.
    bucket: Option<Bucket>,
}

impl Store {
    /// A store over any implementation: memory, or a decorator that injects faults.
    pub fn from_object_store(
        inner: Arc<dyn ObjectStore>,
        options: StoreOptions,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            inner,
            options: Arc::new(options),
            observer,
            root: None,
            bucket: None,
        }
    }

    /// Its limits and deadlines.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Display of an implementation names its bucket or directory; Debug would print credentials.
        write!(f, "Store({})", self.inner)
    }
}
