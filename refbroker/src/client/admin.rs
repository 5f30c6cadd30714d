//! Creating and deleting topics.

use std::time::Duration;

use kafka_protocol::{
    ResponseError,
    messages::{
        CreateTopicsRequest, DeleteTopicsRequest, TopicName, create_topics_request::CreatableTopic,
    },
    protocol::StrBytes,
};
use tokio::time::Instant;

use super::{Client, connection::Connection, error::ClientError, view::Topic};

const CREATE_VERSION: i16 = 5;
const DELETE_VERSION: i16 = 5;

impl Client {
    /// Creates a topic and waits until every partition has a leader. A topic that exists already is an error,
    /// unless an earlier attempt of this call may have created it.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        replication_factor: u16,
        timeout: Duration,
    ) -> Result<Topic, ClientError> {
        let deadline = Instant::now() + timeout;
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.to_owned())))
            .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
            .with_replication_factor(i16::try_from(replication_factor).unwrap_or(i16::MAX));
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(millis(timeout));
        let tried = std::sync::atomic::AtomicBool::new(false);
        self.retry(deadline, async || {
            let mut connection = self.connect_any().await?;
            let again = tried.swap(true, std::sync::atomic::Ordering::Relaxed);
            let response = connection
                .call("create topic", &request, CREATE_VERSION, timeout)
                .await?;
            let code = response.topics.first().map_or(0, |topic| topic.error_code);
            if again && code == ResponseError::TopicAlreadyExists.code() {
                return Ok(());
            }
            ClientError::check("create topic", code)
        })
        .await?;
        self.retry(deadline, async || self.led_topic(name).await)
            .await
    }

    /// Deletes a topic. One that is gone already is an error.
    pub async fn delete_topic(&self, name: &str, timeout: Duration) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![TopicName(StrBytes::from_string(name.to_owned()))])
            .with_timeout_ms(millis(timeout));
        let mut connection = self.connect_any().await?;
        let response = connection
            .call("delete topic", &request, DELETE_VERSION, timeout)
            .await?;
        let code = response
            .responses
            .first()
            .map_or(0, |topic| topic.error_code);
        ClientError::check("delete topic", code)
    }

    async fn connect_any(&self) -> Result<Connection, ClientError> {
        let mut last = ClientError::NoBootstrap;
        for address in self.addresses() {
            match Connection::open(&address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn led_topic(&self, name: &str) -> Result<Topic, ClientError> {
        let view = self.refresh().await?;
        view.leader(name, 0)?;
        let topic = view.topics.get(name).cloned().ok_or(ClientError::Refused {
            what: "metadata",
            code: ResponseError::UnknownTopicOrPartition,
        })?;
        for partition in &topic.partitions {
            view.leader(name, partition.number)?;
        }
        Ok(topic)
    }
}

fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
