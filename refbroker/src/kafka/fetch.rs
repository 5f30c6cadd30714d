//! Fetch: a long poll over several partitions. No sessions: every request names everything it wants.

use std::time::Duration;

use bytes::Bytes;
use futures::future::select_all;
use kafka_protocol::{
    ResponseError,
    messages::{
        FetchRequest, FetchResponse,
        fetch_request::FetchPartition,
        fetch_response::{FetchableTopicResponse, PartitionData},
    },
};
use tokio::time::Instant;

use super::{
    MAX_FETCH_BYTES, MAX_FETCH_WAIT,
    dispatch::Request,
    error::{ConnectionError, NONE, code},
};
use crate::api::{ApiError, Fetched, Node};

/// Offset that stands for "not known".
const UNKNOWN_OFFSET: i64 = -1;

/// What one pass over the partitions found.
struct Pass {
    responses: Vec<FetchableTopicResponse>,
    bytes: usize,
    failed: bool,
}

pub(super) async fn answer(node: &dyn Node, request: &Request) -> Result<Bytes, ConnectionError> {
    let fetch: FetchRequest = request.decode()?;
    if fetch.session_id != 0 {
        let gone = ResponseError::FetchSessionIdNotFound.code();
        return request.encode(&FetchResponse::default().with_error_code(gone));
    }
    let wait = Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait.min(MAX_FETCH_WAIT);
    let min_bytes = usize::try_from(fetch.min_bytes).unwrap_or(0);
    loop {
        let pass = read_all(node, &fetch).await;
        let left = deadline.saturating_duration_since(Instant::now());
        if pass.failed || pass.bytes >= min_bytes || left.is_zero() {
            return request.encode(&FetchResponse::default().with_responses(pass.responses));
        }
        wait_for_news(node, &pass.responses, left).await;
    }
}

/// Reads every partition in the order asked for, until the bytes are used up. The first batch that is found is
/// returned whole even if it is larger than the limits, so that a consumer never sticks.
async fn read_all(node: &dyn Node, fetch: &FetchRequest) -> Pass {
    let max_bytes = usize::try_from(fetch.max_bytes)
        .unwrap_or(0)
        .min(MAX_FETCH_BYTES);
    let mut pass = Pass {
        responses: Vec::with_capacity(fetch.topics.len()),
        bytes: 0,
        failed: false,
    };
    for topic in &fetch.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let budget = max_bytes.saturating_sub(pass.bytes);
            let outcome = read(node, topic.topic.as_str(), asked, budget, pass.bytes == 0).await;
            pass.failed |= outcome.is_err();
            pass.bytes += outcome.as_ref().map_or(0, |found| found.batches.len());
            partitions.push(to_response(asked.partition, outcome));
        }
        pass.responses.push(
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_partitions(partitions),
        );
    }
    pass
}

async fn read(
    node: &dyn Node,
    topic: &str,
    asked: &FetchPartition,
    budget: usize,
    first: bool,
) -> Result<Fetched, ApiError> {
    if budget == 0 && !first {
        let offsets = node.offsets(topic, asked.partition)?;
        return Ok(Fetched {
            batches: Bytes::new(),
            high_watermark: offsets.high_watermark,
            log_start_offset: offsets.log_start_offset,
        });
    }
    let max_bytes = usize::try_from(asked.partition_max_bytes)
        .unwrap_or(0)
        .min(budget);
    node.read(topic, asked.partition, asked.fetch_offset, max_bytes)
        .await
}

fn to_response(partition: i32, outcome: Result<Fetched, ApiError>) -> PartitionData {
    let response = PartitionData::default().with_partition_index(partition);
    match outcome {
        Ok(fetched) => response
            .with_high_watermark(fetched.high_watermark)
            .with_last_stable_offset(fetched.high_watermark)
            .with_log_start_offset(fetched.log_start_offset)
            .with_records(Some(fetched.batches)),
        Err(error) => response
            .with_error_code(code(&error))
            .with_high_watermark(UNKNOWN_OFFSET),
    }
}

/// Waits until one of the partitions has grown beyond what the pass saw, or the time is up.
async fn wait_for_news(node: &dyn Node, seen: &[FetchableTopicResponse], left: Duration) {
    let waits: Vec<_> = seen
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |data| (topic, data)))
        .filter(|(_, data)| data.error_code == NONE)
        .map(|(topic, data)| {
            node.wait_beyond(
                topic.topic.as_str(),
                data.partition_index,
                data.high_watermark,
                left,
            )
        })
        .collect();
    if waits.is_empty() {
        tokio::time::sleep(left).await;
        return;
    }
    select_all(waits).await;
}
