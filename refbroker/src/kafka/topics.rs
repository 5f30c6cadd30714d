//! `CreateTopics` and `DeleteTopics`.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
        TopicName, create_topics_request::CreatableTopic,
        create_topics_response::CreatableTopicResult, delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use super::{
    dispatch::{Request, timeout},
    error::{ConnectionError, code},
};
use crate::api::{ApiError, NewTopic, Node};

/// Most partitions of one topic.
const MAX_PARTITIONS: u32 = 1000;
/// Longest topic name in bytes.
const MAX_NAME_BYTES: usize = 249;
/// Replicas of a topic whose creator leaves the choice to the broker, if there are as many brokers.
const DEFAULT_REPLICATION: usize = 3;
/// The metadata group's own name.
const RESERVED: &str = "__meta";

const CREATE_REPORTS_COUNTS: i16 = 5;
const CREATE_REPORTS_ID: i16 = 7;
const DELETE_REPORTS_MESSAGE: i16 = 5;
const DELETE_REPORTS_ID: i16 = 6;

/// Why a topic was not created or deleted: Kafka's code, and words for people.
struct Refusal(i16, String);

impl From<ResponseError> for Refusal {
    fn from(error: ResponseError) -> Self {
        Self(error.code(), error.to_string())
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(code(&error), error.to_string())
    }
}

pub(super) async fn create(node: &dyn Node, request: &Request) -> Result<Bytes, ConnectionError> {
    let asked: CreateTopicsRequest = request.decode()?;
    let mut seen = BTreeSet::new();
    let mut results = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let wait = timeout(asked.timeout_ms);
        let outcome = match check(node, topic) {
            Ok(_) if !seen.insert(topic.name.clone()) => Err(ResponseError::InvalidRequest.into()),
            Ok(new) if asked.validate_only => Ok((new, Uuid::nil())),
            Ok(new) => {
                let created = node.create_topic(new.clone(), wait).await;
                created
                    .map(|view| (new, view.topic_id))
                    .map_err(Refusal::from)
            }
            Err(refusal) => Err(refusal),
        };
        results.push(create_result(request.version, &topic.name, outcome));
    }
    request.encode(&CreateTopicsResponse::default().with_topics(results))
}

fn check(node: &dyn Node, topic: &CreatableTopic) -> Result<NewTopic, Refusal> {
    let name = topic.name.as_str();
    if !is_legal(name) {
        return Err(ResponseError::InvalidTopicException.into());
    }
    if !topic.assignments.is_empty() {
        return Err(ResponseError::InvalidReplicaAssignment.into());
    }
    if !topic.configs.is_empty() {
        return Err(ResponseError::InvalidConfig.into());
    }
    if node.topics().iter().any(|known| known.name == name) {
        return Err(ApiError::TopicExists.into());
    }
    let partitions = match topic.num_partitions {
        -1 => 1,
        count => u32::try_from(count).unwrap_or(0),
    };
    if !(1..=MAX_PARTITIONS).contains(&partitions) {
        return Err(ResponseError::InvalidPartitions.into());
    }
    let brokers = node.cluster().brokers.len();
    let replication_factor = match topic.replication_factor {
        -1 => u16::try_from(brokers.clamp(1, DEFAULT_REPLICATION)).unwrap_or(1),
        factor => u16::try_from(factor).unwrap_or(0),
    };
    if replication_factor == 0 || usize::from(replication_factor) > brokers {
        return Err(ApiError::InvalidReplicationFactor(brokers).into());
    }
    Ok(NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor,
    })
}

fn is_legal(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(legal)
        && !matches!(name, "." | ".." | RESERVED)
}

fn create_result(
    version: i16,
    name: &TopicName,
    outcome: Result<(NewTopic, Uuid), Refusal>,
) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(name.clone());
    match outcome {
        Ok((new, topic_id)) => {
            let result = if version >= CREATE_REPORTS_ID {
                result.with_topic_id(topic_id)
            } else {
                result
            };
            if version < CREATE_REPORTS_COUNTS {
                return result;
            }
            result
                .with_num_partitions(i32::try_from(new.partitions).unwrap_or(i32::MAX))
                .with_replication_factor(i16::try_from(new.replication_factor).unwrap_or(i16::MAX))
        }
        Err(Refusal(code, message)) => result
            .with_error_code(code)
            .with_error_message(Some(StrBytes::from_string(message))),
    }
}

pub(super) async fn delete(node: &dyn Node, request: &Request) -> Result<Bytes, ConnectionError> {
    let asked: DeleteTopicsRequest = request.decode()?;
    let by_name = asked
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState::default().with_name(Some(name)));
    let wait = timeout(asked.timeout_ms);
    let mut results = Vec::new();
    for wanted in asked.topics.into_iter().chain(by_name) {
        let name = name_of(node, &wanted);
        let outcome = match &name {
            Some(name) => node
                .delete_topic(name.as_str(), wait)
                .await
                .map_err(Refusal::from),
            None => Err(ResponseError::UnknownTopicId.into()),
        };
        let mut result = DeletableTopicResult::default().with_name(name);
        if request.version >= DELETE_REPORTS_ID {
            result = result.with_topic_id(wanted.topic_id);
        }
        if let Err(Refusal(code, message)) = outcome {
            result = result.with_error_code(code);
            if request.version >= DELETE_REPORTS_MESSAGE {
                result = result.with_error_message(Some(StrBytes::from_string(message)));
            }
        }
        results.push(result);
    }
    request.encode(&DeleteTopicsResponse::default().with_responses(results))
}

fn name_of(node: &dyn Node, wanted: &DeleteTopicState) -> Option<TopicName> {
    wanted.name.clone().or_else(|| {
        let topics = node.topics();
        let found = topics
            .iter()
            .find(|topic| topic.topic_id == wanted.topic_id)?;
        Some(TopicName(StrBytes::from_string(found.name.clone())))
    })
}
