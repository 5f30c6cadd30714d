//! What Raft sees of its log: [`raft::Storage`] over one region of the engine.
//!
//! Compaction in Raft's own words drops entries BEFORE an index; ours is inclusive. [`RaftStorage::compact_through`]
//! is the one place that converts. `term(first_index - 1)` is always answered: it is persisted with the compaction.

use std::collections::VecDeque;

use raft::{
    Error, GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
    util::limit_size,
};
use raft_engine::{Command, LogBatch};
use tracing::error;

use super::{
    LogPos, conf_contains,
    engine::{Entries, GroupRecord, LogEngine, LogError, put_hard_state, put_truncated},
};
use crate::crash;

/// Bytes of entries that each group keeps in memory for followers and for applying.
const CACHE_BYTES: usize = 4 << 20;
/// What an entry takes beside its data, approximately.
const ENTRY_OVERHEAD_BYTES: usize = 32;
/// Entries that are read at start to estimate the size of the others.
const SIZE_SAMPLES: u64 = 64;

/// One group's log.
pub struct RaftStorage {
    log: LogEngine,
    region: u64,
    hard_state: HardState,
    conf_state: ConfState,
    truncated: LogPos,
    last: LogPos,
    /// The newest entries, without a gap up to `last`.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    /// Size of each entry in the log, oldest first.
    sizes: VecDeque<u32>,
    log_bytes: u64,
    applied: LogPos,
}

impl RaftStorage {
    /// Opens the log of a group whose keys were read before.
    pub fn open(
        log: LogEngine,
        region: u64,
        record: &GroupRecord,
        conf_state: ConfState,
    ) -> Result<Self, LogError> {
        let truncated = record.truncated;
        let applied = LogPos::from_proto(record.applied.applied.as_ref());
        // A rewritten file may bring dropped entries back after a restart.
        if log
            .engine()
            .first_index(region)
            .is_some_and(|first| first <= truncated.index)
        {
            let mut batch = LogBatch::default();
            let index = truncated.index + 1;
            batch.add_command(region, Command::Compact { index });
            log.write(&mut batch, true)?;
        }
        // An entry that is missing between the two would be found out when a follower asks for it: too late.
        let first = log.engine().first_index(region);
        if first.is_some_and(|first| first > truncated.index + 1) {
            return Err(LogError::Malformed {
                region,
                key: "trunc",
            });
        }
        let mut storage = Self {
            hard_state: record.hard_state.clone(),
            conf_state,
            truncated,
            last: truncated,
            cache: VecDeque::new(),
            cache_bytes: 0,
            sizes: VecDeque::new(),
            log_bytes: 0,
            applied,
            log,
            region,
        };
        let last_index = storage.log.engine().last_index(region);
        if let Some(index) = last_index.filter(|index| *index > truncated.index) {
            storage.last = LogPos {
                term: storage.read_term(index)?,
                index,
            };
            storage.estimate_sizes()?;
        }
        // What is applied was committed, whatever the hard state managed to say.
        storage.hard_state.commit = storage.hard_state.commit.max(applied.index);
        Ok(storage)
    }

    fn read_term(&self, index: u64) -> Result<u64, LogError> {
        let entry = self
            .log
            .engine()
            .get_entry::<Entries>(self.region, index)?
            .ok_or(raft_engine::Error::EntryNotFound)?;
        Ok(entry.term)
    }

    fn estimate_sizes(&mut self) -> Result<(), LogError> {
        let count = self.last.index - self.truncated.index;
        let step = (count / SIZE_SAMPLES).max(1);
        let (mut bytes, mut samples) = (0, 0);
        let mut index = self.truncated.index + 1;
        while index <= self.last.index {
            let entry = self.log.engine().get_entry::<Entries>(self.region, index)?;
            bytes += entry.as_ref().map_or(0, size_of_entry) as u64;
            samples += 1;
            index += step;
        }
        let average = u32::try_from(bytes / samples.max(1)).unwrap_or(u32::MAX);
        self.sizes = (0..count).map(|_| average).collect();
        self.log_bytes = count * u64::from(average);
        Ok(())
    }

    /// The last dropped entry.
    pub fn truncated(&self) -> LogPos {
        self.truncated
    }

    /// The last entry.
    pub fn last(&self) -> LogPos {
        self.last
    }

    /// Bytes of the entries, approximately.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// Remembers what was applied, for [`Storage::snapshot`].
    pub fn set_applied(&mut self, applied: LogPos) {
        self.applied = applied;
    }

    /// Remembers the applied configuration.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// The applied configuration.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Puts entries into a batch; [`RaftStorage::appended`] follows once it is written.
    pub fn stage_append(&self, batch: &mut LogBatch, entries: &[Entry]) -> Result<(), LogError> {
        batch.add_entries::<Entries>(self.region, entries)?;
        Ok(())
    }

    /// Puts term, vote and commit into a batch.
    pub fn stage_hard_state(
        &mut self,
        batch: &mut LogBatch,
        hard_state: &HardState,
    ) -> Result<(), LogError> {
        self.hard_state = hard_state.clone();
        put_hard_state(batch, self.region, hard_state)
    }

    /// The commit index moved; it is written with the next hard state or compaction.
    pub fn set_commit(&mut self, commit: u64) {
        self.hard_state.commit = self.hard_state.commit.max(commit);
    }

    /// The staged entries are in the log.
    pub fn appended(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.index) else {
            return;
        };
        self.forget_from(first);
        for entry in entries {
            let size = size_of_entry(&entry);
            self.last = LogPos {
                term: entry.term,
                index: entry.index,
            };
            self.sizes
                .push_back(u32::try_from(size).unwrap_or(u32::MAX));
            self.log_bytes += size as u64;
            self.cache_bytes += size;
            self.cache.push_back(entry);
        }
        while self.cache_bytes > CACHE_BYTES && self.cache.len() > 1 {
            self.drop_oldest_cached();
        }
    }

    /// A new leader replaces what follows.
    fn forget_from(&mut self, first: u64) {
        while self.cache.back().is_some_and(|entry| entry.index >= first) {
            if let Some(entry) = self.cache.pop_back() {
                self.cache_bytes -= size_of_entry(&entry);
            }
        }
        let keep = first.saturating_sub(self.truncated.index + 1);
        while self.sizes.len() as u64 > keep {
            self.log_bytes -= u64::from(self.sizes.pop_back().unwrap_or(0));
        }
    }

    fn drop_oldest_cached(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cache_bytes -= size_of_entry(&entry);
        }
    }

    /// Drops entries up to and including `through`, with the position that was dropped, in one durable write
    /// (invariant 3). The caller has checked that they are applied and persisted. Returns the freed bytes.
    pub fn compact_through(&mut self, through: u64) -> Result<u64, LogError> {
        if through <= self.truncated.index {
            return Ok(0);
        }
        let term = self
            .term(through)
            .map_err(|_| LogError::Engine(raft_engine::Error::EntryNotFound))?;
        let truncated = LogPos {
            term,
            index: through,
        };
        let mut batch = LogBatch::default();
        // The engine drops what is BEFORE the index.
        let index = through + 1;
        batch.add_command(self.region, Command::Compact { index });
        put_truncated(&mut batch, self.region, truncated)?;
        put_hard_state(&mut batch, self.region, &self.hard_state)?;
        crash::point("compact.allowed");
        self.log.write(&mut batch, true)?;
        crash::point("compact.written");
        let mut freed = 0;
        for _ in self.truncated.index..through {
            freed += u64::from(self.sizes.pop_front().unwrap_or(0));
        }
        self.log_bytes -= freed;
        self.truncated = truncated;
        while self
            .cache
            .front()
            .is_some_and(|entry| entry.index <= through)
        {
            self.drop_oldest_cached();
        }
        Ok(freed)
    }

    /// A snapshot took the place of the log; its batch is written.
    pub fn reset(&mut self, position: LogPos, conf_state: ConfState) {
        self.set_commit(position.index);
        self.truncated = position;
        self.last = position;
        self.applied = position;
        self.conf_state = conf_state;
        self.cache.clear();
        self.cache_bytes = 0;
        self.sizes.clear();
        self.log_bytes = 0;
    }

    fn fetch(&self, low: u64, high: u64, max_size: Option<u64>) -> raft::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let cached_from = self.cache.front().map_or(high, |entry| entry.index);
        let engine_high = high.min(cached_from);
        if low < engine_high {
            let limit = max_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
            self.log
                .engine()
                .fetch_entries_to::<Entries>(self.region, low, engine_high, limit, &mut entries)
                .map_err(|cause| {
                    error!(error = %cause, region = self.region, low, high, "log read failed");
                    Error::Store(StorageError::Unavailable)
                })?;
            if (entries.len() as u64) < engine_high - low {
                limit_size(&mut entries, max_size);
                return Ok(entries);
            }
        }
        let mut bytes: u64 = entries
            .iter()
            .map(|entry| size_of_entry(entry) as u64)
            .sum();
        let skip = usize::try_from(low.saturating_sub(cached_from)).unwrap_or(usize::MAX);
        for entry in self.cache.iter().skip(skip) {
            if entry.index >= high || max_size.is_some_and(|limit| bytes > limit) {
                break;
            }
            bytes += size_of_entry(entry) as u64;
            entries.push(entry.clone());
        }
        limit_size(&mut entries, max_size);
        Ok(entries)
    }
}

fn size_of_entry(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_OVERHEAD_BYTES
}

impl Storage for RaftStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.fetch(low, high.min(self.last.index + 1), max_size.into())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index < self.truncated.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last.index {
            return Err(Error::Store(StorageError::Unavailable));
        }
        if let Some(front) = self.cache.front()
            && index >= front.index
        {
            let position = usize::try_from(index - front.index).unwrap_or(usize::MAX);
            if let Some(entry) = self.cache.get(position) {
                return Ok(entry.term);
            }
        }
        self.read_term(index).map_err(|cause| {
            error!(error = %cause, region = self.region, index, "log read failed");
            Error::Store(StorageError::Unavailable)
        })
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.index)
    }

    /// R5: the applied state, if it is new enough and its configuration knows the receiver.
    /// The driver exports the bytes at the moment the message leaves and corrects the position then.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let new_enough = self.applied.index >= request_index.max(self.truncated.index);
        if !new_enough || self.applied.index == 0 || !conf_contains(&self.conf_state, to) {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied.index;
        metadata.term = self.applied.term;
        metadata.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}
