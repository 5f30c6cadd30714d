//! Produce: every partition's batch is checked, then all are appended at once; acks=1 is treated as acks=all.

use bytes::Bytes;
use futures::future::join_all;
use kafka_protocol::{
    ResponseError,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
};

use super::{
    batch,
    dispatch::{Request, timeout},
    error::{ConnectionError, code},
};
use crate::api::{Appended, Node};

/// Offset in an answer that carries an error.
const NO_OFFSET: i64 = -1;

pub(super) async fn answer(
    node: &dyn Node,
    request: &Request,
) -> Result<Option<Bytes>, ConnectionError> {
    let produce: ProduceRequest = request.decode()?;
    let refused = if produce.transactional_id.is_some() {
        Some(ResponseError::TransactionalIdAuthorizationFailed)
    } else if !(-1..=1).contains(&produce.acks) {
        Some(ResponseError::InvalidRequiredAcks)
    } else {
        None
    };
    let topics = produce
        .topic_data
        .iter()
        .map(|topic| answer_topic(node, topic, produce.timeout_ms, refused));
    let responses = join_all(topics).await;
    if produce.acks == 0 {
        return Ok(None);
    }
    request
        .encode(&ProduceResponse::default().with_responses(responses))
        .map(Some)
}

async fn answer_topic(
    node: &dyn Node,
    topic: &TopicProduceData,
    timeout_ms: i32,
    refused: Option<ResponseError>,
) -> TopicProduceResponse {
    let partitions = topic.partition_data.iter().map(async |data| {
        let outcome = match refused {
            Some(error) => Err(error.code()),
            None => append(node, topic.name.as_str(), data, timeout_ms).await,
        };
        let response = PartitionProduceResponse::default().with_index(data.index);
        match outcome {
            Ok(appended) => response
                .with_base_offset(appended.base_offset)
                .with_log_start_offset(appended.log_start_offset),
            Err(code) => response
                .with_error_code(code)
                .with_base_offset(NO_OFFSET)
                .with_log_start_offset(NO_OFFSET),
        }
    });
    TopicProduceResponse::default()
        .with_name(topic.name.clone())
        .with_partition_responses(join_all(partitions).await)
}

/// Appends one batch. Nothing is awaited before the node's `append`, which keeps the order of requests.
async fn append(
    node: &dyn Node,
    topic: &str,
    data: &PartitionProduceData,
    timeout_ms: i32,
) -> Result<Appended, i16> {
    let records = data.records.clone().unwrap_or_default();
    batch::check(&records).map_err(|error| error.code())?;
    node.append(topic, data.index, records, timeout(timeout_ms))
        .await
        .map_err(|error| code(&error))
}
