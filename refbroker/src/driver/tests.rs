//! One driver with one voter, driven by hand: crashes and compactions in any order.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
};

use bytes::Bytes;
use proptest::prelude::*;
use raft::{
    Storage as _,
    eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Message, MessageType},
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    input::{Applied, CompactRefusal, CompactRequest, Compacted, Input, NewReplica},
    proposals::{Proposal, Proposals},
    run::{DiskTask, Driver, DriverParts, Outbound},
    shared::Shared,
};
use crate::{
    api::{ApiError, Appended},
    proto::v1,
    raftlog::{LogPos, engine::LogEngine},
    state::{
        batch::test_batch,
        checkpoint,
        pin::Pin,
        staging::{Expected, Staged, Staging},
    },
};

const GROUP: u64 = 1000;
const HOLD_ENTRIES: u64 = 10;

struct Nowhere;

impl Outbound for Nowhere {
    fn send(&self, _broker: i32, _group_id: u64, _message: &Message) -> bool {
        false
    }

    fn send_snapshot(&self, _broker: i32, _group_id: u64, _message: Message, _pin: Pin) {}
}

struct Bench {
    driver: Driver,
    proposals: Arc<Proposals>,
    disk: Receiver<DiskTask>,
    shared: Arc<Shared>,
}

impl Bench {
    fn open(dir: &Path) -> Self {
        let (disk_tasks, disk) = sync_channel(16);
        let shared = Arc::new(Shared::default());
        let proposals = Arc::<Proposals>::default();
        let parts = DriverParts {
            broker_id: 1,
            replica_uuid: Uuid::from_u128(1),
            cluster_id: "c".to_owned(),
            incarnation: 1,
            founders: Vec::new(),
            groups_dir: dir.join("groups"),
            segment_bytes: 700,
            hold_entries: HOLD_ENTRIES,
            log: LogEngine::open(&dir.join("log")).unwrap(),
            inputs: mpsc::channel(1).1,
            proposals: proposals.clone(),
            shared: shared.clone(),
            outbound: Arc::new(Nowhere),
            disk: disk_tasks,
            lost: mpsc::channel(1).0,
        };
        let driver = Driver::new(parts).unwrap();
        let mut bench = Self {
            driver,
            proposals,
            disk,
            shared,
        };
        bench.settle();
        bench
    }

    fn replica(peer_id: u64, voters: &[u64]) -> NewReplica {
        NewReplica {
            group_id: GROUP,
            topic: "t".to_owned(),
            partition: 0,
            topic_id: "id".to_owned(),
            peer_id,
            initial_voters: voters.to_vec(),
        }
    }

    fn start(&mut self, peer_id: u64, voters: &[u64], seed: Option<Box<Staged>>) -> bool {
        let (reply, mut answer) = oneshot::channel();
        let start = Input::Start {
            replica: Box::new(Self::replica(peer_id, voters)),
            seed,
            reply,
        };
        self.driver.handle(start).unwrap();
        self.settle();
        answer.try_recv().unwrap().is_ok()
    }

    fn add_learner(&mut self, peer: u64) {
        let change = ConfChangeSingle {
            change_type: ConfChangeType::AddLearnerNode,
            node_id: peer,
            ..ConfChangeSingle::default()
        };
        let mut changes = ConfChangeV2::default();
        changes.set_changes(vec![change].into());
        let group = self.driver.groups.get_mut(&GROUP).unwrap();
        group.node.propose_conf_change(Vec::new(), changes).unwrap();
        self.settle();
        assert_eq!(self.driver.groups[&GROUP].conf_state.learners, vec![peer]);
    }

    fn settle(&mut self) {
        for _ in 0..2 {
            self.driver.handle(Input::Tick).unwrap();
            self.driver.round().unwrap();
        }
    }

    fn append(&mut self, batch: Bytes) -> Result<Appended, ApiError> {
        let (reply, mut answer) = oneshot::channel();
        let proposal = Proposal {
            group_id: GROUP,
            data: batch,
            reply,
        };
        self.proposals.push(proposal).unwrap();
        self.driver.round().unwrap();
        match answer.try_recv().unwrap()? {
            Applied::Batch(outcome) => outcome,
            Applied::Meta(..) => panic!("not a batch"),
        }
    }

    /// Makes the state durable: what the disk thread does, at once.
    fn persist(&mut self) {
        self.driver.handle(Input::Checkpoint(GROUP)).unwrap();
        while let Ok(task) = self.disk.try_recv() {
            if !matches!(task, DiskTask::Checkpoint(_)) {
                continue;
            }
            self.driver.handle(work(task)).unwrap();
            self.driver.round().unwrap();
        }
    }

    fn compact(&mut self, snapshot: LogPos, through: u64) -> Result<Compacted, CompactRefusal> {
        let (reply, mut answer) = oneshot::channel();
        let request = CompactRequest {
            group_id: GROUP,
            snapshot,
            through_index: through,
        };
        self.driver.handle(Input::Compact(request, reply)).unwrap();
        answer.try_recv().unwrap()
    }

    fn position(&self, index: u64) -> LogPos {
        let term = self.driver.groups[&GROUP].node.store().term(index);
        LogPos {
            term: term.unwrap_or(0),
            index,
        }
    }

    fn applied(&self) -> u64 {
        self.driver.groups[&GROUP].applied.index
    }

    fn persisted(&self) -> u64 {
        self.driver.groups[&GROUP].persisted.applied.index
    }

    fn truncated(&self) -> u64 {
        self.driver.groups[&GROUP].node.store().truncated().index
    }

    fn records(&self) -> Vec<u8> {
        let view = self.shared.group(GROUP).unwrap().view.clone().unwrap();
        let mut offset = view.offsets().log_start_offset;
        let mut payloads = Vec::new();
        loop {
            let fetched = view.read(offset, 1).unwrap();
            let Some(payload) = fetched.batches.get(61) else {
                return payloads;
            };
            payloads.push(*payload);
            offset += 1;
        }
    }

    async fn stage(&mut self, dir: &Path, seed_for_peer: Option<u64>) -> Result<Staged, String> {
        let (reply, answer) = oneshot::channel();
        let export = Input::Export {
            group_id: GROUP,
            newer_than_index: 0,
            reply,
        };
        self.driver.handle(export).unwrap();
        let pin = answer.await.unwrap().unwrap();
        let expected = Expected {
            lineage: pin.header.lineage.clone().unwrap(),
            partition: pin.header.partition.clone().unwrap(),
            seed_for_peer,
        };
        let (to, mut from) = mpsc::channel(1000);
        pin.send(&[], &to, |item| item).await.unwrap();
        drop(to);
        let mut staging = None;
        while let Some(item) = from.recv().await {
            match item {
                crate::state::pin::PinItem::Header(header) => {
                    let begun = Staging::begin(dir, *header, &expected);
                    staging = Some(begun.map_err(|error| error.to_string())?);
                }
                crate::state::pin::PinItem::Chunk(chunk) => {
                    staging.as_mut().unwrap().chunk(&chunk).unwrap();
                }
                crate::state::pin::PinItem::Trailer(trailer) => {
                    return Ok(staging.take().unwrap().finish(&trailer).unwrap());
                }
            }
        }
        panic!("no trailer")
    }
}

fn payload(number: u8) -> Bytes {
    test_batch(-1, -1, -1, 1, &[number; 40])
}

#[derive(Debug, Clone)]
enum Op {
    Append(u8),
    Persist,
    Crash,
    Compact {
        snapshot: u64,
        through: u64,
        wrong_term: bool,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let compact = (0..60_u64, 0..60_u64, prop::bool::weighted(0.1)).prop_map(
        |(snapshot, through, wrong_term)| Op::Compact {
            snapshot,
            through,
            wrong_term,
        },
    );
    let op = prop_oneof![
        4 => (1..6_u8).prop_map(Op::Append),
        2 => Just(Op::Persist),
        1 => Just(Op::Crash),
        4 => compact,
    ];
    prop::collection::vec(op, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Invariants 3, 8, 22, 23: whatever the order of calls and crashes, no entry goes that the state on the disk
    /// does not have, the term before the log is known, and every record is there once.
    #[test]
    fn no_order_of_calls_and_crashes_loses_anything(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Bench::open(dir.path());
        prop_assert!(bench.start(7, &[7], None));
        let mut expected = Vec::new();
        for op in ops {
            match op {
                Op::Append(count) => {
                    for _ in 0..count {
                        let number = u8::try_from(expected.len() % 251).unwrap();
                        let appended = bench.append(payload(number)).unwrap();
                        prop_assert_eq!(usize::try_from(appended.base_offset).unwrap(), expected.len());
                        expected.push(number);
                    }
                }
                Op::Persist => bench.persist(),
                Op::Crash => {
                    let truncated = bench.truncated();
                    drop(bench);
                    bench = Bench::open(dir.path());
                    prop_assert_eq!(bench.truncated(), truncated);
                }
                Op::Compact { snapshot, through, wrong_term } => {
                    let before = bench.truncated();
                    let mut position = bench.position(snapshot);
                    let known = position.term != 0;
                    position.term += u64::from(wrong_term);
                    let outcome = bench.compact(position, through);
                    let through = through.min(snapshot);
                    match outcome {
                        Ok(done) => {
                            prop_assert_eq!(done.first_log_index, bench.truncated() + 1);
                            prop_assert_eq!(bench.truncated(), before.max(through));
                            prop_assert!(!wrong_term || !known);
                        }
                        Err(refusal) => {
                            prop_assert_eq!(bench.truncated(), before);
                            let right = match refusal {
                                CompactRefusal::NotApplied(_) => snapshot > bench.applied(),
                                CompactRefusal::NotPersisted(_) => through > bench.persisted(),
                                CompactRefusal::TermMismatch(_) => wrong_term,
                                _ => false,
                            };
                            prop_assert!(right);
                        }
                    }
                    let truncated = bench.truncated();
                    prop_assert!(truncated <= bench.persisted());
                    prop_assert!(truncated == 0 || bench.position(truncated).term > 0);
                }
            }
        }
        prop_assert_eq!(bench.records(), expected.clone());
        drop(bench);
        prop_assert_eq!(Bench::open(dir.path()).records(), expected);
    }
}

#[test]
fn a_compaction_right_before_a_crash_leaves_log_and_term_in_one_piece() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.start(7, &[7], None);
    for number in 0..20 {
        bench.append(payload(number)).unwrap();
    }
    bench.persist();
    let snapshot = bench.position(bench.applied());
    bench.compact(snapshot, snapshot.index).unwrap();
    drop(bench);
    let mut bench = Bench::open(dir.path());
    assert_eq!(bench.position(snapshot.index), snapshot);
    assert_eq!(bench.truncated(), snapshot.index);
    let appended = bench.append(payload(20)).unwrap();
    assert_eq!(appended.base_offset, 20);
}

#[tokio::test]
async fn the_producer_table_survives_a_snapshot_and_its_installation() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut bench = Bench::open(from.path());
    bench.start(7, &[7], None);
    for sequence in 0..8 {
        bench.append(test_batch(5, 0, sequence, 1, b"x")).unwrap();
    }
    let mut seeded = Bench::open(to.path());
    let group_dir = to.path().join("groups").join(format!("{GROUP:016}"));
    let staged = bench.stage(&group_dir, Some(70)).await.unwrap();
    let last = staged.last_included();
    assert!(seeded.start(70, &[7], Some(Box::new(staged))));
    let group = &seeded.driver.groups[&GROUP];
    assert_eq!(group.applied, last);
    let hard_state = group.node.raft.hard_state();
    assert_eq!(
        (hard_state.term, hard_state.vote, hard_state.commit),
        (last.term, 0, last.index)
    );
    assert_eq!(group.conf_state.voters, vec![7]);
    assert!(!group.node.raft.promotable());
    assert_eq!(seeded.records(), vec![b'x'; 8]);
    // The same state machine: a retry is found, the next one is new.
    let pinned = seeded
        .driver
        .groups
        .get_mut(&GROUP)
        .unwrap()
        .machine
        .state_part();
    let original = bench.driver.groups[&GROUP].machine.state_part();
    assert_eq!(pinned, original);
}

#[tokio::test]
async fn a_seed_is_installed_only_where_no_replica_runs_and_only_once_for_each_id() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut bench = Bench::open(from.path());
    bench.start(7, &[7], None);
    bench.append(payload(1)).unwrap();
    let group_dir = to.path().join("groups").join(format!("{GROUP:016}"));
    // R2: the configuration names 7 as a voter.
    let refused = bench.stage(&group_dir, Some(7)).await.unwrap_err();
    assert!(refused.contains("voter"), "{refused}");
    let mut target = Bench::open(to.path());
    let first = bench.stage(&group_dir, Some(70)).await.unwrap();
    assert!(target.start(70, &[7], Some(Box::new(first))));
    let again = bench.stage(&group_dir, Some(70)).await.unwrap();
    assert!(!target.start(70, &[7], Some(Box::new(again))));
    // Neither does a restart forget it, and what was staged is gone.
    drop(target);
    let mut target = Bench::open(to.path());
    let again = bench.stage(&group_dir, Some(70)).await.unwrap();
    assert!(!target.start(70, &[7], Some(Box::new(again))));
    let leftovers = std::fs::read_dir(&group_dir).unwrap();
    let leftovers = leftovers.map(|entry| entry.unwrap().file_name());
    assert_eq!(leftovers.collect::<Vec<_>>(), vec!["gen-0000000001"]);
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_nothing_of_an_install() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut bench = Bench::open(from.path());
    bench.start(7, &[7], None);
    bench.append(payload(1)).unwrap();
    let group_dir = to.path().join("groups").join(format!("{GROUP:016}"));
    // Die while staging; die after the rename, before the commit record.
    std::mem::forget(bench.stage(&group_dir, Some(70)).await.unwrap());
    let staged = bench.stage(&group_dir, Some(70)).await.unwrap();
    staged.rename_to(&group_dir.join("gen-0000000001")).unwrap();
    let mut target = Bench::open(to.path());
    assert!(!group_dir.exists());
    let staged = bench.stage(&group_dir, Some(70)).await.unwrap();
    assert!(target.start(70, &[7], Some(Box::new(staged))));
}

#[test]
fn a_joint_configuration_survives_checkpoint_export_and_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.start(7, &[7], None);
    bench.append(payload(1)).unwrap();
    let mut change = ConfChangeV2::default();
    let add = |peer| ConfChangeSingle {
        change_type: ConfChangeType::AddNode,
        node_id: peer,
        ..ConfChangeSingle::default()
    };
    change.set_changes(vec![add(8), add(9)].into());
    let group = bench.driver.groups.get_mut(&GROUP).unwrap();
    group.node.propose_conf_change(Vec::new(), change).unwrap();
    bench.driver.handle(Input::Tick).unwrap();
    bench.driver.round().unwrap();
    let joint = bench.driver.groups[&GROUP].conf_state.clone();
    assert_eq!(
        (joint.voters.len(), &joint.voters_outgoing[..]),
        (3, &[7][..])
    );
    assert!(joint.auto_leave);
    bench.persist();
    let (reply, mut answer) = oneshot::channel();
    bench
        .driver
        .handle(Input::Export {
            group_id: GROUP,
            newer_than_index: 0,
            reply,
        })
        .unwrap();
    let header = answer.try_recv().unwrap().unwrap().header;
    let exported: v1::ConfState = header.conf_state.unwrap();
    assert_eq!(exported.voters_outgoing, vec![7]);
    assert!(exported.auto_leave);
    drop(bench);
    let bench = Bench::open(dir.path());
    assert_eq!(bench.driver.groups[&GROUP].conf_state, joint);
}

/// A checkpoint task, as the disk thread does it.
fn work(task: DiskTask) -> Input {
    let DiskTask::Checkpoint(task) = task else {
        panic!("not a checkpoint");
    };
    Input::CheckpointDone {
        group_id: task.group_id,
        epoch: task.epoch,
        applied: task.job.applied,
        conf_state: Box::new(task.conf_state),
        result: checkpoint::write(&task.job),
    }
}

#[test]
fn no_checkpoint_begins_before_the_record_of_the_one_before_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.start(7, &[7], None);
    bench.append(payload(0)).unwrap();
    bench.driver.handle(Input::Checkpoint(GROUP)).unwrap();
    let first = bench.disk.try_recv().unwrap();
    bench.append(payload(1)).unwrap();
    // Its end and the wish for the next one arrive together.
    bench.driver.handle(work(first)).unwrap();
    bench.driver.handle(Input::Checkpoint(GROUP)).unwrap();
    let second = bench.disk.try_recv();
    bench.driver.round().unwrap();
    if let Ok(second) = second {
        // It removes the state file that the record just written names. Then the broker dies.
        work(second);
    }
    drop(bench);
    let mut bench = Bench::open(dir.path());
    assert_eq!(bench.records(), vec![0, 1]);
    bench.persist();
    assert_eq!(bench.persisted(), bench.applied());
}

#[tokio::test]
async fn a_voter_that_took_a_snapshot_and_nothing_else_may_campaign() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut leader = Bench::open(from.path());
    leader.start(7, &[7], None);
    for number in 0..5 {
        leader.append(payload(number)).unwrap();
    }
    let change = ConfChangeSingle {
        change_type: ConfChangeType::AddNode,
        node_id: 8,
        ..ConfChangeSingle::default()
    };
    let mut changes = ConfChangeV2::default();
    changes.set_changes(vec![change].into());
    let group = leader.driver.groups.get_mut(&GROUP).unwrap();
    group.node.propose_conf_change(Vec::new(), changes).unwrap();
    leader.settle();

    let mut voter = Bench::open(to.path());
    voter.start(8, &[7, 8], None);
    let group_dir = to.path().join("groups").join(format!("{GROUP:016}"));
    let staged = leader.stage(&group_dir, None).await.unwrap();
    let last = staged.last_included();
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgSnapshot);
    (message.from, message.to, message.term) = (7, 8, last.term);
    let metadata = message.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = (last.index, last.term);
    let conf_state = (*leader.driver.groups[&GROUP].conf_state).clone();
    metadata.set_conf_state(conf_state);
    let (reply, mut answer) = oneshot::channel();
    let incoming = Input::IncomingSnapshot {
        from_broker: 7,
        group_id: GROUP,
        message: Box::new(message),
        staged: Box::new(staged),
        reply,
    };
    voter.driver.handle(incoming).unwrap();
    voter.driver.round().unwrap();
    assert!(answer.try_recv().unwrap());
    let group = &voter.driver.groups[&GROUP];
    assert_eq!(group.applied, last);
    assert_eq!(group.node.raft.raft_log.applied, last.index);
    // The leader is silent from now on: longer than any election timeout.
    for _ in 0..200 {
        voter.settle();
    }
}

#[test]
fn a_learner_that_was_away_and_lacks_nothing_is_promoted_though_the_group_is_idle() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.start(7, &[7], None);
    bench.append(payload(1)).unwrap();
    let learner = crate::meta::Replica {
        broker_id: 2,
        peer_id: 8,
        replaced: Vec::new(),
    };
    let wanted = [
        crate::meta::Replica {
            broker_id: 1,
            peer_id: 7,
            replaced: Vec::new(),
        },
        learner,
    ];
    let reconcile = |bench: &mut Bench| {
        let group = bench.driver.groups.get_mut(&GROUP).unwrap();
        super::reconcile::reconcile(group, &wanted, bench.driver.tick);
        bench.settle();
    };
    reconcile(&mut bench);
    assert_eq!(bench.driver.groups[&GROUP].conf_state.learners, vec![8]);
    // It has everything, its connection breaks, and it is back.
    let from_learner = |bench: &mut Bench, kind| {
        let group = bench.driver.groups.get_mut(&GROUP).unwrap();
        let mut message = Message::default();
        message.set_msg_type(kind);
        (message.from, message.to, message.term) = (8, 7, group.node.raft.term);
        message.index = group.node.raft.raft_log.last_index();
        group.node.step(message).unwrap();
        bench.settle();
    };
    from_learner(&mut bench, MessageType::MsgAppendResponse);
    let group = bench.driver.groups.get_mut(&GROUP).unwrap();
    group.node.report_unreachable(8);
    from_learner(&mut bench, MessageType::MsgHeartbeatResponse);
    reconcile(&mut bench);
    let mut voters = bench.driver.groups[&GROUP].conf_state.voters.clone();
    voters.sort_unstable();
    assert_eq!(voters, vec![7, 8]);
}

/// The snapshot of a group, as its leader sends it.
async fn from_leader(leader: &mut Bench, group_dir: &Path) -> (Message, Box<Staged>) {
    let staged = leader.stage(group_dir, None).await.unwrap();
    let last = staged.last_included();
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgSnapshot);
    (message.from, message.to, message.term) = (7, 8, last.term);
    let metadata = message.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = (last.index, last.term);
    let conf_state = (*leader.driver.groups[&GROUP].conf_state).clone();
    metadata.set_conf_state(conf_state);
    (message, Box::new(staged))
}

fn deliver(bench: &mut Bench, (message, staged): (Message, Box<Staged>)) {
    let (reply, mut answer) = oneshot::channel();
    let incoming = Input::IncomingSnapshot {
        from_broker: 7,
        group_id: GROUP,
        message: Box::new(message),
        staged,
        reply,
    };
    bench.driver.handle(incoming).unwrap();
    assert!(answer.try_recv().unwrap());
}

#[tokio::test]
async fn a_snapshot_that_raft_does_not_take_does_not_replace_the_one_that_it_took() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut leader = Bench::open(from.path());
    leader.start(7, &[7], None);
    let mut follower = Bench::open(to.path());
    follower.start(8, &[7], None);
    let group_dir = to.path().join("groups").join(format!("{GROUP:016}"));
    leader.add_learner(8);
    leader.append(payload(1)).unwrap();
    let old = from_leader(&mut leader, &group_dir).await;
    leader.append(payload(2)).unwrap();
    let new = from_leader(&mut leader, &group_dir).await;
    let again = from_leader(&mut leader, &group_dir).await;
    let last = new.1.last_included();
    // All of them before the driver gets to write.
    deliver(&mut follower, new);
    deliver(&mut follower, again);
    deliver(&mut follower, old);
    follower.driver.round().unwrap();
    assert_eq!(follower.driver.groups[&GROUP].applied, last);
    assert_eq!(follower.records(), vec![1, 2]);
    let left = std::fs::read_dir(&group_dir).unwrap().count();
    assert_eq!(left, 1, "what was not taken is removed");
}

#[test]
fn a_new_leader_holds_the_log_for_a_peer_that_has_not_answered_yet() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.start(7, &[7, 8, 9], None);
    let answer = |bench: &mut Bench, kind, later| {
        let group = bench.driver.groups.get_mut(&GROUP).unwrap();
        let mut message = Message::default();
        message.set_msg_type(kind);
        (message.from, message.to) = (8, 7);
        message.term = group.node.raft.term + later;
        message.index = group.node.raft.raft_log.last_index();
        group.node.step(message).unwrap();
        bench.settle();
    };
    // It does not campaign by itself meanwhile: the first replica of a new group does so soon, once.
    bench.settle();
    bench.settle();
    let group = bench.driver.groups.get_mut(&GROUP).unwrap();
    group.node.campaign().unwrap();
    answer(&mut bench, MessageType::MsgRequestPreVoteResponse, 1);
    answer(&mut bench, MessageType::MsgRequestVoteResponse, 0);
    assert!(bench.driver.groups[&GROUP].is_leader());
    for number in 0..30 {
        let proposal = Proposal {
            group_id: GROUP,
            data: payload(number),
            reply: oneshot::channel().0,
        };
        bench.proposals.push(proposal).unwrap();
        bench.driver.round().unwrap();
        answer(&mut bench, MessageType::MsgAppendResponse, 0);
    }
    // The one that a tick began, and another one.
    bench.persist();
    bench.persist();
    // Peer 9 may lack as much as a peer that lags may lack, and not more.
    let snapshot = bench.position(bench.applied());
    let hold = snapshot.index + 1 - HOLD_ENTRIES;
    let refused = bench.compact(snapshot, snapshot.index).unwrap_err();
    let reason = "peer 9 has not answered yet".to_owned();
    assert_eq!(refused, CompactRefusal::Held(hold, reason));
    bench.compact(snapshot, hold - 1).unwrap();
    // A peer that is dead holds nothing for ever.
    for _ in 0..super::compact::UNKNOWN_PEER_TICKS {
        answer(&mut bench, MessageType::MsgHeartbeatResponse, 0);
    }
    bench.compact(snapshot, snapshot.index).unwrap();
    assert_eq!(bench.truncated(), snapshot.index);
}

#[test]
fn metadata_older_than_the_configuration_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::open(dir.path());
    bench.start(7, &[7], None);
    let wanted = crate::meta::Replica {
        broker_id: 3,
        peer_id: 3,
        replaced: Vec::new(),
    };
    let mut meta = crate::meta::MetaState::default();
    let topic = crate::meta::Topic {
        topic_id: Uuid::from_u128(9),
        partitions: vec![crate::meta::Group {
            group_id: GROUP,
            initial_voters: vec![7],
            replicas: vec![wanted.clone()],
        }],
    };
    meta.topics.insert("t".to_owned(), topic);
    let group = &bench.driver.groups[&GROUP];
    // Peer 7 is in the applied configuration, and these metadata have not given it out yet.
    meta.next_peer_id = 7;
    assert_eq!(super::run::wanted_replicas(group, &meta), Vec::new());
    meta.next_peer_id = 8;
    assert_eq!(super::run::wanted_replicas(group, &meta), vec![wanted]);
}
