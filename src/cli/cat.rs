//! `cat`: a snapshot's raw state on standard output.

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_partition},
    context::{Context, Step},
};
use crate::{raft::TopicPartition, tools::Which};

/// Write a snapshot's raw state to standard output, its parts one after the other.
///
/// What was written counts only if this exits with 0: digests are known at the end of each part.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    /// The snapshot's id, or `latest`: the newest proven one that is not quarantined.
    #[arg(value_name = "SNAPSHOT_ID|latest", default_value = "latest")]
    which: Which,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let config = context.config(args.config)?;
    let (partition, which) = (&args.partition, args.which);
    context.with_tools(&config, async |tools| {
        let found = tools.find(partition, which).await?;
        tools
            .stream(&found.snapshot, &mut tokio::io::stdout())
            .await
    })?;
    Ok(ExitStatus::Ok)
}
