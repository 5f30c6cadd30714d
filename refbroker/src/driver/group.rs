//! One Raft group as the driver holds it.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use raft::{
    Config, RawNode, StateRole,
    eraftpb::{ConfState, Entry, EntryType, Message, MessageType},
};

use super::{
    APPEND_BYTES, APPLY_BYTES, DriverError, ELECTION_TICKS, HEARTBEAT_TICKS, INFLIGHT_APPENDS,
    UNCOMMITTED_BYTES,
    input::{Applied, NewReplica, Reply},
    reconcile::follows,
    shared::{GroupShared, GroupStatus},
    slog_bridge::logger,
};
use crate::{
    api::ApiError,
    meta::{self, MetaMachine},
    proto::{
        peer::AppliedRecord,
        v1::{self, ReplicaRole, TopicPartition},
    },
    raftlog::{LogPos, conf_to_proto, storage::RaftStorage},
    state::{
        META_CODEC, SEGMENTS_CODEC, STATE_PART, StateError,
        checkpoint::CheckpointDone,
        partition::PartitionMachine,
        pin::{PartSource, PinnedPart},
        staging::Staged,
    },
};

/// Entries by which a peer may lag and count as in sync.
const IN_SYNC_ENTRIES: u64 = 1000;

/// The state machine of a group.
pub enum Machine {
    /// Records.
    Partition(Box<PartitionMachine>),
    /// The cluster's metadata.
    Meta(MetaMachine),
}

impl Machine {
    /// Name of the state's encoding.
    pub fn codec(&self) -> &'static str {
        match self {
            Self::Partition(_) => SEGMENTS_CODEC,
            Self::Meta(_) => META_CODEC,
        }
    }

    /// The small part of the state.
    pub fn state_part(&self) -> Bytes {
        match self {
            Self::Partition(machine) => machine.state_part(),
            Self::Meta(machine) => machine.state_part().into(),
        }
    }

    /// All parts at this moment.
    pub fn pin(&mut self) -> Result<Vec<PinnedPart>, StateError> {
        match self {
            Self::Partition(machine) => machine.pin(),
            Self::Meta(machine) => Ok(vec![PinnedPart {
                part_id: STATE_PART.to_owned(),
                sealed: false,
                source: PartSource::Bytes(machine.state_part().into()),
            }]),
        }
    }
}

/// Someone who waits for an entry.
pub struct Waiter {
    /// Index of the entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Where the answer goes.
    pub reply: Reply<Result<Applied, ApiError>>,
}

/// What the disk knows of the state.
pub struct Persisted {
    /// Where it ends.
    pub applied: LogPos,
    /// Configuration there.
    pub conf_state: v1::ConfState,
    /// Its file.
    pub file: CheckpointDone,
}

/// A Raft group.
pub struct Group {
    /// Who it is.
    pub replica: NewReplica,
    /// Its directory.
    pub dir: PathBuf,
    /// Generation of its state.
    pub generation: u64,
    /// Raft.
    pub node: RawNode<RaftStorage>,
    /// State.
    pub machine: Machine,
    /// What others see.
    pub shared: Arc<GroupShared>,
    /// Last entry whose effect is in the state.
    pub applied: LogPos,
    /// Configuration there.
    pub conf_state: Arc<ConfState>,
    /// What the disk knows.
    pub persisted: Persisted,
    /// Life of the state in this process; a checkpoint of another one is dropped.
    pub epoch: u64,
    /// A checkpoint is being written.
    pub checkpoint_running: bool,
    /// A checkpoint shall be made at the next tick.
    pub checkpoint_wanted: bool,
    /// Tick of the last one.
    pub checkpoint_tick: u64,
    /// Taken in, not proposed yet.
    pub proposals: Vec<(Bytes, Reply<Result<Applied, ApiError>>)>,
    /// Proposed, not applied yet, in order of index.
    pub waiters: VecDeque<Waiter>,
    /// A snapshot from the leader that Raft was told of.
    pub incoming: Option<Box<Staged>>,
    /// Brokers of peers, as learned from their messages.
    pub peer_brokers: BTreeMap<u64, i32>,
    /// Snapshots on their way: peer id to index.
    pub sending: BTreeMap<u64, u64>,
    /// Ticks until this replica campaigns, to give a new group a leader soon.
    pub kick: Option<u32>,
    /// Tick since which this replica leads.
    pub led_since: Option<u64>,
    /// Tick at which the leader saw a learner first.
    pub learner_since: BTreeMap<u64, u64>,
    /// Tick at which the leader saw the joint configuration first.
    pub joint_since: Option<u64>,
    /// Raft refused a configuration change: the replica is out of order until an operator looks (R7).
    pub out_of_order: bool,
}

/// Starts Raft for a group.
pub fn raw_node(
    group_id: u64,
    peer_id: u64,
    applied: u64,
    storage: RaftStorage,
) -> Result<RawNode<RaftStorage>, DriverError> {
    let config = Config {
        id: peer_id,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied,
        max_size_per_msg: APPEND_BYTES,
        max_inflight_msgs: INFLIGHT_APPENDS,
        max_uncommitted_size: UNCOMMITTED_BYTES,
        max_committed_size_per_ready: APPLY_BYTES,
        // R4: both, or a lagging member can deadlock the group.
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    };
    Ok(RawNode::new(&config, storage, &logger(group_id))?)
}

impl Group {
    /// True = the group `__meta`.
    pub fn is_meta(&self) -> bool {
        self.replica.group_id == meta::GROUP_ID
    }

    /// True = this replica leads.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// True = leads and has applied an entry of its own term.
    pub fn is_serving(&self) -> bool {
        self.is_leader() && self.node.raft.apply_to_current_term()
    }

    /// The commit record for a state.
    pub fn applied_record(
        &self,
        applied: LogPos,
        conf_state: v1::ConfState,
        file: &CheckpointDone,
    ) -> AppliedRecord {
        applied_record(&self.replica, applied, conf_state, self.generation, file)
    }

    /// Proposes everything that waits, as one append.
    pub fn propose(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        let proposals = std::mem::take(&mut self.proposals);
        if !self.is_leader() || self.out_of_order {
            refuse(proposals, &ApiError::NotLeader);
            return;
        }
        let entries = proposals.iter().map(|(data, _)| Entry {
            entry_type: EntryType::EntryNormal,
            data: data.clone(),
            ..Entry::default()
        });
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.replica.peer_id;
        message.set_entries(entries.collect::<Vec<_>>().into());
        if self.node.step(message).is_err() {
            // Nothing was appended: leadership is being transferred, or too much is uncommitted.
            let handing_over = self.node.raft.lead_transferee.is_some();
            let error = if handing_over {
                ApiError::NotLeader
            } else {
                ApiError::TimedOut
            };
            refuse(proposals, &error);
            return;
        }
        let term = self.node.raft.term;
        if self
            .waiters
            .front()
            .is_some_and(|waiter| waiter.term != term)
        {
            self.abandon_waiters();
        }
        let last = self.node.raft.raft_log.last_index();
        let first = last + 1 - proposals.len() as u64;
        let waiters =
            (first..)
                .zip(proposals)
                .map(|(index, (_, reply))| Waiter { index, term, reply });
        self.waiters.extend(waiters);
    }

    /// Nobody will learn here what became of these entries.
    pub fn abandon_waiters(&mut self) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.reply.send(Err(ApiError::TimedOut));
        }
    }

    /// The one who waits for an entry; those whose entry was lost are told.
    pub fn take_waiter(&mut self, index: u64, term: u64) -> Option<Waiter> {
        while self.waiters.front().is_some_and(|waiter| {
            waiter.index < index || (waiter.index == index && waiter.term != term)
        }) {
            if let Some(waiter) = self.waiters.pop_front() {
                let _ = waiter.reply.send(Err(ApiError::NotLeader));
            }
        }
        if self.waiters.front()?.index != index {
            return None;
        }
        self.waiters.pop_front()
    }

    /// Publishes the state of the replica.
    pub fn publish(&self, hold: (u64, String)) {
        let raft = &self.node.raft;
        let store = self.node.store();
        let role = match raft.state {
            StateRole::Leader => ReplicaRole::Leader,
            _ if self.conf_state.voters.contains(&self.replica.peer_id) => ReplicaRole::Follower,
            _ => ReplicaRole::Learner,
        };
        self.shared.set_status(GroupStatus {
            peer_id: self.replica.peer_id,
            role,
            term: raft.term,
            leader_peer_id: raft.leader_id,
            commit_index: raft.raft_log.committed,
            applied_index: self.applied.index,
            persisted_index: self.persisted.applied.index,
            first_log_index: store.truncated().index + 1,
            last_log_index: raft.raft_log.last_index(),
            log_bytes: store.log_bytes(),
            conf_state: self.conf_state.clone(),
            hold_index: hold.0,
            hold_reason: hold.1,
            serving: !self.out_of_order && self.is_serving(),
            in_sync: self.in_sync(),
            out_of_order: self.out_of_order,
        });
    }

    fn in_sync(&self) -> Vec<u64> {
        if !self.is_leader() {
            return Vec::new();
        }
        let last = self.node.raft.raft_log.last_index();
        let progress = self.node.raft.prs().iter();
        let near = progress.filter(|(id, progress)| {
            **id == self.replica.peer_id
                || (follows(progress, last) && progress.matched + IN_SYNC_ENTRIES >= last)
        });
        near.map(|(id, _)| *id).collect()
    }
}

/// The commit record of a replica.
pub fn applied_record(
    replica: &NewReplica,
    applied: LogPos,
    conf_state: v1::ConfState,
    generation: u64,
    file: &CheckpointDone,
) -> AppliedRecord {
    AppliedRecord {
        partition: Some(TopicPartition {
            topic: replica.topic.clone(),
            partition: replica.partition,
        }),
        topic_id: replica.topic_id.clone(),
        group_id: replica.group_id,
        peer_id: replica.peer_id,
        applied: Some(applied.to_proto()),
        conf_state: Some(conf_state),
        initial_voters: replica.initial_voters.clone(),
        generation,
        state_file: file.state_file.clone(),
        state_xxh3: file.state_xxh3,
    }
}

/// The configuration that a group has at index 0.
pub fn initial_conf(replica: &NewReplica) -> v1::ConfState {
    let mut conf = ConfState::default();
    conf.set_voters(replica.initial_voters.clone());
    conf_to_proto(&conf)
}

fn refuse(proposals: Vec<(Bytes, Reply<Result<Applied, ApiError>>)>, error: &ApiError) {
    for (_, reply) in proposals {
        let _ = reply.send(Err(error.clone()));
    }
}
