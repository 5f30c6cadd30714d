//! What a broker says about the cluster.

use std::{collections::BTreeMap, time::Duration};

use kafka_protocol::{ResponseError, messages::MetadataRequest};
use serde::Serialize;
use uuid::Uuid;

use super::{connection::Connection, error::ClientError};

const METADATA_VERSION: i16 = 10;

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broker {
    /// Kafka node id.
    pub id: i32,
    /// HOST:PORT of its Kafka listener.
    pub address: String,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its number.
    pub number: i32,
    /// Broker that leads it, if known.
    pub leader: Option<i32>,
    /// Raft term of that leadership.
    pub leader_epoch: i32,
    /// Brokers that hold a replica.
    pub replicas: Vec<i32>,
    /// Of these, the ones that are caught up.
    pub in_sync: Vec<i32>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// Identity of this life of the topic.
    pub topic_id: String,
    /// Partitions in order of number.
    pub partitions: Vec<Partition>,
}

/// The cluster as one broker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct View {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// Broker that leads `__meta`, if known.
    pub controller: Option<i32>,
    /// Brokers in order of id.
    pub brokers: Vec<Broker>,
    /// Topics by name.
    pub topics: BTreeMap<String, Topic>,
}

impl View {
    /// HOST:PORT of the broker that leads a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<&str, ClientError> {
        let topic_view = self.topics.get(topic).ok_or(ClientError::Refused {
            what: "metadata",
            code: ResponseError::UnknownTopicOrPartition,
        })?;
        let leader = topic_view
            .partitions
            .iter()
            .find(|candidate| candidate.number == partition)
            .and_then(|partition| partition.leader);
        leader
            .and_then(|id| self.brokers.iter().find(|broker| broker.id == id))
            .map(|broker| broker.address.as_str())
            .ok_or_else(|| ClientError::NoLeader {
                topic: topic.to_owned(),
                partition,
            })
    }
}

/// Asks one broker.
pub(super) async fn fetch_view(address: &str) -> Result<View, ClientError> {
    let mut connection = Connection::open(address).await?;
    let request = MetadataRequest::default().with_topics(None);
    let response = connection
        .call("metadata", &request, METADATA_VERSION, Duration::ZERO)
        .await?;
    let known = |id: i32| (id >= 0).then_some(id);
    let mut brokers: Vec<_> = response
        .brokers
        .iter()
        .map(|broker| Broker {
            id: broker.node_id.0,
            address: format!("{}:{}", broker.host.as_str(), broker.port),
        })
        .collect();
    brokers.sort_unstable_by_key(|broker| broker.id);
    let mut topics = BTreeMap::new();
    for topic in response.topics {
        let ids = |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| id.0).collect();
        let mut partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| Partition {
                number: partition.partition_index,
                leader: known(partition.leader_id.0),
                leader_epoch: partition.leader_epoch,
                replicas: ids(&partition.replica_nodes),
                in_sync: ids(&partition.isr_nodes),
            })
            .collect();
        partitions.sort_unstable_by_key(|partition| partition.number);
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        let topic_id = Uuid::to_string(&topic.topic_id);
        topics.insert(
            name,
            Topic {
                topic_id,
                partitions,
            },
        );
    }
    Ok(View {
        cluster_id: response
            .cluster_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        controller: known(response.controller_id.0),
        brokers,
        topics,
    })
}
