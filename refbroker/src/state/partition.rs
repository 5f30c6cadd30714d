//! The state machine of a partition: appends batches to segments, assigns offsets, recognises retries.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

use super::{
    STATE_PART, StateError,
    batch::{self, BatchHeader},
    pin::{PartSource, PinnedPart},
    producers::{Producers, Verdict},
    segment::{Segment, file_name},
    view::PartitionView,
};
use crate::{
    api::{ApiError, Appended},
    crash,
    proto::peer::{PartitionState, SealedSegment},
};

/// Applied batches are written out at the latest when so many bytes wait.
const WRITE_BYTES: usize = 1 << 20;

struct Tail {
    segment: Arc<Segment>,
    file: File,
    /// Bytes in the file.
    written_bytes: u64,
    /// Applied, not in the file yet.
    buffer: Vec<u8>,
    max_timestamp_ms: i64,
    hasher: Xxh3,
}

/// The writer's side. Owned by the driver.
pub struct PartitionMachine {
    dir: PathBuf,
    segment_bytes: u64,
    sealed: Vec<SealedSegment>,
    tail: Tail,
    next_offset: i64,
    log_start_offset: i64,
    producers: Producers,
    view: Arc<PartitionView>,
    /// Files with bytes that are not flushed.
    dirty: BTreeSet<PathBuf>,
}

impl PartitionMachine {
    /// Makes the state of an empty partition in `dir`, which exists.
    pub fn create(dir: &Path, segment_bytes: u64) -> Result<Self, StateError> {
        let state = PartitionState {
            tail_max_timestamp_ms: -1,
            ..PartitionState::default()
        };
        let path = dir.join(file_name(0));
        File::create(&path).map_err(StateError::io(&path))?;
        Self::open(dir, segment_bytes, &state.encode_to_vec(), None)
    }

    /// Opens the state that `state_part` describes; bytes and files beyond it are dropped. With `view`, its readers
    /// see the new state.
    pub fn open(
        dir: &Path,
        segment_bytes: u64,
        state_part: &[u8],
        view: Option<Arc<PartitionView>>,
    ) -> Result<Self, StateError> {
        let state = PartitionState::decode(state_part)
            .map_err(|_| StateError::corrupt(dir, "state part does not decode"))?;
        let mut segments = Vec::with_capacity(state.sealed.len() + 1);
        for sealed in &state.sealed {
            let segment = Segment::new(
                dir,
                sealed.base_offset,
                sealed.end_offset,
                sealed.size_bytes,
                sealed.max_timestamp_ms,
            );
            let metadata = fs::metadata(&segment.path).map_err(StateError::io(&segment.path))?;
            // What follows the sealed bytes was written by an apply that the checkpoint did not see.
            if metadata.len() < sealed.size_bytes {
                return Err(StateError::corrupt(
                    &segment.path,
                    "sealed segment is too short",
                ));
            }
            segment.seal();
            segments.push(Arc::new(segment));
        }
        let tail = open_tail(dir, &state)?;
        segments.push(tail.segment.clone());
        remove_strangers(dir, &segments)?;
        let view = view.unwrap_or_else(|| Arc::new(PartitionView::new(state.log_start_offset)));
        view.replace(segments, state.next_offset);
        Ok(Self {
            dir: dir.to_owned(),
            segment_bytes,
            sealed: state.sealed,
            tail,
            next_offset: state.next_offset,
            log_start_offset: state.log_start_offset,
            producers: Producers::from_proto(&state.producers, state.producers_pruned),
            view,
            dirty: BTreeSet::new(),
        })
    }

    /// The readers' side.
    pub fn view(&self) -> &Arc<PartitionView> {
        &self.view
    }

    /// Applies one entry. The outcome depends only on the state and the entry.
    pub fn apply(
        &mut self,
        index: u64,
        term: u64,
        data: &[u8],
    ) -> Result<Result<Appended, ApiError>, StateError> {
        let Some(header) = BatchHeader::read_whole(data) else {
            return Ok(Err(ApiError::CorruptBatch));
        };
        let appended = |base_offset| Appended {
            base_offset,
            log_start_offset: self.log_start_offset,
        };
        let base_offset = match self.producers.check(&header) {
            Ok(Verdict::Duplicate(base_offset)) => return Ok(Ok(appended(base_offset))),
            Err(refused) => return Ok(Err(refused)),
            Ok(Verdict::New) => self.next_offset,
        };
        let outcome = appended(base_offset);
        let start = self.tail.buffer.len();
        self.tail.buffer.extend_from_slice(data);
        let placed = &mut self.tail.buffer[start..];
        batch::place(placed, base_offset, i32::try_from(term).unwrap_or(i32::MAX));
        self.tail.hasher.update(placed);
        self.tail.max_timestamp_ms = self.tail.max_timestamp_ms.max(header.max_timestamp_ms);
        self.next_offset = base_offset + i64::from(header.last_offset_delta) + 1;
        self.producers.record(&header, base_offset, index);
        if self.tail.written_bytes + self.tail.buffer.len() as u64 >= self.segment_bytes {
            self.seal_tail()?;
        } else if self.tail.buffer.len() >= WRITE_BYTES {
            self.write_tail()?;
        }
        Ok(Ok(outcome))
    }

    /// Makes everything that was applied visible to readers.
    pub fn publish(&mut self) -> Result<(), StateError> {
        self.write_tail()?;
        self.view.advance(self.next_offset);
        Ok(())
    }

    fn write_tail(&mut self) -> Result<(), StateError> {
        let tail = &mut self.tail;
        if tail.buffer.is_empty() {
            return Ok(());
        }
        let path = &tail.segment.path;
        tail.file
            .write_all_at(&tail.buffer, tail.written_bytes)
            .map_err(StateError::io(path))?;
        if !self.dirty.contains(path) {
            self.dirty.insert(path.clone());
        }
        tail.written_bytes += tail.buffer.len() as u64;
        tail.buffer.clear();
        tail.segment
            .publish(tail.written_bytes, self.next_offset, tail.max_timestamp_ms);
        Ok(())
    }

    fn seal_tail(&mut self) -> Result<(), StateError> {
        self.write_tail()?;
        crash::point("segment.full");
        self.tail.segment.seal();
        self.sealed.push(SealedSegment {
            base_offset: self.tail.segment.base_offset,
            end_offset: self.next_offset,
            size_bytes: self.tail.written_bytes,
            xxh3_128: self.tail.hasher.digest128().to_be_bytes().to_vec().into(),
            max_timestamp_ms: self.tail.max_timestamp_ms,
        });
        let segment = Arc::new(Segment::new(
            &self.dir,
            self.next_offset,
            self.next_offset,
            0,
            -1,
        ));
        let file = File::create(&segment.path).map_err(StateError::io(&segment.path))?;
        self.dirty.insert(segment.path.clone());
        self.view.push(segment.clone());
        self.tail = Tail {
            segment,
            file,
            written_bytes: 0,
            buffer: Vec::new(),
            max_timestamp_ms: -1,
            hasher: Xxh3::new(),
        };
        crash::point("segment.rolled");
        Ok(())
    }

    /// The state part: everything but the records.
    pub fn state_part(&self) -> Bytes {
        let (producers, producers_pruned) = self.producers.to_proto();
        let state = PartitionState {
            log_start_offset: self.log_start_offset,
            next_offset: self.next_offset,
            sealed: self.sealed.clone(),
            tail_base_offset: self.tail.segment.base_offset,
            tail_size_bytes: self.tail.written_bytes + self.tail.buffer.len() as u64,
            tail_max_timestamp_ms: self.tail.max_timestamp_ms,
            producers,
            producers_pruned,
        };
        state.encode_to_vec().into()
    }

    /// Files to flush before [`PartitionMachine::state_part`] may be named; they count as clean from now on.
    pub fn take_dirty(&mut self) -> Result<Vec<PathBuf>, StateError> {
        self.write_tail()?;
        Ok(std::mem::take(&mut self.dirty).into_iter().collect())
    }

    /// The flush failed or was given up.
    pub fn put_back_dirty(&mut self, files: Vec<PathBuf>) {
        self.dirty.extend(files);
    }

    /// The parts of an export at this moment: sealed segments, the tail up to its present length, the state part.
    pub fn pin(&mut self) -> Result<Vec<PinnedPart>, StateError> {
        self.write_tail()?;
        let mut parts = Vec::with_capacity(self.sealed.len() + 2);
        for sealed in &self.sealed {
            parts.push(PinnedPart {
                part_id: sealed_part_id(sealed),
                sealed: true,
                source: PartSource::File {
                    path: self.dir.join(file_name(sealed.base_offset)),
                    size_bytes: sealed.size_bytes,
                },
            });
        }
        if self.tail.written_bytes > 0 {
            parts.push(PinnedPart {
                part_id: tail_part_id(self.tail.segment.base_offset),
                sealed: false,
                source: PartSource::File {
                    path: self.tail.segment.path.clone(),
                    size_bytes: self.tail.written_bytes,
                },
            });
        }
        parts.push(PinnedPart {
            part_id: STATE_PART.to_owned(),
            sealed: false,
            source: PartSource::Bytes(self.state_part()),
        });
        Ok(parts)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Part id of a sealed segment: changes if its bytes do.
pub fn sealed_part_id(sealed: &SealedSegment) -> String {
    format!("seg-{:020}-{}", sealed.base_offset, hex(&sealed.xxh3_128))
}

/// Part id of the segment being written.
pub fn tail_part_id(base_offset: i64) -> String {
    format!("tail-{base_offset:020}")
}

fn open_tail(dir: &Path, state: &PartitionState) -> Result<Tail, StateError> {
    let segment = Segment::new(
        dir,
        state.tail_base_offset,
        state.next_offset,
        state.tail_size_bytes,
        state.tail_max_timestamp_ms,
    );
    let path = &segment.path;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(state.tail_size_bytes == 0)
        .truncate(false)
        .open(path)
        .map_err(StateError::io(path))?;
    let present = file.metadata().map_err(StateError::io(path))?.len();
    if present < state.tail_size_bytes {
        return Err(StateError::corrupt(path, "segment is too short"));
    }
    file.set_len(state.tail_size_bytes)
        .map_err(StateError::io(path))?;
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    let mut position = 0;
    while position < state.tail_size_bytes {
        let left = usize::try_from(state.tail_size_bytes - position).unwrap_or(usize::MAX);
        let piece = left.min(buffer.len());
        file.read_exact_at(&mut buffer[..piece], position)
            .map_err(StateError::io(path))?;
        hasher.update(&buffer[..piece]);
        position += piece as u64;
    }
    Ok(Tail {
        file,
        written_bytes: state.tail_size_bytes,
        buffer: Vec::new(),
        max_timestamp_ms: state.tail_max_timestamp_ms,
        hasher,
        segment: Arc::new(segment),
    })
}

/// Removes segment files that the state does not name: applied after the checkpoint, and replayed now.
fn remove_strangers(dir: &Path, segments: &[Arc<Segment>]) -> Result<(), StateError> {
    let known: BTreeSet<&Path> = segments
        .iter()
        .map(|segment| segment.path.as_path())
        .collect();
    for entry in fs::read_dir(dir).map_err(StateError::io(dir))? {
        let path = entry.map_err(StateError::io(dir))?.path();
        let is_segment = path.extension().is_some_and(|extension| extension == "log");
        if is_segment && !known.contains(path.as_path()) {
            fs::remove_file(&path).map_err(StateError::io(&path))?;
        }
    }
    Ok(())
}
