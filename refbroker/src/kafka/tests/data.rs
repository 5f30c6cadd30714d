//! Producing and fetching.

use super::*;

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
    for _ in 0..super::super::MAX_IN_FLIGHT_REQUESTS + 10 {
        let request = produce(&[(0, batch_of(&["v"], -1, -1))], -1);
        connection.send(&request, 9).await.unwrap();
    }
    let mut appends = front.node.appends();
    let limit = super::super::MAX_IN_FLIGHT_REQUESTS as u64;
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
