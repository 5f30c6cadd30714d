//! Whole states: pinned for an export or for a peer, and taken over from a leader.

use std::sync::Arc;

use raft::{Ready, SnapshotStatus, eraftpb::Message};
use tracing::{error, info};

use super::{
    DriverError,
    group::{Group, applied_record},
    input::ExportRefusal,
    lifecycle,
    run::Driver,
};
use crate::{
    crash,
    proto::v1,
    raftlog::{LogPos, conf_contains, conf_from_proto, conf_to_proto},
    state::{StateError, checkpoint::CheckpointDone, generation_dir, pin::Pin, staging::Staged},
};

pub(super) struct Restored {
    header: v1::SnapshotHeader,
    state_part: Vec<u8>,
    generation: u64,
    file: CheckpointDone,
}

impl Driver {
    pub(super) fn incoming_snapshot(
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

    /// A snapshot from the leader takes the place of log and state, in the same batch as the rest of this `Ready`.
    pub(super) fn stage_restore(
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
        let file = lifecycle::installed_file(&state_part);
        let conf_state = header.conf_state.clone().unwrap_or_default();
        let record = applied_record(&group.replica, position, conf_state, generation, &file);
        lifecycle::stage_restored(
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

    pub(super) fn finish_restore(
        &mut self,
        group_id: u64,
        restored: Restored,
    ) -> Result<(), DriverError> {
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
        group.machine = lifecycle::open_machine(
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
        self.discard(old);
        crash::point("restore.old_removed");
        Ok(())
    }

    pub(super) fn export(
        &mut self,
        group_id: u64,
        newer_than_index: u64,
    ) -> Result<Pin, ExportRefusal> {
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

    pub(super) fn send_snapshot(
        &mut self,
        group_id: u64,
        broker: Option<i32>,
        mut message: Message,
    ) {
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

    /// R6: whatever became of it, Raft is told.
    pub(super) fn snapshot_report(&mut self, group_id: u64, peer_id: u64, finished: bool) {
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
