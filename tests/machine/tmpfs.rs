//! A small disk that can be filled.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use crate::root;

/// What tmpfs gives out space in.
pub const PAGE_BYTES: usize = 4096;
const BALLAST: &str = "ballast";

/// A tmpfs on a directory of its own. Dropping it unmounts it, whoever still uses it.
pub struct Tmpfs {
    dir: tempfile::TempDir,
}

impl Tmpfs {
    pub fn mount(size_mib: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={size_mib}m");
        let path = dir.path().to_str().unwrap();
        root::run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", path]).unwrap();
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join(BALLAST)
    }

    /// Takes everything that is free, but for so many pages.
    pub fn fill(&self, free_pages: usize) {
        self.free();
        let mut ballast = File::create(self.ballast()).unwrap();
        let page = [0; PAGE_BYTES];
        let mut pages = 0;
        loop {
            match ballast.write_all(&page) {
                Ok(()) => pages += 1,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("ballast: {error}"),
            }
        }
        let kept = usize::saturating_sub(pages, free_pages) * PAGE_BYTES;
        ballast.set_len(kept as u64).unwrap();
    }

    /// Gives back what [`Tmpfs::fill`] took.
    pub fn free(&self) {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("ballast: {error}"),
            _ => {}
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let path = self.path().to_string_lossy().into_owned();
        // Lazily: processes that are about to be killed may still use it.
        if let Err(error) = root::run(&["umount", "--lazy", &path]) {
            eprintln!("{error}");
        }
    }
}
