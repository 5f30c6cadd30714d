//! How replicas come and go.
//!
//! | this broker has | `__meta` (which must know this disk) wants | what happens |
//! |---|---|---|
//! | a commit record | anything | started at once, before anyone is asked |
//! | nothing, its peer id is one the group was created with | a replica | it never ran: created empty, with the group's first configuration |
//! | nothing, its peer id is one that a restored group began with | a replica | seeded by the plan of the restore, as a voter |
//! | nothing, its peer id came later | a replica | LOST: seeded by the sidecar, else an empty learner |
//! | a replica | none | removed, log and state |
//!
//! "Never ran" is certain: identity file, log and state are one life (identity.rs), so a missing record was never written.

use std::{
    collections::BTreeMap, collections::BTreeSet, collections::VecDeque, path::Path, sync::Arc,
};

use raft::eraftpb::{ConfState, HardState};
use raft_engine::LogBatch;
use tracing::{error, info, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    DriverError,
    group::{Group, Machine, Persisted, applied_record, initial_conf, raw_node},
    input::{NewReplica, StartRefusal},
    run::Driver,
    shared::{GroupShared, GroupStatus},
};
use crate::{
    crash, disk,
    meta::{self, Command, MetaMachine, MetaState},
    proto::{peer::AppliedRecord, v1::ReplicaRole},
    raftlog::{
        LogPos, conf_from_proto,
        engine::{
            GroupRecord, LogError, clean, put_applied, put_hard_state, put_seed, put_truncated,
        },
        storage::RaftStorage,
    },
    state::{
        StateError,
        checkpoint::{CheckpointDone, read_state_file, remove_old_state_files, write_state_file},
        generation_dir,
        partition::PartitionMachine,
        staging::{STATE_FILE, Staged},
        view::PartitionView,
    },
};

/// Ticks after which the first replica of a new group asks for votes.
const KICK_TICKS: u32 = 3;

/// Opens the state of a replica.
pub fn open_machine(
    replica: &NewReplica,
    dir: &Path,
    segment_bytes: u64,
    state_part: &[u8],
    view: Option<Arc<PartitionView>>,
) -> Result<Machine, DriverError> {
    if replica.group_id == meta::GROUP_ID {
        return Ok(Machine::Meta(MetaMachine::from_state_part(state_part)?));
    }
    let machine = PartitionMachine::open(dir, segment_bytes, state_part, view)?;
    Ok(Machine::Partition(Box::new(machine)))
}

/// The state file of an installed snapshot.
pub fn installed_file(state_part: &[u8]) -> CheckpointDone {
    CheckpointDone {
        state_file: STATE_FILE.to_owned(),
        state_xxh3: xxh3_64(state_part),
    }
}

/// Log and commit record after a leader's snapshot: the term and vote of this replica stay.
pub fn stage_restored(
    batch: &mut LogBatch,
    group_id: u64,
    hard_state: &HardState,
    record: &AppliedRecord,
) -> Result<(), LogError> {
    clean(batch, group_id);
    put_hard_state(batch, group_id, hard_state)?;
    put_truncated(batch, group_id, LogPos::from_proto(record.applied.as_ref()))?;
    put_applied(batch, group_id, record)
}

fn group_dir(groups_dir: &Path, group_id: u64) -> std::path::PathBuf {
    groups_dir.join(format!("{group_id:016}"))
}

impl Driver {
    /// Starts every replica with a commit record; removes what belongs to none.
    pub(super) fn start_known(&mut self) -> Result<(), DriverError> {
        let groups_dir = self.parts.groups_dir.clone();
        disk::create_dir(&groups_dir).map_err(StateError::io(&groups_dir))?;
        let records = self.parts.log.groups()?;
        let known: BTreeSet<_> = records
            .iter()
            .map(|(group_id, _)| group_dir(&groups_dir, *group_id))
            .collect();
        remove_others(&groups_dir, |path| known.contains(path))?;
        for (group_id, record) in records {
            self.start(group_id, &record)?;
        }
        self.publish_meta();
        Ok(())
    }

    fn start(&mut self, group_id: u64, record: &GroupRecord) -> Result<(), DriverError> {
        let dir = group_dir(&self.parts.groups_dir, group_id);
        let applied_record = &record.applied;
        let generation = applied_record.generation;
        let state_dir = generation_dir(&dir, generation);
        remove_others(&dir, |path| path == state_dir)?;
        let file = CheckpointDone {
            state_file: applied_record.state_file.clone(),
            state_xxh3: applied_record.state_xxh3,
        };
        let state_part = read_state_file(&state_dir, &file.state_file, file.state_xxh3)?;
        remove_old_state_files(&state_dir, &[&file.state_file])?;
        let partition = applied_record.partition.clone().unwrap_or_default();
        let replica = NewReplica {
            group_id,
            topic: partition.topic,
            partition: partition.partition,
            topic_id: applied_record.topic_id.clone(),
            peer_id: applied_record.peer_id,
            initial_voters: applied_record.initial_voters.clone(),
            restored: false,
        };
        let machine = open_machine(
            &replica,
            &state_dir,
            self.parts.segment_bytes,
            &state_part,
            None,
        )?;
        let conf_state = conf_from_proto(&applied_record.conf_state.clone().unwrap_or_default());
        let applied = LogPos::from_proto(applied_record.applied.as_ref());
        let log = self.parts.log.clone();
        let storage = RaftStorage::open(log, group_id, record, conf_state.clone())?;
        let node = raw_node(group_id, replica.peer_id, applied.index, storage)?;
        let shared = new_shared(&replica, &machine, &conf_state);
        self.parts.shared.insert(shared.clone());
        let alone = conf_state.voters == [replica.peer_id];
        let first_voter = replica.initial_voters.first() == Some(&replica.peer_id);
        let fresh = applied.index == 0 && first_voter;
        let group = Group {
            dir,
            generation,
            node,
            machine,
            shared,
            applied,
            conf_state: Arc::new(conf_state),
            persisted: Persisted {
                applied,
                conf_state: applied_record.conf_state.clone().unwrap_or_default(),
                file,
            },
            epoch: 0,
            checkpoint_running: false,
            checkpoint_wanted: false,
            checkpoint_tick: self.tick,
            proposals: Vec::new(),
            waiters: VecDeque::new(),
            incoming: None,
            peer_brokers: BTreeMap::new(),
            sending: BTreeMap::new(),
            kick: (alone || fresh).then_some(if alone { 0 } else { KICK_TICKS }),
            led_since: None,
            learner_since: BTreeMap::new(),
            joint_since: None,
            out_of_order: false,
            replica,
        };
        info!(
            group_id, topic = %group.replica.topic, partition = group.replica.partition,
            peer_id = group.replica.peer_id, applied = applied.index,
            first = group.node.store().truncated().index + 1, last = group.node.store().last().index,
            "replica started"
        );
        self.groups.insert(group_id, group);
        self.dirty.insert(group_id);
        self.touched.insert(group_id);
        Ok(())
    }

    /// Starts a replica for the first time. Files first, then one commit record, then Raft.
    pub(super) fn start_new(
        &mut self,
        replica: &NewReplica,
        seed: Option<Box<Staged>>,
    ) -> Result<Result<(), StartRefusal>, DriverError> {
        let group_id = replica.group_id;
        self.waiting_for_seed.remove(&group_id);
        if self.groups.contains_key(&group_id) || self.parts.log.load(group_id)?.is_some() {
            return Ok(Err(StartRefusal::Running));
        }
        let dir = group_dir(&self.parts.groups_dir, group_id);
        let generation = 1;
        let state_dir = generation_dir(&dir, generation);
        disk::remove_dir(&state_dir).map_err(StateError::io(&state_dir))?;
        let (applied, conf_state, file) = if let Some(seed) = seed {
            let applied = seed.last_included();
            // The first voters of a restored group; what the snapshot says of peers is of a former life.
            let conf_state = if replica.restored {
                initial_conf(replica)
            } else {
                seed.header.conf_state.clone().unwrap_or_default()
            };
            let file = installed_file(&seed.state_part);
            crash::point("install.before_move");
            seed.rename_to(&state_dir)?;
            crash::point("install.moved");
            (applied, conf_state, file)
        } else {
            disk::create_dir(&state_dir).map_err(StateError::io(&state_dir))?;
            let state_part = empty_state(replica, &state_dir, self.parts.segment_bytes)?;
            let file = write_state_file(&state_dir, LogPos::default(), &state_part)?;
            crash::point("create.files_written");
            (LogPos::default(), initial_conf(replica), file)
        };
        let record = applied_record(replica, applied, conf_state, generation, &file);
        let mut batch = LogBatch::default();
        put_seed(&mut batch, group_id, &record)?;
        self.parts.log.write(&mut batch, true)?;
        crash::point("replica.committed");
        let record = self.parts.log.load(group_id)?.unwrap_or_default();
        self.start(group_id, &record)?;
        if group_id == meta::GROUP_ID {
            self.publish_meta();
            self.sync_with_meta()?;
        }
        Ok(Ok(()))
    }

    /// Creates, removes and looks for replicas as `__meta` wants. Metadata that does not know this very disk (it may
    /// be older than the loss of the former one) counts for nothing.
    pub(super) fn sync_with_meta(&mut self) -> Result<(), DriverError> {
        let meta = self.parts.shared.meta();
        let me = self.parts.broker_id;
        let known = meta.brokers.get(&me);
        if known.is_none_or(|known| known.replica_uuid != self.parts.replica_uuid) {
            return Ok(());
        }
        for (topic, partition, found, group) in meta.partitions() {
            let Some(replica) = group.replica_on(me) else {
                continue;
            };
            if self.groups.contains_key(&group.group_id)
                || self.waiting_for_seed.contains(&group.group_id)
            {
                continue;
            }
            let new = NewReplica {
                group_id: group.group_id,
                topic: topic.to_owned(),
                partition,
                topic_id: found.topic_id.to_string(),
                peer_id: replica.peer_id,
                initial_voters: group.initial_voters.clone(),
                restored: group.restored && group.initial_voters.contains(&replica.peer_id),
            };
            if group.initial_voters.contains(&replica.peer_id) && !new.restored {
                if let Err(refusal) = self.start_new(&new, None)? {
                    warn!(%refusal, group_id = group.group_id, "replica not created");
                }
            } else if self.parts.lost.try_send(new).is_ok() {
                self.waiting_for_seed.insert(group.group_id);
            }
        }
        self.remove_unwanted(&meta)
    }

    fn remove_unwanted(&mut self, meta: &MetaState) -> Result<(), DriverError> {
        let wanted: BTreeSet<u64> = meta
            .partitions()
            .map(|(_, _, _, group)| group.group_id)
            .collect();
        let unwanted: Vec<u64> = self
            .groups
            .keys()
            .copied()
            .filter(|group_id| *group_id != meta::GROUP_ID)
            // A group that these metadata have not heard of yet is not a deleted one.
            .filter(|group_id| *group_id < meta.next_group_id && !wanted.contains(group_id))
            .collect();
        for group_id in unwanted {
            let Some(mut group) = self.groups.remove(&group_id) else {
                continue;
            };
            info!(group_id, topic = %group.replica.topic, "topic deleted: replica removed");
            group.abandon_waiters();
            self.parts.shared.remove(group_id);
            let mut batch = LogBatch::default();
            clean(&mut batch, group_id);
            self.parts.log.write(&mut batch, true)?;
            crash::point("remove.log_cleaned");
            self.discard(std::mem::take(&mut group.dir));
        }
        Ok(())
    }

    /// The first leader of a new `__meta` writes who founded the cluster.
    pub(super) fn found_cluster(&mut self, meta: &MetaState) {
        if meta.is_formed() || self.parts.founders.is_empty() {
            return;
        }
        let command = Command::Init {
            cluster_id: self.parts.cluster_id.clone(),
            incarnation: self.parts.incarnation,
            members: self.parts.founders.clone(),
        };
        if let Some(group) = self.groups.get_mut(&meta::GROUP_ID)
            && group.is_serving()
            && group
                .node
                .propose(Vec::new(), command.encode().into())
                .is_err()
        {
            error!("the cluster could not be founded yet");
        }
    }
}

fn empty_state(
    replica: &NewReplica,
    dir: &Path,
    segment_bytes: u64,
) -> Result<Vec<u8>, StateError> {
    if replica.group_id == meta::GROUP_ID {
        return Ok(MetaMachine::default().state_part());
    }
    let machine = PartitionMachine::create(dir, segment_bytes)?;
    Ok(machine.state_part().to_vec())
}

fn new_shared(replica: &NewReplica, machine: &Machine, conf_state: &ConfState) -> Arc<GroupShared> {
    let view = match machine {
        Machine::Partition(machine) => Some(machine.view().clone()),
        Machine::Meta(_) => None,
    };
    let status = GroupStatus {
        peer_id: replica.peer_id,
        role: ReplicaRole::Unspecified,
        term: 0,
        leader_peer_id: 0,
        commit_index: 0,
        applied_index: 0,
        persisted_index: 0,
        first_log_index: 1,
        last_log_index: 0,
        log_bytes: 0,
        conf_state: Arc::new(conf_state.clone()),
        hold_index: 0,
        hold_reason: String::new(),
        serving: false,
        in_sync: Vec::new(),
        out_of_order: false,
    };
    let name = (
        replica.topic.clone(),
        replica.partition,
        replica.topic_id.clone(),
    );
    Arc::new(GroupShared::new(replica.group_id, name, view, status))
}

/// Removes leftovers of a crash: staging directories, generations and groups that no commit record names.
fn remove_others(dir: &Path, keep: impl Fn(&Path) -> bool) -> Result<(), StateError> {
    for entry in std::fs::read_dir(dir).map_err(StateError::io(dir))? {
        let path = entry.map_err(StateError::io(dir))?.path();
        if path.is_dir() && !keep(&path) {
            info!(path = %path.display(), "removing a leftover");
            crash::point("leftovers.found");
            disk::remove_dir(&path).map_err(StateError::io(&path))?;
            crash::point("leftovers.removed");
        }
    }
    Ok(())
}
