//! `pause`: the daemon leaves a partition alone.

use std::time::Duration;

use super::{
    Daemon, ExitStatus,
    args::{EndpointArgs, parse_duration, parse_partition},
    context::{Context, Step},
    output::moment,
};
use crate::raft::TopicPartition;

/// Stop snapshots, truncation and deletion for one partition until resumed, expired, or the daemon restarts.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    /// For how long, for example 2h, at most 7d [default: until resumed or restarted].
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,

    /// Why; the daemon logs it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,

    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let (partition, ttl, reason) = (&args.partition, args.ttl, args.reason);
    let until = context.with_admin(args.endpoint, async |daemon| {
        daemon.pause(partition, ttl, reason).await
    })?;
    match until {
        Some(until) => eprintln!("{partition} is paused until {}", moment(until)),
        None => eprintln!("{partition} is paused until it is resumed or the daemon restarts"),
    }
    Ok(ExitStatus::Ok)
}
