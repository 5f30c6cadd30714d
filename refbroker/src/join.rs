//! Which cluster, and as whom (amendment 7): identity file; else ask the configured peers; else, only if explicitly
//! allowed, create. No answer: wait.
//!
//! | own disk | the peers say | result |
//! |---|---|---|
//! | identity, log of the same replica id | not asked | the same broker as before |
//! | identity without its log, or the other way round | - | discarded, then as below |
//! | nothing | a cluster that knows this very replica id | it founded the cluster and never ran: founder |
//! | nothing | a cluster that knows another one, or none | LOST (or new): joins under new peer ids |
//! | nothing | all of them know of no cluster, `new` allowed | founder; all see the same members |
//! | nothing | all of them want to begin the same restore | founder of the next incarnation |
//! | nothing | anything less | wait |

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use futures::future::join_all;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    config::{InitialCluster, RestoreToken, ServeArgs},
    driver::input::NewReplica,
    identity::{self, Identity, IdentityError, Member},
    meta,
    peer::client::Clients,
    proto::peer::{JoinRequest, WhoAmIRequest, WhoAmIResponse},
    raftlog::engine::{LogEngine, LogError},
};

/// Deadline of one question.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Deadline of a request to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(12);
/// Pause between two rounds.
const RETRY: Duration = Duration::from_millis(300);

/// Why no identity could be had.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The identity files failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The peers belong to another cluster than `--cluster-id` names.
    #[error("the peers belong to cluster {found}, not {wanted}")]
    OtherCluster {
        /// Theirs.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// The life of a cluster that was to begin has snapshots: it lived before.
    #[error(
        "incarnation {incarnation} of cluster {cluster_id} lived before, its sidecar says: {reason}; a cluster that lost \
         its disks is brought back by `chronik-snapshotd restore-cluster` and --restore-token with the token that it \
         prints, a new one needs another --cluster-id"
    )]
    LivedBefore {
        /// Its identity.
        cluster_id: String,
        /// Its life.
        incarnation: u64,
        /// What there is.
        reason: String,
    },
    /// Two restores of one incarnation.
    #[error(
        "the peers began incarnation {incarnation} with restore {theirs}, --restore-token names restore {ours}: only one \
         of them counts, `chronik-snapshotd restore-cluster` shows which"
    )]
    OtherRestore {
        /// The incarnation.
        incarnation: u64,
        /// Theirs.
        theirs: String,
        /// Of the token.
        ours: Uuid,
    },
    /// The data directory belongs to a former life of the cluster.
    #[error(
        "the cluster was restored into incarnation {now}; this disk belongs to incarnation {was} and is of no use to \
         it: keep it for whoever investigates, and start with an empty --data-dir"
    )]
    FormerLife {
        /// Of the disk.
        was: u64,
        /// Of the cluster.
        now: u64,
    },
    /// The data directory belongs to another broker.
    #[error("the data directory belongs to broker {0}")]
    OtherBroker(i32),
}

/// What this disk holds.
pub struct Disk {
    /// Who this broker is; `None` = it belongs to no cluster.
    pub identity: Option<Identity>,
    /// Replica id of this disk.
    pub replica_uuid: Uuid,
    /// The log, bound to the replica id.
    pub log: LogEngine,
}

/// Opens the disk; one that is not in one piece is discarded.
pub fn open_disk(
    data_dir: &Path,
    broker_id: i32,
    restore: Option<&RestoreToken>,
) -> Result<Disk, JoinError> {
    crate::disk::create_dir(data_dir).map_err(IdentityError::from)?;
    let mut found = identity::load(data_dir)?;
    if let (Some(identity), Some(token)) = (&found, restore) {
        check_life(identity, &token.cluster_id, token.incarnation)?;
    }
    if let Some(identity) = &found {
        if identity.broker_id != broker_id {
            return Err(JoinError::OtherBroker(identity.broker_id));
        }
        let intact = !identity::is_superseded(data_dir) && log_is_bound(data_dir, identity)?;
        if intact {
            identity::retire_candidate(data_dir)?;
        } else {
            warn!(
                replica_uuid = %identity.replica_uuid,
                "this disk lost its state, or the cluster has replaced it: moved aside"
            );
            identity::discard(data_dir, identity.replica_uuid)?;
            found = None;
        }
    }
    let replica_uuid = match &found {
        Some(identity) => identity.replica_uuid,
        None => identity::candidate(data_dir)?,
    };
    let log_dir = data_dir.join(identity::LOG_DIR);
    let mut log = LogEngine::open(&log_dir)?;
    let stranger = |log: &LogEngine| {
        let bound = log.identity();
        bound.is_some_and(|bound| bound != replica_uuid.as_bytes())
    };
    if stranger(&log) {
        // A log without its identity file: another life.
        drop(log);
        identity::discard(data_dir, replica_uuid)?;
        return open_disk(data_dir, broker_id, restore);
    }
    if log.identity().is_none() {
        log.set_identity(replica_uuid.as_bytes())?;
        log = log.clone();
    }
    Ok(Disk {
        identity: found,
        replica_uuid,
        log,
    })
}

/// A disk serves one life of one cluster.
fn check_life(identity: &Identity, cluster_id: &str, incarnation: u64) -> Result<(), JoinError> {
    if identity.cluster_id != cluster_id {
        return Err(JoinError::OtherCluster {
            found: identity.cluster_id.clone(),
            wanted: cluster_id.to_owned(),
        });
    }
    if identity.incarnation < incarnation {
        return Err(JoinError::FormerLife {
            was: identity.incarnation,
            now: incarnation,
        });
    }
    Ok(())
}

fn log_is_bound(data_dir: &Path, identity: &Identity) -> Result<bool, JoinError> {
    let log_dir = data_dir.join(identity::LOG_DIR);
    if !log_dir.is_dir() {
        return Ok(false);
    }
    let bound = LogEngine::open(&log_dir)?.identity();
    Ok(bound.is_some_and(|bound| bound == identity.replica_uuid.as_bytes()))
}

async fn ask_all(clients: &Clients, me: &Member) -> BTreeMap<i32, WhoAmIResponse> {
    let peers = clients
        .configured()
        .filter(|broker| *broker != me.broker_id);
    let questions = peers.map(|broker| async move {
        let mut client = clients.get(broker)?;
        let request = WhoAmIRequest {
            asker: Some(me.to_proto()),
        };
        let answer = tokio::time::timeout(ASK_TIMEOUT, client.who_am_i(request)).await;
        Some((broker, answer.ok()?.ok()?.into_inner()))
    });
    join_all(questions).await.into_iter().flatten().collect()
}

/// A place in a cluster.
pub enum Place {
    /// In one that exists.
    Found(Identity),
    /// In one that this broker and its peers would create, or that its peers have created and nobody has led yet.
    Founder(Identity),
}

/// Finds a cluster, or agrees to found one. Waits for as long as it takes.
pub async fn find_cluster(
    args: &ServeArgs,
    clients: &Clients,
    me: &Member,
) -> Result<Place, JoinError> {
    let mut rounds = 0_u32;
    loop {
        let answers = ask_all(clients, me).await;
        let restore = args.restore_token.as_ref();
        let life = restore.map_or(0, |token| token.incarnation);
        let others = args.peers.0.len() - 1;
        let formed = answers.values().filter(|answer| answer.formed);
        // A survivor of a former life speaks for nobody.
        if let Some(formed) = formed.max_by_key(|answer| answer.incarnation)
            && formed.incarnation >= life
        {
            let identity = join_formed(args, formed, me)?;
            // One of the first in a cluster that nobody has led yet, as all others say: nothing can have been compacted.
            let unled = !answers.values().any(|answer| answer.authoritative);
            let begins = identity.is_founder() && unled && answers.len() == others;
            return Ok(if begins {
                Place::Founder(identity)
            } else {
                Place::Found(identity)
            });
        }
        let may_found = args.initial_cluster == Some(InitialCluster::New) || restore.is_some();
        let wanted = restore.map(ToString::to_string).unwrap_or_default();
        let agreed = answers
            .values()
            .filter(|answer| !answer.formed && answer.restore_token == wanted)
            .count();
        if may_found && agreed == others {
            return Ok(Place::Founder(found(args, answers.into_values(), me)));
        }
        if rounds.is_multiple_of(20) {
            info!(
                answered = answers.len(),
                agreed, others, may_found, "looking for a cluster"
            );
        }
        rounds += 1;
        tokio::time::sleep(RETRY).await;
    }
}

fn join_formed(
    args: &ServeArgs,
    formed: &WhoAmIResponse,
    me: &Member,
) -> Result<Identity, JoinError> {
    if let Some(wanted) = args.cluster_id.as_ref()
        && *wanted != formed.cluster_id
    {
        return Err(JoinError::OtherCluster {
            found: formed.cluster_id.clone(),
            wanted: wanted.clone(),
        });
    }
    if let Some(token) = &args.restore_token
        && token.cluster_id != formed.cluster_id
    {
        return Err(JoinError::OtherCluster {
            found: formed.cluster_id.clone(),
            wanted: token.cluster_id.clone(),
        });
    }
    let restore_uuid = formed.restore_uuid.parse().ok();
    // A peer that joined later may not know.
    if let Some(token) = &args.restore_token
        && token.incarnation == formed.incarnation
        && restore_uuid.is_some_and(|theirs: Uuid| theirs != token.restore_uuid)
    {
        return Err(JoinError::OtherRestore {
            incarnation: formed.incarnation,
            theirs: formed.restore_uuid.clone(),
            ours: token.restore_uuid,
        });
    }
    let founders = formed.initial_members.iter().cloned();
    let founders: Vec<Member> = founders.filter_map(Member::from_proto).collect();
    // Known by this very id, and this disk never had an identity: it has not run yet.
    let am_founder = founders
        .iter()
        .any(|member| member.replica_uuid == me.replica_uuid)
        && formed.known_replica_uuid == me.replica_uuid.to_string();
    let known = formed.known_replica_uuid.as_str();
    info!(cluster_id = %formed.cluster_id, known, am_founder, "found a cluster");
    Ok(Identity {
        cluster_id: formed.cluster_id.clone(),
        incarnation: formed.incarnation,
        broker_id: me.broker_id,
        replica_uuid: me.replica_uuid,
        initial_members: if am_founder { founders } else { Vec::new() },
        restore_uuid,
        looked: false,
    })
}

fn found(args: &ServeArgs, answers: impl Iterator<Item = WhoAmIResponse>, me: &Member) -> Identity {
    let others = answers.filter_map(|answer| Member::from_proto(answer.responder?));
    let mut members: Vec<Member> = others.chain([me.clone()]).collect();
    members.sort_by_key(|member| member.broker_id);
    let default_id = members
        .first()
        .map_or(me.replica_uuid, |first| first.replica_uuid);
    let restore = args.restore_token.as_ref();
    let cluster_id = restore.map(|token| token.cluster_id.clone());
    let cluster_id = cluster_id.or_else(|| args.cluster_id.clone());
    let cluster_id = cluster_id.unwrap_or_else(|| default_id.to_string());
    let incarnation = restore.map_or(1, |token| token.incarnation);
    info!(%cluster_id, incarnation, members = members.len(), "founding a cluster");
    Identity {
        cluster_id,
        incarnation,
        broker_id: me.broker_id,
        replica_uuid: me.replica_uuid,
        initial_members: members,
        restore_uuid: restore.map(|token| token.restore_uuid),
        looked: false,
    }
}

/// The replica of `__meta` that a founder starts with.
pub fn founders_meta(identity: &Identity) -> NewReplica {
    let members = identity.initial_members.iter();
    let peer_id = |broker_id| meta::founder_peer_id(identity.incarnation, broker_id);
    NewReplica {
        group_id: meta::GROUP_ID,
        topic: meta::TOPIC.to_owned(),
        partition: 0,
        topic_id: meta::TOPIC_ID.to_owned(),
        peer_id: peer_id(identity.broker_id),
        initial_voters: members.map(|member| peer_id(member.broker_id)).collect(),
        restored: identity.restore_uuid.is_some(),
    }
}

/// Asks the `__meta` leader to take this broker in; repeats until it does.
pub async fn join(clients: &Arc<Clients>, identity: &Identity, me: &Member) -> NewReplica {
    loop {
        let peers: Vec<i32> = clients.configured().collect();
        for broker in peers.into_iter().filter(|broker| *broker != me.broker_id) {
            let Some(mut client) = clients.get(broker) else {
                continue;
            };
            let request = JoinRequest {
                broker: Some(me.to_proto()),
                cluster_id: identity.cluster_id.clone(),
                incarnation: identity.incarnation,
            };
            let answer = tokio::time::timeout(JOIN_TIMEOUT, client.join(request)).await;
            if let Ok(Ok(answer)) = answer {
                let answer = answer.into_inner();
                info!(via = broker, meta_peer_id = answer.meta_peer_id, "joined");
                return NewReplica {
                    group_id: meta::GROUP_ID,
                    topic: meta::TOPIC.to_owned(),
                    partition: 0,
                    topic_id: meta::TOPIC_ID.to_owned(),
                    peer_id: answer.meta_peer_id,
                    initial_voters: answer.meta_initial_voters,
                    restored: false,
                };
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// True = a peer that belongs to this life of the cluster already has seen that it had not lived before.
pub async fn somebody_looked(clients: &Clients, me: &Member, identity: &Identity) -> bool {
    let answers = ask_all(clients, me).await;
    answers.values().any(|answer| {
        answer.formed
            && answer.looked
            && answer.cluster_id == identity.cluster_id
            && answer.incarnation == identity.incarnation
    })
}

/// What the others say of this broker's disk.
pub enum Standing {
    /// Nobody who could tell has answered.
    Unknown,
    /// The `__meta` leader knows this replica id; empty = it knows none.
    Known(String),
    /// The cluster goes on in this later incarnation.
    FormerLife(u64),
}

/// Asks all brokers.
pub async fn standing(clients: &Clients, me: &Member, identity: &Identity) -> Standing {
    let answers = ask_all(clients, me).await.into_values();
    let same = answers.filter(|answer| answer.formed && answer.cluster_id == identity.cluster_id);
    let same: Vec<_> = same.collect();
    let last = same.iter().map(|answer| answer.incarnation).max();
    if let Some(last) = last.filter(|last| *last > identity.incarnation) {
        return Standing::FormerLife(last);
    }
    let authoritative = same
        .into_iter()
        .find(|answer| answer.authoritative && answer.incarnation == identity.incarnation);
    authoritative.map_or(Standing::Unknown, |answer| {
        Standing::Known(answer.known_replica_uuid)
    })
}
