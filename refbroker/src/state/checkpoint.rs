//! Makes applied state durable, away from the driver's thread.
//!
//! Order: segments, state file, directory, and only then (by the driver) the `applied` key that names them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::StateError;
use crate::{crash, disk, raftlog::LogPos};

/// One checkpoint of one group.
#[derive(Debug)]
pub struct CheckpointJob {
    /// Generation directory.
    pub dir: PathBuf,
    /// Where the state ends.
    pub applied: LogPos,
    /// Files to flush.
    pub dirty: Vec<PathBuf>,
    /// The state part.
    pub state_part: Bytes,
    /// State file that the `applied` key names until this checkpoint is committed.
    pub current_state_file: String,
}

/// A checkpoint that may be named.
#[derive(Debug, Clone)]
pub struct CheckpointDone {
    /// File of the state part.
    pub state_file: String,
    /// Its XXH3-64.
    pub state_xxh3: u64,
}

/// Flushes everything that a checkpoint names.
pub fn write(job: &CheckpointJob) -> Result<CheckpointDone, StateError> {
    crash::point("checkpoint.begun");
    for path in &job.dirty {
        File::open(path)
            .and_then(|file| file.sync_data())
            .map_err(StateError::io(path))?;
    }
    crash::point("checkpoint.segments_flushed");
    let done = write_state_file(&job.dir, job.applied, &job.state_part)?;
    crash::point("checkpoint.file_written");
    remove_old_state_files(&job.dir, &[&job.current_state_file, &done.state_file])?;
    crash::point("checkpoint.old_removed");
    Ok(done)
}

/// Writes the state part to a file of its own, durably.
pub fn write_state_file(
    dir: &Path,
    applied: LogPos,
    state_part: &[u8],
) -> Result<CheckpointDone, StateError> {
    let state_file = format!("state-{:020}.bin", applied.index);
    let path = dir.join(&state_file);
    disk::write_new(&path, state_part).map_err(StateError::io(&path))?;
    disk::sync_dir(dir).map_err(StateError::io(dir))?;
    Ok(CheckpointDone {
        state_file,
        state_xxh3: xxh3_64(state_part),
    })
}

/// Reads a state part back.
pub fn read_state_file(dir: &Path, name: &str, digest: u64) -> Result<Vec<u8>, StateError> {
    let path = dir.join(name);
    let bytes = fs::read(&path).map_err(StateError::io(&path))?;
    if xxh3_64(&bytes) == digest {
        Ok(bytes)
    } else {
        Err(StateError::corrupt(&path, "digest of the state part"))
    }
}

/// Removes state files that nothing names.
pub fn remove_old_state_files(dir: &Path, keep: &[&str]) -> Result<(), StateError> {
    for entry in fs::read_dir(dir).map_err(StateError::io(dir))? {
        let entry = entry.map_err(StateError::io(dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("state-") && !keep.contains(&name) {
            let path = entry.path();
            fs::remove_file(&path).map_err(StateError::io(&path))?;
        }
    }
    Ok(())
}
