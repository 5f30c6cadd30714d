//! The raw state of a snapshot, out of the store: to a stream, a file or a directory.
//!
//! A directory gets a file for each part, and last the manifest. Everything is written under a temporary name, flushed,
//! compared with its digest and renamed.
//!
//! | die after | what is left | the same command again |
//! |---|---|---|
//! | a part is begun | `@{part}.partial` | begins that part anew |
//! | a part is renamed | that part | keeps it, if its digest is right |
//! | the manifest is renamed | everything | finds everything |

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    fs::{self, File},
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use super::{ToolError, Tools};
use crate::{
    catalog::Snapshot,
    format::{FileName, Part, PartDigest, PartHasher, encode_topic},
    pipeline::plane::{self, RawChunk, ReadError},
};

/// Chunks between reading and writing.
const CHUNKS_AHEAD: usize = 4;
/// What is read of a file at a time.
const READ_BYTES: usize = 1 << 20;

/// What a restore into a directory did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// Parts that were there already, and right.
    pub kept: usize,
    /// Parts that were written.
    pub written: usize,
    /// Raw bytes that were written.
    pub written_bytes: u64,
}

impl Tools {
    /// Writes the raw parts one after the other. What was written counts only if this succeeds.
    pub async fn stream(
        &self,
        snapshot: &Snapshot,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, ToolError> {
        let all = (0..snapshot.manifest.parts.len()).collect();
        let raw_bytes = self.parts(snapshot, all, async |chunk: RawChunk| {
            let written = out.write_all(&chunk.data).await;
            written.map_err(ToolError::OutputClosed)
        });
        let raw_bytes = raw_bytes.await?;
        out.flush().await.map_err(ToolError::OutputClosed)?;
        Ok(raw_bytes)
    }

    /// Restores into one file, parts one after the other.
    pub async fn restore_to_file(
        &self,
        snapshot: &Snapshot,
        path: &Path,
    ) -> Result<u64, ToolError> {
        if exists(path).await? {
            return Err(ToolError::Occupied {
                path: path.to_owned(),
                problem: "exists already: remove it, or choose another name".to_owned(),
            });
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let name = path.file_name().unwrap_or_default();
        let mut partial = std::ffi::OsString::from("@");
        partial.push(name);
        partial.push(".partial");
        let partial = folder.join(partial);
        let mut file = create(&partial).await?;
        let raw_bytes = match self.stream(snapshot, &mut file).await {
            Ok(raw_bytes) => raw_bytes,
            Err(error) => {
                // Half of it is of no use to anybody; what fails here has failed already.
                let _ = fs::remove_file(&partial).await;
                return Err(match error {
                    ToolError::OutputClosed(source) => ToolError::file(&partial, "writing")(source),
                    error => error,
                });
            }
        };
        settle(file, &partial, path).await?;
        Ok(raw_bytes)
    }

    /// Restores into a directory, which is made if it is missing. Parts that are there and right are kept.
    pub async fn restore_to_dir(
        &self,
        snapshot: &Snapshot,
        dir: &Path,
    ) -> Result<Restored, ToolError> {
        fs::create_dir_all(dir)
            .await
            .map_err(ToolError::file(dir, "making it"))?;
        refuse_others(snapshot, dir).await?;
        let parts = &snapshot.manifest.parts;
        let mut missing = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let path = part_path(dir, part);
            match digest_of(&path).await? {
                Some(digest) if digest == part.digest => {}
                Some(_) => {
                    return Err(ToolError::Occupied {
                        path,
                        problem: format!(
                            "exists already and is not what {} has there: remove it, or choose another directory",
                            snapshot.id
                        ),
                    });
                }
                None => missing.push(number),
            }
        }
        let mut restored = Restored {
            kept: parts.len() - missing.len(),
            written: missing.len(),
            written_bytes: 0,
        };
        let mut writer = Writer {
            dir,
            parts,
            pending: missing.clone().into_iter(),
            current: None,
        };
        let read = self.parts(snapshot, missing, async |chunk| writer.take(chunk).await);
        restored.written_bytes = read.await?;
        writer.finish().await?;
        let manifest = snapshot.manifest.encode();
        let name = FileName::Manifest(snapshot.id).to_string();
        let partial = dir.join(format!("@{name}.partial"));
        let mut file = create(&partial).await?;
        let written = file.write_all(&manifest).await;
        written.map_err(ToolError::file(&partial, "writing"))?;
        settle(file, &partial, &dir.join(name)).await?;
        Ok(restored)
    }

    /// Hands the raw bytes of these parts on, in order.
    async fn parts(
        &self,
        snapshot: &Snapshot,
        parts: Vec<usize>,
        mut take: impl AsyncFnMut(RawChunk) -> Result<(), ToolError>,
    ) -> Result<u64, ToolError> {
        let manifest = &snapshot.manifest;
        let place = self.place(&manifest.partition);
        let (deliver, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
        let read = plane::read_parts(&self.plane, &place, manifest, parts, deliver, &self.abort);
        let taken = async move {
            while let Some(chunk) = chunks.recv().await {
                take(chunk).await?;
            }
            Ok::<(), ToolError>(())
        };
        let (read, taken) = tokio::join!(read, taken);
        match read {
            Ok(raw_bytes) => taken.map(|()| raw_bytes),
            Err(ReadError::Cancelled) => Err(ToolError::Cancelled),
            Err(source) => {
                if matches!(source, ReadError::ReceiverGone) {
                    taken?;
                }
                Err(ToolError::Read {
                    partition: manifest.partition.clone(),
                    id: snapshot.id,
                    source,
                })
            }
        }
    }
}

/// Writes parts that arrive one after the other into files of their own.
struct Writer<'a> {
    dir: &'a Path,
    parts: &'a [Part],
    /// Parts that have not begun, in order.
    pending: std::vec::IntoIter<usize>,
    current: Option<(usize, File, PartHasher)>,
}

impl Writer<'_> {
    async fn take(&mut self, chunk: RawChunk) -> Result<(), ToolError> {
        let number = chunk.part as usize;
        while self
            .current
            .as_ref()
            .is_none_or(|(current, ..)| *current != number)
        {
            self.next().await?;
        }
        if let Some((_, file, hasher)) = &mut self.current {
            let written = file.write_all(&chunk.data).await;
            written.map_err(ToolError::file(self.dir, "writing a part"))?;
            hasher.update(&chunk.data);
        }
        Ok(())
    }

    /// Ends the part under way and begins the next one; empty parts are delivered by nothing.
    async fn next(&mut self) -> Result<bool, ToolError> {
        self.end_part().await?;
        let Some(number) = self.pending.next() else {
            return Ok(false);
        };
        let file = create(&partial_path(self.dir, &self.parts[number])).await?;
        self.current = Some((number, file, PartHasher::new()));
        Ok(true)
    }

    async fn end_part(&mut self) -> Result<(), ToolError> {
        let Some((number, file, hasher)) = self.current.take() else {
            return Ok(());
        };
        let part = &self.parts[number];
        let path = part_path(self.dir, part);
        if hasher.finish() != part.digest {
            return Err(ToolError::PartDamaged {
                part_id: part.part_id.clone(),
            });
        }
        settle(file, &partial_path(self.dir, part), &path).await
    }

    async fn finish(mut self) -> Result<(), ToolError> {
        while self.next().await? {}
        Ok(())
    }
}

/// A part's file. Ids are harmless names but for `.` and `..`, which this writes otherwise.
fn part_path(dir: &Path, part: &Part) -> PathBuf {
    dir.join(encode_topic(&part.part_id))
}

/// No part's name has an `@`.
fn partial_path(dir: &Path, part: &Part) -> PathBuf {
    dir.join(format!("@{}.partial", encode_topic(&part.part_id)))
}

async fn create(path: &Path) -> Result<File, ToolError> {
    File::create(path)
        .await
        .map_err(ToolError::file(path, "making it"))
}

/// Flushes a complete file and gives it its name.
async fn settle(mut file: File, partial: &Path, path: &Path) -> Result<(), ToolError> {
    file.flush()
        .await
        .map_err(ToolError::file(partial, "writing"))?;
    file.sync_all()
        .await
        .map_err(ToolError::file(partial, "flushing"))?;
    fs::rename(partial, path)
        .await
        .map_err(ToolError::file(path, "renaming"))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = async { File::open(folder).await?.sync_all().await };
    synced.await.map_err(ToolError::file(folder, "flushing"))
}

async fn exists(path: &Path) -> Result<bool, ToolError> {
    fs::try_exists(path)
        .await
        .map_err(ToolError::file(path, "looking"))
}

/// Size and digests of a file; none when there is none.
async fn digest_of(path: &Path) -> Result<Option<PartDigest>, ToolError> {
    let mut file = match File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ToolError::file(path, "reading")(source)),
    };
    let mut hasher = PartHasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut buffer).await;
        match read.map_err(ToolError::file(path, "reading"))? {
            0 => return Ok(Some(hasher.finish())),
            len => hasher.update(&buffer[..len]),
        }
    }
}

/// The manifest says that a directory is complete: two in one would make it mean nothing.
async fn refuse_others(snapshot: &Snapshot, dir: &Path) -> Result<(), ToolError> {
    let reading = || ToolError::file(dir, "reading");
    let mut entries = fs::read_dir(dir).await.map_err(reading())?;
    while let Some(entry) = entries.next_entry().await.map_err(reading())? {
        let name = entry.file_name();
        let Some(Ok(FileName::Manifest(id))) = name.to_str().map(str::parse) else {
            continue;
        };
        if id != snapshot.id {
            return Err(ToolError::Occupied {
                path: dir.to_owned(),
                problem: format!("holds a restore of {id}: choose another directory"),
            });
        }
    }
    Ok(())
}
