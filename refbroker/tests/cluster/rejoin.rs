//! A broker without its disk, and a follower that fell behind.

use refbroker::proto::v1::{LocalState, RejectReason};

use crate::common::{
    Cluster, batch,
    sidecar::{FakeSidecar, Seen, Snapshot},
};

fn voters(cluster: &Cluster, topic: &str) -> Vec<u64> {
    let ids = cluster.running.keys();
    let statuses = ids.filter_map(|id| cluster.status(*id, topic));
    let led = statuses.filter(|status| status.serving).map(|status| {
        let conf = &status.conf_state;
        let settled = conf.voters_outgoing.is_empty() && conf.learners.is_empty();
        let mut voters = conf.voters.clone();
        voters.sort_unstable();
        if settled { voters } else { Vec::new() }
    });
    led.max().unwrap_or_default()
}

fn peer_of(cluster: &Cluster, id: i32, topic: &str) -> u64 {
    let mut brokers = cluster.running.values();
    let meta = brokers.next().map(|broker| broker.node().shared().meta());
    let group = meta.and_then(|meta| meta.group(topic, 0));
    let replica = group.and_then(|(_, group)| group.replica_on(id).cloned());
    replica.map_or(0, |replica| replica.peer_id)
}

async fn until_voter(cluster: &Cluster, id: i32, topic: &str, old_peer: u64) {
    cluster
        .until(
            "the new replica votes in the place of the old one",
            |cluster| {
                let new = peer_of(cluster, id, topic);
                let voters = voters(cluster, topic);
                new != old_peer
                    && voters.len() == 3
                    && voters.contains(&new)
                    && !voters.contains(&old_peer)
            },
        )
        .await;
}

/// The records of every replica, as its own export shows them.
async fn assert_same_records(cluster: &Cluster, topic: &str) {
    let mut first: Option<Snapshot> = None;
    for id in 1..=3 {
        let snapshot = cluster.export(id, topic).await;
        if let Some(first) = &first {
            assert_eq!(snapshot.header.parts, first.header.parts);
            assert_eq!(snapshot.trailer, first.trailer);
        }
        first.get_or_insert(snapshot);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_broker_without_a_sidecar_comes_back_as_a_learner_under_a_new_id_and_then_votes() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 500).await;
    let old = (peer_of(&cluster, 3, "t"), peer_of(&cluster, 3, "__meta"));
    cluster.kill(3).await;
    cluster.wipe(3);
    cluster.restart(3).await;
    until_voter(&cluster, 3, "__meta", old.1).await;
    until_voter(&cluster, 3, "t", old.0).await;
    cluster.fill("t", 500, 100).await;
    cluster.until_equal("t").await;
    assert_same_records(&cluster, "t").await;
    // It counts now: with another broker down the group still commits.
    cluster.kill(1).await;
    cluster.fill("t", 600, 100).await;
    assert_eq!(cluster.read_all("t").await.len(), 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_broker_heals_from_the_leader_when_the_log_is_truncated() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 2000).await;
    cluster.until_equal("t").await;
    let old = (peer_of(&cluster, 2, "t"), peer_of(&cluster, 2, "__meta"));
    for id in 1..=3 {
        for topic in ["t", "__meta"] {
            let snapshot = cluster.export(id, topic).await;
            cluster.compact(id, topic, &snapshot).await.unwrap();
        }
    }
    assert!(cluster.any_log_compacted(1).await);
    cluster.kill(2).await;
    cluster.wipe(2);
    cluster.restart(2).await;
    until_voter(&cluster, 2, "__meta", old.1).await;
    until_voter(&cluster, 2, "t", old.0).await;
    cluster.fill("t", 2000, 10).await;
    cluster.until_equal("t").await;
    assert_same_records(&cluster, "t").await;
    cluster.kill(2).await;
    cluster.restart(2).await;
    cluster.until_equal("t").await;
    assert_same_records(&cluster, "t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_broker_is_seeded_by_the_sidecar_which_skips_what_is_damaged() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 2000).await;
    cluster.until_equal("t").await;
    let sidecar = FakeSidecar::default();
    let good = cluster.export(1, "t").await;
    let mut damaged = good.clone();
    let mut bytes = damaged.chunks[0].data.to_vec();
    bytes[100] ^= 1;
    damaged.chunks[0].data = bytes.into();
    let mut no_voters = good.clone();
    no_voters.header.conf_state = None;
    *sidecar.offers.lock().unwrap() = vec![
        ("t".to_owned(), damaged),
        ("t".to_owned(), no_voters),
        ("t".to_owned(), good.clone()),
        ("__meta".to_owned(), cluster.export(1, "__meta").await),
    ];
    cluster.fill("t", 2000, 100).await;
    let old = peer_of(&cluster, 3, "t");
    cluster.kill(3).await;
    cluster.wipe(3);
    let endpoint = sidecar.serve().await;
    cluster.args(3).sidecar_endpoint = Some(endpoint.parse().unwrap());
    cluster.restart(3).await;
    until_voter(&cluster, 3, "t", old).await;
    cluster.until_equal("t").await;
    assert_same_records(&cluster, "t").await;
    let seed_index = good.header.last_included.unwrap().index;
    let status = cluster.status(3, "t").unwrap();
    assert_eq!(
        status.first_log_index,
        seed_index + 1,
        "the log goes on from the seed"
    );
    let seen = sidecar.seen.lock().unwrap().clone();
    assert!(seen.contains(&Seen::Installed("t-2".to_owned())));
    assert!(seen.contains(&Seen::Installed("__meta-0".to_owned())));
    let rejected =
        |number, reason: RejectReason| Seen::Rejected(format!("t-{number}"), reason.into());
    assert!(seen.contains(&rejected(0, RejectReason::Corrupt)));
    assert!(seen.contains(&rejected(1, RejectReason::ConfState)));
    for begin in seen.iter().filter_map(|seen| match seen {
        Seen::Begin(begin) => Some(begin),
        _ => None,
    }) {
        assert_eq!(begin.local_state(), LocalState::Lost);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_fell_behind_a_truncated_log_heals_from_the_leader_under_load() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 100).await;
    cluster.until_equal("t").await;
    // A new leader would hold the log for it for a while.
    let leader = cluster.elected("t").await;
    let down = leader % 3 + 1;
    cluster.kill(down).await;
    cluster.fill("t", 100, 2000).await;
    for id in (1..=3).filter(|id| *id != down) {
        let snapshot = cluster.export(id, "t").await;
        cluster.compact(id, "t", &snapshot).await.unwrap();
    }
    cluster.restart(down).await;
    cluster.fill("t", 2100, 1000).await;
    cluster.until_equal("t").await;
    assert_same_records(&cluster, "t").await;
    assert!(cluster.status(down, "t").unwrap().first_log_index > 100);
    assert_eq!(cluster.read_all("t").await.len(), 3100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_from_before_a_removal_brings_nobody_back() {
    let mut cluster = Cluster::start(3).await;
    cluster.topic("t").await;
    cluster.fill("t", 0, 300).await;
    cluster.until_equal("t").await;
    // Broker 3's first replica votes here ...
    let removed = peer_of(&cluster, 3, "t");
    let removed_meta = peer_of(&cluster, 3, "__meta");
    let old = (
        cluster.export(1, "t").await,
        cluster.export(1, "__meta").await,
    );
    let voters_then = old.0.header.conf_state.clone().unwrap().voters;
    assert!(voters_then.contains(&removed));
    // ... and is removed afterwards, with its disk.
    cluster.kill(3).await;
    cluster.wipe(3);
    cluster.restart(3).await;
    // One disk at a time, in every group: with two the quorum's memory may be gone.
    until_voter(&cluster, 3, "t", removed).await;
    until_voter(&cluster, 3, "__meta", removed_meta).await;

    let sidecar = FakeSidecar::default();
    *sidecar.offers.lock().unwrap() = vec![("t".to_owned(), old.0), ("__meta".to_owned(), old.1)];
    let endpoint = sidecar.serve().await;
    let second = peer_of(&cluster, 2, "t");
    cluster.kill(2).await;
    cluster.wipe(2);
    cluster.args(2).sidecar_endpoint = Some(endpoint.parse().unwrap());
    cluster.restart(2).await;
    until_voter(&cluster, 2, "t", second).await;
    cluster.until_equal("t").await;
    let seen = sidecar.seen.lock().unwrap().clone();
    assert!(
        seen.contains(&Seen::Installed("t-0".to_owned())),
        "{seen:?}"
    );
    cluster.kill(2).await;
    cluster.restart(2).await;
    cluster.until_equal("t").await;
    for id in 1..=3 {
        let conf = cluster.status(id, "t").unwrap().conf_state;
        let members = [&conf.voters, &conf.learners, &conf.voters_outgoing];
        let known: Vec<u64> = members.into_iter().flatten().copied().collect();
        assert!(!known.contains(&removed), "broker {id}: {conf:?}");
        assert_eq!(known.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_while_a_broker_is_down_gets_its_replica_there_later() {
    let mut cluster = Cluster::start(3).await;
    cluster.kill(3).await;
    cluster.topic("t").await;
    cluster.append("t", batch(b"x")).await;
    cluster.restart(3).await;
    cluster.until_equal("t").await;
    assert_same_records(&cluster, "t").await;
}
