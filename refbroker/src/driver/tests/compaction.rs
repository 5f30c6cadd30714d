//! Crashes, checkpoints and compactions in any order.

use proptest::prelude::*;

use super::*;

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

#[test]
fn what_cannot_be_deleted_at_once_is_left_to_the_disk_thread() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    bench.driver.discard(state.clone());
    assert!(!state.exists());
    assert!(bench.disk.try_recv().is_err());
    // Not a directory: it cannot be deleted as one.
    std::fs::write(&state, "").unwrap();
    bench.driver.discard(state.clone());
    let task = bench.disk.try_recv().unwrap();
    assert!(matches!(task, DiskTask::Discard(left) if left == state));
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
    for _ in 0..crate::driver::compact::UNKNOWN_PEER_TICKS {
        answer(&mut bench, MessageType::MsgHeartbeatResponse, 0);
    }
    bench.compact(snapshot, snapshot.index).unwrap();
    assert_eq!(bench.truncated(), snapshot.index);
}
