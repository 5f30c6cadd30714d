//! What reaches the driver, and the handle that sends it.

use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::Message;
use tokio::sync::{mpsc, oneshot};

use super::proposals::{Proposal, Proposals};
use crate::{
    api::{ApiError, Appended},
    meta,
    proto::v1,
    raftlog::LogPos,
    state::{StateError, checkpoint::CheckpointDone, pin::Pin, staging::Staged},
};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<T>;

/// What a proposal came to.
#[derive(Debug)]
pub enum Applied {
    /// A batch of a partition.
    Batch(Result<Appended, ApiError>),
    /// A command of `__meta`, and the index of its entry.
    Meta(u64, meta::Outcome),
}

/// A replica that is to be started for the first time.
#[derive(Debug, Clone)]
pub struct NewReplica {
    /// Raft group id.
    pub group_id: u64,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Life of the topic.
    pub topic_id: String,
    /// Peer id of the replica.
    pub peer_id: u64,
    /// Peer ids that the group was created with.
    pub initial_voters: Vec<u64>,
    /// True = one of the first voters of a restored cluster: it starts from what the plan names, as a voter.
    pub restored: bool,
}

/// Why an export was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum ExportRefusal {
    /// No such replica here.
    NotHosted,
    /// Nothing was applied beyond this index.
    NothingNewer(u64),
    /// The disk failed.
    Storage,
}

/// Why a compaction was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum CompactRefusal {
    /// No such replica here.
    NotHosted,
    /// The snapshot is above what is applied (the applied index).
    NotApplied(u64),
    /// The index is above what is persisted (the persisted index).
    NotPersisted(u64),
    /// This replica has another term at the snapshot's index (its own term).
    TermMismatch(u64),
    /// Something needs the log from this index on.
    Held(u64, String),
    /// The disk failed.
    Storage,
}

/// What a compaction is asked for.
#[derive(Debug, Clone, Copy)]
pub struct CompactRequest {
    /// Raft group id.
    pub group_id: u64,
    /// Where the proven snapshot ends.
    pub snapshot: LogPos,
    /// Drop up to and including this index.
    pub through_index: u64,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Lowest index now.
    pub first_log_index: u64,
    /// Bytes freed, approximately.
    pub freed_bytes: u64,
}

/// Why a replica was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartRefusal {
    /// It runs already.
    #[error("the replica runs already")]
    Running,
    /// The driver is gone or failed.
    #[error("the driver stopped")]
    Stopped,
}

/// One input.
#[derive(Debug)]
pub enum Input {
    /// Time passes.
    Tick,
    /// A message from another broker.
    Raft {
        /// Broker that sent it.
        from_broker: i32,
        /// Group.
        group_id: u64,
        /// The message.
        message: Box<Message>,
    },
    /// There are proposals to take.
    Wake,
    /// A broker cannot be reached.
    Unreachable(i32),
    /// A snapshot was sent, or not.
    SnapshotReport {
        /// Group.
        group_id: u64,
        /// Receiver.
        peer_id: u64,
        /// True = it has it.
        finished: bool,
    },
    /// A leader's snapshot, complete and flushed.
    IncomingSnapshot {
        /// Broker that sent it.
        from_broker: i32,
        /// Group.
        group_id: u64,
        /// The `MsgSnapshot`.
        message: Box<Message>,
        /// The state.
        staged: Box<Staged>,
        /// True = handed to Raft.
        reply: Reply<bool>,
    },
    /// State files are flushed.
    CheckpointDone {
        /// Group.
        group_id: u64,
        /// Life of its state.
        epoch: u64,
        /// Where the state ends.
        applied: LogPos,
        /// Configuration there.
        conf_state: Box<v1::ConfState>,
        /// The files, or why not.
        result: Result<CheckpointDone, StateError>,
    },
    /// Persist a group's state soon.
    Checkpoint(u64),
    /// Pin a group's state.
    Export {
        /// Group.
        group_id: u64,
        /// Refuse unless something was applied beyond.
        newer_than_index: u64,
        /// The pinned state.
        reply: Reply<Result<Pin, ExportRefusal>>,
    },
    /// Drop a prefix of a log.
    Compact(CompactRequest, Reply<Result<Compacted, CompactRefusal>>),
    /// Start a replica: from a staged snapshot, or empty.
    Start {
        /// Which.
        replica: Box<NewReplica>,
        /// Its seed; `None` = empty.
        seed: Option<Box<Staged>>,
        /// Answered when it runs.
        reply: Reply<Result<(), StartRefusal>>,
    },
    /// Give up leaderships, persist, end.
    Shutdown,
    /// End now, as a crash would: nothing more is written.
    Halt,
}

/// Sends inputs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    inputs: mpsc::Sender<Input>,
    proposals: Arc<Proposals>,
}

impl DriverHandle {
    /// Around the driver's queues.
    pub fn new(inputs: mpsc::Sender<Input>, proposals: Arc<Proposals>) -> Self {
        Self { inputs, proposals }
    }

    /// Brings an entry on its way, at once and in order. The answer comes when it is applied here, or lost.
    pub fn propose(
        &self,
        group_id: u64,
        data: Bytes,
    ) -> Result<oneshot::Receiver<Result<Applied, ApiError>>, ApiError> {
        let (reply, answer) = oneshot::channel();
        let proposal = Proposal {
            group_id,
            data,
            reply,
        };
        if self.proposals.push(proposal)? {
            // A full queue means that the driver is awake and takes the proposals in its next round.
            let _ = self.inputs.try_send(Input::Wake);
        }
        Ok(answer)
    }

    /// Waits for a place in the queue; `false` = the driver is gone.
    pub async fn send(&self, input: Input) -> bool {
        self.inputs.send(input).await.is_ok()
    }

    /// Never waits; `false` = the queue is full or the driver gone.
    pub fn try_send(&self, input: Input) -> bool {
        self.inputs.try_send(input).is_ok()
    }

    /// For threads that may block.
    pub fn blocking_send(&self, input: Input) -> bool {
        self.inputs.blocking_send(input).is_ok()
    }

    /// Asks and waits; `None` = the driver is gone. The caller sets the deadline.
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Input) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        if !self.send(make(reply)).await {
            return None;
        }
        answer.await.ok()
    }
}
