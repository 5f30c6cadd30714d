//! Record segments: append-only files of whole Kafka batches. A full one is sealed and never changes again.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use super::batch::{BatchHeader, HEADER_BYTES};

/// An index entry is made for every so many bytes.
const INDEX_INTERVAL_BYTES: u64 = 4096;

/// File name of the segment that starts at an offset.
pub fn file_name(base_offset: i64) -> String {
    format!("seg-{base_offset:020}.log")
}

#[derive(Debug, Default)]
struct Index {
    /// (first offset of a batch, where it starts), in order.
    entries: Vec<(i64, u64)>,
    /// Bytes that the entries cover.
    covered_bytes: u64,
}

/// A segment as readers see it. The writer only ever makes it longer.
#[derive(Debug)]
pub struct Segment {
    /// First offset.
    pub base_offset: i64,
    /// Where it lies.
    pub path: PathBuf,
    size_bytes: AtomicU64,
    end_offset: AtomicI64,
    max_timestamp_ms: AtomicI64,
    sealed: AtomicBool,
    index: Mutex<Index>,
}

impl Segment {
    /// A segment whose first `size_bytes` bytes may be read.
    pub fn new(
        dir: &Path,
        base_offset: i64,
        end_offset: i64,
        size_bytes: u64,
        max_timestamp_ms: i64,
    ) -> Self {
        Self {
            base_offset,
            path: dir.join(file_name(base_offset)),
            size_bytes: AtomicU64::new(size_bytes),
            end_offset: AtomicI64::new(end_offset),
            max_timestamp_ms: AtomicI64::new(max_timestamp_ms),
            sealed: AtomicBool::new(false),
            index: Mutex::default(),
        }
    }

    /// Bytes that may be read.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }

    /// Offset after the last record (exclusive).
    pub fn end_offset(&self) -> i64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Largest record timestamp, milliseconds; -1 = no record.
    pub fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp_ms.load(Ordering::Acquire)
    }

    /// Makes written bytes visible.
    pub fn publish(&self, size_bytes: u64, end_offset: i64, max_timestamp_ms: i64) {
        self.max_timestamp_ms
            .store(max_timestamp_ms, Ordering::Release);
        self.size_bytes.store(size_bytes, Ordering::Release);
        self.end_offset.store(end_offset, Ordering::Release);
    }

    /// The bytes never change again.
    pub fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// True = the bytes never change again.
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Where to start looking for `offset`: the last indexed batch that does not start after it.
    fn seek(&self, file: &File, offset: i64) -> io::Result<u64> {
        let size = self.size_bytes();
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        extend_index(&mut index, file, size)?;
        let after = index.entries.partition_point(|(base, _)| *base <= offset);
        let found = after.checked_sub(1).and_then(|at| index.entries.get(at));
        Ok(found.map_or(0, |(_, position)| *position))
    }

    /// Position of the batch that holds `offset`, which must be in this segment.
    pub fn position_of(&self, file: &File, offset: i64) -> io::Result<u64> {
        let mut position = self.seek(file, offset)?;
        let size = self.size_bytes();
        while position < size {
            let header = read_header(file, position)?;
            if header.base_offset + i64::from(header.last_offset_delta) >= offset {
                return Ok(position);
            }
            position += header.size_bytes as u64;
        }
        Ok(size)
    }

    /// Whole batches from `position` on: at most about `max_bytes`, at least one if there is one.
    pub fn read(&self, file: &File, position: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        let available = self.size_bytes().saturating_sub(position);
        if available == 0 {
            return Ok(Vec::new());
        }
        let first = read_header(file, position)?;
        let wanted = (max_bytes.max(first.size_bytes) as u64).min(available);
        let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, position)?;
        bytes.truncate(whole_batches(&bytes));
        Ok(bytes)
    }

    /// Calls `visit` with each batch header and its position.
    pub fn scan(
        &self,
        file: &File,
        mut visit: impl FnMut(BatchHeader, u64) -> bool,
    ) -> io::Result<()> {
        let size = self.size_bytes();
        let mut position = 0;
        while position < size {
            let header = read_header(file, position)?;
            if !visit(header, position) {
                break;
            }
            position += header.size_bytes as u64;
        }
        Ok(())
    }
}

fn extend_index(index: &mut Index, file: &File, size: u64) -> io::Result<()> {
    while index.covered_bytes < size {
        let position = index.covered_bytes;
        let header = read_header(file, position)?;
        let far_enough = index
            .entries
            .last()
            .is_none_or(|(_, last)| position - last >= INDEX_INTERVAL_BYTES);
        if far_enough {
            index.entries.push((header.base_offset, position));
        }
        index.covered_bytes += header.size_bytes as u64;
    }
    Ok(())
}

fn read_header(file: &File, position: u64) -> io::Result<BatchHeader> {
    let mut bytes = [0; HEADER_BYTES];
    file.read_exact_at(&mut bytes, position)?;
    BatchHeader::read(&bytes).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no record batch at byte {position}"),
        )
    })
}

/// Length of the longest prefix that consists of whole batches.
fn whole_batches(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(header) = BatchHeader::read(&bytes[end..]) {
        if end + header.size_bytes > bytes.len() {
            break;
        }
        end += header.size_bytes;
    }
    end
}
