//! What other threads see of the groups.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use raft::eraftpb::ConfState;
use tokio::sync::watch;

use crate::{
    latency::Latency, meta::MetaState, proto::v1::ReplicaRole, state::view::PartitionView,
};

/// A replica at one moment.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    /// Raft peer id of this replica.
    pub peer_id: u64,
    /// Role.
    pub role: ReplicaRole,
    /// Current term.
    pub term: u64,
    /// Peer id of the leader; 0 = unknown.
    pub leader_peer_id: u64,
    /// Commit index (inclusive).
    pub commit_index: u64,
    /// Applied index (inclusive).
    pub applied_index: u64,
    /// Applied index that the disk knows (inclusive).
    pub persisted_index: u64,
    /// Lowest index in the log.
    pub first_log_index: u64,
    /// Highest index in the log (inclusive).
    pub last_log_index: u64,
    /// Bytes of the log, approximately.
    pub log_bytes: u64,
    /// Applied configuration.
    pub conf_state: Arc<ConfState>,
    /// Lowest index that must stay (inclusive); 0 = none.
    pub hold_index: u64,
    /// Why.
    pub hold_reason: String,
    /// True = leads, and has applied an entry of its own term: what it reads is not behind what clients saw.
    pub serving: bool,
    /// Peers that the leader believes to be caught up.
    pub in_sync: Vec<u64>,
    /// True = stopped after a configuration change that Raft refused.
    pub out_of_order: bool,
}

/// A group.
#[derive(Debug)]
pub struct GroupShared {
    /// Raft group id.
    pub group_id: u64,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Life of the topic.
    pub topic_id: String,
    /// Records; `None` for `__meta`.
    pub view: Option<Arc<PartitionView>>,
    status: Mutex<GroupStatus>,
}

impl GroupShared {
    /// With a first status.
    pub fn new(
        group_id: u64,
        (topic, partition, topic_id): (String, i32, String),
        view: Option<Arc<PartitionView>>,
        status: GroupStatus,
    ) -> Self {
        Self {
            group_id,
            topic,
            partition,
            topic_id,
            view,
            status: Mutex::new(status),
        }
    }

    /// The replica now.
    pub fn status(&self) -> GroupStatus {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// True = this replica leads and may serve reads.
    pub fn is_serving(&self) -> bool {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .serving
    }

    /// Replaces the status.
    pub fn set_status(&self, status: GroupStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// All groups of this broker, and the cluster's metadata as applied here.
#[derive(Debug)]
pub struct Shared {
    /// How long producers waited.
    pub latency: Latency,
    groups: RwLock<HashMap<u64, Arc<GroupShared>>>,
    meta: watch::Sender<(u64, Arc<MetaState>)>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            latency: Latency::default(),
            groups: RwLock::default(),
            meta: watch::channel((0, Arc::default())).0,
        }
    }
}

impl Shared {
    /// One group.
    pub fn group(&self, group_id: u64) -> Option<Arc<GroupShared>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(&group_id).cloned()
    }

    /// All groups in order of id.
    pub fn groups(&self) -> Vec<Arc<GroupShared>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let mut groups: Vec<_> = groups.values().cloned().collect();
        groups.sort_by_key(|group| group.group_id);
        groups
    }

    /// Adds a group.
    pub fn insert(&self, group: Arc<GroupShared>) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.insert(group.group_id, group);
    }

    /// Removes a group.
    pub fn remove(&self, group_id: u64) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.remove(&group_id);
    }

    /// The metadata now.
    pub fn meta(&self) -> Arc<MetaState> {
        self.meta.borrow().1.clone()
    }

    /// Changes of the metadata: (applied index, state).
    pub fn watch_meta(&self) -> watch::Receiver<(u64, Arc<MetaState>)> {
        self.meta.subscribe()
    }

    /// Publishes new metadata.
    pub fn set_meta(&self, applied_index: u64, state: Arc<MetaState>) {
        self.meta.send_replace((applied_index, state));
    }

    /// The group of a partition, if this broker hosts a replica.
    pub fn find(&self, topic: &str, partition: i32) -> Option<Arc<GroupShared>> {
        let group_id = self.meta.borrow().1.group_id(topic, partition)?;
        self.group(group_id)
    }
}
