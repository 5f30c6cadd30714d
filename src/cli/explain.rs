//! `explain`: why a partition is as it is.

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_endpoint, parse_partition},
    context::{Context, Step, admin_failed},
    output::{Output, print, print_json},
};
use crate::{
    admin::{AdminClient, Status},
    config::{Callee, Config, Endpoint},
    error::chain,
    raft::TopicPartition,
    tools::{Explanation, Subject, Tools},
};

/// Say why a partition was or was not snapshotted, how far its log is truncated and what holds it, what retention
/// would evict next, and when its snapshot was last drilled.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    /// The daemon: `host:port`, `http://host:port`, `https://host:port` or `unix:/path` [default: LISTEN of the configuration].
    #[arg(long, value_name = "ENDPOINT", value_parser = parse_endpoint)]
    endpoint: Option<Endpoint>,

    /// How to show it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let called = Callee {
        endpoint: args.endpoint.unwrap_or_else(|| config.listen.clone()),
        tls: config.daemon_tls.clone(),
        uids: None,
    };
    let partition = &args.partition;
    let explanation = context.with_abort(async |abort| {
        let asked = async {
            let topic = Some(partition.topic.as_str());
            AdminClient::new(&called)?.status(topic).await
        };
        let status = asked.await.map_err(|error| admin_failed(&error))?;
        // What the daemon says can be explained without the store.
        let tools = context.daemon.tools(&config, abort);
        let tools = tools.map_err(|error| chain(&error));
        explain(context, &config, partition, &status, tools).await
    })?;
    Ok(match args.output {
        Output::Json => print_json(&explanation),
        Output::Table => print(&text(&explanation)),
    })
}

async fn explain<D: Daemon>(
    context: &Context<'_, D>,
    config: &Config,
    partition: &TopicPartition,
    status: &Status,
    tools: Result<Tools, String>,
) -> Step<Explanation> {
    let mut partitions = status.partitions.iter();
    let Some(of_partition) = partitions.find(|one| one.partition == partition.partition) else {
        eprintln!(
            "the daemon looks after no partition {partition}; `chronik-snapshotd status` shows those that it does"
        );
        return Err(ExitStatus::NotFound);
    };
    let read = async {
        let tools = tools?;
        let read = tools.folder_of_identity(partition).await;
        read.map_err(|error| chain(&error))
    };
    let store = read.await;
    let subject = Subject {
        daemon: &status.daemon,
        status: of_partition,
        config,
        store: match &store {
            Ok((identity, folder)) => Ok((identity, &**folder)),
            Err(problem) => Err(problem.clone()),
        },
        now: context.daemon.wall(),
    };
    Ok(subject.explain())
}

fn text(explanation: &Explanation) -> String {
    let subjects = [
        ("Snapshots", &explanation.snapshots),
        ("Truncation", &explanation.truncation),
        ("Retention", &explanation.retention),
        ("Drills", &explanation.drills),
    ];
    let mut text = String::new();
    for (title, sentences) in subjects {
        text.push_str(title);
        text.push('\n');
        for sentence in sentences {
            text.push_str("  ");
            text.push_str(sentence);
            text.push('\n');
        }
    }
    text
}
