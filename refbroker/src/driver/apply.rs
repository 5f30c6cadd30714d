//! Committed entries become state.

use protobuf::Message as _;
use raft::{
    StateRole,
    eraftpb::{ConfChange, ConfChangeV2, Entry, EntryType},
};
use tracing::{error, info};

use super::{
    DriverError,
    group::{Group, Machine, Waiter},
    input::Applied,
};
use crate::{crash, raftlog::LogPos};

/// What applying changed beside the group itself.
#[derive(Debug, Default, Clone, Copy)]
pub struct Effects {
    /// `__meta` changed.
    pub meta_changed: bool,
}

/// Applies entries in order, makes them visible, then answers those who wait.
pub fn apply(group: &mut Group, entries: Vec<Entry>) -> Result<Effects, DriverError> {
    let mut effects = Effects::default();
    let mut answers: Vec<(Waiter, Applied)> = Vec::new();
    for entry in entries {
        if group.out_of_order {
            return Ok(effects);
        }
        let position = LogPos {
            term: entry.term,
            index: entry.index,
        };
        match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => {}
            EntryType::EntryNormal => {
                let outcome = match &mut group.machine {
                    Machine::Partition(machine) => {
                        Applied::Batch(machine.apply(entry.index, entry.term, &entry.data)?)
                    }
                    Machine::Meta(machine) => {
                        effects.meta_changed = true;
                        Applied::Meta(entry.index, machine.apply(&entry.data))
                    }
                };
                if let Some(waiter) = group.take_waiter(entry.index, entry.term) {
                    answers.push((waiter, outcome));
                }
            }
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                apply_conf_change(group, &entry);
            }
        }
        if group.out_of_order {
            break;
        }
        group.applied = position;
    }
    if let Machine::Partition(machine) = &mut group.machine {
        machine.publish()?;
    }
    crash::point("apply.unanswered");
    for (waiter, outcome) in answers {
        let _ = waiter.reply.send(Ok(outcome));
    }
    let applied = group.applied;
    group.node.mut_store().set_applied(applied);
    Ok(effects)
}

/// R7: a change that Raft refuses stops the replica; going on with another configuration would be worse.
fn apply_conf_change(group: &mut Group, entry: &Entry) {
    crash::point("conf.committed");
    let was_joint = !group.conf_state.voters_outgoing.is_empty();
    let applied = match entry.get_entry_type() {
        EntryType::EntryConfChange => ConfChange::parse_from_carllerche_bytes(&entry.data)
            .map_err(raft::Error::from)
            .and_then(|change| group.node.apply_conf_change(&change)),
        _ => ConfChangeV2::parse_from_carllerche_bytes(&entry.data)
            .map_err(raft::Error::from)
            .and_then(|change| group.node.apply_conf_change(&change)),
    };
    let conf_state = match applied {
        Ok(conf_state) => conf_state,
        Err(error) => {
            error!(
                %error, group_id = group.replica.group_id, index = entry.index,
                "configuration change refused: the replica stops"
            );
            group.out_of_order = true;
            group.abandon_waiters();
            return;
        }
    };
    info!(
        group_id = group.replica.group_id, topic = %group.replica.topic, partition = group.replica.partition,
        index = entry.index, voters = ?conf_state.voters, learners = ?conf_state.learners,
        outgoing = ?conf_state.voters_outgoing, "configuration changed"
    );
    group.conf_state = std::sync::Arc::new(conf_state.clone());
    group.checkpoint_wanted = true;
    match (was_joint, !group.conf_state.voters_outgoing.is_empty()) {
        (false, false) => crash::point("conf.simple_applied"),
        (_, true) => crash::point("conf.joint_entered"),
        (true, false) => crash::point("conf.joint_left"),
    }
    let me = group.replica.peer_id;
    let still_votes = conf_state.voters.contains(&me) || conf_state.voters_outgoing.contains(&me);
    group.node.mut_store().set_conf_state(conf_state);
    // R9: a leader that removed itself steps down before it reports what it applied.
    if !still_votes && group.node.raft.state == StateRole::Leader {
        let term = group.node.raft.term;
        group.node.raft.become_follower(term, raft::INVALID_ID);
        group.abandon_waiters();
    }
}
