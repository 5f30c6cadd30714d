//! Configurations and their changes.

use super::*;
use crate::driver::reconcile;

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
        reconcile::reconcile(group, &wanted, bench.driver.tick);
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
            restored: false,
            group_id: GROUP,
            initial_voters: vec![7],
            replicas: vec![wanted.clone()],
        }],
    };
    meta.topics.insert("t".to_owned(), topic);
    let group = &bench.driver.groups[&GROUP];
    // Peer 7 is in the applied configuration, and these metadata have not given it out yet.
    meta.next_peer_id = 7;
    assert_eq!(reconcile::wanted_replicas(group, &meta), Vec::new());
    meta.next_peer_id = 8;
    assert_eq!(reconcile::wanted_replicas(group, &meta), vec![wanted]);
}
