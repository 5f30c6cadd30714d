//! Stored blocks back to raw parts: read ahead in large ranges, check, decompress in parallel, deliver in order.
//!
//! Three things run side by side inside one future: the fetcher reads windows of consecutive blocks, a few at a
//! time; the workers check and decompress; the deliverer hands chunks on in order and checks each part's digest at
//! its end. Each waits for the next, so a slow receiver is felt by the store. All memory is reserved before the
//! first byte is read.
//!
//! The receiver may see bytes of a part whose digest later turns out wrong: nothing it was given counts before
//! [`read_blocks`] has returned Ok.

mod stages;
mod windows;

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(super) use self::{
    stages::{Depth, Job, run},
    windows::{At, blocks_of},
};
use super::{CHUNK_MAX_BYTES, DataPlane, Folder, RawChunk, buffers::Buffers, busy::Busy};
use crate::{
    error::Kind,
    format::{FormatError, Manifest, PartHasher},
    mutation::{self, Mutation},
    store::StoreError,
};

/// The first damage or failure found while reading a snapshot.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A `.snap` that the manifest names does not exist.
    #[error("{file} does not exist")]
    Gone {
        /// Name of the file.
        file: String,
    },
    /// A `.snap` does not have the size that the manifest's blocks give it.
    #[error("{file} has {found_bytes} bytes, its manifest needs {expected_bytes}")]
    FileSize {
        /// Name of the file.
        file: String,
        /// Size by the manifest; a lower bound for a file of an earlier snapshot.
        expected_bytes: u64,
        /// Size in the store.
        found_bytes: u64,
    },
    /// A block is damaged.
    #[error("{file}: block {block} of part {part_id}, at byte {offset_bytes}")]
    Block {
        /// Name of the file.
        file: String,
        /// The part.
        part_id: String,
        /// Number of the block in the part, from 0.
        block: usize,
        /// Where it starts in the file.
        offset_bytes: u64,
        /// What is wrong.
        #[source]
        source: Box<FormatError>,
    },
    /// The blocks of a part are sound and do not add up to the part.
    #[error("part {part_id}, whose blocks are sound")]
    Part {
        /// The part.
        part_id: String,
        /// What is wrong.
        #[source]
        source: Box<FormatError>,
    },
    /// The store failed.
    #[error("reading {file}")]
    Store {
        /// Name of the file.
        file: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The receiver of the chunks is gone.
    #[error("the receiver left")]
    ReceiverGone,
    /// A worker thread panicked.
    #[error("a worker thread failed")]
    Worker(#[source] tokio::task::JoinError),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl ReadError {
    /// What the caller must do. A file that is gone may also mean that the snapshot was retired meanwhile.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Gone { .. } | Self::FileSize { .. } | Self::Block { .. } | Self::Part { .. } => {
                Kind::Corrupt
            }
            Self::Store { source, .. } => source.kind(),
            Self::ReceiverGone | Self::Cancelled => Kind::Cancelled,
            Self::Worker(_) => Kind::Internal,
        }
    }

    pub(super) fn damage(manifest: &Manifest, at: At, source: FormatError) -> Self {
        let block = at.of(manifest);
        Self::Block {
            file: manifest.references[block.file as usize].clone(),
            part_id: manifest.parts[at.part].part_id.clone(),
            block: at.block,
            offset_bytes: block.offset_bytes,
            source: Box::new(source),
        }
    }

    pub(super) fn of_store(file: &str, source: StoreError) -> Self {
        let file = file.to_owned();
        match source {
            StoreError::NotFound { .. } => Self::Gone { file },
            StoreError::Short {
                expected_bytes,
                found_bytes,
                ..
            } => Self::FileSize {
                file,
                expected_bytes,
                found_bytes,
            },
            source => Self::Store { file, source },
        }
    }
}

/// Reads a whole snapshot and delivers its raw bytes in part order, in chunks of at most
/// [`CHUNK_MAX_BYTES`]. An empty part delivers nothing. The sender is dropped on return.
///
/// Run it beside the receiver, in one task or two. Returns the raw bytes delivered. Memory: reserved from
/// `plane.restore_budget` before the first byte is read; chunks in the channel come on top, at most one block for every
/// four places.
pub async fn read_blocks(
    plane: &DataPlane,
    folder: &Folder,
    manifest: &Arc<Manifest>,
    deliver: mpsc::Sender<RawChunk>,
    cancel: &CancellationToken,
) -> Result<u64, ReadError> {
    let parts = (0..manifest.parts.len()).collect();
    read_parts(plane, folder, manifest, parts, deliver, cancel).await
}

/// As [`read_blocks`], of the parts at these positions only, in this order.
pub async fn read_parts(
    plane: &DataPlane,
    folder: &Folder,
    manifest: &Arc<Manifest>,
    parts: Vec<usize>,
    deliver: mpsc::Sender<RawChunk>,
    cancel: &CancellationToken,
) -> Result<u64, ReadError> {
    let job = Job {
        budget: &plane.restore_budget,
        workers: &plane.restore_workers,
        folder,
        manifest,
        parts,
        depth: Depth::Decode,
        rate: &plane.rates.read,
        busy: Busy::default(),
        buffers: Buffers::default(),
        progress: &plane.read,
    };
    let mut sink = Sink::new(manifest, Some(deliver));
    let elapsed = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(ReadError::Cancelled),
        result = run(job, &mut sink) => result?,
    };
    let raw_bytes = sink.finish()?;
    plane.restore_speed.note(raw_bytes, elapsed);
    Ok(raw_bytes)
}

/// Where blocks go: checked against their part's digest, and on to a receiver if there is one.
pub(super) struct Sink<'a> {
    manifest: &'a Manifest,
    deliver: Option<mpsc::Sender<RawChunk>>,
    raw_bytes: u64,
    current: Option<(usize, PartHasher)>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(manifest: &'a Manifest, deliver: Option<mpsc::Sender<RawChunk>>) -> Self {
        Self {
            manifest,
            deliver,
            raw_bytes: 0,
            current: None,
        }
    }

    /// Takes the next block of `part`; the first block of another part ends the one before.
    pub(super) async fn take(&mut self, part: usize, raw: Bytes) -> Result<(), ReadError> {
        match &mut self.current {
            Some((current, hasher)) if *current == part => hasher.update(&raw),
            _ => {
                self.end_part()?;
                let mut hasher = PartHasher::new();
                hasher.update(&raw);
                self.current = Some((part, hasher));
            }
        }
        self.raw_bytes += raw.len() as u64;
        match &self.deliver {
            Some(deliver) => send(deliver, part, raw).await,
            None => Ok(()),
        }
    }

    /// Ends the last part; the raw bytes of all parts.
    pub(super) fn finish(mut self) -> Result<u64, ReadError> {
        self.end_part()?;
        Ok(self.raw_bytes)
    }

    fn end_part(&mut self) -> Result<(), ReadError> {
        let Some((part, hasher)) = self.current.take() else {
            return Ok(());
        };
        let part = &self.manifest.parts[part];
        let found = hasher.finish();
        if found == part.digest || mutation::active(Mutation::ReadWithoutDigests) {
            return Ok(());
        }
        Err(ReadError::Part {
            part_id: part.part_id.clone(),
            source: Box::new(FormatError::PartDigest {
                part_id: part.part_id.clone(),
                expected: Box::new(part.digest),
                found: Box::new(found),
            }),
        })
    }
}

async fn send(
    deliver: &mpsc::Sender<RawChunk>,
    part: usize,
    mut raw: Bytes,
) -> Result<(), ReadError> {
    let part = u32::try_from(part).unwrap_or(u32::MAX);
    while !raw.is_empty() {
        let data = raw.split_to(raw.len().min(CHUNK_MAX_BYTES));
        let sent = deliver.send(RawChunk { part, data }).await;
        sent.map_err(|_| ReadError::ReceiverGone)?;
    }
    Ok(())
}
