//! Metadata: brokers, topics, partitions. Topics are never created by asking for them.

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, MetadataRequest, MetadataResponse, TopicName,
        metadata_request::MetadataRequestTopic,
        metadata_response::{
            MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
        },
    },
    protocol::StrBytes,
};

use super::{dispatch::Request, error::ConnectionError};
use crate::api::{ClusterView, Node, PartitionView, TopicView};

/// Broker id that stands for "none".
const NO_BROKER: BrokerId = BrokerId(-1);

pub(super) fn answer(node: &dyn Node, request: &Request) -> Result<Bytes, ConnectionError> {
    let asked: MetadataRequest = request.decode()?;
    let cluster = node.cluster();
    let known = node.topics();
    let topics = match asked.topics {
        Some(names) if !(names.is_empty() && request.version == 0) => names
            .iter()
            .map(|wanted| describe_wanted(&cluster, &known, wanted))
            .collect(),
        _ => known
            .iter()
            .map(|topic| describe(&cluster, topic))
            .collect(),
    };
    let brokers = cluster
        .brokers
        .iter()
        .map(|broker| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(broker.id))
                .with_host(StrBytes::from_string(broker.host.clone()))
                .with_port(i32::from(broker.port))
        })
        .collect();
    request.encode(
        &MetadataResponse::default()
            .with_brokers(brokers)
            .with_cluster_id(Some(StrBytes::from_string(cluster.cluster_id)))
            .with_controller_id(cluster.controller.map_or(NO_BROKER, BrokerId))
            .with_topics(topics),
    )
}

fn describe_wanted(
    cluster: &ClusterView,
    known: &[TopicView],
    wanted: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let found = match &wanted.name {
        Some(name) => known.iter().find(|topic| topic.name == name.as_str()),
        None => known.iter().find(|topic| topic.topic_id == wanted.topic_id),
    };
    if let Some(topic) = found {
        return describe(cluster, topic);
    }
    let error = if wanted.name.is_some() {
        ResponseError::UnknownTopicOrPartition
    } else {
        ResponseError::UnknownTopicId
    };
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(wanted.name.clone())
        .with_topic_id(wanted.topic_id)
}

fn describe(cluster: &ClusterView, topic: &TopicView) -> MetadataResponseTopic {
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(number, partition)| describe_partition(cluster, number, partition))
        .collect();
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions)
}

fn describe_partition(
    cluster: &ClusterView,
    number: i32,
    partition: &PartitionView,
) -> MetadataResponsePartition {
    let is_registered = |id: &i32| cluster.brokers.iter().any(|broker| broker.id == *id);
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let leader = partition.leader.filter(is_registered);
    let offline = partition.replicas.iter().filter(|id| !is_registered(id));
    let response = MetadataResponsePartition::default()
        .with_partition_index(number)
        .with_leader_id(leader.map_or(NO_BROKER, BrokerId))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(ids(&partition.replicas))
        .with_isr_nodes(ids(&partition.in_sync))
        .with_offline_replicas(offline.copied().map(BrokerId).collect());
    match leader {
        Some(_) => response,
        None => response.with_error_code(ResponseError::LeaderNotAvailable.code()),
    }
}
