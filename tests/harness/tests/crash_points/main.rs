//! A broker is killed at every crash point (refbroker/src/crash.rs) of a real cluster under load, and comes back.
//!
//! Points are visited in chains: the broker dies at one, is started again with the next one armed, and at the end of the
//! chain without any. What each death left is so what the next start has to cope with. After a chain every group
//! has all its voters, all replicas hold the same bytes, every acknowledged record is there once and no
//! leftover is on the disk.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop at the first surprise"
)]

mod rig;

use std::{collections::BTreeSet, time::Instant};

use refbroker::crash::POINTS;
use rig::{Rig, name_of};

/// How a broker is brought to its crash points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drive {
    /// The cluster is founded.
    Founding,
    /// It takes part in the load.
    Load,
    /// It leads a partition of the load until it dies.
    Lead,
    /// It lost its disk.
    Wipe,
    /// Another broker lost its disk.
    WipeOther,
    /// It was away until the log it needs was truncated.
    FallBehind,
    /// Another broker dies.
    Elections,
    /// A topic is created.
    Create,
    /// A topic is deleted.
    Delete,
    /// The log gets more bytes than one log file holds.
    Megabytes,
    /// It is asked to stop.
    Stop,
}

struct Chain {
    drive: Drive,
    broker: i32,
    points: &'static [&'static str],
}

/// Every point of [`POINTS`] is in a chain; `:n` = the n-th time that it is reached.
const CHAINS: &[Chain] = &[
    Chain {
        drive: Drive::Founding,
        broker: 1,
        points: &[
            "identity.candidate_written",
            "identity.log_bound",
            "identity.cluster_found",
            "identity.written",
            "create.files_written",
            "replica.committed",
        ],
    },
    Chain {
        drive: Drive::Lead,
        broker: 1,
        points: &[
            "apply.unanswered:300",
            "apply.unanswered:200",
            "ready.before_write:300",
            "ready.written:300",
            "ready.sent:300",
        ],
    },
    Chain {
        drive: Drive::Load,
        broker: 2,
        points: &[
            "segment.full:2",
            "segment.rolled:2",
            "checkpoint.begun",
            "checkpoint.segments_flushed:3",
            "checkpoint.file_written:3",
            "checkpoint.old_removed:5",
            "checkpoint.record_staged:4",
            "checkpoint.record_written:5",
            "compact.allowed",
            "compact.written",
            "compact.written:4",
            "purge.begun",
        ],
    },
    Chain {
        drive: Drive::Wipe,
        broker: 3,
        points: &[
            "identity.candidate_written",
            "identity.cluster_found",
            "identity.stored",
            "stage.chunk_written:2",
            "stage.verified",
            "stage.flushed",
            "install.before_move",
            "install.moved",
            "leftovers.found",
            "leftovers.removed",
            "replica.committed",
            "conf.committed",
            "conf.simple_applied",
            "conf.joint_entered",
            "conf.joint_left",
            "conf.recorded",
        ],
    },
    Chain {
        drive: Drive::FallBehind,
        broker: 2,
        points: &[
            "stage.chunk_written",
            "snapshot.received",
            "restore.before_move",
            "restore.moved",
            "leftovers.removed",
            "restore.committed",
            "restore.old_removed",
        ],
    },
    Chain {
        drive: Drive::WipeOther,
        broker: 1,
        points: &[
            "conf.committed",
            "conf.simple_applied",
            "conf.joint_entered",
            "conf.joint_left",
            "conf.recorded",
        ],
    },
    Chain {
        drive: Drive::Elections,
        broker: 3,
        points: &["vote.written:3"],
    },
    Chain {
        drive: Drive::Create,
        broker: 2,
        points: &["create.files_written", "replica.committed"],
    },
    Chain {
        drive: Drive::Delete,
        broker: 1,
        points: &["remove.log_cleaned"],
    },
    Chain {
        drive: Drive::Megabytes,
        broker: 3,
        points: &["purge.files_deleted"],
    },
    Chain {
        drive: Drive::Stop,
        broker: 2,
        points: &["shutdown.file_written", "shutdown.record_written"],
    },
];

#[test]
fn every_crash_point_is_in_a_chain() {
    let visited: BTreeSet<&str> = CHAINS
        .iter()
        .flat_map(|chain| chain.points)
        .map(|point| name_of(point))
        .collect();
    let known: BTreeSet<&str> = POINTS.iter().map(|point| point.name).collect();
    assert_eq!(visited, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_founded_though_a_broker_dies_at_every_step_of_its_first_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::prepare(dir.path());
    let chain = chain_of(Drive::Founding);
    for id in (1..=3).filter(|id| *id != chain.broker) {
        rig.cluster.start_broker(id).unwrap();
    }
    for point in chain.points {
        rig.start_armed(chain.broker, point);
        rig.died_at(chain.broker, point).await;
    }
    rig.cluster.start_broker(chain.broker).unwrap();
    rig.cluster.wait_formed().await.unwrap();
    let load = rig.begin("orders").await;
    rig.check(load).await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_replication_as_leader() {
    visit(&[Drive::Lead]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_checkpoints_segments_and_truncation() {
    visit(&[Drive::Load]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_from_a_lost_disk_to_a_voter() {
    visit(&[Drive::Wipe]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_taking_over_the_leaders_snapshot() {
    visit(&[Drive::FallBehind]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_of_a_change_of_members_and_of_an_election() {
    visit(&[Drive::WipeOther, Drive::Elections]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_topics_come_and_go_files_are_deleted_and_at_the_end() {
    let drives = [Drive::Create, Drive::Delete, Drive::Megabytes, Drive::Stop];
    visit(&drives).await;
}

fn chain_of(drive: Drive) -> &'static Chain {
    let mut chains = CHAINS.iter().filter(|chain| chain.drive == drive);
    chains.next().unwrap()
}

/// The life of one cluster.
async fn visit(drives: &[Drive]) {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path()).await;
    for (number, drive) in drives.iter().enumerate() {
        let begun = Instant::now();
        run(&mut rig, number, chain_of(*drive)).await;
        println!("{drive:?}: {:.1} s", begun.elapsed().as_secs_f64());
    }
    rig.finish().await;
}

async fn run(rig: &mut Rig, number: usize, chain: &Chain) {
    let Chain {
        drive,
        broker,
        points,
    } = *chain;
    let other = broker % 3 + 1;
    let topic = format!("chain-{number}");
    let mut load = None;
    if drive != Drive::Lead {
        load = Some(rig.begin(&topic).await);
        rig.wait_truncated(&topic).await;
    }
    for (step, point) in points.iter().enumerate() {
        match drive {
            Drive::Founding => unreachable!("has a cluster of its own"),
            Drive::Load => rig.restart_armed(broker, point),
            Drive::Lead => {
                // A new topic: its partitions are led by all brokers in turn.
                rig.restart_armed(broker, point);
                rig.wait_up(broker).await;
                let load = rig.begin(&format!("{topic}-{step}")).await;
                rig.died_at(broker, point).await;
                rig.cluster.start_broker(broker).unwrap();
                rig.check(load).await;
                continue;
            }
            Drive::Wipe => {
                if step == 0 {
                    rig.wipe(broker);
                }
                rig.start_armed(broker, point);
                rig.wipe_until_dead(broker, point, &topic).await;
            }
            Drive::WipeOther => {
                rig.restart_armed(broker, point);
                if step == 0 {
                    rig.wait_up(broker).await;
                    rig.wipe(other);
                    rig.cluster.start_broker(other).unwrap();
                }
            }
            Drive::FallBehind => {
                rig.cluster.kill_broker(broker).unwrap();
                rig.wait_left_behind(broker, &topic).await;
                rig.start_armed(broker, point);
            }
            Drive::Elections => {
                rig.restart_armed(broker, point);
                rig.wait_up(broker).await;
                rig.hold_elections(broker).await;
            }
            Drive::Create => {
                rig.restart_armed(broker, point);
                rig.wait_up(broker).await;
                rig.create(&format!("made-{step}")).await;
            }
            Drive::Delete => {
                rig.create("doomed").await;
                rig.wait_whole("doomed").await;
                rig.restart_armed(broker, point);
                rig.wait_up(broker).await;
                rig.delete("doomed").await;
            }
            Drive::Megabytes => {
                rig.restart_armed(broker, point);
                rig.wait_up(broker).await;
                rig.send_megabytes(broker).await;
            }
            Drive::Stop => {
                rig.restart_armed(broker, point);
                rig.wait_serving(broker).await;
                rig.wait_applying(broker, &load.as_ref().unwrap().topic)
                    .await;
                rig.terminate(broker, point).await;
                continue;
            }
        }
        rig.died_at(broker, point).await;
    }
    if let Some(load) = load {
        rig.cluster.start_broker(broker).unwrap();
        rig.check(load).await;
    }
}
