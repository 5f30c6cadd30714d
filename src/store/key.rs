//! Keys: full names of objects in the store.

use std::fmt;

use object_store::path::Path;

use super::StoreError;

/// Longest key; S3's own limit.
pub const KEY_MAX_BYTES: usize = 1024;

/// The full name of an object: non-empty segments separated by single `/`, none of them `.` or `..`, no control
/// characters, at most [`KEY_MAX_BYTES`]. Percent signs are plain characters: nothing is encoded twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// Checks and builds a key.
    pub fn new(text: impl Into<String>) -> Result<Self, StoreError> {
        let text = text.into();
        let legal = !text.is_empty()
            && text.len() <= KEY_MAX_BYTES
            && Path::parse(&text).is_ok_and(|path| path.as_ref() == text);
        if legal {
            Ok(Self(text))
        } else {
            Err(StoreError::illegal_key(&text))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last `/`.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    pub(super) fn from_path(path: &Path) -> Self {
        Self(path.to_string())
    }

    pub(super) fn path(&self) -> Path {
        // Cannot fail: `new` has parsed it, and `from_path` took it from a path.
        Path::parse(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path of a folder: empty, or ends in `/`.
pub(super) fn folder_path(folder: &str) -> Result<Path, StoreError> {
    if folder.is_empty() {
        return Ok(Path::ROOT);
    }
    let inner = folder
        .strip_suffix('/')
        .ok_or_else(|| StoreError::illegal_key(folder))?;
    Key::new(inner).map(|key| key.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_as_they_are_or_not_at_all() {
        for good in [
            "a",
            "a/b.snap",
            "snapshots/a%2Fb/0/x",
            "é/ü",
            "a b/@cluster",
        ] {
            let key = Key::new(good).unwrap();
            assert_eq!(key.path().as_ref(), good);
        }
        let long = "x".repeat(KEY_MAX_BYTES + 1);
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "a/../b", "a\n", "a\0", &long,
        ] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn folders_end_in_a_slash() {
        assert_eq!(folder_path("").unwrap(), Path::ROOT);
        assert_eq!(folder_path("a/b/").unwrap().as_ref(), "a/b");
        for bad in ["a", "/", "a//", "../"] {
            assert!(folder_path(bad).is_err(), "{bad:?}");
        }
    }
}
