//! The log engine: opening, the keys of a region, purging.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{Entry, HardState};
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};

use super::LogPos;
use crate::{crash, proto::peer::AppliedRecord};

const HARD_STATE: &[u8] = b"hs";
const TRUNCATED: &[u8] = b"trunc";
const APPLIED: &[u8] = b"applied";
const IDENTITY: &[u8] = b"identity";

/// Region that belongs to the broker as a whole, not to a group.
const NODE_REGION: u64 = 2;

/// Log files are rotated at this size, so that a truncation frees space soon.
const FILE_BYTES: u64 = 8 << 20;
/// Obsolete files are looked for above this size of the log.
const PURGE_BYTES: u64 = FILE_BYTES;

/// Why the log could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The engine failed.
    #[error("log engine")]
    Engine(#[from] raft_engine::Error),
    /// A key or message is not what this program writes.
    #[error("log region {region}: key `{key}` is damaged")]
    Malformed {
        /// Region.
        region: u64,
        /// Key.
        key: &'static str,
    },
    /// A Raft message could not be encoded.
    #[error("encoding")]
    Codec(#[from] protobuf::ProtobufError),
    /// The path is not UTF-8, which the engine needs.
    #[error("the data directory's name is not UTF-8")]
    Path,
}

/// How the engine reads entries.
#[derive(Clone)]
pub struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// What a region's keys say.
#[derive(Debug, Clone, Default)]
pub struct GroupRecord {
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// Last entry that was dropped.
    pub truncated: LogPos,
    /// Commit record of the state.
    pub applied: AppliedRecord,
}

/// The log of all groups. Cheap to clone.
#[derive(Clone)]
pub struct LogEngine {
    engine: Arc<Engine>,
    purging: Arc<Mutex<()>>,
}

impl LogEngine {
    /// Opens or creates the log in `dir`.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let config = Config {
            dir: dir.to_str().ok_or(LogError::Path)?.to_owned(),
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            recovery_threads: 2,
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(FILE_BYTES),
            purge_threshold: ReadableSize(PURGE_BYTES),
            enable_log_recycle: false,
            ..Config::default()
        };
        Ok(Self {
            engine: Arc::new(Engine::open(config)?),
            purging: Arc::default(),
        })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Writes a batch; with `sync` it is on the disk when this returns.
    pub fn write(&self, batch: &mut LogBatch, sync: bool) -> Result<(), LogError> {
        self.engine.write(batch, sync)?;
        Ok(())
    }

    /// The replica id that this log belongs to.
    pub fn identity(&self) -> Option<Vec<u8>> {
        self.engine.get(NODE_REGION, IDENTITY)
    }

    /// Binds this log to a replica id, durably.
    pub fn set_identity(&self, replica_uuid: &[u8]) -> Result<(), LogError> {
        let mut batch = LogBatch::default();
        batch.put(NODE_REGION, IDENTITY.to_vec(), replica_uuid.to_vec())?;
        self.write(&mut batch, true)
    }

    /// Groups that have a commit record.
    pub fn groups(&self) -> Result<Vec<(u64, GroupRecord)>, LogError> {
        let mut groups = Vec::new();
        for region in self.engine.raft_groups() {
            if region != NODE_REGION
                && let Some(record) = self.load(region)?
            {
                groups.push((region, record));
            }
        }
        groups.sort_by_key(|(region, _)| *region);
        Ok(groups)
    }

    /// Keys of one region; `None` without a commit record.
    pub fn load(&self, region: u64) -> Result<Option<GroupRecord>, LogError> {
        let malformed = |key| LogError::Malformed { region, key };
        let Some(applied) = self.engine.get(region, APPLIED) else {
            return Ok(None);
        };
        let applied =
            AppliedRecord::decode(applied.as_slice()).map_err(|_| malformed("applied"))?;
        let hard_state = self
            .engine
            .get_message(region, HARD_STATE)
            .map_err(|_| malformed("hs"))?
            .unwrap_or_default();
        let truncated = match self.engine.get(region, TRUNCATED) {
            Some(bytes) => decode_position(&bytes).ok_or_else(|| malformed("trunc"))?,
            None => LogPos::default(),
        };
        Ok(Some(GroupRecord {
            hard_state,
            truncated,
            applied,
        }))
    }

    /// Deletes log files that no group needs any more.
    pub fn purge(&self) -> Result<(), LogError> {
        let _one_at_a_time = self.purging.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.disk_bytes();
        crash::point("purge.begun");
        self.engine.purge_expired_files()?;
        if self.disk_bytes() < before {
            crash::point("purge.files_deleted");
        }
        Ok(())
    }

    /// Bytes of all log files.
    pub fn disk_bytes(&self) -> u64 {
        self.engine.get_used_size() as u64
    }
}

fn decode_position(bytes: &[u8]) -> Option<LogPos> {
    let (index, term) = bytes.split_first_chunk::<8>()?;
    Some(LogPos {
        index: u64::from_be_bytes(*index),
        term: u64::from_be_bytes(term.try_into().ok()?),
    })
}

/// Puts term, vote and commit into a batch.
pub fn put_hard_state(
    batch: &mut LogBatch,
    region: u64,
    hard_state: &HardState,
) -> Result<(), LogError> {
    batch.put(region, HARD_STATE.to_vec(), hard_state.write_to_bytes()?)?;
    Ok(())
}

/// Puts the commit record of the state into a batch.
pub fn put_applied(
    batch: &mut LogBatch,
    region: u64,
    record: &AppliedRecord,
) -> Result<(), LogError> {
    batch.put(region, APPLIED.to_vec(), record.encode_to_vec())?;
    Ok(())
}

/// Puts the position of the last dropped entry into a batch.
pub fn put_truncated(batch: &mut LogBatch, region: u64, position: LogPos) -> Result<(), LogError> {
    let mut value = position.index.to_be_bytes().to_vec();
    value.extend_from_slice(&position.term.to_be_bytes());
    batch.put(region, TRUNCATED.to_vec(), value)?;
    Ok(())
}

/// Forgets everything of a region in a batch; later items of the same batch build it anew.
pub fn clean(batch: &mut LogBatch, region: u64) {
    batch.add_command(region, Command::Clean);
}

/// R3: everything a replica is after it took over a snapshot, or after it was created empty (`record.applied` 0).
pub fn put_seed(batch: &mut LogBatch, region: u64, record: &AppliedRecord) -> Result<(), LogError> {
    let position = LogPos::from_proto(record.applied.as_ref());
    let hard_state = HardState {
        term: position.term,
        vote: 0,
        commit: position.index,
        ..HardState::default()
    };
    clean(batch, region);
    put_hard_state(batch, region, &hard_state)?;
    put_truncated(batch, region, position)?;
    put_applied(batch, region, record)
}
