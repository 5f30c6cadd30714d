//! The `.snap` files of one snapshot being written.

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    format::{BLOCK_STORED_MAX_BYTES, SnapName},
    pipeline::plane::Target,
    store::{StoreError, UPLOAD_PARTS_MAX, Upload, part_size_bytes},
};

/// Where a block was put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) offset_bytes: u64,
    pub(super) stored_len_bytes: u32,
}

/// One file after another; a file is opened with its first block and closed when the next block would not fit.
#[derive(Debug)]
pub(super) struct Files {
    target: Target,
    /// Raw size of all parts: what compression can only make smaller, but for a little.
    total_bytes: u64,
    file_max_bytes: u64,
    part_size_bytes: u64,
    parts_in_flight: usize,
    /// Names of all files begun.
    names: Vec<String>,
    current: Option<Upload>,
    stored_bytes: u64,
}

impl Files {
    pub(super) fn new(target: Target, total_bytes: u64, file_max_bytes: u64) -> Self {
        // Incompressible blocks grow by less than one part in 60.
        let total_bytes = total_bytes.saturating_add(total_bytes / 60);
        let options = target.folder.store.options();
        let part_size_bytes = part_size_bytes(total_bytes.min(file_max_bytes), options);
        let most = part_size_bytes.saturating_mul(UPLOAD_PARTS_MAX);
        Self {
            parts_in_flight: options.upload_concurrency,
            target,
            total_bytes,
            file_max_bytes: file_max_bytes.min(most),
            part_size_bytes,
            names: Vec::new(),
            current: None,
            stored_bytes: 0,
        }
    }

    /// Most bytes that the current upload holds with so many parts in flight: those, the one being filled, and the
    /// block that sticks out of it.
    pub(super) fn buffer_bytes(part_size_bytes: u64, parts_in_flight: usize) -> u64 {
        part_size_bytes * (parts_in_flight as u64 + 1) + u64::from(BLOCK_STORED_MAX_BYTES)
    }

    pub(super) fn part_size_bytes(&self) -> u64 {
        self.part_size_bytes
    }

    /// Most parts in flight that the store's options allow.
    pub(super) fn parts_in_flight_max(&self) -> usize {
        self.target.folder.store.options().upload_concurrency
    }

    /// At most this many parts in flight, in every file.
    pub(super) fn limit_parts_in_flight(&mut self, parts: usize) {
        self.parts_in_flight = parts;
    }

    /// Names of all files, in order.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// Appends one block.
    pub(super) async fn append(&mut self, stored: Bytes) -> Result<Place, StoreError> {
        let len_bytes = stored.len() as u64;
        let full = |upload: &Upload| {
            upload.written_bytes() > 0 && upload.written_bytes() + len_bytes > self.file_max_bytes
        };
        if self.current.as_ref().is_some_and(full) {
            self.close().await?;
        }
        let upload = self.open()?;
        let offset_bytes = upload.written_bytes();
        upload.write(stored).await?;
        self.stored_bytes += len_bytes;
        Ok(Place {
            file: u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX),
            offset_bytes,
            stored_len_bytes: u32::try_from(len_bytes).unwrap_or(u32::MAX),
        })
    }

    /// Completes the last file; the stored bytes of all files.
    pub(super) async fn finish(&mut self) -> Result<u64, StoreError> {
        self.close().await?;
        Ok(self.stored_bytes)
    }

    /// Removes what was written. Nothing refers to these files, so no deletion rule applies to them; what cannot be
    /// removed now is an orphan for the next sweep.
    pub(super) async fn discard(&mut self) {
        let store = self.target.folder.store.clone();
        let work = async {
            if let Some(mut upload) = self.current.take() {
                let _ = upload.abort().await;
            }
            for name in &self.names {
                if let Ok(key) = self.target.folder.key(name) {
                    let _ = store.delete(&key).await;
                }
            }
        };
        let _ = timeout(store.options().metadata_timeout, work).await;
    }

    fn open(&mut self) -> Result<&mut Upload, StoreError> {
        let upload = if let Some(upload) = self.current.take() {
            upload
        } else {
            let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            let id = self.target.snapshot_id;
            let name = SnapName { id, number }.to_string();
            let folder = &self.target.folder;
            let rest_bytes = self.total_bytes.saturating_sub(self.stored_bytes);
            let expected_bytes = rest_bytes.min(self.file_max_bytes);
            let mut upload = folder.store.upload(&folder.key(&name)?, expected_bytes);
            upload.limit_concurrency(self.parts_in_flight);
            self.names.push(name);
            upload
        };
        Ok(self.current.insert(upload))
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        if let Some(upload) = &mut self.current {
            upload.finish().await?;
            self.current = None;
        }
        Ok(())
    }
}
