//! The front from outside: real sockets, real requests, a node in memory.

mod data;
mod protocol;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{
        ApiVersionsResponse, BrokerId, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest,
        FetchResponse, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest,
        MetadataRequest, ProduceRequest, ResponseHeader, TopicName, TransactionalId,
        create_topics_request::CreatableTopic,
        delete_topics_request::DeleteTopicState,
        fetch_request::{FetchPartition, FetchTopic},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Decodable, Request, StrBytes},
    records::{
        Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
        TimestampType,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    fake::{BROKER, FakeNode},
    serve,
};
use crate::{api::ApiError, client::test_support::Connection};

const TOPIC: &str = "orders";
const SOON: Duration = Duration::from_secs(5);

/// A batch as a client would send it. Without a producer (-1) it holds one record: the encoder splits others.
pub(super) fn batch_of(values: &[&str], producer_id: i64, sequence: i32) -> Vec<u8> {
    let records: Vec<_> = (0..)
        .zip(values)
        .map(|(position, value)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id,
            producer_epoch: if producer_id < 0 { -1 } else { 0 },
            timestamp_type: TimestampType::Creation,
            offset: position,
            sequence: if sequence < 0 {
                -1
            } else {
                sequence + i32::try_from(position).unwrap()
            },
            timestamp: 1_700_000_000_000 + position,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: kafka_protocol::indexmap::IndexMap::default(),
        })
        .collect();
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(
        &mut batch,
        records.iter().take(1.max(records.len())),
        &options,
    )
    .unwrap();
    batch.to_vec()
}

struct Front {
    address: String,
    node: Arc<FakeNode>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Front {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = Arc::new(FakeNode::new(address.port()).with_topic(TOPIC, 2));
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, node.clone(), stop.clone()));
        Self {
            address: address.to_string(),
            node,
            stop,
            task,
        }
    }

    async fn connect(&self) -> Connection {
        Connection::open(&self.address).await.unwrap()
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }
}

async fn ask<R: Request>(front: &Front, request: &R, version: i16) -> R::Response {
    let mut connection = front.connect().await;
    let answer = connection.call("test", request, version, Duration::ZERO);
    answer.await.unwrap()
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn produce(partitions: &[(i32, Vec<u8>)], acks: i16) -> ProduceRequest {
    let data = partitions
        .iter()
        .map(|(partition, batch)| {
            PartitionProduceData::default()
                .with_index(*partition)
                .with_records(Some(Bytes::from(batch.clone())))
        })
        .collect();
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(1000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(name(TOPIC))
                .with_partition_data(data),
        ])
}

fn fetch(partitions: &[(i32, i64)], max_bytes: i32, wait_ms: i32) -> FetchRequest {
    let partitions = partitions
        .iter()
        .map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(1 << 20)
        })
        .collect();
    FetchRequest::default()
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(name(TOPIC))
                .with_partitions(partitions),
        ])
}

fn values(response: &FetchResponse, partition: usize) -> Vec<String> {
    let data = &response.responses[0].partitions[partition];
    let mut batches = data.records.clone().unwrap();
    let sets = RecordBatchDecoder::decode_all(&mut batches).unwrap();
    let records = sets.into_iter().flat_map(|set| set.records);
    records
        .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap())
        .collect()
}
