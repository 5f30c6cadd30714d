//! One call: deadline, sorting of the answer, counting.

use std::{fmt, future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Store, StoreError};

/// What was asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// A whole object.
    Get,
    /// A range of an object.
    GetRange,
    /// Size and time of an object.
    Head,
    /// All objects under a folder.
    List,
    /// A write.
    Put,
    /// A create-only write.
    PutNew,
    /// Start of a multipart upload.
    UploadCreate,
    /// One part.
    UploadPart,
    /// End of a multipart upload.
    UploadComplete,
    /// Removal of an unfinished multipart upload.
    UploadAbort,
    /// Removal of an object.
    Delete,
}

impl Method {
    /// Every method, for initialising metric series.
    pub const ALL: [Self; 11] = [
        Self::Get,
        Self::GetRange,
        Self::Head,
        Self::List,
        Self::Put,
        Self::PutNew,
        Self::UploadCreate,
        Self::UploadPart,
        Self::UploadComplete,
        Self::UploadAbort,
        Self::Delete,
    ];

    /// Label for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetRange => "get_range",
            Self::Head => "head",
            Self::List => "list",
            Self::Put => "put",
            Self::PutNew => "put_new",
            Self::UploadCreate => "upload_create",
            Self::UploadPart => "upload_part",
            Self::UploadComplete => "upload_complete",
            Self::UploadAbort => "upload_abort",
            Self::Delete => "delete",
        }
    }

    /// True when the method asks nothing of any object: only the bucket can be missing.
    pub(super) const fn needs_bucket_only(self) -> bool {
        matches!(
            self,
            Self::List | Self::Put | Self::PutNew | Self::UploadCreate
        )
    }

    /// True when the method asks about one existing object or upload.
    pub(super) const fn is_read(self) -> bool {
        matches!(
            self,
            Self::Get | Self::GetRange | Self::Head | Self::Delete | Self::UploadAbort
        )
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Done.
    Ok,
    /// No such object.
    NotFound,
    /// A create-only write found an object.
    Exists,
    /// Not allowed.
    Denied,
    /// No answer in time.
    Timeout,
    /// No usable answer, or no such bucket.
    Unavailable,
    /// The object is not as long as it must be.
    BadLength,
    /// Refused before or by the store as not possible.
    Invalid,
}

impl Code {
    /// Every code, for initialising metric series.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::NotFound,
        Self::Exists,
        Self::Denied,
        Self::Timeout,
        Self::Unavailable,
        Self::BadLength,
        Self::Invalid,
    ];

    /// Label for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::BadLength => "bad_length",
            Self::Invalid => "invalid",
        }
    }

    const fn of(error: &StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => Self::NotFound,
            StoreError::Exists { .. } => Self::Exists,
            StoreError::Denied { .. } => Self::Denied,
            StoreError::Timeout { .. } | StoreError::NoProgress { .. } => Self::Timeout,
            StoreError::NoBucket { .. } | StoreError::Request { .. } => Self::Unavailable,
            StoreError::TooLarge { .. } | StoreError::Short { .. } => Self::BadLength,
            StoreError::TooMany { .. }
            | StoreError::TooLong { .. }
            | StoreError::IllegalKey { .. }
            | StoreError::Unsupported { .. }
            | StoreError::Open { .. }
            | StoreError::EndpointHost { .. }
            | StoreError::Root { .. } => Self::Invalid,
        }
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
        let code = result.as_ref().map_or_else(Code::of, |_| Code::Ok);
        self.observer.request(method, code, start.elapsed());
        result
    }

    async fn sort(&self, method: Method, key: &str, source: object_store::Error) -> StoreError {
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
