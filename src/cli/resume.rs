//! `resume`: the end of a pause.

use super::{
    Daemon, ExitStatus,
    args::{EndpointArgs, parse_partition},
    context::{Context, Step},
};
use crate::raft::TopicPartition;

/// End the pause of one partition. Resuming what is not paused succeeds.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let partition = &args.partition;
    let was_paused =
        context.with_admin(args.endpoint, async |daemon| daemon.resume(partition).await)?;
    if was_paused {
        eprintln!("{partition} is resumed");
    } else {
        eprintln!("{partition} was not paused");
    }
    Ok(ExitStatus::Ok)
}
