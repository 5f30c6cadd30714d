//! What a killed process leaves in a local directory.
//!
//! An unfinished object is written to `{name}#{n}` beside its place. Listings hide such files, so nothing else ever
//! removes them. In a bucket the same job is done by the lifecycle rule for incomplete uploads.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{Method, Store, StoreError, call::CallError, key};

impl Store {
    /// Removes unfinished uploads directly in `folder` (empty, or ends in `/`) that nobody has written to for `age`
    /// as of `now`. Returns how many. Does nothing in anything but a local directory.
    ///
    /// `age` must be longer than any upload: other processes may share the directory.
    pub async fn remove_abandoned(
        &self,
        folder: &str,
        age: Duration,
        now: SystemTime,
    ) -> Result<usize, StoreError> {
        let Some(root) = &self.root else {
            return Ok(0);
        };
        let folder_path = root.join(key::folder_path(folder)?.as_ref());
        let work = async {
            let sweep = tokio::task::spawn_blocking(move || sweep(&folder_path, age, now));
            match sweep.await {
                Ok(Ok(removed)) => Ok(removed),
                Ok(Err(error)) => Err(raw(error.into())),
                Err(join_error) => Err(raw(join_error.into())),
            }
        };
        let deadline = self.options.metadata_timeout;
        self.call(Method::Delete, folder, deadline, work).await
    }
}

fn raw(source: Box<dyn std::error::Error + Send + Sync>) -> CallError {
    CallError::Raw(object_store::Error::Generic {
        store: "local",
        source,
    })
}

fn sweep(folder: &Path, age: Duration, now: SystemTime) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let found = entry.metadata()?;
        let idle = now.duration_since(found.modified()?).unwrap_or_default();
        let staged = entry.file_name().to_str().is_some_and(is_staged);
        if staged && found.is_file() && idle >= age {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The names that `object_store` gives to unfinished files, and to no others.
fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(stem, number)| {
        !stem.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
