//! When a state becomes durable, and what may be dropped from a log because it is.

use std::sync::mpsc::TrySendError;

use super::{
    CHECKPOINT_ENTRIES, CHECKPOINT_TICKS, DriverError, compact,
    group::{Group, Machine},
    input::{CompactRefusal, CompactRequest, Compacted},
    run::{CheckpointTask, DiskTask, Driver},
};
use crate::{
    crash,
    proto::v1,
    raftlog::{LogPos, conf_to_proto, engine::put_applied},
    state::{
        StateError,
        checkpoint::{CheckpointDone, CheckpointJob},
        generation_dir,
    },
};

/// A checkpoint whose record is in the batch.
pub(super) struct Committing {
    pub(super) group_id: u64,
    pub(super) epoch: u64,
    pub(super) applied: LogPos,
    pub(super) conf_state: v1::ConfState,
    pub(super) file: CheckpointDone,
}

impl Driver {
    /// Starts a checkpoint if one is due and none runs.
    pub(super) fn checkpoint(&mut self, group_id: u64) -> Result<(), DriverError> {
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

    pub(super) fn checkpoint_done(
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

    pub(super) fn compact(
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

    /// Makes everything durable; the next start has nothing to replay.
    pub(super) fn final_checkpoint(&mut self) -> Result<(), DriverError> {
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
