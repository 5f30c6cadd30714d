//! Uploads of large objects: equal parts, a bounded number in flight, progress watched.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use object_store::{MultipartUpload, PutMode, PutMultipartOptions, PutPayload};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{Key, Method, Store, StoreError, StoreOptions, call::CallError};

/// Most parts of one upload; S3's own limit.
pub const UPLOAD_PARTS_MAX: u64 = 10_000;

const MIB: u64 = 1 << 20;

/// The part size for an object of `expected_size_bytes`: whole MiB between the two limits of `options`.
pub fn part_size_bytes(expected_size_bytes: u64, options: &StoreOptions) -> u64 {
    let fair = expected_size_bytes.div_ceil(UPLOAD_PARTS_MAX);
    let whole_mib = fair.div_ceil(MIB).saturating_mul(MIB);
    whole_mib.clamp(options.part_min_bytes, options.part_max_bytes)
}

/// How far an upload is. Clones see the same counters.
#[derive(Debug, Clone, Default)]
pub struct UploadProgress(Arc<AtomicU64>);

impl UploadProgress {
    /// Bytes that the store has acknowledged.
    pub fn acked_bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One object being written. Nothing is visible under its key before [`Upload::finish`] succeeds.
///
/// Holds at most one part more in memory than it has in flight: [`Upload::write`] waits while that many are in flight,
/// and fails when none of them is acknowledged for `no_progress_timeout`. After an error, or when a future of its
/// methods was dropped, only [`Upload::abort`] is of use.
#[derive(Debug)]
pub struct Upload {
    store: Store,
    key: Key,
    part_size_bytes: u64,
    /// Most parts in flight.
    concurrency: usize,
    /// The part being filled.
    pieces: Vec<Bytes>,
    filled_bytes: u64,
    parts_started: u64,
    multipart: Option<Box<dyn MultipartUpload>>,
    in_flight: JoinSet<Result<u64, StoreError>>,
    last_progress: Instant,
    progress: UploadProgress,
    written_bytes: u64,
}

impl Store {
    /// Starts an upload of about `expected_size_bytes` (an upper bound is best: it sets the part size).
    ///
    /// Makes no request before a second part is needed; an object that fits one part is written by a plain put.
    pub fn upload(&self, key: &Key, expected_size_bytes: u64) -> Upload {
        Upload {
            concurrency: self.options.upload_concurrency,
            store: self.clone(),
            key: key.clone(),
            part_size_bytes: part_size_bytes(expected_size_bytes, &self.options),
            pieces: Vec::new(),
            filled_bytes: 0,
            parts_started: 0,
            multipart: None,
            in_flight: JoinSet::new(),
            last_progress: Instant::now(),
            progress: UploadProgress::default(),
            written_bytes: 0,
        }
    }
}

impl Upload {
    /// Its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// A view on its progress.
    pub fn progress(&self) -> UploadProgress {
        self.progress.clone()
    }

    /// Bytes taken by [`Upload::write`] so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// At most this many parts in flight from now on (at least one), to hold less in memory.
    pub fn limit_concurrency(&mut self, parts: usize) {
        self.concurrency = parts.max(1);
    }

    /// Appends bytes without copying them. Waits while enough parts are in flight.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        self.written_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.filled_bytes == self.part_size_bytes {
                self.start_part().await?;
            }
            let room = self.part_size_bytes - self.filled_bytes;
            let take = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            self.pieces.push(bytes.split_to(take));
            self.filled_bytes += take as u64;
        }
        Ok(())
    }

    /// Sends the rest, makes the object visible, and tells its size. After an error, or when this future is
    /// dropped, call [`Upload::abort`].
    pub async fn finish(&mut self) -> Result<u64, StoreError> {
        if self.multipart.is_none() {
            let payload = self.take_payload();
            let mode = PutMode::Overwrite;
            self.store
                .put_with(Method::Put, &self.key, payload, mode)
                .await?;
            self.progress.add(self.written_bytes);
            return Ok(self.written_bytes);
        }
        if self.filled_bytes > 0 {
            self.start_part().await?;
        }
        self.wait_for_room(1).await?;
        self.complete().await?;
        Ok(self.written_bytes)
    }

    /// Gives the upload up and removes what was sent. No object appears under its key; one that [`Upload::finish`]
    /// had made visible stays.
    pub async fn abort(&mut self) -> Result<(), StoreError> {
        self.in_flight.shutdown().await;
        let Some(multipart) = &mut self.multipart else {
            return Ok(());
        };
        let deadline = self.store.options.metadata_timeout;
        let work = async { Ok(multipart.abort().await?) };
        let key = self.key.as_str();
        match self
            .store
            .call(Method::UploadAbort, key, deadline, work)
            .await
        {
            // The upload is unknown: it is gone. Servers say so with either status.
            Ok(()) | Err(StoreError::NotFound { .. } | StoreError::Denied { .. }) => {
                self.multipart = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends the filled part, once there is room for it.
    async fn start_part(&mut self) -> Result<(), StoreError> {
        if self.parts_started == UPLOAD_PARTS_MAX {
            return Err(StoreError::TooLong {
                key: self.key.clone(),
                max_bytes: self.part_size_bytes * UPLOAD_PARTS_MAX,
            });
        }
        self.wait_for_room(self.concurrency).await?;
        let payload = self.take_payload();
        let size_bytes = payload.content_length() as u64;
        let store = self.store.clone();
        let key = self.key.clone();
        let part = self.multipart().await?.put_part(payload);
        if self.in_flight.is_empty() {
            self.last_progress = Instant::now();
        }
        self.parts_started += 1;
        self.in_flight.spawn(async move {
            let deadline = store.options.body_timeout;
            let work = async { Ok(part.await?) };
            store
                .call(Method::UploadPart, key.as_str(), deadline, work)
                .await?;
            Ok(size_bytes)
        });
        Ok(())
    }

    /// Waits until fewer than `limit` parts are in flight.
    async fn wait_for_room(&mut self, limit: usize) -> Result<(), StoreError> {
        while self.in_flight.len() >= limit {
            let idle = self.store.options.no_progress_timeout;
            let acked =
                match timeout_at(self.last_progress + idle, self.in_flight.join_next()).await {
                    Ok(Some(Ok(result))) => result?,
                    Ok(Some(Err(join_error))) => {
                        return Err(StoreError::Request {
                            method: Method::UploadPart,
                            key: self.key.to_string(),
                            source: Box::new(object_store::Error::JoinError { source: join_error }),
                        });
                    }
                    Ok(None) => return Ok(()),
                    Err(_) => {
                        return Err(StoreError::NoProgress {
                            key: self.key.clone(),
                            acked_bytes: self.progress.acked_bytes(),
                            idle,
                        });
                    }
                };
            self.last_progress = Instant::now();
            self.progress.add(acked);
        }
        Ok(())
    }

    /// Makes the object visible. An unclear answer is settled by looking: the key is unique, so an object of this
    /// size under it is this upload's.
    async fn complete(&mut self) -> Result<(), StoreError> {
        let Some(multipart) = &mut self.multipart else {
            return Ok(());
        };
        let deadline = self.store.options.long_timeout;
        let work = async {
            multipart.complete().await.map_err(CallError::Raw)?;
            Ok(())
        };
        let key = self.key.as_str();
        let completed = self
            .store
            .call(Method::UploadComplete, key, deadline, work)
            .await;
        let Err(error) = completed else {
            self.multipart = None;
            return Ok(());
        };
        match self.store.head(&self.key).await {
            Ok(info) if info.size_bytes == self.written_bytes => {
                self.multipart = None;
                Ok(())
            }
            _ => Err(error),
        }
    }

    async fn multipart(&mut self) -> Result<&mut Box<dyn MultipartUpload>, StoreError> {
        let multipart = if let Some(multipart) = self.multipart.take() {
            multipart
        } else {
            let deadline = self.store.options.metadata_timeout;
            let options = PutMultipartOptions::default();
            let path = self.key.path();
            let work = async { Ok(self.store.inner.put_multipart_opts(&path, options).await?) };
            let key = self.key.as_str();
            self.store
                .call(Method::UploadCreate, key, deadline, work)
                .await?
        };
        Ok(self.multipart.insert(multipart))
    }

    fn take_payload(&mut self) -> PutPayload {
        self.filled_bytes = 0;
        self.pieces.drain(..).collect()
    }
}
