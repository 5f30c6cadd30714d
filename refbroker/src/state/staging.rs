//! Taking a snapshot in, from the sidecar or from a leader (invariant 13).
//!
//! | die after | what is left | who cleans it |
//! |---|---|---|
//! | some chunks written | `staging-*` | removed at start; dropping [`Staging`] removes it, too |
//! | verified, flushed, renamed to `gen-*` | a generation that no commit record names | removed at start |
//! | commit record written | the new state; the old generation lies around | removed at start |

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use prost::Message as _;
use uuid::Uuid;

use super::{
    META_CODEC, SEGMENTS_CODEC, STATE_PART, StateError,
    partition::{sealed_part_id, tail_part_id},
    pin::{CHUNK_BYTES, PartHasher},
    segment::file_name,
};
use crate::{
    crash, disk,
    proto::{
        peer::PartitionState,
        v1::{
            Lineage, RejectReason, SnapshotChunk, SnapshotHeader, SnapshotTrailer, TopicPartition,
        },
    },
    raftlog::LogPos,
};

/// Prefix of the directories that a crash may leave.
pub const STAGING_PREFIX: &str = "staging-";
/// Name of the state part's file in an installed generation.
pub const STATE_FILE: &str = "state-installed.bin";
/// Limit of the format.
const MAX_PARTS: usize = 4096;

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The snapshot cannot be used.
    #[error("{detail}")]
    Rejected {
        /// Why, for the sidecar.
        reason: RejectReason,
        /// Why, for people.
        detail: String,
    },
    /// This broker's disk failed.
    #[error("staging")]
    State(#[from] StateError),
}

impl StageError {
    /// The reason in the words of the contract.
    pub fn reason(&self) -> RejectReason {
        match self {
            Self::Rejected { reason, .. } => *reason,
            Self::State(StateError::Corrupt { .. }) => RejectReason::Corrupt,
            Self::State(StateError::Io { .. }) => RejectReason::Io,
        }
    }
}

fn rejected(reason: RejectReason, detail: impl Into<String>) -> StageError {
    StageError::Rejected {
        reason,
        detail: detail.into(),
    }
}

/// What a snapshot must be to be taken.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Lineage of the replica.
    pub lineage: Lineage,
    /// Its group.
    pub partition: TopicPartition,
    /// R2: a seed's configuration must not name this new peer id as a voter. `None` = not a seed, but a snapshot
    /// from the leader, whose configuration must name the receiver.
    pub seed_for_peer: Option<u64>,
    /// True = the snapshot must be of a former incarnation: a plan restores the cluster from it.
    pub restored: bool,
}

/// A snapshot that is being received.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    header: SnapshotHeader,
    parts: Vec<StagedPart>,
    current: Option<(usize, File)>,
    keep: bool,
}

#[derive(Default)]
struct StagedPart {
    path: PathBuf,
    hasher: PartHasher,
}

impl std::fmt::Debug for StagedPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StagedPart")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A snapshot that is complete, verified and flushed, but not committed. Dropping it removes it.
#[derive(Debug)]
pub struct Staged {
    dir: PathBuf,
    /// What it is.
    pub header: SnapshotHeader,
    /// Its state part.
    pub state_part: Vec<u8>,
    keep: bool,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.keep {
            remove_quietly(&self.dir);
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.keep {
            remove_quietly(&self.dir);
        }
    }
}

fn remove_quietly(dir: &Path) {
    if let Err(error) = disk::remove_dir(dir) {
        tracing::warn!(%error, dir = %dir.display(), "staging stays until the next start");
    }
}

impl Staging {
    /// Checks the header and makes a directory for the parts.
    pub fn begin(
        group_dir: &Path,
        header: SnapshotHeader,
        expected: &Expected,
    ) -> Result<Self, StageError> {
        check_header(&header, expected)?;
        let dir = group_dir.join(format!("{STAGING_PREFIX}{}", Uuid::new_v4()));
        disk::create_dir(&dir).map_err(StateError::io(&dir))?;
        let mut staging = Self {
            parts: Vec::with_capacity(header.parts.len()),
            dir,
            header,
            current: None,
            keep: false,
        };
        for part in &staging.header.parts {
            let name = part_file(&part.part_id)
                .ok_or_else(|| rejected(RejectReason::Codec, "a part has an unknown name"))?;
            let path = staging.dir.join(name);
            File::create(&path).map_err(StateError::io(&path))?;
            staging.parts.push(StagedPart {
                path,
                hasher: PartHasher::default(),
            });
        }
        Ok(staging)
    }

    /// Bytes so far.
    pub fn received_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.hasher.size_bytes()).sum()
    }

    /// More bytes. Blocks on the disk.
    pub fn chunk(&mut self, chunk: &SnapshotChunk) -> Result<(), StageError> {
        let number = chunk.part as usize;
        let in_order = self
            .current
            .as_ref()
            .is_none_or(|(open, _)| *open <= number);
        let (Some(part), Some(descriptor)) =
            (self.parts.get_mut(number), self.header.parts.get(number))
        else {
            return Err(rejected(
                RejectReason::Corrupt,
                "a chunk of an unknown part",
            ));
        };
        let size_bytes = part.hasher.size_bytes() + chunk.data.len() as u64;
        if !in_order || chunk.data.len() > CHUNK_BYTES || size_bytes > descriptor.size_bytes {
            return Err(rejected(
                RejectReason::Corrupt,
                "a chunk out of order or too long",
            ));
        }
        if self
            .current
            .as_ref()
            .is_none_or(|(open, _)| *open != number)
        {
            let file = File::options().append(true).open(&part.path);
            self.current = Some((number, file.map_err(StateError::io(&part.path))?));
        }
        if let Some((_, file)) = &mut self.current {
            file.write_all(&chunk.data)
                .map_err(StateError::io(&part.path))?;
        }
        part.hasher.update(&chunk.data);
        crash::point("stage.chunk_written");
        Ok(())
    }

    /// Verifies sizes and digests, then flushes everything. Blocks on the disk.
    pub fn finish(mut self, trailer: &SnapshotTrailer) -> Result<Staged, StageError> {
        self.current = None;
        if trailer.last_included != self.header.last_included {
            return Err(rejected(RejectReason::Corrupt, "header and trailer differ"));
        }
        if trailer.digests.len() != self.parts.len()
            || trailer.total_size_bytes != self.received_bytes()
        {
            return Err(rejected(
                RejectReason::Corrupt,
                "the trailer does not cover the parts",
            ));
        }
        for (number, part) in (0_u32..).zip(&self.parts) {
            let descriptor = &self.header.parts[number as usize];
            let digest = part.hasher.digest(number);
            let matches = digest == trailer.digests[number as usize];
            if !matches || digest.size_bytes != descriptor.size_bytes {
                let detail = format!("part {} does not match its digest", descriptor.part_id);
                return Err(rejected(RejectReason::Corrupt, detail));
            }
        }
        let state_path = self.dir.join(STATE_FILE);
        let state_part = fs::read(&state_path).map_err(StateError::io(&state_path))?;
        self.check_state(&state_part)?;
        crash::point("stage.verified");
        for part in &self.parts {
            File::open(&part.path)
                .and_then(|file| file.sync_all())
                .map_err(StateError::io(&part.path))?;
        }
        disk::sync_dir(&self.dir).map_err(StateError::io(&self.dir))?;
        crash::point("stage.flushed");
        self.keep = true;
        Ok(Staged {
            dir: self.dir.clone(),
            header: self.header.clone(),
            state_part,
            keep: false,
        })
    }

    /// The state part names exactly the other parts.
    fn check_state(&self, state_part: &[u8]) -> Result<(), StageError> {
        let corrupt = |detail: &str| rejected(RejectReason::Corrupt, detail);
        if self.header.state_codec == META_CODEC {
            return serde_json::from_slice::<crate::meta::MetaState>(state_part)
                .map(|_| ())
                .map_err(|_| corrupt("the state part does not decode"));
        }
        let state = PartitionState::decode(state_part)
            .map_err(|_| corrupt("the state part does not decode"))?;
        let mut named: Vec<(String, u64)> = state
            .sealed
            .iter()
            .map(|sealed| (sealed_part_id(sealed), sealed.size_bytes))
            .collect();
        if state.tail_size_bytes > 0 {
            named.push((tail_part_id(state.tail_base_offset), state.tail_size_bytes));
        }
        let others = self.header.parts.iter();
        let listed: Vec<(String, u64)> = others
            .filter(|part| part.part_id != STATE_PART)
            .map(|part| (part.part_id.clone(), part.size_bytes))
            .collect();
        if named != listed {
            return Err(corrupt(
                "the parts are not the ones that the state part names",
            ));
        }
        for (number, sealed) in (0_u32..).zip(&state.sealed) {
            let digest = self.parts[number as usize].hasher.digest(number);
            if digest.xxh3_128 != sealed.xxh3_128 {
                return Err(corrupt(
                    "a sealed segment is not the one that the state part names",
                ));
            }
        }
        Ok(())
    }
}

impl Staged {
    /// Where the state ends.
    pub fn last_included(&self) -> LogPos {
        LogPos::from_proto(self.header.last_included.as_ref())
    }

    /// Gives the directory its final name, durably. It belongs to nobody until the commit record names it.
    pub fn rename_to(mut self, generation: &Path) -> Result<(), StateError> {
        fs::rename(&self.dir, generation).map_err(StateError::io(generation))?;
        self.keep = true;
        let parent = generation.parent().unwrap_or(generation);
        disk::sync_dir(parent).map_err(StateError::io(parent))
    }
}

fn part_file(part_id: &str) -> Option<String> {
    if part_id == STATE_PART {
        return Some(STATE_FILE.to_owned());
    }
    let offset = part_id
        .strip_prefix("tail-")
        .or_else(|| part_id.strip_prefix("seg-"))?
        .get(..20)?;
    offset.parse().ok().map(file_name)
}

fn check_header(header: &SnapshotHeader, expected: &Expected) -> Result<(), StageError> {
    let lineage = header.lineage.clone().unwrap_or_default();
    let same_lineage = if expected.restored {
        let now = &expected.lineage;
        lineage.cluster_id == now.cluster_id
            && lineage.topic_id == now.topic_id
            && lineage.incarnation < now.incarnation
    } else {
        lineage == expected.lineage
    };
    if !same_lineage || header.partition.as_ref() != Some(&expected.partition) {
        return Err(rejected(
            RejectReason::Lineage,
            "another lineage or partition",
        ));
    }
    let is_meta = expected.partition.topic == crate::meta::TOPIC;
    let codec = if is_meta { META_CODEC } else { SEGMENTS_CODEC };
    if header.state_codec != codec {
        let detail = format!("state codec {} is not accepted", header.state_codec);
        return Err(rejected(RejectReason::Codec, detail));
    }
    let conf = header.conf_state.clone().unwrap_or_default();
    if conf.voters.is_empty() {
        return Err(rejected(
            RejectReason::ConfState,
            "the configuration has no voters",
        ));
    }
    let votes = |peer: &u64| conf.voters.contains(peer) || conf.voters_outgoing.contains(peer);
    if let Some(peer) = expected.seed_for_peer.filter(votes) {
        let detail = format!("the configuration names the new peer id {peer} as a voter");
        return Err(rejected(RejectReason::ConfState, detail));
    }
    let position = LogPos::from_proto(header.last_included.as_ref());
    if position.index == 0 || position.term == 0 {
        return Err(rejected(RejectReason::Corrupt, "last_included is not set"));
    }
    let names = header.parts.iter().map(|part| part.part_id.as_str());
    let state_parts = names.filter(|name| *name == STATE_PART).count();
    let one_of_each = {
        let mut ids: Vec<&str> = header
            .parts
            .iter()
            .map(|part| part.part_id.as_str())
            .collect();
        ids.sort_unstable();
        ids.windows(2).all(|pair| pair[0] != pair[1])
    };
    let omitted = header.parts.iter().any(|part| part.omitted);
    if state_parts != 1 || !one_of_each || omitted || header.parts.len() > MAX_PARTS {
        return Err(rejected(
            RejectReason::Corrupt,
            "the list of parts is not complete",
        ));
    }
    Ok(())
}
