//! One idempotent producer for one partition: a window of batches of one record each.
//!
//! Whatever breaks (connection, leader, broker), the whole window is sent again from its oldest batch to whoever
//! leads by then. The sequence numbers make the broker answer a batch that it has already with the offset of the
//! first try, so nothing is appended twice and nothing is skipped.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        InitProducerIdRequest, ProduceRequest, TopicName,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::StrBytes,
    records::{
        Compression, NO_PARTITION_LEADER_EPOCH, Record as WireRecord, RecordBatchEncoder,
        RecordEncodeOptions, TimestampType,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    Client, REQUEST_TIMEOUT, connection::Connection, error::ClientError, pause, pool::Acked,
};

const PRODUCE_VERSION: i16 = 9;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// Batches under way: as many as a broker remembers of each producer.
const WINDOW: usize = 5;
/// What the broker may take before it answers that it does not know.
const BROKER_TIMEOUT_MS: i32 = 4_000;

/// Producer id of a producer that asked for none.
const NO_PRODUCER: i64 = -1;
/// Its sequence number.
const NO_SEQUENCE: i32 = -1;

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Key.
    pub key: Bytes,
    /// Value.
    pub value: Bytes,
    /// Timestamp in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

impl Client {
    /// Sends one record once, without a producer id: an error means that nobody knows whether it was appended.
    /// Returns its offset.
    pub async fn produce_once(
        &self,
        topic: &str,
        partition: i32,
        record: &Record,
        within: Duration,
    ) -> Result<i64, ClientError> {
        let mut producer = self.plain_producer(topic, partition).await?;
        producer.produce(record, within).await
    }

    /// A connection to the partition's present leader, for one record after the other.
    pub async fn plain_producer(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<PlainProducer, ClientError> {
        Ok(PlainProducer {
            leader: self.connect_leader(topic, partition).await?,
            topic: topic.to_owned(),
            partition,
        })
    }
}

/// Sends each record once, without a producer id.
pub struct PlainProducer {
    leader: Connection,
    topic: String,
    partition: i32,
}

impl PlainProducer {
    /// Sends a record and waits for its acknowledgement. After an error, which means that nobody knows whether it was
    /// appended, the connection is of no use any more. Returns the offset.
    pub async fn produce(&mut self, record: &Record, within: Duration) -> Result<i64, ClientError> {
        let batch = encode_batch(record, NO_PRODUCER, NO_SEQUENCE)?;
        let request = produce_request(&self.topic, self.partition, &batch);
        let leader = &mut self.leader;
        let address = leader.address().to_owned();
        let exchange = async {
            leader.send(&request, PRODUCE_VERSION).await?;
            receive(leader).await
        };
        timeout(within, exchange)
            .await
            .map_err(|_| ClientError::TimedOut {
                address,
                what: "produce",
                after: within,
            })?
    }
}

/// A record without an acknowledgement.
struct Pending {
    key: Bytes,
    batch: Bytes,
    deadline: Instant,
}

/// One producer.
pub(super) struct Producer {
    client: Arc<Client>,
    topic: String,
    partition: i32,
    delivery_timeout: Duration,
    id: i64,
    next_sequence: i32,
    window: VecDeque<Pending>,
    /// How many of the window were sent on the present connection.
    sent: usize,
    connection: Option<Connection>,
    failures: u32,
}

impl Producer {
    /// Gets a producer id.
    pub(super) async fn start(
        client: Arc<Client>,
        topic: &str,
        partition: i32,
        delivery_timeout: Duration,
    ) -> Result<Self, ClientError> {
        let deadline = Instant::now() + delivery_timeout;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX);
        let producer_id = client
            .retry(deadline, async || {
                let mut leader = client.connect_leader(topic, partition).await?;
                let wait = Duration::from_secs(30);
                let response = leader
                    .call("init producer id", &request, INIT_PRODUCER_ID_VERSION, wait)
                    .await?;
                ClientError::check("init producer id", response.error_code)?;
                Ok(response.producer_id.0)
            })
            .await?;
        Ok(Self {
            client,
            topic: topic.to_owned(),
            partition,
            delivery_timeout,
            id: producer_id,
            next_sequence: 0,
            window: VecDeque::with_capacity(WINDOW),
            sent: 0,
            connection: None,
            failures: 0,
        })
    }

    /// Writes everything that comes, until the source ends and everything is acknowledged.
    pub(super) async fn run(
        mut self,
        mut source: mpsc::Receiver<Record>,
        acks: mpsc::Sender<Acked>,
    ) -> Result<(), ClientError> {
        let mut open = true;
        while open || !self.window.is_empty() {
            if self.window.is_empty() {
                match source.recv().await {
                    Some(record) => self.enqueue(&record)?,
                    None => open = false,
                }
                continue;
            }
            while open && self.window.len() < WINDOW {
                match source.try_recv() {
                    Ok(record) => self.enqueue(&record)?,
                    Err(_) => break,
                }
            }
            if let Err(error) = self.send_window().await {
                self.recover(error).await?;
                continue;
            }
            let Some(connection) = self.connection.as_mut() else {
                continue;
            };
            let room = open && self.window.len() < WINDOW;
            let step = tokio::select! {
                answer = timeout(REQUEST_TIMEOUT, receive(connection)) => Step::Answer(answer),
                record = source.recv(), if room => Step::Record(record),
            };
            match step {
                Step::Record(Some(record)) => self.enqueue(&record)?,
                Step::Record(None) => open = false,
                Step::Answer(Ok(Ok(offset))) => self.acknowledge(offset, &acks).await?,
                Step::Answer(Ok(Err(error))) => self.recover(error).await?,
                Step::Answer(Err(_)) => {
                    let address = connection.address().to_owned();
                    self.recover(ClientError::TimedOut {
                        address,
                        what: "produce",
                        after: REQUEST_TIMEOUT,
                    })
                    .await?;
                }
            }
        }
        Ok(())
    }

    fn enqueue(&mut self, record: &Record) -> Result<(), ClientError> {
        let batch = encode_batch(record, self.id, self.next_sequence)?;
        self.next_sequence = self.next_sequence.checked_add(1).unwrap_or(0);
        self.window.push_back(Pending {
            key: record.key.clone(),
            batch,
            deadline: Instant::now() + self.delivery_timeout,
        });
        Ok(())
    }

    /// Sends what was not sent on this connection yet; connects first if there is none.
    async fn send_window(&mut self) -> Result<(), ClientError> {
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            self.sent = 0;
            let leader = self.client.connect_leader(&self.topic, self.partition);
            leader.await?
        };
        for pending in self.window.iter().skip(self.sent) {
            let request = produce_request(&self.topic, self.partition, &pending.batch);
            let written =
                timeout(REQUEST_TIMEOUT, connection.send(&request, PRODUCE_VERSION)).await;
            written.map_err(|_| ClientError::TimedOut {
                address: connection.address().to_owned(),
                what: "produce",
                after: REQUEST_TIMEOUT,
            })??;
            self.sent += 1;
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn acknowledge(
        &mut self,
        offset: i64,
        acks: &mpsc::Sender<Acked>,
    ) -> Result<(), ClientError> {
        self.failures = 0;
        self.sent = self.sent.saturating_sub(1);
        let Some(pending) = self.window.pop_front() else {
            return Ok(());
        };
        let acked = Acked {
            partition: self.partition,
            offset,
            key: pending.key,
        };
        acks.send(acked).await.map_err(|_| ClientError::Stopped)
    }

    /// Drops the connection and pauses, unless the failure is final or the oldest record is out of time.
    async fn recover(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.connection = None;
        self.sent = 0;
        self.failures += 1;
        if !error.is_retriable() {
            return Err(error);
        }
        let late = |pending: &Pending| pending.deadline <= Instant::now();
        if self.window.front().is_some_and(late) {
            return Err(ClientError::Undelivered {
                topic: self.topic.clone(),
                partition: self.partition,
                after: self.delivery_timeout,
                last: Box::new(error),
            });
        }
        tokio::time::sleep(pause(self.failures)).await;
        Ok(())
    }
}

enum Step {
    Record(Option<Record>),
    Answer(Result<Result<i64, ClientError>, tokio::time::error::Elapsed>),
}

/// The offset that the oldest batch under way was given.
async fn receive(connection: &mut Connection) -> Result<i64, ClientError> {
    let response = connection
        .receive::<ProduceRequest>(PRODUCE_VERSION)
        .await?;
    let answer = response
        .responses
        .first()
        .and_then(|topic| topic.partition_responses.first())
        .cloned()
        .unwrap_or_default();
    ClientError::check("produce", answer.error_code)?;
    Ok(answer.base_offset)
}

fn produce_request(topic: &str, partition: i32, batch: &Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch.clone()));
    ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(-1)
        .with_timeout_ms(BROKER_TIMEOUT_MS)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                .with_partition_data(vec![data]),
        ])
}

fn encode_batch(record: &Record, producer_id: i64, sequence: i32) -> Result<Bytes, ClientError> {
    let wire = WireRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id,
        producer_epoch: 0,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence,
        timestamp: record.timestamp_ms,
        key: Some(record.key.clone()),
        value: Some(record.value.clone()),
        headers: kafka_protocol::indexmap::IndexMap::default(),
    };
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, [&wire], &options)
        .map_err(|error| ClientError::Encode(error.into()))?;
    Ok(batch.freeze())
}
