//! A broker that lost its disk comes back: its replicas are seeded from the store under new Raft peer ids, become
//! learners, then voters.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chronik_harness::{Cluster, HarnessError, Poll, Role, proto::ReplicaStatus};
use tokio::time::Instant;

use crate::{report::Reseed, story::TOPIC};

/// Longest time from the broker's start to the last replica being a voter.
const RESEED_TIMEOUT: Duration = Duration::from_mins(1);

/// A Raft group by topic and partition.
type Group = (String, i32);

/// What was there before the disk was lost.
#[derive(Debug)]
pub(crate) struct Before {
    /// Peer id of the broker's replica in every group.
    peer_ids: BTreeMap<Group, u64>,
    /// Snapshots that its sidecar had installed.
    installed: f64,
}

/// One replica on its way back.
#[derive(Debug, Default)]
struct Return {
    /// Where the seed ended: the entry before the first one in the log at the first look.
    seeded_through: u64,
    /// Applied when it was first seen as a voter; 0 = not yet.
    applied_as_voter: u64,
    peer_id: u64,
}

async fn installed(cluster: &Cluster, broker: i32) -> Result<f64, HarnessError> {
    let metrics = cluster.node(broker)?.metrics().await?;
    let labels = [("outcome", "installed")];
    Ok(metrics.sum("chronik_snapshot_bootstrap_requests_total", &labels))
}

/// Notes what the broker has, before it loses it.
pub(crate) async fn before(cluster: &Cluster, broker: i32) -> Result<Before, HarnessError> {
    let replicas = cluster.node(broker)?.replicas().await?;
    Ok(Before {
        peer_ids: replicas
            .iter()
            .map(|replica| (group(replica), replica.peer_id))
            .collect(),
        installed: installed(cluster, broker).await?,
    })
}

/// Waits until every group of the broker, `__meta` among them, has it as a voter under a new id.
pub(crate) async fn wait(
    cluster: &Cluster,
    broker: i32,
    before: &Before,
    since: Instant,
) -> Result<Reseed, HarnessError> {
    let node = cluster.node(broker)?;
    let mut returns: BTreeMap<Group, Return> = BTreeMap::new();
    let look = async || {
        for replica in node.replicas().await? {
            note(&mut returns, &replica);
        }
        let back: BTreeSet<_> = returns
            .iter()
            .filter(|(_, each)| each.applied_as_voter > 0)
            .map(|(name, _)| name.clone())
            .collect();
        let missing: Vec<_> = before
            .peer_ids
            .keys()
            .filter(|name| !back.contains(*name))
            .map(|(topic, partition)| format!("{topic}/{partition}"))
            .collect();
        Ok(if missing.is_empty() {
            Poll::Done(())
        } else {
            Poll::NotYet(format!("not a voter yet: {}", missing.join(", ")))
        })
    };
    let what = format!("every replica of broker {broker} being a voter again");
    cluster.wait_until(&what, RESEED_TIMEOUT, look).await?;
    let seconds = since.elapsed().as_secs_f64();
    let new_peer_ids = returns.iter().all(|(name, each)| {
        let old = before.peer_ids.get(name);
        old != Some(&each.peer_id)
    });
    let of_topic: Vec<_> = returns
        .iter()
        .filter(|((topic, _), _)| topic == TOPIC)
        .map(|(_, each)| each)
        .collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small counter"
    )]
    let from_store = (installed(cluster, broker).await? - before.installed) as u64;
    Ok(Reseed {
        broker,
        partitions: of_topic.len(),
        seeded_through: of_topic.iter().map(|each| each.seeded_through).collect(),
        replayed_entries: of_topic
            .iter()
            .map(|each| each.applied_as_voter.saturating_sub(each.seeded_through))
            .sum(),
        seconds,
        new_peer_ids,
        installed_from_store: from_store,
    })
}

fn group(replica: &ReplicaStatus) -> Group {
    let name = replica.partition.clone().unwrap_or_default();
    (name.topic, name.partition)
}

fn note(returns: &mut BTreeMap<Group, Return>, replica: &ReplicaStatus) {
    let each = returns.entry(group(replica)).or_default();
    if each.peer_id != replica.peer_id {
        // The first look, or a second seed after a failed one.
        *each = Return {
            seeded_through: replica.first_log_index.saturating_sub(1),
            applied_as_voter: 0,
            peer_id: replica.peer_id,
        };
    }
    let configuration = replica.conf_state.clone().unwrap_or_default();
    let settled = configuration.voters_outgoing.is_empty();
    let votes = configuration.voters.contains(&replica.peer_id) && replica.role() != Role::Learner;
    if votes && settled && each.applied_as_voter == 0 {
        each.applied_as_voter = replica.applied_index;
    }
}
