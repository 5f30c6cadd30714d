//! Messages of Raft, in and out.

use raft::eraftpb::{Message, MessageType};
use tracing::debug;

use super::{group::Group, run::Driver};
use crate::meta::{self, MetaState};

impl Driver {
    pub(super) fn step(&mut self, from_broker: i32, group_id: u64, message: Message) {
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

    pub(super) fn deliver(&mut self, from_broker: i32, group_id: u64, message: Message) {
        let Some(group) = self.groups.get_mut(&group_id) else {
            return;
        };
        group.peer_brokers.insert(message.from, from_broker);
        if let Err(error) = group.node.step(message) {
            debug!(%error, group_id, "message not taken");
        }
        self.dirty.insert(group_id);
    }

    pub(super) fn unreachable(&mut self, broker: i32) {
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

    /// Sends messages; a snapshot is pinned NOW, before anything else is applied.
    pub(super) fn send(&mut self, group_id: u64, messages: Vec<Message>) {
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
}

/// The broker of a peer: as `__meta` says, else as learned, else (founders of `__meta`) by the id itself.
fn broker_of(group: &Group, meta: &MetaState, peer: u64) -> Option<i32> {
    if meta.tombstones.contains(&peer) {
        return None;
    }
    let found = meta.group(&group.replica.topic, group.replica.partition);
    found
        .and_then(|(_, found)| found.broker_of(peer))
        .or_else(|| group.peer_brokers.get(&peer).copied())
        .or_else(|| meta::founder_of_peer(peer).filter(|_| group.is_meta()))
}
