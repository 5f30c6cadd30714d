//! Versions, administration, garbage, the end.

use super::*;

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
    // Two thousand million topics: without a look at the frame, memory is reserved for them.
    let absurd_metadata = [
        0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff,
    ];
    let cases: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 4],
        &no_such_api,
        &old_produce,
        &short,
        &cut_body,
        &absurd_metadata,
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
