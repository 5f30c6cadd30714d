//! Directories that programs of the harness may empty.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::error::HarnessError;

/// An empty directory, as an absolute path. `marker` names a file that says whose it is: one that is not empty and has
/// no such file is refused.
pub fn empty_own(dir: &Path, marker: &str) -> Result<PathBuf, HarnessError> {
    let fail = |source: io::Error| HarnessError::File {
        what: "emptying",
        path: dir.to_owned(),
        source,
    };
    let exists = dir.try_exists().map_err(fail)?;
    if exists {
        let is_empty = fs::read_dir(dir).map_err(fail)?.next().is_none();
        if !is_empty && !dir.join(marker).is_file() {
            return Err(HarnessError::ForeignDir(dir.to_owned()));
        }
        fs::remove_dir_all(dir).map_err(fail)?;
    }
    fs::create_dir_all(dir).map_err(fail)?;
    let words = "whoever made this directory may empty it\n";
    fs::write(dir.join(marker), words).map_err(fail)?;
    dir.canonicalize().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marked_or_empty_directory_is_emptied() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("own");
        fs::write(empty_own(&dir, ".mine").unwrap().join("data"), "x").unwrap();
        let again = empty_own(&dir, ".mine").unwrap();
        assert!(!again.join("data").exists());
        fs::write(base.path().join("precious"), "x").unwrap();
        let refused = empty_own(base.path(), ".mine").unwrap_err();
        assert!(matches!(refused, HarnessError::ForeignDir(_)), "{refused}");
        assert!(base.path().join("precious").exists());
    }
}
