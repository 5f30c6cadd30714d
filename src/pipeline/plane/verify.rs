//! Reading back what was written, for the proof, and spot checks before anything is destroyed.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    DataPlane, Folder, ReadError,
    ahead::Ahead,
    backward::{Depth, Job, Sink, blocks_of, run},
    buffers::Buffers,
    busy::Busy,
};
use crate::format::{CheckedObject, FileExtent, Manifest, check_stored};

/// Files that are looked at at a time.
const HEADS_IN_FLIGHT: usize = 8;

/// Which parts are read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those whose blocks this snapshot wrote; files of earlier snapshots are only looked at.
    New,
    /// All of them.
    All,
}

/// Reads back every stored byte of `scope` and checks each block's length and CRC-32.
///
/// First every file that the manifest references is looked at: it must exist, with exactly the size that the
/// manifest gives it if this snapshot wrote it, and at least that size otherwise. Returns these for the proof.
pub async fn verify_stored(
    plane: &DataPlane,
    folder: &Folder,
    manifest: &Arc<Manifest>,
    scope: Scope,
    cancel: &CancellationToken,
) -> Result<Vec<CheckedObject>, ReadError> {
    verify(plane, folder, manifest, scope, Depth::Stored, cancel).await
}

/// As [`verify_stored`], and decompresses every block and checks the raw digests of each part.
pub async fn verify_full(
    plane: &DataPlane,
    folder: &Folder,
    manifest: &Arc<Manifest>,
    scope: Scope,
    cancel: &CancellationToken,
) -> Result<Vec<CheckedObject>, ReadError> {
    verify(plane, folder, manifest, scope, Depth::Decode, cancel).await
}

async fn verify(
    plane: &DataPlane,
    folder: &Folder,
    manifest: &Arc<Manifest>,
    scope: Scope,
    depth: Depth,
    cancel: &CancellationToken,
) -> Result<Vec<CheckedObject>, ReadError> {
    let work = async {
        let (objects, extents) = look_at_files(folder, manifest).await?;
        let job = Job {
            budget: &plane.budget,
            workers: &plane.workers,
            rate: &plane.rates.read,
            busy: Busy::default(),
            folder,
            manifest,
            parts: parts_in(scope, manifest, &extents),
            depth,
            buffers: Buffers::default(),
            progress: &plane.read,
        };
        let mut sink = Sink::new(manifest, None);
        let elapsed = run(job, &mut sink).await?;
        if depth == Depth::Decode {
            plane.verify_speed.note(sink.finish()?, elapsed);
        }
        Ok(objects)
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(ReadError::Cancelled),
        result = work => result,
    }
}

/// Looks at every referenced file and reads and checks one block of each; `pick` chooses which.
///
/// A cheap look right before something is destroyed on the strength of an older proof.
pub async fn spot_check(folder: &Folder, manifest: &Manifest, pick: u64) -> Result<(), ReadError> {
    let (_, extents) = look_at_files(folder, manifest).await?;
    let mut by_file = vec![Vec::new(); extents.len()];
    for at in blocks_of(manifest, 0..manifest.parts.len()) {
        by_file[at.of(manifest).file as usize].push(at);
    }
    for (extent, blocks) in extents.iter().zip(by_file) {
        let Some(nth) = pick.checked_rem(blocks.len() as u64) else {
            continue;
        };
        let at = blocks[usize::try_from(nth).unwrap_or_default()];
        let block = at.of(manifest);
        let of_store = |source| ReadError::of_store(&extent.name, source);
        let key = folder.key(&extent.name).map_err(of_store)?;
        let range = block.offset_bytes..block.end_bytes();
        let stored = folder.store.get_range(&key, range).await;
        check_stored(&stored.map_err(of_store)?, &block)
            .map_err(|source| ReadError::damage(manifest, at, source))?;
    }
    Ok(())
}

/// Every referenced file must exist with the size that the manifest's blocks give it.
async fn look_at_files(
    folder: &Folder,
    manifest: &Manifest,
) -> Result<(Vec<CheckedObject>, Vec<FileExtent>), ReadError> {
    let extents = manifest.file_extents();
    let mut objects = Vec::with_capacity(extents.len());
    let mut rest = extents.iter();
    let mut looks = Ahead::new();
    loop {
        while looks.len() < HEADS_IN_FLIGHT
            && let Some(extent) = rest.next()
        {
            looks.start(look_at(folder.clone(), extent.clone()));
        }
        match looks.next().await {
            Some(answer) => objects.push(answer.map_err(ReadError::Worker)??),
            None => break,
        }
    }
    Ok((objects, extents))
}

async fn look_at(folder: Folder, extent: FileExtent) -> Result<CheckedObject, ReadError> {
    let look = async { folder.store.head(&folder.key(&extent.name)?).await };
    let info = look
        .await
        .map_err(|source| ReadError::of_store(&extent.name, source))?;
    let fits = if extent.own {
        info.size_bytes == extent.end_bytes
    } else {
        info.size_bytes >= extent.end_bytes
    };
    if !fits {
        return Err(ReadError::FileSize {
            file: extent.name,
            expected_bytes: extent.end_bytes,
            found_bytes: info.size_bytes,
        });
    }
    Ok(CheckedObject {
        name: extent.name,
        size_bytes: info.size_bytes,
    })
}

/// Raw bytes of the parts in `scope`: what a verification reads.
pub fn raw_bytes_in(scope: Scope, manifest: &Manifest) -> u64 {
    let parts = parts_in(scope, manifest, &manifest.file_extents());
    let size = |part: usize| manifest.parts[part].digest.size_bytes;
    parts.into_iter().map(size).sum()
}

/// Positions of the parts in `scope`.
fn parts_in(scope: Scope, manifest: &Manifest, extents: &[FileExtent]) -> Vec<usize> {
    let new = |part: &usize| {
        let mut blocks = manifest.parts[*part].blocks.iter();
        blocks.any(|block| extents[block.file as usize].own)
    };
    let all = 0..manifest.parts.len();
    match scope {
        Scope::All => all.collect(),
        Scope::New => all.filter(new).collect(),
    }
}
