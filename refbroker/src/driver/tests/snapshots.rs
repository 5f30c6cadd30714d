//! States that are exported, installed as a seed, or taken over from a leader.

use super::*;

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

#[tokio::test]
async fn an_export_carries_the_term_of_its_last_entry_and_not_the_current_one() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut bench = Bench::open(from.path());
    bench.start(7, &[7], None);
    bench.append(payload(1)).unwrap();
    let last = bench.position(bench.applied());
    let group = bench.driver.groups.get_mut(&GROUP).unwrap();
    let mut heartbeat = Message::default();
    heartbeat.set_msg_type(MessageType::MsgHeartbeat);
    (heartbeat.from, heartbeat.to, heartbeat.term) = (8, 7, last.term + 4);
    group.node.step(heartbeat).unwrap();
    bench.driver.round().unwrap();
    assert_eq!(bench.driver.groups[&GROUP].node.raft.term, last.term + 4);
    let staged = bench.stage(to.path(), None).await.unwrap();
    assert_eq!(staged.last_included(), last);
}

#[tokio::test]
async fn a_leaders_snapshot_lowers_no_term_and_clears_no_vote() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut leader = Bench::open(from.path());
    leader.start(7, &[7], None);
    leader.add_learner(8);
    leader.append(payload(1)).unwrap();
    let mut follower = Bench::open(to.path());
    follower.start(8, &[7, 8], None);
    let group_dir = to.path().join("groups").join(format!("{GROUP:016}"));
    let (mut snapshot, staged) = from_leader(&mut leader, &group_dir).await;
    let last = staged.last_included();
    // A later election, in which it voted.
    let term = last.term + 4;
    let mut request = Message::default();
    request.set_msg_type(MessageType::MsgRequestVote);
    (request.from, request.to, request.term) = (7, 8, term);
    (request.index, request.log_term) = (last.index, last.term);
    let group = follower.driver.groups.get_mut(&GROUP).unwrap();
    group.node.step(request).unwrap();
    follower.settle();
    snapshot.term = term;
    deliver(&mut follower, (snapshot, staged));
    follower.driver.round().unwrap();
    let promised = |bench: &Bench| {
        let group = &bench.driver.groups[&GROUP];
        let hard_state = group.node.raft.hard_state();
        (group.applied, hard_state.term, hard_state.vote)
    };
    assert_eq!(promised(&follower), (last, term, 7));
    drop(follower);
    assert_eq!(promised(&Bench::open(to.path())), (last, term, 7));
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
