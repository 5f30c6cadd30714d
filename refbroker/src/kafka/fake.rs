//! A node in memory: one broker, no replication, the same promises towards the front.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::api::{
    ApiError, Appended, BrokerView, ClusterView, Fetched, NewTopic, Node, Offsets, PartitionView,
    TopicView,
};

/// Id of the only broker.
pub(crate) const BROKER: i32 = 1;

#[derive(Default)]
struct Log {
    batches: Vec<(i64, Bytes)>,
    end: i64,
    seen: BTreeMap<(i64, i32), i64>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, (Uuid, Vec<Log>)>,
    next_producer_id: i64,
    refusal: Option<ApiError>,
}

/// The node.
pub(crate) struct FakeNode {
    port: u16,
    state: Mutex<State>,
    /// Changes with every append.
    changed: watch::Sender<u64>,
    /// While false, appends take their place in the log but do not return.
    commits: watch::Sender<bool>,
}

impl FakeNode {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            commits: watch::Sender::new(true),
        }
    }

    pub(crate) fn with_topic(self, name: &str, partitions: usize) -> Self {
        self.lock().add(name, partitions);
        self
    }

    /// From now on appends return only while `open`.
    pub(crate) fn set_commits(&self, open: bool) {
        self.commits.send_replace(open);
    }

    /// From now on every append, read and lookup is refused.
    pub(crate) fn refuse(&self, error: Option<ApiError>) {
        self.lock().refusal = error;
    }

    /// Appends that took their place, committed or not.
    pub(crate) fn appends(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn add(&mut self, name: &str, partitions: usize) -> Uuid {
        let id = Uuid::new_v4();
        let logs = (0..partitions).map(|_| Log::default()).collect();
        self.topics.insert(name.to_owned(), (id, logs));
        id
    }

    fn log(&mut self, topic: &str, partition: i32) -> Result<&mut Log, ApiError> {
        if let Some(error) = &self.refusal {
            return Err(error.clone());
        }
        let partition = usize::try_from(partition).unwrap_or(usize::MAX);
        self.topics
            .get_mut(topic)
            .and_then(|(_, logs)| logs.get_mut(partition))
            .ok_or(ApiError::UnknownTopicOrPartition)
    }
}

fn view(name: &str, id: Uuid, partitions: usize) -> TopicView {
    let partition = PartitionView {
        leader: Some(BROKER),
        leader_epoch: 3,
        replicas: vec![BROKER],
        in_sync: vec![BROKER],
    };
    TopicView {
        name: name.to_owned(),
        topic_id: id,
        partitions: vec![partition; partitions],
    }
}

#[async_trait]
impl Node for FakeNode {
    fn cluster(&self) -> ClusterView {
        ClusterView {
            cluster_id: "fake".to_owned(),
            this_broker: BROKER,
            controller: Some(BROKER),
            brokers: vec![BrokerView {
                id: BROKER,
                host: "127.0.0.1".to_owned(),
                port: self.port,
            }],
        }
    }

    fn topics(&self) -> Vec<TopicView> {
        let state = self.lock();
        let topics = state.topics.iter();
        topics
            .map(|(name, (id, logs))| view(name, *id, logs.len()))
            .collect()
    }

    async fn create_topic(&self, topic: NewTopic, _: Duration) -> Result<TopicView, ApiError> {
        let partitions = topic.partitions as usize;
        let id = self.lock().add(&topic.name, partitions);
        Ok(view(&topic.name, id, partitions))
    }

    async fn delete_topic(&self, name: &str, _: Duration) -> Result<(), ApiError> {
        let gone = self.lock().topics.remove(name);
        gone.map(drop).ok_or(ApiError::UnknownTopicOrPartition)
    }

    async fn append(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        _: Duration,
    ) -> Result<Appended, ApiError> {
        let field = |at: usize| i32::from_be_bytes(batch[at..at + 4].try_into().unwrap());
        let producer_id = i64::from_be_bytes(batch[43..51].try_into().unwrap());
        let (records, sequence) = (i64::from(field(57)), field(53));
        let base_offset = {
            let mut state = self.lock();
            let log = state.log(topic, partition)?;
            let known = (producer_id >= 0)
                .then(|| log.seen.get(&(producer_id, sequence)).copied())
                .flatten();
            known.unwrap_or_else(|| {
                let base_offset = log.end;
                let mut placed = batch.to_vec();
                placed[..8].copy_from_slice(&base_offset.to_be_bytes());
                log.batches.push((base_offset, placed.into()));
                log.end += records;
                log.seen.insert((producer_id, sequence), base_offset);
                base_offset
            })
        };
        self.changed.send_modify(|count| *count += 1);
        let mut commits = self.commits.subscribe();
        commits.wait_for(|open| *open).await.unwrap();
        Ok(Appended {
            base_offset,
            log_start_offset: 0,
        })
    }

    async fn read(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_bytes: usize,
    ) -> Result<Fetched, ApiError> {
        let mut state = self.lock();
        let log = state.log(topic, partition)?;
        if !(0..=log.end).contains(&offset) {
            return Err(ApiError::OffsetOutOfRange);
        }
        let mut found = Vec::new();
        let from = log.batches.partition_point(|(base, _)| *base <= offset);
        for (_, batch) in &log.batches[from.saturating_sub(1)..] {
            if offset == log.end || (!found.is_empty() && found.len() + batch.len() > max_bytes) {
                break;
            }
            found.extend_from_slice(batch);
        }
        Ok(Fetched {
            batches: found.into(),
            high_watermark: log.end,
            log_start_offset: 0,
        })
    }

    async fn wait_beyond(&self, topic: &str, partition: i32, offset: i64, timeout: Duration) {
        let mut changed = self.changed.subscribe();
        let beyond = changed.wait_for(|_| {
            let mut state = self.lock();
            state
                .log(topic, partition)
                .is_ok_and(|log| log.end > offset)
        });
        let _ = tokio::time::timeout(timeout, beyond).await;
    }

    fn offsets(&self, topic: &str, partition: i32) -> Result<Offsets, ApiError> {
        let mut state = self.lock();
        let high_watermark = state.log(topic, partition)?.end;
        Ok(Offsets {
            log_start_offset: 0,
            high_watermark,
        })
    }

    async fn offset_for_time(
        &self,
        topic: &str,
        partition: i32,
        timestamp_ms: i64,
    ) -> Result<Option<(i64, i64)>, ApiError> {
        let mut state = self.lock();
        let log = state.log(topic, partition)?;
        let stamp = |batch: &Bytes| i64::from_be_bytes(batch[27..35].try_into().unwrap());
        let mut batches = log.batches.iter();
        let found = batches.find(|(_, batch)| stamp(batch) >= timestamp_ms);
        Ok(found.map(|(offset, batch)| (*offset, stamp(batch))))
    }

    async fn allocate_producer_id(&self, _: Duration) -> Result<i64, ApiError> {
        let mut state = self.lock();
        state.next_producer_id += 1;
        Ok(state.next_producer_id)
    }
}
