//! What runs, and how far it is.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Serialize, Serializer};

use super::Board;
use crate::raft::TopicPartition;

/// How many bytes are done. Clones see the same counter; counting takes no lock.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Bytes done.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many more are done.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many are done.
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

impl Serialize for Progress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.bytes())
    }
}

/// What kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// The scheduler's: a look, a snapshot, a truncation, deletions.
    Visit,
    /// A drill.
    Drill,
    /// Bootstrap: the broker is seeded.
    Restore,
}

impl WorkKind {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Visit => "visit",
            Self::Drill => "drill",
            Self::Restore => "restore",
        }
    }
}

/// One piece of work that runs now.
#[derive(Debug, Clone, Serialize)]
pub struct Work {
    /// `visit`, `drill` or `restore`.
    pub kind: Cow<'static, str>,
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// What it does now.
    pub stage: Cow<'static, str>,
    /// When it began, milliseconds since the Unix epoch.
    pub began_at_unix_ms: i64,
    /// Raw bytes that this stage has moved.
    #[serde(rename = "done_bytes")]
    pub done: Progress,
    /// Raw bytes that this stage will have moved; 0 = none, or not known.
    pub total_bytes: u64,
}

impl Work {
    pub(super) fn new(kind: WorkKind, partition: &TopicPartition, began_at_unix_ms: i64) -> Self {
        Self {
            kind: kind.as_str().into(),
            topic: partition.topic.clone(),
            partition: partition.partition,
            stage: "starting".into(),
            began_at_unix_ms,
            done: Progress::default(),
            total_bytes: 0,
        }
    }

    pub(super) fn is_visit_of(&self, partition: &TopicPartition) -> bool {
        self.kind == WorkKind::Visit.as_str()
            && self.partition == partition.partition
            && self.topic == partition.topic
    }

    /// A new counter for each stage: what comes late from the one before must not count in this one.
    pub(super) fn enter(&mut self, stage: &'static str, total_bytes: u64) -> Progress {
        self.stage = stage.into();
        self.total_bytes = total_bytes;
        self.done = Progress::default();
        self.done.clone()
    }
}

/// Work that is on the board until this is dropped.
#[derive(Debug)]
pub struct Running {
    board: Arc<Board>,
    id: u64,
    now: Option<(&'static str, Progress)>,
}

impl Running {
    pub(super) fn new(board: Arc<Board>, id: u64) -> Self {
        let now = None;
        Self { board, id, now }
    }

    /// So far the work is: a stage, and how many bytes of it are done, of `total_bytes`, 0 = none or nobody knows. Takes
    /// the board's lock only when the stage is another one than before.
    pub fn at(&mut self, stage: &'static str, done_bytes: u64, total_bytes: u64) {
        let (_, done) = match self.now.take() {
            Some(now) if now.0 == stage => self.now.insert(now),
            _ => {
                let done = self.board.work_stage(self.id, stage, total_bytes);
                self.now.insert((stage, done))
            }
        };
        done.set(done_bytes);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.board.end(self.id);
    }
}
