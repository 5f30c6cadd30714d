//! `refbroker status`.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write, stdout},
};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::CliError;
use crate::{
    client::{Client, View, snapshot},
    proto::v1::{ReplicaRole, ReplicaStatus},
};

/// Shows every replica of the brokers behind some snapshot endpoints, and what Kafka clients are told.
#[derive(Debug, Clone, Args)]
pub struct Status {
    /// Kafka listeners: HOST:PORT,HOST:PORT. Without them only the replicas are shown.
    #[arg(long, short, value_delimiter = ',')]
    bootstrap: Vec<String>,
    /// Where the brokers serve their sidecars: <http://HOST:PORT,http://HOST:PORT>.
    #[arg(long, short, value_delimiter = ',', required = true)]
    snapshot_endpoint: Vec<String>,
    /// How to print.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

#[derive(Debug, Serialize)]
struct Report {
    brokers: Vec<BrokerReport>,
    /// Endpoints that did not answer, and why.
    silent: BTreeMap<String, String>,
    metadata: Option<View>,
}

#[derive(Debug, Serialize)]
struct BrokerReport {
    broker_id: i32,
    cluster_id: String,
    incarnation: u64,
    boot_id: String,
    version: String,
    replicas: Vec<ReplicaReport>,
}

#[derive(Debug, Serialize)]
struct ReplicaReport {
    topic: String,
    partition: i32,
    topic_id: String,
    peer_id: u64,
    role: &'static str,
    term: u64,
    commit_index: u64,
    applied_index: u64,
    first_log_index: u64,
    last_log_index: u64,
    log_entries: u64,
    log_size_bytes: u64,
    state_size_bytes: u64,
    voters: Vec<u64>,
    voters_outgoing: Vec<u64>,
    learners: Vec<u64>,
    hold_index: u64,
    hold_reason: String,
}

impl From<ReplicaStatus> for ReplicaReport {
    fn from(replica: ReplicaStatus) -> Self {
        let role = match replica.role() {
            ReplicaRole::Leader => "leader",
            ReplicaRole::Follower => "follower",
            ReplicaRole::Learner => "learner",
            ReplicaRole::Unspecified => "unknown",
        };
        let name = replica.partition.unwrap_or_default();
        let configuration = replica.conf_state.unwrap_or_default();
        Self {
            topic: name.topic,
            partition: name.partition,
            topic_id: replica.topic_id,
            peer_id: replica.peer_id,
            role,
            term: replica.term,
            commit_index: replica.commit_index,
            applied_index: replica.applied_index,
            first_log_index: replica.first_log_index,
            last_log_index: replica.last_log_index,
            log_entries: (replica.last_log_index + 1).saturating_sub(replica.first_log_index),
            log_size_bytes: replica.log_size_bytes,
            state_size_bytes: replica.state_size_bytes,
            voters: configuration.voters,
            voters_outgoing: configuration.voters_outgoing,
            learners: configuration.learners,
            hold_index: replica.hold_index,
            hold_reason: replica.hold_reason,
        }
    }
}

impl Status {
    /// Runs the command. Fails if no endpoint answers; names those that do not.
    pub async fn run(self) -> Result<(), CliError> {
        let mut report = Report {
            brokers: Vec::new(),
            silent: BTreeMap::new(),
            metadata: None,
        };
        for endpoint in &self.snapshot_endpoint {
            match ask(endpoint).await {
                Ok(broker) => report.brokers.push(broker),
                Err(error) => {
                    report.silent.insert(endpoint.clone(), error.to_string());
                }
            }
        }
        if !self.bootstrap.is_empty() {
            match Client::new(self.bootstrap.iter().cloned()).refresh().await {
                Ok(view) => report.metadata = Some(view),
                Err(error) => {
                    report
                        .silent
                        .insert(self.bootstrap.join(","), error.to_string());
                }
            }
        }
        match self.output {
            Output::Json => writeln!(stdout(), "{}", serde_json::to_string_pretty(&report)?)?,
            Output::Table => print_table(&mut BufWriter::new(stdout().lock()), &report)?,
        }
        if report.brokers.is_empty() {
            return Err(CliError::Silence);
        }
        Ok(())
    }
}

async fn ask(endpoint: &str) -> Result<BrokerReport, CliError> {
    let broker = snapshot::describe(endpoint).await?;
    let replicas = snapshot::list_replicas(endpoint).await?;
    Ok(BrokerReport {
        broker_id: broker.broker_id,
        cluster_id: broker.cluster_id,
        incarnation: broker.incarnation,
        boot_id: broker.boot_id,
        version: broker.version,
        replicas: replicas.into_iter().map(ReplicaReport::from).collect(),
    })
}

fn print_table(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(
        out,
        "{:<6} {:<24} {:>6} {:<8} {:>5} {:>9} {:>9} {:>9} {:>9} {:>11}  VOTERS",
        "BROKER",
        "PARTITION",
        "PEER",
        "ROLE",
        "TERM",
        "APPLIED",
        "FIRST",
        "LAST",
        "ENTRIES",
        "LOG BYTES"
    )?;
    for broker in &report.brokers {
        for replica in &broker.replicas {
            writeln!(
                out,
                "{:<6} {:<24} {:>6} {:<8} {:>5} {:>9} {:>9} {:>9} {:>9} {:>11}  {:?}",
                broker.broker_id,
                format!("{}/{}", replica.topic, replica.partition),
                replica.peer_id,
                replica.role,
                replica.term,
                replica.applied_index,
                replica.first_log_index,
                replica.last_log_index,
                replica.log_entries,
                replica.log_size_bytes,
                replica.voters,
            )?;
        }
    }
    if let Some(view) = &report.metadata {
        let controller = view
            .controller
            .map_or_else(|| "?".to_owned(), |id| id.to_string());
        writeln!(out, "\ncluster {} controller {controller}", view.cluster_id)?;
        for (name, topic) in &view.topics {
            for partition in &topic.partitions {
                writeln!(
                    out,
                    "{name}/{}: leader {} replicas {:?} in sync {:?}",
                    partition.number,
                    partition
                        .leader
                        .map_or_else(|| "?".to_owned(), |id| id.to_string()),
                    partition.replicas,
                    partition.in_sync
                )?;
            }
        }
    }
    for (endpoint, error) in &report.silent {
        writeln!(out, "\n{endpoint} does not answer: {error}")?;
    }
    out.flush()
}
