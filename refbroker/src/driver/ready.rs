//! What Raft wants to have done: one round of the driver.
//!
//! As long as some group has something ready: send what may leave early, stage what must persist, ONE log write, then
//! for each group: send the rest, advance, apply.

use raft::{Ready, StateRole, eraftpb::Entry};
use tracing::info;

use super::{DriverError, apply, proposals::Proposal, run::Driver, snapshots::Restored};
use crate::{api::ApiError, crash, meta};

struct Flight {
    group_id: u64,
    ready: Ready,
    entries: Vec<Entry>,
    restored: Option<Restored>,
}

impl Driver {
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

    pub(super) fn write_batch(&mut self) -> Result<(), DriverError> {
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
}
