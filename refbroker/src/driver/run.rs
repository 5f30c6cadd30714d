//! The driver's loop.
//!
//! Inputs are taken in order, a bounded number of them; then the groups get their round (ready.rs).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, mpsc::SyncSender},
};

use raft::eraftpb::Message;
use raft_engine::LogBatch;
use tokio::sync::mpsc;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    DriverError, INPUTS_PER_ROUND,
    checkpoints::Committing,
    compact,
    group::{Group, Machine},
    input::{Input, NewReplica},
    proposals::Proposals,
    reconcile,
    shared::Shared,
};
use crate::{
    disk, meta,
    proto::v1,
    raftlog::engine::LogEngine,
    state::{checkpoint::CheckpointJob, pin::Pin},
};

/// Ticks between two looks at a group in which nothing happens.
const QUIET_TICKS: u64 = 5;
/// Ticks between two looks for log files that can go.
const PURGE_TICKS: u64 = 50;
/// Ticks that a stopping broker gives its successors.
const HANDOVER_TICKS: u64 = 8;

/// How the driver reaches other brokers. Neither call blocks.
pub trait Outbound: Send + Sync + 'static {
    /// Sends a message; `false` = it was dropped.
    fn send(&self, broker: i32, group_id: u64, message: &Message) -> bool;
    /// Sends a snapshot; [`Input::SnapshotReport`] follows in any case.
    fn send_snapshot(&self, broker: i32, group_id: u64, message: Message, pin: Pin);
}

/// Work for the thread that waits for the disk in the driver's place.
#[derive(Debug)]
pub enum DiskTask {
    /// Write a checkpoint.
    Checkpoint(Box<CheckpointTask>),
    /// Delete log files that no group needs.
    Purge,
    /// Delete state that no record names any more.
    Discard(PathBuf),
}

/// A checkpoint for the disk thread.
#[derive(Debug)]
pub struct CheckpointTask {
    /// Group.
    pub group_id: u64,
    /// Life of its state.
    pub epoch: u64,
    /// Configuration at the point in time.
    pub conf_state: v1::ConfState,
    /// The work.
    pub job: CheckpointJob,
}

/// What the driver is made of.
pub struct DriverParts {
    /// This broker.
    pub broker_id: i32,
    /// Its disk.
    pub replica_uuid: Uuid,
    /// Cluster.
    pub cluster_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// Brokers that the cluster was created with; empty when this broker joined later.
    pub founders: Vec<crate::identity::Member>,
    /// Directories of the groups.
    pub groups_dir: PathBuf,
    /// Size at which segments are sealed.
    pub segment_bytes: u64,
    /// Entries kept for a peer that lags.
    pub hold_entries: u64,
    /// The log.
    pub log: LogEngine,
    /// The queue.
    pub inputs: mpsc::Receiver<Input>,
    /// Entries to replicate.
    pub proposals: Arc<Proposals>,
    /// What others see.
    pub shared: Arc<Shared>,
    /// The other brokers.
    pub outbound: Arc<dyn Outbound>,
    /// The disk thread.
    pub disk: SyncSender<DiskTask>,
    /// Replicas that this broker lost and that want a seed.
    pub lost: mpsc::Sender<NewReplica>,
}

/// The driver.
pub struct Driver {
    pub(super) parts: DriverParts,
    pub(super) groups: BTreeMap<u64, Group>,
    /// Groups that may have something ready.
    pub(super) dirty: BTreeSet<u64>,
    /// Groups whose status changed.
    pub(super) touched: BTreeSet<u64>,
    /// Replicas that wait for a seed.
    pub(super) waiting_for_seed: BTreeSet<u64>,
    pub(super) tick: u64,
    pub(super) batch: LogBatch,
    pub(super) batch_must_sync: bool,
    /// Checkpoints that are in the batch.
    pub(super) committing: Vec<Committing>,
    stopping_since: Option<u64>,
    halted: bool,
}

impl Driver {
    /// Starts every replica that the log knows.
    pub fn new(parts: DriverParts) -> Result<Self, DriverError> {
        let mut driver = Self {
            parts,
            groups: BTreeMap::new(),
            dirty: BTreeSet::new(),
            touched: BTreeSet::new(),
            waiting_for_seed: BTreeSet::new(),
            tick: 0,
            batch: LogBatch::default(),
            batch_must_sync: false,
            committing: Vec::new(),
            stopping_since: None,
            halted: false,
        };
        driver.start_known()?;
        Ok(driver)
    }

    /// Runs until a shutdown or a failure.
    pub fn run(mut self) -> Result<(), DriverError> {
        self.sync_with_meta()?;
        self.round()?;
        while let Some(first) = self.parts.inputs.blocking_recv() {
            self.handle(first)?;
            for _ in 1..INPUTS_PER_ROUND {
                let Ok(input) = self.parts.inputs.try_recv() else {
                    break;
                };
                self.handle(input)?;
            }
            if self.halted {
                return Ok(());
            }
            self.round()?;
            if self
                .stopping_since
                .is_some_and(|since| self.tick - since >= self.handover_ticks())
            {
                return self.final_checkpoint();
            }
        }
        self.final_checkpoint()
    }

    pub(super) fn handle(&mut self, input: Input) -> Result<(), DriverError> {
        match input {
            Input::Tick => self.tick()?,
            Input::Raft {
                from_broker,
                group_id,
                message,
            } => self.step(from_broker, group_id, *message),
            Input::Wake => {}
            Input::Unreachable(broker) => self.unreachable(broker),
            Input::SnapshotReport {
                group_id,
                peer_id,
                finished,
            } => self.snapshot_report(group_id, peer_id, finished),
            Input::IncomingSnapshot {
                from_broker,
                group_id,
                message,
                staged,
                reply,
            } => drop(reply.send(self.incoming_snapshot(from_broker, group_id, *message, staged))),
            Input::CheckpointDone {
                group_id,
                epoch,
                applied,
                conf_state,
                result,
            } => self.checkpoint_done(group_id, epoch, applied, *conf_state, result)?,
            Input::Checkpoint(group_id) => {
                if let Some(group) = self.groups.get_mut(&group_id) {
                    group.checkpoint_wanted = true;
                }
                self.checkpoint(group_id)?;
            }
            Input::Export {
                group_id,
                newer_than_index,
                reply,
            } => drop(reply.send(self.export(group_id, newer_than_index))),
            Input::Compact(request, reply) => {
                let answer = self.compact(&request)?;
                // Who lists right after the answer must see what it says.
                self.publish();
                drop(reply.send(answer));
            }
            Input::Start {
                replica,
                seed,
                reply,
            } => {
                let answer = self.start_new(&replica, seed)?;
                self.publish();
                drop(reply.send(answer));
            }
            Input::Shutdown => self.begin_shutdown(),
            Input::Halt => self.halted = true,
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), DriverError> {
        self.tick += 1;
        let meta = self.parts.shared.meta();
        let ids: Vec<u64> = self.groups.keys().copied().collect();
        for group_id in ids {
            let Some(group) = self.groups.get_mut(&group_id) else {
                continue;
            };
            if group.out_of_order {
                continue;
            }
            group.node.tick();
            kick(group);
            // At every tick: a replica without its disk waits for two changes of the configuration.
            let wanted = if group.is_serving() {
                reconcile::wanted_replicas(group, &meta)
            } else {
                Vec::new()
            };
            reconcile::reconcile(group, &wanted, self.tick);
            if self.tick.is_multiple_of(QUIET_TICKS) {
                self.touched.insert(group_id);
                if group.is_meta() {
                    self.found_cluster(&meta);
                }
            }
            self.dirty.insert(group_id);
            self.checkpoint(group_id)?;
        }
        if self.tick.is_multiple_of(PURGE_TICKS) {
            self.purge();
        }
        Ok(())
    }

    /// Log files are looked through on the disk thread: rewriting takes time. A full queue means soon again.
    pub(super) fn purge(&self) {
        let _ = self.parts.disk.try_send(DiskTask::Purge);
    }

    /// Deletes state that no record names any more: at once, or, where the disk thread is writing, when it is done. What stays
    /// even so goes at the next start.
    pub(super) fn discard(&self, dir: PathBuf) {
        let Err(error) = disk::remove_dir(&dir) else {
            return;
        };
        if self.parts.disk.try_send(DiskTask::Discard(dir)).is_err() {
            warn!(%error, "state that nobody needs stays until the next start, and the disk thread is behind");
        }
    }

    pub(super) fn publish(&mut self) {
        for group_id in std::mem::take(&mut self.touched) {
            if let Some(group) = self.groups.get(&group_id) {
                group.publish(compact::hold(group, self.tick, self.parts.hold_entries));
            }
        }
    }

    pub(super) fn publish_meta(&self) {
        if let Some(group) = self.groups.get(&meta::GROUP_ID)
            && let Machine::Meta(machine) = &group.machine
        {
            let state = machine.state();
            // Restored metadata speak of a former life until the first command of this one is applied.
            if !state.is_formed() || state.incarnation == self.parts.incarnation {
                let state = state.clone();
                self.parts.shared.set_meta(group.applied.index, state);
            }
        }
    }

    fn handover_ticks(&self) -> u64 {
        if self.groups.values().any(Group::is_leader) {
            HANDOVER_TICKS
        } else {
            0
        }
    }

    fn begin_shutdown(&mut self) {
        self.stopping_since = Some(self.tick);
        for (group_id, group) in &mut self.groups {
            if !group.is_leader() {
                continue;
            }
            if let Some(peer) = reconcile::successor(group, self.tick) {
                group.node.transfer_leader(peer);
                self.dirty.insert(*group_id);
            }
        }
    }
}

fn kick(group: &mut Group) {
    match group.kick {
        Some(0) => {
            group.kick = None;
            if group.node.raft.leader_id == 0 && group.node.campaign().is_err() {
                debug!(group_id = group.replica.group_id, "not campaigning");
            }
        }
        Some(ticks) => group.kick = Some(ticks - 1),
        None => {}
    }
}
