//! The front from outside: real sockets, real requests, a node in memory.

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

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let front = Front::start().await;
    let mut stream = front.raw().await;
    let request = [0, 18, 0, 4, 0, 0, 0, 42, 0xff, 0xff, 0];
    stream.write_all(&11_u32.to_be_bytes()).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let length = stream.read_u32().await.unwrap();
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.unwrap();
    let mut answer = Bytes::from(answer);
    let header = ResponseHeader::decode(&mut answer, 0).unwrap();
    let body = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(header.correlation_id, 42);
    assert_eq!(body.error_code, ResponseError::UnsupportedVersion.code());
    assert!(
        body.api_keys
            .iter()
            .any(|api| api.api_key == 18 && api.max_version == 3)
    );
}

#[tokio::test]
async fn every_announced_version_of_reading_and_writing_is_answered() {
    let front = Front::start().await;
    let mut connection = front.connect().await;
    let wait = Duration::ZERO;
    for version in 0..=12 {
        let wanted = MetadataRequestTopic::default().with_name(Some(name(TOPIC)));
        let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
        let answer = connection
            .call("metadata", &request, version, wait)
            .await
            .unwrap();
        assert_eq!(
            answer.topics[0].partitions[0].leader_id,
            BrokerId(BROKER),
            "{version}"
        );
    }
    for version in 3..=9 {
        let request = produce(&[(0, batch_of(&["a"], -1, -1))], -1);
        let answer = connection
            .call("produce", &request, version, wait)
            .await
            .unwrap();
        assert_eq!(
            answer.responses[0].partition_responses[0].error_code, 0,
            "{version}"
        );
    }
    for version in 4..=12 {
        let request = fetch(&[(0, 0)], 1 << 20, 0);
        let answer = connection
            .call("fetch", &request, version, wait)
            .await
            .unwrap();
        assert_eq!(values(&answer, 0).len(), 7, "{version}");
    }
    for version in 1..=6 {
        let wanted = ListOffsetsPartition::default().with_timestamp(-1);
        let request = ListOffsetsRequest::default().with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(name(TOPIC))
                .with_partitions(vec![wanted]),
        ]);
        let answer = connection
            .call("offsets", &request, version, wait)
            .await
            .unwrap();
        assert_eq!(answer.topics[0].partitions[0].offset, 7, "{version}");
    }
}

#[tokio::test]
async fn every_announced_version_of_administration_is_answered() {
    let front = Front::start().await;
    let mut connection = front.connect().await;
    let wait = Duration::ZERO;
    for version in 2..=7 {
        let topic = CreatableTopic::default()
            .with_name(name(&format!("t{version}")))
            .with_num_partitions(2)
            .with_replication_factor(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let answer = connection
            .call("create", &request, version, wait)
            .await
            .unwrap();
        assert_eq!(answer.topics[0].error_code, 0, "{version}");
    }
    for version in 1..=6 {
        let topic = name(&format!("t{}", version + 1));
        let request = if version == 6 {
            let topic = DeleteTopicState::default().with_name(Some(topic));
            DeleteTopicsRequest::default().with_topics(vec![topic])
        } else {
            DeleteTopicsRequest::default().with_topic_names(vec![topic])
        };
        let answer = connection
            .call("delete", &request, version, wait)
            .await
            .unwrap();
        assert_eq!(answer.responses[0].error_code, 0, "{version}");
    }
    for version in 0..=4 {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let answer = connection
            .call("pid", &request, version, wait)
            .await
            .unwrap();
        assert!(
            answer.error_code == 0 && answer.producer_id.0 > 0,
            "{version}"
        );
        let request = if version == 4 {
            FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".to_owned().into()])
        } else {
            FindCoordinatorRequest::default().with_key("g".to_owned().into())
        };
        let answer = connection
            .call("coordinator", &request, version, wait)
            .await
            .unwrap();
        let code = match version {
            4 => answer.coordinators[0].error_code,
            _ => answer.error_code,
        };
        assert_eq!(
            code,
            ResponseError::CoordinatorNotAvailable.code(),
            "{version}"
        );
    }
}

#[tokio::test]
async fn produce_requests_are_pipelined_and_answered_in_order() {
    let front = Front::start().await;
    front.node.set_commits(false);
    let mut connection = front.connect().await;
    for number in 0..50 {
        let value = number.to_string();
        let request = produce(&[(0, batch_of(&[&value], -1, -1))], -1);
        connection.send(&request, 9).await.unwrap();
    }
    let mut appends = front.node.appends();
    let all_started = appends.wait_for(|count| *count == 50);
    timeout(SOON, all_started).await.unwrap().unwrap();
    front.node.set_commits(true);
    for number in 0..50 {
        let answer = connection.receive::<ProduceRequest>(9).await.unwrap();
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, number));
    }
    let read = ask(&front, &fetch(&[(0, 0)], 1 << 20, 0), 12).await;
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(values(&read, 0), expected);
}

#[tokio::test]
async fn in_flight_requests_are_bounded() {
    let front = Front::start().await;
    front.node.set_commits(false);
    let mut connection = front.connect().await;
    for _ in 0..super::MAX_IN_FLIGHT_REQUESTS + 10 {
        let request = produce(&[(0, batch_of(&["v"], -1, -1))], -1);
        connection.send(&request, 9).await.unwrap();
    }
    let mut appends = front.node.appends();
    let limit = super::MAX_IN_FLIGHT_REQUESTS as u64;
    timeout(SOON, appends.wait_for(|count| *count == limit))
        .await
        .unwrap()
        .unwrap();
    // What is above the limit stays in the socket.
    let more = timeout(
        Duration::from_millis(100),
        appends.wait_for(|count| *count > limit),
    )
    .await;
    assert!(more.is_err());
}

#[tokio::test]
async fn acks_0_is_appended_without_an_answer() {
    let front = Front::start().await;
    let mut connection = front.connect().await;
    let silent = produce(&[(0, batch_of(&["silent"], -1, -1))], 0);
    connection.send_unanswered(&silent, 9).await.unwrap();
    let request = fetch(&[(0, 0)], 1 << 20, 2000);
    let answer = connection.call("fetch", &request, 12, SOON);
    assert_eq!(values(&answer.await.unwrap(), 0), ["silent"]);
}

#[tokio::test]
async fn bad_batches_and_bad_requests_are_refused_one_by_one() {
    let front = Front::start().await;
    let mut corrupt = batch_of(&["x"], -1, -1);
    corrupt[65] ^= 1;
    let request = produce(
        &[
            (0, corrupt),
            (1, batch_of(&["good"], -1, -1)),
            (9, batch_of(&["lost"], -1, -1)),
        ],
        1,
    );
    let answer = ask(&front, &request, 9).await;
    let partitions = &answer.responses[0].partition_responses;
    let codes: Vec<_> = partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    let expected = [
        ResponseError::CorruptMessage.code(),
        0,
        ResponseError::UnknownTopicOrPartition.code(),
    ];
    assert_eq!(codes, expected);

    let odd = ask(&front, &produce(&[(0, batch_of(&["x"], -1, -1))], 2), 9).await;
    let code = odd.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ResponseError::InvalidRequiredAcks.code());

    let id = TransactionalId(StrBytes::from_static_str("t"));
    let transaction = InitProducerIdRequest::default().with_transactional_id(Some(id));
    assert_ne!(ask(&front, &transaction, 4).await.error_code, 0);
}

#[tokio::test]
async fn a_fetch_waits_for_data_and_returns_when_it_comes() {
    let front = Front::start().await;
    let mut waiting = front.connect().await;
    waiting
        .send(&fetch(&[(0, 0), (1, 0)], 1 << 20, 20_000), 12)
        .await
        .unwrap();
    let early = timeout(
        Duration::from_millis(100),
        waiting.receive::<FetchRequest>(12),
    )
    .await;
    assert!(early.is_err());
    ask(&front, &produce(&[(1, batch_of(&["news"], -1, -1))], -1), 9).await;
    let answer = timeout(SOON, waiting.receive::<FetchRequest>(12))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(values(&answer, 1), ["news"]);
    assert_eq!(answer.responses[0].partitions[1].high_watermark, 1);
}

#[tokio::test]
async fn a_fetch_is_cut_at_max_bytes_but_never_below_one_batch() {
    let front = Front::start().await;
    let large = "x".repeat(5000);
    for partition in [0, 0, 1] {
        ask(
            &front,
            &produce(&[(partition, batch_of(&[&large], -1, -1))], -1),
            9,
        )
        .await;
    }
    let tiny = ask(&front, &fetch(&[(0, 0), (1, 0)], 10, 0), 12).await;
    assert_eq!(values(&tiny, 0).len(), 1);
    assert_eq!(values(&tiny, 1).len(), 0);
    assert_eq!(tiny.responses[0].partitions[1].high_watermark, 1);
}

#[tokio::test]
async fn refusals_of_the_node_reach_the_client_at_once() {
    let front = Front::start().await;
    front.node.refuse(Some(ApiError::NotLeader));
    let answer = ask(&front, &fetch(&[(0, 0)], 1 << 20, 20_000), 12).await;
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::NotLeaderOrFollower.code());
    front.node.refuse(None);
    let beyond = ask(&front, &fetch(&[(0, 5)], 1 << 20, 20_000), 12).await;
    let code = beyond.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::OffsetOutOfRange.code());
}

#[tokio::test]
async fn illegal_topics_are_refused_with_kafkas_codes() {
    let front = Front::start().await;
    let cases = [
        ("a/b", 1, 1, ResponseError::InvalidTopicException),
        ("__meta", 1, 1, ResponseError::InvalidTopicException),
        (TOPIC, 1, 1, ResponseError::TopicAlreadyExists),
        ("new", 0, 1, ResponseError::InvalidPartitions),
        ("new", 1, 3, ResponseError::InvalidReplicationFactor),
        ("new", 1, 0, ResponseError::InvalidReplicationFactor),
    ];
    for (topic, partitions, replication, expected) in cases {
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replication);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let answer = ask(&front, &request, 7).await;
        assert_eq!(answer.topics[0].error_code, expected.code());
    }
}

#[tokio::test]
async fn garbage_closes_the_connection_and_nothing_else() {
    let front = Front::start().await;
    let no_such_api = [0, 0, 0, 8, 0, 99, 0, 0, 0, 0, 0, 1];
    let old_produce = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1];
    let short = [0, 0, 0, 1, 7];
    let cut_body = [0, 0, 0, 12, 0, 1, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0, 0];
    let cases: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 4],
        &no_such_api,
        &old_produce,
        &short,
        &cut_body,
    ];
    for bytes in cases {
        let mut stream = front.raw().await;
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "{closed:?} {rest:?}");
    }
    ask(&front, &MetadataRequest::default(), 9).await;
}

#[tokio::test]
async fn stopping_closes_every_connection() {
    let front = Front::start().await;
    let mut waiting = front.connect().await;
    waiting
        .send(&fetch(&[(0, 0)], 1 << 20, 20_000), 12)
        .await
        .unwrap();
    front.stop.cancel();
    timeout(SOON, front.task).await.unwrap().unwrap();
    assert!(waiting.receive::<FetchRequest>(12).await.is_err());
}
