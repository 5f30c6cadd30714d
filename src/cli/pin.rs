//! `pin` and `unpin`: a snapshot that retention keeps.

use super::{
    Daemon, ExitStatus,
    args::{ConfigArgs, parse_partition},
    context::{Context, Step},
};
use crate::{format::SnapshotId, raft::TopicPartition};

/// Pin a snapshot: retention keeps it, and what it points into, and does not count it.
#[derive(Debug, clap::Args)]
pub(super) struct PinArgs {
    #[command(flatten)]
    which: Which,
}

/// Unpin a snapshot: retention counts it again, and may evict it at once.
#[derive(Debug, clap::Args)]
pub(super) struct UnpinArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The partition, for example orders/0.
    #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,

    /// The snapshot's id.
    #[arg(value_name = "SNAPSHOT_ID")]
    id: SnapshotId,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn pin<D: Daemon>(args: PinArgs, context: &Context<'_, D>) -> Step<ExitStatus> {
    let Which {
        partition,
        id,
        config,
    } = args.which;
    let config = context.config(config)?;
    let is_new = context.with_tools(&config, async |tools| tools.pin(&partition, id).await)?;
    let is = if is_new {
        "is pinned"
    } else {
        "was pinned already"
    };
    eprintln!("{partition}: {id} {is}");
    Ok(ExitStatus::Ok)
}

pub(super) fn unpin<D: Daemon>(args: UnpinArgs, context: &Context<'_, D>) -> Step<ExitStatus> {
    let Which {
        partition,
        id,
        config,
    } = args.which;
    let config = context.config(config)?;
    let was = context.with_tools(&config, async |tools| tools.unpin(&partition, id).await)?;
    let is = if was {
        "is not pinned any more"
    } else {
        "was not pinned"
    };
    eprintln!("{partition}: {id} {is}");
    Ok(ExitStatus::Ok)
}
