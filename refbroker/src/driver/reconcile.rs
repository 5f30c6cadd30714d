//! R8: drives each led group from its APPLIED configuration to what `__meta` wants, one change at a time.
//!
//! Raft may drop a change without an error, so nothing is remembered: what is missing is proposed again.

use raft::{
    Progress, ProgressState,
    eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2},
};
use tracing::{info, warn};

use super::group::Group;
use crate::meta;

/// A learner that lacks no more entries than this is promoted.
const CAUGHT_UP_ENTRIES: u64 = 100;
/// Ticks after which a joint configuration counts as stuck.
const JOINT_STUCK_TICKS: u64 = 30;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Propose these changes: none = leave the joint configuration, one = simple, more = joint.
    Change(Vec<(ConfChangeType, u64)>),
    /// Another peer must lead first.
    Transfer(u64),
}

/// What the decision depends on.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// This replica, the leader.
    pub me: u64,
    /// Applied voters.
    pub voters: Vec<u64>,
    /// Applied learners.
    pub learners: Vec<u64>,
    /// True = joint.
    pub joint: bool,
    /// True = joint for too long.
    pub joint_stuck: bool,
    /// Learners that are caught up.
    pub caught_up: Vec<u64>,
    /// A voter that could lead.
    pub successor: Option<u64>,
}

/// Decides on the next change.
pub fn decide(view: &View, wanted: &[meta::Replica]) -> Step {
    if view.joint {
        return if view.joint_stuck {
            Step::Change(Vec::new())
        } else {
            Step::Rest
        };
    }
    let known = |peer: u64| view.voters.contains(&peer) || view.learners.contains(&peer);
    let is_wanted = |peer: u64| wanted.iter().any(|replica| replica.peer_id == peer);
    if let Some(new) = wanted.iter().find(|replica| !known(replica.peer_id)) {
        return Step::Change(vec![(ConfChangeType::AddLearnerNode, new.peer_id)]);
    }
    let ready = wanted.iter().find(|replica| {
        view.learners.contains(&replica.peer_id) && view.caught_up.contains(&replica.peer_id)
    });
    if let Some(replica) = ready {
        let old: Vec<u64> = replica
            .replaced
            .iter()
            .copied()
            .filter(|peer| known(*peer))
            .collect();
        return remove_after(view, &old, Some(replica.peer_id));
    }
    // A learner that was replaced before it caught up.
    if let Some(dead) = view.learners.iter().find(|peer| !is_wanted(**peer)) {
        return Step::Change(vec![(ConfChangeType::RemoveNode, *dead)]);
    }
    let all_vote = wanted
        .iter()
        .all(|replica| view.voters.contains(&replica.peer_id));
    let dead = view.voters.iter().copied().find(|peer| !is_wanted(*peer));
    match dead {
        Some(dead) if all_vote => remove_after(view, &[dead], None),
        _ => Step::Rest,
    }
}

fn remove_after(view: &View, dead: &[u64], promote: Option<u64>) -> Step {
    if dead.contains(&view.me) {
        return view.successor.map_or(Step::Rest, Step::Transfer);
    }
    let added = promote.map(|peer| (ConfChangeType::AddNode, peer));
    let removed = dead.iter().map(|peer| (ConfChangeType::RemoveNode, *peer));
    Step::Change(added.into_iter().chain(removed).collect())
}

/// One step for one group.
pub fn reconcile(group: &mut Group, wanted: &[meta::Replica], tick: u64) {
    if !group.is_serving() || wanted.is_empty() || group.out_of_order {
        group.joint_since = None;
        return;
    }
    let view = view(group, tick);
    let raft = &group.node.raft;
    // A leader that hands over drops what is proposed.
    if raft.has_pending_conf() || raft.lead_transferee.is_some() {
        return;
    }
    match decide(&view, wanted) {
        Step::Rest => {}
        Step::Transfer(peer) => {
            info!(
                group_id = group.replica.group_id,
                peer, "handing over leadership before removal"
            );
            group.node.transfer_leader(peer);
        }
        Step::Change(changes) => {
            let mut change = ConfChangeV2::default();
            let singles = changes.iter().map(|(kind, peer)| ConfChangeSingle {
                change_type: *kind,
                node_id: *peer,
                ..ConfChangeSingle::default()
            });
            change.set_changes(singles.collect::<Vec<_>>().into());
            info!(
                group_id = group.replica.group_id,
                ?changes,
                "proposing a configuration change"
            );
            if let Err(error) = group.node.propose_conf_change(Vec::new(), change) {
                warn!(%error, group_id = group.replica.group_id, "configuration change not proposed");
            }
        }
    }
}

fn view(group: &mut Group, tick: u64) -> View {
    let conf = group.conf_state.clone();
    let joint = !conf.voters_outgoing.is_empty();
    if joint {
        group.joint_since.get_or_insert(tick);
    } else {
        group.joint_since = None;
    }
    group
        .learner_since
        .retain(|peer, _| conf.learners.contains(peer));
    for learner in &conf.learners {
        group.learner_since.entry(*learner).or_insert(tick);
    }
    let raft = &group.node.raft;
    let last = raft.raft_log.last_index();
    let lag = |peer: u64| {
        let progress = raft.prs().get(peer)?;
        let live = follows(progress, last) && progress.recent_active;
        live.then(|| last - progress.matched.min(last))
    };
    let caught_up = conf.learners.iter().copied();
    let caught_up = caught_up.filter(|peer| lag(*peer).is_some_and(|lag| lag <= CAUGHT_UP_ENTRIES));
    let others = conf.voters.iter().copied();
    let others = others.filter(|peer| *peer != group.replica.peer_id);
    let successor = others.filter_map(|peer| Some((lag(peer)?, peer))).min();
    View {
        me: group.replica.peer_id,
        joint_stuck: group
            .joint_since
            .is_some_and(|since| tick - since > JOINT_STUCK_TICKS),
        joint,
        caught_up: caught_up.collect(),
        successor: successor.map(|(_, peer)| peer),
        voters: conf.voters.clone(),
        learners: conf.learners.clone(),
    }
}

/// True = the peer takes what it is sent. One that was unreachable and lacks nothing counts, too: Raft probes it
/// only with the next entry, which in an idle group may never come.
pub fn follows(progress: &Progress, last: u64) -> bool {
    match progress.state {
        ProgressState::Replicate => true,
        ProgressState::Probe => progress.matched == last,
        ProgressState::Snapshot => false,
    }
}

/// The voter that should lead when this broker goes away.
pub fn successor(group: &mut Group, tick: u64) -> Option<u64> {
    view(group, tick).successor
}

/// The replicas that a group shall have; empty = `__meta` here does not know the group (yet), or is older than the
/// group's own configuration: ids only grow, so one that was not given out yet as far as these metadata know is newer.
/// To act on them would bring a dead peer back, or remove the one that took its place.
pub fn wanted_replicas(group: &Group, meta: &meta::MetaState) -> Vec<meta::Replica> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Vec<meta::Replica> {
        let replica = |broker_id, peer_id, replaced: &[u64]| meta::Replica {
            broker_id,
            peer_id,
            replaced: replaced.to_vec(),
        };
        vec![replica(1, 1, &[]), replica(2, 2, &[]), replica(3, 30, &[3])]
    }

    fn leader_one(voters: &[u64], learners: &[u64]) -> View {
        View {
            me: 1,
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            successor: Some(2),
            ..View::default()
        }
    }

    #[test]
    fn a_lost_replica_comes_back_as_learner_and_takes_its_old_place_in_one_change() {
        let view = leader_one(&[1, 2, 3], &[]);
        let add = Step::Change(vec![(ConfChangeType::AddLearnerNode, 30)]);
        assert_eq!(decide(&view, &wanted()), add);

        let mut view = leader_one(&[1, 2, 3], &[30]);
        assert_eq!(decide(&view, &wanted()), Step::Rest);
        view.caught_up = vec![30];
        let promote = vec![
            (ConfChangeType::AddNode, 30),
            (ConfChangeType::RemoveNode, 3),
        ];
        assert_eq!(decide(&view, &wanted()), Step::Change(promote));

        assert_eq!(decide(&leader_one(&[1, 2, 30], &[]), &wanted()), Step::Rest);
    }

    #[test]
    fn a_stuck_joint_configuration_is_left_and_nothing_else_is_done_in_one() {
        let mut view = leader_one(&[1, 2, 30], &[]);
        view.joint = true;
        assert_eq!(decide(&view, &[]), Step::Rest);
        view.joint_stuck = true;
        assert_eq!(decide(&view, &[]), Step::Change(Vec::new()));
    }

    #[test]
    fn a_learner_that_was_replaced_again_is_removed_once_its_successor_is_known() {
        let mut replicas = wanted();
        replicas[2].peer_id = 31;
        replicas[2].replaced.push(30);
        let view = leader_one(&[1, 2, 3], &[30]);
        let add = Step::Change(vec![(ConfChangeType::AddLearnerNode, 31)]);
        assert_eq!(decide(&view, &replicas), add);
        let mut view = leader_one(&[1, 2, 3], &[30, 31]);
        let remove = Step::Change(vec![(ConfChangeType::RemoveNode, 30)]);
        assert_eq!(decide(&view, &replicas), remove);
        view.caught_up = vec![31];
        let promote = vec![
            (ConfChangeType::AddNode, 31),
            (ConfChangeType::RemoveNode, 3),
            (ConfChangeType::RemoveNode, 30),
        ];
        assert_eq!(decide(&view, &replicas), Step::Change(promote));
    }

    #[test]
    fn a_leader_that_is_to_be_removed_hands_over_first() {
        let mut view = leader_one(&[1, 2, 30], &[]);
        let replicas = [wanted()[1].clone(), wanted()[2].clone()];
        assert_eq!(decide(&view, &replicas), Step::Transfer(2));
        view.me = 2;
        let remove = Step::Change(vec![(ConfChangeType::RemoveNode, 1)]);
        assert_eq!(decide(&view, &replicas), remove);
    }
}
