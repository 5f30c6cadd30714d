//! `create`: a snapshot now, whatever the thresholds say.

use std::time::Duration;

use super::{
    Daemon, ExitStatus,
    args::{EndpointArgs, parse_duration, parse_partition},
    context::{Context, Step},
    output::print,
};
use crate::{admin::CALL_DEADLINE, control::Triggered, raft::TopicPartition};

/// Take a snapshot of one partition now, and print its id once it is proven.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    /// Return when the snapshot is queued.
    #[arg(long)]
    no_wait: bool,

    /// How long to wait for the proof. The daemon goes on after that.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    endpoint: EndpointArgs,
}

pub(super) fn run<D: Daemon>(args: Args, context: &Context<'_, D>) -> Step<ExitStatus> {
    let partition = &args.partition;
    let wait = !args.no_wait;
    let deadline = if wait { args.timeout } else { CALL_DEADLINE };
    let triggered = context.with_admin(args.endpoint, async |daemon| {
        daemon.trigger(partition, wait, deadline).await
    })?;
    Ok(match triggered {
        Triggered::Queued => {
            eprintln!("{partition}: a snapshot is queued");
            ExitStatus::Ok
        }
        Triggered::Proven {
            snapshot_id,
            last_included,
            already_covered,
        } => {
            let what = if already_covered {
                "nothing was applied since the newest proven snapshot, which ends at"
            } else {
                "a new proven snapshot ends at"
            };
            eprintln!("{partition}: {what} {last_included}");
            print(&format!("{snapshot_id}\n"))
        }
    })
}
