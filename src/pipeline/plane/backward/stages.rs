//! Fetch, check or decode, hand on: the stages that restoring and verifying share.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::Instant,
};

use super::{
    ReadError, Sink,
    windows::{At, WINDOW_MAX_BYTES, Window, windows},
};
use crate::{
    board::Progress,
    format::{
        BLOCK_MAX_BYTES, BlockDecoder, BlockRef, Codec, Decoded, FormatError, Manifest,
        check_stored,
    },
    pipeline::plane::{
        Folder, MemoryBudget, RateLimit, Reservation, Workers,
        ahead::Ahead,
        buffers::{Buffer, Buffers},
        busy::{Busy, UnderWay},
        limits::reserve_shape,
    },
};

/// Most windows that are read at a time.
const READ_AHEAD: usize = 3;

/// How far each block is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pipeline) enum Depth {
    /// Stored length and CRC.
    Stored,
    /// As `Stored`, and decompressed.
    Decode,
}

/// What is to be read.
pub(in crate::pipeline) struct Job<'a> {
    /// The memory that it is held in.
    pub(in crate::pipeline) budget: &'a MemoryBudget,
    /// The threads that work on it.
    pub(in crate::pipeline) workers: &'a Workers,
    pub(in crate::pipeline) folder: &'a Folder,
    pub(in crate::pipeline) manifest: &'a Arc<Manifest>,
    /// Positions of the parts, in order.
    pub(in crate::pipeline) parts: Vec<usize>,
    pub(in crate::pipeline) depth: Depth,
    /// Bandwidth of the reads.
    pub(in crate::pipeline) rate: &'a RateLimit,
    /// Knows how long something was read or worked on.
    pub(in crate::pipeline) busy: Busy,
    /// Raw blocks in flight lie in these.
    pub(in crate::pipeline) buffers: Buffers,
    /// Is told of every block that was handed on.
    pub(in crate::pipeline) progress: &'a Progress,
}

/// A block on its way to `sink`.
struct Pending {
    at: At,
    checked: JoinHandle<Result<Bytes, FormatError>>,
    slot: Option<OwnedSemaphorePermit>,
    busy: UnderWay,
}

/// Reads the parts of `job` and hands the raw bytes of each block to `sink` in order; with [`Depth::Stored`] nothing.
/// How long it took; the wait for memory is left out, and so are waits for the limit on bandwidth.
pub(in crate::pipeline) async fn run(
    job: Job<'_>,
    sink: &mut Sink<'_>,
) -> Result<Duration, ReadError> {
    let (shape, memory) = job.reserve().await;
    let begun = Instant::now();
    let memory = Arc::new(memory);
    let (to_sink, from_workers) = mpsc::channel(shape.slots);
    let free = Arc::new(Semaphore::new(shape.slots));
    tokio::try_join!(
        job.fetch(shape.ahead, &free, &memory, to_sink),
        job.hand_on(from_workers, sink),
    )?;
    Ok(if job.rate.is_limited() {
        job.busy.total()
    } else {
        begun.elapsed()
    })
}

/// How wide a run is.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Blocks between the windows and the sink.
    slots: usize,
    /// Windows that are read at a time.
    ahead: usize,
}

impl Job<'_> {
    /// Reserves memory for as wide a run as is useful and possible.
    async fn reserve(&self) -> (Shape, Reservation) {
        let ahead = READ_AHEAD;
        let fewer_blocks = (1..=self.workers.count() + 1)
            .rev()
            .map(|slots| Shape { slots, ahead });
        let fewer_windows = (1..READ_AHEAD).rev().map(|ahead| Shape { slots: 1, ahead });
        let narrowest = Shape { slots: 1, ahead: 1 };
        let extents = self.manifest.file_extents();
        let stored_bytes = extents.iter().map(|extent| extent.end_bytes).sum();
        let need = |shape| self.need_bytes(shape, stored_bytes);
        let shapes = fewer_blocks.chain(fewer_windows);
        reserve_shape(self.budget, shapes, narrowest, need).await
    }

    /// Windows being read and one being worked on, and room for each block that waits to be handed on.
    fn need_bytes(&self, shape: Shape, stored_bytes: u64) -> u64 {
        let windows = (WINDOW_MAX_BYTES * (shape.ahead as u64 + 1)).min(stored_bytes);
        let decoded = match (self.depth, self.manifest.codec) {
            (Depth::Stored, _) | (_, Codec::None) => 0,
            (Depth::Decode, Codec::Gzip | Codec::Zstd) => {
                (u64::from(BLOCK_MAX_BYTES) * shape.slots as u64).min(self.manifest.raw_bytes())
            }
        };
        windows + decoded
    }

    /// Reads windows ahead, in order, and starts the work on their blocks.
    async fn fetch(
        &self,
        ahead: usize,
        free: &Arc<Semaphore>,
        memory: &Arc<Reservation>,
        to_sink: mpsc::Sender<Pending>,
    ) -> Result<(), ReadError> {
        let mut rest = windows(self.manifest, self.parts.iter().copied());
        let mut reads = Ahead::new();
        loop {
            while reads.len() < ahead
                && let Some(window) = rest.next()
            {
                let file = self.manifest.references[window.file as usize].clone();
                let (folder, rate, busy) =
                    (self.folder.clone(), self.rate.clone(), self.busy.clone());
                reads.start(async move {
                    rate.take(window.len_bytes()).await;
                    let busy = busy.begin();
                    let read = read(folder, file, window).await;
                    read.map(|(window, bytes)| (window, bytes, busy))
                });
            }
            let Some(answer) = reads.next().await else {
                return Ok(());
            };
            let (window, bytes, _busy) = answer.map_err(ReadError::Worker)??;
            for at in window.blocks {
                let slot = Arc::clone(free).acquire_owned().await.ok();
                let start = at.of(self.manifest).offset_bytes - window.bytes.start;
                let rest = bytes.slice(usize::try_from(start).unwrap_or(usize::MAX)..);
                let pending = self.start(at, &rest, slot, memory).await;
                if to_sink.send(pending).await.is_err() {
                    // The sink leaves only with an error of its own, which is the one that is told.
                    return Err(ReadError::ReceiverGone);
                }
            }
        }
    }

    /// Starts the work on one block, whose stored bytes are at the front of `rest`.
    async fn start(
        &self,
        at: At,
        rest: &Bytes,
        slot: Option<OwnedSemaphorePermit>,
        memory: &Arc<Reservation>,
    ) -> Pending {
        let block = at.of(self.manifest);
        let stored = rest.slice(..block.stored_len_bytes as usize);
        let decoded_bytes = match (self.depth, self.manifest.codec) {
            (Depth::Stored, _) | (_, Codec::None) => 0,
            (Depth::Decode, Codec::Gzip | Codec::Zstd) => block.raw_len_bytes as usize,
        };
        let buffer = self.buffers.take(decoded_bytes);
        let (codec, depth, memory) = (self.manifest.codec, self.depth, Arc::clone(memory));
        let work = move || {
            // The work outlives a cancelled run by one block; so does its memory.
            let _memory = memory;
            match depth {
                Depth::Stored => check_stored(&stored, &block).map(|()| Bytes::new()),
                Depth::Decode => decode(codec, stored, &block, buffer),
            }
        };
        Pending {
            at,
            checked: self.workers.start(work).await,
            slot,
            busy: self.busy.begin(),
        }
    }

    /// Waits for each block in order and gives it to the sink.
    async fn hand_on(
        &self,
        mut from_workers: mpsc::Receiver<Pending>,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        while let Some(pending) = from_workers.recv().await {
            let Pending {
                at,
                checked,
                slot,
                busy,
            } = pending;
            let checked = checked.await.map_err(ReadError::Worker)?;
            let raw = checked.map_err(|source| ReadError::damage(self.manifest, at, source))?;
            if self.depth == Depth::Decode {
                sink.take(at.part, raw).await?;
            }
            self.progress.add(at.of(self.manifest).raw_len_bytes.into());
            drop((slot, busy));
        }
        Ok(())
    }
}

fn decode(
    codec: Codec,
    stored: Bytes,
    block: &BlockRef,
    mut buffer: Buffer,
) -> Result<Bytes, FormatError> {
    let mut decoder = BlockDecoder::new(codec)?;
    match decoder.decode_into(&stored, block, &mut buffer.bytes)? {
        Decoded::InPlace => Ok(stored),
        Decoded::InBuffer => Ok(buffer.freeze()),
    }
}

async fn read(folder: Folder, file: String, window: Window) -> Result<(Window, Bytes), ReadError> {
    let read = async {
        let key = folder.key(&file)?;
        folder.store.get_range(&key, window.bytes.clone()).await
    };
    match read.await {
        Ok(bytes) => Ok((window, bytes)),
        Err(source) => Err(ReadError::of_store(&file, source)),
    }
}
