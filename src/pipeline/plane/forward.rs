//! Raw parts to stored blocks: cut, compress in parallel, upload in order.
//!
//! Three things run side by side inside one future, nothing is spawned but bounded blocking work:
//! the reader cuts the stream into blocks and starts their compression; the writer takes finished blocks in order
//! and feeds the upload; the upload keeps a few parts in flight. Each waits for the next, so a slow store is felt
//! by whoever feeds the stream. All memory is reserved before the first byte is read.

mod encoders;
mod files;

use std::{
    error::Error,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use self::{encoders::Encoders, files::Files};
use super::{DataPlane, MemoryBudget, RawChunk, Reservation, Target, limits::reserve_shape};
use crate::{
    error::Kind,
    format::{
        BLOCK_STORED_MAX_BYTES, BlockRef, BlockSplitter, Codec, Compression, EncodedBlock,
        ExpectedPart, FormatError, Part, PartDigest, PartHasher, RawBlock,
    },
    store::StoreError,
};

/// What the broker's header says about one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPlan {
    /// Its id.
    pub part_id: String,
    /// Its bytes never change again.
    pub sealed: bool,
    /// Its raw size.
    pub size_bytes: u64,
    /// True = its bytes are not in the stream: an earlier snapshot has them.
    pub omitted: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The parts that were in the stream, in order. Their blocks count files from 0 in `files`.
    pub parts: Vec<Part>,
    /// Names of the `.snap` files in the folder, in order. Empty when every part was omitted.
    pub files: Vec<String>,
    /// Raw bytes read.
    pub raw_bytes: u64,
    /// Stored bytes written.
    pub stored_bytes: u64,
}

/// Why nothing was written. `E` is the error of the input stream.
#[derive(Debug, Error)]
pub enum WriteError<E: Error + Send + Sync + 'static> {
    /// The input stream failed.
    #[error("the snapshot stream failed")]
    Input(#[source] E),
    /// The input does not fit its header, or a block could not be compressed.
    #[error("the snapshot stream does not fit its header")]
    Format(#[from] FormatError),
    /// The store failed.
    #[error("writing to the store failed")]
    Store(#[from] StoreError),
    /// A worker thread panicked.
    #[error("a worker thread failed")]
    Worker(#[source] tokio::task::JoinError),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl<E: Error + Send + Sync + 'static> WriteError<E> {
    /// What the caller must do; `of_input` tells it for the input's own errors.
    pub fn kind(&self, of_input: impl FnOnce(&E) -> Kind) -> Kind {
        match self {
            Self::Input(error) => of_input(error),
            Self::Format(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Worker(_) => Kind::Internal,
            Self::Cancelled => Kind::Cancelled,
        }
    }
}

/// Compresses and uploads one snapshot's blocks.
///
/// `frames` gives the bytes of the parts that are not omitted, in the order of `parts`, and is read to its end, so
/// it can check a trailer and fail at the last moment. On success every file is complete and durable, and nothing
/// refers to it yet. On an error or on cancellation the upload is aborted (within the store's metadata deadline)
/// and no file is left, as far as the store still answers. Dropping the future instead leaves the parts to the
/// bucket's lifecycle rule.
///
/// Memory: reserved from `plane.budget` before the first byte is read, the same whatever the snapshot's size.
pub async fn write_blocks<S, E>(
    plane: &DataPlane,
    target: Target,
    compression: Compression,
    parts: &[PartPlan],
    frames: S,
    cancel: &CancellationToken,
) -> Result<Written, WriteError<E>>
where
    S: Stream<Item = Result<RawChunk, E>>,
    E: Error + Send + Sync + 'static,
{
    let mut files = Files::new(target, expected_bytes(parts), plane.file_max_bytes);
    let work = run(plane, compression, parts, frames, &mut files);
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(WriteError::Cancelled),
        result = work => result,
    };
    if result.is_err() {
        files.discard().await;
    }
    result
}

/// The reader and the writer side by side, then the end of the upload.
async fn run<S, E>(
    plane: &DataPlane,
    compression: Compression,
    header: &[PartPlan],
    frames: S,
    files: &mut Files,
) -> Result<Written, WriteError<E>>
where
    S: Stream<Item = Result<RawChunk, E>>,
    E: Error + Send + Sync + 'static,
{
    let room = Room {
        workers: plane.workers.count(),
        codec: compression.codec(),
        total_bytes: expected_bytes(header),
        part_size_bytes: files.part_size_bytes(),
        parts_in_flight_max: files.parts_in_flight_max(),
    };
    let (shape, slots) = room.reserve(&plane.budget).await;
    files.limit_parts_in_flight(shape.parts_in_flight);
    let (to_writer, from_reader) = mpsc::channel(slots.count);
    let mut parts: Vec<_> = header
        .iter()
        .filter(|plan| !plan.omitted)
        .map(empty_part)
        .collect();
    let reader = Reader {
        plane,
        encoders: Encoders::new(compression),
        slots,
        to_writer,
        digests: Digests::default(),
        read: Arc::default(),
    };
    let (digests, ()) = tokio::try_join!(
        reader.run(frames, header),
        write_in_order(plane, from_reader, files, &mut parts),
    )?;
    for (part, digest) in parts.iter_mut().zip(digests) {
        part.digest = digest;
    }
    let stored_bytes = files.finish().await?;
    Ok(Written {
        raw_bytes: parts.iter().map(|part| part.digest.size_bytes).sum(),
        parts,
        files: files.names(),
        stored_bytes,
    })
}

fn empty_part(plan: &PartPlan) -> Part {
    Part {
        part_id: plan.part_id.clone(),
        sealed: plan.sealed,
        digest: PartHasher::new().finish(),
        blocks: Vec::new(),
    }
}

/// Raw bytes of the parts that will come.
pub fn expected_bytes(plans: &[PartPlan]) -> u64 {
    plans
        .iter()
        .filter(|plan| !plan.omitted)
        .fold(0, |sum, plan| sum.saturating_add(plan.size_bytes))
}

/// How wide a run is.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Blocks between the reader and the upload.
    slots: usize,
    /// Parts of the upload that are on their way.
    parts_in_flight: usize,
}

/// What decides how much memory a shape needs.
struct Room {
    workers: usize,
    codec: Codec,
    total_bytes: u64,
    part_size_bytes: u64,
    parts_in_flight_max: usize,
}

impl Room {
    /// Reserves memory for as wide a run as is useful and possible.
    async fn reserve(&self, budget: &MemoryBudget) -> (Shape, Slots) {
        // Each worker has a block, one waits for a worker, one for the upload; with less room, fewer blocks first.
        let parts_in_flight = self.parts_in_flight_max;
        let fewer_blocks = (1..=self.workers + 2).rev().map(|slots| Shape {
            slots,
            parts_in_flight,
        });
        let fewer_parts = (1..parts_in_flight).rev().map(|parts_in_flight| Shape {
            slots: 1,
            parts_in_flight,
        });
        let narrowest = Shape {
            slots: 1,
            parts_in_flight: 1,
        };
        let shapes = fewer_blocks.chain(fewer_parts);
        let need = |shape| self.need_bytes(shape);
        let (shape, memory) = reserve_shape(budget, shapes, narrowest, need).await;
        let slots = Slots {
            free: Arc::new(Semaphore::new(shape.slots)),
            count: shape.slots,
            memory: Arc::new(memory),
        };
        (shape, slots)
    }

    /// The block being filled, those on their way, an output buffer a busy worker, and the upload's parts.
    fn need_bytes(&self, shape: Shape) -> u64 {
        let block_bytes = u64::from(BLOCK_STORED_MAX_BYTES).min(self.total_bytes);
        let outputs = match self.codec {
            Codec::None => 0,
            Codec::Gzip | Codec::Zstd => self.workers.min(shape.slots),
        };
        let upload_bytes = Files::buffer_bytes(self.part_size_bytes, shape.parts_in_flight);
        let upload_bytes = upload_bytes.min(self.total_bytes.saturating_add(block_bytes));
        block_bytes * (shape.slots + 1 + outputs) as u64 + upload_bytes
    }
}

/// Room for blocks between the reader and the upload.
struct Slots {
    free: Arc<Semaphore>,
    count: usize,
    memory: Arc<Reservation>,
}

/// A block on its way to the writer.
struct Pending {
    /// Position among the parts that are not omitted.
    part: usize,
    encoded: JoinHandle<Result<EncodedBlock, FormatError>>,
    slot: Option<OwnedSemaphorePermit>,
}

/// Cuts the stream into blocks and starts their compression.
struct Reader<'a> {
    plane: &'a DataPlane,
    encoders: Encoders,
    slots: Slots,
    to_writer: mpsc::Sender<Pending>,
    digests: Digests,
    /// Blocks that are compressed: their buffers are used again.
    read: Arc<Mutex<Vec<Bytes>>>,
}

impl Reader<'_> {
    async fn run<S, E>(
        mut self,
        frames: S,
        header: &[PartPlan],
    ) -> Result<Vec<PartDigest>, WriteError<E>>
    where
        S: Stream<Item = Result<RawChunk, E>>,
        E: Error + Send + Sync + 'static,
    {
        let mut frames = pin!(frames);
        let mut splitter = BlockSplitter::new(expected_parts(header));
        let mut blocks = Vec::new();
        while let Some(frame) = frames.next().await {
            let RawChunk { part, data } = frame.map_err(WriteError::Input)?;
            let raw_bytes = data.len() as u64;
            self.plane.rates.export.take(raw_bytes).await;
            self.plane.rates.pace.take(raw_bytes).await;
            for read in std::mem::take(&mut *lock(&self.read)) {
                splitter.reuse(read);
            }
            splitter.push(part, data, &mut blocks)?;
            for block in blocks.drain(..) {
                self.start(block).await?;
            }
        }
        splitter.finish(&mut blocks)?;
        for block in blocks {
            self.start(block).await?;
        }
        Ok(self.digests.finish())
    }

    /// Waits for room and for a worker, then starts the compression of one block.
    async fn start<E: Error + Send + Sync + 'static>(
        &mut self,
        block: RawBlock,
    ) -> Result<(), WriteError<E>> {
        let slot = Arc::clone(&self.slots.free).acquire_owned().await.ok();
        let part = self.digests.add(&block);
        let encoders = self.encoders.clone();
        // The work outlives a cancelled snapshot by one block; so does its memory.
        let (memory, read) = (Arc::clone(&self.slots.memory), Arc::clone(&self.read));
        let work = move || {
            let encoded = encoders.encode(&block.data);
            lock(&read).push(block.data);
            drop(memory);
            encoded
        };
        let encoded = self.plane.workers.start(work).await;
        let pending = Pending {
            part,
            encoded,
            slot,
        };
        // The writer leaves only with an error of its own, which is the one that is told.
        let sent = self.to_writer.send(pending).await;
        sent.map_err(|_| WriteError::Cancelled)
    }
}

fn lock(read: &Mutex<Vec<Bytes>>) -> MutexGuard<'_, Vec<Bytes>> {
    read.lock().unwrap_or_else(PoisonError::into_inner)
}

fn expected_parts(plans: &[PartPlan]) -> Vec<ExpectedPart> {
    (0_u32..)
        .zip(plans)
        .filter(|(_, plan)| !plan.omitted)
        .map(|(part, plan)| ExpectedPart {
            part,
            size_bytes: plan.size_bytes,
        })
        .collect()
}

/// Takes finished blocks in order and feeds the upload.
async fn write_in_order<E: Error + Send + Sync + 'static>(
    plane: &DataPlane,
    mut from_reader: mpsc::Receiver<Pending>,
    files: &mut Files,
    parts: &mut [Part],
) -> Result<(), WriteError<E>> {
    while let Some(pending) = from_reader.recv().await {
        let EncodedBlock {
            stored,
            raw_len_bytes,
            crc32,
        } = pending.encoded.await.map_err(WriteError::Worker)??;
        let stored_len = stored.len() as u64;
        plane.rates.upload.take(stored_len).await;
        let put = files.append(stored).await?;
        let block = BlockRef {
            file: put.file,
            offset_bytes: put.offset_bytes,
            stored_len_bytes: put.stored_len_bytes,
            raw_len_bytes,
            crc32,
        };
        parts[pending.part].blocks.push(block);
        drop(pending.slot);
    }
    Ok(())
}

/// Digests of the parts, over their blocks in order.
#[derive(Debug, Default)]
struct Digests {
    done: Vec<PartDigest>,
    current: Option<(u32, PartHasher)>,
}

impl Digests {
    /// Adds a block; returns its part's position among the parts that came.
    fn add(&mut self, block: &RawBlock) -> usize {
        match &mut self.current {
            Some((part, hasher)) if *part == block.part => hasher.update(&block.data),
            _ => {
                let mut hasher = PartHasher::new();
                hasher.update(&block.data);
                let before = self.current.replace((block.part, hasher));
                self.done.extend(before.map(|(_, hasher)| hasher.finish()));
            }
        }
        self.done.len()
    }

    fn finish(self) -> Vec<PartDigest> {
        let Self { mut done, current } = self;
        done.extend(current.map(|(_, hasher)| hasher.finish()));
        done
    }
}
