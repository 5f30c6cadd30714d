//! Reads: whole objects, ranges, heads, listings.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    ops::Range,
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta};
use tokio::time::timeout;

use super::{Key, Method, Object, ObjectInfo, Store, StoreError, call::CallError, key};

impl Store {
    /// A whole object of at most `max_bytes`; a longer one is [`StoreError::TooLarge`].
    pub async fn get(&self, key: &Key, max_bytes: u64) -> Result<Object, StoreError> {
        let work = async {
            let answer = self.send(key, GetOptions::default()).await?;
            let size_bytes = answer.meta.size;
            if size_bytes > max_bytes {
                let key = key.clone();
                return Err(CallError::Sorted(StoreError::TooLarge {
                    key,
                    size_bytes,
                    max_bytes,
                }));
            }
            let last_modified_unix_ms = answer.meta.last_modified.timestamp_millis();
            let bytes = self.body(key, answer, size_bytes).await?;
            Ok(Object {
                bytes,
                size_bytes,
                last_modified_unix_ms,
            })
        };
        let deadline = self.options.long_timeout;
        self.call(Method::Get, key.as_str(), deadline, work).await
    }

    /// Exactly the bytes of `range` (end exclusive); an object that ends before is [`StoreError::Short`].
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let Some(len_bytes) = range.end.checked_sub(range.start).filter(|len| *len > 0) else {
            return Ok(Bytes::new());
        };
        let work = async {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                ..GetOptions::default()
            };
            let answer = self.send(key, options).await?;
            if answer.range != range {
                let found_bytes = answer.meta.size;
                return Err(CallError::Sorted(short(key, range.end, found_bytes)));
            }
            self.body(key, answer, len_bytes).await
        };
        let deadline = self.options.body_timeout;
        let result = self
            .call(Method::GetRange, key.as_str(), deadline, work)
            .await;
        match result {
            Err(error @ StoreError::Request { .. }) => {
                // A range that starts beyond the end is refused in each store's own words: ask for the size.
                match self.head(key).await {
                    Ok(info) if info.size_bytes < range.end => {
                        Err(short(key, range.end, info.size_bytes))
                    }
                    _ => Err(error),
                }
            }
            other => other,
        }
    }

    /// Size and time of an object.
    pub async fn head(&self, key: &Key) -> Result<ObjectInfo, StoreError> {
        let work = async {
            let options = GetOptions {
                head: true,
                ..GetOptions::default()
            };
            match self.inner.get_opts(&key.path(), options).await {
                Ok(answer) => Ok(info(&answer.meta)),
                // An answer to HEAD has no body, so it cannot say that the bucket is what is missing: ask again.
                Err(object_store::Error::NotFound { .. }) => {
                    let answer = self.send(key, GetOptions::default()).await?;
                    Ok(info(&answer.meta))
                }
                Err(source) => Err(CallError::Raw(source)),
            }
        };
        let deadline = self.options.metadata_timeout;
        self.call(Method::Head, key.as_str(), deadline, work).await
    }

    /// Every object under `folder` (empty, or ends in `/`), at any depth, in no particular order.
    ///
    /// Complete, or an error; more than [`super::StoreOptions::list_max_objects`] is an error.
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let path = key::folder_path(folder)?;
        let max_objects = self.options.list_max_objects;
        let work = async {
            let prefix = (!path.is_root()).then_some(&path);
            let mut pages = self.inner.list(prefix);
            let mut found = Vec::new();
            while let Some(meta) = self.next(Method::List, folder, pages.try_next()).await? {
                if found.len() == max_objects {
                    let folder = folder.to_owned();
                    return Err(CallError::Sorted(StoreError::TooMany {
                        folder,
                        max_objects,
                    }));
                }
                found.push(info(&meta));
            }
            self.check_root(Method::List, folder).await?;
            Ok(found)
        };
        let deadline = self.options.long_timeout;
        self.call(Method::List, folder, deadline, work).await
    }

    /// Names of the folders directly in `folder` (empty, or ends in `/`), without slashes, sorted.
    pub async fn list_dirs(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = key::folder_path(folder)?;
        let work = async {
            let prefix = (!path.is_root()).then_some(&path);
            let answer = self.inner.list_with_delimiter(prefix).await?;
            self.check_root(Method::List, folder).await?;
            let last = |dir: &object_store::path::Path| dir.filename().map(ToOwned::to_owned);
            let mut names: Vec<_> = answer.common_prefixes.iter().filter_map(last).collect();
            names.sort();
            Ok(names)
        };
        let deadline = self.options.long_timeout;
        self.call(Method::List, folder, deadline, work).await
    }

    /// Sends a GET and waits for its headers.
    async fn send(&self, key: &Key, options: GetOptions) -> Result<GetResult, CallError> {
        let path = key.path();
        let answer = self.inner.get_opts(&path, options);
        self.next(Method::Get, key.as_str(), answer).await
    }

    /// Reads a body of exactly `len_bytes`, giving up when the stream rests for too long.
    async fn body(&self, key: &Key, answer: GetResult, len_bytes: u64) -> Result<Bytes, CallError> {
        let short = |found| CallError::Sorted(short(key, len_bytes, found));
        let answer = match answer.payload {
            GetResultPayload::File(file, _) => {
                let start = answer.range.start;
                let bytes = read_file(file, start, len_bytes).await?;
                let found = bytes.len() as u64;
                return if found == len_bytes {
                    Ok(bytes)
                } else {
                    Err(short(found))
                };
            }
            GetResultPayload::Stream(pieces) => pieces,
        };
        let mut pieces = answer.fuse();
        let method = Method::Get;
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next(method, key.as_str(), pieces.try_next()).await? {
            let found = whole.len() as u64 + piece.len() as u64;
            if found > len_bytes {
                return Err(short(found));
            }
            if found == len_bytes && whole.is_empty() {
                // The whole body in one piece: nothing to copy, but see the end of the stream.
                let rest = self.next(method, key.as_str(), pieces.try_next()).await?;
                return rest.map_or(Ok(piece), |more| Err(short(found + more.len() as u64)));
            }
            if whole.is_empty() {
                whole.reserve(usize::try_from(len_bytes).unwrap_or_default());
            }
            whole.extend_from_slice(&piece);
        }
        let found = whole.len() as u64;
        if found < len_bytes {
            return Err(short(found));
        }
        Ok(whole.freeze())
    }

    /// Waits for the next sign of life of an answer.
    async fn next<T>(
        &self,
        method: Method,
        key: &str,
        answer: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, CallError> {
        let deadline = self.options.metadata_timeout;
        match timeout(deadline, answer).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(CallError::Sorted(StoreError::Timeout {
                method,
                key: key.to_owned(),
                deadline,
            })),
        }
    }

    async fn check_root(&self, method: Method, folder: &str) -> Result<(), CallError> {
        if self.root_exists().await {
            return Ok(());
        }
        let key = folder.to_owned();
        Err(CallError::Sorted(StoreError::NoBucket { method, key }))
    }
}

/// Up to `len_bytes` of a file from `start`.
///
/// The buffer is made here and not on the blocking thread: the allocator would keep a few of them for every thread
/// that ever read.
async fn read_file(
    mut file: std::fs::File,
    start: u64,
    len_bytes: u64,
) -> Result<Bytes, object_store::Error> {
    let failed = |source| object_store::Error::Generic {
        store: "local",
        source,
    };
    let mut buffer = Vec::with_capacity(usize::try_from(len_bytes).unwrap_or_default());
    let read = tokio::task::spawn_blocking(move || {
        file.seek(SeekFrom::Start(start))?;
        file.take(len_bytes).read_to_end(&mut buffer)?;
        Ok(Bytes::from(buffer))
    });
    match read.await {
        Ok(result) => result.map_err(|error: std::io::Error| failed(error.into())),
        Err(join_error) => Err(failed(join_error.into())),
    }
}

fn info(meta: &ObjectMeta) -> ObjectInfo {
    ObjectInfo {
        key: Key::from_path(&meta.location),
        size_bytes: meta.size,
        last_modified_unix_ms: meta.last_modified.timestamp_millis(),
    }
}

fn short(key: &Key, expected_bytes: u64, found_bytes: u64) -> StoreError {
    StoreError::Short {
        key: key.clone(),
        expected_bytes,
        found_bytes,
    }
}
