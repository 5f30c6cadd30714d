//! What readers see of a partition.

use std::{
    fs::File,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::segment::Segment;
use crate::api::{ApiError, Fetched, Offsets};

/// What readers share with the writer.
#[derive(Debug)]
pub struct PartitionView {
    segments: RwLock<Vec<Arc<Segment>>>,
    log_start_offset: i64,
    high_watermark: watch::Sender<i64>,
}

impl PartitionView {
    /// Of a partition that has no segment yet.
    pub(super) fn new(log_start_offset: i64) -> Self {
        Self {
            segments: RwLock::default(),
            log_start_offset,
            high_watermark: watch::channel(log_start_offset).0,
        }
    }

    /// Another state takes the place of the one that readers see.
    pub(super) fn replace(&self, segments: Vec<Arc<Segment>>, next_offset: i64) {
        *self.write() = segments;
        self.high_watermark.send_replace(next_offset);
    }

    /// One more segment.
    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.write().push(segment);
    }

    /// What is before `next_offset` may be read; those who wait are told.
    pub(super) fn advance(&self, next_offset: i64) {
        if *self.high_watermark.borrow() != next_offset {
            self.high_watermark.send_replace(next_offset);
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<Segment>>> {
        let segments = self.segments.write();
        segments.unwrap_or_else(PoisonError::into_inner)
    }

    /// Offsets now.
    pub fn offsets(&self) -> Offsets {
        Offsets {
            log_start_offset: self.log_start_offset,
            high_watermark: *self.high_watermark.borrow(),
        }
    }

    /// Changes of the high watermark.
    pub fn watch(&self) -> watch::Receiver<i64> {
        self.high_watermark.subscribe()
    }

    fn segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        segments.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads whole batches from `offset` on. Blocks on the disk.
    pub fn read(&self, offset: i64, max_bytes: usize) -> Result<Fetched, ApiError> {
        let Offsets {
            log_start_offset,
            high_watermark,
        } = self.offsets();
        let fetched = |batches| Fetched {
            batches,
            high_watermark,
            log_start_offset,
        };
        if offset == high_watermark {
            return Ok(fetched(Bytes::new()));
        }
        let segments = self.segments();
        // A reader may be ahead of the published mark by what is being applied right now.
        let end_offset = segments.last().map_or(0, |segment| segment.end_offset());
        if offset < log_start_offset || offset > high_watermark.max(end_offset) {
            return Err(ApiError::OffsetOutOfRange);
        }
        let at = segments.partition_point(|segment| segment.end_offset() <= offset);
        let Some(segment) = segments.get(at) else {
            return Ok(fetched(Bytes::new()));
        };
        let read = || {
            let file = File::open(&segment.path)?;
            let position = segment.position_of(&file, offset)?;
            segment.read(&file, position, max_bytes)
        };
        let bytes = read().map_err(|error| {
            tracing::error!(%error, path = %segment.path.display(), "segment read failed");
            ApiError::Storage
        })?;
        Ok(fetched(bytes.into()))
    }

    /// First batch whose largest timestamp is not before `timestamp_ms`. Blocks on the disk.
    pub fn offset_for_time(&self, timestamp_ms: i64) -> Result<Option<(i64, i64)>, ApiError> {
        for segment in self.segments() {
            if segment.max_timestamp_ms() < timestamp_ms {
                continue;
            }
            let mut found = None;
            let scanned = File::open(&segment.path).and_then(|file| {
                segment.scan(&file, |header, _| {
                    if header.max_timestamp_ms >= timestamp_ms {
                        found = Some((header.base_offset, header.max_timestamp_ms));
                    }
                    found.is_none()
                })
            });
            scanned.map_err(|_| ApiError::Storage)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Bytes of all records.
    pub fn size_bytes(&self) -> u64 {
        let segments = self.segments();
        segments.iter().map(|segment| segment.size_bytes()).sum()
    }
}
