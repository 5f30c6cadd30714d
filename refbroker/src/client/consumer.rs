//! Consuming a partition from an offset to where it ends now.

use std::{ops::Range as OffsetRange, time::Duration};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        FetchRequest, FetchResponse, ListOffsetsRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
    protocol::StrBytes,
    records::RecordBatchDecoder,
};
use tokio::time::Instant;

use super::{Client, connection::Connection, error::ClientError};

const FETCH_VERSION: i16 = 11;
const LIST_OFFSETS_VERSION: i16 = 5;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const FETCH_BYTES: i32 = 4 << 20;
const FETCH_WAIT_MS: i32 = 500;

/// Offsets, the end exclusive.
pub type Range = OffsetRange<i64>;

/// A record as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Timestamp in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Value.
    pub value: Option<Bytes>,
}

impl Client {
    /// The offsets that a partition holds now: from the earliest to the high watermark.
    pub async fn offsets(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<Range, ClientError> {
        self.retry(Instant::now() + timeout, async || {
            let mut leader = self.connect_leader(topic, partition).await?;
            let start = list_offset(&mut leader, topic, partition, EARLIEST).await?;
            let end = list_offset(&mut leader, topic, partition, LATEST).await?;
            Ok(start..end)
        })
        .await
    }

    /// Hands every record from `from` to the high watermark as it is at the start to `each`, in order, each offset
    /// at most once. Returns the offset after the last one. Survives a change of leader.
    pub async fn consume(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        timeout: Duration,
        mut each: impl FnMut(Consumed),
    ) -> Result<i64, ClientError> {
        let deadline = Instant::now() + timeout;
        let end = self.offsets(topic, partition, timeout).await?.end;
        let mut next = from;
        let mut leader = None;
        let mut failures = 0;
        while next < end {
            let fetched = self.fetch(&mut leader, topic, partition, next).await;
            let error = match fetched {
                Ok(records) => {
                    failures = 0;
                    for record in records {
                        next = record.offset + 1;
                        each(record);
                    }
                    if Instant::now() < deadline {
                        continue;
                    }
                    ClientError::NoLeader {
                        topic: topic.to_owned(),
                        partition,
                    }
                }
                Err(error) => error,
            };
            leader = None;
            failures += 1;
            if !error.is_retriable() || Instant::now() >= deadline {
                return Err(ClientError::GaveUp {
                    attempts: failures,
                    last: Box::new(error),
                });
            }
            tokio::time::sleep(super::pause(failures)).await;
        }
        Ok(next)
    }

    async fn fetch(
        &self,
        leader: &mut Option<Connection>,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Vec<Consumed>, ClientError> {
        let mut connection = match leader.take() {
            Some(connection) => connection,
            None => self.connect_leader(topic, partition).await?,
        };
        let wanted = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(FETCH_BYTES);
        let request = FetchRequest::default()
            .with_max_wait_ms(FETCH_WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(FETCH_BYTES)
            .with_topics(vec![
                FetchTopic::default()
                    .with_topic(topic_name(topic))
                    .with_partitions(vec![wanted]),
            ]);
        let wait = Duration::from_millis(u64::from(FETCH_WAIT_MS.unsigned_abs()));
        let response = connection
            .call("fetch", &request, FETCH_VERSION, wait)
            .await?;
        let records = records_of(&connection, response, partition, offset)?;
        *leader = Some(connection);
        Ok(records)
    }
}

fn records_of(
    connection: &Connection,
    response: FetchResponse,
    partition: i32,
    from: i64,
) -> Result<Vec<Consumed>, ClientError> {
    ClientError::check("fetch", response.error_code)?;
    let mut consumed = Vec::new();
    let partitions = response
        .responses
        .into_iter()
        .flat_map(|topic| topic.partitions);
    for data in partitions.filter(|data| data.partition_index == partition) {
        ClientError::check("fetch", data.error_code)?;
        let mut batches = data.records.unwrap_or_default();
        let sets = RecordBatchDecoder::decode_all(&mut batches).map_err(|error| {
            ClientError::Malformed {
                address: connection.address().to_owned(),
                source: error.into(),
            }
        })?;
        let records = sets.into_iter().flat_map(|set| set.records);
        // A batch is returned whole, also when the offset lies in its middle.
        consumed.extend(
            records
                .filter(|record| record.offset >= from && !record.control)
                .map(|record| Consumed {
                    partition,
                    offset: record.offset,
                    timestamp_ms: record.timestamp,
                    key: record.key,
                    value: record.value,
                }),
        );
    }
    Ok(consumed)
}

async fn list_offset(
    leader: &mut Connection,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<i64, ClientError> {
    let wanted = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_timestamp(timestamp);
    let request = ListOffsetsRequest::default().with_topics(vec![
        ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![wanted]),
    ]);
    let response = leader
        .call(
            "list offsets",
            &request,
            LIST_OFFSETS_VERSION,
            Duration::ZERO,
        )
        .await?;
    let answer = response
        .topics
        .first()
        .and_then(|topic| topic.partitions.first())
        .cloned()
        .unwrap_or_default();
    ClientError::check("list offsets", answer.error_code)?;
    Ok(answer.offset)
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
