//! What can go wrong between us and the store.

use std::{io, path::PathBuf, time::Duration};

use object_store::Error as Source;
use thiserror::Error;

use super::{Key, Method, call};
use crate::error::Kind;

/// Why a call failed. Text and `Debug` never carry credentials: requests are signed in headers, and addresses
/// that carry a signature are withheld by the HTTP layer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The store answered that there is no such object, and the bucket exists as far as can be told.
    #[error("{key} does not exist")]
    NotFound {
        /// The key.
        key: Key,
    },
    /// The bucket, container or root directory does not exist (or its disk is not mounted).
    #[error("the bucket, container or root directory does not exist ({method} {key})")]
    NoBucket {
        /// What was tried.
        method: Method,
        /// On which key or folder.
        key: String,
    },
    /// No usable answer: unreachable, overloaded, broken off, an error of the server.
    #[error("{method} {key} failed")]
    Request {
        /// What was tried.
        method: Method,
        /// On which key or folder.
        key: String,
        /// The last answer.
        #[source]
        source: Box<Source>,
    },
    /// The disk below a local directory takes no more.
    #[error("{method} {key} failed: the disk that holds {root:?} is full")]
    Full {
        /// What was tried.
        method: Method,
        /// On which key or folder.
        key: String,
        /// The directory.
        root: PathBuf,
        /// The answer.
        #[source]
        source: Box<Source>,
    },
    /// The credentials do not allow it, or are not accepted.
    #[error("{method} {key} was denied")]
    Denied {
        /// What was tried.
        method: Method,
        /// On which key or folder.
        key: String,
        /// The answer.
        #[source]
        source: Box<Source>,
    },
    /// No answer within the deadline.
    #[error("{method} {key} got no answer within {deadline:?}")]
    Timeout {
        /// What was tried.
        method: Method,
        /// On which key or folder.
        key: String,
        /// The deadline.
        deadline: Duration,
    },
    /// An upload none of whose parts was acknowledged for too long.
    #[error("upload of {key} made no progress for {idle:?} after {acked_bytes} acknowledged bytes")]
    NoProgress {
        /// The key.
        key: Key,
        /// Bytes acknowledged before.
        acked_bytes: u64,
        /// How long.
        idle: Duration,
    },
    /// The object exists already, or another writer was at it in the same moment.
    #[error("{key} exists already or is being written")]
    Exists {
        /// The key.
        key: Key,
    },
    /// The object is longer than the caller allows.
    #[error("{key} has {size_bytes} bytes; at most {max_bytes} are accepted")]
    TooLarge {
        /// The key.
        key: Key,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The object ends before the bytes that were asked for.
    #[error("{key} has {found_bytes} bytes where {expected_bytes} or more were expected")]
    Short {
        /// The key.
        key: Key,
        /// Bytes needed.
        expected_bytes: u64,
        /// Bytes there are.
        found_bytes: u64,
    },
    /// More objects under a folder than this program handles.
    #[error("more than {max_objects} objects under {folder:?}")]
    TooMany {
        /// The folder.
        folder: String,
        /// The limit.
        max_objects: usize,
    },
    /// An upload grew beyond what its part size and the part count allow.
    #[error("upload of {key} is longer than the {max_bytes} bytes that were prepared for")]
    TooLong {
        /// The key.
        key: Key,
        /// The limit.
        max_bytes: u64,
    },
    /// Not a legal key or folder.
    #[error("{text:?} is not a legal key or folder")]
    IllegalKey {
        /// The text, cut to 200 characters.
        text: String,
    },
    /// A file system takes no name of this length.
    #[error(
        "a local directory cannot hold {key}: its part of {found_bytes} bytes is longer than the {max_bytes} that file \
         systems take; bytes of a topic's name outside [A-Za-z0-9._-] count three times; use another kind of store or \
         exclude the topic with TOPICS_EXCLUDE"
    )]
    NameTooLong {
        /// The key or folder.
        key: String,
        /// Its longest part.
        found_bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The store does not offer this.
    #[error("{method} {key} is not supported by this store")]
    Unsupported {
        /// What was tried.
        method: Method,
        /// On which key or folder.
        key: String,
        /// The answer.
        #[source]
        source: Box<Source>,
    },
    /// The store cannot be opened as configured.
    #[error("the {backend} store cannot be opened as configured")]
    Open {
        /// Which backend.
        backend: &'static str,
        /// Why.
        #[source]
        source: Box<Source>,
    },
    /// The endpoint has no host, so the bucket cannot be put before it.
    #[error("endpoint {endpoint} has no host name; with an IP address use path style")]
    EndpointHost {
        /// The endpoint.
        endpoint: String,
    },
    /// The root directory cannot be made.
    #[error("directory {path:?} cannot be used")]
    Root {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// What the caller must do.
    ///
    /// `NotFound` is a Conflict: the store cannot know whether the object must exist. Whoever read its name in a
    /// manifest a moment ago looks again first (it may have been retired), and only then calls it corruption.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NoBucket { .. }
            | Self::Request { .. }
            | Self::Full { .. }
            | Self::Denied { .. }
            | Self::Timeout { .. }
            | Self::NoProgress { .. } => Kind::Unavailable,
            Self::NotFound { .. } | Self::Exists { .. } => Kind::Conflict,
            Self::Short { .. } | Self::TooLarge { .. } => Kind::Corrupt,
            Self::TooMany { .. }
            | Self::TooLong { .. }
            | Self::IllegalKey { .. }
            | Self::NameTooLong { .. }
            | Self::Unsupported { .. }
            | Self::Open { .. }
            | Self::EndpointHost { .. }
            | Self::Root { .. } => Kind::Invalid,
        }
    }

    /// True when the store said that the object does not exist.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    pub(super) fn illegal_key(text: &str) -> Self {
        Self::IllegalKey {
            text: text.chars().take(200).collect(),
        }
    }

    /// Sorts an answer of the HTTP or file layer. `key` is a key or a folder.
    pub(super) fn classify(method: Method, key: &str, source: Source) -> Self {
        let owned = key.to_owned();
        match source {
            Source::NotFound { .. }
                if names_the_bucket(&source) || call::needs_bucket_only(method) =>
            {
                Self::NoBucket { method, key: owned }
            }
            Source::NotFound { .. } if call::is_read(method) => match Key::new(owned) {
                Ok(key) => Self::NotFound { key },
                Err(error) => error,
            },
            Source::AlreadyExists { .. } | Source::Precondition { .. } => match Key::new(owned) {
                Ok(key) => Self::Exists { key },
                Err(error) => error,
            },
            Source::PermissionDenied { .. } | Source::Unauthenticated { .. } => Self::Denied {
                method,
                key: owned,
                source: Box::new(source),
            },
            Source::NotSupported { .. } | Source::NotImplemented { .. } => Self::Unsupported {
                method,
                key: owned,
                source: Box::new(source),
            },
            Source::InvalidPath { .. } => Self::illegal_key(key),
            // A listing has no words of its own for 404, 403 and 401.
            Source::Generic { .. } if names_the_bucket(&source) => {
                Self::NoBucket { method, key: owned }
            }
            Source::Generic { .. } if is_denied(&source) => Self::Denied {
                method,
                key: owned,
                source: Box::new(source),
            },
            _ => Self::Request {
                method,
                key: owned,
                source: Box::new(source),
            },
        }
    }
}

/// True when a file system says that it, or the share of it that one may use, is full.
pub(super) fn is_full(source: &Source) -> bool {
    let mut cause = std::error::Error::source(source);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
            return full.contains(&error.kind());
        }
        cause = error.source();
    }
    false
}

/// True when the answer was 401 or 403. The HTTP layer shows the status in its text only.
fn is_denied(source: &Source) -> bool {
    let text = source.to_string();
    ["status code: 401", "status code: 403"]
        .iter()
        .any(|status| text.contains(status))
}

/// True when a 404 is about the bucket. The error code is in the body of the answer, which the HTTP layer shows
/// in its text only.
fn names_the_bucket(source: &Source) -> bool {
    let text = source.to_string();
    [
        "NoSuchBucket",
        "ContainerNotFound",
        "specified bucket does not exist",
    ]
    .iter()
    .any(|code| text.contains(code))
}
