//! `__meta`: brokers, topics, replicas and the allocators of ids, as a replicated state machine.
//!
//! Commands and state are JSON: small, rare, and readable in a snapshot. Applying is deterministic; everything
//! random (topic ids, replica ids) is in the command.

pub mod command;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use command::{Command, Outcome};

use crate::{config::MAX_BROKER_ID, identity::Member};

/// Name of the group's topic.
pub const TOPIC: &str = "__meta";
/// `topic_id` of the group: one life, as long as the cluster.
pub const TOPIC_ID: &str = "meta";
/// Raft group id of `__meta`.
pub const GROUP_ID: u64 = 1;
/// Group ids below are reserved.
const FIRST_GROUP_ID: u64 = 1000;
/// Peer and producer ids that one incarnation can give out, in bits.
const ID_BITS: u32 = 40;

/// A replica of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Broker that holds it.
    pub broker_id: i32,
    /// Raft peer id, never reused.
    pub peer_id: u64,
    /// Peer ids that this one takes the place of, oldest first. Dead for ever.
    #[serde(default)]
    pub replaced: Vec<u64>,
}

/// A Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Raft group id, never reused.
    pub group_id: u64,
    /// Peer ids of the configuration that the group has at index 0.
    pub initial_voters: Vec<u64>,
    /// Replicas as they shall be.
    pub replicas: Vec<Replica>,
    /// True = the first voters do not start empty, but from what the plan of this incarnation's restore names.
    #[serde(default)]
    pub restored: bool,
}

impl Group {
    /// The replica on a broker.
    pub fn replica_on(&self, broker_id: i32) -> Option<&Replica> {
        self.replicas
            .iter()
            .find(|replica| replica.broker_id == broker_id)
    }

    /// The broker of a live peer id.
    pub fn broker_of(&self, peer_id: u64) -> Option<i32> {
        self.replicas
            .iter()
            .find(|replica| replica.peer_id == peer_id)
            .map(|replica| replica.broker_id)
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Identity of this life of the topic.
    pub topic_id: Uuid,
    /// Partitions, position = number.
    pub partitions: Vec<Group>,
}

/// The whole state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaState {
    /// Cluster; empty before the first command.
    pub cluster_id: String,
    /// Life of the cluster.
    pub incarnation: u64,
    /// Registered brokers.
    pub brokers: BTreeMap<i32, Member>,
    /// The group `__meta` itself.
    pub meta_replicas: Vec<Replica>,
    /// Its peer ids at index 0.
    pub meta_initial_voters: Vec<u64>,
    /// Topics by name.
    pub topics: BTreeMap<String, Topic>,
    /// Next peer id.
    pub next_peer_id: u64,
    /// Next group id.
    pub next_group_id: u64,
    /// Next producer id.
    pub next_producer_id: i64,
    /// Dead peer ids.
    pub tombstones: BTreeSet<u64>,
    /// True = some Raft log of this cluster was compacted.
    pub any_log_compacted: bool,
}

impl MetaState {
    /// True = the first command was applied.
    pub fn is_formed(&self) -> bool {
        !self.cluster_id.is_empty()
    }

    /// The group of `__meta`.
    pub fn meta_group(&self) -> Group {
        Group {
            group_id: GROUP_ID,
            initial_voters: self.meta_initial_voters.clone(),
            replicas: self.meta_replicas.clone(),
            restored: self.incarnation > 1,
        }
    }

    /// A group by topic and partition, with its `topic_id`.
    pub fn group(&self, topic: &str, partition: i32) -> Option<(String, Group)> {
        if topic == TOPIC {
            return (partition == 0).then(|| (TOPIC_ID.to_owned(), self.meta_group()));
        }
        let found = self.topics.get(topic)?;
        let group = found.partitions.get(usize::try_from(partition).ok()?)?;
        Some((found.topic_id.to_string(), group.clone()))
    }

    /// Group id by topic and partition.
    pub fn group_id(&self, topic: &str, partition: i32) -> Option<u64> {
        if topic == TOPIC {
            return (partition == 0).then_some(GROUP_ID);
        }
        let found = self.topics.get(topic)?;
        let group = found.partitions.get(usize::try_from(partition).ok()?)?;
        Some(group.group_id)
    }

    /// All partitions with their names.
    pub fn partitions(&self) -> impl Iterator<Item = (&str, i32, &Topic, &Group)> {
        self.topics.iter().flat_map(|(name, topic)| {
            (0..)
                .zip(&topic.partitions)
                .map(move |(number, group)| (name.as_str(), number, topic, group))
        })
    }

    fn allocate_peer(&mut self) -> u64 {
        let id = self.next_peer_id;
        self.next_peer_id += 1;
        id
    }

    /// Applies a command.
    pub fn apply(&mut self, command: Command) -> Outcome {
        match command {
            Command::Init {
                cluster_id,
                incarnation,
                members,
            } => self.init(cluster_id, incarnation, members),
            _ if !self.is_formed() => Outcome::NotFormed,
            Command::Register { member } => self.register(member),
            Command::Join { member } => self.join(member),
            Command::CreateTopic {
                name,
                topic_id,
                partitions,
                replication_factor,
            } => self.create_topic(name, topic_id, partitions, replication_factor),
            Command::DeleteTopic { name } => self.delete_topic(&name),
            Command::AllocateProducerIds { count } => {
                let first = self.next_producer_id;
                self.next_producer_id += i64::from(count);
                Outcome::ProducerIds { first, count }
            }
            Command::NoteCompaction => {
                self.any_log_compacted = true;
                Outcome::Done
            }
        }
    }

    /// The first command of a life: of a new cluster, or over the restored metadata of a former life.
    fn init(&mut self, cluster_id: String, incarnation: u64, members: Vec<Member>) -> Outcome {
        if incarnation <= self.incarnation || (self.is_formed() && cluster_id != self.cluster_id) {
            return Outcome::Done;
        }
        if !self.is_formed() {
            self.next_group_id = FIRST_GROUP_ID;
        }
        // The restored metadata may be older than the last id that was given out: ids come from a range of their own.
        let range = id_range(incarnation);
        self.cluster_id = cluster_id;
        self.incarnation = incarnation;
        self.next_peer_id = range + u64::from(MAX_BROKER_ID.unsigned_abs()) + 1;
        self.next_producer_id = self.next_producer_id.max(range.cast_signed());
        self.any_log_compacted |= incarnation > 1;
        let former = self.meta_replicas.drain(..).map(|replica| replica.peer_id);
        self.tombstones.extend(former);
        self.meta_initial_voters.clear();
        self.brokers.clear();
        for member in members {
            let peer_id = founder_peer_id(incarnation, member.broker_id);
            self.meta_initial_voters.push(peer_id);
            self.meta_replicas.push(Replica {
                broker_id: member.broker_id,
                peer_id,
                replaced: Vec::new(),
            });
            self.brokers.insert(member.broker_id, member);
        }
        self.refound_groups();
        Outcome::Done
    }

    /// Every group of a former life begins again: on brokers that are there, under new peer ids.
    fn refound_groups(&mut self) {
        let brokers: Vec<i32> = self.brokers.keys().copied().collect();
        let mut topics = std::mem::take(&mut self.topics);
        for group in topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            let former = std::mem::take(&mut group.replicas);
            self.tombstones
                .extend(former.iter().map(|replica| replica.peer_id));
            let wanted = former.len().min(brokers.len());
            let stay = former.iter().map(|replica| replica.broker_id);
            let mut chosen: Vec<i32> = stay.filter(|id| brokers.contains(id)).collect();
            for broker_id in &brokers {
                if chosen.len() < wanted && !chosen.contains(broker_id) {
                    chosen.push(*broker_id);
                }
            }
            let replicas = chosen.into_iter().map(|broker_id| Replica {
                broker_id,
                peer_id: self.allocate_peer(),
                replaced: Vec::new(),
            });
            group.replicas = replicas.collect();
            let voters = group.replicas.iter().map(|replica| replica.peer_id);
            group.initial_voters = voters.collect();
            group.restored = true;
        }
        self.topics = topics;
    }

    fn register(&mut self, member: Member) -> Outcome {
        match self.brokers.get_mut(&member.broker_id) {
            Some(known) if known.replica_uuid == member.replica_uuid => {
                *known = member;
                Outcome::Done
            }
            _ => Outcome::Stranger,
        }
    }

    /// A broker with a new disk: new peer ids for all of its replicas, the old ones are dead. A broker that was
    /// never seen gets a replica of `__meta`.
    fn join(&mut self, member: Member) -> Outcome {
        let broker_id = member.broker_id;
        let known = self.brokers.get(&broker_id).map(|known| known.replica_uuid);
        let same_disk = known == Some(member.replica_uuid);
        self.brokers.insert(broker_id, member);
        if !same_disk {
            let mut meta_replicas = std::mem::take(&mut self.meta_replicas);
            if meta_replicas
                .iter()
                .any(|replica| replica.broker_id == broker_id)
            {
                self.replace_peer(&mut meta_replicas, broker_id);
            } else {
                let peer_id = self.allocate_peer();
                meta_replicas.push(Replica {
                    broker_id,
                    peer_id,
                    replaced: Vec::new(),
                });
            }
            self.meta_replicas = meta_replicas;
            let mut topics = std::mem::take(&mut self.topics);
            for group in topics.values_mut().flat_map(|topic| &mut topic.partitions) {
                self.replace_peer(&mut group.replicas, broker_id);
            }
            self.topics = topics;
        }
        let meta_peer_id = self
            .meta_group()
            .replica_on(broker_id)
            .map_or(0, |replica| replica.peer_id);
        Outcome::Joined { meta_peer_id }
    }

    fn replace_peer(&mut self, replicas: &mut [Replica], broker_id: i32) {
        for replica in replicas {
            if replica.broker_id == broker_id {
                let new = self.allocate_peer();
                let old = std::mem::replace(&mut replica.peer_id, new);
                replica.replaced.push(old);
                self.tombstones.insert(old);
            }
        }
    }

    fn create_topic(
        &mut self,
        name: String,
        topic_id: Uuid,
        partitions: u32,
        replication_factor: u16,
    ) -> Outcome {
        if self.topics.contains_key(&name) || name == TOPIC {
            return Outcome::TopicExists;
        }
        let brokers: Vec<i32> = self.brokers.keys().copied().collect();
        let replicas = usize::from(replication_factor);
        if replicas == 0 || replicas > brokers.len() {
            return Outcome::InvalidReplicationFactor(brokers.len());
        }
        // The first replica leads at first: start each topic and partition at another broker.
        let start = usize::try_from(self.next_group_id).unwrap_or(0);
        let partitions = (0..partitions as usize).map(|number| {
            let group_id = self.next_group_id;
            self.next_group_id += 1;
            let chosen = (0..replicas).map(|step| brokers[(start + number + step) % brokers.len()]);
            let replicas: Vec<Replica> = chosen
                .map(|broker_id| Replica {
                    broker_id,
                    peer_id: self.allocate_peer(),
                    replaced: Vec::new(),
                })
                .collect();
            Group {
                group_id,
                initial_voters: replicas.iter().map(|replica| replica.peer_id).collect(),
                replicas,
                restored: false,
            }
        });
        let topic = Topic {
            topic_id,
            partitions: partitions.collect(),
        };
        self.topics.insert(name, topic);
        Outcome::Done
    }

    fn delete_topic(&mut self, name: &str) -> Outcome {
        let Some(topic) = self.topics.remove(name) else {
            return Outcome::UnknownTopic;
        };
        let groups = topic.partitions.into_iter();
        let dead = groups.flat_map(|group| group.replicas);
        self.tombstones.extend(dead.map(|replica| replica.peer_id));
        Outcome::Done
    }
}

/// Ids of one incarnation begin here: far above all of the former one's.
const fn id_range(incarnation: u64) -> u64 {
    (incarnation.saturating_sub(1) & 0x3f_ffff) << ID_BITS
}

/// Peer id in `__meta` of a broker that has part in the beginning of an incarnation.
pub fn founder_peer_id(incarnation: u64, broker_id: i32) -> u64 {
    id_range(incarnation) + u64::from(broker_id.unsigned_abs())
}

/// The broker of a founder's peer id in `__meta`: the inverse of [`founder_peer_id`].
pub fn founder_of_peer(peer_id: u64) -> Option<i32> {
    let broker_id = i32::try_from(peer_id & ((1 << ID_BITS) - 1)).ok()?;
    (1..=MAX_BROKER_ID)
        .contains(&broker_id)
        .then_some(broker_id)
}

/// The state machine around [`MetaState`]. Owned by the driver.
#[derive(Debug, Clone, Default)]
pub struct MetaMachine {
    state: Arc<MetaState>,
}

impl MetaMachine {
    /// From the state part of a checkpoint or snapshot.
    pub fn from_state_part(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(Self {
            state: Arc::new(serde_json::from_slice(bytes)?),
        })
    }

    /// The state part.
    pub fn state_part(&self) -> Vec<u8> {
        // Maps with string and integer keys always serialize.
        serde_json::to_vec(self.state.as_ref()).unwrap_or_default()
    }

    /// The state now.
    pub fn state(&self) -> &Arc<MetaState> {
        &self.state
    }

    /// Applies an entry. Bytes that are no command change nothing.
    pub fn apply(&mut self, data: &[u8]) -> Outcome {
        match serde_json::from_slice(data) {
            Ok(command) => Arc::make_mut(&mut self.state).apply(command),
            Err(_) => Outcome::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(broker_id: i32) -> Member {
        Member {
            broker_id,
            replica_uuid: Uuid::from_u128(broker_id.unsigned_abs().into()),
            kafka_host: "h".into(),
            kafka_port: 1,
            peer_addr: "h:2".into(),
        }
    }

    fn formed() -> MetaState {
        let mut state = MetaState::default();
        state.apply(Command::Init {
            cluster_id: "c".into(),
            incarnation: 1,
            members: (1..=3).map(member).collect(),
        });
        state
    }

    fn create(state: &mut MetaState, name: &str) -> Outcome {
        state.apply(Command::CreateTopic {
            name: name.into(),
            topic_id: Uuid::from_u128(9),
            partitions: 3,
            replication_factor: 3,
        })
    }

    #[test]
    fn a_lost_broker_gets_new_peer_ids_once_for_each_disk() {
        let mut state = formed();
        create(&mut state, "t");
        let old = state
            .group("t", 0)
            .unwrap()
            .1
            .replica_on(3)
            .unwrap()
            .peer_id;
        let mut lost = member(3);
        lost.replica_uuid = Uuid::from_u128(33);
        let first = state.apply(Command::Join {
            member: lost.clone(),
        });
        let after_first = state.clone();
        assert_eq!(state.apply(Command::Join { member: lost }), first);
        assert_eq!(state, after_first);
        let replica = state
            .group("t", 0)
            .unwrap()
            .1
            .replica_on(3)
            .unwrap()
            .clone();
        assert_ne!(replica.peer_id, old);
        assert_eq!(replica.replaced, vec![old]);
        assert!(state.tombstones.contains(&old));
        assert_eq!(state.register(member(3)), Outcome::Stranger);
    }

    #[test]
    fn ids_are_never_reused_even_for_a_topic_of_the_same_name() {
        let mut state = formed();
        create(&mut state, "t");
        let (_, first) = state.group("t", 0).unwrap();
        state.apply(Command::DeleteTopic { name: "t".into() });
        create(&mut state, "t");
        let (_, second) = state.group("t", 0).unwrap();
        assert_ne!(first.group_id, second.group_id);
        assert!(
            second
                .initial_voters
                .iter()
                .all(|peer| !first.initial_voters.contains(peer))
        );
    }

    #[test]
    fn the_next_life_has_new_peers_and_gives_no_id_out_twice() {
        let mut state = formed();
        create(&mut state, "t");
        let former = state.clone();
        // More ids were given out after the snapshot that `former` comes from.
        let Outcome::ProducerIds { first: lost, .. } =
            state.apply(Command::AllocateProducerIds { count: 500 })
        else {
            panic!("no producer ids");
        };
        let mut state = former.clone();
        let mut members: Vec<_> = (1..=2).map(member).collect();
        members[0].replica_uuid = Uuid::from_u128(77);
        let again = Command::Init {
            cluster_id: "c".into(),
            incarnation: 2,
            members,
        };
        assert_eq!(state.apply(again.clone()), Outcome::Done);
        assert_eq!(state.incarnation, 2);
        assert!(state.any_log_compacted);
        assert_eq!(state.brokers[&1].replica_uuid, Uuid::from_u128(77));
        assert!(
            !state.brokers.contains_key(&3),
            "it has no part in this life"
        );
        let mut peers: BTreeSet<u64> = state.meta_initial_voters.iter().copied().collect();
        for (_, _, topic, group) in state.partitions() {
            assert_eq!(topic.topic_id, former.topics["t"].topic_id);
            assert!(group.restored);
            assert_eq!(group.replicas.len(), 2, "no more replicas than brokers");
            peers.extend(&group.initial_voters);
        }
        let dead = former.next_peer_id;
        assert!(peers.iter().all(|peer| *peer > dead), "{peers:?}");
        for (_, _, _, group) in former.partitions() {
            let peers = group.initial_voters.iter();
            assert!(
                peers
                    .into_iter()
                    .all(|peer| state.tombstones.contains(peer))
            );
        }
        let Outcome::ProducerIds { first, .. } =
            state.apply(Command::AllocateProducerIds { count: 1 })
        else {
            panic!("no producer ids");
        };
        assert!(first > lost + 500);
        let after = state.clone();
        assert_eq!(state.apply(again), Outcome::Done);
        assert_eq!(state, after, "once for each life");
        state.apply(Command::CreateTopic {
            name: "u".into(),
            topic_id: Uuid::from_u128(10),
            partitions: 1,
            replication_factor: 2,
        });
        assert!(!state.group("u", 0).unwrap().1.restored);
    }

    #[test]
    fn leaders_are_spread_and_replication_is_checked() {
        let mut state = formed();
        create(&mut state, "t");
        let leaders: BTreeSet<i32> = state
            .partitions()
            .map(|(_, _, _, group)| group.replicas[0].broker_id)
            .collect();
        assert_eq!(leaders.len(), 3);
        assert_eq!(create(&mut state, "t"), Outcome::TopicExists);
        let refused = state.apply(Command::CreateTopic {
            name: "u".into(),
            topic_id: Uuid::nil(),
            partitions: 1,
            replication_factor: 4,
        });
        assert_eq!(refused, Outcome::InvalidReplicationFactor(3));
    }

    #[test]
    fn the_state_part_restores_the_allocators() {
        let mut machine = MetaMachine::default();
        let init = Command::Init {
            cluster_id: "c".into(),
            incarnation: 1,
            members: vec![member(1)],
        };
        machine.apply(&init.encode());
        machine.apply(&Command::AllocateProducerIds { count: 10 }.encode());
        let mut restored = MetaMachine::from_state_part(&machine.state_part()).unwrap();
        assert_eq!(restored.state(), machine.state());
        assert_eq!(
            restored.apply(&Command::AllocateProducerIds { count: 1 }.encode()),
            Outcome::ProducerIds {
                first: 10,
                count: 1
            }
        );
        assert_eq!(restored.apply(b"nonsense"), Outcome::Malformed);
    }
}
