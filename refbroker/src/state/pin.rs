//! A state at one point in time, and how its bytes are sent.
//!
//! Nothing is copied when it is pinned: sealed segments never change, the tail only grows and is read up to its
//! pinned length, the state part is in memory. A generation that is replaced meanwhile takes its files away; then
//! reading fails and the stream ends without a trailer.

use std::{
    collections::HashSet, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinError};
use xxhash_rust::xxh3::Xxh3;

use super::partition::hex;
use crate::proto::v1::{
    PartDescriptor, PartDigest, SnapshotChunk, SnapshotHeader, SnapshotTrailer,
};

/// Data bytes in one message.
pub const CHUNK_BYTES: usize = 1 << 20;
/// A receiver that takes nothing for so long loses the pinned view.
pub const PIN_TIMEOUT: Duration = Duration::from_mins(1);

/// Where the bytes of a part are.
#[derive(Debug, Clone)]
pub enum PartSource {
    /// The first bytes of a file.
    File {
        /// The file.
        path: PathBuf,
        /// How many.
        size_bytes: u64,
    },
    /// In memory.
    Bytes(Bytes),
}

impl PartSource {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::File { size_bytes, .. } => *size_bytes,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

/// One part of a pinned state.
#[derive(Debug, Clone)]
pub struct PinnedPart {
    /// Its name.
    pub part_id: String,
    /// True = the bytes under this name never change.
    pub sealed: bool,
    /// Its bytes.
    pub source: PartSource,
}

/// A pinned state.
#[derive(Debug, Clone)]
pub struct Pin {
    /// What it is; `parts` are filled in when it is sent.
    pub header: SnapshotHeader,
    /// Its parts in order.
    pub parts: Vec<PinnedPart>,
}

/// One message of a stream.
#[derive(Debug)]
pub enum PinItem {
    /// First.
    Header(Box<SnapshotHeader>),
    /// Then these.
    Chunk(SnapshotChunk),
    /// Last.
    Trailer(SnapshotTrailer),
}

/// Why a stream ended without a trailer.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The receiver took nothing for [`PIN_TIMEOUT`].
    #[error("no progress for {} s", PIN_TIMEOUT.as_secs())]
    Expired,
    /// The receiver is gone.
    #[error("the receiver went away")]
    Closed,
    /// The files are gone (the state was replaced) or unreadable.
    #[error("reading the pinned state")]
    Io(#[from] io::Error),
    /// A sealed part is not what its name says any more.
    #[error(
        "{part_id} is damaged on this broker's disk: its bytes are not those that it is named after"
    )]
    Damaged {
        /// Its name.
        part_id: String,
    },
    /// The reader died.
    #[error("the reader died")]
    Reader(#[from] JoinError),
}

impl Pin {
    /// The header as it is sent: parts named in `have` are listed, but their bytes stay away.
    pub fn header_without(&self, have: &[String]) -> SnapshotHeader {
        let have: HashSet<&str> = have.iter().map(String::as_str).collect();
        let parts = self.parts.iter().map(|part| PartDescriptor {
            part_id: part.part_id.clone(),
            size_bytes: part.source.size_bytes(),
            sealed: part.sealed,
            omitted: part.sealed && have.contains(part.part_id.as_str()),
        });
        SnapshotHeader {
            parts: parts.collect(),
            ..self.header.clone()
        }
    }

    /// Sends header, chunks and trailer; `convert` makes the messages of the stream.
    pub async fn send<T>(
        self,
        have: &[String],
        to: &mpsc::Sender<T>,
        convert: impl Fn(PinItem) -> T,
    ) -> Result<u64, PinError> {
        let header = self.header_without(have);
        let mut trailer = SnapshotTrailer {
            last_included: header.last_included,
            total_size_bytes: 0,
            digests: Vec::new(),
        };
        let descriptors = header.parts.clone();
        offer(to, convert(PinItem::Header(Box::new(header)))).await?;
        for (number, (part, descriptor)) in (0_u32..).zip(self.parts.iter().zip(&descriptors)) {
            if descriptor.omitted {
                continue;
            }
            let mut reader = PartReader::open(&part.source)?;
            while let Some(data) = reader.next().await? {
                let chunk = SnapshotChunk { part: number, data };
                offer(to, convert(PinItem::Chunk(chunk))).await?;
            }
            let digest = reader.digest(number);
            if part.sealed && !part.part_id.ends_with(&hex(&digest.xxh3_128)) {
                // Whoever has a part under this name takes it for these bytes, for as long as it points to them.
                let part_id = part.part_id.clone();
                return Err(PinError::Damaged { part_id });
            }
            trailer.total_size_bytes += descriptor.size_bytes;
            trailer.digests.push(digest);
        }
        let total = trailer.total_size_bytes;
        offer(to, convert(PinItem::Trailer(trailer))).await?;
        Ok(total)
    }
}

async fn offer<T>(to: &mpsc::Sender<T>, message: T) -> Result<(), PinError> {
    match tokio::time::timeout(PIN_TIMEOUT, to.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(PinError::Closed),
        Err(_) => Err(PinError::Expired),
    }
}

/// Digests of one part while its bytes pass.
#[derive(Default)]
pub struct PartHasher {
    crc32: crc32fast::Hasher,
    xxh3: Xxh3,
    size_bytes: u64,
}

impl PartHasher {
    /// More bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.crc32.update(data);
        self.xxh3.update(data);
        self.size_bytes += data.len() as u64;
    }

    /// Bytes so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The digests.
    pub fn digest(&self, part: u32) -> PartDigest {
        PartDigest {
            part,
            size_bytes: self.size_bytes,
            crc32: self.crc32.clone().finalize(),
            xxh3_128: Bytes::copy_from_slice(&self.xxh3.digest128().to_be_bytes()),
        }
    }
}

struct PartReader {
    file: Option<Arc<File>>,
    bytes: Bytes,
    size_bytes: u64,
    hasher: PartHasher,
}

impl PartReader {
    fn open(source: &PartSource) -> io::Result<Self> {
        let (file, bytes) = match source {
            PartSource::File { path, .. } => (Some(Arc::new(File::open(path)?)), Bytes::new()),
            PartSource::Bytes(bytes) => (None, bytes.clone()),
        };
        Ok(Self {
            file,
            bytes,
            size_bytes: source.size_bytes(),
            hasher: PartHasher::default(),
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, PinError> {
        let position = self.hasher.size_bytes();
        let left = usize::try_from(self.size_bytes - position).unwrap_or(usize::MAX);
        let wanted = left.min(CHUNK_BYTES);
        if wanted == 0 {
            return Ok(None);
        }
        let Some(file) = self.file.clone() else {
            let data = self.bytes.split_to(wanted);
            self.hasher.update(&data);
            return Ok(Some(data));
        };
        let mut hasher = std::mem::take(&mut self.hasher);
        let read = move || {
            let mut data = vec![0; wanted];
            let outcome = file.read_exact_at(&mut data, position);
            hasher.update(&data);
            outcome.map(|()| (data, hasher))
        };
        let (data, hasher) = tokio::task::spawn_blocking(read).await??;
        self.hasher = hasher;
        Ok(Some(data.into()))
    }

    fn digest(&self, part: u32) -> PartDigest {
        self.hasher.digest(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn send(part_id: String, content: &'static [u8]) -> (Result<u64, PinError>, bool) {
        let pin = Pin {
            header: SnapshotHeader::default(),
            parts: vec![PinnedPart {
                part_id,
                sealed: true,
                source: PartSource::Bytes(Bytes::from_static(content)),
            }],
        };
        let (to, mut from) = mpsc::channel(8);
        let sent = pin.send(&[], &to, |item| item).await;
        drop(to);
        let mut whole = false;
        while let Some(item) = from.recv().await {
            whole |= matches!(item, PinItem::Trailer(_));
        }
        (sent, whole)
    }

    #[tokio::test]
    async fn a_sealed_part_that_is_not_what_it_is_named_after_ends_the_stream_without_a_trailer() {
        let mut hasher = PartHasher::default();
        hasher.update(b"records");
        let name = format!("seg-0-{}", hex(&hasher.digest(0).xxh3_128));
        let (sent, whole) = send(name.clone(), b"records").await;
        assert!(sent.is_ok() && whole);
        let (sent, whole) = send(name, b"rotten!").await;
        assert!(matches!(sent, Err(PinError::Damaged { .. })) && !whole);
    }
}
