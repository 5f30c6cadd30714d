//! One call: deadline, sorting of the answer, counting.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Store, StoreError, error::is_full};
use crate::telemetry::{StoreCode as Code, StoreMethod as Method};

/// Longest name of a file or directory that common file systems take.
const FILE_NAME_MAX_BYTES: usize = 255;

/// True when the method asks nothing of any object: only the bucket can be missing.
pub(super) const fn needs_bucket_only(method: Method) -> bool {
    matches!(
        method,
        Method::List | Method::Put | Method::PutNew | Method::UploadCreate
    )
}

/// True when the method asks about one existing object or upload.
pub(super) const fn is_read(method: Method) -> bool {
    matches!(
        method,
        Method::Get | Method::GetRange | Method::Head | Method::Delete | Method::UploadAbort
    )
}

const fn code_of(error: &StoreError) -> Code {
    match error {
        StoreError::NotFound { .. } => Code::NotFound,
        StoreError::Exists { .. } => Code::Exists,
        StoreError::Denied { .. } => Code::Denied,
        StoreError::Timeout { .. } | StoreError::NoProgress { .. } => Code::Timeout,
        StoreError::NoBucket { .. } | StoreError::Request { .. } => Code::Unavailable,
        StoreError::Full { .. } => Code::Full,
        StoreError::TooLarge { .. } | StoreError::Short { .. } => Code::BadLength,
        StoreError::TooMany { .. }
        | StoreError::TooLong { .. }
        | StoreError::IllegalKey { .. }
        | StoreError::NameTooLong { .. }
        | StoreError::Unsupported { .. }
        | StoreError::Open { .. }
        | StoreError::EndpointHost { .. }
        | StoreError::Root { .. } => Code::Invalid,
    }
}

/// Is told of every call to the store. Retries inside one call are one call.
pub trait Observer: Send + Sync + 'static {
    /// A call ended.
    fn request(&self, method: Method, code: Code, elapsed: Duration);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn request(&self, _method: Method, _code: Code, _elapsed: Duration) {}
}

impl Store {
    /// Runs one call under its deadline, sorts its error, tells the observer.
    pub(super) async fn call<T>(
        &self,
        method: Method,
        key: &str,
        deadline: Duration,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, StoreError> {
        self.check_names(key)?;
        let start = Instant::now();
        let result = match timeout(deadline, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(CallError::Sorted(error))) => Err(error),
            Ok(Err(CallError::Raw(source))) => Err(self.sort(method, key, source).await),
            Err(_) => Err(StoreError::Timeout {
                method,
                key: key.to_owned(),
                deadline,
            }),
        };
        let code = result.as_ref().map_or_else(code_of, |_| Code::Ok);
        self.observer.request(method, code, start.elapsed());
        result
    }

    /// What a file system cannot name is refused before it is tried: some calls would say that it is not there.
    fn check_names(&self, key: &str) -> Result<(), StoreError> {
        let longest = key.split('/').map(str::len).max().unwrap_or_default();
        if self.root.is_none() || longest <= FILE_NAME_MAX_BYTES {
            return Ok(());
        }
        Err(StoreError::NameTooLong {
            key: key.to_owned(),
            found_bytes: longest,
            max_bytes: FILE_NAME_MAX_BYTES,
        })
    }

    async fn sort(&self, method: Method, key: &str, source: object_store::Error) -> StoreError {
        if let Some(root) = self.root.as_ref().filter(|_| is_full(&source)) {
            return StoreError::Full {
                method,
                key: key.to_owned(),
                root: root.to_path_buf(),
                source: Box::new(source),
            };
        }
        let error = StoreError::classify(method, key, source);
        if error.is_not_found() && !self.root_exists().await {
            return StoreError::NoBucket {
                method,
                key: key.to_owned(),
            };
        }
        error
    }

    /// False when this is a local directory and it is not there: then an absent file means nothing.
    pub(super) async fn root_exists(&self) -> bool {
        match &self.root {
            None => true,
            Some(root) => tokio::fs::metadata(root.as_path())
                .await
                .is_ok_and(|found| found.is_dir()),
        }
    }
}

/// An error inside a call: to be sorted, or sorted already.
#[derive(Debug)]
pub(super) enum CallError {
    Raw(object_store::Error),
    Sorted(StoreError),
}

impl From<object_store::Error> for CallError {
    fn from(source: object_store::Error) -> Self {
        Self::Raw(source)
    }
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        Self::Sorted(error)
    }
}
