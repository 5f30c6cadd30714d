//! Writes of small objects, and deletes.

use bytes::Bytes;
use futures::stream;
use futures::{StreamExt, TryStreamExt};
use object_store::{PutMode, PutOptions, PutPayload};

use super::{Key, Method, Store, StoreError, call::CallError};
use crate::error::Kind;

/// How often a create-only write is tried while other writers come and go under the same key.
const PUT_NEW_ATTEMPTS: usize = 3;

/// A body of at most this size needs no longer than a call without one.
const SMALL_BODY_BYTES: usize = 1 << 20;

/// How a create-only write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutNew {
    /// The object is new.
    Created,
    /// An object with these very bytes was there; perhaps an earlier try of this write.
    SameBytes,
    /// An object with other bytes was there and still is.
    OtherBytes,
}

impl Store {
    /// Writes an object, replacing one of the same key.
    pub async fn put(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        let mode = PutMode::Overwrite;
        self.put_with(Method::Put, key, PutPayload::from(bytes), mode)
            .await
    }

    /// Asks for a create-only write and takes the answer as it is; [`Store::put_new`] makes something of it.
    pub async fn create(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        let payload = PutPayload::from(bytes);
        self.put_with(Method::PutNew, key, payload, PutMode::Create)
            .await
    }

    /// Writes an object that must not exist yet.
    ///
    /// When the store says "exists", or nothing clear, the key is read back and compared. An error leaves open
    /// whether the object exists or will; the same call with the same bytes may be made again.
    ///
    /// Some servers ignore the condition and overwrite: `Created` is then said although an object was there. So
    /// safety never rests on it: keys are unique, or all writers of a key write the same bytes. A server that
    /// refuses the condition needs `AWS_CONDITIONAL_PUT=disabled`; the write is then a read, a plain write and a
    /// read.
    pub async fn put_new(&self, key: &Key, bytes: Bytes) -> Result<PutNew, StoreError> {
        for _ in 0..PUT_NEW_ATTEMPTS {
            let error = match self.create(key, bytes.clone()).await {
                Ok(()) => return Ok(PutNew::Created),
                Err(error) => error,
            };
            match error {
                StoreError::Unsupported { .. } => {
                    return self.put_new_unconditional(key, bytes).await;
                }
                StoreError::Denied { .. } => return Err(error),
                _ if !matches!(error.kind(), Kind::Unavailable | Kind::Conflict) => {
                    return Err(error);
                }
                _ => {}
            }
            if let Some(found) = self.compare(key, &bytes).await? {
                return Ok(found);
            }
            if error.kind() == Kind::Unavailable {
                return Err(error);
            }
        }
        Err(StoreError::Exists { key: key.clone() })
    }

    async fn put_new_unconditional(&self, key: &Key, bytes: Bytes) -> Result<PutNew, StoreError> {
        if let Some(found) = self.compare(key, &bytes).await? {
            return Ok(found);
        }
        self.put(key, bytes.clone()).await?;
        match self.compare(key, &bytes).await? {
            Some(PutNew::SameBytes) => Ok(PutNew::Created),
            Some(other) => Ok(other),
            None => Err(StoreError::NotFound { key: key.clone() }),
        }
    }

    /// What lies under `key` against `bytes`; none when nothing does.
    async fn compare(&self, key: &Key, bytes: &Bytes) -> Result<Option<PutNew>, StoreError> {
        match self.get(key, bytes.len() as u64).await {
            Ok(object) if object.bytes == *bytes => Ok(Some(PutNew::SameBytes)),
            Ok(_) | Err(StoreError::TooLarge { .. }) => Ok(Some(PutNew::OtherBytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an object. One that does not exist is removed already.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let work = async {
            let one = stream::iter([Ok(key.path())]).boxed();
            self.inner
                .delete_stream(one)
                .try_collect::<Vec<_>>()
                .await?;
            self.sync_folder_of(key).await
        };
        let deadline = self.options.metadata_timeout;
        match self
            .call(Method::Delete, key.as_str(), deadline, work)
            .await
        {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    pub(super) async fn put_with(
        &self,
        method: Method,
        key: &Key,
        payload: PutPayload,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        let small = payload.content_length() <= SMALL_BODY_BYTES;
        let work = async {
            let options = PutOptions::from(mode);
            self.inner.put_opts(&key.path(), payload, options).await?;
            Ok(())
        };
        let deadline = if small {
            self.options.metadata_timeout
        } else {
            self.options.body_timeout
        };
        self.call(method, key.as_str(), deadline, work).await
    }

    /// In a local directory a delete is durable once the folder is synced; `object_store` leaves that out.
    async fn sync_folder_of(&self, key: &Key) -> Result<(), CallError> {
        let Some(root) = &self.root else {
            return Ok(());
        };
        let file = root.join(key.as_str());
        let folder = file.parent().unwrap_or(root).to_path_buf();
        let synced = async { tokio::fs::File::open(&folder).await?.sync_all().await };
        synced.await.map_err(|source| {
            CallError::Raw(object_store::Error::Generic {
                store: "local",
                source: Box::new(source),
            })
        })
    }
}
