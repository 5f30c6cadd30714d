//! `ListOffsets`: the earliest offset, the latest, or the first at or after a time.

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
};

use super::{
    dispatch::Request,
    error::{ConnectionError, code},
};
use crate::api::Node;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// Stands for "no such record" and "no timestamp".
const NONE: i64 = -1;

pub(super) async fn answer(node: &dyn Node, request: &Request) -> Result<Bytes, ConnectionError> {
    let asked: ListOffsetsRequest = request.decode()?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let number = wanted.partition_index;
            let response = ListOffsetsPartitionResponse::default().with_partition_index(number);
            let found = find(node, topic.name.as_str(), number, wanted.timestamp).await;
            partitions.push(match found {
                Ok((offset, timestamp)) => response.with_offset(offset).with_timestamp(timestamp),
                Err(code) => response.with_error_code(code),
            });
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    request.encode(&ListOffsetsResponse::default().with_topics(topics))
}

/// The offset, and the timestamp of its record if it was looked up by time.
async fn find(
    node: &dyn Node,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<(i64, i64), i16> {
    let offsets = node
        .offsets(topic, partition)
        .map_err(|error| code(&error))?;
    match timestamp {
        LATEST => Ok((offsets.high_watermark, NONE)),
        EARLIEST => Ok((offsets.log_start_offset, NONE)),
        0.. => node
            .offset_for_time(topic, partition, timestamp)
            .await
            .map(|found| found.unwrap_or((NONE, NONE)))
            .map_err(|error| code(&error)),
        _ => Err(ResponseError::UnsupportedVersion.code()),
    }
}
