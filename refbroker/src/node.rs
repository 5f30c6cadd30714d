//! [`api::Node`](crate::api::Node) over the driver.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    api::{
        ApiError, Appended, BrokerView, ClusterView, Fetched, NewTopic, Node, Offsets,
        PartitionView, TopicView,
    },
    driver::{
        input::{Applied, DriverHandle},
        shared::{GroupShared, Shared},
    },
    identity::Member,
    meta::{self, Command, Group, Outcome, Topic},
    peer::{client::Clients, service::propose_here},
    proto::peer::ProposeMetaRequest,
    state::view::PartitionView as Records,
};

/// Producer ids fetched at once.
const PRODUCER_ID_BLOCK: u32 = 100;
/// Pause before another try to reach the `__meta` leader.
const RETRY: Duration = Duration::from_millis(100);
/// How long a new topic is waited for to have leaders.
const LEADER_WAIT: Duration = Duration::from_secs(3);

/// The node.
pub struct BrokerNode {
    me: Member,
    cluster_id: String,
    incarnation: u64,
    driver: DriverHandle,
    shared: Arc<Shared>,
    clients: Arc<Clients>,
    producer_ids: Mutex<std::ops::Range<i64>>,
    /// Leaders of groups that this broker does not host, as the other brokers tell.
    told_leaders: RwLock<HashMap<u64, u64>>,
}

impl BrokerNode {
    /// Around the parts of a broker.
    pub fn new(
        me: Member,
        (cluster_id, incarnation): (String, u64),
        driver: DriverHandle,
        shared: Arc<Shared>,
        clients: Arc<Clients>,
    ) -> Self {
        Self {
            me,
            cluster_id,
            incarnation,
            driver,
            shared,
            clients,
            producer_ids: Mutex::new(0..0),
            told_leaders: RwLock::default(),
        }
    }

    /// Broker id and replica id.
    pub fn identity(&self) -> (i32, Uuid) {
        (self.me.broker_id, self.me.replica_uuid)
    }

    /// The groups of this broker.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn group(&self, topic: &str, partition: i32) -> Result<Arc<GroupShared>, ApiError> {
        let meta = self.shared.meta();
        let found = meta
            .topics
            .get(topic)
            .and_then(|found| found.partitions.get(usize::try_from(partition).ok()?));
        let group = found.ok_or(ApiError::UnknownTopicOrPartition)?;
        self.shared.group(group.group_id).ok_or(ApiError::NotLeader)
    }

    fn led_records(&self, topic: &str, partition: i32) -> Result<Arc<Records>, ApiError> {
        let group = self.group(topic, partition)?;
        if !group.is_serving() {
            return Err(ApiError::NotLeader);
        }
        group.view.clone().ok_or(ApiError::UnknownTopicOrPartition)
    }

    fn controller_id(&self) -> Option<i32> {
        let group = self.shared.group(meta::GROUP_ID)?;
        let leader = group.status().leader_peer_id;
        self.shared.meta().meta_group().broker_of(leader)
    }

    fn partition_view(&self, group: &Group) -> PartitionView {
        let replicas: Vec<i32> = group
            .replicas
            .iter()
            .map(|replica| replica.broker_id)
            .collect();
        let Some(hosted) = self.shared.group(group.group_id) else {
            let told = self.told_leaders.read();
            let told = told.unwrap_or_else(PoisonError::into_inner);
            let leader = told.get(&group.group_id);
            return PartitionView {
                leader: leader.and_then(|peer| group.broker_of(*peer)),
                leader_epoch: -1,
                in_sync: replicas.clone(),
                replicas,
            };
        };
        let status = hosted.status();
        let near = status.in_sync.iter();
        let in_sync: Vec<i32> = near.filter_map(|peer| group.broker_of(*peer)).collect();
        PartitionView {
            leader: group.broker_of(status.leader_peer_id),
            leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
            in_sync: if in_sync.is_empty() {
                replicas.clone()
            } else {
                in_sync
            },
            replicas,
        }
    }

    fn topic_view(&self, name: &str, topic: &Topic) -> TopicView {
        let partitions = topic.partitions.iter();
        TopicView {
            name: name.to_owned(),
            topic_id: topic.topic_id,
            partitions: partitions.map(|group| self.partition_view(group)).collect(),
        }
    }

    /// Brings a command to the `__meta` leader and returns the index of its entry. Tries again only if the command
    /// was certainly not taken.
    pub async fn propose_meta(
        &self,
        command: &Command,
        within: Duration,
    ) -> Result<(u64, Outcome), ApiError> {
        let deadline = Instant::now() + within;
        let command = command.encode();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let controller = self.controller_id();
            let outcome = match controller {
                Some(broker) if broker == self.me.broker_id => {
                    propose_here(&self.driver, command.clone(), left).await
                }
                Some(broker) => self.forward(broker, command.clone(), left).await,
                None => Err(ApiError::NoController),
            };
            match outcome {
                Err(ApiError::NotLeader | ApiError::NoController) | Ok((_, Outcome::NotFormed)) => {
                }
                other => return other,
            }
            if Instant::now() + RETRY >= deadline {
                return Err(ApiError::NoController);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn forward(
        &self,
        broker: i32,
        command: Bytes,
        within: Duration,
    ) -> Result<(u64, Outcome), ApiError> {
        let mut client = self.clients.get(broker).ok_or(ApiError::NoController)?;
        let request = ProposeMetaRequest {
            cluster_id: self.cluster_id.clone(),
            incarnation: self.incarnation,
            command,
        };
        let answer = timeout(within, client.propose_meta(request)).await;
        let answer = answer.map_err(|_| ApiError::TimedOut)?;
        let answer = answer.map_err(|status| match status.code() {
            Code::FailedPrecondition => ApiError::NotLeader,
            _ => ApiError::TimedOut,
        })?;
        let answer = answer.into_inner();
        let outcome = serde_json::from_slice(&answer.outcome).map_err(|_| ApiError::Storage)?;
        Ok((answer.index, outcome))
    }

    async fn wait_for_meta(&self, index: u64, deadline: Instant) -> Result<(), ApiError> {
        let mut changes = self.shared.watch_meta();
        let applied = changes.wait_for(|(applied, _)| *applied >= index);
        match timeout_at(deadline, applied).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ApiError::TimedOut),
        }
    }

    /// Notes who leads the groups that this broker does not host.
    pub async fn learn_leaders(&self) {
        let meta = self.shared.meta();
        let mut groups = meta.partitions().map(|(_, _, _, group)| group.group_id);
        if groups.all(|group_id| self.shared.group(group_id).is_some()) {
            return;
        }
        let mut told = HashMap::new();
        for broker in meta
            .brokers
            .keys()
            .filter(|broker| **broker != self.me.broker_id)
        {
            let Some(mut client) = self.clients.get(*broker) else {
                continue;
            };
            let question =
                client.describe_groups(crate::proto::peer::DescribeGroupsRequest { group_id: 0 });
            if let Ok(Ok(answer)) = timeout(Duration::from_secs(2), question).await {
                let groups = answer.into_inner().groups.into_iter();
                let led = groups.filter(|group| group.leader_peer_id != 0);
                told.extend(led.map(|group| (group.group_id, group.leader_peer_id)));
            }
        }
        *self
            .told_leaders
            .write()
            .unwrap_or_else(PoisonError::into_inner) = told;
    }
}

#[async_trait]
impl Node for BrokerNode {
    fn cluster(&self) -> ClusterView {
        let meta = self.shared.meta();
        let brokers = meta.brokers.values().map(|member| BrokerView {
            id: member.broker_id,
            host: member.kafka_host.clone(),
            port: member.kafka_port,
        });
        ClusterView {
            cluster_id: self.cluster_id.clone(),
            this_broker: self.me.broker_id,
            controller: self.controller_id(),
            brokers: brokers.collect(),
        }
    }

    fn topics(&self) -> Vec<TopicView> {
        let meta = self.shared.meta();
        let topics = meta.topics.iter();
        topics
            .map(|(name, topic)| self.topic_view(name, topic))
            .collect()
    }

    async fn create_topic(&self, topic: NewTopic, within: Duration) -> Result<TopicView, ApiError> {
        let deadline = Instant::now() + within;
        let command = Command::CreateTopic {
            name: topic.name.clone(),
            topic_id: Uuid::new_v4(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
        };
        let (index, outcome) = self.propose_meta(&command, within).await?;
        match outcome {
            Outcome::Done => {}
            Outcome::TopicExists => return Err(ApiError::TopicExists),
            Outcome::InvalidReplicationFactor(brokers) => {
                return Err(ApiError::InvalidReplicationFactor(brokers));
            }
            _ => return Err(ApiError::Storage),
        }
        self.wait_for_meta(index, deadline).await?;
        // Leaders are a courtesy: clients may also find out later.
        let patience = deadline.min(Instant::now() + LEADER_WAIT);
        loop {
            let meta = self.shared.meta();
            let created = meta.topics.get(&topic.name);
            let created = created.ok_or(ApiError::UnknownTopicOrPartition)?;
            let view = self.topic_view(&topic.name, created);
            let hosted = |group: &Group| self.shared.group(group.group_id).is_some();
            let led = view.partitions.iter().zip(&created.partitions);
            let mut led = led.map(|(view, group)| view.leader.is_some() || !hosted(group));
            if led.all(|led| led) || Instant::now() >= patience {
                return Ok(view);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn delete_topic(&self, name: &str, within: Duration) -> Result<(), ApiError> {
        let deadline = Instant::now() + within;
        let name = name.to_owned();
        let (index, outcome) = self
            .propose_meta(&Command::DeleteTopic { name }, within)
            .await?;
        match outcome {
            Outcome::Done => self.wait_for_meta(index, deadline).await,
            Outcome::UnknownTopic => Err(ApiError::UnknownTopicOrPartition),
            _ => Err(ApiError::Storage),
        }
    }

    async fn append(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        within: Duration,
    ) -> Result<Appended, ApiError> {
        let group = self.group(topic, partition)?;
        if !group.is_serving() {
            return Err(ApiError::NotLeader);
        }
        // Nothing is awaited before: appends take effect in the order in which they are first polled.
        let answer = self.driver.propose(group.group_id, batch)?;
        let _waiting = self.shared.latency.begin();
        match timeout(within, answer).await {
            Ok(Ok(Ok(Applied::Batch(outcome)))) => outcome,
            Ok(Ok(Err(error))) => Err(error),
            Ok(Ok(Ok(Applied::Meta(..))) | Err(_)) => Err(ApiError::Storage),
            Err(_) => Err(ApiError::TimedOut),
        }
    }

    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_bytes: usize,
    ) -> Result<Fetched, ApiError> {
        let records = self.led_records(topic, partition)?;
        let read = tokio::task::spawn_blocking(move || records.read(offset, max_bytes));
        read.await.map_err(|_| ApiError::Storage)?
    }

    async fn wait_beyond(&self, topic: &str, partition: i32, offset: i64, within: Duration) {
        let Ok(records) = self.led_records(topic, partition) else {
            return;
        };
        let mut changes = records.watch();
        let beyond = changes.wait_for(|high_watermark| *high_watermark > offset);
        let _ = timeout(within, beyond).await;
    }

    fn offsets(&self, topic: &str, partition: i32) -> Result<Offsets, ApiError> {
        Ok(self.led_records(topic, partition)?.offsets())
    }

    async fn offset_for_time(
        &self,
        topic: &str,
        partition: i32,
        timestamp_ms: i64,
    ) -> Result<Option<(i64, i64)>, ApiError> {
        let records = self.led_records(topic, partition)?;
        let find = tokio::task::spawn_blocking(move || records.offset_for_time(timestamp_ms));
        find.await.map_err(|_| ApiError::Storage)?
    }

    async fn allocate_producer_id(&self, within: Duration) -> Result<i64, ApiError> {
        let mut ids = self.producer_ids.lock().await;
        if let Some(id) = ids.next() {
            return Ok(id);
        }
        let count = PRODUCER_ID_BLOCK;
        let command = Command::AllocateProducerIds { count };
        let (_, outcome) = self.propose_meta(&command, within).await?;
        let Outcome::ProducerIds { first, count } = outcome else {
            return Err(ApiError::Storage);
        };
        *ids = first..first + i64::from(count);
        ids.next().ok_or(ApiError::Storage)
    }
}
