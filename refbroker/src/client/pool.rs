//! Several producers for the partitions of one topic behind one queue each.
//!
//! One producer has at most five batches under way, and every batch waits for a commit; so there are several of
//! them for each partition, each with its own producer id. Order holds within a producer, not between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Client,
    error::ClientError,
    producer::{Producer, Record},
};

/// Records that wait in front of one producer.
const QUEUE: usize = 16;
/// Acknowledgements that wait to be collected.
const ACK_QUEUE: usize = 1024;

/// A record that the cluster has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// The record's key.
    pub key: Bytes,
}

/// How a pool is built.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Producers for each partition, at least 1.
    pub producers_per_partition: usize,
    /// Longest time from taking a record to its acknowledgement.
    pub delivery_timeout: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            producers_per_partition: 4,
            delivery_timeout: Duration::from_mins(1),
        }
    }
}

/// Counts of a pool, readable while it works.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The producers. Dropping it stops them at once.
#[derive(Debug)]
pub struct Pool {
    /// One queue for each producer, in the order in which they are used.
    queues: Vec<mpsc::Sender<Record>>,
    next: usize,
    producers: JoinSet<Result<(), ClientError>>,
    collector: JoinSet<Vec<Acked>>,
    progress: Progress,
}

impl Pool {
    /// Starts producers for every partition that the topic has.
    pub async fn start(
        client: &Arc<Client>,
        topic: &str,
        options: PoolOptions,
    ) -> Result<Self, ClientError> {
        let view = client.refresh().await?;
        let partitions = view
            .topics
            .get(topic)
            .map_or(0, |topic| topic.partitions.len());
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let (acks_in, acks_out) = mpsc::channel(ACK_QUEUE);
        let mut queues = Vec::new();
        let mut producers = JoinSet::new();
        for _ in 0..options.producers_per_partition.max(1) {
            for partition in 0..partitions.max(1) {
                let client = Arc::clone(client);
                let timeout = options.delivery_timeout;
                let producer = Producer::start(client, topic, partition, timeout).await?;
                let (queue_in, queue_out) = mpsc::channel(QUEUE);
                queues.push(queue_in);
                producers.spawn(producer.run(queue_out, acks_in.clone()));
            }
        }
        let progress = Progress::default();
        let mut collector = JoinSet::new();
        collector.spawn(collect(acks_out, progress.clone()));
        Ok(Self {
            queues,
            next: 0,
            producers,
            collector,
            progress,
        })
    }

    /// Hands a record to the next producer that has room, waiting if none has. An error means that a producer has
    /// failed; [`Pool::finish`] says why.
    pub async fn send(&mut self, mut record: Record) -> Result<(), ClientError> {
        for _ in 0..self.queues.len() {
            self.next = (self.next + 1) % self.queues.len();
            match self.queues[self.next].try_send(record) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(back)) => record = back,
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(ClientError::Stopped),
            }
        }
        self.next = (self.next + 1) % self.queues.len();
        let sent = self.queues[self.next].send(record).await;
        sent.map_err(|_| ClientError::Stopped)
    }

    /// A live count of what was acknowledged.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Waits until everything that was sent is acknowledged, and returns all acknowledgements.
    pub async fn finish(mut self) -> Result<Vec<Acked>, ClientError> {
        self.queues.clear();
        while let Some(ended) = self.producers.join_next().await {
            ended.map_err(|_| ClientError::Stopped)??;
        }
        match self.collector.join_next().await {
            Some(Ok(acked)) => Ok(acked),
            _ => Err(ClientError::Stopped),
        }
    }
}

async fn collect(mut acks: mpsc::Receiver<Acked>, progress: Progress) -> Vec<Acked> {
    let mut all = Vec::new();
    while let Some(acked) = acks.recv().await {
        all.push(acked);
        progress.0.fetch_add(1, Ordering::Relaxed);
    }
    all
}
