//! `refbroker create-topic`.

use std::io::{Write as _, stdout};

use clap::Args;

use super::{CliError, Cluster};

/// Creates a topic and waits until every partition has a leader.
#[derive(Debug, Clone, Args)]
pub struct CreateTopic {
    #[command(flatten)]
    cluster: Cluster,
    /// Name of the topic.
    topic: String,
    /// Number of partitions.
    #[arg(long, short, default_value = "1")]
    partitions: u32,
    /// Replicas of each partition.
    #[arg(long, short, default_value = "3")]
    replication: u16,
}

impl CreateTopic {
    /// Runs the command.
    pub async fn run(self) -> Result<(), CliError> {
        let client = self.cluster.client();
        let created = client.create_topic(
            &self.topic,
            self.partitions,
            self.replication,
            self.cluster.timeout(),
        );
        let topic = created.await?;
        writeln!(
            stdout(),
            "created {} ({}) with {} partitions",
            self.topic,
            topic.topic_id,
            topic.partitions.len()
        )?;
        Ok(())
    }
}
