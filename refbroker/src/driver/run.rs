//! The driver's loop.
//!
//! One round: take inputs, propose, and as long as some group has something ready: send what may leave early, stage
//! what must persist, ONE log write, then for each group: send the rest, advance, apply.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
};

use raft::{
    Ready, SnapshotStatus, StateRole,
    eraftpb::{Entry, Message, MessageType},
};
use raft_engine::LogBatch;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::{
    CHECKPOINT_ENTRIES, CHECKPOINT_TICKS, DriverError, INPUTS_PER_ROUND, apply, compact,
    group::{Group, Machine},
    input::{CompactRefusal, CompactRequest, Compacted, ExportRefusal, Input, NewReplica},
    proposals::{Proposal, Proposals},
    reconcile,
    shared::Shared,
};
use crate::{
    api::ApiError,
    crash,
    meta::{self, MetaState},
    proto::v1,
    raftlog::{
        LogPos, conf_contains, conf_from_proto, conf_to_proto,
        engine::{LogEngine, put_applied},
    },
    state::{
        StateError,
        checkpoint::{CheckpointDone, CheckpointJob},
        generation_dir,
        pin::Pin,
        staging::Staged,
    },
};

/// Ticks between two looks at the configurations.
const RECONCILE_TICKS: u64 = 5;
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
    batch: LogBatch,
    batch_must_sync: bool,
    /// Checkpoints that are in the batch.
    committing: Vec<Committing>,
    stopping_since: Option<u64>,
    halted: bool,
}

/// A checkpoint whose record is in the batch.
struct Committing {
    group_id: u64,
    epoch: u64,
    applied: LogPos,
    conf_state: v1::ConfState,
    file: CheckpointDone,
}

struct Flight {
    group_id: u64,
    ready: Ready,
    entries: Vec<Entry>,
    restored: Option<Restored>,
}

struct Restored {
    header: v1::SnapshotHeader,
    state_part: Vec<u8>,
    generation: u64,
    file: CheckpointDone,
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

    fn step(&mut self, from_broker: i32, group_id: u64, message: Message) {
        let Some(group) = self.groups.get_mut(&group_id) else {
            return;
        };
        // A message for the peer id that this broker had before it lost its disk is for a dead one.
        if message.to != group.replica.peer_id || group.out_of_order {
            return;
        }
        // A snapshot counts only together with its bytes.
        if message.get_msg_type() == MessageType::MsgSnapshot {
            return;
        }
        self.deliver(from_broker, group_id, message);
    }

    fn deliver(&mut self, from_broker: i32, group_id: u64, message: Message) {
        let Some(group) = self.groups.get_mut(&group_id) else {
            return;
        };
        group.peer_brokers.insert(message.from, from_broker);
        if let Err(error) = group.node.step(message) {
            debug!(%error, group_id, "message not taken");
        }
        self.dirty.insert(group_id);
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
            if self.tick.is_multiple_of(RECONCILE_TICKS) {
                self.touched.insert(group_id);
                let wanted = wanted_replicas(group, &meta);
                reconcile::reconcile(group, &wanted, self.tick);
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
    fn purge(&self) {
        let _ = self.parts.disk.try_send(DiskTask::Purge);
    }

    fn unreachable(&mut self, broker: i32) {
        let meta = self.parts.shared.meta();
        for group in self.groups.values_mut().filter(|group| group.is_leader()) {
            let peers: Vec<u64> = group.node.raft.prs().iter().map(|(id, _)| *id).collect();
            for peer in peers {
                if broker_of(group, &meta, peer) == Some(broker) {
                    group.node.report_unreachable(peer);
                }
            }
        }
    }

    /// R6: whatever became of it, Raft is told.
    fn snapshot_report(&mut self, group_id: u64, peer_id: u64, finished: bool) {
        let Some(group) = self.groups.get_mut(&group_id) else {
            return;
        };
        group.sending.remove(&peer_id);
        let status = if finished {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        group.node.report_snapshot(peer_id, status);
        self.dirty.insert(group_id);
    }

    fn incoming_snapshot(
        &mut self,
        from_broker: i32,
        group_id: u64,
        message: Message,
        staged: Box<Staged>,
    ) -> bool {
        let known = self
            .groups
            .get(&group_id)
            .is_some_and(|group| group.replica.peer_id == message.to && !group.out_of_order);
        if !known {
            return false;
        }
        self.deliver(from_broker, group_id, message);
        // Raft ignores one that is old. Only the bytes of the one that it is about to take may stay.
        if let Some(group) = self.groups.get_mut(&group_id)
            && let Some(taken) = group.node.raft.raft_log.unstable.snapshot.as_ref()
        {
            let metadata = taken.get_metadata();
            let taken = LogPos {
                term: metadata.term,
                index: metadata.index,
            };
            if staged.last_included() == taken {
                group.incoming = Some(staged);
            }
        }
        true
    }

    fn export(&mut self, group_id: u64, newer_than_index: u64) -> Result<Pin, ExportRefusal> {
        let identity = self.lineage_base();
        let group = self
            .groups
            .get_mut(&group_id)
            .filter(|group| !group.out_of_order)
            .ok_or(ExportRefusal::NotHosted)?;
        if group.applied.index <= newer_than_index {
            return Err(ExportRefusal::NothingNewer(group.applied.index));
        }
        pin(group, identity).map_err(|cause| {
            error!(error = %cause, group_id, "export failed");
            ExportRefusal::Storage
        })
    }

    fn lineage_base(&self) -> v1::Lineage {
        v1::Lineage {
            cluster_id: self.parts.cluster_id.clone(),
            incarnation: self.parts.incarnation,
            topic_id: String::new(),
        }
    }

    fn compact(
        &mut self,
        request: &CompactRequest,
    ) -> Result<Result<Compacted, CompactRefusal>, DriverError> {
        // What is staged for this log must not follow the truncation.
        self.write_batch()?;
        let (tick, hold_entries) = (self.tick, self.parts.hold_entries);
        let Some(group) = self.groups.get_mut(&request.group_id) else {
            return Ok(Err(CompactRefusal::NotHosted));
        };
        if group.out_of_order {
            return Ok(Err(CompactRefusal::NotHosted));
        }
        let hold = compact::hold(group, tick, hold_entries);
        let outcome = compact::compact(group, request, hold);
        if outcome.as_ref().is_ok_and(|done| done.freed_bytes > 0) {
            self.touched.insert(request.group_id);
            self.purge();
        }
        Ok(outcome)
    }

    /// Starts a checkpoint if one is due and none runs.
    fn checkpoint(&mut self, group_id: u64) -> Result<(), DriverError> {
        let Some(group) = self.groups.get_mut(&group_id) else {
            return Ok(());
        };
        let unsaved = group.applied.index - group.persisted.applied.index;
        let due = group.checkpoint_wanted
            || self.tick - group.checkpoint_tick >= CHECKPOINT_TICKS
            || unsaved >= CHECKPOINT_ENTRIES;
        if unsaved == 0 || !due || group.checkpoint_running || group.out_of_order {
            return Ok(());
        }
        let task = DiskTask::Checkpoint(Box::new(checkpoint_task(group)?));
        match self.parts.disk.try_send(task) {
            Ok(()) => {
                group.checkpoint_running = true;
                group.checkpoint_wanted = false;
                group.checkpoint_tick = self.tick;
            }
            Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) => {
                if let (DiskTask::Checkpoint(task), Machine::Partition(machine)) =
                    (task, &mut group.machine)
                {
                    machine.put_back_dirty(task.job.dirty);
                }
            }
        }
        Ok(())
    }

    fn checkpoint_done(
        &mut self,
        group_id: u64,
        epoch: u64,
        applied: LogPos,
        conf_state: v1::ConfState,
        result: Result<CheckpointDone, StateError>,
    ) -> Result<(), DriverError> {
        let Some(group) = self.groups.get_mut(&group_id) else {
            return Ok(());
        };
        if group.epoch != epoch {
            return Ok(());
        }
        match result {
            Ok(file) => {
                let record = group.applied_record(applied, conf_state.clone(), &file);
                put_applied(&mut self.batch, group_id, &record)?;
                self.batch_must_sync = true;
                crash::point("checkpoint.record_staged");
                // It runs until its record is written: another one would remove the file that this record names.
                self.committing.push(Committing {
                    group_id,
                    epoch,
                    applied,
                    conf_state,
                    file,
                });
                Ok(())
            }
            // A disk that loses writes must not be trusted with more.
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn round(&mut self) -> Result<(), DriverError> {
        self.take_proposals();
        let dirty = std::mem::take(&mut self.dirty);
        for group_id in &dirty {
            if let Some(group) = self.groups.get_mut(group_id) {
                group.propose();
            }
        }
        let mut pending = dirty;
        loop {
            let mut flights = Vec::new();
            for group_id in std::mem::take(&mut pending) {
                if let Some(flight) = self.take_ready(group_id)? {
                    flights.push(flight);
                }
            }
            if flights.is_empty() && self.batch.is_empty() {
                break;
            }
            crash::point("ready.before_write");
            self.write_batch()?;
            crash::point("ready.written");
            let mut meta_changed = false;
            for flight in flights {
                pending.insert(flight.group_id);
                self.touched.insert(flight.group_id);
                meta_changed |= self.finish(flight)?;
            }
            if meta_changed {
                self.publish_meta();
                self.sync_with_meta()?;
                pending.extend(std::mem::take(&mut self.dirty));
            }
        }
        self.publish();
        Ok(())
    }

    fn take_proposals(&mut self) {
        for proposal in self.parts.proposals.take() {
            let Proposal {
                group_id,
                data,
                reply,
            } = proposal;
            match self.groups.get_mut(&group_id) {
                Some(group) => {
                    group.proposals.push((data, reply));
                    self.dirty.insert(group_id);
                }
                None => drop(reply.send(Err(ApiError::NotLeader))),
            }
        }
    }

    fn take_ready(&mut self, group_id: u64) -> Result<Option<Flight>, DriverError> {
        let Some(group) = self.groups.get_mut(&group_id) else {
            return Ok(None);
        };
        if group.out_of_order || !group.node.has_ready() {
            return Ok(None);
        }
        let mut ready = group.node.ready();
        if let Some(soft) = ready.ss() {
            info!(
                group_id, topic = %group.replica.topic, partition = group.replica.partition,
                role = ?soft.raft_state, leader_peer = soft.leader_id, term = group.node.raft.term, "role"
            );
            if soft.raft_state == StateRole::Leader {
                group.led_since.get_or_insert(self.tick);
            } else {
                group.led_since = None;
                group.abandon_waiters();
            }
            if soft.leader_id != 0 {
                group.kick = None;
            }
        }
        let messages = ready.take_messages();
        self.send(group_id, messages);
        let restored = self.stage_restore(group_id, &ready)?;
        let Some(group) = self.groups.get_mut(&group_id) else {
            return Ok(None);
        };
        let entries = ready.take_entries();
        let store = group.node.mut_store();
        store.stage_append(&mut self.batch, &entries)?;
        if let Some(hard_state) = ready.hs() {
            store.stage_hard_state(&mut self.batch, hard_state)?;
        }
        self.batch_must_sync |= ready.must_sync();
        Ok(Some(Flight {
            group_id,
            ready,
            entries,
            restored,
        }))
    }

    /// A snapshot from the leader takes the place of log and state, in the same batch as the rest of this `Ready`.
    fn stage_restore(
        &mut self,
        group_id: u64,
        ready: &Ready,
    ) -> Result<Option<Restored>, DriverError> {
        let Some(group) = self.groups.get_mut(&group_id) else {
            return Ok(None);
        };
        let incoming = group.incoming.take();
        if ready.snapshot().is_empty() {
            return Ok(None);
        }
        let position = LogPos {
            term: ready.snapshot().get_metadata().term,
            index: ready.snapshot().get_metadata().index,
        };
        let staged = incoming
            .filter(|staged| staged.last_included() == position)
            .ok_or_else(|| StateError::corrupt(&group.dir, "Raft took a snapshot without bytes"))?;
        let generation = group.generation + 1;
        let header = staged.header.clone();
        let state_part = staged.state_part.clone();
        crash::point("restore.before_move");
        staged.rename_to(&generation_dir(&group.dir, generation))?;
        crash::point("restore.moved");
        let file = super::lifecycle::installed_file(&state_part);
        let conf_state = header.conf_state.clone().unwrap_or_default();
        let record =
            super::group::applied_record(&group.replica, position, conf_state, generation, &file);
        super::lifecycle::stage_restored(
            &mut self.batch,
            group_id,
            &group.node.raft.hard_state(),
            &record,
        )?;
        self.batch_must_sync = true;
        Ok(Some(Restored {
            header,
            state_part,
            generation,
            file,
        }))
    }

    fn write_batch(&mut self) -> Result<(), DriverError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.parts
            .log
            .write(&mut self.batch, self.batch_must_sync)?;
        self.batch_must_sync = false;
        for done in self.committing.drain(..) {
            let Some(group) = self.groups.get_mut(&done.group_id) else {
                continue;
            };
            if group.epoch == done.epoch {
                group.checkpoint_running = false;
            }
            crash::point("checkpoint.record_written");
            if done.conf_state != group.persisted.conf_state {
                crash::point("conf.recorded");
            }
            if done.applied > group.persisted.applied {
                group.persisted.conf_state = done.conf_state;
                group.persisted.applied = done.applied;
                group.persisted.file = done.file;
                self.touched.insert(done.group_id);
            }
        }
        Ok(())
    }

    /// What follows the write. Returns whether `__meta` changed.
    fn finish(&mut self, flight: Flight) -> Result<bool, DriverError> {
        let Flight {
            group_id,
            mut ready,
            entries,
            restored,
        } = flight;
        let mut meta_changed = false;
        let was_restored = restored.is_some();
        if let Some(restored) = restored {
            self.finish_restore(group_id, restored)?;
            meta_changed = group_id == meta::GROUP_ID;
        }
        let Some(group) = self.groups.get_mut(&group_id) else {
            return Ok(false);
        };
        if entries.is_empty() && ready.must_sync() && !was_restored {
            crash::point("vote.written");
        }
        group.node.mut_store().appended(entries);
        let messages = ready.take_persisted_messages();
        self.send(group_id, messages);
        crash::point("ready.sent");
        let Some(group) = self.groups.get_mut(&group_id) else {
            return Ok(false);
        };
        let mut committed = ready.take_committed_entries();
        let mut light = group.node.advance_append(ready);
        committed.extend(light.take_committed_entries());
        if let Some(commit) = light.commit_index() {
            group.node.mut_store().set_commit(commit);
        }
        let messages = light.take_messages();
        self.send(group_id, messages);
        let Some(group) = self.groups.get_mut(&group_id) else {
            return Ok(false);
        };
        let applied_entries = !committed.is_empty();
        if applied_entries {
            let effects = apply::apply(group, committed)?;
            meta_changed |= effects.meta_changed;
        }
        // A snapshot is applied as a whole, also when no entry follows it: a campaign reads the log from here on.
        if (was_restored || applied_entries) && !group.out_of_order {
            group.node.advance_apply_to(group.applied.index);
        }
        Ok(meta_changed)
    }

    fn finish_restore(&mut self, group_id: u64, restored: Restored) -> Result<(), DriverError> {
        crash::point("restore.committed");
        let segment_bytes = self.parts.segment_bytes;
        let Some(group) = self.groups.get_mut(&group_id) else {
            return Ok(());
        };
        let position = LogPos::from_proto(restored.header.last_included.as_ref());
        let conf_state = conf_from_proto(&restored.header.conf_state.clone().unwrap_or_default());
        let old = generation_dir(&group.dir, group.generation);
        let dir = generation_dir(&group.dir, restored.generation);
        let view = group.shared.view.clone();
        group.machine = super::lifecycle::open_machine(
            &group.replica,
            &dir,
            segment_bytes,
            &restored.state_part,
            view,
        )?;
        group.generation = restored.generation;
        group.applied = position;
        group.persisted.applied = position;
        group.persisted.conf_state = restored.header.conf_state.unwrap_or_default();
        group.persisted.file = restored.file;
        group.conf_state = Arc::new(conf_state.clone());
        group.epoch += 1;
        group.checkpoint_running = false;
        group.abandon_waiters();
        group.node.mut_store().reset(position, conf_state);
        info!(
            group_id, topic = %group.replica.topic, partition = group.replica.partition,
            index = position.index, "took over the leader's snapshot"
        );
        if let Err(error) = crate::disk::remove_dir(&old) {
            warn!(%error, "the old generation stays until the next start");
        }
        crash::point("restore.old_removed");
        Ok(())
    }

    /// Sends messages; a snapshot is pinned NOW, before anything else is applied.
    fn send(&mut self, group_id: u64, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let meta = self.parts.shared.meta();
        for message in messages {
            let Some(group) = self.groups.get_mut(&group_id) else {
                return;
            };
            let peer = message.to;
            let broker = broker_of(group, &meta, peer);
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.send_snapshot(group_id, broker, message);
                continue;
            }
            let sent =
                broker.is_some_and(|broker| self.parts.outbound.send(broker, group_id, &message));
            if !sent {
                group.node.report_unreachable(peer);
            }
        }
    }

    fn send_snapshot(&mut self, group_id: u64, broker: Option<i32>, mut message: Message) {
        let identity = self.lineage_base();
        let Some(group) = self.groups.get_mut(&group_id) else {
            return;
        };
        let peer = message.to;
        let pinned = pin(group, identity);
        let usable = conf_contains(&group.conf_state, peer);
        let (Some(broker), Ok(pin), true) = (broker, pinned, usable) else {
            group.node.report_snapshot(peer, SnapshotStatus::Failure);
            return;
        };
        let metadata = message.mut_snapshot().mut_metadata();
        metadata.index = group.applied.index;
        metadata.term = group.applied.term;
        metadata.set_conf_state((*group.conf_state).clone());
        info!(
            group_id,
            peer,
            broker,
            index = group.applied.index,
            "sending a snapshot"
        );
        group.sending.insert(peer, group.applied.index);
        self.parts
            .outbound
            .send_snapshot(broker, group_id, message, pin);
    }

    fn publish(&mut self) {
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
            let state = machine.state().clone();
            self.parts.shared.set_meta(group.applied.index, state);
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

    /// Makes everything durable; the next start has nothing to replay.
    fn final_checkpoint(&mut self) -> Result<(), DriverError> {
        let ids: Vec<u64> = self.groups.keys().copied().collect();
        for group_id in ids {
            let Some(group) = self.groups.get_mut(&group_id) else {
                continue;
            };
            let clean = group.applied == group.persisted.applied;
            if clean || group.checkpoint_running || group.out_of_order {
                continue;
            }
            let task = checkpoint_task(group)?;
            let done = crate::state::checkpoint::write(&task.job)?;
            let record = group.applied_record(task.job.applied, task.conf_state, &done);
            put_applied(&mut self.batch, group_id, &record)?;
            self.batch_must_sync = true;
            crash::point("shutdown.file_written");
        }
        self.write_batch()?;
        crash::point("shutdown.record_written");
        Ok(())
    }
}

fn checkpoint_task(group: &mut Group) -> Result<CheckpointTask, StateError> {
    let dirty = match &mut group.machine {
        Machine::Partition(machine) => machine.take_dirty()?,
        Machine::Meta(_) => Vec::new(),
    };
    Ok(CheckpointTask {
        group_id: group.replica.group_id,
        epoch: group.epoch,
        conf_state: conf_to_proto(&group.conf_state),
        job: CheckpointJob {
            dir: generation_dir(&group.dir, group.generation),
            applied: group.applied,
            dirty,
            state_part: group.machine.state_part(),
            current_state_file: group.persisted.file.state_file.clone(),
        },
    })
}

fn pin(group: &mut Group, mut lineage: v1::Lineage) -> Result<Pin, StateError> {
    lineage.topic_id.clone_from(&group.replica.topic_id);
    Ok(Pin {
        header: v1::SnapshotHeader {
            lineage: Some(lineage),
            partition: Some(v1::TopicPartition {
                topic: group.replica.topic.clone(),
                partition: group.replica.partition,
            }),
            last_included: Some(group.applied.to_proto()),
            conf_state: Some(conf_to_proto(&group.conf_state)),
            state_codec: group.machine.codec().to_owned(),
            parts: Vec::new(),
        },
        parts: group.machine.pin()?,
    })
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

/// The replicas that a group shall have; empty = `__meta` here does not know the group (yet), or is older than the
/// group's own configuration: ids only grow, so one that was not given out yet as far as these metadata know is newer.
/// To act on them would bring a dead peer back, or remove the one that took its place.
pub(super) fn wanted_replicas(group: &Group, meta: &MetaState) -> Vec<meta::Replica> {
    let conf = &group.conf_state;
    let known = [&conf.voters, &conf.learners, &conf.voters_outgoing];
    if known
        .into_iter()
        .flatten()
        .any(|peer| *peer >= meta.next_peer_id)
    {
        return Vec::new();
    }
    let found = meta.group(&group.replica.topic, group.replica.partition);
    found
        .filter(|(_, found)| found.group_id == group.replica.group_id)
        .map(|(_, found)| found.replicas)
        .unwrap_or_default()
}

/// The broker of a peer: as `__meta` says, else as learned, else (founders of `__meta`) the id itself.
fn broker_of(group: &Group, meta: &MetaState, peer: u64) -> Option<i32> {
    if meta.tombstones.contains(&peer) {
        return None;
    }
    let found = meta.group(&group.replica.topic, group.replica.partition);
    found
        .and_then(|(_, found)| found.broker_of(peer))
        .or_else(|| group.peer_brokers.get(&peer).copied())
        .or_else(|| {
            let founder = i32::try_from(peer).ok()?;
            (group.is_meta() && founder <= crate::config::MAX_BROKER_ID).then_some(founder)
        })
}
